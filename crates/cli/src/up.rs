//! `coracle up`: the gateway in this process, the control plane in another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::{Clock, SystemClock};
use coracle_gateway::{EXPERIMENT_LINES, Log, Server};
use coracle_model::GraphEngine;
use coracle_process::{BackOffPace, Cgroups, Fleet, FleetConfig, GuardCommand};
use coracle_serving::experiment::Experiments;
use coracle_serving::flow::Memory;
use coracle_serving::{
    Chaos, FitsOutputs, Follower, FollowerConfig, LoadSampler, MemoryBudget, ModelTable,
    ObservedCell, PlanSender, ProcessRunner, RevisionLog, SharedTable, Teller,
};
use coracle_storage::{Storage, StorageConfig, StorageLimits};
use tokio::runtime::Runtime;

use crate::Environment;
use crate::access::{self, Secured};
use crate::args::UpArguments;
use crate::chaos;
use crate::engine;
use crate::engine_settings::EngineSettings;
use crate::loader::StorageLoader;
use crate::process_meter::ProcessMeter;
use crate::serve::{GatewayConfig, say_stopped};
use crate::signals::shutdown_signal;
use crate::state::StateDirectory;
use crate::supervisor::{
    Changed, ControlCommand, ExperimentSampler, Samplers, Stopper, Supervisor,
};
use crate::trial::Trial;
use crate::usage::UsageSampler;

/// Threads that fetch files.
const FETCH_THREADS: usize = 2;
/// How long the start waits for the first plan to be followed.
const FIRST_PLAN_MAX: Duration = Duration::from_secs(60);

/// Runs the command.
pub(crate) fn run(arguments: &UpArguments, environment: &Environment) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    if arguments.files.iter().any(|file| file.as_os_str() == "-") {
        anyhow::bail!("-f - is for `coracle apply`; give `coracle up` a file or a directory");
    }
    let gateway = GatewayConfig::try_new(&arguments.gateway, environment)?;
    let state = StateDirectory::new(arguments.state.as_deref(), environment)?;
    state.create()?;
    if let Some(process) = state.running_process() {
        anyhow::bail!(
            "process {process} runs on {} already; stop it with `coracle down`, or choose another --state",
            state.path().display()
        );
    }
    // Before anything is started: what is wrong with them is said at once.
    crate::control::programs(&arguments.programs)?;
    let secured = access::prepare(arguments, &state)?;
    let server = gateway.bind()?;
    let (log, writer) = Log::start(gateway.log_format, gateway.access_log, Arc::clone(&clock));
    let engine_settings = arguments.engine.settings(&environment.engines)?;
    let plane = Plane {
        arguments,
        state: &state,
        gateway,
        server,
        secured,
        chaos: chaos::allowed(arguments.gateway.chaos, &clock),
        clock,
        for_programs: environment.for_programs.clone(),
        graph_engine: engine::runtime_of_server(
            arguments.onnxruntime.as_deref(),
            &engine_settings,
            environment,
            arguments.gateway.busy_poll,
        ),
        engine_settings,
        trial: Trial::of(
            &arguments.trial,
            arguments.onnxruntime.as_deref(),
            environment,
        )
        .map(Arc::new),
    };
    let log = Arc::new(log);
    let result = plane.run(&log);
    state.remove_process();
    drop(log);
    writer.join();
    result
}

/// Everything that `coracle up` runs.
struct Plane<'a> {
    arguments: &'a UpArguments,
    state: &'a StateDirectory,
    gateway: GatewayConfig,
    server: Server,
    secured: Option<Secured>,
    clock: Arc<dyn Clock>,
    /// Faults on purpose, if there may be some.
    chaos: Option<Chaos>,
    /// The environment of programs.
    for_programs: BTreeMap<String, String>,
    /// What runs the ONNX graphs that our own kernels do not.
    graph_engine: Arc<dyn GraphEngine>,
    engine_settings: EngineSettings,
    /// How models are tried before they are loaded.
    trial: Option<Arc<Trial>>,
}

