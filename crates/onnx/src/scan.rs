//! `Scan`: a graph run once for each slice of its inputs, as the distances of nearest neighbours are exported.

use std::collections::HashSet;

use coracle_model::{LoadError, RunError};
use coracle_tensor::Tensor;

use crate::attributes::Attributes;
use crate::compile::{Environment, GraphInput, compile};
use crate::error::{internal, malformed, shape_error, unsupported};
use crate::file::{NodeFile, read_graph, shown};
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
    let mut others = graph.inputs.iter().chain(&graph.outputs);
    if let Some(other) = others.find(|value| !value.may_be_tensor()) {
        let name = shown(other.name);
        return Err(unsupported(format!("the body's '{name}' is no tensor")));
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
    if compiled.maps.iter().any(Option::is_some) {
        return Err(unsupported("the body gives maps"));
    }
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

#[cfg(test)]
mod tests {
    use coracle_model::{LoadErrorKind, Scorer};

    use super::*;
    use crate::ensemble::{TreeEnsemble, TreeKernels};
    use crate::rewrite::push;

    struct NoTrees;

    impl TreeKernels for NoTrees {
        fn compile(&self, _trees: &TreeEnsemble) -> Result<Box<dyn Scorer>, LoadError> {
            Err(unsupported("trees"))
        }
    }

    fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, content) in fields {
            push(&mut bytes, *number, content);
        }
        bytes
    }

    /// A value of FP32 with dimensions of any size.
    fn reals(name: &str, rank: usize) -> Vec<u8> {
        let dims: Vec<u8> = (0..rank).flat_map(|_| message(&[(1, b"")])).collect();
        let tensor = [&[1 << 3, 1][..], &message(&[(2, &dims)])].concat();
        message(&[(1, name.as_bytes()), (2, &message(&[(1, &tensor)]))])
    }

    /// A value that is a map of texts to FP32.
    fn map(name: &str) -> Vec<u8> {
        let held = message(&[(1, &[1 << 3, 1, 2 << 3 | 2, 0])]);
        let kind = [&[1 << 3, 8][..], &message(&[(2, &held)])].concat();
        message(&[(1, name.as_bytes()), (2, &message(&[(5, &kind)]))])
    }

    fn node(operator: &str, domain: &str, inputs: &[&str], output: &str, more: &[u8]) -> Vec<u8> {
        let mut node = Vec::new();
        for input in inputs {
            push(&mut node, 1, input.as_bytes());
        }
        push(&mut node, 2, output.as_bytes());
        push(&mut node, 4, operator.as_bytes());
        push(&mut node, 7, domain.as_bytes());
        node.extend(more);
        node
    }

    /// Loads a graph of the map `m` and the rows `x` that scans `x` with a body of this node and output; `before` it another node.
    fn load(before: &[u8], body_node: &[u8], output: &[u8]) -> Result<(), LoadError> {
        let body = message(&[
            (1, body_node),
            (2, b"body"),
            (11, &reals("row", 1)),
            (12, output),
        ]);
        let of_body = [&message(&[(1, b"body"), (6, &body)])[..], &[0xa0, 1, 5]].concat();
        let n_scanned = [
            &message(&[(1, b"num_scan_inputs")])[..],
            &[3 << 3, 1, 0xa0, 1, 2],
        ]
        .concat();
        let attributes = message(&[(5, &of_body), (5, &n_scanned)]);
        let mut graph = Vec::new();
        if !before.is_empty() {
            push(&mut graph, 1, before);
        }
        push(&mut graph, 1, &node("Scan", "", &["x"], "y", &attributes));
        for (number, value) in [(11, map("m")), (11, reals("x", 2)), (12, reals("y", 2))] {
            push(&mut graph, number, &value);
        }
        let opset =
            |domain: &[u8], version| [&message(&[(1, domain)])[..], &[2 << 3, version]].concat();
        let mut file = vec![1 << 3, 8];
        push(&mut file, 7, &graph);
        push(&mut file, 8, &opset(b"", 17));
        push(&mut file, 8, &opset(b"ai.onnx.ml", 3));
        let external = |_: &str, _: u64, _: Option<u64>| Err(unsupported("external data"));
        crate::load(&file, &external, &NoTrees).map(drop)
    }

    #[test]
    fn bodies_neither_read_nor_give_maps() {
        let plain = node("Identity", "", &["row"], "o", b"");
        load(b"", &plain, &reals("o", 1)).unwrap();
        let refused = |before: &[u8], body_node: &[u8], output: &[u8], expected: &str| {
            let error = load(before, body_node, output).unwrap_err();
            assert_eq!(error.kind(), LoadErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        };
        // A map that comes in is texts to our kernels, which a body would take for a tensor.
        let read = node("Identity", "", &["m"], "o", b"");
        refused(b"", &read, &reals("o", 1), "the body reads 'm', a map");
        // One that is made of scores is these scores.
        let labels = message(&[(1, b"classlabels_strings"), (9, b"a"), (9, b"b")]);
        let labels = message(&[(5, &[&labels[..], &[0xa0, 1, 8]].concat())]);
        let zipped = node("ZipMap", "ai.onnx.ml", &["x"], "z", &labels);
        let sum = node("Add", "", &["row", "z"], "o", b"");
        refused(&zipped, &sum, &reals("o", 2), "the body reads 'z', a map");
        let within = node("ZipMap", "ai.onnx.ml", &["row"], "o", &labels);
        refused(b"", &within, &reals("o", 1), "the body gives maps");
        refused(b"", &plain, &map("o"), "the body's 'o' is no tensor");
    }
}
