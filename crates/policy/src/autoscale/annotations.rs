//! Annotations that configure autoscaling: their names, aliases and how their values are read.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::go_duration;
use crate::SpecError;

/// Knative's prefix.
const KNATIVE: &str = "autoscaling.knative.dev/";
/// The prefix of our extensions.
const OURS: &str = "serving.coracle.dev/autoscale-";

/// An annotation, under its name and the aliases that Knative accepts for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    prefix: &'static str,
    /// The name proper, then the alias.
    spellings: [&'static str; 2],
}

const fn knative(name: &'static str, alias: &'static str) -> Name {
    Name {
        prefix: KNATIVE,
        spellings: [name, alias],
    }
}

const fn ours(name: &'static str) -> Name {
    Name {
        prefix: OURS,
        spellings: [name, name],
    }
}

pub(crate) const CLASS: Name = knative("class", "class");
pub(crate) const METRIC: Name = knative("metric", "metric");
pub(crate) const TARGET: Name = knative("target", "target");
pub(crate) const MIN_SCALE: Name = knative("min-scale", "minScale");
pub(crate) const MAX_SCALE: Name = knative("max-scale", "maxScale");
pub(crate) const INITIAL_SCALE: Name = knative("initial-scale", "initialScale");
pub(crate) const ACTIVATION_SCALE: Name = knative("activation-scale", "activationScale");
pub(crate) const SCALE_DOWN_DELAY: Name = knative("scale-down-delay", "scaleDownDelay");
pub(crate) const WINDOW: Name = knative("window", "window");
pub(crate) const PANIC_WINDOW: Name = knative("panic-window-percentage", "panicWindowPercentage");
pub(crate) const PANIC_THRESHOLD: Name =
    knative("panic-threshold-percentage", "panicThresholdPercentage");
pub(crate) const TARGET_UTILIZATION: Name = knative(
    "target-utilization-percentage",
    "targetUtilizationPercentage",
);
pub(crate) const TARGET_BURST_CAPACITY: Name =
    knative("target-burst-capacity", "targetBurstCapacity");
pub(crate) const RETENTION: Name = knative(
    "scale-to-zero-pod-retention-period",
    "scaleToZeroPodRetentionPeriod",
);
pub(crate) const AGGREGATION: Name =
    knative("metric-aggregation-algorithm", "metricAggregationAlgorithm");
pub(crate) const TARGET_P99: Name = ours("target-p99");
pub(crate) const TARGET_QUEUE_DEPTH: Name = ours("target-queue-depth");
pub(crate) const PREDICTIVE: Name = ours("predictive");
pub(crate) const PREDICTIVE_LEAD: Name = ours("predictive-lead");

pub(crate) const ALL: [Name; 19] = [
    CLASS,
    METRIC,
    TARGET,
    MIN_SCALE,
    MAX_SCALE,
    INITIAL_SCALE,
    ACTIVATION_SCALE,
    SCALE_DOWN_DELAY,
    WINDOW,
    PANIC_WINDOW,
    PANIC_THRESHOLD,
    TARGET_UTILIZATION,
    TARGET_BURST_CAPACITY,
    RETENTION,
    AGGREGATION,
    TARGET_P99,
    TARGET_QUEUE_DEPTH,
    PREDICTIVE,
    PREDICTIVE_LEAD,
];

impl Name {
    fn matches(self, full: &str) -> bool {
        let name = full.strip_prefix(self.prefix);
        name.is_some_and(|name| self.spellings.contains(&name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, self.spellings[0])
    }
}

/// The annotations of one object that are about autoscaling.
#[derive(Debug)]
pub(crate) struct Annotations<'a> {
    values: BTreeMap<&'a str, &'a str>,
}

