//! Objectives, and the search for the highest rate that keeps one.

use std::fmt;
use std::time::Duration;

use crate::{BenchError, Measured};

/// An objective: a latency that so many of a hundred requests keep, and how many may fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// Of a hundred answered requests so many keep the latency: 99 for `p99`; 100 for `max`; `None` for the mean.
    pub percent: Option<f64>,
    /// The latency.
    pub latency: Duration,
    /// The share of requests that may fail or stay unsent.
    pub share_failed_max: f64,
}

/// Of the offered rate so much must be answered within the window: what is short of it piles up.
const ANSWERED_SHARE_MIN: f64 = 0.95;

impl Slo {
    /// Reads `p99=50ms`, `mean=2ms` or `max=1s`, with the share of failures that is allowed after a comma: `p99=50ms,errors=0.1%`.
    ///
    /// # Errors
    /// [`BenchError::Load`] with what was expected.
    pub fn parse(text: &str) -> Result<Self, BenchError> {
        let fault = || {
            BenchError::Load(format!(
                "{text:?} is no objective; write such as p99=50ms, mean=2ms or p99.9=1s,errors=0.1%"
            ))
        };
        let mut slo = None;
        let mut share_failed_max = 0.0;
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(fault)?;
            if name == "errors" {
                let percent = value.strip_suffix('%').ok_or_else(fault)?;
                let percent: f64 = percent.parse().map_err(|_not_a_number| fault())?;
                if !(0.0..=100.0).contains(&percent) {
                    return Err(fault());
                }
                share_failed_max = percent / 100.0;
                continue;
            }
            let percent = match name {
                "mean" => None,
                "max" => Some(100.0),
                _ => {
                    let percent = name.strip_prefix('p').ok_or_else(fault)?;
                    let percent: f64 = percent.parse().map_err(|_not_a_number| fault())?;
                    Some(percent).filter(|percent| *percent > 0.0 && *percent <= 100.0)
                }
            };
            if percent.is_none() && name != "mean" || slo.is_some() {
                return Err(fault());
            }
            slo = Some((percent, parse_latency(value).ok_or_else(fault)?));
        }
        let (percent, latency) = slo.ok_or_else(fault)?;
        Ok(Self {
            percent,
            latency,
            share_failed_max,
        })
    }

    /// Returns why a load of `rate` requests per second does not keep the objective; `None` if it does.
    #[must_use]
    pub fn broken_by(&self, rate: f64, measured: &Measured) -> Option<String> {
        let latency = match self.percent {
            Some(percent) => measured.latency_us(percent),
            None => measured.latency_mean_us(),
        };
        let latency = Duration::from_nanos((latency * 1e3) as u64);
        if measured.n_ok == 0 {
            return Some("no request was answered".to_owned());
        }
        if measured.share_failed() > self.share_failed_max {
            let percent = measured.share_failed() * 100.0;
            return Some(format!("{percent:.2}% failed or were never sent"));
        }
        if latency > self.latency {
            return Some(format!("{} was {latency:.2?}", self.name()));
        }
        let answered = measured.requests_per_s();
        // Of few requests by chance a smaller share comes in time.
        let n_expected = rate * measured.window.as_secs_f64();
        let least = ANSWERED_SHARE_MIN * rate * (1.0 - 4.0 / n_expected.max(1.0).sqrt()).max(0.0);
        (answered < least)
            .then(|| format!("only {answered:.0} of {rate:.0} requests per second were answered"))
    }

    fn name(&self) -> String {
        match self.percent {
            None => "the mean".to_owned(),
            Some(100.0) => "the maximum".to_owned(),
            Some(percent) => format!("p{percent}"),
        }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <= {:?}", self.name(), self.latency)?;
        if self.share_failed_max > 0.0 {
            write!(f, ", errors <= {}%", self.share_failed_max * 100.0)?;
        }
        Ok(())
    }
}

fn parse_latency(text: &str) -> Option<Duration> {
    let start = text.find(|c: char| c.is_ascii_alphabetic() || c == 'µ')?;
    let (number, unit) = text.split_at(start);
    let number: f64 = number.parse().ok()?;
    let scale = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    let time = Duration::try_from_secs_f64(number * scale).ok()?;
    (!time.is_zero()).then_some(time)
}

