//! statsmodels' cluster-robust variances, and how often canaries are judged wrongly whose users are of all kinds.

use std::time::Duration;

use super::super::{Counts, Interval, Rollout, RolloutSpec, Verdict};
use super::*;
use crate::random::Random;

/// Written by fixtures/statistics/generate.py.
const REFERENCE: &str = include_str!("../../../../../fixtures/statistics/reference.tsv");

/// Units with some requests each, and statsmodels' answers.
fn reference() -> Vec<(f64, Vec<(u64, u64)>, Vec<f64>)> {
    let read = |text: &str| text.parse::<f64>().unwrap();
    let lines = REFERENCE.lines().map(|line| line.split('\t'));
    let ours = lines.map(|line| line.collect::<Vec<_>>());
    let ours: Vec<_> = ours
        .filter(|fields| fields[0] == "cluster_ratio")
        .map(|fields| {
            let numbers: Vec<f64> = fields[1].split(' ').map(read).collect();
            let units = numbers[1..].chunks(2);
            let units = units.map(|unit| (unit[0] as u64, unit[1] as u64)).collect();
            let answers = fields[2..].iter().copied().map(read).collect();
            (numbers[0], units, answers)
        })
        .collect();
    assert!(ours.len() >= 4);
    ours
}

/// A unit, the first so many of whose requests were struck.
fn met(struck: u64, requests: u64) -> Met {
    Met {
        struck,
        requests,
        first: u64::from(struck > 0),
    }
}

#[track_caller]
fn close(found: f64, expected: f64) {
    let error = (found - expected).abs();
    assert!(
        error <= 1e-11 * expected.abs() || error < 1e-16,
        "{found} is not {expected}"
    );
}

#[test]
fn variances_are_statsmodels_cluster_robust_ones() {
    for (allowed, units, answers) in reference() {
        let mut events = UnitEvents::default();
        for (struck, requests) in &units {
            events.push(met(*struck, *requests));
        }
        let ratio = events.requests.to_ratio().unwrap();
        close(ratio.mean, answers[0]);
        close(ratio.variance_of_mean(), answers[1]);
        let n_requests = events.requests.second.mean * units.len() as f64;
        close(
            residuals(&events.requests, allowed) / n_requests.powi(2),
            answers[2],
        );
        // In two parts, it is the same.
        let (one, other) = units.split_at(units.len() / 3);
        let of = |units: &[(u64, u64)]| {
            let mut events = UnitEvents::default();
            let units = units
                .iter()
                .map(|(struck, requests)| met(*struck, *requests));
            units.for_each(|met| events.push(met));
            events.requests
        };
        let mut merged = of(one);
        merged.merge(&of(other));
        close(merged.to_ratio().unwrap().variance_of_mean(), answers[1]);
    }
}

#[test]
fn who_was_struck_is_at_risk_no_more() {
    let mut events = UnitEvents::default();
    events.push(met(0, 10));
    events.push(Met {
        first: 3,
        ..met(2, 10)
    });
    assert_eq!(events.at_risk, 13);
    // Not known: all of them. Never more than there are.
    events.push(Met {
        first: 0,
        ..met(2, 10)
    });
    events.push(Met {
        first: 50,
        ..met(2, 10)
    });
    assert_eq!((events.at_risk, events.struck), (33, 3));
    assert_eq!(events.struck_at_once, 0);
}

#[test]
fn single_requests_are_units_of_one_request() {
    let (mut one_by_one, mut at_once) = (UnitEvents::default(), UnitEvents::default());
    for index in 0..40 {
        one_by_one.push(met(u64::from(index % 8 == 0), 1));
    }
    at_once.push_single(5, 40);
    at_once.push_single(0, 0);
    assert_eq!((at_once.struck, at_once.units()), (5, 40));
    assert_eq!((at_once.at_risk, one_by_one.at_risk), (40, 40));
    assert_eq!((at_once.struck_at_once, one_by_one.struck_at_once), (5, 5));
    let both = [one_by_one, at_once].map(|events| events.requests.to_ratio().unwrap());
    close(both[1].mean, both[0].mean);
    close(both[1].variance_of_mean(), both[0].variance_of_mean());
    close(at_once.shares.squares, one_by_one.shares.squares);
}

