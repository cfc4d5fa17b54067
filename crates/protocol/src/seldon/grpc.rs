//! Seldon's messages over gRPC, `seldon.protos` of its `prediction.proto`: to the JSON that they have over REST and back, so that models and graphs answer
//! both alike.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Oneof};
use serde::Deserialize;
use serde_json::{Map, Number, Value as Json, json};

use crate::grpc::{decode, frame};
use crate::{RequestError, json_string};

/// The deepest lists of an `ndarray` or tag.
const DEPTH_MAX: usize = 16;

#[derive(Clone, PartialEq, Message)]
struct SeldonMessage {
    #[prost(message, optional, tag = "2")]
    meta: Option<Meta>,
    #[prost(oneof = "Data", tags = "3, 4, 5, 6, 7")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Data {
    #[prost(message, tag = "3")]
    Default(DefaultData),
    #[prost(bytes = "bytes", tag = "4")]
    Binary(Bytes),
    #[prost(string, tag = "5")]
    Text(String),
    /// Not read.
    #[prost(bytes = "bytes", tag = "6")]
    Json(Bytes),
    /// Not read.
    #[prost(bytes = "bytes", tag = "7")]
    Custom(Bytes),
}

#[derive(Clone, PartialEq, Message)]
struct DefaultData {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
    #[prost(oneof = "Matrix", tags = "2, 3, 4")]
    matrix: Option<Matrix>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Matrix {
    #[prost(message, tag = "2")]
    Tensor(Tensor),
    #[prost(message, tag = "3")]
    Rows(ListValue),
    /// TensorFlow's, which is not read.
    #[prost(bytes = "bytes", tag = "4")]
    TensorFlow(Bytes),
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int32, repeated, tag = "1")]
    shape: Vec<i32>,
    #[prost(double, repeated, tag = "2")]
    values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(string, tag = "1")]
    puid: String,
    #[prost(btree_map = "string, message", tag = "2")]
    tags: BTreeMap<String, Value>,
    #[prost(btree_map = "string, int32", tag = "3")]
    routing: BTreeMap<String, i32>,
    #[prost(btree_map = "string, string", tag = "4")]
    request_path: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Feedback {
    #[prost(message, optional, tag = "1")]
    request: Option<SeldonMessage>,
    #[prost(message, optional, tag = "2")]
    response: Option<SeldonMessage>,
    #[prost(float, tag = "3")]
    reward: f32,
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Kind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Truth(bool),
    #[prost(message, tag = "5")]
    Struct(Struct),
    #[prost(message, tag = "6")]
    List(ListValue),
}

/// Returns a `SeldonMessage` as the JSON that it is over REST.
///
/// # Errors
/// Code `InvalidArgument` if it is none, or has numbers without end or lists too deep.
pub fn request_json(message: Bytes) -> Result<Vec<u8>, RequestError> {
    let message: SeldonMessage = decode(message)?;
    let mut out = Vec::new();
    write_message(&message, &mut out)?;
    Ok(out)
}

/// Returns a `Feedback` as the JSON that it is over REST.
///
/// # Errors
/// As [`request_json`].
pub fn feedback_json(message: Bytes) -> Result<Vec<u8>, RequestError> {
    let Feedback {
        request,
        response,
        reward,
    } = decode(message)?;
    let mut out = b"{\"reward\":".to_vec();
    // What is no number is refused where feedback is read, and JSON has none.
    match reward.is_finite() {
        true => write_json(&reward, &mut out)?,
        false => json_string(&reward.to_string(), &mut out),
    }
    for (key, message) in [("request", request), ("response", response)] {
        if let Some(message) = message {
            out.push(b',');
            json_string(key, &mut out);
            out.push(b':');
            write_message(&message, &mut out)?;
        }
    }
    out.push(b'}');
    Ok(out)
}

fn write_json(value: &impl serde::Serialize, out: &mut Vec<u8>) -> Result<(), RequestError> {
    serde_json::to_writer(out, value).map_err(|error| RequestError::invalid(error.to_string()))
}

