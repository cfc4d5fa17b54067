//! The control process: the API, the store and the controller, apart from what serves.
//!
//! `coracle up` starts it, talks with it over its standard input and output, and starts it again should it end.

use std::io::{BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use coracle_access::{ServerIdentity, TokenStore, server_config};
use coracle_base::{Clock, SystemClock};
use coracle_control::hinge::{FromControl, PlanChange, ToControl, read_message, write_message};
use coracle_control::{
    Api, ApiServer, Controller, ControllerConfig, Decisions, Images, LoadQueue, Programs,
    QueryBoard, Readiness, Store, StoreError, Tls, UsageCell, ask_prometheus,
};
use coracle_serving::{Observed, ObservedCell, Plan};
use tokio::sync::Notify;

use crate::access;
use crate::args::{ControlArguments, ProgramArguments};
use crate::manifest_files::{self, ManifestText};

/// Threads of the control process.
const THREADS: usize = 2;
/// How long a control process waits for one that is just ending to let go of the store.
const STORE_WAIT_MAX: Duration = Duration::from_secs(3);

/// What goes to the serving process; one line at a time.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<()>>);

impl Out {
    fn send(&self, message: &FromControl) {
        let _turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A serving process that is gone is noticed where it is read from.
        drop(write_message(&mut std::io::stdout(), message));
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &ControlArguments) -> anyhow::Result<()> {
    let out = Out::default();
    let result = serve(arguments, &out);
    if let Err(error) = &result {
        let message = format!("{error:#}");
        out.send(&FromControl::Failed { message });
    }
    drop(std::io::stdout().flush());
    // Why it ended has been told; the exit status only says that it did.
    std::process::exit(i32::from(result.is_err()));
}

fn serve(arguments: &ControlArguments, out: &Out) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    let store = Arc::new(runtime.block_on(open_store(&arguments.objects))?);
    let server = bind_api(arguments)?;
    let version = env!("CARGO_PKG_VERSION");
    let usage = Arc::new(UsageCell::default());
    let api = Api::new(Arc::clone(&store), Arc::clone(&clock), version);
    let decisions = Arc::new(Decisions::default());
    let api = api.with_replicas(arguments.logs.clone(), Arc::clone(&usage));
    let api = api.with_decisions(Arc::clone(&decisions));
    let tokens = TokenStore::open(&arguments.access)?;
    let api = Arc::new(api.with_access(tokens, arguments.require_credentials));
    let made = api.ensure_roles().and_then(|()| api.ensure_definitions());
    made.map_err(|failure| anyhow::anyhow!(failure.message))?;
    for namespace in ["default", "kube-system"] {
        let made = api.ensure_namespace(namespace);
        made.map_err(|failure| anyhow::anyhow!(failure.message))?;
    }
    for path in &arguments.files {
        for message in apply_file(&api, path)? {
            out.send(&FromControl::Log {
                is_warning: false,
                message,
            });
        }
    }
    let notify = Arc::new(Notify::new());
    let changed = Arc::clone(&notify);
    let observed = Arc::new(ObservedCell::new(Box::new(move || changed.notify_one())));
    let mut input = BufReader::new(std::io::stdin());
    let loads = Arc::new(LoadQueue::default());
    // What serves already must be known before anything is decided.
    let mut told = Told {
        seen: Observed::default(),
        observed: Arc::clone(&observed),
        usage,
        loads: Arc::clone(&loads),
        clock: Arc::clone(&clock),
    };
    if !told.take(&mut input)? {
        return Ok(());
    }
    let queries = Arc::new(QueryBoard::default());
    runtime.spawn(ask_prometheus(Arc::clone(&queries), Arc::clone(&clock)));
    let config = ControllerConfig {
        programs: programs(&arguments.programs)?,
        base_url: arguments.base_url.clone(),
        loads,
        queries: Arc::clone(&queries),
        decisions,
        publish: publisher(out),
        report: reporter(out),
    };
    runtime.spawn(Controller::new(store, (Arc::clone(&observed), notify), clock, config).run());
    let address = server.address();
    runtime.spawn(server.serve(api));
    out.send(&FromControl::Listening { address });
    // Ends when the serving process does.
    while told.take(&mut input)? {}
    Ok(())
}

/// Returns which programs may run.
pub(crate) fn programs(arguments: &ProgramArguments) -> anyhow::Result<Programs> {
    let images =
        Images::read(&arguments.images).map_err(|why| anyhow::anyhow!("--image: {why}"))?;
    Ok(Programs {
        are_allowed: arguments.run_programs,
        images,
    })
}

/// What the serving process tells.
struct Told {
    seen: Observed,
    observed: Arc<ObservedCell>,
    usage: Arc<UsageCell>,
    loads: Arc<LoadQueue>,
    clock: Arc<dyn Clock>,
}

impl Told {
    /// Reads the next message; false when the serving process is gone.
    fn take(&mut self, input: &mut BufReader<std::io::Stdin>) -> anyhow::Result<bool> {
        let message =
            read_message(input).context("the serving process sends what is no message")?;
        match message {
            Some(ToControl::Observed(change)) => {
                change.apply(&mut self.seen);
                self.observed.set(self.seen.clone());
            }
            Some(ToControl::Load(report)) => self.loads.push(self.clock.monotonic(), report),
            Some(ToControl::Failures(report)) => self.loads.push_failures(&report),
            Some(ToControl::Experiments(told)) => self.loads.set_experiments(told),
            Some(ToControl::Usage(report)) => self.usage.set(report, self.clock.unix_time()),
            None => return Ok(false),
        }
        Ok(true)
    }
}

async fn open_store(path: &Path) -> anyhow::Result<Store> {
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        match Store::open(path) {
            Err(StoreError::InUse { .. }) if waited < STORE_WAIT_MAX => {
                tokio::time::sleep(step).await;
                waited += step;
            }
            result => return Ok(result?),
        }
    }
}

