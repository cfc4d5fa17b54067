//! The unit of a request, read from its body without building anything else of it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use prost::Message;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::UNIT_BYTES_MAX;
use crate::grpc;
use crate::grpc::inference::{InferParameter, ParameterChoice};

/// What a body of V1 has its rows under: any of them means the same.
const ROWS: [&str; 3] = ["instances", "inputs", "dataframe_records"];

/// Returns the text or number (a whole one is the same text with and without a fraction of 0) at a path of fields and places of lists, such as `user.id` or `instances.0.3`, in a JSON body; `None` if it is not there, is something else, is empty or
/// too long, or the body is no JSON.
#[must_use]
pub fn json_unit(body: &[u8], path: &str) -> Option<String> {
    sought(body, Seek::at(path)).filter(|unit| is_unit(unit))
}

/// Returns the same of a body of V1, whose rows may be `instances`, `inputs` or `dataframe_records`, whichever of them `path` says.
#[must_use]
pub fn v1_unit(body: &[u8], path: &str) -> Option<String> {
    sought(body, Seek::in_rows(path)).filter(|unit| is_unit(unit))
}

/// Returns the number at `path` of a JSON body; `None` if it is not there, or no number. A text that is a number is one.
#[must_use]
pub fn json_number(body: &[u8], path: &str) -> Option<f64> {
    number(&sought(body, Seek::at(path).or_truth())?)
}

/// Returns the same of a body of V1, as [`v1_unit`] does.
#[must_use]
pub fn v1_number(body: &[u8], path: &str) -> Option<f64> {
    number(&sought(body, Seek::in_rows(path).or_truth())?)
}

fn sought(body: &[u8], seek: Seek<'_>) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let mut found = None;
    // What is wrong with the body is said where it is decoded.
    let seeking = Seeking {
        seek,
        found: &mut found,
    };
    seeking.deserialize(&mut reader).ok()?;
    found
}

/// Returns the parameter of a ModelInferRequest as a number; `None` if it is not there, or none.
#[must_use]
pub fn grpc_number(message: &Bytes, name: &str) -> Option<f64> {
    match grpc_parameter(message, name)? {
        ParameterChoice::DoubleParam(value) => Some(value).filter(|value| value.is_finite()),
        ParameterChoice::BoolParam(value) => Some(f64::from(u8::from(value))),
        ParameterChoice::StringParam(text) => number(&text),
        ParameterChoice::Int64Param(value) => number(&value.to_string()),
        ParameterChoice::Uint64Param(value) => number(&value.to_string()),
    }
}

/// Returns the number that a text is; `None` if it is none, or no finite one.
#[must_use]
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let number: f64 = (text.len() <= UNIT_BYTES_MAX).then(|| text.parse().ok())??;
    number.is_finite().then_some(number)
}

/// Returns the parameter of a ModelInferRequest; `None` if it is not there, or no unit.
#[must_use]
pub fn grpc_unit(message: &Bytes, name: &str) -> Option<String> {
    let unit = match grpc_parameter(message, name)? {
        ParameterChoice::StringParam(text) => text,
        ParameterChoice::Int64Param(number) => number.to_string(),
        ParameterChoice::Uint64Param(number) => number.to_string(),
        ParameterChoice::DoubleParam(number) => float_text(number)?,
        ParameterChoice::BoolParam(_) => return None,
    };
    Some(unit).filter(|unit| is_unit(unit))
}

fn grpc_parameter(message: &Bytes, name: &str) -> Option<ParameterChoice> {
    #[derive(Clone, PartialEq, Message)]
    struct Head {
        #[prost(btree_map = "string, message", tag = "4")]
        parameters: BTreeMap<String, InferParameter>,
    }
    let mut head: Head = grpc::decode(message.clone()).ok()?;
    head.parameters.remove(name)?.parameter_choice
}

/// Returns a number as a text, a whole one without a fraction, as an integer is written; `None` if it is not finite.
pub(super) fn float_text(number: f64) -> Option<String> {
    // Below 0 there is no 0.
    number.is_finite().then(|| (number + 0.0).to_string())
}

