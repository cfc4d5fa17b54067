//! The signature of an MLflow model: names and types of its columns, or the shape of its table.

use coracle_estimators::shown_names;
use coracle_model::{
    ColumnKind, Description, Estimator, KnownValue, LoadError, LoadErrorKind, NameRules,
};
use coracle_tensor::DType;

use super::cast::{Cast, Casting};
use crate::document::{Document, Entry, parse_json, quoted};

/// The most columns in a description or a message.
const SHOWN_MAX: usize = 20;

/// What the inputs of a signature are.
#[derive(Debug, PartialEq)]
pub(crate) enum Signature {
    /// Columns of a table.
    Columns(Vec<ColumnType>),
    /// One table.
    Table {
        name: Option<String>,
        dtype: String,
        /// The number of columns, where it is set.
        width: Option<usize>,
    },
    /// Anything else, such as several tensors, which is left to the model.
    Other,
}

/// A column with its type, as MLflow calls it.
#[derive(Debug, PartialEq)]
pub(crate) struct ColumnType {
    name: Option<String>,
    dtype: String,
}

/// What a type stands for.
enum Kind {
    Numbers(Cast),
    Text,
    /// Dates, bytes, lists, maps: not compared.
    Other,
}

fn kind_of(dtype: &str) -> Kind {
    match dtype {
        "double" | "float64" => Kind::Numbers(Cast::Keep),
        "float" | "float32" => Kind::Numbers(Cast::Single),
        "boolean" | "bool" => Kind::Numbers(Cast::Truth),
        "integer" | "long" => Kind::Numbers(Cast::Whole),
        "string" | "str" => Kind::Text,
        dtype if dtype.starts_with("int") || dtype.starts_with("uint") => {
            Kind::Numbers(Cast::Whole)
        }
        _ => Kind::Other,
    }
}

impl Signature {
    /// Reads the JSON of a signature's inputs.
    ///
    /// # Errors
    /// Kind `Malformed` where it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, LoadError> {
        let document = parse_json(text.as_bytes())?;
        if matches!(&document, Document::Numbers(numbers) if numbers.is_empty()) {
            return Ok(Self::Other);
        }
        let mut columns = Vec::new();
        let mut tables = Vec::new();
        for item in Entry::root(&document).items()? {
            let dtype = item.field("type")?.text()?.to_owned();
            let name = item
                .find("name")
                .map(|name| column_name(&name))
                .transpose()?;
            if dtype == "tensor" {
                tables.push(table(name, &item.field("tensor-spec")?)?);
                continue;
            }
            columns.push(ColumnType { name, dtype });
        }
        Ok(match (columns.is_empty(), tables.len()) {
            (false, 0) => Self::Columns(columns),
            (true, 1) => tables.pop().unwrap_or(Self::Other),
            _ => Self::Other,
        })
    }

    /// Returns the name of the one table, where it has one.
    pub(crate) fn input_name(&self) -> Option<&str> {
        match self {
            Self::Table { name, .. } => name.as_deref(),
            _ => None,
        }
    }

    /// Tells whether it has a name for each column.
    pub(crate) fn names_columns(&self) -> bool {
        match self {
            Self::Columns(columns) => columns.iter().all(|column| column.name.is_some()),
            _ => false,
        }
    }

    /// Gives the columns of a graph that takes one table of numbers their names, where there are as many. Whatever it names leaves others out.
    pub(crate) fn name_columns(&self, graph: &mut coracle_model::Signature) {
        if graph.columns.is_some() {
            graph.name_rules.mlflow_names_columns = match self {
                Self::Columns(_) => self.names_columns(),
                Self::Table { name, .. } => name.is_some(),
                // Several tensors have names.
                Self::Other => true,
            };
        }
        let Self::Columns(columns) = self else {
            return;
        };
        let names = columns.iter().map(|column| column.name.clone());
        let Some(names) = names.collect::<Option<Vec<String>>>() else {
            return;
        };
        let [input] = graph.inputs.as_mut_slice() else {
            return;
        };
        let is_table = !matches!(input.dtype, DType::Bytes | DType::Bool);
        let is_nameless = input.columns.is_none() && graph.columns.is_none();
        if is_table && is_nameless && input.n_columns() == Some(names.len()) {
            input.columns = Some(names);
            graph.name_rules.mlflow_names_columns = true;
        }
    }

    /// Gives `estimator` the signature's types, and its names where it has none of its own; adds what it says to `description`. The names
    /// of the model may be LightGBM's, which has underscores where the signature has blanks.
    ///
    /// # Errors
    /// Kind `Unsupported` where the signature and the estimator contradict each other.
    pub(crate) fn apply(
        &self,
        estimator: Box<dyn Estimator>,
        (names, rules): (Option<Vec<String>>, NameRules),
        description: &mut Description,
    ) -> Result<(Box<dyn Estimator>, Option<Vec<String>>), LoadError> {
        let shown = self.shown();
        let facts = &mut description.root.facts;
        facts.extend(shown.map(|shown| ("signature".to_owned(), shown)));
        let n_features = estimator.n_features();
        match self {
            Self::Columns(columns) => in_order(columns, estimator, (names, rules)),
            Self::Table { width, .. } if width.is_some_and(|width| width != n_features) => {
                Err(contradicts(format!(
                    "has {} columns, the model takes {n_features}",
                    width.unwrap_or_default()
                )))
            }
            Self::Table { dtype, .. } => {
                // Objects are whatever an array of several types holds.
                let dtype = if dtype == "object" { ANY } else { dtype };
                let columns = vec![dtype; n_features];
                let estimator = cast(&columns, estimator, names.as_deref())?;
                Ok((estimator, names))
            }
            Self::Other => Ok((estimator, names)),
        }
    }

    fn shown(&self) -> Option<String> {
        match self {
            Self::Columns(columns) => {
                let shown = columns.iter().take(SHOWN_MAX);
                let shown = shown.map(|column| match &column.name {
                    Some(name) => format!("{name:?} {}", column.dtype),
                    None => column.dtype.clone(),
                });
                let shown = shown.collect::<Vec<String>>().join(", ");
                Some(match columns.len().saturating_sub(SHOWN_MAX) {
                    0 => shown,
                    more => format!("{shown} and {more} more"),
                })
            }
            Self::Table { dtype, width, .. } => {
                let width = width.map_or("any number of".to_owned(), |width| width.to_string());
                Some(format!("{width} columns of {dtype}"))
            }
            Self::Other => None,
        }
    }
}

