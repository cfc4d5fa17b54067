//! `coracle serve`: loads the models, then serves until told to stop.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use coracle_base::{ByteCount, Clock, SystemClock};
use coracle_formats::{
    LoadOptions, Loaded, ModelFile, ModelVersions, locate_versions, versions_at,
};
use coracle_gateway::{
    AccessLog, CorsPolicy, Limits, Log, LogFormat, ModelControl, Server, ServerConfig,
    ShutdownReport,
};
use coracle_model::Method;
use coracle_serving::batch::BatchSettings;
use coracle_serving::{
    CacheSettings, LoadPhases, LoadedModel, MemoryBudget, ModelTable, OnDemand, ServedModel,
};

use crate::Environment;
use crate::args::{
    AccessLogArgument, CacheArgument, GatewayArguments, LogFormatArgument, ModelControlArgument,
    ServeArguments, VersionLabel,
};
use crate::chaos;
use crate::engine;
use crate::example;
use crate::model_repository::{CacheRules, ModelRepository, VersionRules, Watcher};
use crate::signals::shutdown_signal;
use crate::trial::Trial;
use crate::warm_up;

/// Where KServe's containers answer gRPC.
const KSERVE_GRPC_PORT: u16 = 8081;
/// The most models that are loaded at a time for requests.
const LOADS_MAX: usize = 4;

/// What the arguments mean.
#[derive(Debug)]
struct ServeConfig {
    sources: ModelSources,
    rules: VersionRules,
    caches: CacheRules,
    options: LoadOptions,
    /// Whether models are loaded and unloaded on request.
    is_explicit: bool,
    /// The pause between two looks at the files, if they are looked at again.
    poll: Option<Duration>,
    gateway: GatewayConfig,
}

/// Where models are looked for.
#[derive(Clone, Debug)]
pub(crate) struct ModelSources {
    paths: Vec<PathBuf>,
    named: Vec<(String, PathBuf)>,
    /// The name of the only model.
    name: Option<String>,
}

/// What the arguments of the gateway mean.
#[derive(Debug)]
pub(crate) struct GatewayConfig {
    pub(crate) address: SocketAddr,
    /// The further address for gRPC clients.
    pub(crate) grpc_address: Option<SocketAddr>,
    pub(crate) server: ServerConfig,
    pub(crate) log_format: LogFormat,
    pub(crate) access_log: AccessLog,
    /// The most memory that models may take together.
    memory_budget: Option<ByteCount>,
}

/// Runs the command.
pub(crate) fn run(arguments: &ServeArguments, environment: &Environment) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let config = ServeConfig::try_new(arguments, environment)?;
    let gateway = &config.gateway;
    // Before loading, so that a taken port is said at once.
    let mut server = gateway.bind()?;
    let (log, writer) = Log::start(gateway.log_format, gateway.access_log, Arc::clone(&clock));
    if let Some(chaos) = chaos::allowed(arguments.gateway.chaos, &clock) {
        server.set_chaos(chaos);
    }
    let repository = ModelRepository::new(
        config.sources.clone(),
        config.rules.clone(),
        config.options.clone(),
        gateway.server.n_workers,
        (log.clone(), Arc::clone(&clock)),
    );
    let on_demand = gateway.memory_budget(&clock).map(|budget| {
        server.set_budget(Arc::clone(&budget));
        Arc::new(OnDemand::new(budget, Arc::clone(&clock)))
    });
    let n_loads = gateway.server.n_pool_threads.clamp(1, LOADS_MAX);
    let loads = on_demand.as_ref().map(|on_demand| on_demand.start(n_loads));
    let loads = loads.transpose()?;
    let repository = repository
        .with_trial(Trial::of(
            &arguments.trial,
            arguments.onnxruntime.as_deref(),
            environment,
        ))
        .with_on_demand(on_demand)
        .with_caches(config.caches.clone());
    let repository = Arc::new(repository);
    let result = load_all(&config, &repository, &log).and_then(|()| {
        announce(&server, &repository.table.load(), &log);
        if config.is_explicit {
            server.set_control(Arc::clone(&repository) as Arc<dyn ModelControl>);
        }
        let start = |pause| Watcher::start(Arc::clone(&repository), pause);
        let _watcher = config.poll.map(start);
        let table = Arc::clone(&repository.table);
        let report = server.run(table, &log, clock, shutdown_signal(&log)?)?;
        say_stopped(report, &log);
        Ok(())
    });
    // The log ends when nobody holds it any more.
    drop(loads);
    drop(repository);
    drop(log);
    writer.join();
    result
}

