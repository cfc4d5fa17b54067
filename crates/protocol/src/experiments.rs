//! What experiments read of bodies: outcomes, and the unit of a request.
//!
//! Outcomes come as one JSON object, an array of them, or lines of them; what is wrong with one says nothing about the others. See [`read_outcomes`] and
//! [`json_unit`].

mod input;
mod unit;

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::RequestError;

pub use input::{Element, grpc_input, v1_input, v2_input};
pub use unit::{grpc_number, grpc_unit, json_number, json_unit, number, v1_number, v1_unit};

/// The most outcomes of one request.
pub const OUTCOMES_MAX: usize = 10_000;
/// The most bytes of a unit, and of an id.
pub const UNIT_BYTES_MAX: usize = 256;
/// The largest value of a metric, either way: sums of squares of many such are still numbers.
pub const VALUE_MAX: f64 = 1e100;
/// The most metrics of one outcome.
const METRICS_MAX: usize = 64;
/// What to do where there is no value.
const MISSING: &str = "0 is a value, a metric that is missing is left out";
/// The most bytes of a metric's name.
const NAME_BYTES_MAX: usize = 128;

/// An outcome as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct SentOutcome {
    /// The unit that it is about; either this or the request.
    pub unit: Option<String>,
    /// The id of the request that it is about.
    pub request_id: Option<String>,
    /// What tells it from others.
    pub id: Option<String>,
    /// Metrics with their values, of magnitude [`VALUE_MAX`] at most.
    pub metrics: Vec<(String, f64)>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an outcome: an object such as {\"unit\": \"user-1\", \"metric\": \"converted\", \"value\": 1}"
)]
struct JsonOutcome {
    #[serde(default)]
    unit: Option<Text>,
    #[serde(default, alias = "request_id")]
    request_id: Option<Text>,
    #[serde(default)]
    id: Option<Text>,
    #[serde(default)]
    metric: Option<String>,
    // Told from one that is not there: `null` is a mistake to be named.
    #[serde(default, deserialize_with = "some")]
    value: Option<Number>,
    #[serde(default)]
    metrics: Option<Metrics>,
}

fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Number>, D::Error> {
    Number::deserialize(deserializer).map(Some)
}

/// A text, or a number, which stands for its digits: a whole one for the same with and without a fraction of 0.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Text, E> {
                let text = unit::float_text(number).map(Text);
                text.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Float(number), &self))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// A value: a number, or a truth value for 1 and 0.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number; {MISSING}")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Number, E> {
                Ok(Number(f64::from(u8::from(value))))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Number, E> {
                match value.abs() <= VALUE_MAX {
                    true => Ok(Number(value)),
                    false => Err(E::custom(format!(
                        "the value {value:e} is out of range; -{VALUE_MAX:e} to {VALUE_MAX:e} are allowed"
                    ))),
                }
            }

            #[expect(
                clippy::as_conversions,
                reason = "a number that is not exact is as near as it can be"
            )]
            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            #[expect(
                clippy::as_conversions,
                reason = "a number that is not exact is as near as it can be"
            )]
            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// Metrics by name, in the order in which they were sent.
struct Metrics(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Metrics;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"metrics\" to be an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
                let mut metrics: Vec<(String, f64)> = Vec::new();
                while let Some((name, Number(value))) = map.next_entry::<String, Number>()? {
                    if metrics.iter().any(|(known, _)| *known == name) {
                        let message = format!("metric \"{}\" is there twice", shown(&name));
                        return Err(A::Error::custom(message));
                    }
                    if metrics.len() == METRICS_MAX {
                        let message = format!("more than {METRICS_MAX} metrics");
                        return Err(A::Error::custom(message));
                    }
                    metrics.push((name, value));
                }
                Ok(Metrics(metrics))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Reads the body of a request with outcomes: one object, an array of objects, or an object a line.
///
/// Each has a `unit` or a `requestId`; a `metric` with its `value`, or several `metrics`; and an `id`, if it is to be counted once
/// however often it comes. Truth values are 1 and 0.
///
/// # Errors
/// Code `InvalidArgument` if the body as a whole makes no sense; an entry that makes none has an error of its own.
pub fn read_outcomes(body: &[u8]) -> Result<Vec<Result<SentOutcome, String>>, RequestError> {
    let text = body.trim_ascii();
    if text.is_empty() {
        let message = "the request body is empty; send JSON such as {\"unit\": \"user-1\", \"metric\": \"converted\", \"value\": 1, \"id\": \"order-7\"}";
        return Err(RequestError::invalid(message));
    }
    if text.first() == Some(&b'[') {
        let entries: Vec<&RawValue> =
            serde_json::from_slice(text).map_err(|error| unread(text, &error))?;
        check_number(entries.len())?;
        let entries = entries.into_iter();
        return Ok(entries
            .map(|entry| read_outcome(entry.get().as_bytes()))
            .collect());
    }
    let whole: Result<&RawValue, serde_json::Error> = serde_json::from_slice(text);
    if whole.is_ok() {
        return Ok(vec![read_outcome(text)]);
    }
    let lines = || {
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty())
    };
    check_number(lines().take(OUTCOMES_MAX.saturating_add(1)).count())?;
    // One object that is not JSON is no list of lines.
    let first: Option<Result<&RawValue, _>> = lines().next().map(serde_json::from_slice);
    match (whole, first) {
        (Err(error), Some(Err(_))) => Err(unread(text, &error)),
        _ => Ok(lines().map(read_outcome).collect()),
    }
}