pub(super) fn is_unit(unit: &str) -> bool {
    (1..=UNIT_BYTES_MAX).contains(&unit.len())
}

/// What is looked for in a value.
#[derive(Clone, Copy)]
struct Seek<'a> {
    /// The rest of the path; `None` where the value itself is wanted.
    path: Option<&'a str>,
    /// Whether truth values are found, too.
    takes_truth: bool,
    /// Whether rows have several names here.
    has_rows: bool,
}

impl<'a> Seek<'a> {
    fn at(path: &'a str) -> Self {
        Self {
            path: Some(path),
            takes_truth: false,
            has_rows: false,
        }
    }

    fn in_rows(path: &'a str) -> Self {
        Self {
            has_rows: true,
            ..Self::at(path)
        }
    }

    fn or_truth(self) -> Self {
        Self {
            takes_truth: true,
            ..self
        }
    }

    /// Returns the first part of the path, and what is looked for in what is there.
    fn split(self) -> Option<(&'a str, Self)> {
        let path = self.path?;
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let rest = Self {
            path: (!rest.is_empty()).then_some(rest),
            has_rows: false,
            ..self
        };
        Some((first, rest))
    }

    /// Tells whether a key is the one that a part of the path names.
    fn is_at(self, first: &str, key: &str) -> bool {
        key == first || self.has_rows && ROWS.contains(&first) && ROWS.contains(&key)
    }
}

