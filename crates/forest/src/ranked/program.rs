//! The trees of a group as steps from the leaves up.
//!
//! A step gives for each row the number of the leaf that the row would reach from a split on, counted from the leftmost leaf
//! below the split: the left child's number, or the right child's plus the leaves on the left. It reads both from
//! slots and writes its own to one. Slot 0 holds zeros and stands for every leaf.

use super::columns::Columns;
use crate::traversal::Real;
use crate::tree::{Node, Tree};

/// The slots that steps use: one more than the logarithm of the most leaves, and that of zeros.
pub(super) const N_SLOTS: usize = 10;

/// The steps of all trees.
#[derive(Debug)]
pub(super) struct Program {
    steps: Vec<Step>,
    /// For each tree where its steps end; they begin where the one's before end.
    ends: Vec<u32>,
}

/// One split.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Step {
    /// The threshold's rank, four times, as the processor spreads four bytes more cheaply than one.
    pub(super) rank: [u8; 4],
    /// The number of leaves on the left, four times.
    pub(super) left_leaves: [u8; 4],
    pub(super) plane: u16,
    /// The slots of the children, below [`N_SLOTS`].
    pub(super) left: u8,
    pub(super) right: u8,
    /// The slot to write.
    pub(super) result: u8,
}

/// A tree's steps, with the slot that holds the leaves' numbers after them.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeSteps<'a> {
    pub(super) steps: &'a [Step],
    pub(super) result: usize,
}

impl Program {
    /// Lays out the trees of the group that `columns` belongs to.
    pub(super) fn compile<T: Real>(trees: &[Tree], columns: &Columns<T>) -> Option<Self> {
        let mut program = Self {
            steps: Vec::with_capacity(trees.iter().map(|tree| tree.nodes.len() / 2).sum()),
            ends: Vec::with_capacity(trees.len()),
        };
        for tree in trees {
            program.push_tree(tree, columns)?;
            program.ends.push(u32::try_from(program.steps.len()).ok()?);
        }
        Some(program)
    }

    /// Returns each tree's steps.
    pub(super) fn trees(&self) -> impl Iterator<Item = TreeSteps<'_>> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let end = end as usize;
            let steps = &self.steps[start..end];
            start = end;
            TreeSteps {
                steps,
                // A tree's root is its last step, and writes the first slot; a lone leaf's number is 0.
                result: usize::from(!steps.is_empty()),
            }
        })
    }

    fn push_tree<T: Real>(&mut self, tree: &Tree, columns: &Columns<T>) -> Option<()> {
        let sizes = sizes(tree);
        // Each entry: a split, the slot to write, and whether its children's steps are there.
        let mut stack = vec![(0, 1_usize, false)];
        while let Some((at, slot, is_ready)) = stack.pop() {
            let Node::Split { left, .. } = &tree.nodes[at] else {
                continue;
            };
            let (left, right) = (*left as usize, *left as usize + 1);
            // The child that needs more slots goes first; its number then stays while the other is worked out.
            let (first, second) = if sizes[left].n_slots >= sizes[right].n_slots {
                (left, right)
            } else {
                (right, left)
            };
            let second_slot = if sizes[first].n_slots == 0 {
                slot
            } else {
                slot + 1
            };
            let slot_of = |child: usize| match (sizes[child].n_slots, child == first) {
                (0, _) => 0,
                (_, true) => slot,
                (_, false) => second_slot,
            };
            if !is_ready {
                stack.extend([
                    (at, slot, true),
                    (second, second_slot, false),
                    (first, slot, false),
                ]);
                continue;
            }
            let split = columns.split(&tree.nodes[at])?;
            if slot.max(second_slot) >= N_SLOTS {
                return None;
            }
            self.steps.push(Step {
                rank: [split.rank; 4],
                left_leaves: [u8::try_from(sizes[left].n_leaves).ok()?; 4],
                plane: split.plane,
                left: u8::try_from(slot_of(left)).ok()?,
                right: u8::try_from(slot_of(right)).ok()?,
                result: u8::try_from(slot).ok()?,
            });
        }
        Some(())
    }

    /// Returns the memory held, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.steps.capacity() * size_of::<Step>() + self.ends.capacity() * size_of::<u32>()
    }
}

/// What is below a node.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    n_leaves: usize,
    /// The slots that its steps need at once.
    n_slots: usize,
}

/// Returns the size of each node.
fn sizes(tree: &Tree) -> Vec<Size> {
    let mut sizes = vec![Size::default(); tree.nodes.len()];
    // Children follow their parents, so going backwards meets children first.
    for (index, node) in tree.nodes.iter().enumerate().rev() {
        sizes[index] = match node {
            Node::Leaf(_) => Size {
                n_leaves: 1,
                n_slots: 0,
            },
            Node::Split { left, .. } => {
                let (left, right) = (sizes[*left as usize], sizes[*left as usize + 1]);
                let n_slots = if left.n_slots == right.n_slots {
                    left.n_slots + 1
                } else {
                    left.n_slots.max(right.n_slots)
                };
                Size {
                    n_leaves: left.n_leaves + right.n_leaves,
                    n_slots,
                }
            }
        };
    }
    sizes
}