fn check_number(n_entries: usize) -> Result<(), RequestError> {
    if n_entries > OUTCOMES_MAX {
        return Err(RequestError::invalid(format!(
            "more than {OUTCOMES_MAX} outcomes; send them in several requests"
        )));
    }
    Ok(())
}

/// Explains an error of the JSON reader.
fn unread(text: &[u8], error: &serde_json::Error) -> RequestError {
    of_no_number(text, error).unwrap_or_else(|| RequestError::from_json(text, error))
}

/// As elsewhere, but that nothing is told of a metric that is missing: a `null` would be one more word for that.
fn of_no_number(text: &[u8], error: &serde_json::Error) -> Option<RequestError> {
    RequestError::of_no_number(text, error, MISSING)
}

fn read_outcome(text: &[u8]) -> Result<SentOutcome, String> {
    let sent: Result<JsonOutcome, _> = serde_json::from_slice(text);
    let sent = sent.map_err(|error| match of_no_number(text, &error) {
        Some(error) => error.to_string(),
        None => error.to_string(),
    })?;
    let text = |field: &str, value: Option<Text>| match value {
        None => Ok(None),
        Some(Text(text)) if text.is_empty() => Err(format!("\"{field}\" is empty")),
        Some(Text(text)) if text.len() > UNIT_BYTES_MAX => Err(format!(
            "\"{field}\" has {} bytes; at most {UNIT_BYTES_MAX} are allowed",
            text.len()
        )),
        Some(Text(text)) => Ok(Some(text)),
    };
    let (unit, request_id) = (
        text("unit", sent.unit)?,
        text("requestId", sent.request_id)?,
    );
    match (&unit, &request_id) {
        (None, None) => return Err("there is neither \"unit\" nor \"requestId\"".to_owned()),
        (Some(_), Some(_)) => {
            return Err(
                "there are both \"unit\" and \"requestId\"; one says whom it is about".to_owned(),
            );
        }
        _ => {}
    }
    let metrics = match (sent.metric, sent.value, sent.metrics) {
        (Some(metric), Some(Number(value)), None) => vec![(metric, value)],
        (None, None, Some(Metrics(metrics))) if !metrics.is_empty() => metrics,
        (Some(_), None, _) => return Err("\"metric\" has no \"value\"".to_owned()),
        (None, Some(_), _) => return Err("\"value\" is of no \"metric\"".to_owned()),
        (Some(_), Some(_), Some(_)) => {
            return Err("there are both \"metric\" and \"metrics\"".to_owned());
        }
        (None, None, _) => {
            return Err("there is neither \"metric\" with \"value\" nor \"metrics\"".to_owned());
        }
    };
    let is_bad = |(name, _): &&(String, f64)| name.is_empty() || name.len() > NAME_BYTES_MAX;
    if let Some((name, _)) = metrics.iter().find(is_bad) {
        return Err(format!(
            "the metric's name \"{}\" has {} bytes; 1 to {NAME_BYTES_MAX} are allowed",
            shown(name),
            name.len()
        ));
    }
    Ok(SentOutcome {
        unit,
        request_id,
        id: text("id", sent.id)?,
        metrics,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(body: &str) -> Result<SentOutcome, String> {
        let mut read = read_outcomes(body.as_bytes()).unwrap();
        assert_eq!(read.len(), 1, "{body}");
        read.remove(0)
    }

    #[test]
    fn outcomes_come_alone_in_arrays_and_in_lines() {
        let alone = only(r#"{"unit": "u", "metric": "m", "value": 0, "id": 7}"#).unwrap();
        assert_eq!(alone.unit.as_deref(), Some("u"));
        assert_eq!(alone.id.as_deref(), Some("7"));
        assert_eq!(alone.metrics, [("m".to_owned(), 0.0)]);
        let several =
            only("{\n \"requestId\": \"r\",\n \"metrics\": {\"b\": true, \"a\": -2.5}}").unwrap();
        assert_eq!(several.request_id.as_deref(), Some("r"));
        let expected = [("b".to_owned(), 1.0), ("a".to_owned(), -2.5)];
        assert_eq!(several.metrics, expected);
        let largest = only(r#"{"unit": "u", "metrics": {"a": 1e100, "b": -1e100}}"#).unwrap();
        assert_eq!(
            [largest.metrics[0].1, largest.metrics[1].1],
            [1e100, -1e100]
        );
        let array = r#"[{"unit": "u", "metric": "m", "value": 1}, {"unit": "u"}, 3]"#;
        let array = read_outcomes(array.as_bytes()).unwrap();
        assert!(array[0].is_ok() && array[1].is_err() && array[2].is_err());
        let lines = "{\"unit\": \"u\", \"metric\": \"m\", \"value\": 1}\r\n\n{\"unit\"\n{\"unit\": \"v\", \"metric\": \"m\", \"value\": 1}\n";
        let lines = read_outcomes(lines.as_bytes()).unwrap();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].is_ok() && lines[1].is_err() && lines[2].is_ok());
        let lines = "{\"unit\": \"u\", \"metric\": \"m\", \"value\": 1}\n{\"unit\": \"u\", \"metric\": \"m\", \"value\": NaN}";
        let error = read_outcomes(lines.as_bytes())
            .unwrap()
            .remove(1)
            .unwrap_err();
        assert!(error.contains("is left out (line 1"), "{error}");
    }

    #[test]
    fn what_an_outcome_lacks_is_said() {
        for (body, expected) in [
            (r#"{"metric": "m", "value": 1}"#, "neither \"unit\" nor"),
            (
                r#"{"unit": "u", "requestId": "r", "metric": "m", "value": 1}"#,
                "both \"unit\" and",
            ),
            (r#"{"unit": "u", "metric": "m"}"#, "has no \"value\""),
            (
                r#"{"unit": "u", "metric": "m", "value": null}"#,
                "0 is a value, a metric that is missing is left out",
            ),
            (
                r#"{"unit": "u", "metrics": {"m": null}}"#,
                "0 is a value, a metric that is missing is left out",
            ),
            (
                r#"{"unit": "u", "metric": "m", "value": "1"}"#,
                "0 is a value",
            ),
            (r#"{"unit": "u", "value": 1}"#, "of no \"metric\""),
            (r#"{"unit": "u", "metrics": {}}"#, "neither \"metric\" with"),
            (
                r#"{"unit": "u", "metrics": {"m": 1, "m": 2}}"#,
                "there twice",
            ),
            (
                r#"{"unit": "", "metric": "m", "value": 1}"#,
                "\"unit\" is empty",
            ),
            (
                r#"{"unit": "u", "metric": "", "value": 1}"#,
                "name \"\" has 0 bytes",
            ),
            (
                r#"{"unit": true, "metric": "m", "value": 1}"#,
                "a text or a number",
            ),
            (
                r#"{"unit": "u", "metric": "m", "value": 1, "x": 1}"#,
                "unknown field `x`",
            ),
            (
                r#"{"unit": "u", "metric": "m", "value": 1e308}"#,
                "the value 1e308 is out of range; -1e100 to 1e100 are allowed",
            ),
            (
                r#"{"unit": "u", "metrics": {"m": 1, "n": -1.1e100}}"#,
                "the value -1.1e100 is out of range",
            ),
            ("3", "an outcome: an object such as"),
        ] {
            let error = only(body).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
        let long = format!(
            r#"{{"unit": "{}", "metric": "m", "value": 1}}"#,
            "u".repeat(257)
        );
        assert!(only(&long).unwrap_err().contains("at most 256"));
    }

    #[test]
    fn bodies_that_make_no_sense_are_refused_whole() {
        for (body, expected) in [
            ("", "the request body is empty"),
            ("  \n", "the request body is empty"),
            ("{", "not valid JSON"),
            ("[1, ", "not valid JSON"),
            ("x\n{}", "not valid JSON"),
            // `null` is not what to send instead: it is refused.
            (
                r#"{"unit": "u", "metric": "m", "value": NaN}"#,
                "JSON has no NaN or Infinity; 0 is a value, a metric that is missing is left out (line 1",
            ),
            (
                r#"[{"unit": "u", "metrics": {"m": -Infinity}}]"#,
                "is left out (line 1",
            ),
        ] {
            let error = read_outcomes(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{body}: {error}");
        }
        let many = format!("[{}1]", "1,".repeat(OUTCOMES_MAX));
        let error = read_outcomes(many.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("more than 10000 outcomes"), "{error}");
        let many = "{}\n".repeat(OUTCOMES_MAX + 1);
        assert!(read_outcomes(many.as_bytes()).is_err());
    }

    #[test]
    fn damaged_bodies_never_panic() {
        let body = br#"[{"unit": "u", "metrics": {"a": 1e300, "b": false}, "id": "x"}, {"requestId": "r", "metric": "m", "value": -0.0}]"#;
        for index in 0..body.len() {
            for byte in [0, b'"', b'{', b'}', b'[', b'\\', 0xff] {
                let mut damaged = body.to_vec();
                damaged[index] = byte;
                drop(read_outcomes(&damaged));
                drop(json_unit(&damaged, "metrics.a"));
                drop(v1_unit(&damaged, "instances.0.metrics"));
            }
            drop(read_outcomes(&body[..index]));
        }
    }
}
