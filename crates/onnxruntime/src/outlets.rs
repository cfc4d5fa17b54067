//! What a session takes and gives, by the names of the file and by its own.

use coracle_model::{LoadError, RunError, RunErrorKind, Signature, TensorSpec};
use coracle_onnx::{Outlets, Range, ServedOutlet, Survey, columns};
use coracle_tensor::{DType, Tensor, Values};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, ValueType};

use crate::messages::shortened;
use crate::session::unsupported;
use crate::structured::{
    Structured, as_it_came, as_json, as_one_json, key_of_map_to_texts, texts_shape,
};
use crate::tensors::{Elements, dtype, given, internal, taken};

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
    /// The numbers that it takes, where its datatype has others too.
    range: Option<Range>,
    /// What it is, where it is no tensor, and comes as JSON.
    pub(crate) structured: Option<Structured>,
}

/// An output of a session.
#[derive(Debug)]
pub(crate) struct OutputPlace {
    pub(crate) name: String,
    /// What the session calls it, where that is something else.
    place: Option<String>,
    /// How many columns a table has that was a map.
    n_columns: Option<usize>,
    /// How many dimensions the texts of JSON have that it comes as, where it is no tensor.
    texts_rank: Option<usize>,
    /// Which input it is, and of which datatype its keys are, where it is a map to texts.
    came_in: Option<(usize, DType)>,
}

impl Places {
    /// Tells whether something is no tensor: such values are not bound to a place.
    pub(crate) fn has_structured(&self) -> bool {
        self.outputs
            .iter()
            .any(|output| output.texts_rank.is_some())
            || self.takes_structured()
    }

    /// Tells whether some input is no tensor.
    pub(crate) fn takes_structured(&self) -> bool {
        self.inputs.iter().any(|input| input.structured.is_some())
    }

    /// Returns made-up inputs of a graph with those that are no tensors.
    pub(crate) fn with_structured(&self, mut tensors: Vec<Tensor>) -> Vec<Tensor> {
        for (input, tensor) in self.inputs.iter().zip(&mut tensors) {
            if let Some(structured) = &input.structured {
                *tensor = structured.made_up();
            }
        }
        tensors
    }

    /// Tells whether all that comes in are maps, of which several are as many rows.
    pub(crate) fn takes_maps_only(&self) -> bool {
        let mut inputs = self.inputs.iter();
        inputs.all(|input| input.structured.as_ref().is_some_and(Structured::is_map))
    }

    /// Gives tensors to the runtime, and what is none as what it is, with the names of those that are there.
    ///
    /// # Errors
    /// Those of texts that are not what the signature says.
    pub(crate) fn named<'t>(
        &'t self,
        tensors: &'t [impl AsRef<Tensor>],
    ) -> Result<Vec<(&'t str, SessionInputValue<'t>)>, RunError> {
        let mut values = Vec::with_capacity(tensors.len());
        for (input, tensor) in self.inputs.iter().zip(tensors) {
            let value = match &input.structured {
                None => Some(given(tensor.as_ref(), &input.name, Elements::Lent)?),
                Some(structured) => structured.value(tensor.as_ref(), &input.name)?,
            };
            // What is optional and not there is left out.
            values.extend(value.map(|value| (input.place.as_str(), value)));
        }
        Ok(values)
    }

    /// Refuses numbers that an input does not take.
    pub(crate) fn check_ranges(&self, tensors: &[impl AsRef<Tensor>]) -> Result<(), RunError> {
        for (input, tensor) in self.inputs.iter().zip(tensors) {
            let Some(range) = input.range else {
                continue;
            };
            if let Some(wrong) = outside(tensor.as_ref().values(), range) {
                let message = format!("input \"{}\": {wrong}", input.name);
                return Err(RunError::new(RunErrorKind::ValueOutOfRange, message));
            }
        }
        Ok(())
    }
}

