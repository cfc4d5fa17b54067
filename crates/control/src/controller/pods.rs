//! Replicas as pods: one for each execution lane of a revision, for reading only.
//!
//! A lane is no container: all lanes of a revision share the process and the loaded model. The objects say so in an
//! annotation, and otherwise have the form that KServe's pods have, so that clients find what they look for.

mod process;

use std::time::Duration;

use coracle_api::kind::{POD, REVISION};
use coracle_serving::{LogSource, ProcessState, RevisionState};
use serde_json::{Map, Value, json};

pub(crate) use process::{INDEX, restarts};

use super::revisions::SERVICE_LABEL;
use crate::annotations::REPLICA as REPLICA_KIND;
use crate::object;
use crate::rest::rfc3339;

/// The label that names a pod's revision.
pub(crate) const REVISION_LABEL: &str = "serving.knative.dev/revision";

/// A revision whose replicas are shown.
pub(crate) struct Replicas<'a> {
    /// The revision's object.
    pub(crate) revision: &'a Value,
    pub(crate) uri: &'a str,
    /// How many there are to be.
    pub(crate) n_wanted: u32,
    pub(crate) state: Option<&'a RevisionState>,
    /// Those of a revision that is served by processes, as far as they are known.
    pub(crate) processes: Option<&'a [ProcessState]>,
    pub(crate) now: Duration,
}

/// What is shown of the container that answers.
struct Shown {
    is_ready: bool,
    /// Whether there is a process for it.
    is_running: bool,
    state: Value,
    last_state: Value,
    n_restarts: u64,
    id: String,
}

