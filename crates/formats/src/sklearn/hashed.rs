//! FeatureHasher: rows of named values, each a JSON object or list, to sparse rows by the hashes of the names.

use std::collections::HashSet;

use coracle_estimators::HashedColumns;
use coracle_model::{
    Accepts, ColumnKind, ColumnSpec, Estimator, LoadError, Method, MethodSpec, RunError,
    RunErrorKind, Width, tensor_of,
};
use coracle_tensor::{Cell, DType, Frame, Rows, SparseRows, Table, Tensor};

use super::convert::Part;
use super::fitted::Fitted;
use crate::document::{Document, parse_json, quoted};

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowForm {
    /// An object of values by name.
    Dict,
    /// A list of pairs of a name and a value.
    Pairs,
    /// A list of names.
    Names,
}

impl RowForm {
    /// Says what a row has to be.
    fn expected(self) -> &'static str {
        match self {
            Self::Dict => "an object of numbers and strings by feature name",
            Self::Pairs => "a list of pairs [feature name, number or string]",
            Self::Names => "a list of strings",
        }
    }
}

/// A transformer of one column of JSON to sparse rows.
#[derive(Debug)]
struct FeatureHasher {
    form: RowForm,
    columns: HashedColumns,
    methods: [MethodSpec; 1],
}

const JSON: [ColumnSpec; 1] = [ColumnSpec {
    kind: ColumnKind::Json,
    accepts_missing: false,
}];

/// Reads which columns names are hashed to.
pub(super) fn columns(fitted: &Fitted<'_>) -> Result<HashedColumns, LoadError> {
    if fitted.flag_or("non_negative", false)? {
        return Err(fitted.unsupported("non_negative=True is not supported"));
    }
    let n_columns = u32::try_from(fitted.count("n_features")?);
    let n_columns =
        n_columns.map_err(|_too_large| fitted.malformed("'n_features' is too large"))?;
    HashedColumns::try_new(n_columns, fitted.flag_or("alternate_sign", true)?)
        .map_err(|error| fitted.malformed(error.to_string()))
}

/// Converts FeatureHasher.
pub(super) fn convert(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let form = match fitted.text("input_type")?.as_str() {
        "dict" => RowForm::Dict,
        "pair" => RowForm::Pairs,
        "string" => RowForm::Names,
        other => return Err(fitted.unknown("input_type", other)),
    };
    let dtype = fitted
        .attr("dtype")
        .and_then(|id| fitted.graph.global(id))
        .unwrap_or_default();
    if !matches!(dtype.rsplit('.').next(), Some("float64" | "float")) {
        return Err(fitted.unsupported("a 'dtype' other than numpy.float64 is not supported"));
    }
    let columns = columns(fitted)?;
    let n_columns = usize::try_from(columns.n_columns());
    let n_columns = n_columns.map_err(|error| fitted.malformed(error.to_string()))?;
    let hasher = FeatureHasher {
        form,
        columns,
        methods: [MethodSpec {
            method: Method::Transform,
            dtype: DType::F64,
            width: Width::Columns(n_columns),
        }],
    };
    let facts = vec![("hashed to".to_owned(), n_columns.to_string())];
    Ok(Part::new(hasher, facts))
}

impl FeatureHasher {
    /// Notes the features of a row, by column.
    ///
    /// # Errors
    /// Says what in the row is not as it should be.
    fn note(&self, row: &Document, noted: &mut Vec<(u32, f64)>) -> Result<(), String> {
        let wrong = || format!("expected {}", self.form.expected());
        match (self.form, row) {
            (RowForm::Dict, Document::Object(entries)) => {
                // Of equal keys the last one counts.
                let mut seen = HashSet::with_capacity(entries.len());
                for (name, value) in entries.iter().rev() {
                    if seen.insert(name.as_str()) {
                        self.note_value(name, value, noted)?;
                    }
                }
                // Values of one column are added in the order of the request.
                noted.reverse();
                Ok(())
            }
            (RowForm::Pairs | RowForm::Names, Document::Array(items)) => {
                for item in items {
                    match (self.form, item) {
                        (RowForm::Names, Document::Text(name)) => self.note_one(name, 1.0, noted),
                        (RowForm::Pairs, Document::Array(pair)) => match pair.as_slice() {
                            [Document::Text(name), value] => self.note_value(name, value, noted)?,
                            _ => return Err(wrong()),
                        },
                        _ => return Err(wrong()),
                    }
                }
                Ok(())
            }
            _ => Err(wrong()),
        }
    }

    fn note_value(
        &self,
        name: &str,
        value: &Document,
        noted: &mut Vec<(u32, f64)>,
    ) -> Result<(), String> {
        let number = match value {
            Document::Number(number) => *number,
            Document::Bool(truth) => f64::from(u8::from(*truth)),
            Document::Text(text) => {
                self.note_one(&format!("{name}={text}"), 1.0, noted);
                return Ok(());
            }
            Document::Null | Document::Numbers(_) | Document::Array(_) | Document::Object(_) => {
                let name = quoted(name);
                return Err(format!("feature {name}: expected a number or a string"));
            }
        };
        self.note_one(name, number, noted);
        Ok(())
    }

    fn note_one(&self, name: &str, value: f64, noted: &mut Vec<(u32, f64)>) {
        if value != 0.0 {
            let (column, sign) = self.columns.place(name.as_bytes());
            noted.push((column, value * f64::from(sign)));
        }
    }
}

/// Appends a row of noted features, those of one column added up.
fn finish(noted: &mut [(u32, f64)], rows: &mut SparseRows) {
    noted.sort_by_key(|(column, _)| *column);
    for same in noted.chunk_by(|(a, _), (b, _)| a == b) {
        if let Some((column, _)) = same.first() {
            rows.push(*column, same.iter().map(|(_, value)| value).sum());
        }
    }
    rows.end_row();
}

impl Estimator for FeatureHasher {
    fn n_features(&self) -> usize {
        1
    }

    fn accepts(&self) -> Accepts {
        Accepts::ANY
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        Some(&JSON)
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        if method != Method::Transform {
            let message = format!("the model has no method {}", method.as_str());
            return Err(RunError::new(RunErrorKind::Internal, message));
        }
        tensor_of(self.transform_table(table)?)
    }

    fn transform_table(&self, table: &Table<'_>) -> Result<Frame, RunError> {
        let n_columns = usize::try_from(self.columns.n_columns()).ok();
        let rows = n_columns.and_then(SparseRows::try_new);
        let mut rows = rows
            .ok_or_else(|| RunError::new(RunErrorKind::Internal, "a sparse table is too wide"))?;
        let mut noted = Vec::new();
        for row in 0..table.n_rows() {
            let at_row = |kind, what: String| RunError::new(kind, format!("row {row}: {what}"));
            let Cell::Text(Some(json)) = table.cell(row, 0) else {
                let what = format!("expected {} as JSON", self.form.expected());
                return Err(at_row(RunErrorKind::DTypeMismatch, what));
            };
            let document = parse_json(json);
            let document = document.map_err(|error| {
                let what = format!("expected {}: {error}", self.form.expected());
                at_row(RunErrorKind::ValueOutOfRange, what)
            })?;
            noted.clear();
            self.note(&document, &mut noted)
                .map_err(|what| at_row(RunErrorKind::DTypeMismatch, what))?;
            finish(&mut noted, &mut rows);
        }
        Ok(Frame::Sparse(rows))
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
    }
}
