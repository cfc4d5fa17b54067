//! Which column a name in a request means.

/// Returns the place among `known` of the column that `name` means: the one of this name, else the one that has `_` where it has blanks, as
/// LightGBM calls the columns of data frames.
pub(crate) fn position<'a>(
    known: impl Iterator<Item = &'a str> + Clone,
    name: &str,
) -> Option<usize> {
    let exact = known.clone().position(|known| known == name);
    if exact.is_some() || !name.contains(' ') {
        return exact;
    }
    let without_blanks = name.replace(' ', "_");
    let mut known = known;
    known.position(|known| known == without_blanks)
}

/// Returns where `name` is among columns that are owned texts.
pub(crate) fn position_in(known: &[String], name: &str) -> Option<usize> {
    position(known.iter().map(String::as_str), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_may_be_underlines_in_the_model() {
        let known = ["a_b", "a b", "c_d e"].map(str::to_owned);
        assert_eq!(position_in(&known, "a b"), Some(1));
        assert_eq!(position_in(&known, "a_b"), Some(0));
        assert_eq!(position_in(&known[..1], "a b"), Some(0));
        for unknown in ["c_d_e", "c d e", "b", ""] {
            assert_eq!(position_in(&known, unknown), None, "{unknown}");
        }
    }
}