/// What came of trying a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The objective was kept.
    Kept,
    /// It was not.
    Broken,
    /// It was not, but this machine was too busy to send in time.
    Unclear,
}

/// The search: doubles the rate until the objective breaks, then halves the gap between what it kept and what it broke.
///
/// A rate that breaks the objective is tried a second time before that is believed, and more often where it is unclear: a hiccup of the
/// machine is not the server's limit.
#[derive(Clone, Debug)]
pub struct Search {
    next: f64,
    kept: Option<f64>,
    broken: Option<f64>,
    /// Tries of the rate so far, and those of them that are clear.
    n_tries: (u32, u32),
    precision: f64,
}

/// So many clear tries, or tries of any kind, are believed.
const TRIES_MAX: (u32, u32) = (5, 2);

/// Rates below this are not searched.
const RATE_MIN: f64 = 0.5;
/// Rates above this are not searched.
const RATE_MAX: f64 = 1e7;

impl Search {
    /// Begins at `rate`; ends when the gap is below `precision` (0.05: five parts in a hundred).
    #[must_use]
    pub fn new(rate: f64, precision: f64) -> Self {
        Self {
            next: rate.clamp(RATE_MIN, RATE_MAX),
            kept: None,
            broken: None,
            n_tries: (0, 0),
            precision: precision.max(1e-3),
        }
    }

