//! Sections of `key=value` lines.

use std::collections::HashMap;

use coracle_model::LoadError;

use super::malformed;
use crate::document::quoted;

/// The lines of one section: the head, or a tree.
#[derive(Debug, Default)]
pub(super) struct Section<'t> {
    /// For messages, such as `tree 3`; empty for the head.
    pub(super) place: String,
    values: HashMap<&'t str, &'t str>,
}

impl<'t> Section<'t> {
    pub(super) fn new(place: String) -> Self {
        let values = HashMap::new();
        Self { place, values }
    }

    /// Takes a line; one without `=` is a flag.
    pub(super) fn push(&mut self, line: &'t str) {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        self.values.insert(key, value);
    }

    pub(super) fn find(&self, key: &str) -> Option<&'t str> {
        self.values.get(key).copied()
    }

    pub(super) fn malformed(&self, message: impl std::fmt::Display) -> LoadError {
        let error = malformed(message.to_string());
        match self.place.as_str() {
            "" => error,
            place => error.at(place),
        }
    }

    fn require(&self, key: &str) -> Result<&'t str, LoadError> {
        let missing = || self.malformed(format_args!("'{key}' is missing"));
        self.find(key).ok_or_else(missing)
    }

    /// Returns one number.
    pub(super) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, LoadError> {
        let text = self.require(key)?.trim();
        let wrong = |_unreadable| {
            self.malformed(format_args!(
                "'{key}' is {}, which is no such number",
                quoted(text)
            ))
        };
        text.parse().map_err(wrong)
    }

    /// Returns one number, or `default` if the key is not there.
    pub(super) fn number_or<T: std::str::FromStr>(
        &self,
        key: &str,
        default: T,
    ) -> Result<T, LoadError> {
        match self.find(key) {
            Some(_) => self.number(key),
            None => Ok(default),
        }
    }

    /// Returns all numbers of a line; none if the key is not there.
    pub(super) fn numbers<T: std::str::FromStr>(&self, key: &str) -> Result<Vec<T>, LoadError> {
        let words = self.find(key).unwrap_or_default().split_ascii_whitespace();
        let numbers: Result<Vec<T>, _> = words.map(str::parse).collect();
        numbers.map_err(|_unreadable| self.malformed(format_args!("'{key}' holds no such numbers")))
    }

    /// Returns so many numbers of a line.
    pub(super) fn exactly<T: std::str::FromStr>(
        &self,
        key: &str,
        n: usize,
    ) -> Result<Vec<T>, LoadError> {
        let numbers = self.numbers(key)?;
        if numbers.len() == n {
            return Ok(numbers);
        }
        let message = format!("'{key}' holds {} numbers, expected {n}", numbers.len());
        Err(self.malformed(message))
    }
}
