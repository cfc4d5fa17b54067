//! Which column a name in a request means.

use std::borrow::Cow;
use std::collections::HashMap;

use coracle_model::NameRules;

/// Returns the place among `known` of the column that `name` means: the one of this name, else, where the rules say so, the one that has `_`
/// where it has blanks.
pub(crate) fn position<'a>(
    known: impl Iterator<Item = &'a str> + Clone,
    name: &str,
    rules: NameRules,
) -> Option<usize> {
    let exact = known.clone().position(|known| known == name);
    if exact.is_some() || !rules.underscores_may_be_blanks || !name.contains(' ') {
        return exact;
    }
    let without_blanks = name.replace(' ', "_");
    let mut known = known;
    known.position(|known| known == without_blanks)
}

/// Returns what [`position`] does for each of many names.
pub(crate) fn positions<'a>(
    known: impl Iterator<Item = &'a str>,
    names: &[Cow<'_, str>],
    rules: NameRules,
) -> Vec<Option<usize>> {
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for (position, name) in known.enumerate() {
        by_name.entry(name).or_insert(position);
    }
    let found = names.iter().map(|name| {
        let exact = by_name.get(name.as_ref()).copied();
        if exact.is_some() || !rules.underscores_may_be_blanks || !name.contains(' ') {
            return exact;
        }
        by_name.get(name.replace(' ', "_").as_str()).copied()
    });
    found.collect()
}

/// Returns where `name` is among columns that are owned texts.
pub(crate) fn position_in(known: &[String], name: &str, rules: NameRules) -> Option<usize> {
    let known = known.iter().map(String::as_str);
    position(known, name, rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_may_be_underlines_in_the_model() {
        let known = ["a_b", "a b", "c_d e"].map(str::to_owned);
        let blanks = NameRules {
            underscores_may_be_blanks: true,
            ..NameRules::default()
        };
        for rules in [blanks, NameRules::default()] {
            assert_eq!(position_in(&known, "a b", rules), Some(1));
            assert_eq!(position_in(&known, "a_b", rules), Some(0));
            for unknown in ["c_d_e", "c d e", "b", ""] {
                assert_eq!(position_in(&known, unknown, rules), None, "{unknown}");
            }
            let asked = ["a b", "c_d e", "c d e", "c", "a_b"].map(Cow::Borrowed);
            let each = asked.iter().map(|name| position_in(&known, name, rules));
            let at_once = positions(known.iter().map(String::as_str), &asked, rules);
            assert_eq!(at_once, each.collect::<Vec<_>>());
        }
        assert_eq!(position_in(&known[..1], "a b", blanks), Some(0));
        assert_eq!(position_in(&known[..1], "a b", NameRules::default()), None);
    }
}
