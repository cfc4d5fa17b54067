//! Counters of which every event loop has its own, so that counting disturbs nobody: no lock, no shared cache line, and no
//! instruction that locks one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which thread counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// This event loop's own thread, and no other.
    EventLoop(usize),
    /// Any other thread: the compute pool, a thread that measures.
    Other,
}

/// A `T` for each event loop, and one for all other threads. Each is made when it is first needed: of thousands of models
/// that nobody asks, none costs memory for its counters.
#[derive(Debug)]
pub(crate) struct PerThread<T> {
    /// The last one is of all other threads.
    slots: Box<[OnceLock<Box<T>>]>,
}

/// The counters of one thread, or of all that are no event loop.
#[derive(Debug)]
pub(crate) struct Slot<'a, T> {
    pub(crate) counters: &'a T,
    /// Only one thread writes to them.
    is_alone: bool,
}

impl<T> Clone for Slot<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slot<'_, T> {}

impl<T> Slot<'_, T> {
    /// Adds to one of the counters.
    pub(crate) fn add(&self, counter: &AtomicU64, by: u64) {
        if self.is_alone {
            let sum = counter.load(Ordering::Relaxed).wrapping_add(by);
            counter.store(sum, Ordering::Relaxed);
        } else {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Raises one of the counters to `value` if it is less.
    pub(crate) fn raise(&self, counter: &AtomicU64, value: u64) {
        if !self.is_alone {
            counter.fetch_max(value, Ordering::Relaxed);
        } else if counter.load(Ordering::Relaxed) < value {
            counter.store(value, Ordering::Relaxed);
        }
    }
}

impl<T: Default> PerThread<T> {
    /// Returns counters of `n_workers` event loops.
    pub(crate) fn new(n_workers: usize) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(n_workers.max(1) + 1, OnceLock::new);
        Self {
            slots: slots.into(),
        }
    }

    /// Returns the counters that `writer` writes to.
    pub(crate) fn slot(&self, writer: Writer) -> Slot<'_, T> {
        let n_workers = self.slots.len() - 1;
        let (index, is_alone) = match writer {
            Writer::EventLoop(worker) => (worker % n_workers, true),
            Writer::Other => (n_workers, false),
        };
        Slot {
            counters: self.slots[index].get_or_init(Box::default),
            is_alone,
        }
    }

    /// Returns the counters that were written to.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(OnceLock::get).map(Box::as_ref)
    }

    /// Returns the sum of one counter.
    pub(crate) fn sum(&self, counter: impl Fn(&T) -> &AtomicU64) -> u64 {
        let loads = self
            .iter()
            .map(|counters| counter(counters).load(Ordering::Relaxed));
        loads.fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_share_counters_lose_nothing() {
        let counters = PerThread::<AtomicU64>::new(1);
        let n_threads = 4;
        std::thread::scope(|scope| {
            for _ in 0..n_threads {
                scope.spawn(|| {
                    let slot = counters.slot(Writer::Other);
                    (0..10_000).for_each(|_| slot.add(slot.counters, 1));
                });
            }
            scope.spawn(|| {
                let slot = counters.slot(Writer::EventLoop(0));
                (0..10_000).for_each(|_| slot.add(slot.counters, 1));
            });
        });
        assert_eq!(counters.sum(|counter| counter), 10_000 * (n_threads + 1));
    }

    #[test]
    fn nothing_is_made_before_it_is_needed() {
        let counters = PerThread::<AtomicU64>::new(64);
        assert_eq!(counters.iter().count(), 0);
        let slot = counters.slot(Writer::EventLoop(3));
        slot.raise(slot.counters, 5);
        slot.raise(slot.counters, 4);
        assert_eq!(counters.iter().count(), 1);
        assert_eq!(counters.sum(|counter| counter), 5);
    }
}
