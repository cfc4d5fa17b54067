//! sentence-transformers' Dense: a product with weights, and a function of each number; weights are read of safetensors.

use std::collections::BTreeMap;

use coracle_model::{FilesBeside, LoadError, LoadErrorKind};
use serde::Deserialize;
use serde_json::Number;

/// The largest file of weights.
const FILE_BYTES_MAX: usize = 64 << 20;
/// The largest head of one: names, shapes and places.
const HEAD_BYTES_MAX: u64 = 1 << 20;
/// The most numbers of a vector.
const FEATURES_MAX: u64 = 1 << 16;
/// So many sums run side by side.
const LANES: usize = 8;

/// A product with weights, and a function of each number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dense {
    n_in: usize,
    n_out: usize,
    /// A row for each number that comes out.
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    activation: Activation,
    residual: Residual,
}

/// What is done to each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activation {
    Identity,
    Tanh,
    Relu,
    Sigmoid,
}

/// What is added in the end.
#[derive(Clone, Debug, PartialEq)]
enum Residual {
    None,
    /// What came in.
    Input,
    /// Its product with weights.
    Product(Vec<f32>),
}

#[derive(Deserialize)]
struct Config {
    in_features: Number,
    out_features: Number,
    #[serde(default = "yes")]
    bias: bool,
    #[serde(default)]
    activation_function: Option<String>,
    #[serde(default)]
    module_input_name: Option<String>,
    #[serde(default)]
    module_output_name: Option<String>,
    #[serde(default)]
    use_residual: bool,
}

fn yes() -> bool {
    true
}

/// A tensor of a file of safetensors.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Dense {
    /// Reads the module in `directory`.
    ///
    /// # Errors
    /// Kind `NotFound` for files that are not there, `Malformed` for files at fault, `Unsupported` for what is not done here.
    pub(crate) fn read(files: &dyn FilesBeside, directory: &str) -> Result<Self, LoadError> {
        let name = format!("{directory}/config.json");
        let bytes = files.read(&name, 1 << 20)?;
        let bytes = bytes.ok_or_else(|| missing(&name))?;
        let config: Config = serde_json::from_slice(&bytes)
            .map_err(|error| malformed(error.to_string()).at(&name))?;
        let config = Checked::of(config).map_err(|error| error.at(&name))?;
        let name = format!("{directory}/model.safetensors");
        let Some(bytes) = files.read(&name, FILE_BYTES_MAX)? else {
            let message = "the weights are not there; those in pytorch_model.bin are not read, save the model with safe_serialization=True";
            return Err(LoadError::new(LoadErrorKind::NotFound, message).at(&name));
        };
        let dense = Weights::read(&bytes).and_then(|weights| config.with(&weights));
        dense.map_err(|error| error.at(&name))
    }

    /// Returns what its weights take.
    pub(crate) fn memory_bytes(&self) -> usize {
        let residual = match &self.residual {
            Residual::Product(weights) => weights.len(),
            Residual::None | Residual::Input => 0,
        };
        let bias = self.bias.as_ref().map_or(0, Vec::len);
        let numbers = self
            .weights
            .len()
            .saturating_add(bias)
            .saturating_add(residual);
        numbers.saturating_mul(size_of::<f32>())
    }

    pub(crate) fn n_in(&self) -> usize {
        self.n_in
    }

    pub(crate) fn n_out(&self) -> usize {
        self.n_out
    }

    /// Appends what becomes of each vector; `vectors` are of [`Dense::n_in`] numbers.
    pub(crate) fn apply(&self, vectors: &[f32], out: &mut Vec<f32>) {
        for vector in vectors.chunks_exact(self.n_in.max(1)) {
            let start = out.len();
            product(&self.weights, vector, out);
            let made = out.get_mut(start..).unwrap_or_default();
            if let Some(bias) = &self.bias {
                add(made, bias);
            }
            for value in made.iter_mut() {
                *value = self.activation.of(*value);
            }
            match &self.residual {
                Residual::None => {}
                Residual::Input => add(made, vector),
                Residual::Product(weights) => {
                    let mut more = Vec::with_capacity(self.n_out);
                    product(weights, vector, &mut more);
                    add(made, &more);
                }
            }
        }
    }
}

impl Activation {
    fn named(name: Option<&str>) -> Result<Self, LoadError> {
        // torch names them by where they are defined.
        let Some(name) = name else {
            return Ok(Self::Tanh);
        };
        let last = name.rsplit('.').next().unwrap_or_default();
        match last {
            "Identity" => Ok(Self::Identity),
            "Tanh" => Ok(Self::Tanh),
            "ReLU" => Ok(Self::Relu),
            "Sigmoid" => Ok(Self::Sigmoid),
            _ => {
                let name: String = name.chars().take(80).collect();
                Err(unsupported(format!(
                    "activation_function {name:?} is not done; Identity, Tanh, ReLU and Sigmoid are"
                )))
            }
        }
    }

    fn of(self, value: f32) -> f32 {
        match self {
            Self::Identity => value,
            Self::Tanh => value.tanh(),
            // What is not a number stays.
            Self::Relu if value < 0.0 => 0.0,
            Self::Relu => value,
            Self::Sigmoid => 1.0 / (1.0 + (-value).exp()),
        }
    }
}

fn add(to: &mut [f32], more: &[f32]) {
    for (value, more) in to.iter_mut().zip(more) {
        *value += more;
    }
}

