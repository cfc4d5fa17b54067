//! The arguments as typed, with the help texts.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use coracle_base::ByteCount;
use coracle_model::Method;
use coracle_serving::VersionPolicy;

use crate::bench_args::BenchArguments;
use crate::chaos::ChaosCommand;
use crate::engine_args::EngineCommand;
use crate::engine_settings::EngineArguments;
use crate::experiment::ExperimentCommand;
use crate::observe_args::ObserveArguments;
use crate::rollout::RolloutCommand;
use crate::shadow::ShadowCommand;
use crate::trial_args::TrialArguments;

/// Serves machine-learning models from one binary, without Python.
///
/// Give it the files you have (of scikit-learn, XGBoost, LightGBM, CatBoost, MLflow) or the manifests you have (KServe's
/// InferenceServices); it answers KServe's V1 and V2 protocols.
#[derive(Debug, Parser)]
#[command(
    name = "coracle",
    version,
    after_help = "Examples:\n  coracle serve model.joblib              serve one file\n  coracle serve models/                   serve a directory of model directories\n  coracle inspect model.joblib            show what a file is\n  coracle bench http://127.0.0.1:8080     put load on a server, and see how it bears it\n  coracle up                              KServe's workflow with kubectl, on this machine\n\n`coracle COMMAND --help` tells more."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<ServeArguments>),
    Inspect(InspectArguments),
    Bench(Box<BenchArguments>),
    Up(Box<UpArguments>),
    #[command(hide = true)]
    Control(ControlArguments),
    /// Stop the control plane that `coracle up` started
    Down(StateArguments),
    /// Show whether the control plane runs, and what it serves
    Status(StateArguments),
    /// Apply manifests, as `kubectl apply --server-side` does
    Apply(ApplyArguments),
    /// List InferenceServices, or print one as JSON
    Get(GetArguments),
    /// Tell what an InferenceService does: conditions, revisions, replicas, events
    Describe(ServiceArguments),
    /// Print what happened to the newest revision of an InferenceService
    Logs(LogsArguments),
    /// Delete an InferenceService
    Delete(ServiceArguments),
    /// Send all requests of an InferenceService to its canary
    Promote(ServiceArguments),
    /// Send all requests of an InferenceService back to what served before
    Rollback(ServiceArguments),
    #[command(subcommand)]
    Rollout(RolloutCommand),
    #[command(subcommand)]
    Shadow(ShadowCommand),
    #[command(subcommand)]
    Experiment(ExperimentCommand),
    #[command(subcommand)]
    Chaos(ChaosCommand),
    /// Print a kubeconfig for somebody else
    Kubeconfig(KubeconfigArguments),
    /// Install and list the engines that run what Coracle's own kernels do not
    #[command(subcommand)]
    Engine(EngineCommand),
    /// Make and revoke tokens for the API
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Serve models over HTTP.
///
/// PATH is a model file (of scikit-learn, XGBoost, LightGBM or CatBoost, see docs/formats.md), a directory with exactly one model file, a directory whose numbered
/// directories are the versions of a model, or a directory of such directories. A model is named after its directory
/// unless you name it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  coracle serve examples/iris\n  coracle serve model.joblib --name iris --port 9000\n  coracle serve --model iris=models/iris-v2 --model wine=models/wine\n  coracle serve examples/iris --method predict_proba\n  coracle serve models/ --versions latest:2 --poll 10s\n  coracle serve models/ --versions 1,3 --label stable=iris:1 --label canary=iris:3\n\nAs the container of a KServe ServingRuntime (KServe's own arguments work, without `serve` too):\n  coracle --model_name iris --model_dir /mnt/models --http_port 8080 --host 0.0.0.0 --allow-anonymous"
)]
pub(crate) struct ServeArguments {
    /// Model files or directories
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// Serve the model at PATH under NAME; may be given several times
    #[arg(long = "model", value_name = "NAME=PATH", value_parser = parse_named_path)]
    pub(crate) models: Vec<(String, PathBuf)>,

    /// The name of the model, where exactly one is served
    #[arg(long, value_name = "NAME", visible_alias = "model_name")]
    pub(crate) name: Option<String>,

    /// The directory of the model, as KServe passes it
    #[arg(long = "model_dir", value_name = "DIR", hide = true)]
    pub(crate) model_dir: Option<PathBuf>,

    /// The method that answers requests which ask for none [default: the estimator's first]
    #[arg(long, value_enum, value_name = "METHOD")]
    pub(crate) method: Option<MethodArgument>,

