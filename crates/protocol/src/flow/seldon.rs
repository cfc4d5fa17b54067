//! Seldon's messages on their way through a graph: `data` is handed on, `meta` is gathered.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use coracle_tensor::Tensor;

use super::outputs::undeclared;
use super::{internal, mean, numbers, read};
use crate::{RequestError, json_string, render};

/// What `SIMPLE_MODEL` answers: the classes and scores of Seldon's own.
pub(super) const FIXED: &[u8] = b"{\"data\":{\"names\":[\"class0\",\"class1\",\"class2\"],\"tensor\":{\"shape\":[1,3],\"values\":[0.1,0.9,0.5]}},\"meta\":{}}";

/// The tag that says what stood in.
const FALLBACK: &str = "fallback";

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    names: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ndarray: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tensor: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct JsonTensor<'a> {
    shape: Vec<usize>,
    #[serde(borrow)]
    values: &'a RawValue,
}

/// The numbers of a message.
enum Numbers<'a> {
    Rows(&'a RawValue),
    Tensor(&'a RawValue),
}

impl<'a> Message<'a> {
    fn read(body: &'a [u8]) -> Result<Self, RequestError> {
        read(body, "the model's answer")
    }

    fn numbers(&self) -> Result<Numbers<'a>, RequestError> {
        match (self.data.ndarray, self.data.tensor) {
            (Some(ndarray), None) => Ok(Numbers::Rows(ndarray)),
            (None, Some(tensor)) => Ok(Numbers::Tensor(tensor)),
            _ => Err(internal(
                "the model's answer has none, or both, of \"ndarray\" and \"tensor\"",
            )),
        }
    }
}

impl Numbers<'_> {
    fn key(&self) -> &'static [u8] {
        match self {
            Self::Rows(_) => b"\"ndarray\":",
            Self::Tensor(_) => b"\"tensor\":",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Rows(json) | Self::Tensor(json) => json.get(),
        }
    }
}

/// Returns the numbers of an answer.
pub(super) fn outputs(
    answer: &[u8],
    elements_max: usize,
) -> Result<Vec<(String, Tensor)>, RequestError> {
    let tensor = match Message::read(answer)?.numbers()? {
        Numbers::Rows(json) => undeclared(json, "ndarray", elements_max)?,
        Numbers::Tensor(json) => {
            let tensor: JsonTensor<'_> = read(json.get().as_bytes(), "tensor")?;
            let values = undeclared(tensor.values, "values", elements_max)?;
            Tensor::try_new(tensor.shape, values.values().clone()).map_err(internal)?
        }
    };
    Ok(vec![("data".to_owned(), tensor)])
}

pub(super) fn as_request(answer: &[u8]) -> Result<Vec<u8>, RequestError> {
    let numbers = Message::read(answer)?.numbers()?;
    let parts: [&[u8]; 4] = [
        b"{\"data\":{",
        numbers.key(),
        numbers.text().as_bytes(),
        b"}}",
    ];
    Ok(parts.concat())
}

pub(super) fn average(answers: &[&[u8]], elements_max: usize) -> Result<Vec<u8>, RequestError> {
    let messages = answers.iter().map(|answer| Message::read(answer));
    let messages: Vec<Message<'_>> = messages.collect::<Result<_, _>>()?;
    let first = messages
        .first()
        .ok_or_else(|| internal("there is nothing to average"))?;
    let tensors = messages.iter().map(|message| match message.numbers()? {
        Numbers::Rows(ndarray) => numbers(ndarray, "data.ndarray", elements_max),
        Numbers::Tensor(tensor) => {
            let tensor: JsonTensor<'_> = read(tensor.get().as_bytes(), "data.tensor")?;
            let flat = numbers(tensor.values, "data.tensor", elements_max)?;
            coracle_tensor::Tensor::try_new(tensor.shape, flat.values().clone()).map_err(internal)
        }
    });
    let tensors: Vec<_> = tensors.collect::<Result<_, _>>()?;
    let mean = mean(&tensors)?;
    let mut body = b"{\"data\":{\"names\":".to_vec();
    let names = first.data.names.map_or("[]", RawValue::get);
    body.extend_from_slice(names.as_bytes());
    match first.numbers()? {
        Numbers::Rows(_) => {
            body.extend_from_slice(b",\"ndarray\":");
            render::tensor(&mean, &mut body);
        }
        Numbers::Tensor(_) => {
            body.extend_from_slice(b",\"tensor\":{\"shape\":[");
            render::separated(mean.shape().iter(), &mut body, |size, out| {
                render::integer(*size, out);
            });
            body.extend_from_slice(b"],\"values\":");
            render::flat(mean.values(), &mut body);
            body.push(b'}');
        }
    }
    body.extend_from_slice(b"},\"meta\":{}}");
    Ok(body)
}

/// What a request says that its answer says, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestMeta {
    /// The caller's id.
    pub puid: Option<String>,
    /// The caller's tags, as JSON.
    pub tags: Option<String>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    meta: Option<AskedMeta<'a>>,
}

#[derive(Default, Deserialize)]
struct AskedMeta<'a> {
    #[serde(borrow, default)]
    puid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tags: Option<&'a RawValue>,
}