/// The type of whatever there is.
const ANY: &str = "any";

/// The types of columns whose values may be more than one.
const NESTED: [&str; 4] = ["object", "array", "map", ANY];

/// The types of columns that no model takes which takes numbers or texts there, but for dates that are categories.
const NEITHER: [&str; 5] = ["object", "array", "map", "datetime", "binary"];

impl ColumnType {
    /// Tells whether a model calls it so.
    fn is_called(&self, name: &str, may_have_blanks: bool) -> bool {
        let own = self.name.as_deref();
        own.is_some_and(|own| own == name || may_have_blanks && own.replace(' ', "_") == name)
    }
}

fn table(name: Option<String>, entry: &Entry<'_>) -> Result<Signature, LoadError> {
    let shape = entry.field("shape")?;
    let width = match shape.numbers()? {
        [_, width] => *width,
        _ => return Ok(Signature::Other),
    };
    Ok(Signature::Table {
        name,
        dtype: entry.field("dtype")?.text()?.to_owned(),
        width: crate::document::whole(width),
    })
}

/// Returns a column's name; that of a data frame's numbered column is its digits.
fn column_name(name: &Entry<'_>) -> Result<String, LoadError> {
    match name.document() {
        Document::Number(_) => Ok(name.count()?.to_string()),
        _ => name.text().map(str::to_owned),
    }
}

/// Puts a signature's columns into the order that the model was fitted in, where it knows names.
fn in_order(
    columns: &[ColumnType],
    estimator: Box<dyn Estimator>,
    (names, rules): (Option<Vec<String>>, NameRules),
) -> Result<(Box<dyn Estimator>, Option<Vec<String>>), LoadError> {
    let given: Vec<&str> = columns.iter().filter_map(|c| c.name.as_deref()).collect();
    let is_plain = |column: &ColumnType| !NESTED.contains(&column.dtype.as_str());
    if !columns.iter().all(is_plain) && (names.is_none() || given.is_empty()) {
        return Ok((estimator, names));
    }
    if !given.is_empty() && given.len() != columns.len() {
        return Err(contradicts("names some of its columns only".to_owned()));
    }
    let n_features = estimator.n_features();
    // A model that knows names passes over what else a frame had.
    let is_by_name = names.is_some() && !given.is_empty();
    if columns.len() != n_features && !is_by_name {
        let n_columns = columns.len();
        return Err(contradicts(format!(
            "has {n_columns} columns, the model takes {n_features}"
        )));
    }
    let Some(names) = names else {
        let own = given.iter().map(|&name| name.to_owned()).collect();
        let names = (!given.is_empty()).then_some(own);
        let dtypes: Vec<&str> = columns.iter().map(|c| c.dtype.as_str()).collect();
        let estimator = cast(&dtypes, estimator, names.as_deref())?;
        return Ok((estimator, names));
    };
    let specs = estimator.columns();
    let is_read = |place: usize| {
        let spec = specs.and_then(|specs| specs.get(place));
        spec.is_none_or(|spec| spec.kind != ColumnKind::Ignored)
    };
    let mut dtypes = Vec::with_capacity(names.len());
    for (place, name) in names.iter().enumerate() {
        let column = match given.is_empty() {
            true => columns.get(place),
            false => columns
                .iter()
                .find(|c| c.is_called(name, rules.underscores_may_be_blanks)),
        };
        match column {
            Some(column) => dtypes.push(column.dtype.as_str()),
            None if !is_read(place) => dtypes.push(ANY),
            None => {
                let name = quoted(name);
                return Err(contradicts(format!(
                    "does not have column {name}, which the model was fitted with"
                )));
            }
        }
    }
    let estimator = cast(&dtypes, estimator, Some(&names))?;
    Ok((estimator, Some(names)))
}

