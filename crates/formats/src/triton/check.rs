//! Whether a configuration is true of a model.

use coracle_model::{Description, LoadError, LoadErrorKind, Signature, TensorSpec};
use coracle_tensor::DType;

use super::{TritonConfig, TritonTensor};
use crate::document::quoted;

/// What the files of one of Triton's backends are.
enum Files {
    /// Any that are served.
    Any,
    /// ONNX graphs.
    Onnx,
    /// Trees.
    Trees,
    /// Those of this library.
    Library(&'static str),
    /// None that are served.
    Others,
}

/// Returns the files of a backend, or of a platform in Triton's older words; `None` for names that are not known.
fn files_of(name: &str) -> Option<Files> {
    Some(match name {
        "" | "coracle" => Files::Any,
        "onnxruntime" | "onnxruntime_onnx" | "onnx" => Files::Onnx,
        "fil" => Files::Trees,
        "sklearn" | "scikit-learn" => Files::Library("scikit-learn"),
        "xgboost" | "XGBoost" => Files::Library("XGBoost"),
        "lightgbm" | "LightGBM" => Files::Library("LightGBM"),
        "catboost" | "CatBoost" => Files::Library("CatBoost"),
        "python"
        | "pytorch"
        | "pytorch_libtorch"
        | "tensorflow"
        | "tensorflow_graphdef"
        | "tensorflow_savedmodel"
        | "tensorrt"
        | "tensorrt_plan"
        | "openvino"
        | "dali"
        | "ensemble"
        | "vllm"
        | "tensorrtllm"
        | "identity"
        | "repeat"
        | "square" => Files::Others,
        _ => return None,
    })
}

impl TritonConfig {
    /// Compares the configuration with a model that is served as `name`; returns what is worth a note.
    ///
    /// # Errors
    /// Kind `Malformed` if it is not true of the model, with the names of both; `Unsupported` for backends whose files are not served.
    pub fn check(
        &self,
        name: &str,
        signature: &Signature,
        description: &Description,
    ) -> Result<Vec<String>, LoadError> {
        let mut notes = Vec::new();
        if let Some(own) = self.name.as_ref().filter(|own| *own != name) {
            notes.push(format!(
                "name is {}, the model is served as {}",
                quoted(own),
                quoted(name)
            ));
        }
        for (field, value) in [("platform", &self.platform), ("backend", &self.backend)] {
            if let Some(value) = value {
                check_files(field, value, description, &mut notes)?;
            }
        }
        self.check_rows(signature)?;
        self.check_inputs(signature, &mut notes)?;
        for output in &self.outputs {
            let own = signature
                .outputs
                .iter()
                .find(|spec| spec.name == output.name);
            let own = own.ok_or_else(|| {
                wrong(
                    output,
                    "output",
                    format_args!("the model has {}", signature.output_names()),
                )
            })?;
            if let Some(dtype) = output.dtype.filter(|dtype| *dtype != own.dtype) {
                let words = format_args!("data_type is {dtype}, the model gives {}", own.dtype);
                return Err(wrong(output, "output", words));
            }
            if signature.unranked_inputs.is_empty() {
                self.check_dims(output, "output", own)?;
            }
        }
        Ok(notes)
    }

    fn has_rows(&self) -> bool {
        self.max_batch_size.is_some_and(|rows| rows > 0)
    }

    /// With a batch size, the first dimension of every tensor is the rows.
    fn check_rows(&self, signature: &Signature) -> Result<(), LoadError> {
        if !signature.unranked_inputs.is_empty() {
            return Ok(());
        }
        let mut specs = signature.inputs.iter().chain(&signature.outputs);
        let fixed = specs.find(|spec| spec.shape.first() != Some(&None));
        match (fixed, self.max_batch_size) {
            (Some(spec), Some(rows)) if rows > 0 => Err(malformed(format!(
                "max_batch_size is {rows}, but {} of the model has the shape {:?}, which does not begin with rows",
                quoted(&spec.name),
                spec.wire_shape()
            ))),
            _ => Ok(()),
        }
    }