/// However often one unit asks, it speaks as one: the statistic of `k` units is the root of `k` at most.
#[test]
fn one_busy_unit_is_one_unit() {
    let allowed = Allowed {
        ratio: 1.25,
        margin: 0.005,
        floor: 0.0,
    };
    for n_bad in [1_u64, 4, 9] {
        let (mut stable, mut canary) = (UnitEvents::default(), UnitEvents::default());
        (0..950).for_each(|_| stable.push(met(0, 10)));
        (0..50).for_each(|_| canary.push(met(0, 10)));
        (0..n_bad).for_each(|_| canary.push(met(1_000_000, 1_000_000)));
        let excess = Excess::of((&stable.requests, &canary.requests), allowed).unwrap();
        assert!(excess.rates.1 > 0.99);
        let statistic = excess.above / excess.variance.sqrt();
        assert!(statistic <= (n_bad as f64).sqrt(), "{n_bad}: {statistic}");
        let check = check(
            CheckKind::Errors,
            (&stable, &canary),
            allowed,
            (5.0 / 95.0, 20, 600.0),
        );
        assert_eq!(check.state == CheckState::Failed, n_bad == 9, "{check}");
    }
}

/// Users, and what becomes of the requests of each.
struct World {
    name: &'static str,
    n_users: usize,
    /// Requests per second of all of them.
    requests_per_second: u64,
    /// How heavy the tail of requests per user is: Pareto's index.
    tail: f64,
    /// The share of users whose requests fail and are slow whoever answers.
    always_fail: f64,
    /// The share of all other requests that fail and are slow on the stable revision.
    stable: f64,
    canary: Nature,
}

/// What a canary does besides what the stable revision does.
#[derive(Clone, Copy)]
enum Nature {
    Same,
    /// So many requests are struck more.
    Requests(f64),
    /// All requests of so many users are struck.
    Users(f64),
}

/// A user: where the split puts them, and what they are like.
struct User {
    place: f64,
    is_bad: bool,
    is_struck: bool,
}

/// Takes a request of a user.
fn strike(met: &mut Met, is_struck: bool) {
    met.requests += 1;
    if is_struck && met.struck == 0 {
        met.first = met.requests;
    }
    met.struck += u64::from(is_struck);
}

fn pick(random: &mut Random, ends: &[f64]) -> usize {
    let place = random.unit() * ends.last().unwrap();
    ends.partition_point(|end| *end <= place)
}

/// Runs one rollout that is looked at every `every` seconds; returns whether it went back (and when), or was promoted.
fn run(world: &World, spec: &RolloutSpec, seed: u64, every: u64) -> (Option<u64>, bool) {
    let mut random = Random::new(seed);
    let mut users = Vec::new();
    let mut ends = Vec::new();
    let mut end = 0.0;
    for _ in 0..world.n_users {
        end += (1.0 - random.unit()).powf(-1.0 / world.tail);
        ends.push(end);
        users.push(User {
            place: random.unit() * 100.0,
            is_bad: random.unit() < world.always_fail,
            is_struck: match world.canary {
                Nature::Users(share) => random.unit() < share,
                _ => false,
            },
        });
    }
    let mut rollout = Rollout::new(Duration::ZERO);
    let mut all_met = vec![Met::default(); users.len()];
    for second in 1..=1_800 {
        let percent = spec.steps[rollout.step].percent;
        let mut interval = Interval::default();
        for _ in 0..world.requests_per_second {
            let index = pick(&mut random, &ends);
            let user = &users[index];
            let is_canary = user.place < percent;
            let more = match world.canary {
                Nature::Requests(share) if is_canary => share,
                _ => 0.0,
            };
            let is_event =
                user.is_bad || is_canary && user.is_struck || random.unit() < world.stable + more;
            strike(&mut all_met[index], is_event);
            let counts: &mut Counts = match is_canary {
                true => &mut interval.canary,
                false => &mut interval.stable,
            };
            counts.requests += 1;
            counts.errors += u64::from(is_event);
        }
        rollout.observe(spec, interval);
        if second % every != 0 {
            continue;
        }
        rollout.units = <(UnitSide, UnitSide)>::default();
        for (user, met) in users.iter().zip(&all_met) {
            let side = match user.place < percent {
                true => &mut rollout.units.1,
                false => &mut rollout.units.0,
            };
            side.errors.push(*met);
        }
        // Of what is slow the same holds as of errors.
        rollout.units.0.slow = rollout.units.0.errors;
        rollout.units.1.slow = rollout.units.1.errors;
        let now = Duration::from_secs(second);
        match rollout.decide(spec, now) {
            Verdict::Hold(_) | Verdict::Overdue(_) => {}
            Verdict::Advance { .. } => {
                rollout.advance(now);
                all_met.fill(Met::default());
            }
            Verdict::Promote => return (None, true),
            Verdict::RollBack(_) => return (Some(second), false),
        }
    }
    (None, false)
}

