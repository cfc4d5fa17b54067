//! Who goes first among those that wait.

use std::collections::VecDeque;

/// How urgent a call is: 1 goes first. Level 3 is what calls have that say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

/// One turn in so many is of whoever has waited longest, whatever its level: so nobody starves, and the lowest level has
/// at least this share of the turns.
const OLDEST_EVERY: u64 = 8;

impl Priority {
    /// The number of levels: two above what calls have by default, and two below.
    pub const LEVELS: u8 = 5;
    /// The level of calls that say nothing.
    pub const DEFAULT: Self = Self(3);

    /// Returns the level that a request asks for: 1 is the highest, 0 the default, as Triton has it. What is beyond the last
    /// level has the last.
    #[must_use]
    pub fn from_wire(level: u64) -> Self {
        match u8::try_from(level) {
            Ok(0) => Self::DEFAULT,
            Ok(level) => Self(level.min(Self::LEVELS)),
            Err(_) => Self(Self::LEVELS),
        }
    }

    fn index(self) -> usize {
        usize::from(self.0.saturating_sub(1))
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A queue whose higher levels go first, each level in the order of arrival.
#[derive(Debug)]
pub(crate) struct PriorityQueue<T> {
    levels: [VecDeque<(u64, T)>; Priority::LEVELS as usize],
    n_pushed: u64,
    n_popped: u64,
}

impl<T> PriorityQueue<T> {
    pub(crate) fn new() -> Self {
        Self {
            levels: std::array::from_fn(|_level| VecDeque::new()),
            n_pushed: 0,
            n_popped: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.levels.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.levels.iter().all(VecDeque::is_empty)
    }

    pub(crate) fn push(&mut self, priority: Priority, item: T) {
        self.levels[priority.index()].push_back((self.n_pushed, item));
        self.n_pushed += 1;
    }

    /// Returns the level whose turn it is.
    fn turn(&self) -> Option<usize> {
        let waiting = || {
            let levels = self.levels.iter().enumerate();
            levels.filter_map(|(level, queue)| Some((level, queue.front()?.0)))
        };
        let level = if (self.n_popped + 1).is_multiple_of(OLDEST_EVERY) {
            waiting().min_by_key(|(_, arrival)| *arrival)
        } else {
            waiting().next()
        };
        level.map(|(level, _)| level)
    }

    /// Returns what [`PriorityQueue::pop`] would take.
    pub(crate) fn front(&self) -> Option<&T> {
        let (_, item) = self.levels[self.turn()?].front()?;
        Some(item)
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let level = self.turn()?;
        let (_, item) = self.levels[level].pop_front()?;
        self.n_popped += 1;
        Some(item)
    }

    /// Takes everything out for which `is_wanted` holds.
    pub(crate) fn take_where(&mut self, mut is_wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for level in &mut self.levels {
            for (arrival, item) in std::mem::take(level) {
                if is_wanted(&item) {
                    taken.push(item);
                } else {
                    level.push_back((arrival, item));
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_requests_are_bounded() {
        let level = |wire| Priority::from_wire(wire).0;
        assert_eq!(
            [0, 1, 3, 5, 6, 256, u64::MAX].map(level),
            [3, 1, 3, 5, 5, 5, 5]
        );
        assert_eq!(Priority::from_wire(3), Priority::DEFAULT);
    }

    #[test]
    fn higher_levels_go_first_and_each_in_order() {
        let mut queue = PriorityQueue::new();
        for (level, item) in [(5, "e"), (3, "c1"), (1, "a"), (3, "c2"), (2, "b")] {
            queue.push(Priority::from_wire(level), item);
        }
        assert_eq!((queue.len(), queue.front()), (5, Some(&"a")));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a", "b", "c1", "c2", "e"]);
        assert!(queue.is_empty() && queue.pop().is_none());
    }

    #[test]
    fn nobody_starves_under_a_flood_from_above() {
        let mut queue = PriorityQueue::new();
        queue.push(Priority::from_wire(5), 0);
        for n in 1..100 {
            queue.push(Priority::from_wire(1), n);
        }
        let turn = (1..).find(|_| queue.pop() == Some(0)).unwrap();
        assert_eq!(turn, OLDEST_EVERY);
    }
}
