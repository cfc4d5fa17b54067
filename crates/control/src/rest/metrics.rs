//! What replicas use, in the form of `metrics.k8s.io`, which `kubectl top pods` asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::kind::{POD, POD_METRICS};
use coracle_serving::{LogSource, RevisionId};
use serde_json::{Value, json};

use super::{Api, rfc3339};
use crate::controller::pods::{INDEX, REVISION_LABEL};
use crate::object;
use crate::store::{Key, Stored};

impl Api {
    /// Returns what is measured of the pods of a namespace, or of all.
    pub(crate) fn pod_metrics(&self, namespace: Option<&str>) -> Vec<Arc<Stored>> {
        let (pods, _) = self.store.list(&POD, namespace);
        let mut lanes: BTreeMap<RevisionId, u64> = BTreeMap::new();
        for pod in &pods {
            *lanes.entry(revision_of(pod)).or_default() += 1;
        }
        let measured = pods.iter().filter_map(|pod| {
            let n_lanes = lanes.get(&revision_of(pod)).copied();
            self.metrics_of(pod, n_lanes.unwrap_or(1))
        });
        measured.collect()
    }

    fn metrics_of(&self, pod: &Stored, n_lanes: u64) -> Option<Arc<Stored>> {
        let process = object::text(&pod.object, "annotations", INDEX);
        let process: Option<usize> = process.and_then(|index| index.parse().ok());
        let (at, window, usage) = self.usage.get(&revision_of(pod), process)?;
        let n_lanes = if process.is_some() { 1 } else { n_lanes };
        // Lanes share a process: what it used is theirs in equal parts.
        let nanocores = usage.compute.as_secs_f64() / window.as_secs_f64().max(1e-3) * 1e9;
        let cpu = format!("{:.0}n", nanocores / n_lanes as f64);
        let memory = format!("{}Ki", (usage.memory_bytes / n_lanes).div_ceil(1024));
        let labels = pod.object.pointer("/metadata/labels").cloned();
        let object = json!({
            "kind": POD_METRICS.kind,
            "apiVersion": POD_METRICS.api_version(),
            "metadata": {
                "name": pod.key.name(),
                "namespace": pod.key.namespace(),
                "creationTimestamp": rfc3339(at),
                "labels": labels.unwrap_or(Value::Null)
            },
            "timestamp": rfc3339(at),
            "window": format!("{:.3}s", window.as_secs_f64()),
            "containers": [{
                "name": LogSource::Serve.container(),
                "usage": {"cpu": cpu, "memory": memory}
            }]
        });
        Some(Arc::new(Stored {
            key: Key::new(&POD_METRICS, pod.key.namespace(), pod.key.name()),
            version: 0,
            object,
        }))
    }
}

fn revision_of(pod: &Stored) -> RevisionId {
    let name = object::text(&pod.object, "labels", REVISION_LABEL);
    RevisionId {
        namespace: pod.key.namespace().to_owned(),
        name: name.unwrap_or_default().to_owned(),
    }
}
