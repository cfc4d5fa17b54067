//! The hinge between what is wanted and what serves: the control side publishes plans, the data side follows them
//! and tells what it observed. Neither calls into the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use coracle_base::Code;
use serde::{Deserialize, Serialize};

use crate::PayloadLogging;
use crate::batch::BatchSettings;
use crate::experiment::{BookId, PlannedExperiment};
use crate::fallback::FallbackSettings;
use crate::flow::PlannedFlow;
use crate::process::{ProcessSpec, ProcessState};
use crate::response_cache::CacheSettings;
use crate::shadow::ShadowSettings;

/// A revision's name within its namespace; unique over time.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct RevisionId {
    /// The namespace.
    pub namespace: String,
    /// The name, such as `iris-predictor-00001`.
    pub name: String,
}

/// A service's name within its namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServiceId {
    /// The namespace.
    pub namespace: String,
    /// The name, which is its model's name too.
    pub name: String,
}

macro_rules! as_text {
    ($id:ident) => {
        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $id {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let (namespace, name) = text.split_once('/').ok_or("no NAMESPACE/NAME")?;
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
        }
    };
}

as_text!(RevisionId);
as_text!(ServiceId);

fn write_code<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}

fn read_code<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
    let text = String::deserialize(deserializer)?;
    let code = Code::ALL.into_iter().find(|code| code.as_str() == text);
    code.ok_or_else(|| serde::de::Error::custom("no failure code"))
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is to be served: an immutable snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The revisions to hold in memory.
    pub revisions: BTreeMap<RevisionId, PlannedRevision>,
    /// How requests are split.
    pub routes: BTreeMap<ServiceId, PlannedRoute>,
    /// Where requests take several models; what has a flow here and a route is asked by the flow.
    pub flows: BTreeMap<ServiceId, PlannedFlow>,
    /// The books of experiments that are there and of canaries that are not over, in force or not: the files of others go. `None` where
    /// nothing is known of that: then all stay.
    pub books: Option<BTreeSet<BookId>>,
}

impl Plan {
    /// Returns the books that are needed: those of routes are, whatever else is said.
    pub(crate) fn books_needed(&self) -> Option<BTreeSet<BookId>> {
        let mut books = self.books.clone()?;
        for (id, route) in &self.routes {
            let planned = route.experiments.iter();
            books.extend(planned.map(|planned| BookId::of(&id.namespace, planned)));
        }
        Some(books)
    }
}

/// A revision to hold in memory.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PlannedRevision {
    /// The name under which requests ask for the model.
    pub model_name: String,
    /// Where its files are and how they are read.
    pub source: RevisionSource,
    /// Counts the tries to load it; a higher number is a new try after a failure.
    pub attempt: u32,
    /// The number of execution lanes; all of them share the one loaded model. With none, the model is let go of, and
    /// loaded again for the next request.
    pub replicas: u32,
    /// How many calls each lane runs at a time; `None` for any number.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// How long a request may take; `None` for what the gateway allows.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// What is recorded of its requests and answers.
    #[serde(default)]
    pub payloads: Option<PayloadLogging>,
    /// How its calls wait for each other; `None` if they do not.
    #[serde(default)]
    pub batching: Option<BatchSettings>,
    /// How its answers are kept for requests that come again; `None` if they are not.
    #[serde(default)]
    pub response_cache: Option<CacheSettings>,
}

impl PlannedRevision {
    /// Returns how many calls may run at a time with `replicas` lanes; `None` for any number.
    pub(crate) fn places(&self, replicas: u32) -> Option<usize> {
        let places = self.concurrency?.saturating_mul(replicas.max(1));
        Some(usize::try_from(places).unwrap_or(usize::MAX))
    }
}

/// Where a revision's files are and how they are read.
#[derive(Clone, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct RevisionSource {
    /// The storage URI; of several places, all their URIs, for people to read.
    pub uri: String,
    /// The places, where there are several; empty if `uri` is the only one.
    #[serde(default)]
    pub places: Vec<SourcePlace>,
    /// The format's name, such as `sklearn`.
    pub format: String,
    /// The environment of the predictor's container, such as `PREDICT_PROBA`.
    pub environment: BTreeMap<String, String>,
    /// The data of the secret with the credentials.
    pub secret_data: BTreeMap<String, String>,
    /// The annotations of the secret with the credentials.
    pub secret_annotations: BTreeMap<String, String>,
    /// What runs, if it is served by processes of its own instead of an engine within this one. Then the URI may be
    /// empty: the program needs no files.
    #[serde(default)]
    pub process: Option<Box<ProcessSpec>>,
}

