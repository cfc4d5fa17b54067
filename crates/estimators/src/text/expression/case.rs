//! Which characters Python's `re.IGNORECASE` takes for the same, and the sets of classes under it.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::Fold;
use crate::text::characters::contains;

/// What differs in case, with its lower case.
static CASED: LazyLock<Vec<(char, char)>> = LazyLock::new(|| {
    ('\0'..=char::MAX)
        .filter(|&c| is_cased(c))
        .map(|c| (c, lower(c)))
        .collect()
});

/// Characters in lower case, with those others whose upper case is the same.
static SIBLINGS: LazyLock<HashMap<char, Vec<char>>> = LazyLock::new(|| {
    let mut by_upper: HashMap<String, Vec<char>> = HashMap::new();
    for c in ('\0'..=char::MAX).filter(|&c| lower(c) == c && !c.to_uppercase().eq([c])) {
        by_upper
            .entry(c.to_uppercase().collect())
            .or_default()
            .push(c);
    }
    let groups = by_upper.into_values().filter(|group| group.len() > 1);
    groups
        .flat_map(|group| {
            let others = |c: char| group.iter().copied().filter(|&other| other != c).collect();
            let pairs: Vec<(char, Vec<char>)> = group.iter().map(|&c| (c, others(c))).collect();
            pairs
        })
        .collect()
});

/// Returns the one character that lower case makes of `c`.
pub(super) fn lower(c: char) -> char {
    match c {
        '\u{130}' => 'i',
        _ if c.is_ascii() => c.to_ascii_lowercase(),
        _ => c.to_lowercase().next().unwrap_or(c),
    }
}

/// Tells whether case changes `c`, or at least makes it begin with another character.
fn is_cased(c: char) -> bool {
    lower(c) != c || c.to_uppercase().next() != Some(c)
}

/// Returns the set that a class matches: characters that it lists, and categories, whose members do not depend on case.
pub(super) fn class(
    listed: &ClassUnicode,
    categories: &ClassUnicode,
    negated: bool,
    fold: Fold,
) -> ClassUnicode {
    let mut set = match fold {
        Fold::None => listed.clone(),
        Fold::Ascii => ascii(listed),
        Fold::Unicode => unicode(listed, categories),
    };
    set.union(categories);
    if negated {
        set.negate();
    }
    set
}

fn ascii(listed: &ClassUnicode) -> ClassUnicode {
    let letters = ('a'..='z').chain('A'..='Z');
    let listed_letters = letters.filter(|&c| contains(listed, c));
    let mut set =
        set_of(listed_letters.flat_map(|c| [c.to_ascii_lowercase(), c.to_ascii_uppercase()]));
    set.union(listed);
    set
}

/// Python looks for the lower case of a text's character among the lower cases of those that are listed and their siblings.
fn unicode(listed: &ClassUnicode, categories: &ClassUnicode) -> ClassUnicode {
    let cased: Vec<char> = CASED
        .iter()
        .filter(|&&(c, _)| contains(listed, c))
        .map(|&(_, low)| low)
        .collect();
    if cased.is_empty() {
        return listed.clone();
    }
    let siblings = cased
        .iter()
        .flat_map(|low| SIBLINGS.get(low).into_iter().flatten());
    let mut set = set_of(cased.iter().chain(siblings).copied());
    set.union(listed);
    let mut asked = set.clone();
    asked.union(categories);
    let is_upper = |&&(c, low): &&(char, char)| c != low;
    let upper = CASED.iter().filter(is_upper);
    set.difference(&set_of(upper.clone().map(|&(c, _)| c)));
    set.union(&set_of(
        upper
            .filter(|&&(_, low)| contains(&asked, low))
            .map(|&(c, _)| c),
    ));
    set
}

fn set_of(characters: impl Iterator<Item = char>) -> ClassUnicode {
    ClassUnicode::new(characters.map(|c| ClassUnicodeRange::new(c, c)))
}
