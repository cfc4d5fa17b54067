//! Python's regular expressions: what `re.findall` finds in a text, with a bound on what that may cost.
//!
//! [`parse`] reads the pattern, flags and all, into a tree in which every class is the set of characters that Python's
//! matches. [`linear`] writes the tree in the regex crate's language where that finds the same; [`program`] compiles any
//! tree to steps, and [`search`] takes them as Python does, backtracking.

mod case;
mod linear;
mod parse;
mod program;
mod search;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

pub(super) use linear::regex;
pub(super) use parse::parse;
pub(super) use program::Program;
pub(super) use search::{OutOfSteps, Steps, each_token};

/// Which characters count as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fold {
    None,
    /// Those that differ in case, among ASCII's letters.
    Ascii,
    /// Those that differ in case.
    Unicode,
}

/// What a place in a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    LineStart,
    /// The end, or before a last line feed.
    End,
    LineEnd,
    VeryEnd,
    Boundary {
        ascii: bool,
        negated: bool,
    },
}

/// How many repetitions are tried first, and whether others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taste {
    Greedy,
    Lazy,
    Possessive,
}

/// A part of a pattern.
#[derive(Debug)]
enum Node {
    Set(ClassUnicode),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        taste: Taste,
    },
    Group(usize, Box<Node>),
    Atomic(Box<Node>),
    Look {
        node: Box<Node>,
        negated: bool,
        /// How many characters before the place it begins; none if at the place.
        behind: Option<u32>,
    },
    Place(Place),
    Reference(usize, Fold),
    Condition {
        group: usize,
        yes: Box<Node>,
        no: Box<Node>,
    },
}

/// A pattern that was read.
#[derive(Debug)]
pub(super) struct Parsed {
    node: Node,
    pub(super) n_groups: usize,
}

impl Parsed {
    /// Tells whether it asks for word boundaries.
    pub(super) fn has_boundaries(&self) -> bool {
        self.node
            .any(&|node| matches!(node, Node::Place(Place::Boundary { .. })))
    }
}

impl Node {
    /// Tells whether `is_wanted` holds for this part or one within it.
    fn any(&self, is_wanted: &impl Fn(&Node) -> bool) -> bool {
        if is_wanted(self) {
            return true;
        }
        match self {
            Self::Sequence(nodes) | Self::Either(nodes) => {
                nodes.iter().any(|node| node.any(is_wanted))
            }
            Self::Repeat { node, .. }
            | Self::Group(_, node)
            | Self::Atomic(node)
            | Self::Look { node, .. } => node.any(is_wanted),
            Self::Condition { yes, no, .. } => yes.any(is_wanted) || no.any(is_wanted),
            Self::Set(_) | Self::Place(_) | Self::Reference(..) => false,
        }
    }

    /// Adds the characters with which a match may begin to `set`, and tells whether it may be empty.
    fn begins_with(&self, set: &mut ClassUnicode) -> bool {
        match self {
            Self::Set(own) => {
                set.union(own);
                false
            }
            Self::Sequence(nodes) => nodes.iter().all(|node| node.begins_with(set)),
            Self::Either(nodes) => nodes.iter().filter(|node| node.begins_with(set)).count() > 0,
            Self::Repeat { node, min, .. } => node.begins_with(set) || *min == 0,
            Self::Group(_, node) | Self::Atomic(node) => node.begins_with(set),
            Self::Condition { yes, no, .. } => {
                let may_be_empty = yes.begins_with(set);
                no.begins_with(set) || may_be_empty
            }
            // What a reference repeats may have been seen by looking ahead.
            Self::Reference(..) => {
                set.push(ClassUnicodeRange::new('\0', char::MAX));
                true
            }
            Self::Look { .. } | Self::Place(_) => true,
        }
    }

    /// Returns how many ranges of characters its sets have together.
    fn n_ranges(&self) -> usize {
        let of_all = |nodes: &[Self]| nodes.iter().map(Self::n_ranges).sum();
        match self {
            Self::Set(set) => set.ranges().len(),
            Self::Sequence(nodes) | Self::Either(nodes) => of_all(nodes),
            Self::Repeat { node, .. }
            | Self::Group(_, node)
            | Self::Atomic(node)
            | Self::Look { node, .. } => node.n_ranges(),
            Self::Condition { yes, no, .. } => yes.n_ranges() + no.n_ranges(),
            Self::Place(_) | Self::Reference(..) => 0,
        }
    }

    /// Tells whether a match may be empty.
    fn may_be_empty(&self) -> bool {
        self.begins_with(&mut ClassUnicode::empty())
    }

    /// Returns how many characters every match has, if that is one number. `groups` has those of the groups read so far.
    fn width(&self, groups: &[Option<u32>]) -> Option<u32> {
        match self {
            Self::Set(_) => Some(1),
            Self::Sequence(nodes) => nodes
                .iter()
                .try_fold(0_u32, |sum, node| sum.checked_add(node.width(groups)?)),
            Self::Either(nodes) => {
                let mut widths = nodes.iter().map(|node| node.width(groups));
                let first = widths.next()??;
                widths.all(|width| width == Some(first)).then_some(first)
            }
            Self::Repeat { node, min, max, .. } => match node.width(groups)? {
                0 => Some(0),
                width if *max == Some(*min) => width.checked_mul(*min),
                _ => None,
            },
            Self::Group(_, node) | Self::Atomic(node) => node.width(groups),
            Self::Look { .. } | Self::Place(_) => Some(0),
            Self::Reference(group, _) => groups.get(*group).copied().flatten(),
            Self::Condition { yes, no, .. } => {
                let width = yes.width(groups)?;
                (no.width(groups) == Some(width)).then_some(width)
            }
        }
    }
}

#[cfg(test)]
mod tests;
