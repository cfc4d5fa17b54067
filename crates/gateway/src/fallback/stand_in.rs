//! The default prediction of a service: the same for every row, in the caller's protocol. Where reading the request is costly, a thread of the
//! compute pool makes it, as it would have made the model's answer: many are wanted when all is full.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Code;
use coracle_model::{Signature, TensorSpec};
use coracle_protocol::flow::with_fallback;
use coracle_protocol::{Call, DecodeContext, EncodeContext};
use coracle_serving::batch::Entry;
use coracle_serving::{Fallback, Placement, PoolCall, Refusal, ServedModel, Ticket};
use coracle_tensor::{ByteStrings, DType, Tensor, Values as TensorValues};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::{Deciding, last_good};
use crate::codec::{Codec, Encoded, StandIn, StoodIn};
use crate::infer::{Arrival, Calls, Request};

/// What V2 and gRPC say of an answer that is not the model's.
/// As an entry of `ModelInferResponse.parameters` (4): the key (1) and an `InferParameter` (2) with a `string_param` (3).
fn message_parameters(by: StandIn) -> &'static [u8] {
    match by {
        StandIn::Constant => b"\x22\x16\x0a\x08fallback\x12\x0a\x1a\x08constant",
        StandIn::Revision => b"\x22\x16\x0a\x08fallback\x12\x0a\x1a\x08revision",
        StandIn::LastGood => b"\x22\x17\x0a\x08fallback\x12\x0b\x1a\x09last-good",
        StandIn::Service => b"\x22\x15\x0a\x08fallback\x12\x09\x1a\x07service",
    }
}

/// The least time in which a thread is found to read a costly request.
const TIME_MIN: Duration = Duration::from_millis(100);

/// A message's frame: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The default prediction: a row's value, or such by output.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    One(Value),
    ByOutput(serde_json::Map<String, Value>),
}

impl Values {
    /// Reads JSON; `None` if it is none.
    pub(super) fn read(text: &str) -> Option<Self> {
        match serde_json::from_str(text).ok()? {
            Value::Object(by_output) => Some(Self::ByOutput(by_output)),
            value => Some(Self::One(value)),
        }
    }

    /// Returns the value of an output, if it has one; the one value is that of the default output.
    fn of(&self, name: &str, is_default: bool) -> Option<&Value> {
        match self {
            Self::One(value) => Some(value).filter(|_| is_default),
            Self::ByOutput(by_output) => by_output.get(name),
        }
    }
}

/// A default prediction that is wanted.
pub(crate) struct Wanted {
    /// Who it is said to be of.
    pub(crate) model: Arc<ServedModel>,
    pub(crate) fallback: Arc<Fallback>,
    pub(crate) deciding: Arc<Deciding>,
    pub(crate) request: Request,
    /// The failure that it stands in for.
    pub(crate) code: Code,
}

/// A default prediction that waits for a thread.
struct Waiting {
    calls: Calls,
    wanted: Wanted,
    reply: oneshot::Sender<Option<Encoded>>,
}

impl PoolCall for Waiting {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn prepare(self: Box<Self>) -> Vec<Entry> {
        if !self.reply.is_closed() {
            let made = self.calls.make(&self.wanted);
            // A caller that has gone wants none.
            drop(self.reply.send(made));
        }
        Vec::new()
    }

    fn refuse(self: Box<Self>, _refusal: Refusal) {
        drop(self.reply.send(None));
    }
}

