//! Printed lists: what `kubectl get` shows.

mod pod;

use std::time::Duration;

use coracle_api::kind::EVENT;
use coracle_api::{Column, ColumnValue, Kind};
use serde_json::{Value, json};

use crate::object;

/// The kind of the object that rows carry.
const PARTIAL: &str = "PartialObjectMetadata";

/// Returns the table of `objects`, as seen `now` (since 1970); watches send the columns with the first event only.
pub(crate) fn render<'a>(
    kind: &Kind,
    objects: impl Iterator<Item = &'a Value>,
    list_metadata: &Value,
    now: Duration,
    with_columns: bool,
) -> Value {
    let rows: Vec<Value> = objects.map(|object| row(kind, object, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": if with_columns { columns(kind) } else { Value::Null },
        "rows": rows
    })
}

fn columns(kind: &Kind) -> Value {
    let definition = |name: &str, column_type: &str, format: &str, priority: u8| json!({"name": name, "type": column_type, "format": format, "description": "", "priority": priority});
    let inner = kind.columns.iter();
    let inner =
        inner.map(|column| definition(column.name, column.column_type, "", column.priority));
    if *kind == EVENT {
        return inner.collect();
    }
    let mut columns = vec![definition("Name", "string", "name", 0)];
    columns.extend(inner);
    columns.push(definition("Age", "string", "", 0));
    let last = kind.last_columns.iter();
    columns.extend(
        last.map(|column| definition(column.name, column.column_type, "", column.priority)),
    );
    Value::Array(columns)
}

fn row(kind: &Kind, object: &Value, now: Duration) -> Value {
    let inner = kind.columns.iter().map(|column| cell(column, object, now));
    if *kind == EVENT {
        let cells: Vec<Value> = inner.collect();
        return json!({"cells": cells, "object": metadata_only(object)});
    }
    let mut cells = vec![json!(object::name(object))];
    cells.extend(inner);
    cells.push(age(object::meta_str(object, "creationTimestamp"), now));
    cells.extend(
        kind.last_columns
            .iter()
            .map(|column| match cell(column, object, now) {
                Value::Null => json!("<none>"),
                value => value,
            }),
    );
    json!({"cells": cells, "object": metadata_only(object)})
}

