//! JSON-like documents: what the files of XGBoost, CatBoost and skops hold, as text or as UBJSON.
//!
//! [`json`] and [`ubjson`] read bytes, both through [`Builder`], which bounds the nesting and keeps arrays of
//! numbers compact. [`Entry`] reads a document with checks and knows its place for messages.

mod entry;
mod json;
mod ubjson;

use coracle_model::{LoadError, LoadErrorKind};

pub(crate) use entry::{Entry, quoted, whole};
pub(crate) use json::parse as parse_json;
pub(crate) use ubjson::parse as parse_ubjson;

/// The deepest nesting that is read.
const DEPTH_MAX: usize = 64;
/// The most values other than numbers in arrays of numbers.
const VALUES_MAX: usize = 1 << 25;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Document {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    /// An array that holds nothing but numbers; not empty.
    Numbers(Vec<f64>),
    Array(Vec<Document>),
    /// In the file's order; of equal keys the last one counts.
    Object(Vec<(String, Document)>),
}

/// Puts a document together from the parts that a parser meets.
#[derive(Debug, Default)]
struct Builder {
    open: Vec<Container>,
    root: Option<Document>,
    n_values: usize,
}

/// An array or object that is not closed yet.
#[derive(Debug)]
enum Container {
    Numbers(Vec<f64>),
    Array(Vec<Document>),
    Object {
        entries: Vec<(String, Document)>,
        key: Option<String>,
    },
}

impl Builder {
    fn is_done(&self) -> bool {
        self.root.is_some()
    }

    fn begin_array(&mut self) -> Result<(), &'static str> {
        self.begin(Container::Numbers(Vec::new()))
    }

    fn begin_object(&mut self) -> Result<(), &'static str> {
        let entries = Vec::new();
        self.begin(Container::Object { entries, key: None })
    }

    fn begin(&mut self, container: Container) -> Result<(), &'static str> {
        if self.open.len() >= DEPTH_MAX {
            return Err("nested too deeply");
        }
        self.open.push(container);
        Ok(())
    }

    /// Tells whether what comes next is a key.
    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Container::Object { key: None, .. }))
    }

    fn is_in_array(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Container::Numbers(_) | Container::Array(_))
        )
    }

    fn is_in_object(&self) -> bool {
        matches!(self.open.last(), Some(Container::Object { .. }))
    }

    fn key(&mut self, text: String) {
        if let Some(Container::Object { key, .. }) = self.open.last_mut() {
            *key = Some(text);
        }
    }

    /// Closes the innermost array or object.
    fn end(&mut self) -> Result<(), &'static str> {
        let closed = match self.open.pop() {
            Some(Container::Numbers(numbers)) if numbers.is_empty() => Document::Array(Vec::new()),
            Some(Container::Numbers(numbers)) => Document::Numbers(numbers),
            Some(Container::Array(items)) => Document::Array(items),
            Some(Container::Object { key: Some(_), .. }) => return Err("a key without a value"),
            Some(Container::Object { entries, .. }) => Document::Object(entries),
            None => return Err("nothing to close"),
        };
        self.value(closed)
    }

    fn value(&mut self, value: Document) -> Result<(), &'static str> {
        let is_packed = matches!(
            (self.open.last(), &value),
            (Some(Container::Numbers(_)), Document::Number(_))
        );
        if !is_packed {
            self.n_values = self.n_values.saturating_add(1);
            if self.n_values > VALUES_MAX {
                return Err("too many values");
            }
        }
        match (self.open.last_mut(), value) {
            (Some(Container::Numbers(numbers)), Document::Number(number)) => numbers.push(number),
            (Some(Container::Numbers(numbers)), value) => {
                self.n_values = self.n_values.saturating_add(numbers.len());
                let mut items: Vec<Document> = numbers.drain(..).map(Document::Number).collect();
                items.push(value);
                self.open.pop();
                self.open.push(Container::Array(items));
            }
            (Some(Container::Array(items)), value) => items.push(value),
            (Some(Container::Object { entries, key }), value) => match key.take() {
                Some(key) => entries.push((key, value)),
                None => return Err("a value without a key"),
            },
            (None, value) if self.root.is_none() => self.root = Some(value),
            (None, _) => return Err("more than one value"),
        }
        Ok(())
    }
}

fn malformed(format: &str, what: &str, position: usize) -> LoadError {
    let message = format!("not sound {format}: {what} at byte {position}");
    LoadError::new(LoadErrorKind::Malformed, message)
}