impl Calls {
    /// Returns the default prediction for a request; `None` if there is none, it is none for what is asked, or making it is costly and no
    /// thread has the time.
    pub(crate) async fn stand_in(&self, wanted: Wanted, arrival: Arrival) -> Option<Encoded> {
        if wanted.fallback.settings().value.is_none() && wanted.request.key.is_none() {
            return None;
        }
        let cost = wanted.model.cost();
        let (placement, n_bytes) = wanted.request.decode_placement(cost);
        if placement == Placement::EventLoop {
            return self.make(&wanted);
        }
        // Where the model, or another service, has taken all of it, the answer is late anyhow: a failure is no better.
        let time_left = arrival.time_left(self.clock.monotonic());
        let time_left = time_left.max(TIME_MIN);
        let ticket = Ticket {
            priority: wanted.request.priority.unwrap_or_default(),
            expected: cost.decoding(n_bytes),
            n_bytes,
            time_left,
        };
        let lane = Arc::clone(&wanted.deciding.lane);
        let (reply, made) = oneshot::channel();
        let waiting = Waiting {
            calls: self.clone(),
            wanted,
            reply,
        };
        self.pool.submit(&lane, Box::new(waiting), ticket);
        tokio::time::timeout(time_left, made).await.ok()?.ok()?
    }

    fn make(&self, wanted: &Wanted) -> Option<Encoded> {
        let Wanted {
            model,
            fallback,
            deciding,
            request,
            code,
        } = wanted;
        let signature = deciding.signature()?;
        let ctx = DecodeContext {
            signature,
            default_outputs: &signature.default_outputs,
            method: request.codec.method(),
            elements_max: self.elements_max,
            filled_bytes_max: self.body_max,
            regions: self.shared_memory.as_ref(),
        };
        let call = request.codec.decode(&request.body, &ctx).ok()?;
        let last = request.key.as_deref();
        let now = self.clock.monotonic();
        let last = last.and_then(|key| last_good(fallback).outputs((key, now), (&call, signature)));
        let (outputs, by) = match last {
            Some(outputs) => (outputs, StandIn::LastGood),
            None => {
                let values = Values::read(fallback.settings().value.as_deref()?)?;
                let outputs = constant(&values, &call, signature)?;
                (outputs, StandIn::Constant)
            }
        };
        let ctx = EncodeContext {
            model_name: model.name(),
            model_version: model.version(),
            signature,
            regions: self.shared_memory.as_ref(),
        };
        let encoded = request.codec.encode(&ctx, &call, &outputs).ok()?;
        let stood_in = StoodIn::new(*code, by);
        marked(&request.codec, encoded, stood_in)
    }
}

/// Returns the default prediction of each output that a call asks for; `None` if one has none.
fn constant(values: &Values, call: &Call, signature: &Signature) -> Option<Vec<Tensor>> {
    let outputs = call.outputs.iter().map(|index| {
        let spec = signature.outputs.get(*index)?;
        let is_default = signature.default_outputs.contains(index);
        tensor(spec, values.of(&spec.name, is_default)?, call.n_rows)
    });
    outputs.collect()
}

/// Returns the answer as one that says what it is.
pub(super) fn marked(codec: &Codec, encoded: Encoded, stood_in: StoodIn) -> Option<Encoded> {
    let mut body = encoded.body;
    let mut json_length = encoded.json_length;
    match codec {
        Codec::V2 { .. } => {
            let (start, rest) = body.split_first()?;
            let parameters = format!(
                "\"parameters\":{{\"fallback\":\"{}\"}},",
                stood_in.by.name()
            );
            body = [&[*start], parameters.as_bytes(), rest].concat();
            json_length = json_length.map(|length| length + parameters.len());
        }
        Codec::Grpc => {
            body.extend_from_slice(message_parameters(stood_in.by));
            let n_bytes = u32::try_from(body.len().checked_sub(PREFIX_BYTES)?).ok()?;
            body.get_mut(1..PREFIX_BYTES)?
                .copy_from_slice(&n_bytes.to_be_bytes());
        }
        Codec::Seldon => body = with_fallback(&body, stood_in.by.name()).ok()?,
        _ => {}
    }
    Some(Encoded {
        body,
        json_length,
        fallback: Some(stood_in),
        ..encoded
    })
}

