//! `cargo xtask bench onnx`: graphs on ONNX Runtime, served, beside `session.run` in Python with the same library.
//!
//! One request after another is measured twice: with client and server that sleep while they wait, beside a session whose threads sleep,
//! too; and with both that do not (`--busy-poll`), which leaves out how long the system takes to wake them, beside a session as Python
//! users have it, whose threads spin. A client that does not sleep takes a core, so it sleeps where a run is long and needs them all.
//!
//! Since a machine's speed changes from second to second, what serving adds is measured once more in turns of a moment (`socket`), beside the
//! least that a socket adds.

mod socket;
mod texts;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use self::socket::Floor;
use super::load_tool::{self, number};
use super::server::Server;
use super::{machine, median};
use crate::command;

/// How long it is measured.
#[derive(Clone, Copy)]
struct Scale {
    /// Python and the server take turns this often for each graph.
    n_rounds: usize,
    seconds: u32,
    /// The same of the turns of a moment.
    turns: (usize, u32),
    /// Whether the server is a release build.
    is_release: bool,
}

const CONCURRENCY: &str = "16";
/// How long after a request the server without sleep looks for the next one.
const BUSY_POLL: &str = "200us";

/// A run that takes longer has work for all cores.
const SHORT_RUN_US: f64 = 1_000.0;

/// What one round measured.
struct Round {
    alone: Times,
    /// The median of a session whose threads sleep.
    asleep_p50_us: f64,
    served: Times,
    /// By a server that does not sleep, to a client that does not.
    awake: Times,
    /// A loop in this process, and requests over connections.
    runs_per_s: f64,
    requests_per_s: f64,
}

struct Times {
    p50_us: f64,
    p99_us: f64,
}

/// Measures with a release build, and prints a Markdown table for docs/performance.md.
pub(crate) fn run(root: &Path) -> Result<()> {
    let build = ["build", "--release", "--package", "coracle-cli"];
    command::run(&mut command::cargo(root, &build))?;
    let coracle = command::target_directory(root)?.join("release/coracle");
    let scale = Scale {
        n_rounds: 5,
        seconds: 3,
        turns: (3, 9),
        is_release: true,
    };
    measure(root, &coracle, scale)
}

/// The same in short, with any build: shows that it runs, and nothing of how fast.
pub(crate) fn try_out(root: &Path, coracle: &Path) -> Result<()> {
    let scale = Scale {
        n_rounds: 1,
        seconds: 1,
        turns: (1, 1),
        is_release: false,
    };
    measure(root, coracle, scale)
}

fn measure(root: &Path, coracle: &Path, scale: Scale) -> Result<()> {
    let work = command::target_directory(root)?.join("bench-onnx");
    let peer = Peer {
        script: root.join("bench/onnx/run.sh"),
        work: work.clone(),
    };
    let models = work.join("models");
    let built = peer.ask(&["build", text(&models)?])?;
    let library = built["library"].as_str().context("no library")?;
    let graphs = built["graphs"].as_array().context("no graphs")?;
    let tokens = built["tokens"].as_u64().context("no number of tokens")?;
    let start = |further: &[&str]| {
        let mut serve = Command::new(coracle);
        serve.arg("serve").arg(&models);
        serve.args(["--port", "0", "--onnxruntime", library]);
        Server::start(serve.args(further))
    };
    let (server, awake) = (start(&[])?, start(&["--busy-poll", BUSY_POLL])?);
    println!("machine: {}", machine());
    println!(
        "one row a request, V2 with binary tensors; the load comes from the same machine. Medians of {} rounds\n",
        scale.n_rounds
    );
    println!(
        "| graph | session.run, threads that sleep: p50 us | served p50 / p99 us | more, us | session.run p50 / p99 us | served without sleep p50 / p99 us | more, us | loop on all cores, runs/s | served at {CONCURRENCY} connections, req/s | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for graph in graphs {
        let graph = graph.as_str().context("a graph has no name")?;
        let file = models.join(graph).join("model.onnx");
        let url = |server: &Server| format!("http://{}/v2/models/{graph}", server.address);
        let shape = format!("ids:1,{tokens}");
        // One graph has a size that its metadata leaves open.
        let shapes: &[&str] = match graph {
            "encoder" => &["--shape", &shape],
            _ => &[],
        };
        let mut rounds = Vec::new();
        for _ in 0..scale.n_rounds {
            let python = peer.ask(&["run", text(&file)?, &scale.seconds.to_string()])?;
            let load = |server: &Server, connections: &str, further: &[&str]| {
                let seconds = format!("{}s", scale.seconds);
                let fixed = ["--protocol", "v2-binary", "-c", connections, "-d", &seconds];
                let arguments: Vec<&str> =
                    fixed.iter().chain(shapes).chain(further).copied().collect();
                load_tool::run(coracle, &url(server), &arguments)
            };
            let one = load(&server, "1", &[])?;
            let is_short = number(&python, "/p50_us")? < SHORT_RUN_US;
            let never_sleeps: &[&str] = if is_short { &["--busy-poll"] } else { &[] };
            let one_awake = load(&awake, "1", never_sleeps)?;
            let many = load(&server, CONCURRENCY, &[])?;
            rounds.push(round(&python, (&one, &one_awake), &many)?);
        }
        print_row(graph, &rounds);
    }
    let floor = Floor::build(root, scale.is_release, &built)?;
    floor.measure((graphs, &models), (&server, &awake), scale.turns)?;
    texts::measure(&peer, &built, (coracle, &server), scale)
}

/// ONNX Runtime in Python.
struct Peer {
    script: PathBuf,
    work: PathBuf,
}

impl Peer {
    fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let mut run = Command::new("bash");
        run.arg(&self.script).arg(&self.work).args(arguments);
        let printed = command::output(&mut run)?;
        serde_json::from_str(&printed).with_context(|| format!("{run:?} printed {printed}"))
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the target directory is no text")
}

fn round(python: &Value, (one, awake): (&Value, &Value), many: &Value) -> Result<Round> {
    let times = |report: &Value| -> Result<Times> {
        let run = &report["runs"][0];
        Ok(Times {
            p50_us: number(run, "/latency_us/p50")?,
            p99_us: number(run, "/latency_us/p99")?,
        })
    };
    Ok(Round {
        alone: Times {
            p50_us: number(python, "/p50_us")?,
            p99_us: number(python, "/p99_us")?,
        },
        asleep_p50_us: number(python, "/asleep_p50_us")?,
        served: times(one)?,
        awake: times(awake)?,
        runs_per_s: number(python, "/runs_per_s")?,
        requests_per_s: number(many, "/runs/0/requests_per_s")?,
    })
}

fn print_row(graph: &str, rounds: &[Round]) {
    let middle =
        |value: &dyn Fn(&Round) -> f64| median(&mut rounds.iter().map(value).collect::<Vec<_>>());
    println!(
        "| {graph} | {:.0} | {:.0} / {:.0} | {:.0} | {:.0} / {:.0} | {:.0} / {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |",
        middle(&|round| round.asleep_p50_us),
        middle(&|round| round.served.p50_us),
        middle(&|round| round.served.p99_us),
        middle(&|round| round.served.p50_us - round.asleep_p50_us),
        middle(&|round| round.alone.p50_us),
        middle(&|round| round.alone.p99_us),
        middle(&|round| round.awake.p50_us),
        middle(&|round| round.awake.p99_us),
        middle(&|round| round.awake.p50_us - round.alone.p50_us),
        middle(&|round| round.runs_per_s),
        middle(&|round| round.requests_per_s),
        middle(&|round| round.requests_per_s / round.runs_per_s),
    );
}
