//! What an autoscaler is told to do: the parameters with Knative's defaults, and how they follow from a KServe manifest.

use std::time::Duration;

use super::annotations::{self, Annotations, DurationRange, Name, refuse};
use super::go_duration;
use crate::SpecError;

/// The shortest and longest window of Knative.
const WINDOW_MIN: Duration = Duration::from_secs(6);
const WINDOW_MAX: Duration = Duration::from_secs(3_600);
/// The least target of Knative.
const TARGET_MIN: f64 = 0.01;
/// What Kubernetes' HPA aims at if nothing is said, as a share of what a replica asks for.
const UTILIZATION_DEFAULT: f64 = 0.8;
/// How long Kubernetes' HPA waits before it takes replicas away.
const HPA_SCALE_DOWN_DELAY: Duration = Duration::from_secs(300);
/// What KServe's runtimes ask for if the manifest does not say.
const CPU_REQUEST_CORES: f64 = 1.0;
const MEMORY_REQUEST_BYTES: f64 = 2.0 * 1_073_741_824.0;
const MIB: f64 = 1_048_576.0;
/// Shortest and longest season of a prediction.
const PERIOD_MIN: Duration = Duration::from_secs(60);
const PERIOD_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What a revision is scaled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests in flight, those waiting for a place included.
    Concurrency,
    /// Requests finished per second.
    Rps,
    /// Processor time used by all replicas, in cores.
    Cpu,
    /// Memory used by all replicas, in bytes.
    Memory,
}

impl Metric {
    /// Returns the metric's name in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Rps => "rps",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    /// Says whether the metric follows Kubernetes' HPA (resources) and not Knative's KPA (requests).
    #[must_use]
    pub fn is_resource(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory)
    }
}

/// How the seconds of a window become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// The mean over the seconds of the window that have passed since the first sample.
    Linear,
    /// A mean in which newer seconds weigh more.
    WeightedExponential,
}

/// Where the length of a season comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Found in the history, among the lengths that people's habits and timers have (5 minutes to a day).
    Detected,
    /// Given; 1 minute to 7 days.
    Given(Duration),
}

/// How load is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The length of a season.
    pub period: Period,
    /// How far ahead replicas are wanted: at least the time that one needs to become ready. 1 s to 1 h; 30 s by default.
    pub lead: Duration,
}

/// Everything that a decision depends on besides what was seen. Defaults are Knative's.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoscaleSpec {
    /// What is measured. Default: concurrency.
    pub metric: Metric,
    /// How much of the metric a replica takes when full: requests, requests per second, cores or bytes. Default: 100 requests.
    pub total_per_replica: f64,
    /// The share of `total_per_replica` that is aimed at, in `(0, 1]`. Default: 0.7.
    pub target_utilization: f64,
    /// The fewest replicas; 0 allows none. Default: 1, as KServe has it.
    pub min_replicas: u32,
    /// The most replicas; 0 means no bound. Default: 0. Bounds everything else, `initial_replicas` included.
    pub max_replicas: u32,
    /// The fewest replicas until so many have been ready once. Default: 1.
    pub initial_replicas: u32,
    /// The fewest replicas while there is any load. Default: 1.
    pub activation_replicas: u32,
    /// The window of decisions in stable mode: 6 s to 1 h. Default: 60 s.
    pub stable_window: Duration,
    /// The window of decisions in panic mode, at least 1 s. Default: 6 s.
    pub panic_window: Duration,
    /// Panic begins when the panic window wants so many times the ready replicas. Default: 2.
    pub panic_threshold: f64,
    /// A decision wants at most so many times the ready replicas. Default: 1000.
    pub scale_up_rate_max: f64,
    /// A decision wants at least the ready replicas divided by this. Default: 2.
    pub scale_down_rate_max: f64,
    /// A smaller number must be wanted for so long before it is decided. Default: 0 (300 s for cpu and memory, as HPA has it).
    pub scale_down_delay: Duration,
    /// Requests that may come in a burst before the gateway must hold them; 0 never holds, -1 always. Default: 211.
    pub target_burst_capacity: f64,
    /// How the seconds of a window become one number. Default: linear.
    pub aggregation: Aggregation,
    /// Whether a revision without load loses its last replica, if `min_replicas` is 0. Default: yes.
    pub scale_to_zero: bool,
    /// How long requests have gone through the gateway's queue before the last replica goes. Default: 30 s.
    pub scale_to_zero_grace_period: Duration,
    /// How long the last replica is kept after a whole stable window without load. Default: 0 s.
    pub pod_retention_period: Duration,
    /// How long a revision may take to become ready before it is given up, if nobody asks for it any more. Default: 630 s.
    pub activation_deadline: Duration,
    /// The 99th percentile of latency that is to be kept by more replicas. Default: none.
    pub latency_p99_target: Option<Duration>,
    /// The requests waiting per ready replica that are to be kept by more replicas. Default: none.
    pub queue_depth_target: Option<f64>,
    /// Whether and how load is predicted. Default: not.
    pub prediction: Option<Prediction>,
}