impl Replicas<'_> {
    /// Returns how many pods are shown: what is wanted; one that tells why, if it cannot be loaded.
    pub(crate) fn count(&self) -> u32 {
        match (self.processes, self.state) {
            (Some(processes @ [_, ..]), _) => u32::try_from(processes.len()).unwrap_or(u32::MAX),
            (None, Some(RevisionState::Ready { replicas, .. })) => *replicas,
            (Some([]), Some(RevisionState::Ready { .. })) => 0,
            _ => self.n_wanted.min(1),
        }
    }

    fn process(&self, index: u32) -> Option<&ProcessState> {
        self.processes?.get(usize::try_from(index).ok()?)
    }

    /// Returns the name of the replica at `index`; the same at every call.
    pub(crate) fn name(&self, index: u32) -> String {
        let uid = object::meta_str(self.revision, "uid").replace('-', "");
        let hash = uid.get(..10).unwrap_or("0000000000");
        let revision = object::name(self.revision);
        format!("{revision}-deployment-{hash}-{}", suffix(&uid, index))
    }

    /// Returns the pod of the replica at `index`; `before` is the one that is there.
    pub(crate) fn pod(&self, index: u32, before: Option<&Value>) -> Value {
        let mut pod = match before {
            Some(before) => before.clone(),
            None => self.new_pod(index),
        };
        if let Some(process) = self.process(index) {
            process::annotate(&mut pod, process, index);
        }
        pod["status"] = self.status(index, before);
        pod
    }

    fn new_pod(&self, index: u32) -> Value {
        let revision = object::name(self.revision);
        let service = object::text(self.revision, "labels", SERVICE_LABEL).unwrap_or_default();
        let uid = object::meta_str(self.revision, "uid");
        let template = self.revision.pointer("/spec/predictor");
        let model = template.and_then(|template| template.get("model"));
        let own = template.and_then(|template| template.pointer("/containers/0"));
        let field = |name: &str| own.or(model).and_then(|own| own.get(name)).cloned();
        let image = json!(concat!("coracle:", env!("CARGO_PKG_VERSION")));
        let own_image = match self.processes {
            // What runs in its place is the machine's own.
            Some(_) => field("image").unwrap_or_else(|| json!("none")),
            None => image.clone(),
        };
        let account = template.and_then(|template| template.get("serviceAccountName"));
        let (labels, annotations) = self.labels_and_annotations(service);
        json!({
            "apiVersion": POD.api_version(),
            "kind": POD.kind,
            "metadata": {
                "name": self.name(index),
                "generateName": format!("{revision}-deployment-"),
                "namespace": object::namespace(self.revision),
                "uid": uuid::Uuid::new_v4().to_string(),
                "creationTimestamp": rfc3339(self.now),
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [{
                    "apiVersion": REVISION.api_version(),
                    "kind": REVISION.kind,
                    "name": revision,
                    "uid": uid,
                    "controller": true,
                    "blockOwnerDeletion": true
                }]
            },
            "spec": {
                "initContainers": [{
                    "name": LogSource::Fetch.container(),
                    "image": image,
                    "args": [self.uri, "/mnt/models"]
                }],
                "containers": [{
                    "name": LogSource::Serve.container(),
                    "image": own_image,
                    "resources": field("resources").unwrap_or_else(|| json!({})),
                    "env": field("env").unwrap_or_else(|| json!([]))
                }],
                "nodeName": "localhost",
                "restartPolicy": "Always",
                "serviceAccountName": account.cloned().unwrap_or_else(|| json!("default"))
            }
        })
    }

    /// Returns the labels and annotations of every pod of the revision.
    fn labels_and_annotations(&self, service: &str) -> (Map<String, Value>, Map<String, Value>) {
        let revision = object::name(self.revision);
        // What the service's labels and annotations say is said of its replicas, too.
        let own = |field: &str| {
            let texts = object::texts(self.revision, field);
            let texts = texts.map(|(name, value)| (name.to_owned(), Value::from(value)));
            texts.collect::<Map<String, Value>>()
        };
        let (mut labels, mut annotations) = (own("labels"), own("annotations"));
        for (label, value) in [
            ("app", revision.to_owned()),
            ("component", "predictor".to_owned()),
            (REVISION_LABEL, revision.to_owned()),
            (
                "serving.knative.dev/service",
                format!("{service}-predictor"),
            ),
        ] {
            labels.insert(label.to_owned(), value.into());
        }
        let kind = match self.processes {
            Some(_) => "a process of the operating system with its descendants, under a guard",
            None => {
                "an execution lane of the serving process; all lanes of a revision share its model and its log"
            }
        };
        annotations.insert(REPLICA_KIND.to_owned(), kind.into());
        (labels, annotations)
    }

    /// Returns the state of the container, and how often it was started again.
    fn container_state(&self, started: Option<&Value>, n_restarts: u64) -> (Value, u64) {
        match self.state {
            Some(RevisionState::Ready { .. }) => {
                let now = rfc3339(self.now);
                let since = started.cloned().unwrap_or_else(|| now.into());
                (json!({"running": {"startedAt": since}}), n_restarts)
            }
            Some(RevisionState::Failed { attempt, failure }) => {
                let waiting = json!({"reason": "ModelLoadFailed", "message": failure.message});
                (
                    json!({"waiting": waiting}),
                    n_restarts.max(u64::from(*attempt)),
                )
            }
            Some(RevisionState::Loading { progress }) => {
                let waiting = json!({"reason": "PodInitializing", "message": progress});
                (json!({"waiting": waiting}), n_restarts)
            }
            None => (
                json!({"waiting": {"reason": "PodInitializing"}}),
                n_restarts,
            ),
        }
    }

    /// Returns what is shown of the container that answers.
    fn shown(&self, index: u32, before: Option<&Value>) -> Shown {
        if let Some(process) = self.process(index) {
            return process::shown(process);
        }
        let was = |pointer: &str| before.and_then(|pod| pod.pointer(pointer));
        let started = was("/status/containerStatuses/0/state/running/startedAt");
        let n_restarts = was("/status/containerStatuses/0/restartCount")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        let is_ready = matches!(self.state, Some(RevisionState::Ready { .. }));
        // What ran and is being loaded again was started again.
        let n_restarts = n_restarts + u64::from(started.is_some() && !is_ready);
        let (state, n_restarts) = self.container_state(started, n_restarts);
        Shown {
            is_ready,
            is_running: is_ready,
            state,
            last_state: json!({}),
            n_restarts,
            id: String::new(),
        }
    }

    fn status(&self, index: u32, before: Option<&Value>) -> Value {
        let now = rfc3339(self.now);
        let was = |pointer: &str| before.and_then(|pod| pod.pointer(pointer));
        let shown = self.shown(index, before);
        let is_ready = shown.is_ready;
        let container = |name: &str, ready: bool, state: Value, n_restarts: u64| {
            json!({
                "name": name,
                "ready": ready,
                "started": ready,
                "restartCount": n_restarts,
                "image": concat!("coracle:", env!("CARGO_PKG_VERSION")),
                "imageID": "",
                "state": state
            })
        };
        let ready = if is_ready { "True" } else { "False" };
        let scheduled = object::meta_str(before.unwrap_or(&Value::Null), "creationTimestamp");
        let scheduled = if scheduled.is_empty() {
            &now
        } else {
            scheduled
        };
        let fetch = json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": scheduled, "finishedAt": scheduled}});
        let condition = |name: &str, status: &str| {
            let conditions = was("/status/conditions").and_then(Value::as_array);
            let old = conditions
                .into_iter()
                .flatten()
                .find(|one| one["type"] == name && one["status"] == status);
            let since = old.and_then(|old| old.get("lastTransitionTime")).cloned();
            let since = since.unwrap_or_else(|| now.clone().into());
            json!({"type": name, "status": status, "lastProbeTime": null, "lastTransitionTime": since})
        };
        let mut main = container(
            LogSource::Serve.container(),
            is_ready,
            shown.state,
            shown.n_restarts,
        );
        main["started"] = shown.is_running.into();
        if shown.last_state != json!({}) {
            main["lastState"] = shown.last_state;
        }
        if !shown.id.is_empty() {
            main["containerID"] = shown.id.into();
        }
        json!({
            "phase": if shown.is_running { "Running" } else { "Pending" },
            "conditions": [
                condition("Initialized", "True"),
                condition("Ready", ready),
                condition("ContainersReady", ready),
                condition("PodScheduled", "True")
            ],
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "startTime": scheduled,
            "initContainerStatuses": [container(LogSource::Fetch.container(), true, fetch, 0)],
            "containerStatuses": [main],
            "qosClass": "BestEffort"
        })
    }
}

