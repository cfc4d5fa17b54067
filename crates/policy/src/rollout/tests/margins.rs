//! How canaries fare by what they do worse, in parts of what is tolerated: nothing, half of it, all of it, twice as much and four times.

use super::super::*;
use super::{N_ROLLOUTS, Tally, documented, grouped, simulated};
use crate::random::Random;

/// What the stable revision does, and what is tolerated beside it.
struct World {
    /// As the table of docs/rollouts.md has it.
    name: &'static str,
    /// Whether it is slow requests that are looked at, and not errors.
    is_slow: bool,
    /// The stable revision's rate.
    stable: f64,
    /// What is tolerated of the canary.
    limit: f64,
    spec: fn() -> RolloutSpec,
}

const WORLDS: [World; 7] = [
    World {
        name: "0.1 % errors, 0.6 % tolerated",
        is_slow: false,
        stable: 0.001,
        limit: 0.006,
        spec: RolloutSpec::default,
    },
    World {
        name: "1 % errors, 1.5 % tolerated",
        is_slow: false,
        stable: 0.01,
        limit: 0.015,
        spec: RolloutSpec::default,
    },
    World {
        name: "10 % errors, 12.5 % tolerated",
        is_slow: false,
        stable: 0.1,
        limit: 0.125,
        spec: RolloutSpec::default,
    },
    World {
        name: "no errors, 0.5 % tolerated",
        is_slow: false,
        stable: 0.0,
        limit: 0.005,
        spec: RolloutSpec::default,
    },
    World {
        name: "0.5 % slow, 1 % tolerated",
        is_slow: true,
        stable: 0.005,
        limit: 0.01,
        spec: RolloutSpec::default,
    },
    World {
        name: "4 % slow, 5 % tolerated",
        is_slow: true,
        stable: 0.04,
        limit: 0.05,
        spec: RolloutSpec::default,
    },
    World {
        name: "1 % errors, nothing tolerated",
        is_slow: false,
        stable: 0.01,
        limit: 0.01,
        spec: || RolloutSpec {
            ratio_tolerated: 1.0,
            error_rate_margin: 0.0,
            ..RolloutSpec::default()
        },
    },
];

/// What the canary does worse, in parts of what is tolerated; where nothing is, in parts of the stable revision's own rate.
const HARMS: [f64; 5] = [0.0, 0.5, 1.0, 2.0, 4.0];
const REQUESTS_PER_SECOND: u64 = 50;

/// Returns how rollouts ended as a cell of the table: promoted, gone back, waiting, and within how many seconds half of all went back.
fn cell(ends: &Tally) -> String {
    let half = ends.half_back_within();
    let half = half.map_or(String::new(), |half| format!(" ({} s)", grouped(half)));
    let (promoted, back) = (ends.promoted, ends.rolled_back);
    format!(" {promoted} / {back} / {}{half} |", ends.undecided)
}

/// Draws how many of `n` happen, each with probability `rate`: by the gaps between them.
fn draw(random: &mut Random, n: u64, rate: f64) -> u64 {
    if rate <= 0.0 {
        return 0;
    }
    let (mut place, mut happened) = (0.0, 0);
    loop {
        place += ((1.0 - random.unit()).ln() / (-rate).ln_1p()).floor() + 1.0;
        if place > n as f64 {
            return happened;
        }
        happened += 1;
    }
}

fn run(world: &World, rate: f64) -> Tally {
    simulated(&(world.spec)(), |random, share, _| {
        let of_canary = draw(random, REQUESTS_PER_SECOND, share);
        let mut act = |requests, rate| {
            let struck = draw(random, requests, rate);
            let (errors, slow) = match world.is_slow {
                true => (0, struck),
                false => (struck, 0),
            };
            Counts {
                requests,
                errors,
                slow,
            }
        };
        Interval {
            stable: act(REQUESTS_PER_SECOND - of_canary, world.stable),
            canary: act(of_canary, rate),
        }
    })
}

/// How far a canary must be beyond what is tolerated so that nearly all that are go back within the hour, and what it may do worse without going back.
#[test]
fn canaries_go_back_for_what_is_beyond_the_margin_and_for_nothing_else() {
    let all = u32::try_from(N_ROLLOUTS).unwrap();
    let rows = WORLDS.map(|world| {
        let tolerated = world.limit - world.stable;
        let mut row = format!("| {} |", world.name);
        for harm in HARMS {
            let unit = match tolerated > 0.0 {
                true => tolerated,
                false => world.stable,
            };
            let ends = run(&world, world.stable + harm * unit);
            let seen = format!("{}, {harm}: {ends:?}", world.name);
            // Of those that are no worse `alpha`, of those within half of what is tolerated a twentieth, each and three standard deviations; at the very limit less than half.
            match harm {
                0.0 => assert!(ends.rolled_back <= 8, "{seen}"),
                0.5 if tolerated > 0.0 => assert!(ends.rolled_back <= 26, "{seen}"),
                1.0 if tolerated > 0.0 => assert!(ends.rolled_back < all / 2, "{seen}"),
                _ => assert!(ends.promoted == 0, "{seen}"),
            }
            if harm >= 4.0 {
                assert!(ends.rolled_back == all, "{seen}");
            }
            row.push_str(&cell(&ends));
        }
        row
    });
    documented(&rows);
}