impl Default for AutoscaleSpec {
    fn default() -> Self {
        Self {
            metric: Metric::Concurrency,
            total_per_replica: 100.0,
            target_utilization: 0.7,
            min_replicas: 1,
            max_replicas: 0,
            initial_replicas: 1,
            activation_replicas: 1,
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            panic_threshold: 2.0,
            scale_up_rate_max: 1_000.0,
            scale_down_rate_max: 2.0,
            scale_down_delay: Duration::ZERO,
            target_burst_capacity: 211.0,
            aggregation: Aggregation::Linear,
            scale_to_zero: true,
            scale_to_zero_grace_period: Duration::from_secs(30),
            pod_retention_period: Duration::ZERO,
            activation_deadline: Duration::from_secs(630),
            latency_p99_target: None,
            queue_depth_target: None,
            prediction: None,
        }
    }
}

/// What a component of a KServe manifest says about its scaling; absent fields are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ComponentScaling<'a> {
    /// `minReplicas`.
    pub min_replicas: Option<i32>,
    /// `maxReplicas`.
    pub max_replicas: Option<i32>,
    /// `scaleTarget`.
    pub scale_target: Option<i32>,
    /// `scaleMetric`.
    pub scale_metric: Option<Metric>,
    /// `scaleMetricType`: `Utilization` or `AverageValue`; of use to cpu and memory.
    pub scale_metric_type: Option<&'a str>,
    /// `containerConcurrency`; 0 is no limit.
    pub container_concurrency: Option<i64>,
    /// The cores that a replica asks for; 1 if absent.
    pub cpu_request_cores: Option<f64>,
    /// The bytes of memory that a replica asks for; 2 GiB if absent.
    pub memory_request_bytes: Option<f64>,
}

impl AutoscaleSpec {
    /// Reads a component's scaling and the annotations of its service, by the rules of KServe's Knative mode.
    ///
    /// Fields win over annotations. Other annotations than those about autoscaling are passed over.
    ///
    /// # Errors
    /// If a value is outside what Knative allows, or an annotation of ours is unknown. The message names it and says what is allowed.
    pub fn try_new<'a>(
        component: ComponentScaling<'_>,
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SpecError> {
        let annotations = Annotations::try_new(annotations)?;
        let mut spec = Self::default();
        spec.read_bounds(&component, &annotations)?;
        spec.read_metric(&component, &annotations)?;
        spec.read_windows(&annotations)?;
        spec.read_extensions(&annotations)?;
        Ok(spec)
    }

    /// Returns how much of the metric each replica is to have.
    #[must_use]
    pub fn target_per_replica(&self) -> f64 {
        (self.total_per_replica * self.target_utilization).max(TARGET_MIN)
    }

    /// Returns `replicas` held within the least and the most; the most wins.
    #[must_use]
    pub fn bound(&self, replicas: u32) -> u32 {
        self.at_most(replicas.max(self.min_replicas))
    }

    pub(crate) fn at_most(&self, replicas: u32) -> u32 {
        match self.max_replicas {
            0 => replicas,
            most => replicas.min(most),
        }
    }

    fn read_bounds(
        &mut self,
        component: &ComponentScaling<'_>,
        annotations: &Annotations<'_>,
    ) -> Result<(), SpecError> {
        let min = field("minReplicas", component.min_replicas)?;
        let max = field("maxReplicas", component.max_replicas)?.filter(|max| *max > 0);
        let annotated_min = annotations.count(annotations::MIN_SCALE, 0)?;
        let annotated_max = annotations.count(annotations::MAX_SCALE, 0)?;
        self.min_replicas = min.or(annotated_min).unwrap_or(self.min_replicas);
        self.max_replicas = max.or(annotated_max).unwrap_or(self.max_replicas);
        if self.max_replicas > 0 && self.min_replicas > self.max_replicas {
            return Err(SpecError::new(format!(
                "the fewest replicas ({}) are more than the most ({})",
                self.min_replicas, self.max_replicas
            )));
        }
        if let Some(initial) = annotations.count(annotations::INITIAL_SCALE, 0)? {
            self.initial_replicas = initial;
        }
        if let Some(activation) = annotations.count(annotations::ACTIVATION_SCALE, 1)? {
            if self.at_most(activation) < activation {
                return refuse(
                    annotations::ACTIVATION_SCALE,
                    &activation.to_string(),
                    &format!("at most the most replicas ({})", self.max_replicas),
                );
            }
            self.activation_replicas = activation;
        }
        Ok(())
    }

