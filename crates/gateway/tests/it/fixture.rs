//! A server in this process, with models that do as they are told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use coracle_base::SystemClock;
use coracle_gateway::{
    AccessLog, CorsPolicy, Limits, Log, LogFormat, OutletConfig, Server, ServerConfig,
    ShutdownReport,
};
use coracle_model::{Description, Model, RunError, RunErrorKind, Signature, TensorSpec};
use coracle_serving::experiment::Experiments;
use coracle_serving::{Chaos, LoadPhases, LoadedModel, ModelTable, ServedModel, SharedTable};
use coracle_tensor::{DType, Tensor, Values};
use tokio::sync::oneshot;

/// A model of two columns: adds them up, panics on a negative sum, waits for `gate` on a sum of 1000.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) signature: Signature,
    description: Description,
    entered: Sender<()>,
    gate: Mutex<Receiver<()>>,
}

impl Model for Sum {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let values = inputs[0].values().to_f64s().unwrap();
        if inputs[0].shape().get(1) != Some(&2) {
            return Err(RunError::new(
                RunErrorKind::ShapeMismatch,
                "two columns, please",
            ));
        }
        let sums: Vec<f64> = values.chunks_exact(2).map(|row| row[0] + row[1]).collect();
        assert!(sums.iter().all(|sum| *sum >= 0.0), "a negative sum");
        if sums.contains(&1000.0) {
            self.entered.send(()).unwrap();
            self.gate.lock().unwrap().recv().unwrap();
        }
        Ok(outputs
            .iter()
            .map(|_| Tensor::from_values(Values::F64(sums.clone().into())))
            .collect())
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        123
    }
}

/// A running server; stopped and waited for when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// What is served.
    pub(crate) table: Arc<SharedTable>,
    /// Tells that the model is inside a call that waits.
    pub(crate) entered: Receiver<()>,
    /// Lets such a call go on.
    pub(crate) gate: Sender<()>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<ShutdownReport>>,
}

pub(crate) fn config(limits: Limits) -> ServerConfig {
    ServerConfig {
        limits,
        n_workers: 2,
        n_pool_threads: 2,
        shutdown_timeout: Duration::from_secs(20),
        version: "9.8.7".to_owned(),
        allow_shared_memory: true,
        cors: CorsPolicy {
            origins: vec!["https://good.example".to_owned()],
        },
        control: None,
        outlets: OutletConfig::default(),
        busy_poll: None,
    }
}

pub(crate) fn sum_model() -> (Sum, Receiver<()>, Sender<()>) {
    let spec = |name: &str, shape| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape,
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let (entered, has_entered) = channel();
    let (open, gate) = channel();
    let model = Sum {
        signature: Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: vec![spec("X", vec![None, Some(2)])],
            outputs: vec![spec("predict", vec![None]), spec("twice", vec![None])],
            default_outputs: vec![0],
            columns: None,
        },
        description: Description::default(),
        entered,
        gate: Mutex::new(gate),
    };
    (model, has_entered, open)
}

/// Starts a server with the model `sum`.
pub(crate) fn start(config: ServerConfig) -> Running {
    start_limited(config, None)
}

/// Starts a server with the model `sum`, of which so many calls run at a time.
pub(crate) fn start_limited(config: ServerConfig, n_places: Option<usize>) -> Running {
    start_with(config, |sum| {
        sum.set_concurrency(n_places);
        ModelTable::try_new([sum]).unwrap()
    })
}

/// Starts a server with what `table` makes of the model `sum`.
pub(crate) fn start_with(
    config: ServerConfig,
    table: impl FnOnce(ServedModel) -> ModelTable,
) -> Running {
    start_experimenting(config, None, table)
}

/// The same, with books of experiments.
pub(crate) fn start_experimenting(
    config: ServerConfig,
    experiments: Option<Experiments>,
    table: impl FnOnce(ServedModel) -> ModelTable,
) -> Running {
    start_around(config, (experiments, None), table)
}

/// Starts a server with what `table` makes of the model `sum`, in which faults may be set.
pub(crate) fn start_in_chaos(
    config: ServerConfig,
    table: impl FnOnce(ServedModel) -> ModelTable,
) -> Running {
    let chaos = Chaos::new(Arc::new(SystemClock::new()), 7);
    start_around(config, (None, Some(chaos)), table)
}

fn start_around(
    config: ServerConfig,
    (experiments, chaos): (Option<Experiments>, Option<Chaos>),
    table: impl FnOnce(ServedModel) -> ModelTable,
) -> Running {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut server = Server::bind(address, config.clone()).unwrap();
    if let Some(experiments) = experiments {
        server.set_experiments(experiments);
    }
    if let Some(chaos) = chaos {
        server.set_chaos(chaos);
    }
    let address = server.address();
    let (model, entered, gate) = sum_model();
    let loaded = LoadedModel::new("sum".to_owned(), Box::new(model), LoadPhases::default());
    let served = ServedModel::new(loaded, config.n_workers);
    let table = Arc::new(SharedTable::new(table(served)));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = Arc::clone(&table);
    let thread = std::thread::spawn(move || {
        let clock = Arc::new(SystemClock::new());
        let (log, writer) = Log::start(LogFormat::Json, AccessLog::Off, clock.clone());
        let told = async {
            drop(stopped.await);
        };
        let report = server.run(served, &log, clock, told).unwrap();
        drop(log);
        writer.join();
        report
    });
    Running {
        address,
        table,
        entered,
        gate,
        stop: Some(stop),
        thread: Some(thread),
    }
}

impl Running {
    /// Tells the server to stop, without waiting.
    pub(crate) fn tell_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Returns what tells the server to stop, without waiting.
    pub(crate) fn stopper(&mut self) -> impl FnOnce() + use<> {
        let stop = self.stop.take().unwrap();
        move || stop.send(()).unwrap()
    }

    /// Waits for the server's end.
    pub(crate) fn wait(&mut self) -> ShutdownReport {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