/// Says whether an annotation is in an autoscaling namespace but is none that is known, such as a misspelt one.
///
/// Knative ignores such annotations without a word; a caller may warn about them. Unknown ones in our own namespace are errors.
#[must_use]
pub fn is_unknown_annotation(name: &str) -> bool {
    (name.starts_with(KNATIVE) || name.starts_with(OURS))
        && !ALL.iter().any(|known| known.matches(name))
}

impl<'a> Annotations<'a> {
    /// Picks the annotations about autoscaling.
    ///
    /// # Errors
    /// If there is an unknown one in our own namespace.
    pub(crate) fn try_new(
        all: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SpecError> {
        let is_ours = |name: &str| name.starts_with(KNATIVE) || name.starts_with(OURS);
        let values: BTreeMap<_, _> = all.into_iter().filter(|(name, _)| is_ours(name)).collect();
        if let Some(name) = values
            .keys()
            .find(|name| name.starts_with(OURS) && is_unknown_annotation(name))
        {
            let known = ALL.iter().filter(|known| known.prefix == OURS);
            let known: Vec<String> = known.map(ToString::to_string).collect();
            return Err(SpecError::new(format!(
                "annotation {name} is not known; known are {}",
                known.join(", ")
            )));
        }
        Ok(Self { values })
    }

    /// Returns the value of an annotation; the name proper wins over its alias.
    pub(crate) fn text(&self, name: Name) -> Option<&'a str> {
        name.spellings.iter().find_map(|spelling| {
            let full = format!("{}{spelling}", name.prefix);
            self.values.get(full.as_str()).copied()
        })
    }

    /// Returns a finite number in `[min, max]`.
    pub(crate) fn number(
        &self,
        name: Name,
        (min, max): (f64, f64),
    ) -> Result<Option<f64>, SpecError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => Ok(Some(number)),
            None if max == f64::MAX => refuse(name, text, &format!("a number of at least {min}")),
            None => refuse(name, text, &format!("a number from {min} to {max}")),
        }
    }

    /// Returns a whole number of at least `min` that fits 31 bits.
    pub(crate) fn count(&self, name: Name, min: u32) -> Result<Option<u32>, SpecError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse::<u32>().ok();
        match number.filter(|number| (min..=i32::MAX as u32).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => refuse(
                name,
                text,
                &format!("a whole number from {min} to {}", i32::MAX),
            ),
        }
    }

    /// Returns a duration in `[min, max]`; whole seconds only, if `whole_seconds`.
    pub(crate) fn duration(
        &self,
        name: Name,
        range: DurationRange,
    ) -> Result<Option<Duration>, SpecError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let duration = go_duration::parse(text).filter(|duration| range.contains(*duration));
        match duration {
            Some(duration) => Ok(Some(duration)),
            None => refuse(name, text, &range.to_string()),
        }
    }

    /// Returns which of `allowed` an annotation names.
    pub(crate) fn choice<T: Copy>(
        &self,
        name: Name,
        allowed: &[(&str, T)],
    ) -> Result<Option<T>, SpecError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match allowed.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let words: Vec<&str> = allowed.iter().map(|(word, _)| *word).collect();
                refuse(name, text, &words.join(" or "))
            }
        }
    }
}

/// Which durations an annotation takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurationRange {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    /// Whether it must be whole seconds.
    pub(crate) whole_seconds: bool,
}

impl DurationRange {
    pub(crate) fn contains(self, duration: Duration) -> bool {
        let is_precise = !self.whole_seconds || duration.subsec_nanos() == 0;
        is_precise && (self.min..=self.max).contains(&duration)
    }
}

impl fmt::Display for DurationRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.whole_seconds {
            ", in whole seconds"
        } else {
            ""
        };
        write!(f, "a duration from {:?} to {:?}{unit}", self.min, self.max)
    }
}

/// Returns the error that `name` has a value that is not allowed.
pub(crate) fn refuse<T>(name: Name, text: &str, allowed: &str) -> Result<T, SpecError> {
    Err(SpecError::new(format!(
        "annotation {name}: {text:?} is not {allowed}"
    )))
}
