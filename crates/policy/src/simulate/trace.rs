//! Loads to try an autoscaler on.

use std::time::Duration;

use crate::random::Random;

const MINUTE: u64 = 60;
/// Seed of the noise, apart from that of the requests.
const NOISE_SEED: u64 = 11;

/// How many requests come when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// 8 requests per second for 10 minutes, 48 for 20, none for 10.
    Step,
    /// From 4 to 64 requests per second in 20 minutes and back in 10.
    Ramp,
    /// 6 requests per second, and 60 for 3 minutes out of every 20; 2 hours.
    Spike,
    /// A day in an hour, five times: 4 at night, 64 at noon, a steep morning.
    Diurnal,
    /// From 4 to 60 requests per second in 10 minutes, then at once to 4 again; 80 minutes.
    Sawtooth,
    /// 30 requests per second, of which every 10 seconds half, one and a half or anything between come; an hour.
    Noise,
}

impl Trace {
    /// Every trace, in declaration order.
    pub const ALL: [Self; 6] = [
        Self::Step,
        Self::Ramp,
        Self::Spike,
        Self::Diurnal,
        Self::Sawtooth,
        Self::Noise,
    ];

    /// Returns the trace's name in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Ramp => "ramp",
            Self::Spike => "spike",
            Self::Diurnal => "diurnal",
            Self::Sawtooth => "sawtooth",
            Self::Noise => "noise",
        }
    }

    /// Returns how long the trace is.
    #[must_use]
    pub fn length(self) -> Duration {
        let minutes = match self {
            Self::Step => 40,
            Self::Ramp => 30,
            Self::Spike => 120,
            Self::Diurnal => 300,
            Self::Sawtooth => 80,
            Self::Noise => 60,
        };
        Duration::from_secs(minutes * MINUTE)
    }

    /// Returns after how long the load recurs, if it does.
    #[must_use]
    pub fn season(self) -> Option<Duration> {
        let minutes = match self {
            Self::Spike => 20,
            Self::Diurnal => 60,
            Self::Sawtooth => 10,
            Self::Step | Self::Ramp | Self::Noise => return None,
        };
        Some(Duration::from_secs(minutes * MINUTE))
    }

    /// Returns how many requests come on average in a second.
    #[must_use]
    pub fn requests_per_second(self, second: u64) -> f64 {
        let share = |length: u64| (second % length) as f64 / length as f64;
        match self {
            Self::Step => match second / MINUTE {
                0..10 => 8.0,
                10..30 => 48.0,
                _ => 0.0,
            },
            Self::Ramp if second < 20 * MINUTE => 4.0 + 60.0 * share(20 * MINUTE),
            Self::Ramp => 64.0 - 60.0 * (second - 20 * MINUTE) as f64 / (10 * MINUTE) as f64,
            Self::Spike if second % (20 * MINUTE) >= 17 * MINUTE => 60.0,
            Self::Spike => 6.0,
            Self::Diurnal => {
                let wave = 0.5 - 0.5 * (share(60 * MINUTE) * std::f64::consts::TAU).cos();
                4.0 + 60.0 * wave.powi(3)
            }
            Self::Sawtooth => 4.0 + 56.0 * share(10 * MINUTE),
            Self::Noise => {
                let piece = second / 10;
                30.0 * (0.5 + Random::new(NOISE_SEED.wrapping_add(piece)).unit())
            }
        }
    }
}
