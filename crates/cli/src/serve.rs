//! `coracle serve`: loads the models, then serves until told to stop.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use coracle_base::{ByteCount, Clock, SystemClock};
use coracle_formats::{LoadOptions, Loaded, ModelFile, load, locate, locate_all};
use coracle_gateway::{AccessLog, Limits, Log, LogFormat, Server, ServerConfig, ShutdownReport};
use coracle_model::{Method, Model};
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel, SharedTable};

use crate::Environment;
use crate::args::{AccessLogArgument, GatewayArguments, LogFormatArgument, ServeArguments};
use crate::signals::shutdown_signal;

/// What the arguments mean.
#[derive(Debug)]
struct ServeConfig {
    files: Vec<ModelFile>,
    default_method: Option<Method>,
    gateway: GatewayConfig,
}

/// What the arguments of the gateway mean.
#[derive(Debug)]
pub(crate) struct GatewayConfig {
    pub(crate) address: SocketAddr,
    pub(crate) server: ServerConfig,
    pub(crate) log_format: LogFormat,
    pub(crate) access_log: AccessLog,
}

/// Runs the command.
pub(crate) fn run(arguments: &ServeArguments, environment: &Environment) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let config = ServeConfig::try_new(arguments, environment)?;
    let gateway = &config.gateway;
    // Before loading, so that a taken port is said at once.
    let server = Server::bind(gateway.address, gateway.server.clone())?;
    let (log, writer) = Log::start(gateway.log_format, gateway.access_log, Arc::clone(&clock));
    let result = load_all(&config, &log, clock.as_ref()).and_then(|table| {
        announce(&server, &table, &log);
        let table = Arc::new(SharedTable::new(table));
        let report = server.run(table, &log, clock, shutdown_signal(&log)?)?;
        say_stopped(report, &log);
        Ok(())
    });
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
        Ok(Self {
            files: files(arguments)?,
            default_method,
            gateway: GatewayConfig::try_new(&arguments.gateway)?,
        })
    }
}

impl GatewayConfig {
    /// Reads the arguments' meaning.
    pub(crate) fn try_new(arguments: &GatewayArguments) -> anyhow::Result<Self> {
        let host = arguments.host;
        if !host.is_loopback() && !arguments.allow_anonymous {
            bail!(
                "{host} can be reached from outside, and callers need no credentials yet; listen on 127.0.0.1, or say --allow-anonymous if that is what you want"
            );
        }
        let n_cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let or_cores = |n: Option<u16>| n.map_or(n_cores, usize::from);
        Ok(Self {
            address: SocketAddr::new(host, arguments.port),
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
        })
    }
}

/// Finds the files of all models and their names.
fn files(arguments: &ServeArguments) -> anyhow::Result<Vec<ModelFile>> {
    let mut files = Vec::new();
    let paths: Vec<&PathBuf> = arguments.paths.iter().chain(&arguments.model_dir).collect();
    for path in paths {
        files.extend(locate_all(path)?);
    }
    for (name, path) in &arguments.models {
        files.push(ModelFile {
            name: name.clone(),
            path: locate(path)?,
        });
    }
    match (&arguments.name, files.as_mut_slice()) {
        (_, []) => bail!(
            "nothing to serve; give a model file or directory, such as `coracle serve model.joblib`"
        ),
        (None, _) => {}
        (Some(name), [file]) => file.name.clone_from(name),
        (Some(_), many) => bail!(
            "--name names one model, but there are {}; name them with --model NAME=PATH",
            many.len()
        ),
    }
    Ok(files)
}

/// Loads every model; all failures are told, not only the first.
fn load_all(config: &ServeConfig, log: &Log, clock: &dyn Clock) -> anyhow::Result<ModelTable> {
    let options = LoadOptions {
        default_method: config.default_method,
    };
    let mut models = Vec::new();
    let mut failures = Vec::new();
    for file in &config.files {
        match load(&file.path, &options, clock) {
            Ok(loaded) => models.push(served(file, loaded, config.gateway.server.n_workers, log)),
            Err(error) => failures.push(format!("{:#}", anyhow::Error::new(error))),
        }
    }
    if !failures.is_empty() {
        bail!(
            "{} of {} models did not load; `coracle inspect PATH` shows what a file is\n  {}",
            failures.len(),
            config.files.len(),
            failures.join("\n  ")
        );
    }
    Ok(ModelTable::try_new(models)?)
}

fn served(file: &ModelFile, loaded: Loaded, n_workers: usize, log: &Log) -> ServedModel {
    let Loaded { model, phases } = loaded;
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
    let phases = LoadPhases {
        read: phases.read,
        parse: phases.parse,
        build: phases.build,
        ..LoadPhases::default()
    };
    let loaded = LoadedModel::new(file.name.clone(), model, phases);
    ServedModel::new(loaded, n_workers)
}

/// Says where the server listens and how to ask it.
fn announce(server: &Server, table: &ModelTable, log: &Log) {
    let address = server.address();
    log.info(&format!("listening on http://{address}"));
    if let Some(model) = table.iter().next()
        && let Some(loaded) = model.loaded()
    {
        log.info(&format!(
            "try: curl http://{address}/v1/models/{}:predict -H 'Content-Type: application/json' -d '{{\"instances\": [[{}]]}}'",
            model.name(),
            example_row(loaded.model())
        ));
    }
}

/// Returns a row of zeros as wide as the model's table.
fn example_row(model: &dyn Model) -> String {
    let input = model.signature().inputs.first();
    let n_columns = input.and_then(|input| input.n_columns()).unwrap_or(1);
    vec!["0.0"; n_columns].join(", ")
}
