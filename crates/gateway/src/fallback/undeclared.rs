//! The default prediction of a program, of whose answers neither columns nor rows are known: as many rows as the request has, of what the value itself is.
//!
//! Whole numbers are INT64, other numbers FP64, texts BYTES, truth values BOOL; a list is a row of as many. One value without a name answers for the one output
//! that V2 asks for, which is called `predict` where it asks for none.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use coracle_base::Code;
use coracle_model::{Signature, TensorSpec};
use coracle_protocol::grpc::inference::ModelInferRequest;
use coracle_protocol::grpc::{Message as _, decode};
use coracle_protocol::{Call, EncodeContext, Layout, NoRegions};
use coracle_serving::{Protocol, ServedModel};
use coracle_tensor::{DType, Tensor};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::stand_in::{Values, marked, tensor};
use crate::codec::{Codec, Encoded, StandIn, StoodIn};

/// The name of an output that nobody names.
const OUTPUT: &str = "predict";
/// The most bytes that are kept of what is asked for: rows are not, and what else is said of an answer is short.
const ASKED_BYTES_MAX: usize = 64 << 10;
/// The parameter of an output that is to be written to the caller's memory.
const REGION: &str = "shared_memory_region";

/// What a request says of the answer that it wants: two that say the same want the same of a model, but for what they put in.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked {
    /// Where it is asked: the path, which names a model and its version, and the query.
    target: String,
    protocol: Protocol,
    n_rows: usize,
    /// The outputs by name; none for the default.
    outputs: Vec<String>,
    /// What else is said of the answer, such as that it is wanted in binary or by which method, as its protocol writes it; `None` if they are wanted where no answer of one's own is: in the caller's memory, or if that is too much to be kept.
    forms: Option<Vec<u8>>,
}

impl Asked {
    /// Returns it as that of a request whose answer is not kept, if it is too long itself.
    fn bounded(self) -> Self {
        let is_too_long = self.n_bytes() > ASKED_BYTES_MAX;
        Self {
            forms: self.forms.filter(|_| !is_too_long),
            ..self
        }
    }

    /// Tells whether such an answer is all that there is of it.
    pub(crate) fn is_answered_here(&self) -> bool {
        self.forms.is_some()
    }

    pub(super) fn n_bytes(&self) -> usize {
        let names: usize = self.outputs.iter().map(String::len).sum();
        let of_each = self.outputs.len() * size_of::<String>();
        names + of_each + self.target.len() + self.forms.as_ref().map_or(0, Vec::len)
    }
}

/// Returns the default prediction of a program in the protocol of the request, in an answer that says so; `None` if there is none for what is asked.
pub(crate) fn undeclared(
    value: &str,
    model: &ServedModel,
    (codec, body): (&Codec, &Bytes),
    (code, elements_max): (Code, usize),
) -> Option<Encoded> {
    let (asked, id) = asked("", codec, body)?;
    let values: Vec<(String, Value)> = match Values::read(value)? {
        Values::One(value) => {
            let mut names = asked.outputs.iter();
            let name = names.next().map_or(OUTPUT, String::as_str).to_owned();
            vec![(name, value)]
        }
        Values::ByOutput(by_output) => by_output.into_iter().collect(),
    };
    // A text counts as so many numbers as take its place.
    let size = |item: &Value| 1 + item.as_str().map_or(0, str::len) / size_of::<f64>();
    let width = |value: &Value| match value {
        Value::Array(items) => items.iter().map(size).sum(),
        item => size(item),
    };
    let n_elements = values.iter().map(|(_, value)| width(value)).sum::<usize>();
    // Every row takes a byte of the request at least: a shape alone asks for nothing.
    if asked.n_rows > body.len() || n_elements.saturating_mul(asked.n_rows) > elements_max {
        return None;
    }
    let specs = values.iter().map(|(name, value)| spec(name, value));
    let specs: Vec<TensorSpec> = specs.collect::<Option<_>>()?;
    let tensors = specs.iter().zip(&values);
    let tensors = tensors.map(|(spec, (_, value))| tensor(spec, value, asked.n_rows));
    let tensors: Vec<Tensor> = tensors.collect::<Option<_>>()?;
    let wanted = |name: &String| specs.iter().position(|spec| spec.name == *name);
    let outputs: Vec<usize> = match asked.outputs.as_slice() {
        [] => (0..specs.len()).collect(),
        names => {
            let mut outputs = Vec::new();
            // As of a model's outputs, one that is asked for again is given once.
            for name in names {
                let index = wanted(name)?;
                if !outputs.contains(&index) {
                    outputs.push(index);
                }
            }
            outputs
        }
    };
    let tensors = outputs.iter().map(|index| tensors.get(*index).cloned());
    let tensors: Vec<Tensor> = tensors.collect::<Option<_>>()?;
    let signature = Signature {
        name_rules: Default::default(),
        inputs: Vec::new(),
        default_outputs: outputs.clone(),
        outputs: specs,
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        columns: None,
    };
    let call = Call {
        inputs: Vec::new(),
        outputs,
        forms: Vec::new(),
        layout: Layout::Rows,
        id,
        tags: None,
        n_rows: asked.n_rows,
        timeout: None,
        priority: 0,
    };
    let ctx = EncodeContext {
        model_name: model.name(),
        model_version: model.version(),
        signature: &signature,
        regions: &NoRegions,
    };
    let encoded = codec.encode(&ctx, &call, &tensors).ok()?;
    let by = StandIn::Constant;
    marked(codec, encoded, StoodIn::new(code, by))
}