/// Reads what a request says of itself.
///
/// # Errors
/// Code `InvalidArgument` if it is no message, or its tags are no object.
pub fn request_meta(body: &[u8]) -> Result<RequestMeta, RequestError> {
    let asked: Asked<'_> =
        serde_json::from_slice(body).map_err(|error| RequestError::from_json(body, &error))?;
    let meta = asked.meta.unwrap_or_default();
    let tags = meta.tags.map(RawValue::get);
    if tags.is_some_and(|tags| !tags.starts_with('{')) {
        return Err(RequestError::invalid("meta.tags must be an object"));
    }
    Ok(RequestMeta {
        puid: meta.puid.map(Cow::into_owned),
        tags: tags.map(str::to_owned),
    })
}

/// The way that a request took.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// What the request said.
    pub asked: &'a RequestMeta,
    /// The branch that each router chose, or why none is to have what comes of the answer.
    pub routing: &'a [(&'a str, i64)],
    /// The nodes that were asked.
    pub path: &'a [&'a str],
    /// What stood in for a model, or for all of them, which is told as the tag `fallback`.
    pub fallback: Option<&'a str>,
}

/// Returns a model's answer with the meta of the whole way instead of its own.
///
/// # Errors
/// Code `Internal` if it is no answer.
pub fn with_meta(answer: &[u8], meta: &Meta<'_>) -> Result<Vec<u8>, RequestError> {
    #[derive(Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }

    let whole: Whole<'_> = read(answer, "the model's answer")?;
    let mut body = b"{\"data\":".to_vec();
    body.extend_from_slice(whole.data.get().as_bytes());
    body.extend_from_slice(b",\"meta\":{");
    if let Some(puid) = &meta.asked.puid {
        body.extend_from_slice(b"\"puid\":");
        json_string(puid, &mut body);
        body.push(b',');
    }
    let tags = meta.asked.tags.as_deref();
    match (tags, meta.fallback) {
        (_, Some(by)) => {
            write_tags(tags, by, &mut body)?;
            body.push(b',');
        }
        (Some(tags), None) => {
            body.extend_from_slice(b"\"tags\":");
            body.extend_from_slice(tags.as_bytes());
            body.push(b',');
        }
        (None, None) => {}
    }
    if !meta.routing.is_empty() {
        body.extend_from_slice(b"\"routing\":{");
        render::separated(meta.routing.iter(), &mut body, |(node, branch), out| {
            json_string(node, out);
            out.push(b':');
            render::integer(*branch, out);
        });
        body.extend_from_slice(b"},");
    }
    body.extend_from_slice(b"\"requestPath\":{");
    write_path(meta.path, &mut body);
    body.extend_from_slice(b"}}}");
    Ok(body)
}

/// Appends tags with one that says what stood in; one of the caller's that is called so goes.
fn write_tags(tags: Option<&str>, by: &str, body: &mut Vec<u8>) -> Result<(), RequestError> {
    let tags: BTreeMap<Cow<'_, str>, &RawValue> = match tags {
        Some(tags) => read(tags.as_bytes(), "meta.tags")?,
        None => BTreeMap::new(),
    };
    body.extend_from_slice(b"\"tags\":{");
    for (name, value) in tags.iter().filter(|(name, _)| *name != FALLBACK) {
        json_string(name, body);
        body.push(b':');
        body.extend_from_slice(value.get().as_bytes());
        body.push(b',');
    }
    json_string(FALLBACK, body);
    body.push(b':');
    json_string(by, body);
    body.push(b'}');
    Ok(())
}

/// An answer with what it says of itself.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    meta: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl Whole<'_> {
    /// Returns it with one entry of its meta as `write` has it.
    fn with(
        &self,
        entry: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), RequestError>,
    ) -> Result<Vec<u8>, RequestError> {
        let mut body = b"{\"data\":".to_vec();
        body.extend_from_slice(self.data.get().as_bytes());
        body.extend_from_slice(b",\"meta\":{");
        write(&mut body)?;
        for (name, value) in self.meta.iter().filter(|(name, _)| *name != entry) {
            body.push(b',');
            json_string(name, &mut body);
            body.push(b':');
            body.extend_from_slice(value.get().as_bytes());
        }
        body.extend_from_slice(b"}}");
        Ok(body)
    }
}

/// Returns a model's answer with the tag that says what stood in for it.
///
/// # Errors
/// Code `Internal` if it is no answer.
pub fn with_fallback(answer: &[u8], by: &str) -> Result<Vec<u8>, RequestError> {
    let whole: Whole<'_> = read(answer, "the model's answer")?;
    let tags = whole.meta.get("tags").map(|tags| tags.get());
    whole.with("tags", |body| write_tags(tags, by, body))
}

/// Returns a model's answer with the branch that it is of a node's, or why none is to have what comes of it.
///
/// # Errors
/// Code `Internal` if it is no answer.
pub fn with_routing(answer: &[u8], (node, branch): (&str, i64)) -> Result<Vec<u8>, RequestError> {
    let whole: Whole<'_> = read(answer, "the model's answer")?;
    whole.with("routing", |body| {
        body.extend_from_slice(b"\"routing\":{");
        json_string(node, body);
        body.push(b':');
        render::integer(branch, body);
        body.push(b'}');
        Ok(())
    })
}

/// Appends what answered for each node.
pub(crate) fn write_path(nodes: &[&str], out: &mut Vec<u8>) {
    render::separated(nodes.iter(), out, |node, out| {
        json_string(node, out);
        out.extend_from_slice(b":\"coracle\"");
    });
}