/// As [`marked`], of an answer that a program gave, which may have parameters of its own.
pub(super) fn marked_of_program(
    codec: &Codec,
    encoded: Encoded,
    stood_in: StoodIn,
) -> Option<Encoded> {
    if !matches!(codec, Codec::V2 { .. }) {
        return marked(codec, encoded, stood_in);
    }
    let n_json = encoded.json_length.unwrap_or(encoded.body.len());
    let (json, data) = encoded.body.split_at_checked(n_json)?;
    let json = with_parameter(json, stood_in.by.name())?;
    Some(Encoded {
        json_length: encoded.json_length.map(|_| json.len()),
        body: [&json, data].concat(),
        fallback: Some(stood_in),
        ..encoded
    })
}

/// The fields of an object of JSON in their order, their values as they are written.
struct Fields<'j>(Vec<(String, &'j RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Returns an answer of V2 with the parameter that says what stood in; `None` if it is no object.
pub(super) fn with_parameter(json: &[u8], name: &str) -> Option<Vec<u8>> {
    with_field(json, "parameters", |before| {
        let mut own = match before {
            Some(parameters) => serde_json::from_str(parameters.get()).ok()?,
            None => serde_json::Map::new(),
        };
        own.insert("fallback".to_owned(), name.into());
        Some(Some(own.into()))
    })
}

/// Returns an object of JSON with a field as `new` makes it of what it was, if there is to be one; `None` if it is none.
pub(super) fn with_field(
    json: &[u8],
    name: &str,
    new: impl FnOnce(Option<&RawValue>) -> Option<Option<Value>>,
) -> Option<Vec<u8>> {
    let Fields(fields) = serde_json::from_slice(json).ok()?;
    let before = fields.iter().find(|(field, _)| field == name);
    let new = new(before.map(|(_, value)| *value))?;
    let new = new.map(|value| serde_json::value::to_raw_value(&value));
    let new = new.transpose().ok()?;
    let others = fields.iter().filter(|(field, _)| field != name);
    let others = others.map(|(field, value)| (field.as_str(), *value));
    let all = new.iter().map(|value| (name, &**value)).chain(others);
    let mut written = b"{".to_vec();
    for (index, (field, value)) in all.enumerate() {
        if index > 0 {
            written.push(b',');
        }
        serde_json::to_writer(&mut written, field).ok()?;
        written.push(b':');
        written.extend_from_slice(value.get().as_bytes());
    }
    written.push(b'}');
    Some(written)
}

/// The most outputs that are named, and characters of a value that are shown.
const NAMES_SHOWN: usize = 10;
const CHARS_SHOWN: usize = 64;

/// Checks that a default prediction is one that a model with these outputs could give: for every output that it names, or, as one value, for those that are
/// given where nothing in particular is asked for.
///
/// # Errors
/// Says what it is none of.
pub fn fits_outputs(value: &str, signature: &Signature) -> Result<(), String> {
    let outputs = &signature.outputs;
    let is_row = |spec: &TensorSpec, value: &Value| match tensor(spec, value, 1) {
        Some(_) => Ok(()),
        None => {
            let shown: String = value.to_string().chars().take(CHARS_SHOWN).collect();
            Err(format!("{shown} is no row of {}", described(spec)))
        }
    };
    match Values::read(value) {
        // That is told where it is read.
        None => Ok(()),
        Some(Values::One(value)) => {
            let defaults = signature.default_outputs.iter();
            let mut defaults = defaults.filter_map(|index| outputs.get(*index));
            defaults.try_for_each(|spec| is_row(spec, &value))
        }
        Some(Values::ByOutput(by_output)) => {
            let mut named = by_output.iter();
            named.try_for_each(|(name, value)| {
                let spec = outputs.iter().find(|spec| spec.name == *name);
                is_row(spec.ok_or_else(|| no_output(name, outputs))?, value)
            })
        }
    }
}