/// Returns five characters that differ with `index`, of Kubernetes' alphabet without vowels.
fn suffix(uid: &str, index: u32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // FNV-1a over both; the index alone decides the last two, so that no two replicas have one name.
    let bytes = uid.bytes().chain(index.to_le_bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut digits = vec![u64::from(index) % 27, u64::from(index) / 27 % 27];
    for _ in 0..3 {
        digits.push(hash % 27);
        hash /= 27;
    }
    let letters = digits
        .iter()
        .rev()
        .filter_map(|&digit| ALPHABET.get(usize::try_from(digit).ok()?));
    letters.map(|&letter| char::from(letter)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn revision() -> Value {
        json!({
            "metadata": {"name": "iris-predictor-00001", "namespace": "ml", "uid": "0a1b2c3d-4e5f-0000-0000-000000000000", "labels": {(SERVICE_LABEL): "iris"}},
            "spec": {"predictor": {"model": {"resources": {"limits": {"cpu": "1"}}}}}
        })
    }

    fn replicas<'a>(
        revision: &'a Value,
        state: Option<&'a RevisionState>,
        seconds: u64,
    ) -> Replicas<'a> {
        Replicas {
            revision,
            uri: "s3://b/m",
            n_wanted: 3,
            state,
            processes: None,
            now: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn names_differ_and_stay() {
        let revision = revision();
        let replicas = replicas(&revision, None, 0);
        let names: BTreeSet<String> = (0..200).map(|index| replicas.name(index)).collect();
        assert_eq!(names.len(), 200);
        assert_eq!(replicas.name(0), replicas.name(0));
        assert!(
            replicas
                .name(0)
                .starts_with("iris-predictor-00001-deployment-0a1b2c3d4e-"),
            "{}",
            replicas.name(0)
        );
    }

    #[test]
    fn a_pod_shows_what_its_revision_does() {
        let revision = revision();
        let ready = RevisionState::Ready {
            memory_bytes: 1,
            replicas: 3,
        };
        let loading = RevisionState::Loading {
            progress: "fetching s3://b/m: 50%".to_owned(),
        };
        let first = replicas(&revision, Some(&loading), 1).pod(0, None);
        assert_eq!(first["status"]["phase"], "Pending");
        let state = &first["status"]["containerStatuses"][0]["state"];
        assert_eq!(state["waiting"]["message"], "fetching s3://b/m: 50%");
        let running = replicas(&revision, Some(&ready), 2).pod(0, Some(&first));
        assert_eq!(running["status"]["phase"], "Running");
        let container = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
        assert_eq!(
            container(&running)["state"]["running"]["startedAt"],
            "1970-01-01T00:00:02Z"
        );
        // Nothing changes while it runs.
        assert_eq!(
            replicas(&revision, Some(&ready), 9).pod(0, Some(&running)),
            running
        );
        let again = replicas(&revision, Some(&loading), 10).pod(0, Some(&running));
        assert_eq!(container(&again)["restartCount"], 1);
        let still = replicas(&revision, Some(&loading), 11).pod(0, Some(&again));
        assert_eq!(container(&still)["restartCount"], 1);
        assert_eq!(running["metadata"]["uid"], again["metadata"]["uid"]);
        assert_eq!(replicas(&revision, Some(&ready), 0).count(), 3);
        assert_eq!(replicas(&revision, Some(&loading), 0).count(), 1);
    }
}
