//! What a session takes and gives, by the names of the file and by its own.

use coracle_model::{LoadError, RunError, RunErrorKind, Signature, TensorSpec};
use coracle_onnx::{Outlets, ServedOutlet, columns};
use coracle_tensor::{DType, Tensor, Values};
use ort::session::Session;
use ort::value::{DynValue, Outlet, ValueType};

use crate::messages::shortened;
use crate::session::unsupported;
use crate::structured::{as_json, is_structured};
use crate::tensors::{dtype, internal, taken};

/// What a session calls its inputs and outputs, in the order of the signature.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) inputs: Vec<InputPlace>,
    pub(crate) outputs: Vec<OutputPlace>,
}

/// An input of a session.
#[derive(Debug)]
pub(crate) struct InputPlace {
    name: String,
    /// What the session calls it.
    pub(crate) place: String,
    /// The least and the greatest integer that it takes, where its datatype has others too.
    range: Option<(i64, i64)>,
}

/// An output of a session.
#[derive(Debug)]
pub(crate) struct OutputPlace {
    pub(crate) name: String,
    /// What the session calls it, where that is something else.
    place: Option<String>,
    /// How many columns a table has that was a map.
    n_columns: Option<usize>,
    /// Whether it is no tensor, and comes as JSON.
    is_structured: bool,
}

impl Places {
    /// Tells whether some output is no tensor: such are not bound to a place.
    pub(crate) fn has_structured(&self) -> bool {
        self.outputs.iter().any(|output| output.is_structured)
    }

    /// Refuses integers that an input does not take.
    pub(crate) fn check_ranges(&self, tensors: &[impl AsRef<Tensor>]) -> Result<(), RunError> {
        for (input, tensor) in self.inputs.iter().zip(tensors) {
            let Some((least, greatest)) = input.range else {
                continue;
            };
            let is_outside = |value: &i64| !(least..=greatest).contains(value);
            let outside = match tensor.as_ref().values() {
                Values::I8(items) => items.iter().copied().map(i64::from).find(is_outside),
                Values::U8(items) => items.iter().copied().map(i64::from).find(is_outside),
                _ => None,
            };
            if let Some(value) = outside {
                let name = &input.name;
                let message =
                    format!("input \"{name}\": {value}, model expects {least} to {greatest}");
                return Err(RunError::new(RunErrorKind::ValueOutOfRange, message));
            }
        }
        Ok(())
    }
}

impl OutputPlace {
    pub(crate) fn place(&self) -> &str {
        self.place.as_deref().unwrap_or(&self.name)
    }

    /// Returns what came as the signature has it.
    pub(crate) fn taken(&self, value: &DynValue) -> Result<Tensor, RunError> {
        match self.is_structured {
            true => as_json(value, &self.name),
            false => self.as_declared(taken(value, &self.name)?),
        }
    }

    /// Returns a tensor as the signature has it: a table with a column for each class.
    fn as_declared(&self, tensor: Tensor) -> Result<Tensor, RunError> {
        let Some(n_columns) = self.n_columns else {
            return Ok(tensor);
        };
        match tensor.shape() {
            [_, n] if *n == n_columns => Ok(tensor),
            // One row may come without its dimension.
            [n] if *n == n_columns => {
                let (_, values) = tensor.into_parts();
                Tensor::try_new(vec![1, n_columns], values)
                    .map_err(|error| internal(error.to_string()))
            }
            shape => {
                let name = &self.name;
                let message =
                    format!("output \"{name}\": scores of shape {shape:?} for {n_columns} classes");
                Err(internal(message))
            }
        }
    }
}

