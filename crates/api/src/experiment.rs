//! Experiment (serving.coracle.dev/v1alpha1): which of several models answers a unit, what came of it, and which is better.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::Condition;

/// Which of several models answers a unit (a user, a session), what came of it, and which is better.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentSpec")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentSpec {
    /// The InferenceService, of the same namespace, whose requests take part.
    pub inference_service: String,
    /// What of a request is its unit.
    pub unit: ExperimentUnit,
    /// The variants, 2 to 16, each with a name of its own and, unless mode is AA, a model of its own.
    pub variants: Vec<ExperimentVariant>,
    /// The name of the variant that the others are compared with, and that requests without a unit get. Default: that of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// AB, or AA: then the service itself answers for all variants, and there must be no difference. Default: AB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What the hashes of units are salted with: another salt is another split, with nothing known of it. 1 to 253 bytes. Default: the namespace and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// How many percent of all units take part, 0 to 100, fractions too; when it grows, those who are in stay in. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// The part of a group of experiments that never share a unit. Default: none, and then it is the only experiment of its service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusion_group: Option<ExperimentSlice>,
    /// The names of variants by unit, for testers, 1000 at most; such units are not analysed. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<BTreeMap<String, String>>,
    /// How variants are chosen. Default: by hashing the unit, with the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<ExperimentAllocation>,
    /// What is looked at, 32 metrics at most. The first one is what bandits are rewarded by. Default: none, and then only the split is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<ExperimentMetric>>,
    /// How it is judged. Default: as the fields of it have it by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<ExperimentAnalysis>,
    /// What is done by itself. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<ExperimentPromotion>,
}

/// What of a request is its unit: exactly one of these.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentUnit")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentUnit {
    /// The value of the header of this name, in whatever case (metadata of gRPC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The value of the cookie of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// This field of a JSON body, such as user.id; a text or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// This parameter of a V2 request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The first element of this input: of V2 (JSON, binary data, gRPC), of V1 by columns or of its first row of named features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

/// A variant. Without revision and inferenceService the service itself answers, as its own split says.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentVariant")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentVariant {
    /// Its name, which its units hang on: a renamed variant is a new one. 1 to 63 ASCII letters, digits, '-', '_' and '.'.
    pub name: String,
    /// Its weight, a whole number from 0 to 1000000; weights need not sum to anything, but one of them is above 0. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// The revision of the service that answers, such as iris-predictor-00002 (`kubectl get revisions`). Default: none in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The InferenceService, of the same namespace, that answers, instead of a revision. Default: the experiment's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_service: Option<String>,
}

/// A part of a group of experiments that never share a unit.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentSlice")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentSlice {
    /// The group's name, of 1 to 253 bytes; groups are of a namespace.
    pub name: String,
    /// Where the part of the units begins, in percent, from 0 to 100; the parts of one group must not overlap.
    pub from_percent: f64,
    /// Where it ends, in percent, above fromPercent and 100 at most.
    pub to_percent: f64,
}

/// How variants are chosen.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentAllocation")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentAllocation {
    /// Fixed, EpsilonGreedy, Thompson, UCB1 or LinUCB. All but Fixed choose for each request, by what the first metric has earned; LinUCB by the request's
    /// features, too.
    pub strategy: String,
    /// Of EpsilonGreedy: the share of requests, 0 to 1, for which any variant is chosen. Default: 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Of all but Fixed: the share of requests, 0 to 1, for which any variant is chosen whatever the strategy says, so that none is forgotten. Default: 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// Of LinUCB: how much uncertainty is worth, 0 to 100. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Of LinUCB, which needs them: numbers of the request that it chooses by, 1 to 16, best of a magnitude of about 1. A request without one of them gets the
    /// control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<ExperimentFeature>>,
}

/// A number of a request, from exactly one place.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentFeature")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentFeature {
    /// Its name, which what was learnt hangs on: 1 to 63 ASCII letters, digits, '-', '_' and '.', but for `constant`.
    pub name: String,
    /// The value of the header of this name, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// This field of a JSON body, such as user.age; true counts as 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// This parameter of a V2 request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The first element of this input: of V2 (JSON, binary data, gRPC), of V1 by columns or of its first row of named features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