    /// The object to serve of a file that holds several: a key of its dict, or a place in its tuple
    #[arg(long, value_name = "NAME")]
    pub(crate) object: Option<String>,

    /// The library of ONNX Runtime, for the ONNX graphs that Coracle's own kernels do not run [default: $ORT_DYLIB_PATH, else
    /// what `coracle engine list` shows]
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) engine: EngineArguments,

    /// Let ONNX graphs beside a tokenizer.json take tokens, as they are, instead of texts
    #[arg(long)]
    pub(crate) no_text: bool,

    /// Let ONNX classifiers beside a tokenizer.json take two texts for each row, text and text_pair; cross-encoders of
    /// sentence-transformers do anyhow
    #[arg(long, conflicts_with = "no_text")]
    pub(crate) text_pairs: bool,

    #[command(flatten)]
    pub(crate) trial: TrialArguments,

    /// Who says which models are loaded: the start alone, or requests too (/v2/repository/models/M/load and unload)
    #[arg(long, value_enum, default_value = "none", value_name = "MODE")]
    pub(crate) model_control: ModelControlArgument,

    /// Which versions of a model with numbered directories are served: latest:N (the newest N that load), all, or these
    /// (1,3). A request that names no version gets the newest [default: what the model's config.pbtxt says, else latest:1]
    #[arg(long, value_name = "WHICH")]
    pub(crate) versions: Option<VersionPolicy>,

    /// Name a version, which is served then whatever --versions says; may be given several times
    #[arg(long = "label", value_name = "LABEL=MODEL:VERSION", value_parser = parse_label)]
    pub(crate) labels: Vec<VersionLabel>,

    /// Look for new and changed files this often, and serve them; without, files are read at the start only
    #[arg(long, value_name = "TIME", value_parser = parse_pause)]
    pub(crate) poll: Option<Duration>,

    /// The most rows of requests that are put together; 1 puts none together [default: 65536, or 32 with --batch-max-latency]
    #[arg(long, value_name = "ROWS", value_parser = parse_rows)]
    pub(crate) batch_max_size: Option<usize>,

    /// Let requests wait this long for others; without, only what is queued anyhow is put together
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) batch_max_latency: Option<Duration>,

    /// A number of rows that does not wait for more; may be given several times
    #[arg(long = "batch-preferred-size", value_name = "ROWS", value_parser = parse_rows, requires = "batch_max_latency")]
    pub(crate) batch_preferred_sizes: Vec<usize>,
    /// Keep answers of up to SIZE for each model, or for MODEL alone, and give them to requests that come again; may be given
    /// several times
    #[arg(long, value_name = "[MODEL=]SIZE", value_parser = parse_cache)]
    pub(crate) cache_responses: Vec<CacheArgument>,

    /// How long kept answers are given [default: for as long as there is room]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "cache_responses")]
    pub(crate) cache_ttl: Option<Duration>,

    #[command(flatten)]
    pub(crate) gateway: GatewayArguments,
}

/// How much is kept of a model's answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheArgument {
    /// `None` for every model that is not named.
    pub(crate) model: Option<String>,
    pub(crate) size: ByteCount,
}

/// A name of a version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionLabel {
    pub(crate) label: String,
    pub(crate) model: String,
    pub(crate) version: u64,
}

/// Who says which models are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelControlArgument {
    /// What is given at the start
    None,
    /// Requests, too
    Explicit,
}