fn bind_api(arguments: &ControlArguments) -> anyhow::Result<ApiServer> {
    let (listen, port) = (arguments.listen, arguments.api_port);
    if !listen.is_loopback() && !arguments.require_credentials {
        bail!("the API on {listen} would trust everybody; it needs --require-credentials");
    }
    let address = SocketAddr::new(listen, port);
    let server = ApiServer::bind(address).with_context(|| {
        format!("cannot listen on {address} for the Kubernetes API; find who does with `ss -ltnp 'sport = :{port}'`, or choose another port with --api-port")
    })?;
    match arguments.require_credentials {
        true => Ok(server.with_tls(read_tls(&arguments.access)?)),
        false => Ok(server),
    }
}

/// Reads the certificates that the serving process has put there.
fn read_tls(directory: &Path) -> anyhow::Result<Tls> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (certificate, key) = (read(access::SERVER_CERTIFICATE)?, read(access::SERVER_KEY)?);
    let identity = ServerIdentity {
        certificate_pem: &certificate,
        key_pem: &key,
    };
    Ok(server_config(identity, &read(access::CLIENT_AUTHORITIES)?)?)
}

fn publisher(out: &Out) -> Box<dyn Fn(&Plan) + Send + Sync> {
    let out = out.clone();
    let sent = Mutex::new(Plan::default());
    Box::new(move |plan| {
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        out.send(&FromControl::Plan(PlanChange::between(&sent, plan)));
        sent.clone_from(plan);
    })
}

fn reporter(out: &Out) -> Box<dyn Fn(Readiness, &str) + Send + Sync> {
    let out = out.clone();
    Box::new(move |readiness, message| {
        out.send(&FromControl::Log {
            is_warning: readiness == Readiness::NotReady,
            message: message.to_owned(),
        });
    })
}

/// Applies the manifests of a file; returns a line for each, as kubectl writes it.
fn apply_file(api: &Arc<Api>, path: &Path) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for ManifestText { shown, text } in manifest_files::read(path)? {
        match api.apply_manifests(&text, "coracle-up") {
            Ok(of_file) => lines.extend(of_file),
            Err(failure) => bail!("{shown}: {}", failure.message),
        }
    }
    Ok(lines)
}
