//! `Scan`: a graph run once for each slice of its inputs, as the distances of nearest neighbours are exported.

use std::collections::HashSet;

use coracle_model::{LoadError, RunError};
use coracle_tensor::Tensor;

use crate::attributes::Attributes;
use crate::compile::{Environment, GraphInput, compile};
use crate::error::{internal, malformed, shape_error, unsupported};
use crate::file::{NodeFile, read_graph};
use crate::ops::registry::Operator;
use crate::ops::values::{append, range, tensor, zeros};
use crate::plan::Plan;
use crate::tensor_file::dtype;

#[derive(Debug)]
struct Scan {
    body: Plan,
    n_states: usize,
    n_scanned: usize,
}

/// Builds the operator, and returns the names of the values that its graph reads from around it.
pub(crate) fn build<'a>(
    node: &NodeFile<'a>,
    version: i64,
    outer: &HashSet<&'a str>,
    environment: Environment<'_>,
) -> Result<(Box<dyn Operator>, Vec<&'a str>), LoadError> {
    if version < 9 {
        return Err(unsupported("Scan of versions before 9"));
    }
    let attributes = Attributes::of(node);
    let bytes = attributes
        .graph("body")?
        .ok_or_else(|| malformed("the body is missing"))?;
    let n_scanned = attributes.int("num_scan_inputs")?.unwrap_or(0);
    let n_scanned = usize::try_from(n_scanned).unwrap_or(0);
    let lists = [
        "scan_input_axes",
        "scan_input_directions",
        "scan_output_axes",
        "scan_output_directions",
    ];
    for name in lists {
        if attributes.ints(name)?.iter().any(|&value| value != 0) {
            return Err(unsupported(format!("{name} other than 0")));
        }
    }
    attributes.check_all_used()?;
    let graph = read_graph(bytes, environment.external)?;
    // One level is what exporters write; more would recurse over the file.
    if graph.nodes.iter().any(|node| node.op_type == "Scan") {
        return Err(unsupported("Scan within Scan"));
    }
    let n_states = node.inputs.len().checked_sub(n_scanned);
    let n_states = n_states.filter(|_| n_scanned > 0 && graph.inputs.len() == node.inputs.len());
    let n_states = n_states.ok_or_else(|| {
        malformed(format!(
            "{} inputs, of which {n_scanned} are scanned; the body takes {}",
            node.inputs.len(),
            graph.inputs.len()
        ))
    })?;
    if graph.outputs.len() < n_states || graph.outputs.len() != node.outputs.len() {
        return Err(malformed(format!(
            "{} outputs, the body gives {}",
            node.outputs.len(),
            graph.outputs.len()
        )));
    }
    let inputs: Vec<_> = graph
        .inputs
        .iter()
        .map(|value| GraphInput {
            name: value.name,
            dtype: dtype(value.elem_type),
            map: None,
        })
        .collect();
    let compiled =
        compile(&graph, &inputs, outer, environment).map_err(|error| error.at("body"))?;
    let scan = Scan {
        body: compiled.plan,
        n_states,
        n_scanned,
    };
    Ok((Box::new(scan), compiled.captured))
}

impl Operator for Scan {
    fn run(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
        let inputs: Option<Vec<&Tensor>> = inputs.iter().copied().collect();
        let inputs = inputs.ok_or_else(|| internal("an input is missing"))?;
        let (states, rest) = inputs.split_at(self.n_states);
        let (scanned, captured) = rest.split_at(self.n_scanned);
        let n_steps = scanned.first().map_or(0, |tensor| tensor.n_rows());
        if scanned
            .iter()
            .any(|tensor| tensor.shape().first() != Some(&n_steps))
        {
            return Err(shape_error("the scanned inputs differ in length"));
        }
        let wanted: Vec<usize> = (0..self.body.outputs.len()).collect();
        let mut states: Vec<Tensor> = states.iter().map(|&state| state.clone()).collect();
        let mut collected: Vec<Option<(Vec<usize>, coracle_tensor::Values)>> =
            vec![None; wanted.len().saturating_sub(self.n_states)];
        for step in 0..n_steps {
            let slices = scanned.iter().map(|tensor| slice(tensor, step));
            let slices = slices.collect::<Result<Vec<_>, _>>()?;
            let arguments: Vec<&Tensor> = states
                .iter()
                .chain(&slices)
                .chain(captured.iter().copied())
                .collect();
            let mut results = self.body.run(&arguments, &wanted)?;
            let parts = results.split_off(self.n_states);
            states = results;
            for (all, part) in collected.iter_mut().zip(parts) {
                collect(all, part)?;
            }
        }
        for all in collected {
            let (mut shape, values) = match all {
                Some(all) => all,
                // Without a step nobody knows the inner shape; an empty list of singles is what is left to say.
                None => (Vec::new(), zeros(coracle_tensor::DType::F32, 0)),
            };
            shape.insert(0, n_steps);
            states.push(tensor(shape, values)?);
        }
        Ok(states)
    }

    fn memory_bytes(&self) -> usize {
        self.body.memory_bytes()
    }
}

/// Returns the part of a tensor at an index of its first axis.
fn slice(whole: &Tensor, index: usize) -> Result<Tensor, RunError> {
    let inner = whole.shape().get(1..).unwrap_or_default().to_vec();
    let size: usize = inner.iter().product();
    let first = index.saturating_mul(size);
    tensor(
        inner,
        range(whole.values(), first, first.saturating_add(size)),
    )
}

fn collect(
    all: &mut Option<(Vec<usize>, coracle_tensor::Values)>,
    part: Tensor,
) -> Result<(), RunError> {
    let (shape, values) = part.into_parts();
    match all {
        None => *all = Some((shape, values)),
        Some((first_shape, so_far)) => {
            if *first_shape != shape || !append(so_far, &values, 0, values.len()) {
                return Err(shape_error("the body's results differ from step to step"));
            }
        }
    }
    Ok(())
}
