//! A decision with the numbers behind it, and the sentence that tells them.

use std::fmt;
use std::time::Duration;

use super::spec::Metric;

/// Which window decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The stable window.
    Stable,
    /// The panic window, if it asks for more; nothing is taken away.
    Panic,
}

impl Mode {
    /// Returns the mode's name in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Panic => "panic",
        }
    }
}

/// How many replicas there are to be, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// How many replicas there are to be.
    pub desired: u32,
    /// Which window decides.
    pub mode: Mode,
    /// The metric that was looked at.
    pub metric: Metric,
    /// Its average over the stable window, in the metric's unit, all replicas together.
    pub stable_value: f64,
    /// Its average over the panic window.
    pub panic_value: f64,
    /// What each replica is to have of it.
    pub target_per_replica: f64,
    /// What was wanted before the fewest, the most, the initial number and the way to zero were looked at.
    pub wanted_before_bounds: u32,
    /// How many more requests the ready replicas could take beyond a burst; -1 or less: the gateway must hold requests.
    pub excess_burst_capacity: i64,
    /// What the metric is predicted to reach within the lead, if the prediction can be trusted.
    pub predicted: Option<Predicted>,
    /// When the last replica goes if nothing asks for one until then.
    pub scale_to_zero_at: Option<Duration>,
    /// Why.
    pub reason: Reason,
}

/// The most that the metric is predicted to be within the lead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// The metric's value, all replicas together.
    pub value: f64,
    /// How long it is until then.
    pub ahead: Duration,
    /// The length of a season.
    pub period: Duration,
}

/// Where the number came from, and every rule that changed it, in the order in which they did.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// What was asked for first.
    pub basis: Basis,
    /// What changed it.
    pub adjustments: Vec<Adjustment>,
}

/// What was asked for before any rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// Nothing was measured for a stable window: the number stays.
    NoData {
        /// The number.
        replicas: u32,
    },
    /// The metric's average over a window, divided by the target of a replica and rounded up.
    Average {
        /// The metric.
        metric: Metric,
        /// Its average.
        value: f64,
        /// Over this window.
        window: Duration,
        /// The target of a replica.
        target: f64,
        /// The quotient, rounded up.
        replicas: u32,
    },
    /// A resource is so near its target that the ready replicas stay.
    WithinTolerance {
        /// The metric.
        metric: Metric,
        /// Its average.
        value: f64,
        /// What the ready replicas are to have together.
        target: f64,
        /// The ready replicas.
        replicas: u32,
    },
}

/// A rule that changed the number, and to what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adjustment {
    /// More than `max-scale-up-rate` allows from the ready replicas.
    ScaleUpRate {
        /// The number after.
        to: u32,
    },
    /// Less than `max-scale-down-rate` allows from the ready replicas.
    ScaleDownRate {
        /// The number after.
        to: u32,
    },
    /// There is load, so there are to be `activation-scale` replicas.
    ActivationScale {
        /// The number after.
        to: u32,
    },
    /// In panic nothing is taken away.
    PanicHold {
        /// The number after.
        to: u32,
    },
    /// Requests are held because there is no replica.
    Woken {
        /// The requests held.
        waiting: u32,
        /// The number after.
        to: u32,
    },
    /// The 99th percentile of latency asks for more.
    Latency {
        /// The percentile, if there were requests.
        p99: Option<Duration>,
        /// Its target.
        target: Duration,
        /// The number after.
        to: u32,
    },
    /// The requests waiting ask for more.
    QueueDepth {
        /// Requests waiting, per ready replica.
        per_replica: f64,
        /// Their target.
        target: f64,
        /// The number after.
        to: u32,
    },
    /// The prediction asks for more.
    Predicted {
        /// The prediction.
        predicted: Predicted,
        /// The number after.
        to: u32,
    },
    /// So many were wanted within `scale-down-delay`.
    ScaleDownDelay {
        /// The delay.
        delay: Duration,
        /// The number after.
        to: u32,
    },
    /// So many are to have been ready once.
    InitialScale {
        /// The number after.
        to: u32,
    },
    /// The fewest.
    MinScale {
        /// The number after.
        to: u32,
    },
    /// The most.
    MaxScale {
        /// The number after.
        to: u32,
    },
    /// Resources cannot tell that nobody asks, so a replica stays.
    NeverZero,
    /// The last replica stays for now.
    KeptUntil {
        /// When it goes, on the caller's clock.
        until: Duration,
        /// How long that is.
        remaining: Duration,
        /// The number after.
        to: u32,
    },
    /// Scaling to zero is off.
    ScaleToZeroOff,
}