/// Compares types with what the model takes in each column, and has its numbers cast.
fn cast(
    dtypes: &[&str],
    estimator: Box<dyn Estimator>,
    names: Option<&[String]>,
) -> Result<Box<dyn Estimator>, LoadError> {
    let specs = estimator.columns();
    let shown = shown_names(names, dtypes.len());
    let is_date = |dtype: &str, column: usize| {
        dtype == "datetime" && matches!(estimator.known_value(column), Some(KnownValue::Date(_)))
    };
    let mut casts = Vec::with_capacity(dtypes.len());
    for (column, (dtype, name)) in dtypes.iter().zip(&shown).enumerate() {
        let taken = match specs {
            Some(specs) => specs.get(column).map(|spec| spec.kind),
            None => Some(ColumnKind::Numbers),
        };
        let wrong = |what: &str| {
            let dtype = quoted(dtype);
            Err(contradicts(format!(
                "has type {dtype} for column {name}, where the model takes {what}"
            )))
        };
        casts.push(match (kind_of(dtype), taken) {
            (Kind::Text, Some(ColumnKind::Numbers)) => return wrong("numbers"),
            (Kind::Numbers(_), Some(ColumnKind::Text)) => return wrong("texts"),
            (Kind::Other, Some(ColumnKind::Numbers)) if NEITHER.contains(dtype) => {
                return wrong("numbers");
            }
            // Requests write dates as texts.
            (Kind::Other, Some(ColumnKind::Text)) if is_date(dtype, column) => Cast::Keep,
            (Kind::Other, Some(ColumnKind::Text | ColumnKind::Category))
                if NEITHER.contains(dtype) =>
            {
                return wrong("texts");
            }
            (Kind::Text | Kind::Numbers(_), Some(ColumnKind::Json)) => {
                return wrong("objects or lists");
            }
            (Kind::Numbers(cast), Some(ColumnKind::Numbers)) => cast,
            (Kind::Numbers(Cast::Truth), Some(ColumnKind::Category)) => Cast::Truth,
            _ => Cast::Keep,
        });
    }
    Ok(Casting::around(estimator, casts, shown))
}

fn contradicts(what: String) -> LoadError {
    LoadError::new(
        LoadErrorKind::Unsupported,
        format!("the signature in {} {what}", super::FILE_NAME),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightgbm_alone_knows_names_without_blanks() {
        let column = ColumnType {
            name: Some("sepal length".to_owned()),
            dtype: "double".to_owned(),
        };
        for may_have_blanks in [true, false] {
            assert!(column.is_called("sepal length", may_have_blanks));
            assert_eq!(
                column.is_called("sepal_length", may_have_blanks),
                may_have_blanks
            );
            for other in ["sepal", "Sepal_length"] {
                assert!(!column.is_called(other, may_have_blanks), "{other}");
            }
        }
    }

    #[test]
    fn signatures_of_columns_and_of_tables_are_read() {
        let column = |name: Option<&str>, dtype: &str| ColumnType {
            name: name.map(str::to_owned),
            dtype: dtype.to_owned(),
        };
        let cases = [
            (
                r#"[{"type":"double","name":"a","required":true},{"type":"string","name":"b"}]"#,
                Signature::Columns(vec![
                    column(Some("a"), "double"),
                    column(Some("b"), "string"),
                ]),
            ),
            (
                r#"[{"type":"long"}]"#,
                Signature::Columns(vec![column(None, "long")]),
            ),
            (
                r#"[{"name":"t","type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1,3]}}]"#,
                Signature::Table {
                    name: Some("t".to_owned()),
                    dtype: "float32".to_owned(),
                    width: Some(3),
                },
            ),
            (
                r#"[{"type":"tensor","tensor-spec":{"dtype":"str","shape":[-1]}}]"#,
                Signature::Other,
            ),
            // `infer_signature` of a data frame whose columns are numbered.
            (
                r#"[{"type":"double","name":0,"required":true}]"#,
                Signature::Columns(vec![column(Some("0"), "double")]),
            ),
            ("[]", Signature::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(Signature::parse(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "{",
            "3",
            r#"[{"name":"a"}]"#,
            r#"[{"type":"tensor"}]"#,
            "[[1]]",
        ] {
            assert!(Signature::parse(text).is_err(), "{text}");
        }
    }
}