/// Says which number is outside of a range, and what that is.
fn outside(values: &Values, range: Range) -> Option<String> {
    match range {
        Range::Integers(least, greatest) => {
            let is_outside = |value: &i64| !(least..=greatest).contains(value);
            let value = match values {
                Values::I8(items) => items.iter().copied().map(i64::from).find(is_outside),
                Values::U8(items) => items.iter().copied().map(i64::from).find(is_outside),
                _ => None,
            }?;
            Some(format!("{value}, model expects {least} to {greatest}"))
        }
        Range::Reals {
            greatest,
            has_infinities,
        } => {
            let Values::F32(items) = values else {
                return None;
            };
            let is_outside =
                |value: &&f32| value.abs() > greatest && !(has_infinities && value.is_infinite());
            let value = items.iter().find(is_outside)?;
            Some(format!("{value}, model expects -{greatest} to {greatest}"))
        }
    }
}

impl OutputPlace {
    pub(crate) fn place(&self) -> &str {
        self.place.as_deref().unwrap_or(&self.name)
    }

    /// Returns what came as the signature has it; `inputs` is what was given.
    pub(crate) fn taken(
        &self,
        value: &DynValue,
        inputs: &[impl AsRef<Tensor>],
    ) -> Result<Tensor, RunError> {
        if let Some((index, key)) = self.came_in {
            let input = inputs
                .get(index)
                .ok_or_else(|| internal("an input is gone"))?;
            return as_it_came(input.as_ref(), key, &self.name);
        }
        match self.texts_rank {
            None => self.as_declared(taken(value, &self.name)?),
            Some(0) => as_one_json(value, &self.name),
            Some(_) => as_json(value, &self.name),
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
    (survey, environment): (&Survey, &Environment),
) -> Result<(Signature, Places), LoadError> {
    let outlets = outlets.unwrap_or_else(|| Outlets {
        inputs: session.inputs().iter().map(as_it_is).collect(),
        outputs: session.outputs().iter().map(as_it_is).collect(),
    });
    let structured = outlets.inputs.iter();
    let structured = structured.map(|input| {
        let may_be_missing = !survey.never_missing.contains(&input.name);
        structured_input(session, input, may_be_missing, environment)
    });
    let structured = structured.collect::<Result<Vec<_>, LoadError>>()?;
    let mut are_maps = structured.iter();
    let are_maps = are_maps.all(|input| input.as_ref().is_some_and(Structured::is_map));
    let inputs = outlets.inputs.iter().zip(&structured);
    let inputs = inputs.map(|(input, structured)| match structured {
        // A graph of maps alone is run on one after the other.
        Some(_) if are_maps => Ok(texts_spec(input, vec![None])),
        Some(structured) => Ok(texts_spec(input, structured.shape())),
        None => {
            let mut spec = spec("input", session.inputs(), input)?;
            // The runtime tells it as if there were no dimensions.
            if survey.shapeless.contains(&input.name) {
                spec.shape = vec![None];
            }
            Ok(spec)
        }
    });
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let outputs = outlets.outputs.iter();
    let outputs = outputs.map(|output| {
        let shape = match came_in(session, output, &outlets.inputs) {
            Some(_) => Some(vec![Some(1)]),
            None => find(session.outputs(), output).and_then(|outlet| texts_shape(outlet.dtype())),
        };
        let spec = match shape {
            Some(shape) => texts_spec(output, shape),
            None => spec("output", session.outputs(), output)?,
        };
        Ok(TensorSpec {
            accepts_missing: false,
            ..spec
        })
    });
    let outputs = outputs.collect::<Result<Vec<_>, LoadError>>()?;
    if inputs.is_empty() || outputs.is_empty() {
        return Err(unsupported("the graph has no inputs or no outputs"));
    }
    let unranked_inputs = inputs.iter().enumerate();
    let unranked_inputs = unranked_inputs.filter(|(_, spec)| survey.shapeless.contains(&spec.name));
    let unranked_inputs: Vec<usize> = unranked_inputs.map(|(index, _)| index).collect();
    let keyed_inputs = structured.iter().enumerate();
    let keyed_inputs = keyed_inputs.filter(|(_, structured)| structured.is_some());
    let keyed_inputs: Vec<usize> = keyed_inputs.map(|(index, _)| index).collect();
    let places = places(session, outlets, structured);
    let are_keyed = outputs.iter().zip(&places.outputs).enumerate();
    let are_keyed =
        are_keyed.filter(|(_, (spec, place))| spec.columns.is_some() || place.texts_rank.is_some());
    let signature = Signature {
        keyed_outputs: are_keyed.map(|(index, _)| index).collect(),
        default_outputs: (0..outputs.len()).collect(),
        columns: columns(&inputs).filter(|_| keyed_inputs.is_empty() && unranked_inputs.is_empty()),
        keyed_inputs,
        unranked_inputs,
        name_rules: Default::default(),
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

/// Returns what an input is that is no tensor.
fn structured_input(
    session: &Session,
    input: &ServedOutlet,
    may_be_missing: bool,
    environment: &Environment,
) -> Result<Option<Structured>, LoadError> {
    let Some(outlet) = find(session.inputs(), input) else {
        return Ok(None);
    };
    let place = || format!("input '{}'", shortened(&input.name));
    Structured::of(outlet.dtype(), may_be_missing, environment)
        .map_err(|error| unsupported(error).at(place()))
}

fn find<'o>(outlets: &'o [Outlet], served: &ServedOutlet) -> Option<&'o Outlet> {
    outlets.iter().find(|outlet| outlet.name() == served.place)
}

/// Returns which input an output is that is a map to texts, and the datatype of its keys.
fn came_in(
    session: &Session,
    output: &ServedOutlet,
    inputs: &[ServedOutlet],
) -> Option<(usize, DType)> {
    let key = key_of_map_to_texts(find(session.outputs(), output)?.dtype())?;
    let index = inputs
        .iter()
        .position(|input| input.place == output.place)?;
    Some((index, key))
}

/// Returns the signature of what is no tensor: texts of JSON.
fn texts_spec(served: &ServedOutlet, shape: Vec<Option<usize>>) -> TensorSpec {
    TensorSpec {
        name: served.name.clone(),
        dtype: DType::Bytes,
        shape,
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    }
}

fn places(session: &Session, outlets: Outlets, structured: Vec<Option<Structured>>) -> Places {
    let outputs = outlets.outputs.iter();
    let came_in = outputs.map(|output| came_in(session, output, &outlets.inputs));
    let came_in: Vec<Option<(usize, DType)>> = came_in.collect();
    let inputs = outlets.inputs.into_iter().zip(structured);
    let inputs = inputs.map(|(input, structured)| InputPlace {
        name: input.name,
        place: input.place,
        range: input.range,
        structured,
    });
    let outputs = outlets.outputs.into_iter().zip(came_in);
    let outputs = outputs.map(|(output, came_in)| OutputPlace {
        texts_rank: find(session.outputs(), &output)
            .and_then(|outlet| texts_shape(outlet.dtype()))
            .or_else(|| came_in.map(|_| vec![Some(1)]))
            .map(|shape| shape.len()),
        came_in,
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
    let outlet = find(outlets, served).ok_or_else(|| unsupported("the engine has no such value"));
    let spec = outlet.and_then(|outlet| tensor_spec(outlet, served));
    spec.map_err(|error| error.at(format_args!("{what} '{}'", shortened(&served.name))))
}

fn tensor_spec(outlet: &Outlet, served: &ServedOutlet) -> Result<TensorSpec, LoadError> {
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        let found = outlet.dtype();
        let served =
            "tensors, sequences of tensors, maps and sequences of maps to numbers are served";
        return Err(unsupported(format!("{found}; {served}")));
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
