//! What a model takes and gives: names, datatypes, shapes.

use coracle_base::allocation_bytes;
use coracle_tensor::DType;

/// The name, datatype and shape of one input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name on the wire.
    pub name: String,
    /// The datatype the model computes in; inputs of other numeric datatypes are converted.
    pub dtype: DType,
    /// The size of each dimension; `None` where any size will do (the rows).
    pub shape: Vec<Option<usize>>,
    /// The names of the columns of a table, where the model knows them; as many as `shape[1]`.
    pub columns: Option<Vec<String>>,
    /// Whether missing values (NaN, JSON `null`) are accepted.
    pub accepts_missing: bool,
    /// Whether an input of texts takes integers too, as the texts of their digits, and truth values as 0 and 1.
    pub accepts_integers: bool,
}

impl TensorSpec {
    fn memory_bytes(&self) -> usize {
        let columns = self.columns.iter().flatten();
        let columns = columns.map(|name| size_of::<String>() + allocation_bytes(name.capacity()));
        size_of::<Self>()
            + allocation_bytes(self.name.capacity())
            + allocation_bytes(self.shape.capacity() * size_of::<Option<usize>>())
            + columns.sum::<usize>()
    }

    /// Returns the shape as the protocols write it, -1 for any size.
    #[must_use]
    pub fn wire_shape(&self) -> Vec<i64> {
        self.shape
            .iter()
            .map(|size| size.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)))
            .collect()
    }

    /// Returns the number of columns of a table, if this is one.
    #[must_use]
    pub fn n_columns(&self) -> Option<usize> {
        match self.shape.as_slice() {
            [None, Some(n_columns)] => Some(*n_columns),
            _ => None,
        }
    }
}

/// Everything a model takes and can give.
///
/// An output is computed only if asked for. A scikit-learn classifier has the outputs `predict`,
/// `predict_proba` and so on, of which one is the default; a graph has its own outputs, all default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The inputs, in the order in which [`crate::Model::run`] takes them.
    pub inputs: Vec<TensorSpec>,
    /// The outputs that can be asked for.
    pub outputs: Vec<TensorSpec>,
    /// Indices into `outputs` of what a request gets that asks for nothing in particular; not empty.
    pub default_outputs: Vec<usize>,
    /// Indices into `outputs` of what V1 gives as JSON of its own: tables row by row as objects by column name, as ONNX's maps are, and
    /// texts as the JSON that they hold. In all other protocols they are tables and texts.
    pub keyed_outputs: Vec<usize>,
    /// Indices into `inputs` of what is no tensor and comes as texts of JSON, as ONNX's maps and sequences do. V1 takes the JSON itself. Where
    /// such an input has a dimension each text is an item of it, else the only text is all of it.
    pub keyed_inputs: Vec<usize>,
    /// Indices into `inputs` of tensors of any number of dimensions; their shape is `[None]`, which protocols write as `[-1]`.
    pub unranked_inputs: Vec<usize>,
    /// How the names of columns in requests are compared with the model's.
    pub name_rules: NameRules,
    /// The columns of a row, in order, where each input is a column of one table (of shape `[rows]`) rather than a
    /// tensor of its own.
    pub columns: Option<Vec<ColumnPlace>>,
}

/// How the names of columns in requests are compared with a model's; by default they are the same, and all are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameRules {
    /// Whether a column whose name has underscores may be called by it with blanks: LightGBM changes the names of data frames so.
    pub underscores_may_be_blanks: bool,
    /// Whether a request that MLflow's server would take may have more columns: those that a model's signature does not name are
    /// passed over there.
    pub mlflow_names_columns: bool,
    /// Whether MLflow's server gives outputs by name even where there is only one, as it does those of graphs.
    pub mlflow_names_outputs: bool,
}

/// One column of the rows that a model of columns takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPlace {
    /// The column's name.
    pub name: String,
    /// Which of the inputs it is; `None` for a column that the model was fitted with but does not read, which may be
    /// there or not.
    pub input: Option<usize>,
}

impl Signature {
    /// Returns the memory held, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let specs = self.inputs.iter().chain(&self.outputs);
        let specs = specs.map(TensorSpec::memory_bytes);
        let columns = self.columns.iter().flatten();
        let columns = columns
            .map(|column| size_of::<ColumnPlace>() + allocation_bytes(column.name.capacity()));
        size_of::<Self>()
            + specs.sum::<usize>()
            + columns.sum::<usize>()
            + allocation_bytes(self.default_outputs.capacity() * size_of::<usize>())
    }

    /// Returns the index of the output of this name.
    #[must_use]
    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|output| output.name == name)
    }

    /// Returns the output names, for messages: `predict, predict_proba`.
    #[must_use]
    pub fn output_names(&self) -> String {
        let names: Vec<&str> = self.outputs.iter().map(|spec| spec.name.as_str()).collect();
        names.join(", ")
    }
}
