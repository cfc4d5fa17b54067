//! Damaged graphs: an error or a model, never a panic nor the end of the process.

use coracle_tensor::{Tensor, Values};

use crate::{Runtime, fixture};

const N_VARIANTS: usize = 1_000;

/// A small generator of reproducible numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }
}

pub(crate) fn damaged_graphs_are_errors(runtime: &Runtime) {
    let neural = fixture::lines("neural.jsonl").into_iter();
    let wanted = [
        "perceptron with layer normalization",
        "convolution of any size",
        "recurrent with state",
        "attention over tokens",
    ];
    let neural = neural.filter(|case| wanted.contains(&case.name.as_str()));
    let forest = fixture::exported();
    let forest = forest.into_iter().find(|case| case.model.len() > 2_000);
    let models: Vec<Vec<u8>> = neural.chain(forest).map(|case| case.model).collect();
    assert_eq!(models.len(), 5);
    let mut random = Random(23);
    let (mut n_errors, mut n_loaded) = (0, 0);
    for index in 0..N_VARIANTS {
        let mut bytes = models[index % models.len()].clone();
        damage(&mut bytes, 8, &mut random);
        match runtime.load(&bytes) {
            Ok(model) => {
                n_loaded += 1;
                run(model.as_ref());
            }
            Err(error) => {
                n_errors += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    eprintln!("{n_errors} of {N_VARIANTS} variants refused, {n_loaded} loaded");
    assert!(n_errors > N_VARIANTS / 4, "{n_errors} refused");
    assert!(n_loaded > N_VARIANTS / 20, "{n_loaded} loaded");
}

/// Cuts a file short, or turns some bits of it.
fn damage(bytes: &mut Vec<u8>, n_bits_max: usize, random: &mut Random) {
    if random.below(5) == 0 {
        return bytes.truncate(random.below(bytes.len()));
    }
    for _ in 0..=random.below(n_bits_max) {
        let position = random.below(bytes.len());
        bytes[position] ^= 1 << random.below(8);
    }
}

/// Whatever datatypes, functions and names a damaged file has: what is divided is among others the least integer, by -1.
pub(crate) fn damaged_divisions_end_nobody(runtime: &Runtime) {
    let cases = fixture::lines("divisions.jsonl");
    let mut random = Random(29);
    let mut n_answered = 0;
    for index in 0..N_VARIANTS {
        let case = &cases[index % cases.len()];
        let mut bytes = case.model.clone();
        damage(&mut bytes, 2, &mut random);
        let Ok(model) = runtime.load(&bytes) else {
            continue;
        };
        let signature = model.signature();
        let least = Values::I64(vec![i64::MIN, -1].into());
        let other = Tensor::from_values(least);
        let inputs = signature.inputs.iter();
        let inputs = inputs.map(|spec| case.inputs.get(&spec.name).unwrap_or(&other).clone());
        let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
        let answered = model.run(&inputs.collect::<Vec<_>>(), &outputs);
        n_answered += usize::from(answered.is_ok());
    }
    eprintln!("{n_answered} of {N_VARIANTS} variants answered");
    assert!(n_answered > N_VARIANTS / 20, "{n_answered} answered");
}

/// Runs what came of a damaged file on ones; its shapes may be damaged too.
fn run(model: &dyn coracle_model::Model) {
    let signature = model.signature();
    let inputs = signature.inputs.iter().map(|spec| {
        let shape: Vec<usize> = spec.shape.iter().map(|size| size.unwrap_or(3)).collect();
        let n = shape.iter().try_fold(1_usize, |n, &size| {
            n.checked_mul(size).filter(|&n| n <= 1 << 16)
        });
        let values = match spec.dtype.name() {
            "BYTES" => Values::Bytes(std::iter::repeat_n("a", n?).collect()),
            _ => Values::F64(vec![1.0; n?].into()),
        };
        Tensor::try_new(shape, values).ok()
    });
    let Some(inputs) = inputs.collect::<Option<Vec<Tensor>>>() else {
        return;
    };
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    drop(model.run(&inputs, &outputs));
}