/// Returns an object with nothing but its metadata.
pub(crate) fn metadata_only(object: &Value) -> Value {
    let mut metadata = object.get("metadata").cloned().unwrap_or_default();
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("managedFields");
    }
    json!({"kind": PARTIAL, "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

fn cell(column: &Column, object: &Value, now: Duration) -> Value {
    let found = match column.value {
        ColumnValue::Path(path) => object::at(object, path).cloned(),
        ColumnValue::Item {
            list,
            key,
            equals,
            show,
        } => {
            let items = object::at(object, list).and_then(Value::as_array);
            let mut items = items.into_iter().flatten();
            let item = items.find(|item| match item.get(key) {
                Some(Value::String(text)) => text == equals,
                Some(Value::Bool(flag)) => flag.to_string() == equals,
                _ => false,
            });
            item.and_then(|item| item.get(show)).cloned()
        }
        ColumnValue::Count(path) => {
            let n_entries = match object::at(object, path) {
                Some(Value::Array(items)) => items.len(),
                Some(Value::Object(fields)) => fields.len(),
                _ => 0,
            };
            return json!(n_entries);
        }
        ColumnValue::Since(path) => {
            let time = object::at(object, path).and_then(Value::as_str);
            return age(time.unwrap_or_default(), now);
        }
        ColumnValue::PodReady => return pod::ready(object),
        ColumnValue::PodStatus => return pod::status(object),
        ColumnValue::PodRestarts => return pod::restarts(object),
        ColumnValue::ScaleTarget => {
            let part = |field| {
                object
                    .pointer(&format!("/spec/scaleTargetRef/{field}"))?
                    .as_str()
            };
            let name = part("name").unwrap_or_default();
            return json!(format!("{}/{name}", part("kind").unwrap_or_default()));
        }
        ColumnValue::ScaleMetrics => return scale_metrics(object),
        ColumnValue::Involved => {
            let part = |field: &str| object::at(object, &["involvedObject", field]);
            let text = |field: &str| part(field).and_then(Value::as_str).unwrap_or_default();
            return json!(format!("{}/{}", text("kind").to_lowercase(), text("name")));
        }
        ColumnValue::RoleRef => {
            let part = |field| object.pointer(&format!("/roleRef/{field}"))?.as_str();
            let name = part("name").unwrap_or_default();
            return json!(format!("{}/{name}", part("kind").unwrap_or_default()));
        }
    };
    found.unwrap_or(Value::Null)
}

/// Returns an autoscaler's metrics as kubectl writes them: `41/70 (avg)`, or `cpu: 30m/800m` for resources.
fn scale_metrics(object: &Value) -> Value {
    let list = |pointer: &str| object.pointer(pointer).and_then(Value::as_array);
    let current = list("/status/currentMetrics");
    let targets = list("/spec/metrics").into_iter().flatten();
    let texts = targets.enumerate().map(|(index, metric)| {
        let value = |metric: &Value, role: &str| {
            let of = |kind: &str| metric.pointer(&format!("/{kind}/{role}/averageValue"));
            of("pods")
                .or_else(|| of("resource"))?
                .as_str()
                .map(str::to_owned)
        };
        let now = current
            .and_then(|current| current.get(index))
            .and_then(|metric| value(metric, "current"))
            .unwrap_or_else(|| "<unknown>".to_owned());
        let target = value(metric, "target").unwrap_or_default();
        match metric.pointer("/resource/name").and_then(Value::as_str) {
            Some(resource) => format!("{resource}: {now}/{target}"),
            None => format!("{now}/{target} (avg)"),
        }
    });
    let texts: Vec<String> = texts.collect();
    json!(texts.join(", "))
}

/// Returns the time since `time` in kubectl's short form.
fn age(time: &str, now: Duration) -> Value {
    let Ok(time) = humantime::parse_rfc3339(time) else {
        return json!("<unknown>");
    };
    let since_epoch = time
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    json!(short_duration(now.saturating_sub(since_epoch)))
}

/// Returns a duration as kubectl writes it: two units where one would be coarse.
fn short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    let days = hours / 24;
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{big}{big_unit}")
        } else {
            format!("{big}{big_unit}{small}{small_unit}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2_920 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use coracle_api::kind::INFERENCE_SERVICE;

    use super::*;

    #[test]
    fn inference_services_have_kserves_columns() {
        let object = json!({
            "metadata": {"name": "iris", "creationTimestamp": "1970-01-01T00:01:00Z", "managedFields": [{}]},
            "status": {
                "url": "http://x",
                "conditions": [{"type": "PredictorReady", "status": "False"}, {"type": "Ready", "status": "True"}],
                "components": {"predictor": {"traffic": [
                    {"latestRevision": true, "percent": 10, "revisionName": "iris-predictor-00002"},
                    {"revisionName": "iris-predictor-00001", "percent": 90, "tag": "prev"}
                ]}}
            }
        });
        let table = render(
            &INFERENCE_SERVICE,
            [&object].into_iter(),
            &json!({}),
            Duration::from_secs(66),
            true,
        );
        let names: Vec<&str> = table["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| column["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "Name",
                "URL",
                "Ready",
                "Prev",
                "Latest",
                "PrevRolledoutRevision",
                "LatestReadyRevision",
                "Age"
            ]
        );
        assert_eq!(
            table["rows"][0]["cells"],
            json!([
                "iris",
                "http://x",
                "True",
                90,
                10,
                "iris-predictor-00001",
                "iris-predictor-00002",
                "6s"
            ])
        );
        assert_eq!(
            table["rows"][0]["object"]["metadata"].get("managedFields"),
            None
        );
    }

    #[test]
    fn durations_are_short() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (700, "11m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (200_000, "2d7h"),
            (864_000, "10d"),
            (64_000_000, "2y10d"),
        ] {
            assert_eq!(
                short_duration(Duration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }
}