impl Reason {
    /// Returns a name of the rule that decided, for metric labels and event reasons: one of a small closed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match (self.adjustments.last(), self.basis) {
            (Some(adjustment), _) => adjustment.label(),
            (None, Basis::NoData { .. }) => "NoData",
            (None, Basis::Average { .. }) => "Metric",
            (None, Basis::WithinTolerance { .. }) => "WithinTolerance",
        }
    }
}

impl Adjustment {
    fn label(&self) -> &'static str {
        match self {
            Self::ScaleUpRate { .. } => "ScaleUpRate",
            Self::ScaleDownRate { .. } => "ScaleDownRate",
            Self::ActivationScale { .. } => "ActivationScale",
            Self::PanicHold { .. } => "PanicHold",
            Self::Woken { .. } => "Woken",
            Self::Latency { .. } => "Latency",
            Self::QueueDepth { .. } => "QueueDepth",
            Self::Predicted { .. } => "Predicted",
            Self::ScaleDownDelay { .. } => "ScaleDownDelay",
            Self::InitialScale { .. } => "InitialScale",
            Self::MinScale { .. } => "MinScale",
            Self::MaxScale { .. } => "MaxScale",
            Self::NeverZero => "NeverZero",
            Self::KeptUntil { .. } => "KeptUntil",
            Self::ScaleToZeroOff => "ScaleToZeroOff",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.basis)?;
        for adjustment in &self.adjustments {
            write!(f, "; {adjustment}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoData { replicas } => {
                write!(f, "nothing measured yet, {replicas} as before")
            }
            Self::Average {
                metric,
                value,
                window,
                target,
                replicas,
            } => write!(
                f,
                "{} {} over {} / target {} per replica = {replicas}",
                metric.as_str(),
                Quantity(metric, value),
                Seconds(window),
                Quantity(metric, target)
            ),
            Self::WithinTolerance {
                metric,
                value,
                target,
                replicas,
            } => write!(
                f,
                "{} {} within 10 % of {}, the target of {replicas} replicas",
                metric.as_str(),
                Quantity(metric, value),
                Quantity(metric, target)
            ),
        }
    }
}

impl fmt::Display for Adjustment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ScaleUpRate { to } => write!(f, "at most {to} by the rate of scaling up"),
            Self::ScaleDownRate { to } => write!(f, "at least {to} by the rate of scaling down"),
            Self::ActivationScale { to } => write!(f, "raised to {to} by activation-scale"),
            Self::PanicHold { to } => write!(f, "kept at {to} while in panic"),
            Self::Woken { waiting, to } => {
                write!(f, "woken to {to} by {waiting} waiting requests")
            }
            Self::Latency { p99, target, to } => match p99 {
                Some(p99) => write!(
                    f,
                    "at least {to} for latency: p99 {} ms, target {} ms",
                    Short(p99.as_secs_f64() * 1e3),
                    Short(target.as_secs_f64() * 1e3)
                ),
                None => write!(f, "at least {to} for latency"),
            },
            Self::QueueDepth {
                per_replica,
                target,
                to,
            } => write!(
                f,
                "at least {to} for the queue: {} waiting per replica, target {}",
                Short(per_replica),
                Short(target)
            ),
            Self::Predicted { predicted, to } => write!(
                f,
                "raised to {to}: {} predicted in {} (season of {})",
                Short(predicted.value),
                Seconds(predicted.ahead),
                Seconds(predicted.period)
            ),
            Self::ScaleDownDelay { delay, to } => {
                write!(f, "kept at {to}, wanted within the last {}", Seconds(delay))
            }
            Self::InitialScale { to } => write!(f, "raised to {to} by initial-scale"),
            Self::MinScale { to } => write!(f, "raised to {to} by min-scale"),
            Self::MaxScale { to } => write!(f, "held at {to} by max-scale"),
            Self::NeverZero => write!(f, "1 stays: this metric does not scale to zero"),
            Self::KeptUntil { remaining, to, .. } => {
                write!(f, "{to} kept for another {}", Seconds(remaining))
            }
            Self::ScaleToZeroOff => write!(f, "1 stays: scaling to zero is off"),
        }
    }
}

/// A number with up to two decimals, none if whole.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A value of a metric with its unit.
struct Quantity(Metric, f64);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Metric::Concurrency | Metric::Rps => write!(f, "{}", Short(self.1)),
            Metric::Cpu => write!(f, "{} cores", Short(self.1)),
            Metric::Memory => write!(f, "{} MiB", Short(self.1 / 1_048_576.0)),
        }
    }
}

/// A duration in seconds with up to two decimals.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", Short(self.0.as_secs_f64()))
    }
}