/// One of several places of a revision's files.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct SourcePlace {
    /// The storage URI.
    pub uri: String,
    /// Where the files are wanted, such as `/mnt/models/tokenizer`.
    pub mount_path: String,
}

impl fmt::Debug for RevisionSource {
    // Secrets do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevisionSource")
            .field("uri", &self.uri)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// How a service's requests are split.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PlannedRoute {
    /// The targets; their percentages sum to 100. None where no revision has been ready yet: then only what stands in answers.
    pub targets: Vec<PlannedTarget>,
    /// What keeps a caller with one target; without it requests are spread evenly.
    #[serde(default)]
    pub sticky: Option<Sticky>,
    /// Whether what the targets answer is compared: then which of them takes a request is drawn.
    #[serde(default)]
    pub is_compared: bool,
    /// Which trial of a rollout its targets are in; 0 is none. What began in another one is not compared.
    #[serde(default)]
    pub trial: u64,
    /// Who gets copies of the requests; `None` for nobody.
    #[serde(default)]
    pub shadow: Option<ShadowSettings>,
    /// What is done where a model fails; `None` for nothing.
    #[serde(default)]
    pub fallback: Option<FallbackSettings>,
    /// The experiments that requests take part in, in the order in which they are asked.
    #[serde(default)]
    pub experiments: Vec<PlannedExperiment>,
    /// The predictors of a SeldonDeployment that its targets are, where there are several.
    #[serde(default)]
    pub predictors: Vec<PlannedPredictor>,
    /// Without targets, what is told instead; `None` where no revision has been ready yet.
    #[serde(default)]
    pub absence: Option<Absence>,
}

/// Why a service that is there answers nothing.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Absence {
    /// The name that its model would be asked by.
    pub model: String,
    /// What whoever asks is told.
    pub why: String,
}

/// One of several predictors of a SeldonDeployment, each of which is one model.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PlannedPredictor {
    /// Its name.
    pub name: String,
    /// The name of its graph's only node.
    pub node: String,
    /// Those of the route's targets that are it.
    pub revisions: Vec<String>,
}

/// What of a request decides which target takes it: equal values go to the same target for as long as the split
/// stays, and only towards a target whose share grows.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Sticky {
    /// The value of a header; the name is in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
}

/// A revision's share of requests.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PlannedTarget {
    /// The revision's name.
    pub revision: String,
    /// The share, 0 to 100.
    pub percent: u8,
    /// Names under which the revision can be asked directly.
    pub tags: Vec<String>,
}

/// What the data side knows of a plan's revisions and routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Every revision of the last plan.
    pub revisions: BTreeMap<RevisionId, RevisionState>,
    /// The routes that requests are split by now.
    pub routes: BTreeMap<ServiceId, PlannedRoute>,
    /// The flows that requests are led through by now.
    pub flows: BTreeMap<ServiceId, PlannedFlow>,
    /// The replicas of those that are served by processes.
    pub processes: BTreeMap<RevisionId, Vec<ProcessState>>,
    /// Why the default predictions of services are none that their models could give.
    pub misfits: BTreeMap<ServiceId, String>,
}

/// The state of a revision.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum RevisionState {
    /// It waits for its turn, is fetched, or is built.
    Loading {
        /// What is being done.
        progress: String,
    },
    /// It can take requests.
    Ready {
        /// The memory it holds.
        memory_bytes: usize,
        /// The number of its execution lanes. None while it is let go of; a request that loads it makes it one,
        /// whatever the plan says.
        replicas: u32,
    },
    /// It could not be loaded.
    Failed {
        /// The try that failed.
        attempt: u32,
        /// What happened.
        failure: LoadFailure,
    },
}

/// Why a revision could not be loaded.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct LoadFailure {
    /// The kind of failure; `DeadlineExceeded` for a process that was not ready in time.
    #[serde(serialize_with = "write_code", deserialize_with = "read_code")]
    pub code: Code,
    /// What happened, and what to do about it.
    pub message: String,
    /// Whether another try may go better.
    pub is_transient: bool,
}
