//! `cargo xtask bench models`: far more models than fit in memory, every request answered, memory within its budget.

mod client;
mod trees;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::client::Client;
use self::trees::{Ensemble, Random};
use super::machine;
use super::server::Server;
use crate::command;

/// How large a run is.
#[derive(Clone, Copy)]
struct Scale {
    n_models: usize,
    /// So many models fit in the budget.
    n_resident: u64,
    n_trees: usize,
    n_alone: usize,
    n_uniform: usize,
    n_zipf: usize,
    /// What may be resident beyond the budget and a tenth of it: what a debug build touches of its own code.
    slack_bytes: u64,
}

const LONG: Scale = Scale {
    n_models: 2_000,
    n_resident: 50,
    n_trees: 1_000,
    n_alone: 500,
    n_uniform: 5_000,
    n_zipf: 20_000,
    slack_bytes: 0,
};

/// The files of models that differ; the other models are links to them.
const N_FILES: usize = 16;
const CONCURRENCY: usize = 16;
/// The exponent of Zipf's law: the most popular of 2,000 models gets an eighth of the requests.
const ZIPF: f64 = 1.0;
const ROWS: usize = 4;

/// Measures with a release build, and prints a Markdown table for docs/performance.md.
pub(crate) fn run(root: &Path) -> Result<()> {
    let build = ["build", "--release", "--package", "coracle-cli"];
    command::run(&mut command::cargo(root, &build))?;
    println!("machine: {}", machine());
    let target = command::target_directory(root)?;
    measure(
        &target.join("release/coracle"),
        &target.join("bench-models"),
        LONG,
    )
}

/// Checks in short what the benchmark measures, with any build.
///
/// # Errors
/// If a request fails, an answer is wrong, or memory is beyond the budget.
pub(crate) fn check(coracle: &Path, target: &Path) -> Result<()> {
    let scale = Scale {
        n_models: 200,
        n_resident: 8,
        n_trees: 60,
        n_alone: 60,
        n_uniform: 400,
        n_zipf: 400,
        slack_bytes: 24 << 20,
    };
    measure(coracle, &target.join("exercise-models"), scale)
}

/// A directory of models, and what they answer.
struct Fleet {
    directory: PathBuf,
    ensembles: Vec<Ensemble>,
    n_models: usize,
    rows: Vec<Vec<f64>>,
}

impl Fleet {
    fn make(work: &Path, scale: Scale) -> Result<Self> {
        if work.exists() {
            std::fs::remove_dir_all(work)?;
        }
        let mut random = Random::new(6);
        let mut ensembles = Vec::new();
        for index in 0..N_FILES {
            let ensemble = Ensemble::random(&mut random, scale.n_trees);
            let place = work.join(format!("files/{index}"));
            std::fs::create_dir_all(&place)?;
            std::fs::write(place.join("model.txt"), ensemble.to_text())?;
            ensembles.push(ensemble);
        }
        let directory = work.join("models");
        for model in 0..scale.n_models {
            let place = directory.join(format!("m{model}"));
            std::fs::create_dir_all(&place)?;
            let file = work.join(format!("files/{}/model.txt", model % N_FILES));
            std::os::unix::fs::symlink(file, place.join("model.txt"))?;
        }
        let row = |_| (0..trees::N_FEATURES).map(|_| random.unit()).collect();
        Ok(Self {
            rows: (0..ROWS).map(row).collect(),
            directory,
            ensembles,
            n_models: scale.n_models,
        })
    }

    /// Asks a model, and checks its answer; returns the time it took.
    fn ask(&self, client: &mut Client, model: usize, turn: usize) -> Result<Duration> {
        let row = &self.rows[turn % ROWS];
        let expected = self.ensembles[model % N_FILES].predict(row);
        let (answer, took) = client.predict(&format!("m{model}"), row)?;
        ensure!(
            answer.to_bits() == expected.to_bits(),
            "m{model} answered {answer}, expected {expected}"
        );
        Ok(took)
    }
}

