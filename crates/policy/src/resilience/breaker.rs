//! A circuit breaker: closed while all is well, open when a revision fails, half open to find out.

use std::time::Duration;

use super::recent::Recent;
use crate::SpecError;

/// A share of requests that opens a breaker, once there were enough of them in the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The share, above 0 and at most 1.
    pub share: f64,
    /// The requests that there must have been.
    pub requests_min: u64,
}

/// When a breaker opens, and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSpec {
    /// So many failures in a row open it. Default: 5.
    pub consecutive_failures: Option<u32>,
    /// Such a share of failures opens it. Default: half of at least 20.
    pub failures: Option<Ratio>,
    /// Such a share of slow requests opens it; the caller says what is slow. Default: none.
    pub slow: Option<Ratio>,
    /// The window that shares are of. Default: 10 s.
    pub window: Duration,
    /// How long it is open at first; each time that it opens again without having closed, twice as long. Default: 1 s.
    pub open_for: Duration,
    /// The longest that it is open. Default: 60 s.
    pub open_for_max: Duration,
    /// How many requests are let through at once to find out, and how many must succeed before it closes. Default: 3.
    pub probes: u32,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(5),
            failures: Some(Ratio {
                share: 0.5,
                requests_min: 20,
            }),
            slow: None,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(1),
            open_for_max: Duration::from_secs(60),
            probes: 3,
        }
    }
}

impl BreakerSpec {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// If a share is not above 0 and at most 1, or a count or duration is 0.
    pub fn validate(&self) -> Result<(), SpecError> {
        for (name, ratio) in [("failures", self.failures), ("slow", self.slow)] {
            if let Some(ratio) = ratio
                && !(ratio.share > 0.0 && ratio.share <= 1.0)
            {
                return Err(SpecError::new(format!(
                    "share of {name} {} is not above 0 and at most 1",
                    ratio.share
                )));
            }
        }
        let zeros = [
            ("consecutive failures", self.consecutive_failures == Some(0)),
            ("window", self.window.is_zero()),
            ("open for", self.open_for.is_zero()),
            ("probes", self.probes == 0),
        ];
        match zeros.iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(SpecError::new(format!("{name} is 0"))),
            None => Ok(()),
        }
    }
}

/// Whether a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go,
    /// It may, to find out whether the revision has recovered. Its end must be told to [`Breaker::ended`] as this probe's, whatever it was.
    Probe(Probing),
    /// It may not; asking again makes sense after this time.
    Refused {
        /// How long.
        retry_after: Duration,
    },
}

/// The time of being half open that a probe belongs to: one of an earlier time says nothing of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probing(u64);

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An answer, be it that the request was wrong.
    Answered,
    /// A failure by the revision's fault, a passed deadline included.
    Failed,
    /// Nothing: the caller gave up. This tells nothing of the revision, unless it was slow until then.
    GivenUp,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What came of it.
    pub end: End,
    /// Whether it was slow.
    pub was_slow: bool,
    /// What it was admitted as, if that was a probe.
    pub probe: Option<Probing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    HalfOpen { in_flight: u32, succeeded: u32 },
}

/// The breaker of one revision.
#[derive(Clone, Debug)]
pub struct Breaker {
    spec: BreakerSpec,
    state: State,
    n_failed_in_a_row: u32,
    failures: Recent,
    slow: Recent,
    /// How often it has opened since it was last closed.
    n_opened: u32,
    /// How often it has been half open.
    n_probed: u64,
}

impl Breaker {
    /// Returns a closed breaker.
    #[must_use]
    pub fn new(spec: BreakerSpec) -> Self {
        Self {
            spec,
            state: State::Closed,
            n_failed_in_a_row: 0,
            failures: Recent::new(spec.window),
            slow: Recent::new(spec.window),
            n_opened: 0,
            n_probed: 0,
        }
    }

