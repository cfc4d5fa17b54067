//! `POST /api/v1.0/feedback`: what came of an answer.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, Visitor};

use crate::flow::write_path;
use crate::{Layout, RequestError};

/// The largest reward, either way.
const REWARD_MAX: f64 = 1e100;

/// What came of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    /// How good it was.
    pub reward: f64,
    /// The rows of the request; 1 where it was not sent along.
    pub n_rows: u64,
    /// Which branch of which node answered.
    pub routing: BTreeMap<String, i64>,
    /// The form of the request, which the answer has, too.
    pub layout: Layout,
}

#[derive(Deserialize)]
#[serde(
    expecting = "a Feedback: an object such as {\"request\": {...}, \"response\": {...}, \"reward\": 1}"
)]
struct Sent {
    #[serde(default)]
    request: Option<Asked>,
    #[serde(default)]
    response: Option<Answered>,
    #[serde(default)]
    reward: Option<Number>,
}

#[derive(Deserialize)]
#[serde(expecting = "a SeldonMessage")]
struct Asked {
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    ndarray: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    tensor: Option<JsonTensor>,
}

#[derive(Deserialize)]
struct JsonTensor {
    shape: Vec<u64>,
    #[serde(default)]
    values: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(expecting = "a SeldonMessage")]
struct Answered {
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    routing: Option<BTreeMap<String, i64>>,
}

/// A number, or a text of one, as JSON of protocol buffers has it.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }

            #[expect(
                clippy::as_conversions,
                clippy::cast_precision_loss,
                reason = "rounds to nearest"
            )]
            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            #[expect(
                clippy::as_conversions,
                clippy::cast_precision_loss,
                reason = "rounds to nearest"
            )]
            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Number, E> {
                let number = text.parse().map_err(|_| {
                    E::custom(format_args!(
                        "reward: {} is no number",
                        crate::error::quoted(text)
                    ))
                });
                number.map(Number)
            }
        }

        let Number(number) = deserializer.deserialize_any(Reader)?;
        match number.abs() <= REWARD_MAX {
            true => Ok(Self(number)),
            false => Err(D::Error::custom(format_args!(
                "reward: {number} is no number of magnitude {REWARD_MAX:e} at most"
            ))),
        }
    }
}

/// Reads what came of an answer; without a reward it is 0, as with protocol buffers.
///
/// # Errors
/// Code `InvalidArgument` naming what is at fault.
pub fn read_feedback(body: &[u8]) -> Result<Feedback, RequestError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        let message = "the request body is empty; send JSON such as {\"request\": {...}, \"response\": {...}, \"reward\": 1}";
        return Err(RequestError::invalid(message));
    }
    let sent: Sent =
        serde_json::from_slice(body).map_err(|error| RequestError::from_json(body, &error))?;
    let (layout, n_rows) = rows(sent.request.and_then(|request| request.data))?;
    let meta = sent.response.and_then(|response| response.meta);
    Ok(Feedback {
        reward: sent.reward.map_or(0.0, |reward| reward.0),
        n_rows,
        routing: meta.and_then(|meta| meta.routing).unwrap_or_default(),
        layout,
    })
}

/// Returns the rows of a message; 1 where it has no data, or is none.
#[must_use]
pub fn n_rows(body: &[u8]) -> u64 {
    let asked: Option<Asked> = serde_json::from_slice(body).ok();
    let counted = rows(asked.and_then(|asked| asked.data));
    counted.map_or(1, |(_, n_rows)| n_rows)
}

fn rows(data: Option<Data>) -> Result<(Layout, u64), RequestError> {
    let Some(data) = data else {
        return Ok((Layout::Tensor, 1));
    };
    match (data.ndarray, data.tensor) {
        (Some(rows), _) => Ok((Layout::Rows, count(&rows))),
        (None, None) => Ok((Layout::Tensor, 1)),
        (None, Some(tensor)) => {
            let mut sizes = tensor.shape.iter();
            let product = sizes.try_fold(1_u64, |product, size| product.checked_mul(*size));
            if product != Some(count(&tensor.values)) {
                return Err(RequestError::invalid(format!(
                    "request.data.tensor: {} values, shape {:?} holds another number",
                    tensor.values.len(),
                    tensor.shape
                )));
            }
            // Beside a dimension of nothing any number may stand.
            let n_rows = match tensor.values.is_empty() {
                true => 0,
                false => tensor.shape.first().copied().unwrap_or(1),
            };
            Ok((Layout::Tensor, n_rows))
        }
    }
}

fn count(items: &[IgnoredAny]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

/// Appends the answer to feedback that these nodes were given: no data, in the form of the request, as Seldon's wrapper has it.
pub fn encode_feedback(feedback: &Feedback, nodes: &[&str], out: &mut Vec<u8>) {
    out.extend_from_slice(match feedback.layout {
        Layout::Tensor => b"{\"data\":{\"tensor\":{\"shape\":[0]}},\"meta\":{\"requestPath\":{",
        _ => b"{\"data\":{\"ndarray\":[]},\"meta\":{\"requestPath\":{".as_slice(),
    });
    write_path(nodes, out);
    out.extend_from_slice(b"}}}");
}
