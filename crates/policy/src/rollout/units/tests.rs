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
            events.push(*struck, *requests);
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
            units.iter().for_each(|unit| events.push(unit.0, unit.1));
            events.requests
        };
        let mut merged = of(one);
        merged.merge(&of(other));
        close(merged.to_ratio().unwrap().variance_of_mean(), answers[1]);
    }
}

#[test]
fn single_requests_are_units_of_one_request() {
    let (mut one_by_one, mut at_once) = (UnitEvents::default(), UnitEvents::default());
    for index in 0..40 {
        one_by_one.push(u64::from(index % 8 == 0), 1);
    }
    at_once.push_single(5, 40);
    at_once.push_single(0, 0);
    assert_eq!((at_once.struck, at_once.units()), (5, 40));
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
        (0..950).for_each(|_| stable.push(0, 10));
        (0..50).for_each(|_| canary.push(0, 10));
        (0..n_bad).for_each(|_| canary.push(1_000_000, 1_000_000));
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
    let mut met = vec![(0_u64, 0_u64); users.len()];
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
            met[index].0 += u64::from(is_event);
            met[index].1 += 1;
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
        for (user, (struck, requests)) in users.iter().zip(&met) {
            let side = match user.place < percent {
                true => &mut rollout.units.1,
                false => &mut rollout.units.0,
            };
            side.errors.push(*struck, *requests);
        }
        // Of what is slow the same holds as of errors.
        rollout.units.0.slow = rollout.units.0.errors;
        rollout.units.1.slow = rollout.units.1.errors;
        let now = Duration::from_secs(second);
        match rollout.decide(spec, now) {
            Verdict::Hold(_) | Verdict::Overdue(_) => {}
            Verdict::Advance { .. } => {
                rollout.advance(now);
                met.fill((0, 0));
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
        // One, and three standard deviations.
        assert!(n_back <= 4, "{name}: {n_back}");
        assert!(n_promoted >= 85, "{name}: {n_promoted}");
    }
    let by_request = RolloutSpec::default();
    let back = (0..N_ROLLOUTS).filter(|seed| run(&EQUAL, &by_request, *seed, 10).0.is_some());
    let n_back = back.count();
    assert!(n_back >= 20, "by requests: {n_back}");
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
            side.errors.push(0, 5);
            side.slow.push(0, 5);
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
