//! Pure decisions: what is to be done, given what was seen. Nothing here does I/O, waits or reads a clock: `now` is an argument,
//! a [`Duration`](std::time::Duration) on the caller's monotonic clock ([`coracle_base::Clock::monotonic`]).
//!
//! [`autoscale`] says how many replicas a revision should have; [`simulate`] is the proving ground for such decisions.
//! Start reading at [`autoscale::Autoscaler`].

pub mod autoscale;
mod random;
pub mod simulate;
