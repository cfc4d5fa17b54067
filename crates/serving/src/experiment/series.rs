//! What looks at an experiment have come to over time, for the plot.

use coracle_policy::experiment::Effect;
use serde::{Deserialize, Serialize};

use super::PlannedMetric;

/// The most points that are kept of a comparison; then every second one goes.
const POINTS_MAX: usize = 400;

/// The looks at one comparison.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Series {
    pub(super) variant: String,
    /// What is looked at; of another definition the looks say nothing.
    pub(super) metric: PlannedMetric,
    pub(super) alpha: f64,
    pub(super) points: Vec<Point>,
}

/// A look at a comparison.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// When, in ms since 1970.
    pub at: u64,
    /// The variant's mean less the control's.
    #[serde(with = "super::number")]
    pub difference: f64,
    /// The bounds of the confidence sequence.
    #[serde(with = "super::number")]
    pub low: f64,
    /// The upper one.
    #[serde(with = "super::number")]
    pub high: f64,
}

impl Series {
    pub(super) fn new(variant: &str, metric: &PlannedMetric, alpha: f64) -> Self {
        Self {
            variant: variant.to_owned(),
            metric: metric.clone(),
            alpha,
            points: Vec::new(),
        }
    }

    /// Tells whether its looks are at this.
    pub(super) fn is_of(&self, variant: &str, metric: &PlannedMetric, alpha: f64) -> bool {
        // The role and the margin of a guardrail change nothing of the interval.
        let same = |metric: &PlannedMetric| PlannedMetric {
            role: super::MetricRole::Secondary,
            margin: 0.0,
            ..metric.clone()
        };
        self.variant == variant
            && same(&self.metric) == same(metric)
            && (self.alpha - alpha).abs() < f64::EPSILON
    }

    /// Takes a look.
    pub(super) fn push(&mut self, at: u64, effect: Effect) {
        let (low, high) = (effect.interval.low, effect.interval.high);
        if self.points.len() >= POINTS_MAX {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.points.push(Point {
            at,
            difference: effect.difference,
            low,
            high,
        });
    }
}