/// A metric of units.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentMetric")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentMetric {
    /// Its name, of 1 to 128 bytes without control characters, which outcomes have too; no two metrics have one name.
    pub name: String,
    /// What a unit's value is: Conversion (1 if any outcome is above 0, else 0), Sum, Mean, Ratio (its sum over that of the denominator), Errors (its failed
    /// requests over all of its requests) or Latency (seconds for each request); the last two are measured here.
    #[serde(rename = "type")]
    pub metric_type: String,
    /// Of a Ratio: the name of the metric below the line. Default: the unit's requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denominator: Option<String>,
    /// What is known of a unit from before, by which its value is adjusted (CUPED): the name of the metric whose last outcome it is; of a Conversion, Sum or Mean. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covariate: Option<String>,
    /// Whether a unit without an outcome is left out (Exclude) or counts as 0 (Zero). Default: Exclude.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// How long after a unit's first request its outcomes count, such as 7d, above 0 and 365 days at most, and of a Ratio to requests its requests; of a Conversion, Sum, Mean or Ratio. Units are compared once their windows have closed, so variants whose outcomes come
    /// later look no worse; of a Conversion each variant's rate has a confidence sequence by betting, too. Of a bandit, how long after the request that is credited. Default: outcomes always count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Which numbers are better: Higher or Lower. Default: Higher, of Errors and Latency Lower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<String>,
    /// What it decides: Primary (by it a variant is better), Secondary (nothing, it is only shown) or Guardrail (whether a variant harms). Default: of the first Primary, of Errors and Latency Guardrail, else Secondary. A bandit compares nothing, and has no
    /// guardrails: there Errors and Latency are Secondary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The difference that matters, in the metric's own unit: intervals are narrowest for differences of about that size. Of Conversion and Errors a difference of shares,
    /// above 0 and below 1; of others, which need it, above 0 (of Latency in seconds). Default: 0.02 of Conversion, 0.01 of Errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_difference: Option<f64>,
    /// By how much a guardrail may be worse, in the metric's own unit, 0 at least. Default: expectedDifference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

/// How an experiment is judged.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentAnalysis")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentAnalysis {
    /// The largest probability that no difference is taken for one, however often one looks; above 0 and below 1. Default: 0.05.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// How p-values are corrected for several metrics and variants: BenjaminiHochberg, Bonferroni or None. Default: BenjaminiHochberg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<String>,
    /// Units that each variant must have before one is better, 0 at least. Default: 100. Of each metric 100 of them at least must have a value. Harm is told sooner: of shares at once, else from 20 units on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units_min: Option<i64>,
}

/// What is done by itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentPromotion")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentPromotion {
    /// Never, or Better: a variant that is better in every primary metric, at any time, gets all requests. Default: Never, which is all that
    /// a bandit may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// How long the experiment must have run before, such as 7d; 365 days at most. Default: 0s, which is no longer than it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What is done when a guardrail is harmed: Wait (nothing), or Stop (the control gets all requests). Default: Wait, which is all that a bandit may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_harm: Option<String>,
}

/// How an experiment stands.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentStatus")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentStatus {
    /// Waiting, Running, Promoted or Stopped.
    #[serde(default)]
    pub phase: String,
    /// Why, in a sentence with the numbers.
    #[serde(default)]
    pub message: String,
    /// What the analysis says: Wait, Mismatch, Harm or Better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The variant that the verdict is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict_variant: Option<String>,
    /// The variant that gets all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<String>,
    /// Why it gets them: `by hand`, or the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner_why: Option<String>,
    /// Each variant's units and requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<ExperimentVariantStatus>,
    /// Requests without a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unassigned_requests: Option<u64>,
    /// When it began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Whether it is in force (`InForce`; if not, its requests go as the service itself says), and whether all that answers for its variants is ready
    /// (`VariantsReady`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Where its report is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The generation of the object that this state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// How a variant stands.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.coracle.serving.v1alpha1.ExperimentVariantStatus")]
#[serde(rename_all = "camelCase")]
pub struct ExperimentVariantStatus {
    /// Its name.
    pub name: String,
    /// The units that are analysed.
    pub units: u64,
    /// Its requests.
    pub requests: u64,
}