fn measure(coracle: &Path, work: &Path, scale: Scale) -> Result<()> {
    let fleet = Fleet::make(work, scale)?;
    let file = work.join("files/0");
    let model_bytes = {
        let server = serve(coracle, &file, None)?;
        client::metric(server.address, "coracle_model_memory_bytes")?
    };
    let budget = model_bytes * scale.n_resident;
    let file_bytes = std::fs::metadata(file.join("model.txt"))?.len();
    let empty_kib = {
        let small = work.join("small");
        std::fs::create_dir_all(&small)?;
        let ensemble = Ensemble::random(&mut Random::new(1), 1);
        std::fs::write(small.join("model.txt"), ensemble.to_text())?;
        let server = serve(coracle, &small, Some(budget))?;
        Client::connect(server.address)?.predict("small", &fleet.rows[0])?;
        server.resident_kib()?
    };
    let server = serve(coracle, &fleet.directory, Some(budget))?;
    println!(
        "{} models of {:.2} MB in memory ({:.2} MB on disk); a budget of {:.1} MB, enough for {}\n",
        scale.n_models,
        megabytes(model_bytes),
        megabytes(file_bytes),
        megabytes(budget),
        scale.n_resident
    );
    println!(
        "| requests | at a time | number | per second | p50 ms | p99 ms | loads | resident at most, above the empty server |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let uniform = |random: &mut Random| random.below(scale.n_models);
    let zipf = Zipf::new(scale.n_models);
    let zipf = |random: &mut Random| zipf.draw(random);
    let phase = |n_clients, n_requests, choice| Phase {
        fleet: &fleet,
        server: &server,
        n_clients,
        n_requests,
        choice,
    };
    let kinds = [
        (
            "every one to a model that is not in memory",
            phase(1, scale.n_alone, None),
        ),
        (
            "uniform over all models",
            phase(CONCURRENCY, scale.n_uniform, Some(&uniform as _)),
        ),
        (
            "by Zipf's law",
            phase(CONCURRENCY, scale.n_zipf, Some(&zipf as _)),
        ),
    ];
    for (name, phase) in kinds {
        phase.report(name, (budget, scale.slack_bytes), empty_kib * 1024)?;
    }
    report(&server, budget)
}

/// Says what the server has counted.
fn report(server: &Server, budget: u64) -> Result<()> {
    let count = |name: &str| client::metric(server.address, name);
    let used = count("coracle_memory_budget_used_bytes")?;
    ensure!(used <= budget, "{used} bytes used of a budget of {budget}");
    let failures = count("coracle_model_load_failures_total")?;
    ensure!(failures == 0, "{failures} loads failed");
    println!(
        "\nevery answer right; {} loads ahead, {} for a request, {} evictions; {} models resident at the end",
        count("coracle_model_loads_total{reason=\"ahead\"}")?,
        count("coracle_model_loads_total{reason=\"request\"}")?,
        count("coracle_model_evictions_total")?,
        count("coracle_models_resident")?
    );
    Ok(())
}

fn serve(coracle: &Path, path: &Path, budget: Option<u64>) -> Result<Server> {
    let mut command = Command::new(coracle);
    command.arg("serve").arg(path).args(["--port", "0"]);
    if let Some(budget) = budget {
        command.args(["--memory-budget", &budget.to_string()]);
    }
    Server::start(&mut command)
}

/// Which model the next request is for.
type Choice<'a> = dyn Fn(&mut Random) -> usize + Sync + 'a;

/// One kind of load on the server.
struct Phase<'a> {
    fleet: &'a Fleet,
    server: &'a Server,
    n_clients: usize,
    n_requests: usize,
    /// Without one, models are asked in turn.
    choice: Option<&'a Choice<'a>>,
}

struct Measured {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    n_loads: u64,
    resident_max: u64,
}

