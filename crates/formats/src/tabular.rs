//! An estimator over tables as a model: names, datatypes, shapes.

use coracle_model::{
    Description, Estimator, KnownValue, LoadError, LoadErrorKind, Method, MethodSpec, Model,
    NameRules, RunError, RunErrorKind, Signature, TensorSpec, Width,
};
use coracle_tensor::{DType, Rows, Tensor};

use crate::columns_model::ColumnsModel;

/// The name of the one input, as scikit-learn calls it.
pub(crate) const INPUT: &str = "X";

/// What a model gives: an estimator's methods as outputs.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) methods: Vec<Method>,
    pub(crate) specs: Vec<TensorSpec>,
    /// The indices of the default ones.
    pub(crate) defaults: Vec<usize>,
}

impl Outputs {
    /// Returns the methods of `estimator` as outputs.
    ///
    /// # Errors
    /// Kind `Unsupported` if it lacks `default_method`, naming those it has.
    pub(crate) fn of(
        estimator: &dyn Estimator,
        default_method: Option<Method>,
    ) -> Result<Self, LoadError> {
        let methods: Vec<Method> = estimator.methods().iter().map(|spec| spec.method).collect();
        let defaults = match default_method {
            // Neighbours are distances and numbers, as `kneighbors` answers.
            None if methods.first() == Some(&Method::NeighborDistances) => {
                (0..methods.len()).collect()
            }
            None => vec![0],
            Some(wanted) => {
                let position = methods.iter().position(|&method| method == wanted);
                vec![position.ok_or_else(|| lacks_method(wanted, &methods))?]
            }
        };
        let class_names = estimator.class_names();
        let specs = estimator.methods().iter();
        Ok(Self {
            specs: specs
                .map(|spec| output_spec(spec, class_names.as_deref()))
                .collect(),
            methods,
            defaults,
        })
    }
}

/// What a model's inputs are called.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The one table; as scikit-learn calls it where nothing says otherwise.
    pub(crate) input: Option<String>,
    /// The columns, where the model knows them.
    pub(crate) features: Option<Vec<String>>,
    /// How others are compared with these.
    pub(crate) rules: NameRules,
}

/// Returns `estimator` as a model: of one table of numbers, or of columns where some hold texts.
///
/// # Errors
/// Kind `Unsupported` if it lacks `default_method`; `Malformed` if there is another number of feature names than
/// features.
pub(crate) fn model(
    estimator: Box<dyn Estimator>,
    names: Names,
    default_method: Option<Method>,
    description: Description,
) -> Result<Box<dyn Model>, LoadError> {
    let outputs = Outputs::of(estimator.as_ref(), default_method)?;
    if let Some(columns) = estimator.columns().map(<[_]>::to_vec) {
        let model = ColumnsModel::try_new(estimator, &columns, names, outputs, description)?;
        return Ok(Box::new(model));
    }
    let model = TabularModel::try_new(estimator, names, outputs, description)?;
    Ok(Box::new(model))
}

/// A model over one table: `X`, a double per row and column.
#[derive(Debug)]
struct TabularModel {
    estimator: Box<dyn Estimator>,
    signature: Signature,
    description: Description,
    methods: Vec<Method>,
}

impl TabularModel {
    /// Returns `estimator` as a model whose outputs are its methods.
    ///
    /// # Errors
    /// Kind `Malformed` if there is another number of feature names than features.
    fn try_new(
        estimator: Box<dyn Estimator>,
        names: Names,
        outputs: Outputs,
        description: Description,
    ) -> Result<Self, LoadError> {
        let n_features = estimator.n_features();
        let feature_names = names.features;
        if let Some(names) = feature_names
            .as_ref()
            .filter(|names| names.len() != n_features)
        {
            let message = format!("{} feature names for {n_features} features", names.len());
            return Err(LoadError::new(LoadErrorKind::Malformed, message));
        }
        let signature = Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: names.rules,
            inputs: vec![TensorSpec {
                name: names.input.unwrap_or_else(|| INPUT.to_owned()),
                dtype: DType::F64,
                shape: vec![None, Some(n_features)],
                columns: feature_names,
                accepts_missing: estimator.accepts().missing,
                accepts_integers: false,
            }],
            outputs: outputs.specs,
            default_outputs: outputs.defaults,
            columns: None,
        };
        Ok(Self {
            estimator,
            signature,
            description,
            methods: outputs.methods,
        })
    }

    fn input_name(&self) -> &str {
        let input = self.signature.inputs.first();
        input.map_or(INPUT, |input| input.name.as_str())
    }

    /// Returns the table's values as doubles, checked against the signature.
    fn check_shape(&self, shape: &[usize]) -> Result<(), RunError> {
        let n_features = self.estimator.n_features();
        let name = self.input_name();
        let fits = matches!(shape, [_, n_columns] if *n_columns == n_features);
        if !fits {
            let hint = match shape {
                [n_values] if *n_values == n_features => {
                    format!("; send shape [1, {n_features}] for one row")
                }
                _ => String::new(),
            };
            let message = format!(
                "input \"{name}\": shape {shape:?}, model expects [-1, {n_features}]{hint}"
            );
            return Err(RunError::new(RunErrorKind::ShapeMismatch, message));
        }
        if shape.first() == Some(&0) {
            let message = format!("input \"{name}\": shape {shape:?}, at least one row is needed");
            return Err(RunError::new(RunErrorKind::ShapeMismatch, message));
        }
        Ok(())
    }
}

fn lacks_method(wanted: Method, methods: &[Method]) -> LoadError {
    let names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    let message = format!(
        "the model has no method '{}'; it has {}",
        wanted.as_str(),
        names.join(", ")
    );
    LoadError::new(LoadErrorKind::Unsupported, message)
}

/// Returns a method as an output, whose columns are named where they are classes.
fn output_spec(spec: &MethodSpec, class_names: Option<&[String]>) -> TensorSpec {
    let mut shape = vec![None];
    match spec.width {
        Width::Scalar => {}
        Width::Columns(n_columns) => shape.push(Some(n_columns)),
        Width::Outputs(n_outputs, width) => shape.extend([Some(n_outputs), Some(width)]),
    }
    let is_of_classes = matches!(spec.method, Method::PredictProba | Method::PredictLogProba);
    TensorSpec {
        name: spec.method.as_str().to_owned(),
        dtype: spec.dtype,
        columns: class_names
            .filter(|names| is_of_classes && shape.get(1) == Some(&Some(names.len())))
            .map(<[String]>::to_vec),
        shape,
        accepts_missing: false,
        accepts_integers: false,
    }
}

impl Model for TabularModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let name = self.input_name();
        let [table] = inputs else {
            let message = format!("{} inputs, model expects one, \"{name}\"", inputs.len());
            return Err(RunError::new(RunErrorKind::ShapeMismatch, message));
        };
        let Some(values) = table.values().to_f64s() else {
            let message = format!(
                "input \"{name}\": datatype {}, model expects a number (FP64 or any other numeric datatype)",
                table.dtype()
            );
            return Err(RunError::new(RunErrorKind::DTypeMismatch, message));
        };
        self.check_shape(table.shape())?;
        let rows = Rows::try_new(&values, self.estimator.n_features()).ok_or_else(|| {
            RunError::new(RunErrorKind::Internal, "a checked table has ragged rows")
        })?;
        outputs
            .iter()
            .map(|&output| {
                let method = self.methods.get(output).ok_or_else(|| {
                    RunError::new(
                        RunErrorKind::Internal,
                        format!("output {output} does not exist"),
                    )
                })?;
                self.estimator.run(*method, rows)
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
