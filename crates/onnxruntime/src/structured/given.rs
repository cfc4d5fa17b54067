//! What comes in that is no tensor, from the texts of JSON that it comes as.

use coracle_model::{RunError, RunErrorKind};
use coracle_onnx::{
    EMPTY_SEQUENCE_NAME, empty_sequence_file, is_null, items_of_json, map_of_json, tensor_of_json,
};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::{Session, SessionInputValue};
use ort::value::{
    DynValue, IntoTensorElementType, Map, PrimitiveTensorElementType, Sequence,
    Tensor as OrtTensor, ValueType,
};

use crate::messages::shortened;
use crate::tensors::{dtype, internal, kept};

/// Numbers of a made-up tensor are written out up to this many.
const MADE_UP_MAX: usize = 1 << 14;

/// An input that is no tensor.
#[derive(Debug)]
pub(crate) struct Structured {
    kind: Kind,
    /// A text to try a graph out with.
    made_up: String,
    /// Whether the graph may be run without it. Operators that do not expect that read memory that is not there.
    may_be_missing: bool,
}

#[derive(Debug)]
enum Kind {
    /// A map: a text with an object.
    Map { key: DType, value: DType },
    /// A sequence: a text for each tensor.
    Sequence(Items),
    /// A tensor, or nothing: a text with the tensor or `null`.
    MaybeTensor(Declared),
    /// A sequence, or nothing: a text with the list or `null`.
    MaybeSequence(Items),
}

/// What the file says of a tensor.
#[derive(Debug)]
struct Declared {
    dtype: DType,
    /// The sizes, -1 for any; empty where nothing is said of them, too.
    shape: Vec<i64>,
}

/// The tensors of a sequence.
#[derive(Debug)]
struct Items {
    declared: Declared,
    /// A sequence of none of them, which the library's interface does not make.
    none: DynValue,
}

impl Structured {
    /// Returns how an input of a type is made; `None` for tensors, and for types that are not served.
    ///
    /// # Errors
    /// Says what the library does not make.
    pub(crate) fn of(
        of: &ValueType,
        may_be_missing: bool,
        environment: &Environment,
    ) -> Result<Option<Self>, String> {
        let kind = match of {
            ValueType::Map { key, value } => match (dtype(*key), dtype(*value)) {
                (
                    Some(key @ (DType::I64 | DType::Bytes)),
                    Some(value @ (DType::I64 | DType::F32 | DType::F64 | DType::Bytes)),
                ) => Some((Kind::Map { key, value }, "{}".to_owned())),
                _ => None,
            },
            ValueType::Sequence(inner) => {
                let items = Items::of(inner, environment)?;
                items.map(|items| (Kind::Sequence(items), zeros(inner)))
            }
            ValueType::Optional(inner) => match inner.as_ref() {
                ValueType::Sequence(inner) => {
                    let items = Items::of(inner, environment)?;
                    items.map(|items| (Kind::MaybeSequence(items), format!("[{}]", zeros(inner))))
                }
                inner => {
                    Declared::of(inner).map(|declared| (Kind::MaybeTensor(declared), zeros(inner)))
                }
            },
            ValueType::Tensor { .. } => None,
        };
        Ok(kind.map(|(kind, made_up)| Self {
            kind,
            made_up,
            may_be_missing,
        }))
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map { .. })
    }

    /// Returns the shape of the texts that it comes as.
    pub(crate) fn shape(&self) -> Vec<Option<usize>> {
        match self.kind {
            Kind::Map { .. } => vec![Some(1)],
            Kind::Sequence(_) => vec![None],
            Kind::MaybeTensor(_) | Kind::MaybeSequence(_) => Vec::new(),
        }
    }

    /// Returns a text to try a graph out with.
    pub(crate) fn made_up(&self) -> Tensor {
        let texts = || Values::Bytes([&self.made_up].into_iter().collect());
        let shape = self.shape().iter().map(|_| 1).collect();
        Tensor::try_new(shape, texts()).unwrap_or_else(|_| Tensor::from_values(texts()))
    }

    /// Returns the value that texts are; `None` where they say that there is none.
    ///
    /// # Errors
    /// Kind `UnknownValue` naming the input, the text and what is wrong with it.
    pub(crate) fn value(
        &self,
        tensor: &Tensor,
        name: &str,
    ) -> Result<Option<SessionInputValue<'_>>, RunError> {
        let Values::Bytes(texts) = tensor.values() else {
            return Err(internal(format!("input \"{name}\": no texts of JSON")));
        };
        let wrong = |error: String| {
            let message = format!("input \"{name}\": {error}");
            RunError::new(RunErrorKind::UnknownValue, message)
        };
        let only = texts.get(0).unwrap_or_default();
        match &self.kind {
            Kind::Map { key, value } => map(only, (*key, *value), name).map(Some),
            Kind::Sequence(items) => items.sequence(texts.iter(), name).map(Some),
            Kind::MaybeTensor(_) | Kind::MaybeSequence(_) if is_null(only) => {
                match self.may_be_missing {
                    true => Ok(None),
                    false => Err(wrong(
                        "null, which operators of the graph do not take".to_owned(),
                    )),
                }
            }
            Kind::MaybeTensor(declared) => {
                let tensor = declared.tensor(only).map_err(wrong)?;
                Ok(Some(SessionInputValue::from(kept(&tensor, name)?)))
            }
            Kind::MaybeSequence(items) => {
                let texts = items_of_json(only).map_err(wrong)?;
                items.sequence(texts.into_iter(), name).map(Some)
            }
        }
    }
}