/// How requests are answered: the listener, its limits, the log.
#[derive(Debug, Args)]
pub(crate) struct GatewayArguments {
    /// The port to listen on; 0 takes a free one and prints it
    #[arg(
        long,
        default_value_t = 8080,
        value_name = "PORT",
        visible_alias = "http_port"
    )]
    pub(crate) port: u16,

    /// A further port, where gRPC clients expect one; every port answers HTTP/1.1, HTTP/2 and gRPC [default: 8081 with
    /// --model_dir]
    #[arg(long, value_name = "PORT", visible_alias = "grpc_port")]
    pub(crate) grpc_port: Option<u16>,

    /// Let clients on this machine pass tensors in shared memory (files directly under /dev/shm)
    #[arg(long)]
    pub(crate) allow_shared_memory: bool,

    /// Let faults be injected into answers and loads (`coracle chaos`), for tests of those who ask
    #[arg(long)]
    pub(crate) chaos: bool,

    /// Let web pages of this origin ask, such as `https://example.com`, or of any (*); may be given several times
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    pub(crate) cors_origins: Vec<String>,

    /// The address to listen on; anything but loopback needs --allow-anonymous
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) host: IpAddr,

    /// Serve callers without credentials on an address that others can reach
    #[arg(long)]
    pub(crate) allow_anonymous: bool,

    /// Event loops [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,

    /// Threads for calls too costly for an event loop [default: one per core]
    #[arg(long, value_name = "N", visible_alias = "max_threads", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) max_threads: Option<u16>,

    /// How long after an answer an event loop looks for the next request without sleeping, such as 100us: quicker answers to few callers,
    /// for a core that is never idle meanwhile; at most 50us while other requests of its are not answered yet [default: it sleeps at once]
    #[arg(long, value_name = "TIME", value_parser = parse_busy_poll)]
    pub(crate) busy_poll: Option<Duration>,

    /// The largest request body
    #[arg(long, default_value = "64MiB", value_name = "SIZE")]
    pub(crate) max_body: ByteCount,

    /// The most connections at a time
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub(crate) max_connections: usize,

    /// How long a call may take on the compute pool
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) request_timeout: Duration,

    /// How long a request's body may take to arrive
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) body_timeout: Duration,

    /// How long a connection may be idle, or take to send a request's headers
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) idle_timeout: Duration,

    /// How long requests in flight may take after SIGTERM or Ctrl-C
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) shutdown_timeout: Duration,

    /// The most memory that models may take together, such as 2GiB: those that were used longest ago make room, and are loaded
    /// again when they are asked for [default: all models stay in memory]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory_budget: Option<ByteCount>,

    /// How log lines look
    #[arg(long, value_enum, default_value = "human", value_name = "FORMAT")]
    pub(crate) log_format: LogFormatArgument,

    /// Which answers get a log line
    #[arg(long, value_enum, default_value = "errors", value_name = "WHICH")]
    pub(crate) access_log: AccessLogArgument,

    #[command(flatten)]
    pub(crate) observe: ObserveArguments,
}

/// Run a local control plane: KServe's workflow with kubectl, without a cluster.
///
/// Starts an API that speaks Kubernetes' protocol for InferenceServices and what goes with them, writes a kubeconfig, and
/// serves what is applied. Runs until Ctrl-C or `coracle down`; what was applied is there again at the next start.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  coracle up                               then, in another terminal:\n  export KUBECONFIG=~/.coracle/kubeconfig\n  kubectl apply -f iris.yaml\n  kubectl get inferenceservices\n\n  coracle up -f iris.yaml                  apply manifests at the start\n  coracle up --pvc models=/data/models     serve pvc://models/... from a directory"
)]
pub(crate) struct UpArguments {
    /// Where objects, downloads and the kubeconfig are kept [default: ~/.coracle]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,

    /// Apply the manifests of a YAML or JSON file, or of a directory, at the start; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// The library of ONNX Runtime, for the ONNX graphs that Coracle's own kernels do not run [default: $ORT_DYLIB_PATH, else
    /// what `coracle engine list` shows]
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) engine: EngineArguments,

    #[command(flatten)]
    pub(crate) trial: TrialArguments,

    /// The port of the Kubernetes API, on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    pub(crate) api_port: u16,

    /// The address of the Kubernetes API; anything but loopback gets TLS, and callers need credentials
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) listen: IpAddr,

    /// Use TLS and ask for credentials on loopback, too
    #[arg(long)]
    pub(crate) require_credentials: bool,

    /// A further name or address under which clients reach the API, for its certificate; may be given several times
    #[arg(long = "tls-name", value_name = "NAME")]
    pub(crate) tls_names: Vec<String>,

    /// The API's certificate for the first --tls-name, followed by its authority's (PEM) [default: one of its own authority]
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_names"])]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of the API's certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Authorities whose client certificates are believed besides its own (PEM): CN is the user, O the groups
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Option<PathBuf>,

    /// The directory behind pvc://CLAIM/...; may be given several times
    #[arg(long = "pvc", value_name = "[NAMESPACE/]CLAIM=DIR", value_parser = parse_named_path)]
    pub(crate) claims: Vec<(String, PathBuf)>,

    /// The most downloads to keep, such as 20GiB: what was used least recently goes first, what is served stays
    #[arg(long, value_name = "SIZE")]
    pub(crate) cache_max: Option<ByteCount>,

    #[command(flatten)]
    pub(crate) programs: ProgramArguments,

    #[command(flatten)]
    pub(crate) gateway: GatewayArguments,
}