fn described(spec: &TensorSpec) -> String {
    let shape = spec.shape.iter().map(|size| match size {
        Some(size) => size.to_string(),
        None => "-1".to_owned(),
    });
    let shape: Vec<String> = shape.collect();
    let (name, dtype) = (&spec.name, spec.dtype.name());
    format!(
        "output {name:?}, which is {dtype} of shape [{}]",
        shape.join(", ")
    )
}

fn no_output(name: &str, outputs: &[TensorSpec]) -> String {
    let shown: String = name.chars().take(CHARS_SHOWN).collect();
    let names = outputs.iter().take(NAMES_SHOWN);
    let names: Vec<String> = names.map(|spec| format!("{:?}", spec.name)).collect();
    let more = match outputs.len() > NAMES_SHOWN {
        true => " and others",
        false => "",
    };
    format!(
        "the model has no output {shown:?}, but {}{more}",
        names.join(", ")
    )
}

/// Returns the value for every row, as the output has it; `None` if it is no such value.
pub(super) fn tensor(spec: &TensorSpec, value: &Value, n_rows: usize) -> Option<Tensor> {
    let row: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        value => vec![value],
    };
    let mut shape = vec![n_rows];
    match spec.shape.as_slice() {
        [_rows] if row.len() == 1 => {}
        [_rows, width] if width.is_none_or(|width| width == row.len()) => shape.push(row.len()),
        _ => return None,
    }
    let rows = std::iter::repeat_n(row, n_rows).flatten();
    let values = elements(spec.dtype, rows)?;
    Tensor::try_new(shape, values).ok()
}

