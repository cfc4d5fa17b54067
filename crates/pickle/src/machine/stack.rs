//! The stack of pickle's machine, its marks, and its memo.

use std::collections::BTreeMap;

use crate::{Error, Limits, NodeId};

/// The values that opcodes work on. Marks divide it; nothing but a mark's own opcode reaches below one.
#[derive(Debug)]
pub(crate) struct Stack {
    items: Vec<NodeId>,
    marks: Vec<usize>,
    depth_max: usize,
}

impl Stack {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            items: Vec::new(),
            marks: Vec::new(),
            depth_max: limits.stack_depth_max,
        }
    }

    pub(crate) fn push(&mut self, id: NodeId) -> Result<(), Error> {
        self.check_depth()?;
        self.items.push(id);
        Ok(())
    }

    pub(crate) fn mark(&mut self) -> Result<(), Error> {
        self.check_depth()?;
        self.marks.push(self.items.len());
        Ok(())
    }

    /// Takes the top item, which must lie above the last mark.
    pub(crate) fn pop(&mut self) -> Option<NodeId> {
        if self.items.len() <= self.floor() {
            return None;
        }
        self.items.pop()
    }

    /// Returns the top item, which must lie above the last mark.
    pub(crate) fn top(&self) -> Option<NodeId> {
        self.items.get(self.floor()..)?.last().copied()
    }

    /// Takes the last mark and everything above it.
    pub(crate) fn pop_to_mark(&mut self) -> Option<Vec<NodeId>> {
        let start = self.marks.pop()?;
        (start <= self.items.len()).then(|| self.items.split_off(start))
    }

    /// Says whether exactly one item and no mark is left.
    pub(crate) fn is_finished(&self) -> bool {
        self.items.len() == 1 && self.marks.is_empty()
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn check_depth(&self) -> Result<(), Error> {
        if self.items.len().saturating_add(self.marks.len()) >= self.depth_max {
            return Err(Error::limit("the stack's depth", self.depth_max));
        }
        Ok(())
    }
}

/// What a file gave numbers to. Sparse: a number costs nothing but its own entry.
#[derive(Debug)]
pub(crate) struct Memo {
    dense: Vec<NodeId>,
    sparse: BTreeMap<u64, NodeId>,
    entries_max: usize,
}

impl Memo {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            dense: Vec::new(),
            sparse: BTreeMap::new(),
            entries_max: limits.memo_entries_max,
        }
    }

    /// Returns the number that `MEMOIZE` gives next.
    pub(crate) fn next_index(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn get(&self, index: u64) -> Option<NodeId> {
        let dense = usize::try_from(index)
            .ok()
            .and_then(|index| self.dense.get(index));
        dense.or_else(|| self.sparse.get(&index)).copied()
    }

    pub(crate) fn put(&mut self, index: u64, id: NodeId) -> Result<(), Error> {
        let position = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(entry) = self.dense.get_mut(position) {
            *entry = id;
            return Ok(());
        }
        if self.len() >= self.entries_max {
            return Err(Error::limit("the memo's entries", self.entries_max));
        }
        if position == self.dense.len() {
            self.sparse.remove(&index);
            self.dense.push(id);
        } else {
            self.sparse.insert(index, id);
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.dense.len().saturating_add(self.sparse.len())
    }
}