    fn read_metric(
        &mut self,
        component: &ComponentScaling<'_>,
        annotations: &Annotations<'_>,
    ) -> Result<(), SpecError> {
        let is_hpa = annotations
            .choice(
                annotations::CLASS,
                &[
                    ("kpa.autoscaling.knative.dev", false),
                    ("hpa.autoscaling.knative.dev", true),
                ],
            )?
            .unwrap_or(false);
        let requests = [("concurrency", Metric::Concurrency), ("rps", Metric::Rps)];
        let all = [
            requests[0],
            requests[1],
            ("cpu", Metric::Cpu),
            ("memory", Metric::Memory),
        ];
        let allowed = if is_hpa { all.as_slice() } else { &requests };
        let annotated = annotations.choice(annotations::METRIC, allowed)?;
        let default = if is_hpa {
            Metric::Cpu
        } else {
            Metric::Concurrency
        };
        self.metric = component.scale_metric.or(annotated).unwrap_or(default);
        if let Some(utilization) =
            annotations.number(annotations::TARGET_UTILIZATION, (1.0, 100.0))?
        {
            self.target_utilization = utilization / 100.0;
        }
        let annotated = annotations.number(annotations::TARGET, (TARGET_MIN, f64::MAX))?;
        let target = match component.scale_target {
            Some(target) if target < 1 => {
                return Err(SpecError::new(format!(
                    "scaleTarget {target} is not a whole number of at least 1"
                )));
            }
            target => target.map(f64::from).or(annotated),
        };
        if self.metric.is_resource() {
            self.set_resource_target(component, target)?;
        } else {
            self.set_request_target(component.container_concurrency, target)?;
        }
        Ok(())
    }

    fn set_request_target(
        &mut self,
        container_concurrency: Option<i64>,
        target: Option<f64>,
    ) -> Result<(), SpecError> {
        let limit = match container_concurrency.unwrap_or(0) {
            0 => None,
            limit @ 1..=1_000 => Some(limit as f64),
            limit => {
                return Err(SpecError::new(format!(
                    "containerConcurrency {limit} is not a whole number from 0 to 1000"
                )));
            }
        };
        self.total_per_replica = match (self.metric, target, limit) {
            (Metric::Concurrency, Some(target), Some(limit)) => target.min(limit),
            (Metric::Concurrency, None, Some(limit)) => limit,
            (_, Some(target), _) => target,
            (Metric::Rps, None, _) => 200.0,
            (_, None, _) => self.total_per_replica,
        };
        Ok(())
    }

    fn set_resource_target(
        &mut self,
        component: &ComponentScaling<'_>,
        target: Option<f64>,
    ) -> Result<(), SpecError> {
        let (request, unit, type_default) = match self.metric {
            Metric::Memory if target.is_some() => (
                component
                    .memory_request_bytes
                    .unwrap_or(MEMORY_REQUEST_BYTES),
                MIB,
                "AverageValue",
            ),
            Metric::Memory => (
                component
                    .memory_request_bytes
                    .unwrap_or(MEMORY_REQUEST_BYTES),
                MIB,
                "Utilization",
            ),
            _ => (
                component.cpu_request_cores.unwrap_or(CPU_REQUEST_CORES),
                1.0,
                "Utilization",
            ),
        };
        self.scale_down_delay = HPA_SCALE_DOWN_DELAY;
        let metric = self.metric.as_str();
        match (component.scale_metric_type.unwrap_or(type_default), target) {
            ("Utilization", None) => {
                (self.total_per_replica, self.target_utilization) = (request, UTILIZATION_DEFAULT);
            }
            ("Utilization", Some(percent)) if (1.0..=100.0).contains(&percent) => {
                (self.total_per_replica, self.target_utilization) = (request, percent / 100.0);
            }
            ("Utilization", Some(percent)) => {
                return Err(SpecError::new(format!(
                    "target {percent} of {metric} is not a percentage from 1 to 100"
                )));
            }
            ("AverageValue", Some(value)) => {
                (self.total_per_replica, self.target_utilization) = (value * unit, 1.0);
            }
            ("AverageValue", None) => {
                return Err(SpecError::new(format!(
                    "scaleMetricType AverageValue of {metric} needs a scaleTarget"
                )));
            }
            (other, _) => {
                return Err(SpecError::new(format!(
                    "scaleMetricType {other:?} is neither Utilization nor AverageValue"
                )));
            }
        }
        Ok(())
    }

