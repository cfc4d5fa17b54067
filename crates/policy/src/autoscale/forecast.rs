//! Prediction of load that recurs: a seasonal profile, corrected by how today compares with it.
//!
//! The profile holds, for each piece of a season, an exponentially weighted mean over past seasons (a seasonal-naive forecast with
//! memory). Today's level is the ratio of what came lately to what the profile said. A forecast is given only while it has
//! explained the load better than its mean would have (skill below). Memory is fixed: at most 1,440 pieces, and 2,880 minutes
//! where the season's length is to be found.

use std::time::Duration;

use super::decision::Predicted;
use super::spec::{Metric, Period, Prediction};
use super::window::Sample;

mod demand;
mod period;
mod season;

use demand::Demand;
use period::Detector;
pub use season::Learnt;
use season::Season;

/// Predicts one revision's metric.
#[derive(Clone, Debug)]
pub(crate) struct Forecaster {
    prediction: Prediction,
    demand: Demand,
    detector: Option<Detector>,
    season: Option<Season>,
}

impl Forecaster {
    pub(crate) fn new(prediction: Prediction) -> Self {
        let (detector, season) = match prediction.period {
            Period::Detected => (Some(Detector::new()), None),
            Period::Given(period) => (None, Some(Season::new(period.as_secs().max(1)))),
        };
        Self {
            prediction,
            demand: Demand::default(),
            detector,
            season,
        }
    }

    /// Returns what is known of the season at `now`.
    pub(crate) fn learnt(&self, now: Duration) -> Option<Learnt> {
        let season = self.season.as_ref()?;
        Some(season.learnt(now.as_secs()))
    }

    /// Goes on with what was known `age` ago; says whether it is of use.
    pub(crate) fn resume(&mut self, now: Duration, learnt: &Learnt, age: Duration) -> bool {
        let is_ours = match self.prediction.period {
            Period::Detected => true,
            Period::Given(period) => period.as_secs() == learnt.period.as_secs(),
        };
        let season = Season::resume(now.as_secs(), learnt, age.as_secs());
        match season.filter(|_| is_ours) {
            Some(season) => {
                self.season = Some(season);
                true
            }
            None => false,
        }
    }

    pub(crate) fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// Takes what was done in the second that ends at `now`; `value` is the metric's.
    pub(crate) fn observe(&mut self, now: Duration, metric: Metric, sample: &Sample, value: f64) {
        if let Some(asked) = self.demand.observe(metric, sample, value) {
            self.learn(now.as_secs(), asked);
        }
    }

    fn learn(&mut self, second: u64, value: f64) {
        if let Some(season) = &mut self.season {
            season.observe(second, value);
        }
        let Some(detector) = &mut self.detector else {
            return;
        };
        if let Some(found) = detector.observe(second, value) {
            let is_good = |season: &Season| season.period() == found || season.is_trusted();
            if !self.season.as_ref().is_some_and(is_good) {
                let mut season = Season::new(found);
                for (second, value) in detector.history() {
                    season.observe(second, value);
                }
                self.season = Some(season);
            }
        }
    }

    /// Returns the most that the metric is predicted to be from `now` to the lead; `None` without a season that can be trusted.
    pub(crate) fn predict(&self, now: Duration) -> Option<Predicted> {
        let season = self.season.as_ref().filter(|season| season.is_trusted())?;
        let (second, value) = season.peak(now.as_secs(), self.prediction.lead.as_secs())?;
        Some(Predicted {
            value,
            ahead: Duration::from_secs(second.saturating_sub(now.as_secs())),
            period: Duration::from_secs(season.period()),
        })
    }
}

#[cfg(test)]
mod tests;