fn write_message(message: &SeldonMessage, out: &mut Vec<u8>) -> Result<(), RequestError> {
    out.push(b'{');
    match &message.data {
        Some(Data::Default(data)) => {
            out.extend_from_slice(b"\"data\":");
            write_data(data, out)?;
        }
        // What is refused is refused by its name.
        Some(Data::Binary(_)) => out.extend_from_slice(b"\"binData\":\"\""),
        Some(Data::Text(_)) => out.extend_from_slice(b"\"strData\":\"\""),
        Some(Data::Json(_)) => out.extend_from_slice(b"\"jsonData\":{}"),
        Some(Data::Custom(_)) => out.extend_from_slice(b"\"customData\":{}"),
        None => {}
    }
    let Some(meta) = &message.meta else {
        out.push(b'}');
        return Ok(());
    };
    if message.data.is_some() {
        out.push(b',');
    }
    let mut shown = Map::new();
    if !meta.puid.is_empty() {
        shown.insert("puid".to_owned(), meta.puid.as_str().into());
    }
    if !meta.tags.is_empty() {
        let tags = meta
            .tags
            .iter()
            .map(|(name, value)| Ok((name.clone(), as_json(value, DEPTH_MAX)?)));
        let tags: Map<String, Json> = tags.collect::<Result<_, RequestError>>()?;
        shown.insert("tags".to_owned(), tags.into());
    }
    if !meta.routing.is_empty() {
        shown.insert("routing".to_owned(), json!(meta.routing));
    }
    out.extend_from_slice(b"\"meta\":");
    write_json(&shown, out)?;
    out.push(b'}');
    Ok(())
}

fn write_data(data: &DefaultData, out: &mut Vec<u8>) -> Result<(), RequestError> {
    out.extend_from_slice(b"{\"names\":");
    write_json(&data.names, out)?;
    match &data.matrix {
        Some(Matrix::Tensor(tensor)) => {
            if tensor.values.iter().any(|value| value.is_infinite()) {
                return Err(endless());
            }
            out.extend_from_slice(b",\"tensor\":{\"shape\":");
            write_json(&tensor.shape, out)?;
            // What is no number is null.
            out.extend_from_slice(b",\"values\":");
            write_json(&tensor.values, out)?;
            out.push(b'}');
        }
        Some(Matrix::Rows(rows)) => {
            out.extend_from_slice(b",\"ndarray\":");
            let rows = rows.values.iter().map(|value| as_json(value, DEPTH_MAX));
            write_json(&rows.collect::<Result<Vec<Json>, _>>()?, out)?;
        }
        Some(Matrix::TensorFlow(_)) => out.extend_from_slice(b",\"tftensor\":{}"),
        None => {}
    }
    out.push(b'}');
    Ok(())
}

fn endless() -> RequestError {
    RequestError::invalid("a number is infinite; JSON, as which messages are read, has none")
}