/// Which programs may run.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProgramArguments {
    /// Run what custom containers and runtimes name as their command; whoever may write InferenceServices may then run
    /// anything as this user
    #[arg(long)]
    pub(crate) run_programs: bool,

    /// Run COMMAND where a container has IMAGE (with or without its tag) and no command; may be given several times
    #[arg(
        long = "image",
        value_name = "IMAGE=COMMAND",
        requires = "run_programs"
    )]
    pub(crate) images: Vec<String>,
}

/// The control process of `coracle up`, which starts it.
#[derive(Debug, Args)]
pub(crate) struct ControlArguments {
    /// The file that objects are kept in
    #[arg(long, value_name = "FILE")]
    pub(crate) objects: PathBuf,

    /// Where the serving process writes what happens to revisions
    #[arg(long, value_name = "DIR")]
    pub(crate) logs: PathBuf,

    /// The directory of keys and certificates
    #[arg(long, value_name = "DIR")]
    pub(crate) access: PathBuf,

    /// The address of the Kubernetes API
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: IpAddr,

    /// The port of the Kubernetes API
    #[arg(long, value_name = "PORT")]
    pub(crate) api_port: u16,

    /// Use TLS, and know nobody without credentials
    #[arg(long)]
    pub(crate) require_credentials: bool,

    /// Where the gateway is
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: String,

    /// Manifests to apply at the start
    #[arg(long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) programs: ProgramArguments,
}

/// Apply manifests, as `kubectl apply --server-side` does.
#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// A YAML or JSON file of objects, a directory of them, or - for the standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// The namespace of objects that name none
    #[arg(short = 'n', long, default_value = "default", value_name = "NAMESPACE")]
    pub(crate) namespace: String,

    #[command(flatten)]
    pub(crate) state: StateArguments,
}

/// List InferenceServices, or print one as JSON.
#[derive(Debug, Args)]
pub(crate) struct GetArguments {
    /// The InferenceService; all of them if absent
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// The namespace; for lists all of them if absent
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,

    #[command(flatten)]
    pub(crate) state: StateArguments,
}

/// One object of the kind that the command is for.
#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The namespace
    #[arg(short = 'n', long, default_value = "default", value_name = "NAMESPACE")]
    pub(crate) namespace: String,

    #[command(flatten)]
    pub(crate) state: StateArguments,
}

/// Print a kubeconfig for somebody else.
///
/// What the user may do is said by role bindings, such as
/// `kubectl create rolebinding alice --clusterrole=edit --user=alice -n ml`; there are view, edit, admin and cluster-admin.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  coracle kubeconfig alice > alice.kubeconfig\n  coracle kubeconfig ci --group robots --duration 30days --server https://ml.example.com:6443"
)]
pub(crate) struct KubeconfigArguments {
    #[command(flatten)]
    pub(crate) user: UserArguments,

    /// Where the user reaches the API [default: as in this machine's own kubeconfig]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Put a client certificate in it, not a token
    #[arg(long)]
    pub(crate) certificate: bool,
}

/// A user, and how long the credentials last.
#[derive(Debug, Args)]
pub(crate) struct UserArguments {
    /// The user's name
    #[arg(value_name = "USER")]
    pub(crate) name: String,

    /// A group that the user is of; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,

    /// How long it lasts
    #[arg(long, default_value = "1day", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Duration,

    #[command(flatten)]
    pub(crate) state: StateArguments,
}

/// Make and revoke tokens for the API.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Print a token for a user
    Create(UserArguments),
    /// Sign with a new key from now on; tokens that are out go on until their time is over
    Rotate {
        /// Revoke every token that is out, too
        #[arg(long)]
        revoke: bool,

        #[command(flatten)]
        state: StateArguments,
    },
}

/// Print what happened to the newest revision of an InferenceService.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    #[command(flatten)]
    pub(crate) service: ServiceArguments,

    /// Another revision than the newest that has replicas
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,

    /// The part: kserve-container loads and answers, storage-initializer fetches
    #[arg(
        short = 'c',
        long,
        default_value = "kserve-container",
        value_name = "CONTAINER"
    )]
    pub(crate) container: String,

    /// Go on with what happens from now on
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,

    /// Only so many lines, the last ones
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u32>,

    /// Begin each line with its time
    #[arg(long)]
    pub(crate) timestamps: bool,
}

/// The directory of a control plane.
#[derive(Debug, Args)]
pub(crate) struct StateArguments {
    /// The directory that `coracle up` was given [default: ~/.coracle]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// Show what a model file is: format, estimators, parameters, inputs, outputs, size.
///
/// Reads the file as `serve` does, executes nothing of it, and serves nothing.
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// Model files or directories
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// The object to show of a file that holds several: a key of its dict, or a place in its tuple
    #[arg(long, value_name = "NAME")]
    pub(crate) object: Option<String>,