/// Returns zeros of a shape as lists, sizes that are open being one; zero alone where that would be many.
fn zeros(of: &ValueType) -> String {
    let ValueType::Tensor { ty, shape, .. } = of else {
        return "null".to_owned();
    };
    let mut text = match dtype(*ty) {
        Some(DType::Bytes) => "\"\"",
        Some(DType::Bool) => "false",
        _ => "0",
    }
    .to_owned();
    for &size in shape.iter().rev() {
        let size = usize::try_from(size).unwrap_or(1);
        if text.len().saturating_mul(size) > MADE_UP_MAX {
            break;
        }
        text = format!("[{}]", vec![text; size].join(","));
    }
    text
}

impl Declared {
    fn of(kind: &ValueType) -> Option<Self> {
        let ValueType::Tensor { ty, shape, .. } = kind else {
            return None;
        };
        Some(Self {
            dtype: dtype(*ty)?,
            shape: shape.to_vec(),
        })
    }

    /// Returns the tensor that a text is; lists of nothing do not show all dimensions, which are as declared then.
    fn tensor(&self, text: &[u8]) -> Result<Tensor, String> {
        let tensor = tensor_of_json(text, self.dtype)?;
        let rest = self.shape.get(tensor.shape().len()..).unwrap_or_default();
        if rest.is_empty() || tensor.shape().last() != Some(&0) {
            return Ok(tensor);
        }
        let rest = rest.iter().map(|&size| usize::try_from(size).unwrap_or(0));
        let shape = tensor.shape().iter().copied().chain(rest).collect();
        let (_, values) = tensor.into_parts();
        Tensor::try_new(shape, values).map_err(|error| error.to_string())
    }
}

impl Items {
    fn of(kind: &ValueType, environment: &Environment) -> Result<Option<Self>, String> {
        let Some(declared) = Declared::of(kind) else {
            return Ok(None);
        };
        let dtype = declared.dtype;
        let none = empty_sequence(dtype, environment);
        let none = none.map_err(|error| {
            let error = shortened(error.message());
            format!("a sequence of no {dtype} cannot be made: {error}")
        })?;
        let none = none.ok_or_else(|| format!("a sequence of no {dtype} did not come"))?;
        Ok(Some(Self { declared, none }))
    }

