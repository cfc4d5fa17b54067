//! Rollout (serving.coracle.dev/v1alpha1): how new revisions of an InferenceService come to take its requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::Condition;

/// How new revisions of an InferenceService come to take its requests.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.RolloutSpec")]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// The InferenceService, of the same namespace, whose new revisions this is about. Of several Rollouts of one service the oldest decides.
    pub inference_service: String,
    /// The stages, in order, one at least; after the last the new revision takes all requests. Default: 5, 25 and 50 percent, for five minutes each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<RolloutStep>>,
    /// What the new revision must live up to, beside the one that serves. Default: no more errors and no slower, each as the fields of it have it by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<RolloutAnalysis>,
    /// Whether no stage ends for the time being; a new revision that is worse goes back all the same. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// A stage of a rollout.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.RolloutStep")]
#[serde(rename_all = "camelCase")]
pub struct RolloutStep {
    /// The new revision's share of the requests in percent, a whole number from 1 to 99, above that of the stage before.
    pub percent: i32,
    /// How long the stage lasts at least, such as 30s, 10m or 1h 30m; 365 days at most. Default: 0s, which is no longer than its requests take to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// What the new revision must live up to, beside the one that serves.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.RolloutAnalysis")]
#[serde(rename_all = "camelCase")]
pub struct RolloutAnalysis {
    /// The largest probability that a revision that is no worse goes back, over the whole rollout; above 0 and below 1. Default: 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Requests that the new revision must have had in a stage before it goes on, 0 at least; without latencyMax the one that serves must have had as many before
    /// the first stage. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_min: Option<i64>,
    /// How many times the rate (of errors, of slow requests) of the revision that serves is still no regression, 1 to 1000. Default: 1.25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_tolerated: Option<f64>,
    /// By how much the share of requests that fail may be higher besides, 0 at least and below 1: 0.005 is half a percentage point. Default: 0.005.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate_margin: Option<f64>,
    /// The percentile of latency that is watched, a whole number from 50 to 99. Default: 99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_percentile: Option<i32>,
    /// What is slow, such as 50ms, above 0. Rounded up to a bound of the histogram of latencies (1, 2.5, 5, 10 microseconds and so on, up to 10 s). Default: what the
    /// percentile of the revision that serves was when the rollout began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_max: Option<String>,
    /// How long a stage may last beyond its duration, such as 1h, before the new revision goes back for want of a result; before the first stage, from when the
    /// revision is there. 365 days at most. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Whom errors, latency, predictions and outcomes are judged by, and who stays with one revision while shares do not change. Default: the header or cookie that a `serving.coracle.dev/sticky`
    /// annotation of the service splits requests by; without one each request is a unit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<RolloutUnit>,
    /// Metrics that the new revision must not make worse, 16 at most. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<RolloutMetric>>,
    /// How differently the new revision may predict. Default: as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<RolloutPredictions>,
}

/// What of a request is its unit: exactly one of the two.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.RolloutUnit")]
#[serde(rename_all = "camelCase")]
pub struct RolloutUnit {
    /// The value of the header of this name, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The value of the cookie of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
}

/// A metric that the new revision must not make worse.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.RolloutMetric")]
#[serde(rename_all = "camelCase")]
pub struct RolloutMetric {
    /// Its name, of 1 to 128 bytes without control characters, which outcomes have too; no two metrics have one name.
    pub name: String,
    /// Of outcomes, which are told: Conversion (1 if any outcome of a unit is above 0, else 0), Sum or Mean of a unit's. Or Prometheus: a number that is asked for
    /// there.
    #[serde(rename = "type")]
    pub metric_type: String,
    /// Which numbers are better: Higher or Lower. Default: Higher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<String>,
    /// By how much the new revision may be worse than the one that serves, in the metric's own unit: of Conversion a difference of shares, above 0 and below 1; of Sum
    /// and Mean above 0; of Prometheus 0 at least, and then the query must have `{{revision}}` in it, or `bound` says what is allowed instead. Default: 0.02 of
    /// Conversion; of others there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Of outcomes: units that either revision must have in a stage before the new one goes on, 2 at least. Default: requestsMin, and at least 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units_min: Option<i64>,
    /// Of outcomes: whether a unit without an outcome is left out (Exclude) or counts as 0 (Zero). Default: Exclude.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Of Prometheus, which needs it: where that is, such as `http://prometheus:9090`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Of Prometheus, which needs it: the query, of 8192 bytes at most, which gives one number. `{{revision}}`, `{{service}}` and `{{namespace}}` in it stand for
    /// names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Of Prometheus: what the new revision's number must not be worse than, instead of `margin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Of Prometheus: how long after one question the next one is, such as 1m; 1s at least. Default: 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Of Prometheus: how long it may take to answer, 1ms to 30s. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Of Prometheus: how many answers a stage needs, and after how many bad ones in a row the new revision goes back, 1 to 1000. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks: Option<i32>,
}

/// How differently the new revision may predict.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.RolloutPredictions")]
#[serde(rename_all = "camelCase")]
pub struct RolloutPredictions {
    /// The largest population stability index, of any output, that is no difference that matters; above 0. Default: 0.25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability_index_max: Option<f64>,
}

/// How a rollout stands.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.RolloutStatus")]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Waiting, Idle, Progressing, Paused, Promoted or RolledBack.
    #[serde(default)]
    pub phase: String,
    /// Why, in a sentence with the numbers.
    #[serde(default)]
    pub message: String,
    /// The number of the stage, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// The new revision's share of the requests, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
    /// The revision that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,
    /// The revision on trial, or the last one that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_revision: Option<String>,
    /// Since when that revision is there, in ms since 1970, while it is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_since_ms: Option<u64>,
    /// How long it was there before its first stage while the control process looked and the service was not stopped, in ms; absent in a stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_lasted_ms: Option<u64>,
    /// Whether this rollout decides about its service (`Accepted`), and whether the last command had its effect (`CommandTaken`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How each comparison stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<RolloutCheck>,
    /// What a control process that is started anew goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<RolloutProgress>,
    /// The generation of the object that this state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// How a comparison stands.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.RolloutCheck")]
#[serde(rename_all = "camelCase")]
pub struct RolloutCheck {
    /// What is compared: errors, latency, predictions or the name of a metric.
    pub name: String,
    /// Passed, Doubtful, Failed or TooFew.
    pub state: String,
    /// The rate of the revision that serves, in this stage.
    pub stable: f64,
    /// The new revision's.
    pub canary: f64,
    /// The evidence of a regression, over the whole rollout: 1 is none.
    pub evidence: f64,
    /// The evidence from which on it is believed.
    pub needed: f64,
    /// All of it in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A rollout in the middle of a stage.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.RolloutProgress")]
#[serde(rename_all = "camelCase")]
pub struct RolloutProgress {
    /// When the stage began, in ms since 1970.
    pub step_began_ms: u64,
    /// How long it has lasted while the control process looked and the service was not stopped, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_ms: Option<u64>,
    /// What took longer than so many ns is slow; absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_ns: Option<u64>,
    /// Requests of this stage, errors and slow ones, of the revision that serves.
    pub stable: [u64; 3],
    /// The new revision's.
    pub canary: [u64; 3],
    /// The logarithms of the likelihood ratios of errors: against the ratio that is tolerated, the margin, and the rate that is allowed whatever else is.
    pub errors: Vec<f64>,
    /// Those of slow requests.
    pub slowness: Vec<f64>,
    /// Of each number that is asked for: answers of this stage, and how many of the last were bad in a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<[u32; 2]>,
    /// A mark of the metrics that the stage is held to: with others it begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
}
