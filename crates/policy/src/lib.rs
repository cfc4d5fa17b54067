//! Pure decisions: what is to be done, given what was seen. Nothing here does I/O, waits or reads a clock: `now` is an argument,
//! a [`Duration`](std::time::Duration) on the caller's monotonic clock ([`coracle_base::Clock::monotonic`]).
//!
//! [`autoscale`] says how many replicas a revision should have, and [`simulate`] is the proving ground for that; [`rollout`] says whether a canary goes on,
//! [`experiment`] which variant is better and whether one may believe it, [`assignment`] which variant a unit gets, and [`bandit`] which one is
//! to be tried next.
//! Start reading at [`autoscale::Autoscaler`].

pub mod assignment;
pub mod autoscale;
pub mod bandit;
pub mod experiment;
mod random;
pub mod rollout;
pub mod simulate;
mod spec_error;

pub use spec_error::SpecError;