/// Reads the signature of a session; `outlets` says what was rewritten.
///
/// # Errors
/// Kind `Unsupported` where the graph takes or gives what is no tensor of our datatypes, or takes or gives nothing.
pub(crate) fn read(
    session: &Session,
    outlets: Option<Outlets>,
) -> Result<(Signature, Places), LoadError> {
    let outlets = outlets.unwrap_or_else(|| Outlets {
        inputs: session.inputs().iter().map(as_it_is).collect(),
        outputs: session.outputs().iter().map(as_it_is).collect(),
    });
    let inputs = outlets.inputs.iter();
    let inputs = inputs.map(|input| spec("input", session.inputs(), input));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let outputs = outlets.outputs.iter();
    let outputs = outputs.map(|output| {
        let spec = spec("output", session.outputs(), output)?;
        Ok(TensorSpec {
            accepts_missing: false,
            ..spec
        })
    });
    let outputs = outputs.collect::<Result<Vec<_>, LoadError>>()?;
    if inputs.is_empty() || outputs.is_empty() {
        return Err(unsupported("the graph has no inputs or no outputs"));
    }
    let places = places(session, outlets);
    let are_keyed = outputs.iter().zip(&places.outputs).enumerate();
    let are_keyed =
        are_keyed.filter(|(_, (spec, place))| spec.columns.is_some() || place.is_structured);
    let signature = Signature {
        keyed_outputs: are_keyed.map(|(index, _)| index).collect(),
        default_outputs: (0..outputs.len()).collect(),
        columns: columns(&inputs),
        inputs,
        outputs,
    };
    Ok((signature, places))
}

fn as_it_is(outlet: &Outlet) -> ServedOutlet {
    ServedOutlet {
        name: outlet.name().to_owned(),
        place: outlet.name().to_owned(),
        ..ServedOutlet::default()
    }
}

fn places(session: &Session, outlets: Outlets) -> Places {
    let is_structured = |place: &str| {
        let mut outputs = session.outputs().iter();
        let outlet = outputs.find(|outlet| outlet.name() == place);
        outlet.is_some_and(|outlet| is_structured(outlet.dtype()))
    };
    let inputs = outlets.inputs.into_iter().map(|input| InputPlace {
        name: input.name,
        place: input.place,
        range: input.range,
    });
    let outputs = outlets.outputs.into_iter().map(|output| OutputPlace {
        is_structured: is_structured(&output.place),
        place: (output.place != output.name).then_some(output.place),
        name: output.name,
        n_columns: output.columns.map(|columns| columns.len()),
    });
    Places {
        inputs: inputs.collect(),
        outputs: outputs.collect(),
    }
}

fn spec(what: &str, outlets: &[Outlet], served: &ServedOutlet) -> Result<TensorSpec, LoadError> {
    let outlet = outlets.iter().find(|outlet| outlet.name() == served.place);
    let outlet = outlet.ok_or_else(|| unsupported("the engine has no such value"));
    let spec = outlet.and_then(|outlet| tensor_spec(what, outlet, served));
    spec.map_err(|error| error.at(format_args!("{what} '{}'", shortened(&served.name))))
}

fn tensor_spec(
    what: &str,
    outlet: &Outlet,
    served: &ServedOutlet,
) -> Result<TensorSpec, LoadError> {
    if what == "output" && is_structured(outlet.dtype()) {
        return Ok(TensorSpec {
            name: served.name.clone(),
            dtype: DType::Bytes,
            shape: vec![None],
            columns: None,
            accepts_missing: false,
            accepts_integers: false,
        });
    }
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        let found = outlet.dtype();
        return Err(unsupported(format!("{found}; only tensors are served")));
    };
    let dtype = dtype(*ty).ok_or_else(|| unsupported(format!("datatype {ty} is not supported")))?;
    let shape = match &served.columns {
        Some(columns) => vec![None, Some(columns.len())],
        None => {
            let sizes = shape.iter().map(|&size| usize::try_from(size).ok());
            sizes.collect()
        }
    };
    Ok(TensorSpec {
        name: served.name.clone(),
        dtype,
        shape,
        columns: served.columns.clone(),
        accepts_missing: matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64),
        accepts_integers: false,
    })
}
