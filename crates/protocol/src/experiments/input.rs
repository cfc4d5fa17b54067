//! The first element of an input that a request gives by its name, read without decoding the others: where a user's number is a feature of the model.
//!
//! Of JSON the inputs of V2 (with binary data, too), the columns of V1 (`{"inputs": {"user": [7]}}`) and the first of its rows of named features
//! (`{"instances": [{"user": 7}]}`), by whichever of its names for them; of gRPC typed and raw contents. Half-precision numbers and tensors in shared memory are not read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::unit::{float_text, is_unit, number};
use crate::grpc;
use crate::grpc::inference::{InferInputTensor, ModelInferRequest};

/// An element of an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// A text, or a number as one: a whole number is the same text in every datatype.
    Text(String),
    /// A truth value.
    Truth(bool),
}

impl Element {
    /// Returns it as a unit; `None` if it is a truth value, empty or too long.
    #[must_use]
    pub fn unit(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text).filter(|text| is_unit(text)),
            Self::Truth(_) => None,
        }
    }

    /// Returns it as a number, 1 for true; `None` if it is none.
    #[must_use]
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Text(text) => number(&text),
            Self::Truth(value) => Some(f64::from(u8::from(value))),
        }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    inputs: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "dataframe_records")]
    instances: Option<&'a RawValue>,
    #[serde(borrow, default)]
    dataframe_split: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    columns: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    datatype: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    parameters: InputParameters,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

/// Returns the first element of the input `name` of a body of V2, whose JSON `binary` follows; `None` if it is not there, or the body is something else.
#[must_use]
pub fn v2_input(json: &[u8], binary: &[u8], name: &str) -> Option<Element> {
    // What is wrong with the body is said where it is decoded.
    let body: Body<'_> = serde_json::from_slice(json).ok()?;
    tensor(body.inputs?, binary, name)
}

/// Returns the first element of what a body of V1 has under `name`, in its columns or in the first of its rows of named features; `None` if it is not there, or the body is
/// something else. `inputs` means the same as `instances` does.
#[must_use]
pub fn v1_input(json: &[u8], name: &str) -> Option<Element> {
    let body: Body<'_> = serde_json::from_slice(json).ok()?;
    match (body.inputs.or(body.instances), body.dataframe_split) {
        (Some(rows), _) if rows.get().starts_with('[') => {
            let row: First<&RawValue> = serde_json::from_str(rows.get()).ok()?;
            column(row.0?, name)
        }
        (Some(columns), _) => column(columns, name),
        (None, Some(frame)) => cell(frame, name),
        (None, None) => None,
    }
}

/// Returns what the first row of a data frame has in the column `name`.
fn cell(frame: &RawValue, name: &str) -> Option<Element> {
    let frame: Frame<'_> = serde_json::from_str(frame.get()).ok()?;
    let place = frame.columns.iter().position(|column| column == name)?;
    let row: First<Vec<&RawValue>> = serde_json::from_str(frame.data.get()).ok()?;
    leaf(row.0?.get(place)?)
}

/// Returns the first element of the tensor `name` of V2's.
fn tensor(inputs: &RawValue, binary: &[u8], name: &str) -> Option<Element> {
    let inputs: Vec<Input<'_>> = serde_json::from_str(inputs.get()).ok()?;
    let mut begin = 0_usize;
    for input in inputs {
        let size = input.parameters.binary_data_size;
        if input.name == name {
            return match (size, input.data) {
                (Some(size), None) => {
                    let bytes = binary.get(begin..begin.checked_add(size)?)?;
                    raw(&input.datatype, bytes)
                }
                (None, Some(data)) => leaf(data),
                _ => None,
            };
        }
        begin = begin.checked_add(size.unwrap_or(0))?;
    }
    None
}

/// Returns the first element of what an object has under `name`.
fn column(object: &RawValue, name: &str) -> Option<Element> {
    let columns: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(object.get()).ok()?;
    leaf(columns.get(name)?)
}

