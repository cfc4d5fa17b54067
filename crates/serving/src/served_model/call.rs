//! Calls in flight that outlive who began them, counted from their start to their end.

use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;

use super::ServedModel;
use crate::{Outcome, Protocol};

/// A call in flight that keeps what it is of.
#[derive(Debug)]
pub struct ModelCall {
    model: Arc<ServedModel>,
    worker: usize,
    started: Duration,
    clock: Arc<dyn Clock>,
    is_over: bool,
}

impl ModelCall {
    /// Counts the end of the call, which is now.
    pub fn finish(mut self, protocol: Protocol, outcome: Outcome) {
        self.is_over = true;
        let clock = self.clock.as_ref();
        let statistics = self.model.statistics();
        let call = statistics.resume(self.worker, self.started, clock);
        call.finish(protocol, outcome, clock.monotonic());
    }
}

impl Drop for ModelCall {
    fn drop(&mut self) {
        if !self.is_over {
            // Ends without an outcome: its caller has gone.
            let statistics = self.model.statistics();
            drop(statistics.resume(self.worker, self.started, self.clock.as_ref()));
        }
    }
}

impl ServedModel {
    /// Counts the start of a call at `now` on event loop `worker`; it is in flight until what is returned is finished
    /// or dropped, which must happen on the same event loop.
    #[must_use]
    pub fn start_call(
        self: &Arc<Self>,
        worker: usize,
        now: Duration,
        clock: &Arc<dyn Clock>,
    ) -> ModelCall {
        self.statistics
            .start(worker, now, clock.as_ref())
            .hand_over();
        self.take_over_call(worker, now, clock)
    }

    /// Takes a call over that began at `started` on this event loop, and was handed over ([`InFlight::hand_over`](crate::InFlight::hand_over)): it is in flight until what is returned is finished or dropped.
    #[must_use]
    pub fn take_over_call(
        self: &Arc<Self>,
        worker: usize,
        started: Duration,
        clock: &Arc<dyn Clock>,
    ) -> ModelCall {
        ModelCall {
            model: Arc::clone(self),
            worker,
            started,
            clock: Arc::clone(clock),
            is_over: false,
        }
    }
}