/// Returns what an output is that has this value in each row.
fn spec(name: &str, value: &Value) -> Option<TensorSpec> {
    let (row, width) = match value {
        Value::Array(items) => (items.as_slice(), Some(items.len())),
        value => (std::slice::from_ref(value), None),
    };
    let all = |is: fn(&Value) -> bool| row.iter().all(is);
    let dtype = if all(Value::is_i64) {
        DType::I64
    } else if all(Value::is_number) {
        DType::F64
    } else if all(Value::is_string) {
        DType::Bytes
    } else if all(Value::is_boolean) {
        DType::Bool
    } else {
        return None;
    };
    let mut shape = vec![None];
    shape.extend(width.map(Some));
    Some(TensorSpec {
        name: name.to_owned(),
        dtype,
        shape,
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    })
}

/// Reads as much of a request to `target` as that, and its id; `None` if it is none, or in a protocol whose answers say more.
pub(crate) fn asked(target: &str, codec: &Codec, body: &Bytes) -> Option<(Asked, Option<String>)> {
    let target = target.to_owned();
    let protocol = codec.protocol();
    match codec {
        Codec::V1 { method: None } => {
            let of_v1: OfV1<'_> = serde_json::from_slice(body).ok()?;
            let asked = Asked {
                target,
                protocol,
                n_rows: of_v1.n_rows?,
                outputs: Vec::new(),
                forms: match of_v1.others {
                    Some(others) => Some(serde_json::to_vec(&others).ok()?),
                    None => None,
                },
            };
            Some((asked.bounded(), None))
        }
        Codec::V2 {
            method: None,
            json_length,
        } => asked_in_v2(target, body.get(..json_length.unwrap_or(body.len()))?),
        Codec::Grpc => {
            let request: ModelInferRequest = decode(body.clone()).ok()?;
            let n_rows = *request.inputs.first()?.shape.first()?;
            let mut outputs = request.outputs.iter();
            let is_elsewhere = outputs.any(|output| output.parameters.contains_key(REGION));
            let wanted = ModelInferRequest {
                model_name: request.model_name,
                model_version: request.model_version,
                parameters: request.parameters,
                outputs: request.outputs,
                ..ModelInferRequest::default()
            };
            let asked = Asked {
                target,
                protocol,
                n_rows: usize::try_from(n_rows).ok()?,
                forms: (!is_elsewhere).then(|| wanted.encode_to_vec()),
                outputs: wanted.outputs.into_iter().map(|one| one.name).collect(),
            };
            Some((
                asked.bounded(),
                Some(request.id).filter(|id| !id.is_empty()),
            ))
        }
        _ => None,
    }
}

/// What a V1 request says.
struct OfV1<'a> {
    /// The number of its `instances`, if it has some.
    n_rows: Option<usize>,
    /// What it says besides its rows, as it is written; `None` if that is too much to be kept.
    others: Option<BTreeMap<String, &'a RawValue>>,
}