/// Reads a value, looking for the one at a path; everything else is passed over.
struct Seeking<'a> {
    seek: Seek<'a>,
    found: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Seeking<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seeking<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let wanted = self.seek.split();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match wanted {
                Some((first, seek)) if self.seek.is_at(first, &key) => {
                    map.next_value_seed(Seeking {
                        seek,
                        found: &mut *self.found,
                    })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let wanted = self.seek.split();
        let wanted = wanted.and_then(|(first, seek)| Some((first.parse::<usize>().ok()?, seek)));
        if let Some((place, seek)) = wanted {
            for _ in 0..place {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(());
                }
            }
            let sought = Seeking {
                seek,
                found: &mut *self.found,
            };
            if seq.next_element_seed(sought)?.is_none() {
                return Ok(());
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.seek.path.is_none() {
            *self.found = Some(text.to_owned());
        }
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        if self.seek.path.is_none() {
            *self.found = Some(number.to_string());
        }
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        if self.seek.path.is_none() {
            *self.found = Some(number.to_string());
        }
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        if self.seek.path.is_none() {
            *self.found = float_text(number);
        }
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        if self.seek.path.is_none() && self.seek.takes_truth {
            *self.found = Some(u8::from(value).to_string());
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::inference::ModelInferRequest;

    #[test]
    fn units_are_found_by_their_path() {
        let body = br#"{"instances": [[1, {"user": "no"}], "user"], "user": {"id": "u-1", "n": -4, "x": 1.5, "whole": 1001.0, "zero": -0.0, "t": true, "e": ""}, "parameters": {"p": 7}}"#;
        for (path, expected) in [
            ("user.id", Some("u-1")),
            ("user.n", Some("-4")),
            ("parameters.p", Some("7")),
            ("user.x", Some("1.5")),
            ("user.whole", Some("1001")),
            ("user.zero", Some("0")),
            ("user.t", None),
            ("user.e", None),
            ("user", None),
            ("user.id.more", None),
            ("instances", None),
            ("instances.0.0", Some("1")),
            ("instances.0.1.user", Some("no")),
            ("instances.1", Some("user")),
            ("instances.2", None),
            ("instances.0.9", None),
            ("instances.first", None),
            ("nothing", None),
        ] {
            assert_eq!(json_unit(body, path).as_deref(), expected, "{path}");
        }
        assert_eq!(json_unit(b"{\"user\": \"u\"", "user"), None);
        assert_eq!(json_unit(b"", "user"), None);
        let long = format!("{{\"user\": \"{}\"}}", "u".repeat(257));
        assert_eq!(json_unit(long.as_bytes(), "user"), None);
        let escaped = br#"{"us\u0065r": "a\nb"}"#;
        assert_eq!(json_unit(escaped, "user").as_deref(), Some("a\nb"));
    }

    /// V1 has three names for its rows.
    #[test]
    fn rows_are_found_by_whichever_name_they_have() {
        for name in ROWS {
            let body = format!(r#"{{"x": 5, "{name}": [[7, "u-1"], [8, "u-2"]]}}"#);
            for path in ROWS {
                let of = |rest: &str| format!("{path}.{rest}");
                let unit = |rest: &str| v1_unit(body.as_bytes(), &of(rest));
                assert_eq!(unit("0.1").as_deref(), Some("u-1"), "{path} of {body}");
                assert_eq!(unit("1.0").as_deref(), Some("8"), "{path} of {body}");
                assert_eq!(unit("0.2"), None);
                assert_eq!(v1_number(body.as_bytes(), &of("0.0")), Some(7.0));
                // Elsewhere names are names.
                let other = json_unit(body.as_bytes(), &of("0.1"));
                assert_eq!(other.is_some(), path == name, "{path} of {body}");
            }
            assert_eq!(v1_unit(body.as_bytes(), "x").as_deref(), Some("5"));
            assert_eq!(v1_unit(body.as_bytes(), "y.instances"), None);
            let deeper = format!(r#"{{"y": {{"{name}": 7}}}}"#);
            let found = v1_unit(deeper.as_bytes(), "y.instances");
            assert_eq!(found.is_some(), name == "instances");
        }
    }

    #[test]
    fn numbers_are_found_by_their_path() {
        let body = br#"{"user": {"age": 41, "rate": 0.25, "low": -1.5e-3, "new": true, "text": " 7.5 ", "word": "x", "none": null, "huge": "1e999", "list": [1]}}"#;
        for (path, expected) in [
            ("user.age", Some(41.0)),
            ("user.rate", Some(0.25)),
            ("user.low", Some(-1.5e-3)),
            ("user.new", Some(1.0)),
            ("user.text", Some(7.5)),
            ("user.word", None),
            ("user.none", None),
            ("user.huge", None),
            ("user.list", None),
            ("user.list.0", Some(1.0)),
            ("user", None),
            ("user.age.more", None),
        ] {
            assert_eq!(json_number(body, path), expected, "{path}");
        }
        assert_eq!(json_number(br#"{"x": 0.1"#, "x"), None);
        assert_eq!(
            (number("inf"), number("NaN"), number("")),
            (None, None, None)
        );
        assert_eq!(number(&"1".repeat(UNIT_BYTES_MAX + 1)), None);
    }

    #[test]
    fn units_are_parameters_of_messages() {
        let parameter = |choice| InferParameter {
            parameter_choice: Some(choice),
        };
        let request = ModelInferRequest {
            parameters: [
                (
                    "user".to_owned(),
                    parameter(ParameterChoice::StringParam("u".to_owned())),
                ),
                (
                    "number".to_owned(),
                    parameter(ParameterChoice::Int64Param(-3)),
                ),
                (
                    "fraction".to_owned(),
                    parameter(ParameterChoice::DoubleParam(1001.0)),
                ),
                (
                    "flag".to_owned(),
                    parameter(ParameterChoice::BoolParam(true)),
                ),
            ]
            .into(),
            ..ModelInferRequest::default()
        };
        let message = Bytes::from(request.encode_to_vec());
        assert_eq!(grpc_unit(&message, "user").as_deref(), Some("u"));
        assert_eq!(grpc_unit(&message, "number").as_deref(), Some("-3"));
        assert_eq!(grpc_unit(&message, "fraction").as_deref(), Some("1001"));
        assert_eq!(grpc_unit(&message, "flag"), None);
        let numbers = ["user", "number", "flag", "nobody"].map(|name| grpc_number(&message, name));
        assert_eq!(numbers, [None, Some(-3.0), Some(1.0), None]);
        assert_eq!(grpc_unit(&message, "nobody"), None);
        assert_eq!(grpc_unit(&Bytes::from_static(b"\xff\xff"), "user"), None);
    }
}
