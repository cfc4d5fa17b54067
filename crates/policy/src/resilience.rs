//! Whether a request may go to a revision that fails, and whether a failed one may be tried again.
//!
//! A [`Breaker`] stops asking a revision that fails and finds out carefully when it has recovered. A [`RetryBudget`] lets some requests be tried
//! again, but never so many that retries become the load. Both are state machines on the caller's clock; neither sends anything.

mod breaker;
mod budget;
mod recent;

pub use breaker::{Admission, Breaker, BreakerSpec, End, Ended, Probing, Ratio};
pub use budget::{RetryBudget, RetryBudgetSpec};
