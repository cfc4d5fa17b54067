//! How many requests may be tried again, or hedged: a share of all, so that retries cannot multiply a load that is failing already.

use std::time::Duration;

use super::recent::Recent;

/// How large a budget is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudgetSpec {
    /// The share of requests that may be tried again, from 0. Default: 0.2.
    pub share: f64,
    /// So many a second may be tried again besides, so that few requests have a budget, too. Default: 10.
    pub per_second_min: f64,
    /// The window that the share is of. Default: 10 s.
    pub window: Duration,
}

impl Default for RetryBudgetSpec {
    fn default() -> Self {
        Self {
            share: 0.2,
            per_second_min: 10.0,
            window: Duration::from_secs(10),
        }
    }
}

/// The budget of one service.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    spec: RetryBudgetSpec,
    /// Requests, and those that were tried again.
    recent: Recent,
}

impl RetryBudget {
    /// Returns a budget that nothing was taken from.
    #[must_use]
    pub fn new(spec: RetryBudgetSpec) -> Self {
        Self {
            spec,
            recent: Recent::new(spec.window),
        }
    }

    /// Takes a request that is tried for the first time.
    pub fn deposit(&mut self, now: Duration) {
        self.recent.add(now, (1, 0));
    }

    /// Says whether a request may be tried again now, and counts it if so.
    pub fn withdraw(&mut self, now: Duration) -> bool {
        let (requests, retries) = self.recent.total(now);
        let reserve = self.spec.per_second_min * self.spec.window.as_secs_f64();
        let may = retries as f64 + 1.0 <= self.spec.share * requests as f64 + reserve;
        if may {
            self.recent.add(now, (0, 1));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn retries_are_a_share_of_requests_and_a_reserve() {
        let mut budget = RetryBudget::new(RetryBudgetSpec {
            share: 0.2,
            per_second_min: 1.0,
            window: Duration::from_secs(10),
        });
        let n_granted =
            |budget: &mut RetryBudget, now| (0..1_000).filter(|_| budget.withdraw(now)).count();
        assert_eq!(n_granted(&mut budget, at(0)), 10);
        for _ in 0..100 {
            budget.deposit(at(0));
        }
        assert_eq!(n_granted(&mut budget, at(0)), 20);
        // The window passes, and with it the requests and the retries.
        assert_eq!(n_granted(&mut budget, at(10_000)), 10);
    }

    /// Everything fails and everybody retries three times: the revision sees 1.2 times the load, not four times.
    #[test]
    fn retries_do_not_multiply_a_failing_load() {
        let mut budget = RetryBudget::new(RetryBudgetSpec::default());
        let (mut n_requests, mut n_sent) = (0, 0);
        for millis in 0..60_000 {
            let now = at(millis);
            n_requests += 1;
            n_sent += 1;
            budget.deposit(now);
            n_sent += (0..3).take_while(|_| budget.withdraw(now)).count();
        }
        let factor = n_sent as f64 / f64::from(n_requests);
        assert!((1.2..1.22).contains(&factor), "{factor}");
    }
}