/// Says how the server ended.
pub(crate) fn say_stopped(report: ShutdownReport, log: &Log) {
    match report.n_connections_cut {
        0 => log.info("stopped"),
        n => log.warn(&format!(
            "stopped; {n} connections were still busy and were cut"
        )),
    }
}

impl ServeConfig {
    fn try_new(arguments: &ServeArguments, environment: &Environment) -> anyhow::Result<Self> {
        let default_method = match (arguments.method, environment.predict_proba) {
            (Some(method), _) => Some(method.into()),
            (None, true) => Some(Method::PredictProba),
            (None, false) => None,
        };
        let paths = arguments.paths.iter().chain(&arguments.model_dir);
        let sources = ModelSources {
            paths: paths.cloned().collect(),
            named: arguments.models.clone(),
            name: arguments.name.clone(),
        };
        let mut gateway = GatewayConfig::try_new(&arguments.gateway, environment)?;
        // No manifest asks for records here.
        let outlets = &mut gateway.server.outlets;
        outlets
            .payloads
            .take_if(|payloads| payloads.target.is_none());
        // KServe's containers have a port for gRPC; whoever lets the system choose gets none unasked.
        let own_port = gateway.address.port();
        if arguments.model_dir.is_some() && ![0, KSERVE_GRPC_PORT].contains(&own_port) {
            let port = SocketAddr::new(gateway.address.ip(), KSERVE_GRPC_PORT);
            gateway.grpc_address.get_or_insert(port);
        }
        let is_explicit = arguments.model_control == ModelControlArgument::Explicit;
        if is_explicit && arguments.poll.is_some() {
            bail!(
                "--poll loads what is new by itself, --model-control explicit on request only; give one of them"
            );
        }
        let models = sources.models()?;
        let rules = version_rules(arguments, &models)?;
        let caches = cache_rules(arguments, &models)?;
        let engine_settings = arguments.engine.settings(&environment.engines)?;
        Ok(Self {
            sources,
            rules,
            caches,
            options: LoadOptions {
                default_method,
                object: arguments.object.clone(),
                graph_engine: Some(engine::runtime_of_server(
                    arguments.onnxruntime.as_deref(),
                    &engine_settings,
                    environment,
                    arguments.gateway.busy_poll,
                )),
                engine_settings,
                text_engine: match arguments.text_pairs {
                    true => Some(engine::text_pairs()),
                    false => (!arguments.no_text).then(engine::texts),
                },
            },
            is_explicit,
            poll: arguments.poll,
            gateway,
        })
    }
}

/// Reads which versions are served and what they are called; labels are of models that are there.
fn version_rules(
    arguments: &ServeArguments,
    models: &[ModelVersions],
) -> anyhow::Result<VersionRules> {
    let mut rules = VersionRules {
        policy: arguments.versions.clone(),
        batching: batching(arguments)?,
        ..VersionRules::default()
    };
    for VersionLabel {
        label,
        model,
        version,
    } in &arguments.labels
    {
        if !models.iter().any(|known| known.name == *model) {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            bail!(
                "--label {label}={model}:{version}: there is no such model; there are {}",
                names.join(", ")
            );
        }
        let labels = rules.labels.entry(model.clone()).or_default();
        if labels.insert(label.clone(), *version).is_some() {
            bail!("--label {label}={model}:{version}: the label is given twice");
        }
    }
    Ok(rules)
}

/// Reads how requests are put together.
fn batching(arguments: &ServeArguments) -> anyhow::Result<Option<BatchSettings>> {
    let wait = arguments.batch_max_latency;
    let default = match wait {
        None => BatchSettings::opportunistic().rows_max,
        Some(_) => BatchSettings::ROWS_MAX_DEFAULT,
    };
    let rows_max = arguments.batch_max_size.unwrap_or(default);
    let rows_preferred = arguments.batch_preferred_sizes.clone();
    if let Some(beyond) = rows_preferred.iter().find(|rows| **rows > rows_max) {
        bail!("--batch-preferred-size {beyond} is more than --batch-max-size ({rows_max})");
    }
    let is_given = wait.is_some() || arguments.batch_max_size.is_some();
    Ok(is_given.then(|| BatchSettings {
        rows_max,
        wait: wait.unwrap_or_default(),
        rows_preferred,
    }))
}

