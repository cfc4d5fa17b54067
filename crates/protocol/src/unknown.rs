//! The names in a request that the model does not have, or that the request lacks: all of them, for one refusal.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess};

use crate::error::quoted;

/// How many names are written; of more, only how many.
const NAMES_MAX: usize = 20;

/// How many of the model's own names are written.
const OWN_MAX: usize = 100;

/// Returns names of the model as a list, whose length is bounded.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<&str> = names.by_ref().take(OWN_MAX).collect();
    match names.count() {
        0 => shown.join(", "),
        n_more => format!("{} and {n_more} more", shown.join(", ")),
    }
}

/// Returns the list of those of `names` that were not seen, if any.
pub(crate) fn absent<'a>(
    names: impl IntoIterator<Item = &'a str>,
    seen: &[bool],
) -> Option<String> {
    let absent = names.into_iter().zip(seen).filter(|(_, seen)| !**seen);
    let mut absent = absent.map(|(name, _)| name).peekable();
    absent.peek()?;
    Some(listed(absent))
}

/// Returns a sentence on those of `names` that are not `given`, if any.
pub(crate) fn missing<'a>(
    noun: &str,
    names: impl IntoIterator<Item = &'a str>,
    is_given: impl Fn(&str) -> bool,
) -> Option<String> {
    let missing = names.into_iter().filter(|name| !is_given(name));
    let missing: Vec<String> = missing.map(quoted).collect();
    match missing.as_slice() {
        [] => None,
        [name] => Some(format!("{noun} {name} is missing")),
        names => {
            let names = listed(names.iter().map(String::as_str));
            Some(format!("{noun}s {names} are missing"))
        }
    }
}

/// Unknown names, in the request's order.
#[derive(Debug)]
pub(crate) struct UnknownNames {
    noun: &'static str,
    shown: Vec<String>,
    n_more: usize,
}

impl UnknownNames {
    /// Begins with the first; `noun` says what it names.
    pub(crate) fn new(noun: &'static str, first: &str) -> Self {
        Self {
            noun,
            shown: vec![quoted(first)],
            n_more: 0,
        }
    }

    /// Returns those of `names` that are not known, if any.
    pub(crate) fn among<'a>(
        noun: &'static str,
        names: impl IntoIterator<Item = &'a str>,
        is_known: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let mut names = names.into_iter().filter(|name| !is_known(name));
        let mut unknown = Self::new(noun, names.next()?);
        names.for_each(|name| unknown.add(name));
        Some(unknown)
    }

    /// Begins with a key of an object, and reads the rest of it, from that key's value on, for more.
    ///
    /// # Errors
    /// Those of reading the object.
    pub(crate) fn of_rest<'de, A: MapAccess<'de>>(
        noun: &'static str,
        first: &str,
        mut entries: A,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Self, A::Error> {
        let mut unknown = Self::new(noun, first);
        entries.next_value::<IgnoredAny>()?;
        while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
            if !is_known(&name) {
                unknown.add(&name);
            }
            entries.next_value::<IgnoredAny>()?;
        }
        Ok(unknown)
    }

    /// Adds a name, unless it is written already.
    pub(crate) fn add(&mut self, name: &str) {
        let name = quoted(name);
        if self.shown.contains(&name) {
            return;
        }
        if self.shown.len() < NAMES_MAX {
            self.shown.push(name);
        } else {
            self.n_more = self.n_more.saturating_add(1);
        }
    }
}

impl fmt::Display for UnknownNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.shown.len() == 1 { "" } else { "s" };
        write!(f, "unknown {}{plural} {}", self.noun, self.shown.join(", "))?;
        match self.n_more {
            0 => Ok(()),
            n_more => write!(f, " and {n_more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{UnknownNames, absent, listed, missing};

    #[test]
    fn what_is_absent_is_listed_up_to_a_bound() {
        let names: Vec<String> = (0..250).map(|index| format!("n{index}")).collect();
        let names = || names.iter().map(String::as_str);
        assert_eq!(absent(names(), &[true; 250]), None);
        let mut seen = [true; 250];
        seen[3] = false;
        seen[7] = false;
        assert_eq!(absent(names(), &seen).unwrap(), "n3, n7");
        assert_eq!(missing("input", names(), |_| true), None);
        let of = |given: &[&str]| missing("input", ["a", "b", "c"], |name| given.contains(&name));
        assert_eq!(of(&["c", "a"]).unwrap(), "input \"b\" is missing");
        assert_eq!(of(&["b"]).unwrap(), "inputs \"a\", \"c\" are missing");
        assert!(listed(names().take(100)).ends_with("n98, n99"));
        assert!(
            absent(names(), &[false; 250])
                .unwrap()
                .ends_with("n98, n99 and 150 more")
        );
    }

    #[test]
    fn all_are_listed_up_to_a_bound() {
        let of = |n: usize| {
            let names: Vec<String> = (0..n).map(|index| format!("n{index}")).collect();
            let names = ["known"]
                .into_iter()
                .chain(names.iter().map(String::as_str));
            let unknown = UnknownNames::among("column", names, |name| name == "known");
            unknown.map(|unknown| unknown.to_string())
        };
        assert_eq!(of(0), None);
        assert_eq!(of(1).unwrap(), "unknown column \"n0\"");
        assert_eq!(of(2).unwrap(), "unknown columns \"n0\", \"n1\"");
        assert!(of(20).unwrap().ends_with("\"n18\", \"n19\""));
        assert!(of(21).unwrap().ends_with("\"n18\", \"n19\" and 1 more"));
        assert!(of(500).unwrap().ends_with("\"n18\", \"n19\" and 480 more"));
    }
}
