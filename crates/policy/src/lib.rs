//! Pure decisions: what is to be done, given what was seen. Nothing here does I/O, waits or reads a clock: `now` is an argument,
//! a [`Duration`](std::time::Duration) on the caller's monotonic clock ([`coracle_base::Clock::monotonic`]).
//!
//! [`autoscale`] says how many replicas a revision should have, and [`simulate`] is the proving ground for that; [`rollout`] says whether a canary goes on,
//! [`experiment`] which variant is better and whether one may believe it, [`assignment`] which variant a unit gets, [`bandit`] which one is
//! to be tried next, [`shadow`] how far two models' answers are apart,
//! and [`resilience`] whether a revision that fails is asked.
//! Start reading at [`autoscale::Autoscaler`].

pub mod assignment;
pub mod autoscale;
pub mod bandit;
pub mod experiment;
mod random;
pub mod resilience;
pub mod rollout;
pub mod shadow;
pub mod simulate;
mod spec_error;

pub use spec_error::SpecError;