/// Returns a value as JSON, in which what is no number is null.
fn as_json(value: &Value, depth: usize) -> Result<Json, RequestError> {
    let deeper = || {
        let deeper = depth.checked_sub(1);
        deeper.ok_or_else(|| RequestError::invalid(format!("lists are deeper than {DEPTH_MAX}")))
    };
    Ok(match &value.kind {
        None | Some(Kind::Null(_)) => Json::Null,
        Some(Kind::Number(number)) if number.is_infinite() => return Err(endless()),
        Some(Kind::Number(number)) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Some(Kind::Text(text)) => Json::String(text.clone()),
        Some(Kind::Truth(truth)) => Json::Bool(*truth),
        Some(Kind::Struct(fields)) => {
            let depth = deeper()?;
            let fields = fields.fields.iter();
            let fields = fields.map(|(name, value)| Ok((name.clone(), as_json(value, depth)?)));
            Json::Object(fields.collect::<Result<_, RequestError>>()?)
        }
        Some(Kind::List(list)) => {
            let depth = deeper()?;
            let values = list.values.iter().map(|value| as_json(value, depth));
            Json::Array(values.collect::<Result<_, _>>()?)
        }
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    data: Option<AnswerData>,
    #[serde(default)]
    meta: Option<AnswerMeta>,
}

#[derive(Deserialize)]
struct AnswerData {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    ndarray: Option<Vec<Json>>,
    #[serde(default)]
    tensor: Option<AnswerTensor>,
}

#[derive(Deserialize)]
struct AnswerTensor {
    shape: Vec<i32>,
    /// JSON of protocol buffers leaves out what is empty.
    #[serde(default)]
    values: Vec<Option<f64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerMeta {
    #[serde(default)]
    puid: String,
    #[serde(default)]
    tags: BTreeMap<String, Json>,
    #[serde(default)]
    routing: BTreeMap<String, i32>,
    #[serde(default)]
    request_path: BTreeMap<String, String>,
}

/// Returns an answer, the JSON that it is over REST, as a framed `SeldonMessage`.
///
/// # Errors
/// Code `Internal` if it is none.
pub fn response_message(answer: &[u8]) -> Result<Vec<u8>, RequestError> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| {
        RequestError::new(
            coracle_base::Code::Internal,
            format!("the model's answer: {error}"),
        )
    })?;
    let data = answer.data.map(|data| {
        let rows = |rows: Vec<Json>| {
            Matrix::Rows(ListValue {
                values: rows.into_iter().map(as_value).collect(),
            })
        };
        let tensor = |tensor: AnswerTensor| {
            Matrix::Tensor(Tensor {
                shape: tensor.shape,
                values: tensor
                    .values
                    .into_iter()
                    .map(|value| value.unwrap_or(f64::NAN))
                    .collect(),
            })
        };
        Data::Default(DefaultData {
            names: data.names,
            matrix: data.ndarray.map(rows).or(data.tensor.map(tensor)),
        })
    });
    let meta = answer.meta.map(|meta| Meta {
        puid: meta.puid,
        tags: meta
            .tags
            .into_iter()
            .map(|(name, value)| (name, as_value(value)))
            .collect(),
        routing: meta.routing,
        request_path: meta.request_path,
    });
    Ok(frame(&SeldonMessage { meta, data }))
}

/// The depth is bounded by the reader of JSON.
pub(super) fn as_value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::Null(0),
        Json::Bool(truth) => Kind::Truth(truth),
        Json::Number(number) => Kind::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::Text(text),
        Json::Array(values) => Kind::List(ListValue {
            values: values.into_iter().map(as_value).collect(),
        }),
        Json::Object(fields) => Kind::Struct(Struct {
            fields: fields
                .into_iter()
                .map(|(name, value)| (name, as_value(value)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::PREFIX_BYTES;

    fn json_of(message: &SeldonMessage) -> Result<Json, String> {
        let text = request_json(message.encode_to_vec().into());
        let text = text.map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&text).unwrap())
    }

    fn message(matrix: Matrix) -> SeldonMessage {
        SeldonMessage {
            meta: Some(Meta {
                puid: "p".to_owned(),
                tags: [("a".to_owned(), as_value(json!([1, "x", null, {"b": true}])))].into(),
                ..Meta::default()
            }),
            data: Some(Data::Default(DefaultData {
                names: vec!["x".to_owned()],
                matrix: Some(matrix),
            })),
        }
    }

    #[test]
    fn messages_are_what_they_are_over_rest() {
        let tensor = Tensor {
            shape: vec![1, 2],
            values: vec![0.1, f64::NAN],
        };
        let meta = json!({"puid": "p", "tags": {"a": [1.0, "x", null, {"b": true}]}});
        assert_eq!(
            json_of(&message(Matrix::Tensor(tensor))).unwrap(),
            json!({"data": {"names": ["x"], "tensor": {"shape": [1, 2], "values": [0.1, null]}}, "meta": meta})
        );
        let rows = json!([[1.5, "a"], [2.0, true]]);
        let Json::Array(values) = rows.clone() else {
            panic!()
        };
        let list = ListValue {
            values: values.into_iter().map(as_value).collect(),
        };
        assert_eq!(
            json_of(&message(Matrix::Rows(list))).unwrap(),
            json!({"data": {"names": ["x"], "ndarray": rows}, "meta": meta})
        );
        let text = SeldonMessage {
            meta: None,
            data: Some(Data::Text("t".to_owned())),
        };
        assert_eq!(json_of(&text).unwrap(), json!({"strData": ""}));
        assert_eq!(json_of(&SeldonMessage::default()).unwrap(), json!({}));
    }

    #[test]
    fn what_json_has_not_is_refused() {
        let endless = Tensor {
            shape: vec![1],
            values: vec![f64::NEG_INFINITY],
        };
        let error = json_of(&message(Matrix::Tensor(endless))).unwrap_err();
        assert!(error.contains("infinite"), "{error}");
        let mut deep = as_value(json!(1));
        for _ in 0..=DEPTH_MAX {
            deep = Value {
                kind: Some(Kind::List(ListValue { values: vec![deep] })),
            };
        }
        let deep = ListValue { values: vec![deep] };
        let error = json_of(&message(Matrix::Rows(deep))).unwrap_err();
        assert!(error.contains("deeper than 16"), "{error}");
        let whole = message(Matrix::TensorFlow(Bytes::from_static(b"abc"))).encode_to_vec();
        for end in 0..whole.len() {
            // Some are whole messages, none is a panic.
            let _outcome = request_json(Bytes::copy_from_slice(&whole[..end]));
        }
    }

    #[test]
    fn answers_and_feedback_go_across() {
        let answer = json!({
            "data": {"names": ["t:0"], "ndarray": [[0.5, null], ["a", 1]]},
            "meta": {"puid": "p", "tags": {"k": 1}, "routing": {"r": 1}, "requestPath": {"a": "coracle"}},
        });
        let framed = response_message(answer.to_string().as_bytes()).unwrap();
        let message = Bytes::copy_from_slice(&framed[PREFIX_BYTES..]);
        let read: SeldonMessage = decode(message.clone()).unwrap();
        assert_eq!(read.meta.as_ref().unwrap().request_path["a"], "coracle");
        let back: Json = serde_json::from_slice(&request_json(message).unwrap()).unwrap();
        assert_eq!(back["data"]["ndarray"], json!([[0.5, null], ["a", 1.0]]));
        let feedback = Feedback {
            request: None,
            response: Some(read),
            reward: 0.1,
        };
        let text = feedback_json(feedback.encode_to_vec().into()).unwrap();
        let feedback = super::super::read_feedback(&text).unwrap();
        assert!((feedback.reward - 0.1).abs() < 1e-12);
        assert_eq!(feedback.routing["r"], 1);
    }

    /// JSON has no such numbers, and what is left out is a reward of 0.
    #[test]
    fn rewards_that_are_no_numbers_are_refused_as_over_rest() {
        for (reward, name) in [
            (f32::NAN, "NaN"),
            (f32::INFINITY, "inf"),
            (-f32::INFINITY, "-inf"),
        ] {
            let feedback = Feedback {
                request: None,
                response: None,
                reward,
            };
            let text = feedback_json(feedback.encode_to_vec().into()).unwrap();
            let error = super::super::read_feedback(&text).unwrap_err().to_string();
            let sent = format!(r#"{{"reward": "{name}"}}"#);
            let over_rest = super::super::read_feedback(sent.as_bytes()).unwrap_err();
            // But for the place within the text.
            let words = |text: &str| text.split(" at line").next().unwrap_or_default().to_owned();
            assert_eq!(words(&error), words(&over_rest.to_string()));
            assert!(error.contains("is no number of magnitude"), "{error}");
        }
        assert!(response_message(b"[").is_err());
    }
}
