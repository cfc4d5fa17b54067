//! Threads that have nothing else to do help with a call of many rows, and make room for others.

use coracle_model::{Description, Model, RunError, Signature, TensorSpec};
use coracle_tensor::{DType, Tensor};

use super::*;
use crate::batch::tests::call;
use crate::{LoadPhases, LoadedModel};

/// A run that has begun: its rows, and what it waits for to be dropped.
type Run = (usize, Sender<()>);

/// A model that gives its input back, and waits in each run until it is let go on.
#[derive(Debug)]
struct Gate {
    signature: Signature,
    description: Description,
    begun: Sender<Run>,
}

impl Model for Gate {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let (gate, open) = channel();
        self.begun.send((inputs[0].n_rows(), gate)).unwrap();
        open.recv().unwrap_err();
        Ok(inputs.to_vec())
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

/// Returns the model, and where it tells of its runs.
fn gate() -> (Arc<ServedModel>, Receiver<Run>) {
    let (begun, begins) = channel();
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape: vec![None, Some(2)],
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let model = Gate {
        signature: Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: vec![spec("X")],
            outputs: vec![spec("same")],
            default_outputs: vec![0],
            columns: None,
        },
        description: Description::default(),
        begun,
    };
    let loaded = LoadedModel::new("gate".to_owned(), Box::new(model), LoadPhases::default());
    let served = ServedModel::new(loaded, 1).with_batching(BatchSettings::opportunistic());
    served.cost().record_run(512, Duration::from_millis(4));
    (Arc::new(served), begins)
}

#[test]
fn an_idle_thread_helps_until_another_call_comes() {
    let limits = PoolLimits {
        n_threads: 2,
        ..LIMITS
    };
    let bench = Bench::new(limits);
    let (gate, begins) = gate();
    let values: Vec<f64> = (0..1_024).map(f64::from).collect();
    let answer = bench.let_wait(&gate, call(&gate, &values));
    assert_eq!(bench.next(), "waiting");
    // Two parts of four at once: one by a thread that helps.
    let [(first, one), (second, two)] = [begins.recv().unwrap(), begins.recv().unwrap()];
    assert_eq!([first, second], [128, 128]);
    // The third thread takes what comes next. Now there is a call for each processor,
    let other = model();
    let held = bench.hold(&other, "held", ticket(0, SHORT));
    assert_eq!(bench.next(), "held");
    bench.submit(&other, "short", ticket(0, SHORT));
    // so that the thread that helped goes to the next one after its part, though not all parts are done.
    drop((one, two));
    assert_eq!(bench.next(), "short");
    let third = begins.recv().unwrap();
    assert!(begins.try_recv().is_err());
    drop((third, held));
    drop(begins.recv().unwrap());
    let (outputs, ran) = answer.blocking_recv().unwrap().unwrap();
    assert_eq!(
        outputs[0].values(),
        &coracle_tensor::Values::F64(values.into())
    );
    assert_eq!(ran.n_rows, 512);
}
