//! The profile of one season, today's level, and whether the two can be trusted.

use std::time::Duration;

/// The most pieces a season is cut into.
const PIECES_MAX: u64 = 1_440;
/// The shortest piece, in seconds: shorter ones would learn noise.
const PIECE_SECONDS_MIN: u64 = 5;
/// How much a new season counts against the older ones.
const SEASON_WEIGHT: f64 = 0.4;
/// How much a piece counts against the older ones in today's level.
const LEVEL_WEIGHT: f64 = 0.1;
/// Today's level is held within these.
const LEVEL_MIN: f64 = 0.5;
const LEVEL_MAX: f64 = 2.0;
/// The share of the load's variance that forecasts must have explained to be trusted.
const SKILL_MIN: f64 = 0.3;

/// What a prediction has learnt of a season, to be kept while the process that predicts is restarted. Plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Learnt {
    /// The length of the season, in whole seconds.
    pub period: Duration,
    /// How much of the season had passed when this was taken.
    pub phase: Duration,
    /// The demand of each piece of the season; NaN where it is not known.
    pub profile: Vec<f32>,
    /// The mean demand.
    pub mean: f64,
    /// How many forecasts were scored.
    pub n_scored: u64,
    /// The mean square of their errors.
    pub forecast_error: f64,
    /// The mean square of the errors that the mean would have made.
    pub mean_error: f64,
}

/// Learns one season.
#[derive(Clone, Debug)]
pub(crate) struct Season {
    period: u64,
    /// How much of the season had passed at the clock's start.
    phase: u64,
    piece_seconds: u64,
    /// Mean of each piece; NaN where it was never seen.
    profile: Vec<f32>,
    open: Option<OpenPiece>,
    mean: f64,
    n_scored: u64,
    /// Weighted means of squared errors of the forecast, and of the mean as a forecast.
    forecast_error: f64,
    mean_error: f64,
    recent_actual: f64,
    recent_profile: f64,
}

/// The piece that is being observed.
#[derive(Clone, Copy, Debug)]
struct OpenPiece {
    /// Its number, counted from the clock's start.
    number: u64,
    sum: f64,
    n_seconds: u32,
}

impl Season {
    pub(crate) fn new(period: u64) -> Self {
        let piece_seconds = period.div_ceil(PIECES_MAX).max(PIECE_SECONDS_MIN);
        Self {
            period,
            phase: 0,
            piece_seconds,
            profile: vec![f32::NAN; period.div_ceil(piece_seconds) as usize],
            open: None,
            mean: 0.0,
            n_scored: 0,
            forecast_error: 0.0,
            mean_error: 0.0,
            recent_actual: 0.0,
            recent_profile: 0.0,
        }
    }

    /// Returns what is known at `now`.
    pub(crate) fn learnt(&self, now: u64) -> Learnt {
        Learnt {
            period: Duration::from_secs(self.period),
            phase: Duration::from_secs((now + self.phase) % self.period),
            profile: self.profile.clone(),
            mean: self.mean,
            n_scored: self.n_scored,
            forecast_error: self.forecast_error,
            mean_error: self.mean_error,
        }
    }

    /// Returns a season that goes on at `now` with what was known `age` ago; `None` if the numbers cannot be right.
    pub(crate) fn resume(now: u64, learnt: &Learnt, age: u64) -> Option<Self> {
        let mut season = Self::new(learnt.period.as_secs().max(1));
        let numbers = [learnt.mean, learnt.forecast_error, learnt.mean_error];
        let is_demand = |value: &f32| value.is_nan() || (value.is_finite() && *value >= 0.0);
        let is_sound = learnt.profile.len() == season.profile.len()
            && learnt.profile.iter().all(is_demand)
            && numbers
                .into_iter()
                .all(|number| number.is_finite() && number >= 0.0);
        if !is_sound {
            return None;
        }
        let passed = (learnt.phase.as_secs() % season.period + age % season.period) % season.period;
        season.phase = (passed + season.period - now % season.period) % season.period;
        season.profile.clone_from(&learnt.profile);
        season.mean = learnt.mean;
        season.n_scored = learnt.n_scored;
        season.forecast_error = learnt.forecast_error;
        season.mean_error = learnt.mean_error;
        Some(season)
    }

    pub(crate) fn period(&self) -> u64 {
        self.period
    }

    pub(crate) fn observe(&mut self, second: u64, value: f64) {
        let number = second / self.piece_seconds;
        if let Some(open) = self.open
            && number > open.number
        {
            self.close(open);
            self.open = None;
        }
        let open = self.open.get_or_insert(OpenPiece {
            number,
            sum: 0.0,
            n_seconds: 0,
        });
        open.sum += value;
        open.n_seconds += 1;
    }

    fn close(&mut self, piece: OpenPiece) {
        let value = piece.sum / f64::from(piece.n_seconds);
        let index = self.index(piece.number * self.piece_seconds);
        let known = f64::from(self.profile[index]);
        let weight = 1.0 / self.profile.len() as f64;
        let toward = |old: &mut f64, new: f64, weight: f64| *old += weight * (new - *old);
        if known.is_nan() {
            self.profile[index] = value as f32;
        } else {
            let weight = weight.max(1.0 / (self.n_scored + 1) as f64);
            let forecast = known * self.level();
            toward(&mut self.forecast_error, (value - forecast).powi(2), weight);
            toward(&mut self.mean_error, (value - self.mean).powi(2), weight);
            toward(&mut self.recent_actual, value, LEVEL_WEIGHT);
            toward(&mut self.recent_profile, known, LEVEL_WEIGHT);
            self.n_scored += 1;
            self.profile[index] = (known + SEASON_WEIGHT * (value - known)) as f32;
        }
        toward(&mut self.mean, value, weight);
    }

    /// Returns how today compares with the profile.
    fn level(&self) -> f64 {
        let level = self.recent_actual / self.recent_profile;
        if level.is_finite() {
            level.clamp(LEVEL_MIN, LEVEL_MAX)
        } else {
            1.0
        }
    }

    /// Says whether forecasts have lately been worth more than the mean, over at least a quarter of a season.
    pub(crate) fn is_trusted(&self) -> bool {
        let is_known = self.n_scored >= (self.profile.len() / 4) as u64;
        is_known && self.forecast_error < (1.0 - SKILL_MIN) * self.mean_error
    }

    /// Returns the greatest forecast in the next `lead` seconds, and the first second for which it holds.
    pub(crate) fn peak(&self, now: u64, lead: u64) -> Option<(u64, f64)> {
        let first = now / self.piece_seconds;
        let last = (now + lead) / self.piece_seconds;
        let last = last.min(first + self.profile.len() as u64);
        let mut peak: Option<(u64, f64)> = None;
        for number in first..=last {
            let start = number * self.piece_seconds;
            let value = f64::from(self.profile[self.index(start)]) * self.level();
            if !value.is_nan() && peak.is_none_or(|(_, most)| value > most) {
                peak = Some((start.max(now), value));
            }
        }
        peak
    }

    fn index(&self, second: u64) -> usize {
        ((second + self.phase) % self.period / self.piece_seconds) as usize
    }
}
