//! `coracle up`: the control plane and the gateway in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coracle_base::{Clock, SystemClock};
use coracle_control::{Api, ApiServer, Controller, ControllerConfig, Readiness, Store};
use coracle_gateway::{Log, Server};
use coracle_serving::{Follower, ObservedCell, PlanSender, SharedTable};
use coracle_storage::{Storage, StorageConfig, StorageLimits};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::Environment;
use crate::args::UpArguments;
use crate::loader::StorageLoader;
use crate::serve::{GatewayConfig, say_stopped};
use crate::signals::shutdown_signal;
use crate::state::StateDirectory;

/// Threads of the control plane; the gateway has its own.
const CONTROL_THREADS: usize = 2;
/// How long the start waits for what was served before.
const RESUME_MAX: Duration = Duration::from_secs(60);

/// Runs the command.
pub(crate) fn run(arguments: &UpArguments, environment: &Environment) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let gateway = GatewayConfig::try_new(&arguments.gateway)?;
    let state = StateDirectory::new(arguments.state.as_deref(), environment)?;
    state.create()?;
    let store = Arc::new(Store::open(&state.objects())?);
    let server = Server::bind(gateway.address, gateway.server.clone())?;
    let api_server = bind_api(arguments.api_port)?;
    let (log, writer) = Log::start(gateway.log_format, gateway.access_log, Arc::clone(&clock));
    let plane = Plane {
        arguments,
        state: &state,
        store,
        gateway,
        server,
        api_server,
        clock,
    };
    let result = plane.run(&log);
    state.remove_process();
    drop(log);
    writer.join();
    result
}

fn bind_api(port: u16) -> anyhow::Result<ApiServer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    ApiServer::bind(address).with_context(|| {
        format!("cannot listen on {address} for the Kubernetes API; find who does with `ss -ltnp 'sport = :{port}'`, or choose another port with --api-port")
    })
}

/// Everything that `coracle up` runs.
struct Plane<'a> {
    arguments: &'a UpArguments,
    state: &'a StateDirectory,
    store: Arc<Store>,
    gateway: GatewayConfig,
    server: Server,
    api_server: ApiServer,
    clock: Arc<dyn Clock>,
}

impl Plane<'_> {
    fn run(self, log: &Log) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("coracle-control")
            .enable_all()
            .build()?;
        let api = Arc::new(Api::new(
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
            env!("CARGO_PKG_VERSION"),
        ));
        for namespace in ["default", "kube-system"] {
            api.ensure_namespace(namespace)
                .map_err(|failure| anyhow::anyhow!(failure.message))?;
        }
        let table = Arc::new(SharedTable::default());
        let (plans, observed, notify) = self.follow(&runtime, &table)?;
        let controller = self.controller(plans.clone(), &observed, notify, log);
        runtime.spawn(controller.run());
        self.apply_files(&api, log)?;
        self.resume(&runtime, &observed);
        let api_address = self.api_server.address();
        runtime.spawn(self.api_server.serve(api));
        self.state.write_kubeconfig(api_address)?;
        self.state.write_process()?;
        let address = self.server.address();
        log.info(&format!("serving on http://{address}"));
        log.info(&format!("Kubernetes API on http://{api_address}; use it with kubectl after:\n  export KUBECONFIG={}", self.state.kubeconfig().display()));
        let report = self
            .server
            .run(table, log, self.clock, shutdown_signal(log)?)?;
        plans.stop();
        runtime.shutdown_background();
        say_stopped(report, log);
        Ok(())
    }

    /// Starts what loads and switches.
    fn follow(
        &self,
        runtime: &Runtime,
        table: &Arc<SharedTable>,
    ) -> anyhow::Result<(PlanSender, Arc<ObservedCell>, Arc<Notify>)> {
        let storage = Storage::try_new(StorageConfig {
            cache_dir: self.state.downloads(),
            pvc_dirs: self.arguments.claims.iter().cloned().collect(),
            limits: StorageLimits::default(),
        })?;
        let loader = StorageLoader {
            storage,
            runtime: runtime.handle().clone(),
            clock: Arc::clone(&self.clock),
        };
        let notify = Arc::new(Notify::new());
        let told = Arc::clone(&notify);
        let observed = Arc::new(ObservedCell::new(Box::new(move || told.notify_one())));
        let n_workers = self.gateway.server.n_workers;
        let (follower, plans) = Follower::new(
            Arc::new(loader),
            Arc::clone(table),
            Arc::clone(&observed),
            n_workers,
        );
        std::thread::Builder::new()
            .name("coracle-follower".to_owned())
            .spawn(move || follower.run())?;
        Ok((plans, observed, notify))
    }

    fn controller(
        &self,
        plans: PlanSender,
        observed: &Arc<ObservedCell>,
        notify: Arc<Notify>,
        log: &Log,
    ) -> Controller {
        let log = log.clone();
        let config = ControllerConfig {
            base_url: format!("http://localhost:{}", self.server.address().port()),
            report: Box::new(move |readiness, message| match readiness {
                Readiness::Ready => log.info(message),
                Readiness::NotReady => log.warn(message),
            }),
        };
        let observed = (Arc::clone(observed), notify);
        Controller::new(
            Arc::clone(&self.store),
            plans,
            observed,
            Arc::clone(&self.clock),
            config,
        )
    }

    fn apply_files(&self, api: &Arc<Api>, log: &Log) -> anyhow::Result<()> {
        for path in &self.arguments.files {
            for line in apply_file(api, path)? {
                log.info(&line);
            }
        }
        Ok(())
    }

    /// Waits until everything that was served before is served again; clients that connect meanwhile wait too.
    fn resume(&self, runtime: &Runtime, observed: &ObservedCell) {
        let served = self.store.inference_services_with_url();
        if served.is_empty() {
            return;
        }
        let is_settled = || {
            let now = observed.get();
            served
                .iter()
                .all(|id| now.routes.contains_key(id) || now.has_failed(id))
        };
        runtime.block_on(async {
            let wait = async {
                while !is_settled() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            // What takes longer is served once it is there.
            drop(tokio::time::timeout(RESUME_MAX, wait).await);
        });
    }
}

/// Applies the manifests of a file; returns a line for each, as kubectl writes it.
fn apply_file(api: &Arc<Api>, path: &Path) -> anyhow::Result<Vec<String>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    match api.apply_manifests(&text, "coracle-up") {
        Ok(lines) => Ok(lines),
        Err(failure) => bail!("{}: {}", path.display(), failure.message),
    }
}
