//! Runs of some milliseconds on an event loop that has one caller only: there is nobody whom that keeps waiting, and no thread of the
//! compute pool to be woken before the run, nor the loop after it. On a virtual machine each of the two takes some 60 us, and more where
//! the processors are busy looking for work (`--busy-poll`).
//!
//! Whoever connects meanwhile is given to another loop, so there must be one; and since such a run takes a turn of the pool that had
//! nothing to do, there is one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coracle_serving::{ComputePool, OwnTurn, ServedModel};

use crate::infer::Request;

/// Who uses an event loop.
#[derive(Debug)]
pub(crate) struct Occupancy {
    n_connections: AtomicUsize,
    /// Those of HTTP/2, each of which may bring many calls at a time.
    n_of_many_calls: AtomicUsize,
    /// Whether a run keeps the loop from its sockets.
    is_running: AtomicBool,
    /// Whether there are other loops.
    has_others: bool,
}

/// Something of which there is one more until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    occupancy: Arc<Occupancy>,
    count: fn(&Occupancy) -> &AtomicUsize,
}

/// A run that keeps an event loop from its sockets.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    is_running: &'a AtomicBool,
    _turn: OwnTurn<'a>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.count)(&self.occupancy).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.is_running.store(false, Ordering::Relaxed);
    }
}

impl Occupancy {
    /// Returns that of a new event loop of `n_loops`.
    pub(crate) fn of_one_of(n_loops: usize) -> Self {
        Self {
            n_connections: AtomicUsize::new(0),
            n_of_many_calls: AtomicUsize::new(0),
            is_running: AtomicBool::new(false),
            has_others: n_loops > 1,
        }
    }

    /// Counts a connection.
    pub(crate) fn connection(self: &Arc<Self>) -> Counted {
        self.counted(|occupancy| &occupancy.n_connections)
    }

    /// Counts a connection, which is counted already, as one that may bring many calls at a time.
    pub(crate) fn many_calls(self: &Arc<Self>) -> Counted {
        self.counted(|occupancy| &occupancy.n_of_many_calls)
    }

    fn counted(self: &Arc<Self>, count: fn(&Self) -> &AtomicUsize) -> Counted {
        count(self).fetch_add(1, Ordering::Relaxed);
        Counted {
            occupancy: Arc::clone(self),
            count,
        }
    }

    /// Returns the number of connections.
    pub(crate) fn n_connections(&self) -> usize {
        self.n_connections.load(Ordering::Relaxed)
    }

    /// Tells whether a run keeps the loop from its sockets.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn set_running(&self, is_running: bool) {
        self.is_running.store(is_running, Ordering::Relaxed);
    }

    /// Tells whether it has one caller, who waits for the answer of one call at a time, and there are other loops.
    fn is_alone(&self) -> bool {
        let n_of_many_calls = self.n_of_many_calls.load(Ordering::Relaxed);
        self.has_others && n_of_many_calls == 0 && self.n_connections() == 1
    }

    /// Begins a run on the loop that is too long for one with several callers, if this one has one only, it is not too long for that either,
    /// and nothing else is to happen while it runs.
    pub(crate) fn begin<'a>(
        &'a self,
        pool: &'a ComputePool,
        model: &Arc<ServedModel>,
        request: &Request,
        (n_rows, time_left): (usize, Duration),
    ) -> Option<Running<'a>> {
        // A graph's other models may be asked at the same time, and so may who stands in for a model, and whom he stands in for.
        if !self.is_alone()
            || request.of_flow.is_some()
            || request.stands_in
            || model.has_fallback()
            || !model.cost().fits_one_caller(n_rows, time_left)
        {
            return None;
        }
        let turn = pool.turn_if_idle(model)?;
        self.is_running.store(true, Ordering::Relaxed);
        Some(Running {
            is_running: &self.is_running,
            _turn: turn,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_of_one_caller_where_a_connection_brings_one_call_at_a_time() {
        let occupancy = Arc::new(Occupancy::of_one_of(2));
        let is_alone = || occupancy.is_alone();
        assert!(!is_alone());
        let first = occupancy.connection();
        assert!(is_alone());
        let many = occupancy.many_calls();
        assert!(!is_alone());
        drop(many);
        assert!(is_alone());
        let second = occupancy.connection();
        assert!(!is_alone());
        drop(first);
        assert!(is_alone());
        drop(second);
        assert_eq!(occupancy.n_connections(), 0);
    }
}