impl Phase<'_> {
    /// Runs it, and prints a line of the table.
    fn report(&self, name: &str, (budget, slack): (u64, u64), empty: u64) -> Result<()> {
        let measured = self.run()?;
        let growth = measured.resident_max.saturating_sub(empty);
        println!(
            "| {name} | {} | {} | {:.0} | {:.2} | {:.2} | {} | {:.1} MB, {} % of the budget |",
            self.n_clients,
            self.n_requests,
            measured.per_second,
            measured.p50_ms,
            measured.p99_ms,
            measured.n_loads,
            megabytes(growth),
            growth * 100 / budget
        );
        ensure!(
            growth <= budget + budget / 10 + slack,
            "{name}: grew by {growth} bytes with a budget of {budget}"
        );
        Ok(())
    }

    #[expect(
        clippy::disallowed_types,
        clippy::cast_precision_loss,
        reason = "a benchmark measures the machine's time, rounded for display"
    )]
    fn run(&self) -> Result<Measured> {
        const LOADS: &str = "coracle_model_loads_total{reason=\"request\"}";
        let loads_before = client::metric(self.server.address, LOADS)?;
        let (turn, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let resident_max = AtomicU64::new(0);
        let started = std::time::Instant::now();
        let times = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok(kib) = self.server.resident_kib() {
                        resident_max.fetch_max(kib * 1024, Ordering::Relaxed);
                    }
                    std::thread::park_timeout(Duration::from_millis(10));
                }
            });
            let clients: Vec<_> = (0..self.n_clients)
                .map(|client| {
                    let turn = &turn;
                    scope.spawn(move || self.ask(client, turn))
                })
                .collect();
            let times: Vec<Result<Vec<Duration>>> = clients
                .into_iter()
                .map(|client| match client.join() {
                    Ok(times) => times,
                    Err(_panic) => bail!("a client panicked"),
                })
                .collect();
            is_over.store(true, Ordering::Relaxed);
            watch.thread().unpark();
            times.into_iter().collect::<Result<Vec<_>>>()
        })?;
        let elapsed = started.elapsed();
        let mut times: Vec<Duration> = times.into_iter().flatten().collect();
        times.sort_unstable();
        let at = |share: usize| {
            let time = times.get(times.len() * share / 100);
            time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Ok(Measured {
            per_second: times.len() as f64 / elapsed.as_secs_f64(),
            p50_ms: at(50),
            p99_ms: at(99),
            n_loads: client::metric(self.server.address, LOADS)? - loads_before,
            resident_max: resident_max.load(Ordering::Relaxed),
        })
    }

    fn ask(&self, client: usize, turn: &AtomicUsize) -> Result<Vec<Duration>> {
        let mut random = Random::new(u64::try_from(client)? + 100);
        let mut client = Client::connect(self.server.address)?;
        let mut times = Vec::new();
        loop {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            if turn >= self.n_requests {
                return Ok(times);
            }
            let model = match self.choice {
                Some(choose) => choose(&mut random),
                // From the end: the first ones are there already.
                None => self.fleet.n_models - 1 - turn % self.fleet.n_models,
            };
            let took = self.fleet.ask(&mut client, model, turn);
            times.push(took.with_context(|| format!("request {turn}"))?);
        }
    }
}

/// Popularity by rank.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    fn new(n: usize) -> Self {
        let mut sum = 0.0;
        let weights = (1..=n).map(|rank| {
            sum += (rank as f64).powf(-ZIPF);
            sum
        });
        Self {
            sums: weights.collect(),
        }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let total = self.sums.last().copied().unwrap_or_default();
        let point = random.unit() * total;
        let rank = self.sums.partition_point(|sum| *sum < point);
        // Popular models are spread over the directory.
        let n = self.sums.len();
        rank.min(n - 1) * 7919 % n
    }
}

#[expect(clippy::cast_precision_loss, reason = "rounded for display")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