    fn sequence<'t>(
        &self,
        texts: impl Iterator<Item = &'t [u8]>,
        name: &str,
    ) -> Result<SessionInputValue<'_>, RunError> {
        let items = texts.enumerate().map(|(index, text)| {
            let tensor = self.declared.tensor(text).map_err(|error| {
                let message = format!("input \"{name}\", item {index}: {error}");
                RunError::new(RunErrorKind::UnknownValue, message)
            })?;
            kept(&tensor, name)
        });
        let items = items.collect::<Result<Vec<DynValue>, RunError>>()?;
        if items.is_empty() {
            return Ok(SessionInputValue::from(&self.none));
        }
        let sequence = Sequence::new(items).map_err(|error| failed(name, &error))?;
        Ok(SessionInputValue::from(sequence))
    }
}

fn empty_sequence(dtype: DType, environment: &Environment) -> ort::Result<Option<DynValue>> {
    let builder = Session::builder(environment)?.with_independent_thread_pool()?;
    let mut builder = builder.with_intra_threads(1)?;
    let mut session = builder.commit_from_memory(&empty_sequence_file(dtype))?;
    let nothing: [SessionInputValue<'_>; 0] = [];
    let mut answered = session.run(nothing)?;
    Ok(answered.remove(EMPTY_SEQUENCE_NAME))
}

fn map<'v>(
    text: &[u8],
    (key, value): (DType, DType),
    name: &str,
) -> Result<SessionInputValue<'v>, RunError> {
    let (keys, values) = map_of_json(text, key, value).map_err(|error| {
        let message =
            format!("input \"{name}\": {error}; an object of keys and values belongs there");
        RunError::new(RunErrorKind::UnknownValue, message)
    })?;
    let made = match &keys {
        Values::I64(keys) => numbers(keys).and_then(|keys| map_by(keys, &values)),
        Values::Bytes(keys) => strings(keys).and_then(|keys| map_by(keys, &values)),
        _ => return Err(internal(format!("input \"{name}\": keys of another kind"))),
    };
    made.map_err(|error| failed(name, &error))
}

fn map_by<'v, K>(keys: OrtTensor<K>, values: &Values) -> ort::Result<SessionInputValue<'v>>
where
    K: IntoTensorElementType + std::fmt::Debug + Clone + std::hash::Hash + Eq + 'static,
{
    Ok(match values {
        Values::I64(items) => SessionInputValue::from(Map::new_kv(keys, numbers(items)?)?),
        Values::F32(items) => SessionInputValue::from(Map::new_kv(keys, numbers(items)?)?),
        Values::F64(items) => SessionInputValue::from(Map::new_kv(keys, numbers(items)?)?),
        Values::Bytes(items) => SessionInputValue::from(Map::new_kv(keys, strings(items)?)?),
        _ => return Err(ort::Error::new("values of another kind")),
    })
}

fn numbers<T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
    items: &[T],
) -> ort::Result<OrtTensor<T>> {
    match items.is_empty() {
        true => OrtTensor::<T>::new(&Allocator::default(), [0_usize]),
        false => OrtTensor::from_array(([items.len()], items.to_vec())),
    }
}

fn strings(items: &ByteStrings) -> ort::Result<OrtTensor<String>> {
    let texts = items
        .iter()
        .map(|item| String::from_utf8_lossy(item).into_owned());
    let texts: Vec<String> = texts.collect();
    if texts.iter().any(|text| text.contains('\0')) {
        return Err(ort::Error::new("a text with a NUL in it"));
    }
    OrtTensor::from_string_array(([texts.len()], texts.as_slice()))
}

fn failed(name: &str, error: &ort::Error) -> RunError {
    let message = format!("input \"{name}\": {}", shortened(error.message()));
    RunError::new(RunErrorKind::UnknownValue, message)
}