    fn check_inputs(
        &self,
        signature: &Signature,
        notes: &mut Vec<String>,
    ) -> Result<(), LoadError> {
        if self.inputs.is_empty() {
            return Ok(());
        }
        let expected = Expected::of(signature, &self.inputs);
        let unranked = signature.unranked_inputs.iter();
        let unranked: Vec<&TensorSpec> = unranked
            .filter_map(|&index| signature.inputs.get(index))
            .collect();
        let is_unranked = |name: &str| unranked.iter().any(|spec| spec.name == name);
        for input in &self.inputs {
            let own = expected.specs.iter().find(|spec| spec.name == input.name);
            let own = match (own, expected.specs.as_slice()) {
                (Some(own), _) => own,
                (None, [only]) if expected.takes_any_name && self.inputs.len() == 1 => {
                    notes.push(format!(
                        "line {}: input {} is {} of the model, which takes it under any name",
                        input.line,
                        quoted(&input.name),
                        quoted(&only.name)
                    ));
                    only
                }
                _ => {
                    let words = format_args!("the model has {}", expected.names());
                    return Err(wrong(input, "input", words));
                }
            };
            if let Some(dtype) = input.dtype
                && (dtype == DType::Bytes) != (own.dtype == DType::Bytes)
                && !own.accepts_integers
            {
                let words = format_args!("data_type is {dtype}, the model takes {}", own.dtype);
                return Err(wrong(input, "input", words));
            }
            if !is_unranked(&own.name) {
                self.check_dims(input, "input", own)?;
            }
        }
        let is_there = |spec: &TensorSpec| self.inputs.iter().any(|input| input.name == spec.name);
        match expected.specs.iter().find(|spec| !is_there(spec)) {
            Some(absent) if !(expected.takes_any_name && expected.specs.len() == 1) => {
                Err(malformed(format!(
                    "input {} of the model is not among those of the configuration",
                    quoted(&absent.name)
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_dims(
        &self,
        tensor: &TritonTensor,
        kind: &str,
        own: &TensorSpec,
    ) -> Result<(), LoadError> {
        let Some(dims) = &tensor.dims else {
            return Ok(());
        };
        let rows = usize::from(self.has_rows());
        let shape: Vec<i64> = own.wire_shape().into_iter().skip(rows).collect();
        let fits = |shape: &[i64]| {
            let mut sizes = dims.iter().zip(shape);
            dims.len() == shape.len() && sizes.all(|(a, b)| a == b || *a == -1 || *b == -1)
        };
        // One number per row is a dimension of one in a configuration.
        let with_one = [shape.as_slice(), &[1]].concat();
        let is_per_row = own.shape.len() == 1;
        if fits(&shape) || is_per_row && fits(&with_one) {
            return Ok(());
        }
        let without = if rows > 0 { " without the rows" } else { "" };
        let words = format_args!(
            "dims are {dims:?}, {} of the model has {shape:?}{without}",
            quoted(&own.name)
        );
        Err(wrong(tensor, kind, words))
    }
}

/// The inputs that a configuration may list.
struct Expected {
    specs: Vec<TensorSpec>,
    /// Whether the only input may have any name.
    takes_any_name: bool,
}

impl Expected {
    /// A table may be listed whole or by its columns.
    fn of(signature: &Signature, listed: &[TritonTensor]) -> Self {
        let is_listed = |name: &str| listed.iter().any(|input| input.name == name);
        let column = |name: &str, dtype, accepts_integers| TensorSpec {
            name: name.to_owned(),
            dtype,
            shape: vec![None],
            columns: None,
            accepts_missing: true,
            accepts_integers,
        };
        if let Some(places) = &signature.columns
            && !places.iter().any(|place| is_listed(&place.name))
        {
            let dtype = signature
                .inputs
                .first()
                .map_or(DType::F64, |input| input.dtype);
            let table = TensorSpec {
                shape: vec![None, Some(places.len())],
                ..column("the table", dtype, true)
            };
            return Self {
                specs: vec![table],
                takes_any_name: true,
            };
        }
        if let [table] = signature.inputs.as_slice()
            && let Some(columns) = &table.columns
            && !is_listed(&table.name)
            && columns.iter().any(|column| is_listed(column))
        {
            let columns = columns.iter();
            let specs = columns.map(|name| column(name, table.dtype, false));
            return Self {
                specs: specs.collect(),
                takes_any_name: false,
            };
        }
        Self {
            specs: signature.inputs.clone(),
            takes_any_name: signature.inputs.len() == 1,
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.specs.iter().map(|spec| spec.name.as_str()).collect();
        names.join(", ")
    }
}

fn check_files(
    field: &str,
    value: &str,
    description: &Description,
    notes: &mut Vec<String>,
) -> Result<(), LoadError> {
    let Some(files) = files_of(value) else {
        notes.push(format!(
            "{field} {} is not known, the file says what it is",
            quoted(value)
        ));
        return Ok(());
    };
    let is_onnx = description.format.starts_with("ONNX");
    let library = description.library.as_str();
    let fits = match files {
        Files::Any => true,
        Files::Onnx => is_onnx,
        Files::Trees => {
            !is_onnx && ["XGBoost", "LightGBM", "CatBoost", "scikit-learn"].contains(&library)
        }
        Files::Library(wanted) => wanted == library,
        Files::Others => {
            let message = format!(
                "{field} {} runs files that are not served; the model's is {}, written by {library}",
                quoted(value),
                description.format
            );
            return Err(LoadError::new(LoadErrorKind::Unsupported, message));
        }
    };
    if fits {
        return Ok(());
    }
    Err(malformed(format!(
        "{field} is {}, but the model's file is {}, written by {library}",
        quoted(value),
        description.format
    )))
}

fn malformed(message: String) -> LoadError {
    LoadError::new(LoadErrorKind::Malformed, message)
}

fn wrong(tensor: &TritonTensor, kind: &str, words: impl std::fmt::Display) -> LoadError {
    malformed(format!(
        "line {}: {kind} {}: {words}",
        tensor.line,
        quoted(&tensor.name)
    ))
}