fn by_unit() -> RolloutSpec {
    RolloutSpec {
        units_min: Some(UNITS_MIN),
        ..RolloutSpec::default()
    }
}

const EQUAL: World = World {
    name: "users who always fail, some of whom ask a lot",
    n_users: 1_000,
    requests_per_second: 20,
    tail: 1.1,
    always_fail: 0.01,
    stable: 0.001,
    canary: Nature::Same,
};

/// At most `alpha` (1 %) of canaries that are the same go back; by requests, many do.
#[test]
fn users_who_always_fail_take_no_canary_back() {
    const N_ROLLOUTS: u64 = 100;
    let worlds = [
        EQUAL,
        World {
            name: "very different numbers of requests",
            n_users: 1_500,
            tail: 0.8,
            always_fail: 0.02,
            ..EQUAL
        },
        World {
            name: "many who always fail",
            always_fail: 0.1,
            tail: 2.0,
            ..EQUAL
        },
        World {
            name: "a revision that never fails but for few users",
            always_fail: 0.003,
            stable: 0.0,
            ..EQUAL
        },
        World {
            name: "worse within what is tolerated",
            always_fail: 0.01,
            stable: 0.02,
            canary: Nature::Requests(0.004),
            ..EQUAL
        },
    ];
    for world in &worlds {
        let all: Vec<_> = (0..N_ROLLOUTS)
            .map(|seed| run(world, &by_unit(), seed, 10))
            .collect();
        let n_back = all.iter().filter(|(back, _)| back.is_some()).count();
        let n_promoted = all.iter().filter(|(_, is_promoted)| *is_promoted).count();
        let name = world.name;
        eprintln!("{name}: {n_back} back, {n_promoted} promoted");
        assert!(n_back <= 1, "{name}: {n_back}");
        assert!(n_promoted >= 85, "{name}: {n_promoted}");
    }
    let by_request = RolloutSpec::default();
    let back = (0..N_ROLLOUTS).filter(|seed| run(&EQUAL, &by_request, *seed, 10).0.is_some());
    let n_back = back.count();
    assert!(n_back >= 20, "by requests: {n_back}");
}

/// Beside a revision that fails `stable` of the requests: whether there was ever evidence against a canary that fails `canary` of them, and whether it was ever judged worse, of 100 looks at
/// 500 users of either with one more request each.
fn ever(allowed: Allowed, (stable, canary): (f64, f64), seed: u64) -> (bool, bool) {
    let mut random = Random::new(seed);
    let mut users = [stable, canary].map(|rate| (rate, vec![Met::default(); 500]));
    let (mut is_believed, mut is_failed) = (false, false);
    for _ in 0..100 {
        let sides = users.each_mut().map(|(rate, users)| {
            let mut events = UnitEvents::default();
            for met in users {
                strike(met, random.unit() < *rate);
                events.push(*met);
            }
            events
        });
        let terms = (1.0, UNITS_MIN, 600.0);
        let check = check(CheckKind::Errors, (&sides[0], &sides[1]), allowed, terms);
        is_believed |= check.evidence >= check.needed;
        is_failed |= check.state == CheckState::Failed;
    }
    (is_believed, is_failed)
}

