//! Finds the length of a season in two days of minutes, by correlation of the load with itself.

use std::collections::VecDeque;

/// How many minutes are remembered: two of the longest season.
const MINUTES_MAX: usize = 2 * 1_440;
/// Lengths of season that are looked for, in minutes, shortest first.
const CANDIDATES: [usize; 13] = [5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1_440];
/// How many seasons must have been seen; fewer only if more do not fit.
const SEASONS_MIN: usize = 3;
/// Minutes between two searches.
const SEARCH_MINUTES: u64 = 10;
/// The least correlation of the load with itself one season ago.
const CORRELATION_MIN: f64 = 0.5;
/// How much less it must be at a quarter, half or three quarters of the season: a slow curve resembles itself at every short distance.
const DIP_MIN: f64 = 0.3;
/// A shorter season is preferred to a longer one that is better by no more than this.
const PREFERENCE: f64 = 0.1;

/// Watches the load for seasons.
#[derive(Clone, Debug)]
pub(crate) struct Detector {
    /// Means of past minutes, oldest first.
    minutes: VecDeque<f32>,
    /// The minute that is being observed, with the sum and number of its seconds.
    open: Option<(u64, f64, u32)>,
}

impl Detector {
    pub(crate) fn new() -> Self {
        Self {
            minutes: VecDeque::new(),
            open: None,
        }
    }

    /// Takes a second's load; every ten minutes returns the length of the season in seconds, if there is one.
    pub(crate) fn observe(&mut self, second: u64, value: f64) -> Option<u64> {
        let minute = second / 60;
        let mut found = None;
        match self.open {
            Some((open, sum, n_seconds)) if minute > open => {
                self.push((sum / f64::from(n_seconds)) as f32);
                // Minutes that nobody told about repeat the last: at most all that fit.
                for _ in (open + 1..minute).take(MINUTES_MAX) {
                    self.push(self.minutes.back().copied().unwrap_or(0.0));
                }
                if minute.is_multiple_of(SEARCH_MINUTES) {
                    found = self.search();
                }
                self.open = Some((minute, value, 1));
            }
            Some((open, sum, n_seconds)) => self.open = Some((open, sum + value, n_seconds + 1)),
            None => self.open = Some((minute, value, 1)),
        }
        found
    }

    /// Returns the remembered minutes as seconds with their loads, oldest first.
    pub(crate) fn history(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        let open = self.open.map_or(0, |(minute, ..)| minute);
        let first = open.saturating_sub(self.minutes.len() as u64);
        let minutes = self.minutes.iter().zip(first..);
        minutes.flat_map(|(value, minute)| {
            (minute * 60..(minute + 1) * 60).map(|second| (second, f64::from(*value)))
        })
    }

    fn push(&mut self, value: f32) {
        if self.minutes.len() == MINUTES_MAX {
            self.minutes.pop_front();
        }
        self.minutes.push_back(value);
    }

    fn search(&mut self) -> Option<u64> {
        let minutes: &[f32] = self.minutes.make_contiguous();
        let mut good: Vec<(usize, f64)> = Vec::new();
        for candidate in CANDIDATES {
            if minutes.len() < (SEASONS_MIN * candidate).min(MINUTES_MAX) {
                break;
            }
            let Some(here) = correlation(minutes, candidate) else {
                continue;
            };
            let between = [candidate / 4, candidate / 2, candidate * 3 / 4];
            let dips = between.map(|lag| correlation(minutes, lag).unwrap_or(1.0));
            let lowest = dips.into_iter().fold(1.0, f64::min);
            if here >= CORRELATION_MIN && here - lowest >= DIP_MIN {
                good.push((candidate, here));
            }
        }
        let best = good.iter().map(|(_, here)| *here).fold(0.0, f64::max);
        let found = good.iter().find(|(_, here)| *here >= best - PREFERENCE)?;
        Some(found.0 as u64 * 60)
    }
}

/// Returns Pearson's correlation of a series with itself `lag` earlier; `None` if one of the two is constant.
fn correlation(series: &[f32], lag: usize) -> Option<f64> {
    let earlier = series.get(..series.len().checked_sub(lag)?)?;
    let later = series.get(lag..)?;
    let n = earlier.len() as f64;
    let mean = |side: &[f32]| side.iter().map(|value| f64::from(*value)).sum::<f64>() / n;
    let (mean_earlier, mean_later) = (mean(earlier), mean(later));
    let (mut product, mut square_earlier, mut square_later) = (0.0, 0.0, 0.0);
    for (earlier, later) in earlier.iter().zip(later) {
        let (x, y) = (
            f64::from(*earlier) - mean_earlier,
            f64::from(*later) - mean_later,
        );
        product += x * y;
        square_earlier += x * x;
        square_later += y * y;
    }
    let scale = (square_earlier * square_later).sqrt();
    (scale > 1e-9 * n).then(|| product / scale)
}