    /// Says whether a request may go now.
    pub fn admit(&mut self, now: Duration) -> Admission {
        if let State::Open { until } = self.state {
            if now < until {
                return Admission::Refused {
                    retry_after: until - now,
                };
            }
            self.n_probed += 1;
            self.state = State::HalfOpen {
                in_flight: 0,
                succeeded: 0,
            };
        }
        match &mut self.state {
            State::HalfOpen {
                in_flight,
                succeeded,
            } => {
                if *in_flight + *succeeded >= self.spec.probes {
                    return Admission::Refused {
                        retry_after: self.spec.open_for,
                    };
                }
                *in_flight += 1;
                Admission::Probe(Probing(self.n_probed))
            }
            _ => Admission::Go,
        }
    }

    /// Takes the end of a request; returns whether the breaker opened by it.
    pub fn ended(&mut self, now: Duration, end: Ended) -> bool {
        match self.state {
            State::Closed if end.end == End::GivenUp && !end.was_slow => false,
            // A breaker closes when the probes of its last time have ended: this one is of an earlier time.
            State::Closed if end.probe.is_some() => false,
            State::Closed => self.ended_while_closed(now, end),
            State::HalfOpen { .. } if end.probe == Some(Probing(self.n_probed)) => {
                self.ended_probe(now, end)
            }
            // What was let through before it opened tells nothing new.
            State::Open { .. } | State::HalfOpen { .. } => false,
        }
    }

    fn ended_while_closed(&mut self, now: Duration, end: Ended) -> bool {
        self.slow.add(now, (1, u64::from(end.was_slow)));
        match end.end {
            End::Failed => {
                self.failures.add(now, (1, 1));
                self.n_failed_in_a_row += 1;
            }
            End::Answered => {
                self.failures.add(now, (1, 0));
                self.n_failed_in_a_row = 0;
            }
            // Whether it would have failed is not known.
            End::GivenUp => {}
        }
        let in_a_row = self.spec.consecutive_failures;
        let is_over = |ratio: Option<Ratio>, (all, marked): (u64, u64)| {
            ratio.is_some_and(|ratio| {
                all >= ratio.requests_min.max(1) && marked as f64 >= ratio.share * all as f64
            })
        };
        let must_open = in_a_row.is_some_and(|most| self.n_failed_in_a_row >= most)
            || is_over(self.spec.failures, self.failures.total(now))
            || is_over(self.spec.slow, self.slow.total(now));
        if must_open {
            self.open(now);
        }
        must_open
    }

    fn ended_probe(&mut self, now: Duration, end: Ended) -> bool {
        let State::HalfOpen {
            in_flight,
            succeeded,
        } = &mut self.state
        else {
            return false;
        };
        *in_flight = in_flight.saturating_sub(1);
        if end.end == End::Failed || end.was_slow && self.spec.slow.is_some() {
            self.open(now);
            return true;
        }
        *succeeded += u32::from(end.end == End::Answered);
        if *succeeded >= self.spec.probes {
            self.close();
        }
        false
    }

    fn open(&mut self, now: Duration) {
        let doubled = self
            .spec
            .open_for
            .saturating_mul(1 << self.n_opened.min(16));
        let open_for = doubled.min(self.spec.open_for_max.max(self.spec.open_for));
        self.n_opened = self.n_opened.saturating_add(1);
        self.state = State::Open {
            until: now + open_for,
        };
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.n_failed_in_a_row = 0;
        self.n_opened = 0;
        self.failures.clear();
        self.slow.clear();
    }

