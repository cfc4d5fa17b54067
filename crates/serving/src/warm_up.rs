//! A first request of our own, made up from the signature: so that a client's first one finds memory mapped and caches warm,
//! and that it is known where it runs.

use std::time::Duration;

use coracle_base::Clock;
use coracle_model::{Signature, TensorSpec};
use coracle_tensor::{DType, Tensor, Values};

use crate::LoadedModel;

/// The most elements that are made up; a model that takes more in a row is not warmed up.
const ELEMENTS_MAX: usize = 1 << 20;
/// A first run that took no longer than this was of cold caches: what a run takes is measured by a second one.
const COLD_RUN: Duration = Duration::from_millis(50);

/// Runs a model on a row of zeros and empty texts, and notes how long that takes. One that refuses them is none the worse
/// for it.
pub fn warm_up(loaded: &mut LoadedModel, clock: &dyn Clock) {
    let signature = loaded.model().signature();
    let Some(inputs) = empty_row(signature) else {
        return;
    };
    let outputs = signature.default_outputs.clone();
    let run = || {
        let started = clock.monotonic();
        let is_ok = loaded.run(&inputs, &outputs).is_ok();
        let elapsed = clock.monotonic().saturating_sub(started);
        is_ok.then_some(elapsed)
    };
    let elapsed = match run() {
        Some(first) if first <= COLD_RUN => run().unwrap_or(first),
        Some(first) => first,
        None => return,
    };
    loaded.set_warm_run(elapsed);
}

/// Returns a row for each input: sizes that are left open are 1.
fn empty_row(signature: &Signature) -> Option<Vec<Tensor>> {
    let mut n_elements = 0_usize;
    let inputs = signature.inputs.iter().map(|input| {
        let shape = one_row(input);
        let size = shape
            .iter()
            .try_fold(1_usize, |size, dimension| size.checked_mul(*dimension))?;
        n_elements = n_elements.checked_add(size)?;
        if n_elements > ELEMENTS_MAX {
            return None;
        }
        let values = match input.dtype {
            DType::Bytes => Values::Bytes(vec![""; size].into_iter().collect()),
            // Models take other numbers than their own.
            _ => Values::F64(vec![0.0; size].into()),
        };
        Tensor::try_new(shape, values).ok()
    });
    inputs.collect()
}

fn one_row(input: &TensorSpec) -> Vec<usize> {
    input.shape.iter().map(|size| size.unwrap_or(1)).collect()
}

#[cfg(test)]
mod tests {
    use coracle_base::ManualClock;

    use super::*;
    use crate::served_model::tests::loaded;

    fn spec(dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
        TensorSpec {
            name: "X".to_owned(),
            dtype,
            shape: shape.to_vec(),
            columns: None,
            accepts_missing: false,
            accepts_integers: false,
        }
    }

    #[test]
    fn a_row_is_made_up_from_any_signature_of_a_bounded_size() {
        let signature = |inputs: &[TensorSpec]| Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: inputs.to_vec(),
            outputs: vec![],
            default_outputs: vec![],
            columns: None,
        };
        let inputs = [
            spec(DType::F32, &[None, Some(3), None]),
            spec(DType::Bytes, &[None]),
            spec(DType::I64, &[]),
        ];
        let row = empty_row(&signature(&inputs)).unwrap();
        let shapes: Vec<&[usize]> = row.iter().map(Tensor::shape).collect();
        assert_eq!(shapes, [&[1, 3, 1][..], &[1], &[]]);
        assert_eq!(row[1].dtype(), DType::Bytes);
        for size in [ELEMENTS_MAX + 1, usize::MAX] {
            let large = [spec(DType::F32, &[None, Some(size), Some(2)])];
            assert!(empty_row(&signature(&large)).is_none());
        }
    }

    #[test]
    fn a_run_that_goes_well_is_noted_and_others_are_not() {
        let clock = ManualClock::new();
        let mut model = loaded("good", false);
        warm_up(&mut model, &clock);
        assert_eq!(model.warm_run(), Some(Duration::ZERO));
        let mut model = loaded("bad", true);
        warm_up(&mut model, &clock);
        assert_eq!(model.warm_run(), None);
    }
}