impl<'de> Deserialize<'de> for OfV1<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = OfV1<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<OfV1<'de>, A::Error> {
                let mut found = OfV1 {
                    n_rows: None,
                    others: Some(BTreeMap::new()),
                };
                let mut n_left = ASKED_BYTES_MAX;
                while let Some(key) = entries.next_key::<String>()? {
                    match key.as_str() {
                        "instances" if found.n_rows.is_some() => {
                            return Err(A::Error::duplicate_field("instances"));
                        }
                        "instances" => {
                            found.n_rows = Some(entries.next_value::<Vec<IgnoredAny>>()?.len());
                        }
                        _ => {
                            let value: &RawValue = entries.next_value()?;
                            let n_bytes = key.len() + value.get().len();
                            match (&mut found.others, n_left.checked_sub(n_bytes)) {
                                (Some(others), Some(left)) => {
                                    n_left = left;
                                    others.insert(key, value);
                                }
                                (others, _) => *others = None,
                            }
                        }
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn asked_in_v2(target: String, json: &[u8]) -> Option<(Asked, Option<String>)> {
    #[derive(Deserialize)]
    struct OfV2<'a> {
        #[serde(default)]
        id: Option<String>,
        inputs: Vec<Input>,
        #[serde(borrow, default)]
        outputs: Option<Vec<Output<'a>>>,
        #[serde(borrow, default)]
        parameters: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Input {
        shape: Vec<usize>,
    }
    #[derive(Deserialize)]
    struct Output<'a> {
        name: String,
        #[serde(borrow, default)]
        parameters: Option<&'a RawValue>,
    }
    let of_v2: OfV2<'_> = serde_json::from_slice(json).ok()?;
    let outputs = of_v2.outputs.unwrap_or_default();
    let of_outputs = || outputs.iter().map(|output| output.parameters);
    let given = of_outputs().chain([of_v2.parameters]).flatten();
    let n_bytes: usize = given.map(|given| given.get().len()).sum();
    let forms = match n_bytes <= ASKED_BYTES_MAX && !of_outputs().flatten().any(names_region) {
        true => {
            let of_outputs: Vec<Option<&RawValue>> = of_outputs().collect();
            Some(serde_json::to_vec(&(of_v2.parameters, of_outputs)).ok()?)
        }
        false => None,
    };
    let asked = Asked {
        target,
        protocol: Protocol::V2,
        n_rows: *of_v2.inputs.first()?.shape.first()?,
        forms,
        outputs: outputs.into_iter().map(|output| output.name).collect(),
    };
    Some((asked.bounded(), of_v2.id))
}

/// Tells whether the parameters of an output say that it is to be written to the caller's memory.
fn names_region(parameters: &RawValue) -> bool {
    let parameters: Result<BTreeMap<String, IgnoredAny>, _> =
        serde_json::from_str(parameters.get());
    parameters.is_ok_and(|parameters| parameters.contains_key(REGION))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const V1: Codec = Codec::V1 { method: None };
    const V2: Codec = Codec::V2 {
        method: None,
        json_length: None,
    };

    fn given(value: &str, codec: &Codec, body: &str) -> Option<Value> {
        let model = ServedModel::unloaded("sum".to_owned(), 1);
        let body = Bytes::from(body.to_owned());
        let limits = (Code::Unavailable, 100);
        let encoded = undeclared(value, &model, (codec, &body), limits)?;
        Some(serde_json::from_slice(&encoded.body).unwrap())
    }

    #[test]
    fn a_short_request_has_no_long_answer() {
        let body = |outputs: &str| {
            format!(
                r#"{{"inputs": [{{"name": "x", "shape": [2], "datatype": "FP64", "data": [1, 2]}}], "outputs": [{outputs}]}}"#
            )
        };
        let many = vec![r#"{"name": "predict"}"#; 1_000].join(",");
        let found = given("1", &V2, &body(&many)).unwrap();
        assert_eq!(found["outputs"].as_array().map(Vec::len), Some(1));
        // 100 numbers are allowed: two rows of a text that takes 60 each are more.
        let text = |n_bytes: usize| format!("\"{}\"", "x".repeat(n_bytes));
        assert!(given(&text(8 * 40), &V2, &body("")).is_some());
        assert_eq!(given(&text(8 * 60), &V2, &body("")), None);
    }

    /// Nor is it taken for the answer to another one that is as long.
    #[test]
    fn what_says_too_much_of_its_answer_is_not_kept() {
        let rows = r#""instances": [[1], [2]]"#;
        let tensor =
            r#""inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": [1, 2]}]"#;
        let many = |n: usize| vec![r#"{"name": "y"}"#; n].join(",");
        for n_bytes in [100, ASKED_BYTES_MAX] {
            let text = "x".repeat(n_bytes);
            let fields: String = (0..n_bytes / 8).map(|n| format!(r#", "{n}": 1"#)).collect();
            for (codec, body) in [
                (&V1, format!(r#"{{{rows}, "more": [1, "{text}"]}}"#)),
                (&V1, format!(r#"{{"more": "{text}", {rows}, "other": 1}}"#)),
                (&V1, format!("{{{rows}{fields}{fields}}}")),
                (
                    &V2,
                    format!(r#"{{{tensor}, "parameters": {{"a": "{text}"}}}}"#),
                ),
                (
                    &V2,
                    format!(r#"{{{tensor}, "outputs": [{{"name": "{text}"}}]}}"#),
                ),
                (
                    &V2,
                    format!(r#"{{{tensor}, "outputs": [{}]}}"#, many(n_bytes / 8)),
                ),
                (
                    &V2,
                    format!(
                        r#"{{{tensor}, "outputs": [{{"name": "y", "parameters": {{"a": "{text}"}}}}]}}"#
                    ),
                ),
            ] {
                let (asked, _id) = asked("/a", codec, &Bytes::from(body)).unwrap();
                assert_eq!(asked.n_rows, 2);
                assert_eq!(asked.is_answered_here(), n_bytes == 100);
            }
        }
    }

    #[test]
    fn each_row_of_a_request_has_the_value() {
        let rows = r#"{"instances": [[1, 2], [3, 4]]}"#;
        for (value, predictions) in [
            ("0", json!([0, 0])),
            ("0.5", json!([0.5, 0.5])),
            ("\"no\"", json!(["no", "no"])),
            ("true", json!([true, true])),
            ("[0.25, 1]", json!([[0.25, 1.0], [0.25, 1.0]])),
            (r#"{"label": 3}"#, json!([3, 3])),
        ] {
            let found = given(value, &V1, rows).unwrap();
            assert_eq!(found, json!({"predictions": predictions}), "{value}");
        }
        let tensor = |more: &str| {
            format!(
                r#"{{"id": "7", "inputs": [{{"name": "X", "shape": [2, 1], "datatype": "FP64", "data": [1, 2]}}]{more}}}"#
            )
        };
        let answer = |outputs: Value| {
            json!({
                "parameters": {"fallback": "constant"},
                "model_name": "sum",
                "model_version": "1",
                "id": "7",
                "outputs": outputs
            })
        };
        let found = given("[0.25, 0.75]", &V2, &tensor("")).unwrap();
        let whole = json!([{"name": "predict", "shape": [2, 2], "datatype": "FP64", "data": [0.25, 0.75, 0.25, 0.75]}]);
        assert_eq!(found, answer(whole));
        let wanted = tensor(r#", "outputs": [{"name": "label"}]"#);
        let by_name = r#"{"score": 0.5, "label": "no"}"#;
        let label =
            json!([{"name": "label", "shape": [2], "datatype": "BYTES", "data": ["no", "no"]}]);
        assert_eq!(given(by_name, &V2, &wanted).unwrap(), answer(label.clone()));
        assert_eq!(given("\"no\"", &V2, &wanted).unwrap(), answer(label));
        assert_eq!(given(r#"{"score": 0.5}"#, &V2, &wanted), None);
        let row = json!({"score": 0.5, "label": "no"});
        let found = given(by_name, &V1, rows).unwrap();
        assert_eq!(found, json!({"predictions": [row, row]}));
    }

    #[test]
    fn what_is_no_request_or_wants_too_much_has_none() {
        for (codec, body) in [
            (&V1, ""),
            (&V1, r#"{"instances": 3}"#),
            (&V1, r#"{"inputs": [[1]]}"#),
            (&V2, r#"{"inputs": []}"#),
            (&V2, r#"{"inputs": [{"shape": [-1]}]}"#),
            (&V2, r#"{"inputs": [{"shape": [10000000]}]}"#),
            (&V2, r#"{"inputs": [{"shape": [18446744073709551615]}]}"#),
            (&Codec::Grpc, "{"),
            (&Codec::PredictMessage, ""),
        ] {
            assert_eq!(given("0", codec, body), None, "{body}");
        }
        let many = format!(r#"{{"instances": [{}1]}}"#, "1,".repeat(50));
        assert!(given("0", &V1, &many).is_some());
        assert_eq!(given("[0, 1]", &V1, &many), None, "102 of 100 elements");
        for none in ["null", "[1, \"a\"]", "[[1]]", "{"] {
            assert_eq!(given(none, &V1, r#"{"instances": [1]}"#), None, "{none}");
        }
    }
}