/// There is seldom evidence against a canary that is as bad as is just allowed, by whichever of the three it is: who is struck at least once knows of all of them. And one
/// that is four times as bad goes back.
#[test]
fn what_is_just_allowed_takes_no_canary_back() {
    let nothing = Allowed {
        ratio: 1.25,
        margin: 0.0,
        floor: 0.0,
    };
    let cases = [
        ("a ratio", nothing, (0.02, 0.025)),
        (
            "a margin",
            Allowed {
                margin: 0.005,
                ..nothing
            },
            (0.0, 0.005),
        ),
        (
            "a margin beside failures",
            Allowed {
                margin: 0.005,
                ..nothing
            },
            (0.002, 0.007),
        ),
        (
            "a floor",
            Allowed {
                floor: 0.01,
                ..nothing
            },
            (0.0, 0.01),
        ),
    ];
    for (name, allowed, (stable, canary)) in cases {
        let of = |rates| {
            let runs: Vec<_> = (0..100).map(|seed| ever(allowed, rates, seed)).collect();
            let n_believed = runs.iter().filter(|(is_believed, _)| *is_believed).count();
            let n_failed = runs.iter().filter(|(_, is_failed)| *is_failed).count();
            (n_believed, n_failed)
        };
        let (n_believed, n_failed) = of((stable, canary));
        let beyond = of((stable, 4.0 * canary));
        eprintln!(
            "{name}: {n_believed} of 100 believed at the limit, {n_failed} back; {beyond:?} beyond it"
        );
        assert!(n_believed <= 1, "{name}: {n_believed}");
        assert_eq!(beyond, (100, 100), "{name}");
    }
}

#[test]
fn canaries_that_are_worse_for_users_go_back() {
    // By what it does, how many of 40 may be promoted, and in how many seconds half go back.
    let cases = [
        ("fails for everybody", Nature::Requests(1.0), (0, 10)),
        ("fails half of the requests", Nature::Requests(0.5), (0, 30)),
        ("3 % of requests", Nature::Requests(0.03), (4, 700)),
        (
            "all requests of a tenth of ten times as many users",
            Nature::Users(0.1),
            (0, 40),
        ),
    ];
    for (name, canary, (missed_max, median_max)) in cases {
        let scale = match canary {
            Nature::Users(_) => 10,
            _ => 1,
        };
        let world = World {
            name,
            canary,
            n_users: EQUAL.n_users * scale,
            requests_per_second: EQUAL.requests_per_second * scale as u64,
            ..EQUAL
        };
        let runs: Vec<_> = (0..40)
            .map(|seed| run(&world, &by_unit(), seed, 5))
            .collect();
        let mut seconds: Vec<u64> = runs.iter().filter_map(|(back, _)| *back).collect();
        seconds.sort_unstable();
        let n_missed = runs.iter().filter(|(_, is_promoted)| *is_promoted).count();
        eprintln!(
            "{name}: {n_missed} missed, {} back, half within {:?}",
            seconds.len(),
            seconds.get(20)
        );
        assert!(n_missed <= missed_max, "{name}: {n_missed}");
        assert!(seconds[20] <= median_max, "{name}: {seconds:?}");
    }
}

#[test]
fn a_stage_waits_for_units() {
    let spec = by_unit();
    let mut rollout = Rollout::new(Duration::ZERO);
    let counts = |requests| Counts {
        requests,
        ..Counts::default()
    };
    let interval = Interval {
        stable: counts(1_900),
        canary: counts(100),
    };
    rollout.observe(&spec, interval);
    for (n_units, is_enough) in [(19, false), (20, true)] {
        let mut side = UnitSide::default();
        for _ in 0..n_units {
            side.errors.push(met(0, 5));
            side.slow.push(met(0, 5));
        }
        rollout.units = (side, side);
        let verdict = rollout.decide(&spec, spec.steps[0].duration);
        let is_on = matches!(verdict, Verdict::Advance { .. });
        assert_eq!(is_on, is_enough, "{verdict:?}");
        if !is_on {
            let said = verdict.to_string();
            assert!(
                said.ends_with("by unit (cluster-robust), 19 of the canary and 19 of the stable revision, 20 needed of each"),
                "{said}"
            );
        }
    }
}