/// Reads whose answers are kept; models are named that are there.
fn cache_rules(arguments: &ServeArguments, models: &[ModelVersions]) -> anyhow::Result<CacheRules> {
    let mut rules = CacheRules::default();
    for CacheArgument { model, size } in &arguments.cache_responses {
        let settings = CacheSettings {
            size_bytes: size.as_u64(),
            ttl: arguments.cache_ttl,
        };
        let before = match model {
            None => rules.of_others.replace(settings),
            Some(model) if models.iter().any(|known| known.name == *model) => {
                rules.by_model.insert(model.clone(), settings)
            }
            Some(model) => bail!("--cache-responses {model}={size}: there is no such model"),
        };
        if before.is_some() {
            let model = model.as_deref().unwrap_or("all models");
            bail!("--cache-responses is given twice for {model}");
        }
    }
    Ok(rules)
}

impl GatewayConfig {
    /// Returns the bound on the memory of models, if there is one.
    pub(crate) fn memory_budget(&self, clock: &Arc<dyn Clock>) -> Option<Arc<MemoryBudget>> {
        let budget = MemoryBudget::new(self.memory_budget?, Arc::clone(clock));
        crate::heap::keep_compact();
        Some(Arc::new(
            budget.with_give_back(Box::new(crate::heap::give_back)),
        ))
    }

    /// Takes the addresses.
    pub(crate) fn bind(&self) -> anyhow::Result<Server> {
        let mut server = Server::bind(self.address, self.server.clone())?;
        if let Some(address) = self.grpc_address {
            server.also_bind(address)?;
        }
        Ok(server)
    }

    /// Reads the arguments' meaning.
    pub(crate) fn try_new(
        arguments: &GatewayArguments,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let host = arguments.host;
        if !host.is_loopback() && !arguments.allow_anonymous {
            bail!(
                "{host} can be reached from outside, and callers need no credentials yet; listen on 127.0.0.1, or say --allow-anonymous if that is what you want"
            );
        }
        let n_cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let further = arguments.grpc_port.filter(|port| *port != 0);
        if let Some(port) = further.filter(|port| *port == arguments.port) {
            bail!(
                "--grpc-port {port} is --port, which answers gRPC too; leave --grpc-port out, or give it another port"
            );
        }
        let or_cores = |n: Option<u16>| n.map_or(n_cores, usize::from);
        Ok(Self {
            address: SocketAddr::new(host, arguments.port),
            grpc_address: arguments.grpc_port.map(|port| SocketAddr::new(host, port)),
            server: ServerConfig {
                limits: Limits {
                    body_max: arguments.max_body,
                    connections_max: arguments.max_connections,
                    idle_timeout: arguments.idle_timeout,
                    body_timeout: arguments.body_timeout,
                    request_timeout: arguments.request_timeout,
                    ..Limits::default()
                },
                n_workers: or_cores(arguments.workers),
                n_pool_threads: or_cores(arguments.max_threads),
                shutdown_timeout: arguments.shutdown_timeout,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                allow_shared_memory: arguments.allow_shared_memory,
                cors: CorsPolicy {
                    origins: arguments.cors_origins.clone(),
                },
                control: None,
                outlets: arguments.observe.outlets(&environment.telemetry)?,
                busy_poll: arguments.busy_poll,
            },
            log_format: match arguments.log_format {
                LogFormatArgument::Human => LogFormat::Human,
                LogFormatArgument::Json => LogFormat::Json,
            },
            access_log: match arguments.access_log {
                AccessLogArgument::All => AccessLog::All,
                AccessLogArgument::Errors => AccessLog::Errors,
                AccessLogArgument::Off => AccessLog::Off,
            },
            memory_budget: arguments.memory_budget,
        })
    }
}

impl ModelSources {
    /// Returns the sources that are one directory.
    #[cfg(test)]
    pub(crate) fn of(directory: &std::path::Path) -> Self {
        Self {
            paths: vec![directory.to_path_buf()],
            named: Vec::new(),
            name: None,
        }
    }

    /// Finds the places of the versions of all models, and their names.
    ///
    /// # Errors
    /// If anything is wrong with any of them.
    pub(crate) fn models(&self) -> anyhow::Result<Vec<ModelVersions>> {
        let found = self.find();
        if let Some(error) = found.errors.into_iter().next() {
            return Err(error);
        }
        match (&self.name, found.models.len()) {
            (_, 0) => bail!(
                "nothing to serve; give a model file or directory, such as `coracle serve model.joblib`"
            ),
            (Some(_), n @ 2..) => {
                bail!("--name names one model, but there are {n}; name them with --model NAME=PATH")
            }
            _ => Ok(found.models),
        }
    }