fn leaf(data: &RawValue) -> Option<Element> {
    let leaf: Leaf = serde_json::from_str(data.get()).ok()?;
    leaf.0
}

/// The first element of a list; everything else is passed over.
struct First<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = First<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First<T>, A::Error> {
                let first = seq.next_element()?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }

        deserializer.deserialize_seq(Reader(std::marker::PhantomData))
    }
}

/// The first element of lists in lists, as deep as the reader of JSON goes.
struct Leaf(Option<Element>);

impl<'de> Deserialize<'de> for Leaf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Leaf;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an element, or lists of such")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Leaf, A::Error> {
                let first: Option<Leaf> = seq.next_element()?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(first.unwrap_or(Leaf(None)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Leaf, E> {
                Ok(Leaf(Some(Element::Text(text.to_owned()))))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Leaf, E> {
                Ok(Leaf(Some(Element::Text(number.to_string()))))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Leaf, E> {
                Ok(Leaf(Some(Element::Text(number.to_string()))))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Leaf, E> {
                Ok(Leaf(float_text(number).map(Element::Text)))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Leaf, E> {
                Ok(Leaf(Some(Element::Truth(value))))
            }

            fn visit_unit<E>(self) -> Result<Leaf, E> {
                Ok(Leaf(None))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// Returns the first element of a tensor's bytes.
fn raw(datatype: &str, bytes: &[u8]) -> Option<Element> {
    fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
        bytes.get(..N)?.try_into().ok()
    }
    let text = match datatype {
        "BOOL" => return Some(Element::Truth(*bytes.first()? != 0)),
        "UINT8" => u8::from_le_bytes(first(bytes)?).to_string(),
        "UINT16" => u16::from_le_bytes(first(bytes)?).to_string(),
        "UINT32" => u32::from_le_bytes(first(bytes)?).to_string(),
        "UINT64" => u64::from_le_bytes(first(bytes)?).to_string(),
        "INT8" => i8::from_le_bytes(first(bytes)?).to_string(),
        "INT16" => i16::from_le_bytes(first(bytes)?).to_string(),
        "INT32" => i32::from_le_bytes(first(bytes)?).to_string(),
        "INT64" => i64::from_le_bytes(first(bytes)?).to_string(),
        "FP32" => short_float_text(f32::from_le_bytes(first(bytes)?))?,
        "FP64" => float_text(f64::from_le_bytes(first(bytes)?))?,
        "BYTES" => {
            let size = usize::try_from(u32::from_le_bytes(first(bytes)?)).ok()?;
            let text = bytes.get(4..size.checked_add(4)?)?;
            std::str::from_utf8(text).ok()?.to_owned()
        }
        _ => return None,
    };
    Some(Element::Text(text))
}

/// Returns a number as the shortest text that is read as it, as JSON would have it.
fn short_float_text(number: f32) -> Option<String> {
    match number.fract() == 0.0 {
        true => float_text(f64::from(number)),
        false => number.is_finite().then(|| number.to_string()),
    }
}

/// Returns the first element of the input `name` of a ModelInferRequest; `None` if it is not there, or the message is something else.
#[must_use]
pub fn grpc_input(message: &Bytes, name: &str) -> Option<Element> {
    let request: ModelInferRequest = grpc::decode(message.clone()).ok()?;
    let mut inputs = request.inputs.iter();
    let place = inputs.position(|input| input.name == name)?;
    let input = request.inputs.get(place)?;
    match request.raw_input_contents.is_empty() {
        true => typed(input),
        false => raw(&input.datatype, request.raw_input_contents.get(place)?),
    }
}

fn typed(input: &InferInputTensor) -> Option<Element> {
    let contents = input.contents.as_ref()?;
    let text = match input.datatype.as_str() {
        "BOOL" => return Some(Element::Truth(*contents.bool_contents.first()?)),
        "UINT8" | "UINT16" | "UINT32" => contents.uint_contents.first()?.to_string(),
        "UINT64" => contents.uint64_contents.first()?.to_string(),
        "INT8" | "INT16" | "INT32" => contents.int_contents.first()?.to_string(),
        "INT64" => contents.int64_contents.first()?.to_string(),
        "FP32" => short_float_text(*contents.fp32_contents.first()?)?,
        "FP64" => float_text(*contents.fp64_contents.first()?)?,
        "BYTES" => {
            let bytes = contents.bytes_contents.first()?;
            std::str::from_utf8(bytes).ok()?.to_owned()
        }
        _ => return None,
    };
    Some(Element::Text(text))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::grpc::inference::InferTensorContents;

    fn unit(body: &str, name: &str) -> Option<String> {
        v1_input(body.as_bytes(), name)?.unit()
    }

    fn unit_of_v2(body: &str, name: &str) -> Option<String> {
        v2_input(body.as_bytes(), b"", name)?.unit()
    }

    #[test]
    fn inputs_are_found_by_their_name() {
        let v2 = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]},
            {"name": "user", "shape": [2, 1], "datatype": "INT64", "data": [[1001], [2]]},
            {"name": "flag", "shape": [1], "datatype": "BOOL", "data": [true]},
            {"name": "none", "shape": [0], "datatype": "INT64", "data": []},
            {"name": "shared", "shape": [1], "datatype": "INT64", "parameters": {"shared_memory_region": "r"}}]}"#;
        let columns = r#"{"inputs": {"user": [["u-1"], ["u-2"]], "x": 7.0}}"#;
        let frame = r#"{"dataframe_split": {"columns": ["x", "user"], "index": [0], "data": [[1, "u-9"], [2, "u"]]}}"#;
        let rows = r#"{"instances": [{"user": 1001.0, "x": [0.25]}, {"user": 5}]}"#;
        for (name, expected) in [
            ("user", Some("1001")),
            ("x", Some("0.5")),
            ("flag", None),
            ("none", None),
            ("shared", None),
            ("nobody", None),
            ("name", None),
        ] {
            assert_eq!(unit_of_v2(v2, name).as_deref(), expected, "{name}");
        }
        for body in [rows, columns, frame, r#"{"inputs": [1]}"#, "{}", ""] {
            assert_eq!(unit_of_v2(body, "user"), None);
        }
        let same_rows = rows.replace("instances", "inputs");
        let same_columns = columns.replace("inputs", "instances");
        for (body, name, expected) in [
            (same_rows.as_str(), "user", Some("1001")),
            (&same_rows, "x", Some("0.25")),
            (&same_columns, "user", Some("u-1")),
            (r#"{"inputs": [[1, 2], [3, 4]]}"#, "user", None),
            (columns, "user", Some("u-1")),
            (columns, "x", Some("7")),
            (rows, "user", Some("1001")),
            (rows, "x", Some("0.25")),
            (rows, "y", None),
            (r#"{"dataframe_records": [{"user": 7}]}"#, "user", Some("7")),
            (frame, "user", Some("u-9")),
            (frame, "y", None),
            (
                r#"{"dataframe_split": {"columns": ["user"], "data": [[]]}}"#,
                "user",
                None,
            ),
            (r#"{"instances": [[1, 2]]}"#, "user", None),
            (r#"{"instances": []}"#, "user", None),
            (r#"{"inputs": [1]}"#, "user", None),
            (r#"{"inputs": 1}"#, "user", None),
            ("{}", "user", None),
            ("", "user", None),
        ] {
            assert_eq!(unit(body, name).as_deref(), expected, "{name}: {body}");
        }
        let flag = v2_input(v2.as_bytes(), b"", "flag").unwrap();
        assert_eq!(flag.number(), Some(1.0));
        let deep = format!("{{\"inputs\": {{\"u\": {}}}}}", "[".repeat(100_000));
        assert_eq!(unit(&deep, "u"), None);
    }

    /// The same number is the same unit in whatever datatype it is sent.
    #[test]
    fn one_number_is_one_unit_in_every_datatype() {
        let bytes: [(&str, Vec<u8>); 7] = [
            ("INT64", 1001_i64.to_le_bytes().to_vec()),
            ("INT32", 1001_i32.to_le_bytes().to_vec()),
            ("INT16", 1001_i16.to_le_bytes().to_vec()),
            ("UINT64", 1001_u64.to_le_bytes().to_vec()),
            ("FP32", 1001_f32.to_le_bytes().to_vec()),
            ("FP64", 1001_f64.to_le_bytes().to_vec()),
            ("BYTES", [&4_u32.to_le_bytes()[..], b"1001rest"].concat()),
        ];
        for (datatype, bytes) in bytes {
            let size = bytes.len();
            let json = format!(
                r#"{{"inputs": [{{"name": "x", "shape": [1], "datatype": "UINT8", "parameters": {{"binary_data_size": 1}}}},
                {{"name": "user", "shape": [1], "datatype": "{datatype}", "parameters": {{"binary_data_size": {size}}}}}]}}"#
            );
            let tail = [&[9][..], &bytes].concat();
            let found = v2_input(json.as_bytes(), &tail, "user").unwrap();
            assert_eq!(found.unit().as_deref(), Some("1001"), "{datatype}");
            let raw = ModelInferRequest {
                inputs: vec![input("x", "UINT8", None), input("user", datatype, None)],
                raw_input_contents: vec![Bytes::from_static(&[9]), Bytes::from(bytes)],
                ..ModelInferRequest::default()
            };
            let message = Bytes::from(raw.encode_to_vec());
            let found = grpc_input(&message, "user").unwrap();
            assert_eq!(found.unit().as_deref(), Some("1001"), "{datatype}");
            // What is cut short has none.
            assert_eq!(v2_input(json.as_bytes(), &tail[..2], "user"), None);
        }
        let contents = InferTensorContents {
            fp32_contents: vec![0.1],
            int64_contents: vec![-5],
            bytes_contents: vec![Bytes::from_static(b"u")],
            bool_contents: vec![true],
            ..InferTensorContents::default()
        };
        for (datatype, expected) in [
            ("FP32", Some("0.1")),
            ("INT64", Some("-5")),
            ("BYTES", Some("u")),
            ("BOOL", None),
            ("FP64", None),
            ("FP16", None),
        ] {
            let typed = ModelInferRequest {
                inputs: vec![input("user", datatype, Some(contents.clone()))],
                ..ModelInferRequest::default()
            };
            let found = grpc_input(&Bytes::from(typed.encode_to_vec()), "user");
            let found = found.and_then(Element::unit);
            assert_eq!(found.as_deref(), expected, "{datatype}");
        }
        assert_eq!(grpc_input(&Bytes::from_static(b"\xff"), "user"), None);
    }

    fn input(
        name: &str,
        datatype: &str,
        contents: Option<InferTensorContents>,
    ) -> InferInputTensor {
        InferInputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![1],
            contents,
            ..InferInputTensor::default()
        }
    }

    #[test]
    fn damaged_bodies_never_panic() {
        let json = br#"{"inputs": [{"name": "a", "datatype": "BYTES", "parameters": {"binary_data_size": 6}}, {"name": "u", "data": [[0.5e300]]}]}"#;
        for index in 0..json.len() {
            for byte in [0, b'"', b'{', b'}', b'[', b'9', b'-', 0xff] {
                let mut damaged = json.to_vec();
                damaged[index] = byte;
                for name in ["a", "u"] {
                    drop(v2_input(&damaged, b"\x02\0\0\0ab", name));
                    drop(v1_input(&damaged, name));
                }
            }
            drop(v2_input(&json[..index], b"\xff\xff\xff\xff", "a"));
            drop(v1_input(&json[..index], "a"));
        }
    }
}
