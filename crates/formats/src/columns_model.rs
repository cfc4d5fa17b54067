//! An estimator over columns of numbers and texts as a model: one input per column.

use std::borrow::Cow;
use std::collections::HashSet;

use coracle_model::{
    ColumnKind, ColumnPlace, ColumnSpec, Description, Estimator, KnownValue, LoadError,
    LoadErrorKind, Method, Model, RunError, RunErrorKind, Signature, TensorSpec,
};
use coracle_tensor::{ByteStrings, Column, Columns, DType, Table, Tensor, Values};

use crate::tabular::{INPUT, Names, Outputs};

/// A model of which each input is a column of one table.
#[derive(Debug)]
pub(crate) struct ColumnsModel {
    estimator: Box<dyn Estimator>,
    signature: Signature,
    description: Description,
    methods: Vec<Method>,
    /// What each input holds.
    specs: Vec<ColumnSpec>,
    /// Which input each of the estimator's columns is; `None` for those it does not read.
    inputs: Vec<Option<usize>>,
}

impl ColumnsModel {
    /// Returns `estimator` as a model whose outputs are its methods.
    ///
    /// # Errors
    /// Kind `Unsupported` if two columns have one name; `Malformed` if there is another number of names than columns.
    pub(crate) fn try_new(
        estimator: Box<dyn Estimator>,
        columns: &[ColumnSpec],
        names: Names,
        outputs: Outputs,
        description: Description,
    ) -> Result<Self, LoadError> {
        let name_rules = names.rules;
        let names = column_names(columns.len(), names.features)?;
        let holds_json = columns.iter().any(|spec| spec.kind == ColumnKind::Json);
        if holds_json && columns.len() > 1 {
            let message = "a column of objects or lists beside other columns is not supported";
            return Err(LoadError::new(LoadErrorKind::Unsupported, message));
        }
        let mut specs = Vec::new();
        let mut inputs = Vec::new();
        let mut places = Vec::new();
        for (&spec, name) in columns.iter().zip(names) {
            let input = (spec.kind != ColumnKind::Ignored).then_some(inputs.len());
            if input.is_some() {
                inputs.push(input_spec(spec, &name));
                specs.push(spec);
            }
            places.push(ColumnPlace { name, input });
        }
        Ok(Self {
            inputs: places.iter().map(|place| place.input).collect(),
            signature: Signature {
                keyed_outputs: Vec::new(),
                keyed_inputs: holds_json.then_some(0).into_iter().collect(),
                unranked_inputs: Vec::new(),
                name_rules,
                inputs,
                outputs: outputs.specs,
                default_outputs: outputs.defaults,
                // What is JSON is no cell of a table, to the protocols.
                columns: (!holds_json).then_some(places),
            },
            methods: outputs.methods,
            estimator,
            description,
            specs,
        })
    }

    /// Returns each input's values, checked against what its column holds.
    fn checked<'t>(&self, inputs: &'t [Tensor]) -> Result<Vec<Cell<'t>>, RunError> {
        if inputs.len() != self.specs.len() {
            let message = format!(
                "{} inputs, model expects {}",
                inputs.len(),
                self.specs.len()
            );
            return Err(RunError::new(RunErrorKind::ShapeMismatch, message));
        }
        let n_rows = inputs.first().map_or(0, Tensor::n_rows);
        let columns = inputs.iter().zip(&self.specs).zip(&self.signature.inputs);
        columns
            .map(|((tensor, spec), input)| {
                check_shape(tensor, n_rows, &input.name)?;
                check_values(tensor, *spec, &input.name)
            })
            .collect()
    }
}

/// The values of one input.
enum Cell<'t> {
    Numbers(Cow<'t, [f64]>),
    Text(&'t ByteStrings),
    /// Integers that stand for categories.
    Digits(ByteStrings),
}

/// Returns a name for every column: the model's own, or as scikit-learn calls those without.
fn column_names(n_columns: usize, names: Option<Vec<String>>) -> Result<Vec<String>, LoadError> {
    let Some(names) = names else {
        return Ok(match n_columns {
            1 => vec![INPUT.to_owned()],
            _ => (0..n_columns).map(|column| format!("x{column}")).collect(),
        });
    };
    if names.len() != n_columns {
        let message = format!("{} feature names for {n_columns} features", names.len());
        return Err(LoadError::new(LoadErrorKind::Malformed, message));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        let message =
            format!("two columns are called {twice:?}; requests could not tell them apart");
        return Err(LoadError::new(LoadErrorKind::Unsupported, message));
    }
    Ok(names)
}

fn input_spec(spec: ColumnSpec, name: &str) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype: match spec.kind {
            ColumnKind::Text | ColumnKind::Category | ColumnKind::Json => DType::Bytes,
            ColumnKind::Numbers | ColumnKind::Ignored => DType::F64,
        },
        shape: vec![None],
        columns: None,
        accepts_missing: spec.accepts_missing,
        accepts_integers: spec.kind == ColumnKind::Category,
    }
}

