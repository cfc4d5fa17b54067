//! What kubectl shows of a pod, from the states of its containers.

use serde_json::{Value, json};

fn containers<'a>(pod: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let list = pod.get("status").and_then(|status| status.get(field));
    list.and_then(Value::as_array).into_iter().flatten()
}

fn is_ready(container: &&Value) -> bool {
    container["ready"] == true
}

/// Returns how many containers are ready, of how many: `1/1`.
pub(super) fn ready(pod: &Value) -> Value {
    let n_containers = pod
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    let n_ready = containers(pod, "containerStatuses")
        .filter(is_ready)
        .count();
    json!(format!("{n_ready}/{n_containers}"))
}

/// Returns the reason why it waits, else its phase.
pub(super) fn status(pod: &Value) -> Value {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return json!("Terminating");
    }
    let n_initial = containers(pod, "initContainerStatuses").count();
    let n_done = containers(pod, "initContainerStatuses")
        .filter(is_ready)
        .count();
    let waits = |container: &Value| {
        let reason = container.pointer("/state/waiting/reason")?;
        reason.as_str().map(str::to_owned)
    };
    if n_done < n_initial {
        let waiting = containers(pod, "initContainerStatuses").find_map(waits);
        let shown = waiting.unwrap_or_else(|| format!("{n_done}/{n_initial}"));
        return json!(format!("Init:{shown}"));
    }
    let waiting = containers(pod, "containerStatuses").find_map(waits);
    let phase = pod.pointer("/status/phase").and_then(Value::as_str);
    json!(waiting.unwrap_or_else(|| phase.unwrap_or("Unknown").to_owned()))
}

/// Returns how often containers were started again.
pub(super) fn restarts(pod: &Value) -> Value {
    let counts =
        containers(pod, "containerStatuses").chain(containers(pod, "initContainerStatuses"));
    let counts = counts.filter_map(|container| container.get("restartCount")?.as_u64());
    json!(counts.sum::<u64>().to_string())
}