    /// Says whether requests go freely.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Returns the state's name, for metrics: `closed`, `open` or `half_open`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const OK: Ended = Ended {
        end: End::Answered,
        was_slow: false,
        probe: None,
    };
    const FAILED: Ended = Ended {
        end: End::Failed,
        ..OK
    };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Admits a probe; returns what tells its end.
    fn probe(breaker: &mut Breaker, now: Duration) -> impl Fn(Ended) -> Ended + use<> {
        let Admission::Probe(probing) = breaker.admit(now) else {
            panic!("it probes");
        };
        move |end| Ended {
            probe: Some(probing),
            ..end
        }
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(BreakerSpec::default());
        for index in 0..5 {
            assert_eq!(breaker.admit(at(0)), Admission::Go);
            assert_eq!(breaker.ended(at(0), FAILED), index == 4);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        assert_eq!(opened().state(), "open");
        let mut breaker = Breaker::new(BreakerSpec {
            failures: None,
            ..BreakerSpec::default()
        });
        for index in 0..100 {
            assert!(!breaker.ended(at(0), if index % 5 == 4 { OK } else { FAILED }));
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_share_of_failures_opens_it_only_with_enough_requests_in_the_window() {
        let mut breaker = Breaker::new(BreakerSpec {
            consecutive_failures: None,
            ..BreakerSpec::default()
        });
        for index in 0..19 {
            assert!(!breaker.ended(at(0), if index % 2 == 0 { FAILED } else { OK }));
        }
        // Ten seconds later those are forgotten.
        assert!(!breaker.ended(at(10_000), FAILED));
        for index in 0..19 {
            let end = if index % 2 == 0 { OK } else { FAILED };
            assert_eq!(breaker.ended(at(10_001), end), index == 18, "{index}");
        }
    }

    #[test]
    fn slow_requests_open_it_if_asked_to() {
        let slow = Ended {
            was_slow: true,
            ..OK
        };
        let mut indifferent = Breaker::new(BreakerSpec::default());
        let mut watchful = Breaker::new(BreakerSpec {
            slow: Some(Ratio {
                share: 0.8,
                requests_min: 10,
            }),
            ..BreakerSpec::default()
        });
        for index in 0..10 {
            assert!(!indifferent.ended(at(0), slow));
            assert_eq!(watchful.ended(at(0), slow), index == 9);
        }
    }

    #[test]
    fn who_gives_up_on_a_slow_request_says_that_it_was_slow_and_no_more() {
        let gone = Ended {
            end: End::GivenUp,
            was_slow: true,
            probe: None,
        };
        let mut breaker = Breaker::new(BreakerSpec {
            slow: Some(Ratio {
                share: 0.5,
                requests_min: 20,
            }),
            ..BreakerSpec::default()
        });
        for index in 0..20 {
            let end = if index % 2 == 0 { gone } else { OK };
            assert_eq!(breaker.ended(at(0), end), index == 19, "{index}");
        }
        // Nor does it come between failures, or count as one.
        let mut breaker = Breaker::new(BreakerSpec::default());
        for index in 0..9 {
            let end = if index % 2 == 0 { FAILED } else { gone };
            assert_eq!(breaker.ended(at(0), end), index == 8, "{index}");
        }
    }

    #[test]
    fn it_refuses_then_probes_then_closes() {
        let mut breaker = opened();
        let refused = Admission::Refused {
            retry_after: at(600),
        };
        assert_eq!(breaker.admit(at(400)), refused);
        let probes: Vec<_> = (0..3).map(|_| probe(&mut breaker, at(1_000))).collect();
        assert!(matches!(
            breaker.admit(at(1_000)),
            Admission::Refused { .. }
        ));
        assert_eq!(breaker.state(), "half_open");
        // What was sent before it opened changes nothing.
        assert!(!breaker.ended(at(1_001), FAILED));
        for probe in probes {
            assert!(!breaker.ended(at(1_002), probe(OK)));
        }
        assert_eq!(breaker.admit(at(1_003)), Admission::Go);
        assert!(breaker.is_closed());
    }

    #[test]
    fn requests_that_were_given_up_tell_nothing() {
        let given_up = Ended {
            end: End::GivenUp,
            ..OK
        };
        let mut breaker = opened();
        for _ in 0..10 {
            let end = probe(&mut breaker, at(1_000))(given_up);
            breaker.ended(at(1_000), end);
        }
        assert_eq!(breaker.state(), "half_open");
        let mut breaker = Breaker::new(BreakerSpec::default());
        for index in 0..9 {
            breaker.ended(at(0), if index % 2 == 0 { FAILED } else { given_up });
        }
        assert_eq!(
            breaker.state(),
            "open",
            "five failures in a row, but for those"
        );
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_the_most() {
        let mut breaker = opened();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let Admission::Refused { retry_after } = breaker.admit(now) else {
                panic!("it is open");
            };
            waits.push(retry_after.as_secs());
            now += retry_after;
            let end = probe(&mut breaker, now)(FAILED);
            assert!(breaker.ended(now, end));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn probes_of_an_earlier_time_say_nothing_of_the_present() {
        let mut breaker = opened();
        let stale: Vec<_> = (0..2).map(|_| probe(&mut breaker, at(1_000))).collect();
        let failed = probe(&mut breaker, at(1_000))(FAILED);
        assert!(breaker.ended(at(1_001), failed));
        // It is open for two seconds, and probes again.
        let present: Vec<_> = (0..3).map(|_| probe(&mut breaker, at(3_001))).collect();
        let given_up = Ended {
            end: End::GivenUp,
            ..OK
        };
        assert!(!breaker.ended(at(3_002), stale[0](given_up)));
        assert!(
            matches!(breaker.admit(at(3_002)), Admission::Refused { .. }),
            "three are on their way"
        );
        assert!(!breaker.ended(at(3_003), stale[1](FAILED)));
        assert!(!breaker.ended(at(3_003), stale[0](OK)));
        assert_eq!(breaker.state(), "half_open");
        for probe in present {
            assert_eq!(breaker.state(), "half_open");
            assert!(!breaker.ended(at(3_004), probe(OK)));
        }
        assert!(breaker.is_closed());
        for _ in 0..10 {
            assert!(!breaker.ended(at(3_005), stale[0](FAILED)));
        }
    }

    /// A revision that fails for a while and recovers, with requests that take 50 ms: few fail, and it is found soon after.
    #[test]
    fn an_outage_costs_few_failures_and_its_end_is_noticed() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let mut breaker = Breaker::new(BreakerSpec::default());
            let mut running: Vec<(u64, bool, Option<Probing>)> = Vec::new();
            let (mut n_failed, mut recovered_at) = (0, None);
            for millis in (0..60_000).step_by(5) {
                let now = at(millis);
                running.retain(|(end, has_failed, probe)| {
                    if *end <= millis {
                        n_failed += i32::from(*has_failed);
                        let end = if *has_failed { FAILED } else { OK };
                        breaker.ended(
                            now,
                            Ended {
                                probe: *probe,
                                ..end
                            },
                        );
                    }
                    *end > millis
                });
                let is_out = (10_000..30_000).contains(&millis);
                if millis >= 30_000 && breaker.is_closed() && recovered_at.is_none() {
                    recovered_at = Some(millis);
                }
                let admission = breaker.admit(now);
                if !matches!(admission, Admission::Refused { .. }) {
                    let has_failed = is_out || random.unit() < 0.01;
                    let probe = match admission {
                        Admission::Probe(probing) => Some(probing),
                        _ => None,
                    };
                    running.push((millis + 50, has_failed, probe));
                }
            }
            // 4,000 requests come during the outage.
            assert!(n_failed < 200, "seed {seed}: {n_failed}");
            let noticed = recovered_at.map(|at| at - 30_000);
            assert!(
                noticed.is_some_and(|after| after < 20_000),
                "seed {seed}: {noticed:?}"
            );
        }
    }

    #[test]
    fn specs_that_make_no_sense_are_refused() {
        let default = BreakerSpec::default;
        assert_eq!(default().validate(), Ok(()));
        let ratio = |share| {
            Some(Ratio {
                share,
                requests_min: 1,
            })
        };
        let bad = [
            (
                BreakerSpec {
                    failures: ratio(0.0),
                    ..default()
                },
                "share of failures 0 is not",
            ),
            (
                BreakerSpec {
                    slow: ratio(1.1),
                    ..default()
                },
                "share of slow 1.1 is not",
            ),
            (
                BreakerSpec {
                    consecutive_failures: Some(0),
                    ..default()
                },
                "consecutive failures is 0",
            ),
            (
                BreakerSpec {
                    window: Duration::ZERO,
                    ..default()
                },
                "window is 0",
            ),
            (
                BreakerSpec {
                    probes: 0,
                    ..default()
                },
                "probes is 0",
            ),
        ];
        for (spec, part) in bad {
            let error = spec.validate().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