    /// The library of ONNX Runtime, for the ONNX graphs that Coracle's own kernels do not run [default: $ORT_DYLIB_PATH, else
    /// what `coracle engine list` shows]
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) engine: EngineArguments,

    /// Compare the answers of Coracle's own kernels with those of ONNX Runtime, where both run a graph: on made-up rows, for
    /// each output
    #[arg(long)]
    pub(crate) compare_engines: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A method, named as in scikit-learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum MethodArgument {
    Predict,
    PredictProba,
    PredictLogProba,
    DecisionFunction,
    Transform,
    ScoreSamples,
}

impl From<MethodArgument> for Method {
    fn from(argument: MethodArgument) -> Self {
        match argument {
            MethodArgument::Predict => Self::Predict,
            MethodArgument::PredictProba => Self::PredictProba,
            MethodArgument::PredictLogProba => Self::PredictLogProba,
            MethodArgument::DecisionFunction => Self::DecisionFunction,
            MethodArgument::Transform => Self::Transform,
            MethodArgument::ScoreSamples => Self::ScoreSamples,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormatArgument {
    /// Text for people
    Human,
    /// One JSON object a line
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessLogArgument {
    /// Every answer
    All,
    /// Answers with statuses from 400 up
    Errors,
    /// None
    Off,
}

fn parse_named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        _ => Err("write NAME=PATH, such as iris=models/iris".to_owned()),
    }
}

fn parse_label(text: &str) -> Result<VersionLabel, String> {
    let parts = text.split_once('=').and_then(|(label, place)| {
        let (model, version) = place.rsplit_once(':')?;
        let version = version.parse().ok()?;
        (!label.is_empty() && !model.is_empty()).then(|| VersionLabel {
            label: label.to_owned(),
            model: model.to_owned(),
            version,
        })
    });
    parts.ok_or_else(|| "write LABEL=MODEL:VERSION, such as canary=iris:2".to_owned())
}

/// The shortest pause between two looks at files.
const PAUSE_MIN: Duration = Duration::from_millis(10);

fn parse_pause(text: &str) -> Result<Duration, String> {
    let pause = parse_duration(text)?;
    if pause < PAUSE_MIN {
        return Err("the shortest is 10ms".to_owned());
    }
    Ok(pause)
}

fn parse_rows(text: &str) -> Result<usize, String> {
    let n_rows: u32 = text
        .parse()
        .map_err(|_not_one| "must be a whole number of rows".to_owned())?;
    match usize::try_from(n_rows) {
        Ok(n_rows) if n_rows > 0 => Ok(n_rows),
        _ => Err("must be 1 or more".to_owned()),
    }
}

fn parse_cache(text: &str) -> Result<CacheArgument, String> {
    let (model, size) = match text.rsplit_once('=') {
        Some((model, size)) => (Some(model.to_owned()), size),
        None => (None, text),
    };
    if model.as_deref() == Some("") {
        return Err("write SIZE, or MODEL=SIZE".to_owned());
    }
    let size = parse_size(size)?;
    Ok(CacheArgument { model, size })
}

pub(crate) fn parse_size(text: &str) -> Result<ByteCount, String> {
    let size: ByteCount = text.parse().map_err(|error| format!("{error}"))?;
    match size.as_u64() {
        0 => Err("must be more than nothing".to_owned()),
        _ => Ok(size),
    }
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write such as 500ms, 30s or 5m"))
}

/// The longest time for which a core is kept from resting after a request.
const BUSY_POLL_MAX: Duration = Duration::from_secs(1);

fn parse_busy_poll(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.is_zero() || time > BUSY_POLL_MAX {
        return Err("write more than nothing and at most 1s, such as 100us".to_owned());
    }
    Ok(time)
}

/// KServe's arguments: who starts with one means `serve`.
const KSERVE_ARGUMENTS: [&str; 5] = [
    "--model_name",
    "--model_dir",
    "--http_port",
    "--workers",
    "--max_threads",
];

/// Puts `serve` first where the arguments start with one of KServe's.
pub(crate) fn with_default_command(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let first = arguments
        .get(1)
        .and_then(|argument| argument.to_str())
        .unwrap_or_default();
    let name = first.split('=').next().unwrap_or_default();
    if KSERVE_ARGUMENTS.contains(&name) {
        arguments.insert(1, OsString::from("serve"));
    }
    arguments
}

#[cfg(test)]
mod tests;
