//! A compiled graph: operators in order, and which values each reads and frees.

use coracle_model::RunError;
use coracle_tensor::Tensor;

use crate::error::internal;
use crate::ops::registry::Operator;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The input at this index.
    Input(usize),
    /// The constant at this index.
    Constant(usize),
    /// The intermediate value at this index.
    Slot(usize),
}

/// One operator and its values.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) operator: Box<dyn Operator>,
    /// How messages name it.
    pub(crate) label: String,
    pub(crate) inputs: Vec<Option<Source>>,
    /// The slots of its outputs; `None` where nobody reads one.
    pub(crate) outputs: Vec<Option<usize>>,
    /// The slots that nobody reads after this step.
    pub(crate) frees: Vec<usize>,
}

/// Operators in an order in which each finds its inputs.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) constants: Vec<Tensor>,
    pub(crate) steps: Vec<Step>,
    pub(crate) n_slots: usize,
    pub(crate) outputs: Vec<Source>,
    /// Whether some operator may look beyond a row.
    pub(crate) mixes_rows: bool,
}

/// A value while a plan runs.
enum Slot {
    Empty,
    Full(Tensor),
}

impl Plan {
    /// Computes the outputs at `wanted`.
    pub(crate) fn run(
        &self,
        inputs: &[&Tensor],
        wanted: &[usize],
    ) -> Result<Vec<Tensor>, RunError> {
        let needed = self.needed(wanted);
        let mut slots: Vec<Slot> = Vec::with_capacity(self.n_slots);
        slots.resize_with(self.n_slots, || Slot::Empty);
        for (index, step) in self.steps.iter().enumerate() {
            if needed.as_ref().is_some_and(|needed| !needed[index]) {
                continue;
            }
            self.run_step(step, inputs, &mut slots)?;
        }
        let results = wanted.iter().map(|&index| {
            let source = *self
                .outputs
                .get(index)
                .ok_or_else(|| internal(format!("output {index} does not exist")))?;
            match source {
                Source::Slot(slot) if is_last(wanted, &self.outputs, index) => {
                    match std::mem::replace(&mut slots[slot], Slot::Empty) {
                        Slot::Full(tensor) => Ok(tensor),
                        Slot::Empty => Err(internal("an output was not computed")),
                    }
                }
                source => self.value(source, inputs, &slots).cloned(),
            }
        });
        results.collect()
    }

    fn run_step(
        &self,
        step: &Step,
        inputs: &[&Tensor],
        slots: &mut [Slot],
    ) -> Result<(), RunError> {
        let mut arguments: Vec<Option<&Tensor>> = Vec::with_capacity(step.inputs.len());
        for source in &step.inputs {
            arguments.push(match source {
                Some(source) => Some(self.value(*source, inputs, slots)?),
                None => None,
            });
        }
        let results = step
            .operator
            .run(&arguments)
            .map_err(|error| at(step, &error))?;
        drop(arguments);
        if results.len() < step.outputs.iter().flatten().count() {
            return Err(internal(format!("{}: too few outputs", step.label)));
        }
        for (slot, result) in step.outputs.iter().zip(results) {
            if let Some(slot) = slot {
                slots[*slot] = Slot::Full(result);
            }
        }
        for &slot in &step.frees {
            slots[slot] = Slot::Empty;
        }
        Ok(())
    }

    fn value<'v>(
        &'v self,
        source: Source,
        inputs: &[&'v Tensor],
        slots: &'v [Slot],
    ) -> Result<&'v Tensor, RunError> {
        let found = match source {
            Source::Input(index) => inputs.get(index).copied(),
            Source::Constant(index) => self.constants.get(index),
            Source::Slot(index) => match slots.get(index) {
                Some(Slot::Full(tensor)) => Some(tensor),
                _ => None,
            },
        };
        found.ok_or_else(|| internal("a value is read that is not there"))
    }

    /// Returns which steps the wanted outputs need; `None` if all outputs are wanted.
    fn needed(&self, wanted: &[usize]) -> Option<Vec<bool>> {
        if (0..self.outputs.len()).all(|output| wanted.contains(&output)) {
            return None;
        }
        let mut slots = vec![false; self.n_slots];
        for &output in wanted {
            if let Some(Source::Slot(slot)) = self.outputs.get(output) {
                slots[*slot] = true;
            }
        }
        let mut needed = vec![false; self.steps.len()];
        for (index, step) in self.steps.iter().enumerate().rev() {
            if step.outputs.iter().flatten().any(|&slot| slots[slot]) {
                needed[index] = true;
                for source in step.inputs.iter().flatten() {
                    if let Source::Slot(slot) = source {
                        slots[*slot] = true;
                    }
                }
            }
        }
        Some(needed)
    }

    /// Fills in which slots each step frees: those that it is the last to read, outputs excepted.
    pub(crate) fn plan_frees(&mut self) {
        let mut read_later = vec![false; self.n_slots];
        for source in &self.outputs {
            if let Source::Slot(slot) = source {
                read_later[*slot] = true;
            }
        }
        for step in self.steps.iter_mut().rev() {
            step.frees.clear();
            for source in step.inputs.iter().flatten() {
                if let Source::Slot(slot) = source
                    && !read_later[*slot]
                {
                    read_later[*slot] = true;
                    step.frees.push(*slot);
                }
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let constants = self.constants.iter().map(|tensor| {
            let size = tensor.dtype().size_bytes();
            match (size, tensor.values()) {
                (Some(size), values) => size * values.len(),
                (None, coracle_tensor::Values::Bytes(texts)) => texts.memory_bytes(),
                (None, _) => 0,
            }
        });
        let operators = self.steps.iter().map(|step| step.operator.memory_bytes());
        constants.sum::<usize>() + operators.sum::<usize>()
    }
}

/// Tells whether no other wanted output is the same value.
fn is_last(wanted: &[usize], outputs: &[Source], index: usize) -> bool {
    let same = wanted
        .iter()
        .filter(|&&other| outputs.get(other) == outputs.get(index));
    same.count() == 1
}

/// Says in which operator a run ended.
fn at(step: &Step, error: &RunError) -> RunError {
    RunError::new(error.kind(), format!("{}: {error}", step.label))
}