    /// Returns the rate to try next; `None` when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        if let (Some(kept), Some(broken)) = (self.kept, self.broken)
            && broken / kept <= 1.0 + self.precision
        {
            return None;
        }
        let is_off = self.next < RATE_MIN || self.next > RATE_MAX;
        (!is_off).then_some(self.next)
    }

    /// Takes in what came of the rate of [`Search::next`].
    pub fn record(&mut self, verdict: Verdict) {
        let is_kept = verdict == Verdict::Kept;
        self.n_tries.0 += 1;
        self.n_tries.1 += u32::from(verdict == Verdict::Broken);
        if !is_kept && self.n_tries.0 < TRIES_MAX.0 && self.n_tries.1 < TRIES_MAX.1 {
            return;
        }
        self.n_tries = (0, 0);
        if is_kept {
            self.kept = Some(self.next);
        } else {
            self.broken = Some(self.next);
        }
        self.next = match (self.kept, self.broken) {
            (Some(kept), Some(broken)) => kept.midpoint(broken),
            (Some(kept), None) => kept * 2.0,
            (None, Some(broken)) => broken / 2.0,
            (None, None) => self.next,
        };
    }

    /// Returns the highest rate that kept the objective.
    #[must_use]
    pub fn kept(&self) -> Option<f64> {
        self.kept
    }

    /// Returns the lowest rate that broke it.
    #[must_use]
    pub fn broken(&self) -> Option<f64> {
        self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches on a server that keeps the objective up to `capacity`; returns the answer and the number of trials.
    fn search(start: f64, mut keeps: impl FnMut(f64) -> bool) -> (Option<f64>, usize) {
        let mut search = Search::new(start, 0.05);
        let mut n_trials = 0;
        while let Some(rate) = search.next() {
            search.record(if keeps(rate) {
                Verdict::Kept
            } else {
                Verdict::Broken
            });
            n_trials += 1;
            assert!(n_trials < 100, "does not end");
        }
        (search.kept(), n_trials)
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_above() {
        for capacity in [3.0, 47.0, 1_234.0, 98_765.0] {
            for start in [1.0, 100.0, 20_000.0] {
                let (kept, n_trials) = search(start, |rate| rate <= capacity);
                let kept = kept.unwrap();
                assert!(
                    kept <= capacity && kept >= capacity / 1.06,
                    "{capacity}: {kept}"
                );
                assert!(n_trials < 45, "{n_trials}");
            }
        }
    }

    #[test]
    fn one_hiccup_is_forgiven() {
        // Every fifth trial breaks, whatever the rate.
        let mut n_trials = 0;
        let (kept, _) = search(100.0, |rate| {
            n_trials += 1;
            rate <= 5_000.0 && n_trials % 5 != 0
        });
        assert!(kept.unwrap() > 4_700.0, "{kept:?}");
    }

    #[test]
    fn what_is_unclear_is_tried_more_often() {
        let mut search = Search::new(100.0, 0.05);
        for verdict in [
            Verdict::Unclear,
            Verdict::Broken,
            Verdict::Unclear,
            Verdict::Unclear,
        ] {
            search.record(verdict);
            assert_eq!(search.next(), Some(100.0));
        }
        search.record(Verdict::Kept);
        assert_eq!((search.kept(), search.next()), (Some(100.0), Some(200.0)));
        for _ in 0..5 {
            search.record(Verdict::Unclear);
        }
        assert_eq!((search.broken(), search.next()), (Some(200.0), Some(150.0)));
    }

    #[test]
    fn a_server_that_keeps_nothing_ends_the_search() {
        assert_eq!(search(100.0, |_| false).0, None);
        let (kept, _) = search(100.0, |_| true);
        assert!(kept.unwrap() > 1e6);
    }

    /// A server with one place: each request takes a millisecond, and waits for those before it. Its latencies are those of the
    /// recursion of Lindley.
    fn queue(rate: f64) -> Measured {
        let mut schedule =
            crate::schedule::Schedule::new(crate::Arrivals::Poisson, rate, (0, 1), 3);
        let mut measured = Measured::new(Duration::ZERO);
        measured.window = Duration::from_secs(60);
        let mut free_at = Duration::ZERO;
        while schedule.peek() < measured.window {
            let arrival = schedule.peek();
            free_at = free_at.max(arrival) + Duration::from_millis(1);
            measured.record(arrival, free_at - arrival, Ok(0));
            measured.n_in_window += u64::from(free_at <= measured.window);
            schedule.advance();
        }
        measured
    }

    #[test]
    fn the_search_finds_what_queueing_theory_says() {
        // M/D/1 with a service time of 1 ms: the mean wait is r / (2 (1 - r)) ms at utilisation r. A mean of 3 ms in all is a
        // wait of 2 ms: r = 0.8, so 800 requests per second.
        let slo = Slo::parse("mean=3ms").unwrap();
        let (kept, _) = search(50.0, |rate| slo.broken_by(rate, &queue(rate)).is_none());
        let kept = kept.unwrap();
        assert!((720.0..=860.0).contains(&kept), "{kept}");
    }

    #[test]
    fn objectives_are_read_and_shown() {
        let cases = [
            ("p99=50ms", "p99 <= 50ms"),
            ("mean=2.5ms", "the mean <= 2.5ms"),
            ("max=1s,errors=0.5%", "the maximum <= 1s, errors <= 0.5%"),
            ("p99.9=800us", "p99.9 <= 800µs"),
        ];
        for (text, shown) in cases {
            assert_eq!(Slo::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "",
            "p99",
            "p99=50",
            "p0=1ms",
            "p101=1ms",
            "q99=1ms",
            "p99=0ms",
            "errors=1%",
            "p99=1ms,p50=1ms",
            "p99=1ms,errors=1",
        ] {
            assert!(Slo::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_objective_is_broken_by_latency_failures_and_what_piles_up() {
        let slo = Slo::parse("p99=10ms").unwrap();
        let mut measured = Measured::new(Duration::ZERO);
        measured.window = Duration::from_secs(10);
        for _ in 0..10_000 {
            measured.record(Duration::ZERO, Duration::from_millis(5), Ok(1));
        }
        measured.n_in_window = 10_000;
        assert_eq!(slo.broken_by(1_000.0, &measured), None);
        assert!(
            slo.broken_by(2_000.0, &measured)
                .unwrap()
                .contains("only 1000 of 2000")
        );
        measured.n_unsent = 1;
        assert!(
            slo.broken_by(1_000.0, &measured)
                .unwrap()
                .contains("never sent")
        );
        measured.n_unsent = 0;
        for _ in 0..200 {
            measured.record(Duration::ZERO, Duration::from_millis(50), Ok(1));
        }
        assert!(
            slo.broken_by(1_000.0, &measured)
                .unwrap()
                .contains("p99 was")
        );
    }
}
