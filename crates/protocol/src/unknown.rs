//! The names in a request that the model does not have, all of them, for one refusal.

use std::fmt;

use crate::error::quoted;

/// How many names are written; of more, only how many.
const NAMES_MAX: usize = 20;

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
    use super::UnknownNames;

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
