//! A pattern as a list of steps for [`search`](super::search).

use regex_syntax::hir::ClassUnicode;

use super::{Fold, Node, Parsed, Place, Taste};

/// A set of characters, quick to ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Characters {
    ascii: u128,
    others: Box<[(char, char)]>,
}

impl Characters {
    fn new(set: &ClassUnicode) -> Self {
        let is_in = |c: char| {
            set.iter()
                .any(|range| range.start() <= c && c <= range.end())
        };
        Self {
            ascii: (0..128_u8)
                .filter(|&byte| is_in(char::from(byte)))
                .fold(0, |bits, byte| bits | 1 << byte),
            others: set
                .iter()
                .filter(|range| !range.end().is_ascii())
                .map(|range| (range.start(), range.end()))
                .collect(),
        }
    }

    pub(super) fn has(&self, c: char) -> bool {
        if c.is_ascii() {
            return self.ascii >> u32::from(c) & 1 == 1;
        }
        let after = self.others.partition_point(|&(first, _)| first <= c);
        after > 0 && self.others[after - 1].1 >= c
    }
}

/// One step; where nothing is said, the next one follows.
#[derive(Debug)]
pub(super) enum Step {
    /// A character of the set.
    Set(usize),
    /// Some characters of the set.
    Run {
        set: usize,
        min: u32,
        max: u32,
        taste: Taste,
    },
    /// What follows, or else what is at the index.
    Or(usize),
    Jump(usize),
    /// Notes the place, as a start or end of a group.
    Note(usize),
    Place(Place),
    /// Begins to count.
    Begin(usize),
    /// Repeats what follows as long as the bounds let it, and then goes on at `exit`.
    Again {
        counter: usize,
        min: u32,
        max: u32,
        is_lazy: bool,
        exit: usize,
    },
    /// Searches what follows up to [`Step::Accept`], once, and goes on at `end` behind it.
    Atomic {
        end: usize,
    },
    /// Searches what follows up to [`Step::Accept`], and goes on at `end` at the same place.
    Look {
        negated: bool,
        behind: u32,
        end: usize,
    },
    Reference(usize, Fold),
    /// Goes on, if the group matched, and else at `no`.
    Condition {
        group: usize,
        no: usize,
    },
    Accept,
}

/// A compiled pattern.
#[derive(Debug)]
pub(in super::super) struct Program {
    pub(super) steps: Vec<Step>,
    pub(super) sets: Vec<Characters>,
    pub(super) n_groups: usize,
    pub(super) n_counters: usize,
    /// With which characters a match begins; none where it may be empty.
    pub(super) first: Option<Characters>,
}

impl Program {
    /// Compiles a pattern.
    pub(in super::super) fn new(parsed: &Parsed) -> Self {
        let mut first = ClassUnicode::empty();
        let may_be_empty = parsed.node.begins_with(&mut first);
        let mut program = Self {
            steps: Vec::new(),
            sets: Vec::new(),
            n_groups: parsed.n_groups,
            n_counters: 0,
            first: (!may_be_empty).then(|| Characters::new(&first)),
        };
        program.add(&parsed.node);
        program.steps.push(Step::Accept);
        program
    }

    fn set(&mut self, set: &ClassUnicode) -> usize {
        let characters = Characters::new(set);
        let known = self.sets.iter().position(|known| *known == characters);
        known.unwrap_or_else(|| {
            self.sets.push(characters);
            self.sets.len() - 1
        })
    }

    /// Adds a step that the caller completes, and returns its index.
    fn open(&mut self) -> usize {
        self.steps.push(Step::Accept);
        self.steps.len() - 1
    }

    fn close(&mut self, index: usize, step: impl FnOnce(usize) -> Step) {
        self.steps[index] = step(self.steps.len());
    }

    fn add(&mut self, node: &Node) {
        match node {
            Node::Set(set) => {
                let set = self.set(set);
                self.steps.push(Step::Set(set));
            }
            Node::Sequence(nodes) => nodes.iter().for_each(|node| self.add(node)),
            Node::Either(nodes) => self.either(nodes),
            Node::Repeat {
                node,
                min,
                max,
                taste,
            } => self.repeat(node, (*min, max.unwrap_or(u32::MAX)), *taste),
            Node::Group(group, node) => {
                self.steps.push(Step::Note(2 * group));
                self.add(node);
                self.steps.push(Step::Note(2 * group + 1));
            }
            Node::Atomic(node) => self.atomic(|program| program.add(node)),
            Node::Look {
                node,
                negated,
                behind,
            } => {
                let look = self.open();
                self.add(node);
                self.steps.push(Step::Accept);
                self.close(look, |end| Step::Look {
                    negated: *negated,
                    behind: behind.unwrap_or(0),
                    end,
                });
            }
            Node::Place(place) => self.steps.push(Step::Place(*place)),
            Node::Reference(group, fold) => self.steps.push(Step::Reference(*group, *fold)),
            Node::Condition { group, yes, no } => {
                let condition = self.open();
                self.add(yes);
                let jump = self.open();
                self.close(condition, |no| Step::Condition { group: *group, no });
                self.add(no);
                self.close(jump, Step::Jump);
            }
        }
    }

    fn atomic(&mut self, body: impl FnOnce(&mut Self)) {
        let atomic = self.open();
        body(self);
        self.steps.push(Step::Accept);
        self.close(atomic, |end| Step::Atomic { end });
    }

    fn either(&mut self, nodes: &[Node]) {
        let mut jumps = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if index + 1 == nodes.len() {
                self.add(node);
                break;
            }
            let or = self.open();
            self.add(node);
            jumps.push(self.open());
            self.close(or, Step::Or);
        }
        for jump in jumps {
            self.close(jump, Step::Jump);
        }
    }

    fn repeat(&mut self, node: &Node, (min, max): (u32, u32), taste: Taste) {
        if let Node::Set(set) = node {
            let set = self.set(set);
            return self.steps.push(Step::Run {
                set,
                min,
                max,
                taste,
            });
        }
        // Python never looks back into a repetition of a possessive one.
        if taste == Taste::Possessive {
            return self.atomic(|program| {
                program.counted((min, max), false, |program| {
                    program.atomic(|program| program.add(node));
                });
            });
        }
        self.counted((min, max), taste == Taste::Lazy, |program| {
            program.add(node)
        });
    }

    fn counted(&mut self, (min, max): (u32, u32), is_lazy: bool, body: impl FnOnce(&mut Self)) {
        let counter = self.n_counters;
        self.n_counters += 1;
        self.steps.push(Step::Begin(counter));
        let again = self.open();
        body(self);
        self.steps.push(Step::Jump(again));
        self.close(again, |exit| Step::Again {
            counter,
            min,
            max,
            is_lazy,
            exit,
        });
    }
}
