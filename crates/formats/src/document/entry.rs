//! A place in a document, read with checks.

use std::fmt;

use coracle_model::{LoadError, LoadErrorKind};

use super::Document;

/// The most characters of a text that messages show.
const SHOWN_MAX: usize = 60;

/// A value in a document, and its path for messages.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'d> {
    document: &'d Document,
    path: String,
}

impl<'d> Entry<'d> {
    /// Returns the document itself.
    pub(crate) fn root(document: &'d Document) -> Self {
        let path = String::new();
        Self { document, path }
    }

    /// Returns the value.
    pub(crate) fn document(&self) -> &'d Document {
        self.document
    }

    /// Returns an error of `kind` at this place.
    pub(crate) fn error(&self, kind: LoadErrorKind, message: impl fmt::Display) -> LoadError {
        let error = LoadError::new(kind, message.to_string());
        match self.path.as_str() {
            "" => error,
            path => error.at(path),
        }
    }

    /// Returns the error of a file that contradicts itself here.
    pub(crate) fn malformed(&self, message: impl fmt::Display) -> LoadError {
        self.error(LoadErrorKind::Malformed, message)
    }

    /// Returns the error of something sound that is not served.
    pub(crate) fn unsupported(&self, message: impl fmt::Display) -> LoadError {
        self.error(LoadErrorKind::Unsupported, message)
    }

    /// Returns the value under a key, if this is an object that has it.
    pub(crate) fn find(&self, key: &str) -> Option<Self> {
        let Document::Object(entries) = self.document else {
            return None;
        };
        let (_, document) = entries.iter().rev().find(|(name, _)| name == key)?;
        let path = match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        Some(Self { document, path })
    }

    /// Returns the value under a key.
    pub(crate) fn field(&self, key: &str) -> Result<Self, LoadError> {
        self.find(key)
            .ok_or_else(|| self.malformed(format_args!("'{key}' is missing")))
    }

    /// Returns the entries of an object.
    pub(crate) fn entries(&self) -> Result<&'d [(String, Document)], LoadError> {
        match self.document {
            Document::Object(entries) => Ok(entries),
            _ => Err(self.malformed("is not an object")),
        }
    }

    /// Returns the items of an array of anything but numbers.
    pub(crate) fn items(&self) -> Result<Vec<Self>, LoadError> {
        let Document::Array(items) = self.document else {
            return Err(self.malformed("is not a list"));
        };
        let items = items.iter().enumerate().map(|(index, document)| Self {
            document,
            path: format!("{}[{index}]", self.path),
        });
        Ok(items.collect())
    }

    /// Returns the text.
    pub(crate) fn text(&self) -> Result<&'d str, LoadError> {
        match self.document {
            Document::Text(text) => Ok(text),
            _ => Err(self.malformed("is not text")),
        }
    }

    /// Returns a list of texts.
    pub(crate) fn texts(&self) -> Result<Vec<String>, LoadError> {
        let items = self.items()?;
        items
            .iter()
            .map(|item| item.text().map(str::to_owned))
            .collect()
    }

    /// Returns the numbers of an array.
    pub(crate) fn numbers(&self) -> Result<&'d [f64], LoadError> {
        match self.document {
            Document::Numbers(numbers) => Ok(numbers),
            Document::Array(items) if items.is_empty() => Ok(&[]),
            _ => Err(self.malformed("is not a list of numbers")),
        }
    }

    /// Returns a number, also one that is written as text.
    pub(crate) fn number(&self) -> Result<f64, LoadError> {
        match self.document {
            Document::Number(number) => Some(*number),
            Document::Text(text) => text.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| self.malformed("is not a number"))
    }

    /// Returns a count, also one that is written as text.
    pub(crate) fn count(&self) -> Result<usize, LoadError> {
        let count = match self.document {
            Document::Number(number) => whole(*number),
            Document::Text(text) => text.parse().ok(),
            _ => None,
        };
        count.ok_or_else(|| self.malformed("is not a count"))
    }
}

/// Returns `number` as a count, if it is a whole number that is not negative and below 2^53.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a whole number in range"
)]
pub(crate) fn whole(number: f64) -> Option<usize> {
    let is_count = (0.0..9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0;
    is_count.then_some(number as usize)
}

/// Returns the beginning of a text, quoted, for messages.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("'{}{more}'", shown.escape_debug())
}
