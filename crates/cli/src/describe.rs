//! `coracle describe` and `coracle logs`: what an InferenceService does, in words.

use std::io::Write;

use anyhow::bail;
use serde_json::Value;

use crate::Environment;
use crate::args::{LogsArguments, ServiceArguments};
use crate::client::Client;
use crate::objects::find;

/// The label that names a pod's service.
const SERVICE_LABEL: &str = "serving.kserve.io/inferenceservice";

/// `coracle describe`
pub(crate) fn describe(
    arguments: &ServiceArguments,
    environment: &Environment,
) -> anyhow::Result<()> {
    let client = Client::connect(&arguments.state, environment)?;
    let (namespace, name) = (&arguments.namespace, &arguments.name);
    let service = find(&client, namespace, name)?;
    let pods = pods(&client, namespace, name)?;
    let events = client.get(&format!(
        "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name%3D{name}"
    ))?;
    let mut out = crate::printed::stdout();
    writeln!(out, "Name:       {name}")?;
    writeln!(out, "Namespace:  {namespace}")?;
    writeln!(out, "URL:        {}", text(&service, "/status/url"))?;
    writeln!(out, "Model:      {}", model(&service))?;
    let failure = text(&service, "/status/modelStatus/lastFailureInfo/message");
    if !failure.is_empty() {
        writeln!(out, "Failure:    {failure}")?;
    }
    writeln!(out, "Conditions:")?;
    for condition in list(&service, "/status/conditions") {
        let why = text(condition, "/message");
        let (kind, status) = (text(condition, "/type"), text(condition, "/status"));
        writeln!(
            out,
            "  {}",
            format!("{kind:<28} {status:<8} {why}").trim_end()
        )?;
    }
    writeln!(out, "Requests go to:")?;
    for target in list(&service, "/status/components/predictor/traffic") {
        let tag = text(target, "/tag");
        let tag = if tag.is_empty() {
            String::new()
        } else {
            format!("  ({tag})")
        };
        let revision = text(target, "/revisionName");
        writeln!(out, "  {revision}  {}%{tag}", target["percent"])?;
    }
    writeln!(out, "Replicas:")?;
    for pod in &pods {
        let state = pod.pointer("/status/containerStatuses/0/state");
        let waiting = state.and_then(|state| state.get("waiting"));
        let why = waiting.map_or(String::new(), |waiting| {
            format!(
                "  {}: {}",
                text(waiting, "/reason"),
                text(waiting, "/message")
            )
        });
        let (name, phase) = (text(pod, "/metadata/name"), text(pod, "/status/phase"));
        writeln!(out, "  {name}  {phase}{why}")?;
    }
    let events = list(&events, "/items");
    writeln!(
        out,
        "Events:{}",
        if events.is_empty() { "  none" } else { "" }
    )?;
    for line in event_lines(events) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// Returns events as lines, what happened last at the end.
fn event_lines(events: &[Value]) -> Vec<String> {
    let mut events: Vec<&Value> = events.iter().collect();
    let last = |event: &Value| text(event, "/lastTimestamp").to_owned();
    events.sort_by_cached_key(|event| last(event));
    let line = |event: &Value| {
        let (time, reason) = (text(event, "/lastTimestamp"), text(event, "/reason"));
        let again = match event["count"].as_u64() {
            Some(count) if count > 1 => {
                format!(" (x{count} since {})", text(event, "/firstTimestamp"))
            }
            _ => String::new(),
        };
        let message = text(event, "/message");
        format!("{time}  {reason:<26} {message}{again}")
    };
    events.into_iter().map(line).collect()
}

/// Returns where the model's files are, and their format.
fn model(service: &Value) -> String {
    let uri = text(service, "/spec/predictor/model/storageUri");
    let format = text(service, "/spec/predictor/model/modelFormat/name");
    format!("{format} {uri}").trim().to_owned()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.map(Vec::as_slice).unwrap_or_default()
}

fn pods(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Vec<Value>> {
    let found = client.get(&format!(
        "/api/v1/namespaces/{namespace}/pods?labelSelector={SERVICE_LABEL}%3D{name}"
    ))?;
    Ok(list(&found, "/items").to_vec())
}

/// `coracle logs`
pub(crate) fn logs(arguments: &LogsArguments, environment: &Environment) -> anyhow::Result<()> {
    let LogsArguments {
        service,
        revision,
        container,
        follow,
        tail,
        timestamps,
    } = arguments;
    let client = Client::connect(&service.state, environment)?;
    let (namespace, name) = (&service.namespace, &service.name);
    // One that is not there is said to be not there.
    find(&client, namespace, name)?;
    let pods = pods(&client, namespace, name)?;
    // All replicas of a revision have one log; names of revisions are numbered.
    let revision_of =
        |pod: &Value| pod["metadata"]["labels"]["serving.knative.dev/revision"].clone();
    let newest = pods
        .iter()
        .filter(|pod| {
            revision
                .as_ref()
                .is_none_or(|wanted| revision_of(pod) == **wanted)
        })
        .max_by_key(|pod| revision_of(pod).to_string());
    let Some(pod) = newest else {
        let mut there: Vec<String> = pods
            .iter()
            .map(|pod| revision_of(pod).as_str().unwrap_or_default().to_owned())
            .collect();
        there.dedup();
        bail!(
            "{name} has no such replica; revisions with replicas: {}",
            if there.is_empty() {
                "none".to_owned()
            } else {
                there.join(", ")
            }
        );
    };
    let pod = text(pod, "/metadata/name");
    let tail = tail.map_or(String::new(), |lines| format!("&tailLines={lines}"));
    let path = format!(
        "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&follow={follow}&timestamps={timestamps}{tail}"
    );
    client.copy(&path, &mut crate::printed::raw_unless_terminal())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_told_by_when_they_happened_last_and_how_often() {
        let event = |reason: &str, count: u64, minute: u64| {
            let (first, last) = (
                "2026-01-01T00:00:00Z",
                format!("2026-01-01T00:{minute:02}:00Z"),
            );
            json!({"reason": reason, "message": "why", "count": count, "firstTimestamp": first, "lastTimestamp": last})
        };
        let events = [event("A", 3, 2), event("B", 1, 1), event("C", 1, 2)];
        let expected = [
            "2026-01-01T00:01:00Z  B                          why",
            "2026-01-01T00:02:00Z  A                          why (x3 since 2026-01-01T00:00:00Z)",
            "2026-01-01T00:02:00Z  C                          why",
        ];
        assert_eq!(event_lines(&events), expected);
    }
}