    /// Finds the places of the versions of all models with which nothing is wrong, and what is wrong with others.
    pub(crate) fn find(&self) -> Found {
        let mut found = Found::default();
        for path in &self.paths {
            match locate_versions(path) {
                Ok((models, errors)) => {
                    found.models.extend(models);
                    found.errors.extend(errors.into_iter().map(Into::into));
                }
                Err(error) => found.errors.push(error.into()),
            }
        }
        for (name, path) in &self.named {
            match versions_at(path) {
                Ok(versions) => found.models.push(ModelVersions {
                    name: name.clone(),
                    versions,
                }),
                Err(error) => found.errors.push(error.into()),
            }
        }
        if let (Some(name), [model]) = (&self.name, found.models.as_mut_slice()) {
            model.name.clone_from(name);
        }
        let mut names = BTreeSet::new();
        found.models.retain(|model| {
            let is_first = names.insert(model.name.clone());
            if !is_first {
                found.errors.push(anyhow!(
                    "two models are named '{}'; every model needs a name of its own (--model NAME=PATH)",
                    model.name
                ));
            }
            is_first
        });
        found
    }
}

/// What is found where models are looked for.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) models: Vec<ModelVersions>,
    pub(crate) errors: Vec<anyhow::Error>,
}

/// Loads every model; all failures are told, not only the first. Where files are looked at again, a model that does not load may
/// come later, and one that serves is enough.
fn load_all(config: &ServeConfig, repository: &ModelRepository, log: &Log) -> anyhow::Result<()> {
    repository.refresh();
    let (n_models, failures) = repository.failures();
    let is_enough = config.poll.is_some() && failures.len() < n_models;
    if !failures.is_empty() && !is_enough {
        bail!(
            "{} of {n_models} models did not load; `coracle inspect PATH` shows what a file is\n  {}",
            failures.len(),
            failures.join("\n  ")
        );
    }
    let dangling = repository.dangling_labels();
    if !dangling.is_empty() {
        let message = format!(
            "--label {}: there is no such version that serves",
            dangling.join(", ")
        );
        if config.poll.is_none() {
            bail!(message);
        }
        log.warn(&format!("{message} yet"));
    }
    Ok(())
}

/// Puts a model that was loaded under its name, and says so.
pub(crate) fn ready_to_serve(
    file: &ModelFile,
    loaded: Loaded,
    log: &Log,
    clock: &dyn Clock,
) -> LoadedModel {
    let Loaded { model, phases } = loaded;
    warm_up::run(model.as_ref(), &file.path, |line| {
        log.info(&format!("{}: {line}", file.name));
    });
    let size = u64::try_from(model.memory_bytes()).unwrap_or(u64::MAX);
    let description = model.description();
    log.info(&format!(
        "loaded {} from {}: {}, {} {}, {} in memory, {:.1} ms (read {:.1}, parse {:.1}, build {:.1})",
        file.name,
        file.path.display(),
        description.root.class,
        description.library,
        description.library_version.as_deref().unwrap_or("of unknown version"),
        ByteCount::new(size).to_rounded(),
        phases.total().as_secs_f64() * 1e3,
        phases.read.as_secs_f64() * 1e3,
        phases.parse.as_secs_f64() * 1e3,
        phases.build.as_secs_f64() * 1e3,
    ));
    for warning in description.warnings() {
        log.warn(&format!("{}: {warning}", file.name));
    }
    let phases = LoadPhases {
        read: phases.read,
        parse: phases.parse,
        build: phases.build,
        ..LoadPhases::default()
    };
    let mut loaded = LoadedModel::new(file.name.clone(), model, phases);
    coracle_serving::warm_up(&mut loaded, clock);
    loaded
}

/// Says where the server listens and how to ask it.
fn announce(server: &Server, table: &ModelTable, log: &Log) {
    let address = server.address();
    log.info(&format!("listening on http://{address}"));
    let loaded = |model: &ServedModel| Some((model.name().to_owned(), model.loaded()?));
    if let Some((name, loaded)) = table.iter().find_map(loaded)
        && let Some(body) = example::request(loaded.model())
    {
        log.info(&example::advice(address, &name, &body));
    }
}
