//! Patterns in the regex crate's language, which finds each match in time linear in the text, where it finds what Python does.

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Capture, Class, Hir, HirKind, Look, Repetition};

use super::{Node, Parsed, Place, Taste};

/// A compiled pattern may take so many bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// The most ranges of characters that all sets of a pattern have together.
const RANGES_MAX: usize = 1 << 15;

/// Returns the pattern in the regex crate's form; none where that cannot follow it exactly, or not in bounded memory.
///
/// Its word boundaries are its own, not Python's.
pub(in super::super) fn regex(parsed: &Parsed) -> Option<Regex> {
    // Python finds empty matches where the regex crate does not.
    if parsed.node.may_be_empty() {
        return None;
    }
    // The sets are written out, `\w` with hundreds of ranges each time.
    if parsed.node.n_ranges() > RANGES_MAX {
        return None;
    }
    let pattern = hir(&parsed.node)?.to_string();
    RegexBuilder::new(&pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .ok()
}

fn hir(node: &Node) -> Option<Hir> {
    let all = |nodes: &[Node]| nodes.iter().map(hir).collect::<Option<Vec<Hir>>>();
    Some(match node {
        Node::Set(set) => Hir::class(Class::Unicode(set.clone())),
        Node::Sequence(nodes) => Hir::concat(all(nodes)?),
        Node::Either(nodes) => Hir::alternation(all(nodes)?),
        // The two part where a repetition may match nothing.
        Node::Repeat { node, taste, .. } if *taste == Taste::Possessive || node.may_be_empty() => {
            return None;
        }
        Node::Repeat {
            node,
            min,
            max,
            taste,
        } => {
            let (sub, greedy) = (hir(node)?, *taste == Taste::Greedy);
            if (*min, *max) == (0, Some(1)) && matches!(sub.kind(), HirKind::Repetition(_)) {
                // Written as they are, the two repetitions would become a lazy one.
                let ways = match greedy {
                    true => vec![sub, Hir::empty()],
                    false => vec![Hir::empty(), sub],
                };
                return Some(Hir::alternation(ways));
            }
            Hir::repetition(Repetition {
                min: *min,
                max: *max,
                greedy,
                sub: Box::new(sub),
            })
        }
        Node::Group(index, node) => Hir::capture(Capture {
            index: u32::try_from(*index).ok()?,
            name: None,
            sub: Box::new(hir(node)?),
        }),
        Node::Place(place) => Hir::look(match place {
            Place::Start => Look::Start,
            Place::LineStart => Look::StartLF,
            Place::LineEnd => Look::EndLF,
            Place::VeryEnd => Look::End,
            Place::Boundary {
                ascii: false,
                negated: false,
            } => Look::WordUnicode,
            Place::Boundary {
                ascii: false,
                negated: true,
            } => Look::WordUnicodeNegate,
            Place::End | Place::Boundary { ascii: true, .. } => return None,
        }),
        Node::Atomic(_) | Node::Look { .. } | Node::Reference(..) | Node::Condition { .. } => {
            return None;
        }
    })
}