    fn read_windows(&mut self, annotations: &Annotations<'_>) -> Result<(), SpecError> {
        let seconds = |min, max| DurationRange {
            min,
            max,
            whole_seconds: true,
        };
        let any = |min, max| DurationRange {
            min,
            max,
            whole_seconds: false,
        };
        let set = |slot: &mut Duration, name: Name, range| -> Result<(), SpecError> {
            *slot = annotations.duration(name, range)?.unwrap_or(*slot);
            Ok(())
        };
        set(
            &mut self.stable_window,
            annotations::WINDOW,
            seconds(WINDOW_MIN, WINDOW_MAX),
        )?;
        set(
            &mut self.scale_down_delay,
            annotations::SCALE_DOWN_DELAY,
            seconds(Duration::ZERO, WINDOW_MAX),
        )?;
        set(
            &mut self.pod_retention_period,
            annotations::RETENTION,
            any(Duration::ZERO, WINDOW_MAX),
        )?;
        let percent = annotations.number(annotations::PANIC_WINDOW, (1.0, 100.0))?;
        let share = percent.unwrap_or(10.0) / 100.0;
        let panic_seconds = (self.stable_window.as_secs_f64() * share).round().max(1.0);
        self.panic_window = Duration::from_secs(panic_seconds as u64);
        if let Some(percent) = annotations.number(annotations::PANIC_THRESHOLD, (110.0, 1_000.0))? {
            self.panic_threshold = percent / 100.0;
        }
        let burst = annotations.number(annotations::TARGET_BURST_CAPACITY, (-1.0, f64::MAX))?;
        if let Some(burst) = burst {
            if burst < 0.0 && burst > -1.0 {
                return refuse(
                    annotations::TARGET_BURST_CAPACITY,
                    &burst.to_string(),
                    "-1 or a number of at least 0",
                );
            }
            self.target_burst_capacity = burst;
        }
        let algorithms = [
            ("linear", Aggregation::Linear),
            ("weighted-exponential", Aggregation::WeightedExponential),
            ("weightedExponential", Aggregation::WeightedExponential),
        ];
        if let Some(aggregation) = annotations.choice(annotations::AGGREGATION, &algorithms)? {
            self.aggregation = aggregation;
        }
        Ok(())
    }

    fn read_extensions(&mut self, annotations: &Annotations<'_>) -> Result<(), SpecError> {
        let range = |min, max| DurationRange {
            min,
            max,
            whole_seconds: false,
        };
        self.latency_p99_target = annotations.duration(
            annotations::TARGET_P99,
            range(Duration::from_millis(1), WINDOW_MAX),
        )?;
        self.queue_depth_target =
            annotations.number(annotations::TARGET_QUEUE_DEPTH, (TARGET_MIN, f64::MAX))?;
        let lead = annotations.duration(
            annotations::PREDICTIVE_LEAD,
            range(Duration::from_secs(1), WINDOW_MAX),
        )?;
        let period = match annotations.text(annotations::PREDICTIVE) {
            None | Some("off") => None,
            Some("auto") => Some(Period::Detected),
            Some(text) => {
                let given = go_duration::parse(text);
                match given.filter(|given| range(PERIOD_MIN, PERIOD_MAX).contains(*given)) {
                    Some(given) => Some(Period::Given(given)),
                    None => {
                        return refuse(
                            annotations::PREDICTIVE,
                            text,
                            "auto, off or the length of a season from 1m to 168h",
                        );
                    }
                }
            }
        };
        self.prediction = period.map(|period| Prediction {
            period,
            lead: lead.unwrap_or(Duration::from_secs(30)),
        });
        Ok(())
    }
}

/// Returns a count from a field of the manifest.
fn field(name: &str, value: Option<i32>) -> Result<Option<u32>, SpecError> {
    match value.map(u32::try_from) {
        None => Ok(None),
        Some(Ok(count)) => Ok(Some(count)),
        Some(Err(_)) => Err(SpecError::new(format!("{name} is less than 0"))),
    }
}

#[cfg(test)]
mod tests;