fn elements<'v>(dtype: DType, mut items: impl Iterator<Item = &'v Value>) -> Option<TensorValues> {
    fn integers<'v, T: TryFrom<i64>>(items: impl Iterator<Item = &'v Value>) -> Option<Vec<T>> {
        items.map(|item| T::try_from(item.as_i64()?).ok()).collect()
    }
    Some(match dtype {
        DType::Bool => TensorValues::Bool(items.map(Value::as_bool).collect::<Option<_>>()?),
        DType::U8 => TensorValues::U8(integers(items)?.into()),
        DType::U16 => TensorValues::U16(integers(items)?.into()),
        DType::U32 => TensorValues::U32(integers(items)?.into()),
        DType::U64 => TensorValues::U64(items.map(Value::as_u64).collect::<Option<_>>()?),
        DType::I8 => TensorValues::I8(integers(items)?.into()),
        DType::I16 => TensorValues::I16(integers(items)?.into()),
        DType::I32 => TensorValues::I32(integers(items)?.into()),
        DType::I64 => TensorValues::I64(items.map(Value::as_i64).collect::<Option<_>>()?),
        DType::F64 => TensorValues::F64(items.map(Value::as_f64).collect::<Option<_>>()?),
        DType::F32 => TensorValues::F32(items.map(single).collect::<Option<_>>()?),
        DType::Bytes => {
            let mut strings = ByteStrings::new();
            items.try_for_each(|item| {
                strings.push(item.as_str()?.as_bytes());
                Some(())
            })?;
            TensorValues::Bytes(strings)
        }
        // No model answers with these.
        _ => return None,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the output is of singles")]
fn single(item: &Value) -> Option<f32> {
    let number = item.as_f64()? as f32;
    // One that is too large for the output would be given as no number.
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(dtype: DType, shape: Vec<Option<usize>>) -> TensorSpec {
        TensorSpec {
            name: "predict".to_owned(),
            dtype,
            shape,
            columns: None,
            accepts_missing: false,
            accepts_integers: false,
        }
    }

    #[test]
    fn a_value_is_repeated_for_every_row_as_the_output_has_it() {
        let labels = spec(DType::I64, vec![None]);
        let found = tensor(&labels, &json!(2), 3).unwrap();
        assert_eq!(found.values(), &TensorValues::I64(vec![2, 2, 2].into()));
        let shares = spec(DType::F32, vec![None, Some(2)]);
        // Larger than any single, which rounds to the largest one or to infinity.
        assert_eq!(tensor(&shares, &json!([1e39, 0.0]), 1), None);
        assert!(tensor(&shares, &json!([3.4028235e38, 1e-50]), 1).is_some());
        let found = tensor(&shares, &json!([0.25, 0.75]), 2).unwrap();
        assert_eq!(found.shape(), [2, 2]);
        assert_eq!(
            found.values(),
            &TensorValues::F32(vec![0.25, 0.75, 0.25, 0.75].into())
        );
        for (spec, value) in [
            (&labels, json!(1.5)),
            (&labels, json!([1, 2])),
            (&labels, json!("a")),
            (&shares, json!(1.0)),
            (&shares, json!([1.0, 2.0, 3.0])),
        ] {
            assert_eq!(tensor(spec, &value, 1), None, "{value}");
        }
    }

    #[test]
    fn a_value_that_no_answer_could_have_is_told() {
        let of = |name: &str, dtype: DType, shape: Vec<Option<usize>>| TensorSpec {
            name: name.to_owned(),
            ..spec(dtype, shape)
        };
        let signature = Signature {
            name_rules: Default::default(),
            inputs: Vec::new(),
            outputs: vec![
                of("predict", DType::I64, vec![None]),
                of("predict_proba", DType::F64, vec![None, Some(3)]),
            ],
            default_outputs: vec![0],
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            columns: None,
        };
        let fits = |value: &str| fits_outputs(value, &signature);
        for value in [
            "0",
            "[2]",
            r#"{"predict": 1}"#,
            r#"{"predict_proba": [0.1, 0.2, 0.7]}"#,
        ] {
            assert_eq!(fits(value), Ok(()), "{value}");
        }
        for (value, why) in [
            (
                r#""setosa""#,
                "\"setosa\" is no row of output \"predict\", which is INT64 of shape [-1]",
            ),
            ("[0.1, 0.1, 0.8]", "is no row of output \"predict\""),
            (
                r#"{"nope": 1}"#,
                "the model has no output \"nope\", but \"predict\", \"predict_proba\"",
            ),
            (
                r#"{"predict": 1, "predict_proba": [0.5, 0.5]}"#,
                "[0.5,0.5] is no row of output \"predict_proba\", which is FP64 of shape [-1, 3]",
            ),
        ] {
            let told = fits(value).unwrap_err();
            assert!(told.contains(why), "{value}: {told}");
        }
    }

    #[test]
    fn what_a_program_says_itself_stays_in_its_answer() {
        let marked = |json: &str| {
            let marked = with_parameter(json.as_bytes(), "service")?;
            Some(String::from_utf8(marked).unwrap())
        };
        let without = marked(r#"{"model_name":"a", "outputs":[{"data":[1.10, 2e0]}]}"#);
        assert_eq!(
            without.unwrap(),
            r#"{"parameters":{"fallback":"service"},"model_name":"a","outputs":[{"data":[1.10, 2e0]}]}"#
        );
        let with = marked(r#"{"a\"b":1,"parameters":{"k":[2],"fallback":"mine"}}"#);
        assert_eq!(
            with.unwrap(),
            r#"{"parameters":{"fallback":"service","k":[2]},"a\"b":1}"#
        );
        for none in ["", "[]", "{", "3", r#"{"parameters":3}"#, r#"{"a":1}x"#] {
            assert_eq!(marked(none), None, "{none}");
        }
    }

    #[test]
    fn the_one_value_is_of_the_default_output() {
        let one = Values::read("7").unwrap();
        assert_eq!(
            (one.of("a", true), one.of("a", false)),
            (Some(&json!(7)), None)
        );
        let many = Values::read(r#"{"a": 1}"#).unwrap();
        assert_eq!(
            (many.of("a", false), many.of("b", true)),
            (Some(&json!(1)), None)
        );
        assert_eq!(Values::read("{"), None);
    }
}