fn check_shape(tensor: &Tensor, n_rows: usize, name: &str) -> Result<(), RunError> {
    let shape = tensor.shape();
    let message = match shape {
        [0] | [0, 1] => format!("column {name:?}: at least one row is needed"),
        [n] | [n, 1] if *n == n_rows => return Ok(()),
        [n] | [n, 1] => format!("column {name:?}: {n} rows, other columns have {n_rows}"),
        _ => format!("column {name:?}: shape {shape:?}, a column has shape [n] or [n, 1]"),
    };
    Err(RunError::new(RunErrorKind::ShapeMismatch, message))
}

fn check_values<'t>(
    tensor: &'t Tensor,
    spec: ColumnSpec,
    name: &str,
) -> Result<Cell<'t>, RunError> {
    let wrong = |expected: &str| {
        let message = format!(
            "column {name:?}: expected {expected}, got {}",
            tensor.dtype()
        );
        RunError::new(RunErrorKind::DTypeMismatch, message)
    };
    match (tensor.values(), spec.kind) {
        (Values::Bytes(texts), ColumnKind::Text | ColumnKind::Category | ColumnKind::Json) => {
            if let Some(row) = texts.first_missing().filter(|_| !spec.accepts_missing) {
                let message = format!(
                    "row {row}, column {name:?}: missing value (null); this column takes strings only"
                );
                return Err(RunError::new(RunErrorKind::MissingValue, message));
            }
            Ok(Cell::Text(texts))
        }
        (_, ColumnKind::Text) => Err(wrong("strings (BYTES)")),
        (_, ColumnKind::Json) => Err(wrong("objects or lists, as texts of JSON (BYTES)")),
        (values, ColumnKind::Category) => match digits(values) {
            Some(texts) => Ok(Cell::Digits(texts)),
            None => Ok(Cell::Numbers(values.to_f64s().unwrap_or_default())),
        },
        (values, ColumnKind::Numbers | ColumnKind::Ignored) => {
            let numbers = values.to_f64s();
            numbers
                .map(Cell::Numbers)
                .ok_or_else(|| wrong("numbers (FP64 or any other numeric datatype)"))
        }
    }
}

/// Returns integers as the texts of their digits, and truth values as those of 0 and 1.
fn digits(values: &Values) -> Option<ByteStrings> {
    fn texts<T: ToString>(integers: &[T]) -> Option<ByteStrings> {
        Some(integers.iter().map(ToString::to_string).collect())
    }
    match values {
        Values::I64(integers) => texts(integers),
        Values::I32(integers) => texts(integers),
        Values::I16(integers) => texts(integers),
        Values::I8(integers) => texts(integers),
        Values::U64(integers) => texts(integers),
        Values::U32(integers) => texts(integers),
        Values::U16(integers) => texts(integers),
        Values::U8(integers) => texts(integers),
        Values::Bool(truths) => {
            let digit = |&truth: &bool| if truth { "1" } else { "0" };
            Some(truths.iter().map(digit).collect())
        }
        _ => None,
    }
}

impl Model for ColumnsModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let cells = self.checked(inputs)?;
        let n_rows = inputs.first().map_or(0, Tensor::n_rows);
        let unread = match self.inputs.contains(&None) {
            true => vec![f64::NAN; n_rows],
            false => Vec::new(),
        };
        let columns =
            self.inputs
                .iter()
                .map(|input| match input.and_then(|input| cells.get(input)) {
                    Some(Cell::Numbers(numbers)) => Column::Numbers(numbers),
                    Some(Cell::Text(texts)) => Column::Text(texts),
                    Some(Cell::Digits(texts)) => Column::Text(texts),
                    None => Column::Numbers(&unread),
                });
        let table = Columns::try_new(columns.collect())
            .map(Table::Columns)
            .ok_or_else(|| RunError::new(RunErrorKind::Internal, "checked columns differ"))?;
        outputs
            .iter()
            .map(|&output| {
                let method = self.methods.get(output).ok_or_else(|| {
                    let message = format!("output {output} does not exist");
                    RunError::new(RunErrorKind::Internal, message)
                })?;
                self.estimator.run_table(*method, &table)
            })
            .collect()
    }

    fn known_value(&self, column: usize) -> Option<KnownValue> {
        self.estimator.known_value(column)
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            .saturating_add(self.signature.memory_bytes())
            .saturating_add(self.description.memory_bytes())
            .saturating_add(self.estimator.memory_bytes())
    }
}