/// Appends the product of rows of weights with a vector.
fn product(weights: &[f32], vector: &[f32], out: &mut Vec<f32>) {
    for row in weights.chunks_exact(vector.len().max(1)) {
        let (row, rest) = row.as_chunks::<LANES>();
        let (vector, vector_rest) = vector.as_chunks::<LANES>();
        let mut sums = [0.0_f32; LANES];
        for (row, vector) in row.iter().zip(vector) {
            for (sum, (weight, value)) in sums.iter_mut().zip(row.iter().zip(vector)) {
                *sum += weight * value;
            }
        }
        let rest = rest.iter().zip(vector_rest);
        let rest: f32 = rest.map(|(weight, value)| weight * value).sum();
        out.push(sums.iter().sum::<f32>() + rest);
    }
}

/// What a module's settings say.
struct Checked {
    n_in: usize,
    n_out: usize,
    has_bias: bool,
    activation: Activation,
    has_residual: bool,
}

impl Checked {
    fn of(config: Config) -> Result<Self, LoadError> {
        let size = |number: &Number, what: &str| {
            let size = number
                .as_u64()
                .filter(|size| (1..=FEATURES_MAX).contains(size));
            let size = size.and_then(|size| usize::try_from(size).ok());
            size.ok_or_else(|| {
                malformed(format!("{what} is {number}; 1 to {FEATURES_MAX} are taken"))
            })
        };
        for name in [&config.module_input_name, &config.module_output_name] {
            if !matches!(name.as_deref(), None | Some("sentence_embedding")) {
                return Err(unsupported(format!("the module reads or gives {name:?}")));
            }
        }
        Ok(Self {
            n_in: size(&config.in_features, "in_features")?,
            n_out: size(&config.out_features, "out_features")?,
            has_bias: config.bias,
            activation: Activation::named(config.activation_function.as_deref())?,
            has_residual: config.use_residual,
        })
    }

    fn with(&self, weights: &Weights<'_>) -> Result<Dense, LoadError> {
        let (n_in, n_out) = (self.n_in, self.n_out);
        let bias = self.has_bias.then(|| weights.get("linear.bias", &[n_out]));
        let residual = match (self.has_residual, n_in == n_out) {
            (false, _) => Residual::None,
            (true, true) => Residual::Input,
            (true, false) => Residual::Product(weights.get("residual.weight", &[n_out, n_in])?),
        };
        Ok(Dense {
            n_in,
            n_out,
            weights: weights.get("linear.weight", &[n_out, n_in])?,
            bias: bias.transpose()?,
            activation: self.activation,
            residual,
        })
    }
}

/// A file of safetensors: the length of its head, the head, and the numbers.
struct Weights<'f> {
    entries: BTreeMap<String, serde_json::Value>,
    numbers: &'f [u8],
}

impl<'f> Weights<'f> {
    fn read(bytes: &'f [u8]) -> Result<Self, LoadError> {
        let short = || malformed("the file ends within its head");
        let (length, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let length = u64::from_le_bytes(*length);
        if length > HEAD_BYTES_MAX {
            let message = format!("a head of {length} bytes, at most {HEAD_BYTES_MAX} are read");
            return Err(LoadError::new(LoadErrorKind::LimitExceeded, message));
        }
        let split = usize::try_from(length).ok();
        let split = split.and_then(|length| rest.split_at_checked(length));
        let (head, numbers) = split.ok_or_else(short)?;
        let entries = serde_json::from_slice(head);
        let entries = entries.map_err(|error| malformed(error.to_string()))?;
        Ok(Self { entries, numbers })
    }

    /// Returns the numbers of a tensor, which must be of `shape`.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let entry = self.entries.get(name);
        let entry = entry.ok_or_else(|| malformed(format!("there is no tensor '{name}'")))?;
        let entry = Entry::deserialize(entry);
        let entry = entry.map_err(|error| malformed(format!("tensor '{name}': {error}")))?;
        let sizes = entry.shape.iter().map(|&size| usize::try_from(size).ok());
        if sizes.collect::<Option<Vec<_>>>().as_deref() != Some(shape) {
            let found = &entry.shape;
            let message =
                format!("tensor '{name}' is of shape {found:?}, the settings say {shape:?}");
            return Err(malformed(message));
        }
        let [start, end] = entry.data_offsets.map(|place| usize::try_from(place).ok());
        let place = start.zip(end);
        let bytes = place.and_then(|(start, end)| self.numbers.get(start..end));
        let bytes =
            bytes.ok_or_else(|| malformed(format!("tensor '{name}' lies beyond the file")))?;
        let n_numbers = shape
            .iter()
            .try_fold(1_usize, |n, &size| n.checked_mul(size));
        let numbers: Vec<f32> = match entry.dtype.as_str() {
            "F32" => all(bytes, f32::from_le_bytes),
            "F16" => all(bytes, |two| {
                coracle_tensor::f16::from_le_bytes(two).to_f32()
            }),
            "BF16" => all(bytes, |two| {
                coracle_tensor::bf16::from_le_bytes(two).to_f32()
            }),
            other => {
                let other: String = other.chars().take(20).collect();
                return Err(unsupported(format!("tensor '{name}' is of {other}")));
            }
        };
        let size = if entry.dtype == "F32" { 4 } else { 2 };
        let is_whole = n_numbers.and_then(|n| n.checked_mul(size)) == Some(bytes.len());
        is_whole.then_some(numbers).ok_or_else(|| {
            let n = bytes.len();
            malformed(format!("tensor '{name}' has {n} bytes for shape {shape:?}"))
        })
    }
}

fn all<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (numbers, _rest) = bytes.as_chunks();
    numbers.iter().map(|&number| read(number)).collect()
}

fn malformed(message: impl Into<String>) -> LoadError {
    let message: String = message.into().chars().take(300).collect();
    LoadError::new(LoadErrorKind::Malformed, message)
}

fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}

fn missing(name: &str) -> LoadError {
    let message = "the file is not there, though modules.json names its directory";
    LoadError::new(LoadErrorKind::NotFound, message).at(name)
}

#[cfg(test)]
mod tests;