/// Ends the supervision when it is dropped.
struct Ends(Arc<Stopper>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Plane<'_> {
    /// Starts the books of experiments, and the memory of routers.
    fn learning(&mut self, log: &Arc<Log>) -> std::io::Result<(Experiments, Memory)> {
        // The end waits for everybody who has the log, and routers may outlive this.
        let log = Arc::downgrade(log);
        let teller = Teller::new(move |line| {
            if let Some(log) = log.upgrade() {
                log.warn(line);
            }
        });
        let (books, clock) = (self.state.experiments(), Arc::clone(&self.clock));
        let experiments = Experiments::start(books, EXPERIMENT_LINES, clock, teller.clone())?;
        self.server.set_experiments(experiments.clone());
        Ok((experiments, Memory::start(self.state.routers(), teller)?))
    }

    /// Lets the server have what there may be besides: faults on purpose, a memory budget, which it returns.
    fn prepare(&mut self) -> Option<Arc<MemoryBudget>> {
        if let Some(chaos) = &self.chaos {
            self.server.set_chaos(chaos.clone());
        }
        let budget = self.gateway.memory_budget(&self.clock);
        if let Some(budget) = &budget {
            self.server.set_budget(Arc::clone(budget));
        }
        budget
    }

    fn run(mut self, log: &Arc<Log>) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(FETCH_THREADS)
            .thread_name("coracle-fetch")
            .enable_all()
            .build()?;
        let table = Arc::new(SharedTable::default());
        let changed = Arc::new(Changed::default());
        let tell = Arc::clone(&changed);
        let observed = Arc::new(ObservedCell::new(Box::new(move || tell.tell())));
        let revision_log = RevisionLog::start(self.state.logs(), Arc::clone(&self.clock));
        let fleet = self.fleet(&runtime, &revision_log);
        let (experiments, routers) = self.learning(log)?;
        let budget = self.prepare();
        let followed = (&table, &observed, (&experiments, &routers));
        let plans = self.follow(&runtime, followed, (&fleet, revision_log), budget)?;
        let command = ControlCommand {
            state: self.state.clone(),
            listen: self.arguments.listen,
            api_port: self.arguments.api_port,
            needs_credentials: self.secured.is_some(),
            base_url: format!("http://localhost:{}", self.server.address().port()),
            files: self.arguments.files.clone(),
            programs: self.arguments.programs.clone(),
        };
        let supervisor = Supervisor::new(
            command,
            plans.clone(),
            Arc::clone(&observed),
            changed,
            Samplers {
                usage: UsageSampler::new(
                    Arc::clone(&table),
                    Arc::clone(&observed),
                    Arc::clone(&self.clock),
                ),
                processes: ProcessMeter::new(Arc::clone(&table), Arc::clone(&observed)),
                experiments: ExperimentSampler::new(experiments.clone()),
                load: LoadSampler::new(Arc::clone(&table), Arc::clone(&self.clock)),
                clock: Arc::clone(&self.clock),
            },
            Log::clone(log),
        );
        let stopper = Arc::new(supervisor.stopper());
        // However this ends: the supervision holds the log, which is waited for.
        let _ends = Ends(Arc::clone(&stopper));
        let address = supervisor.start()?;
        begin(&runtime, &table);
        let url = access::write_kubeconfig(self.state, address, self.secured.take())?;
        self.state.write_process()?;
        log.info(&format!("serving on http://{}", self.server.address()));
        log.info(&format!(
            "Kubernetes API on {url}; use it with kubectl after:\n  export KUBECONFIG={}",
            self.state.kubeconfig().display()
        ));
        let (signal, announcer) = (shutdown_signal(log)?, Arc::clone(&stopper));
        let shutdown = async move {
            signal.await;
            announcer.announce();
        };
        let report = self.server.run(table, log, self.clock, shutdown)?;
        stopper.stop();
        plans.stop();
        experiments.stop();
        routers.stop();
        runtime.block_on(fleet.stop());
        runtime.shutdown_background();
        say_stopped(report, log);
        Ok(())
    }

    /// Returns what runs programs; those of an earlier server that was killed are ended.
    fn fleet(&self, runtime: &Runtime, log: &RevisionLog) -> Arc<Fleet> {
        Arc::new(Fleet::new(FleetConfig {
            directory: self.state.processes(),
            base_environment: self.for_programs.clone(),
            guard: GuardCommand::this_program(&[crate::GUARD_MODE]),
            cgroups: Arc::new(match self.arguments.programs.run_programs {
                true => Cgroups::find(),
                false => Cgroups::none("no programs run"),
            }),
            log: log.clone(),
            clock: Arc::clone(&self.clock),
            back_off: BackOffPace::default(),
            drain_max: self.gateway.server.limits.request_timeout,
            runtime: runtime.handle().clone(),
        }))
    }

    /// Starts what loads and switches.
    fn follow(
        &self,
        runtime: &Runtime,
        (table, observed, (experiments, routers)): (
            &Arc<SharedTable>,
            &Arc<ObservedCell>,
            (&Experiments, &Memory),
        ),
        (fleet, log): (&Arc<Fleet>, RevisionLog),
        budget: Option<Arc<MemoryBudget>>,
    ) -> anyhow::Result<PlanSender> {
        let storage = Storage::try_new(StorageConfig {
            cache_dir: self.state.downloads(),
            pvc_dirs: self.arguments.claims.iter().cloned().collect(),
            cache_bytes_max: self.arguments.cache_max,
            limits: StorageLimits::default(),
        })?;
        let clock = Arc::clone(&self.clock);
        let engine = Arc::clone(&self.graph_engine);
        let loader = StorageLoader::new(storage, runtime.handle().clone(), clock, engine)
            .with_engine_settings(self.engine_settings.clone())
            .with_trial(self.trial.clone());
        let n_workers = self.gateway.server.n_workers;
        let (follower, plans) = Follower::new(FollowerConfig {
            loader: Arc::new(loader),
            processes: Some(Arc::clone(fleet) as Arc<dyn ProcessRunner>),
            table: Arc::clone(table),
            observed: Arc::clone(observed),
            log,
            chaos: self.chaos.clone(),
            budget,
            clock: Arc::clone(&self.clock),
            n_workers,
            experiments: Some(experiments.clone()),
            routers: Some(routers.clone()),
            fits: Some(FitsOutputs {
                model: coracle_gateway::fits_outputs,
                flow: coracle_gateway::fits_flow,
            }),
        });
        std::thread::Builder::new()
            .name("coracle-follower".to_owned())
            .spawn(move || follower.run())?;
        Ok(plans)
    }
}

/// Waits until the first plan is followed: from then on the table tells what is served, and what requests have to wait for.
fn begin(runtime: &Runtime, table: &SharedTable) {
    runtime.block_on(async {
        let planned = table.until(ModelTable::is_planned);
        // Without one, nothing is known by its name until it is there.
        drop(tokio::time::timeout(FIRST_PLAN_MAX, planned).await);
    });
}
