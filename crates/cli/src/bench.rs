//! `coracle bench`: from arguments to a plan, progress on the terminal, the report where it was asked for.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use coracle_bench::{Level, Plan, Progress, Protocol, Sweep, TlsOptions};

use crate::bench_args::BenchArguments;

/// Without a number of connections.
const CONCURRENCY: f64 = 16.0;
/// Where a search begins without a rate.
const SEARCH_START: f64 = 100.0;
const DURATION: Duration = Duration::from_secs(10);
/// A search consists of many loads.
const DURATION_OF_TRIAL: Duration = Duration::from_secs(3);
/// The characters of a bar.
const BAR_WIDTH: usize = 24;

/// Runs the load and prints what came of it; the code tells whether requests failed.
pub(crate) fn run(arguments: &BenchArguments) -> anyhow::Result<ExitCode> {
    let plan = plan(arguments)?;
    let mut teller = Teller::new(arguments.quiet);
    let result = coracle_bench::run(&plan, &mut |progress| teller.tell(&progress));
    teller.clear();
    let report = result?;
    let is_piped = arguments.json.as_deref() == Some(Path::new("-"));
    let json = || serde_json::to_string_pretty(&report.to_json());
    if let Some(path) = arguments.json.as_deref().filter(|_| !is_piped) {
        write(path, &format!("{}\n", json()?))?;
    }
    if let Some(path) = &arguments.plot {
        write(path, &coracle_bench::plot::to_svg(&report))?;
    }
    let shown = if is_piped {
        format!("{}\n", json()?)
    } else {
        report.to_text()
    };
    crate::printed::stdout().write_all(shown.as_bytes())?;
    let is_failure = report.has_failures() && !arguments.allow_errors;
    Ok(if is_failure {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn plan(arguments: &BenchArguments) -> anyhow::Result<Plan> {
    let mut target = arguments.target.clone();
    if let Some(model) = &arguments.model {
        target.model.clone_from(model);
    }
    if let Some(version) = &arguments.model_version {
        target.version.clone_from(version);
    }
    if let Some(protocol) = arguments.protocol {
        target.protocol = Some(Protocol::from(protocol));
    }
    let mut headers = arguments.headers.clone();
    if let Some(token) = &arguments.token {
        let token = match token.strip_prefix('@') {
            Some(path) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?
            }
            None => token.clone(),
        };
        headers.push((
            "authorization".to_owned(),
            format!("Bearer {}", token.trim()),
        ));
    }
    let duration = if arguments.slo.is_some() {
        DURATION_OF_TRIAL
    } else {
        DURATION
    };
    Ok(Plan {
        target,
        tls: TlsOptions {
            authorities: arguments.ca_cert.clone(),
            is_insecure: arguments.insecure,
        },
        headers,
        data: arguments.data.clone(),
        n_rows: usize::try_from(arguments.rows)?,
        shapes: arguments.shapes.clone(),
        seed: arguments.seed,
        sweep: sweep(arguments),
        arrivals: arguments.arrivals.into(),
        warm_up: arguments.warm_up,
        duration: arguments.duration.unwrap_or(duration),
        n_requests: arguments.requests,
        timeout: arguments.timeout,
        n_threads: arguments.threads.map(usize::from),
        is_busy: arguments.busy_poll,
        connections_max: usize::try_from(arguments.connections)?,
        allows_errors: arguments.allow_errors,
        has_timeline: arguments.json.is_some(),
    })
}

fn sweep(arguments: &BenchArguments) -> Sweep {
    let rates = arguments.rate.as_ref().map(|rates| rates.0.as_slice());
    if let Some(slo) = &arguments.slo {
        let start = rates.and_then(|rates| rates.first().copied());
        return Sweep::Search {
            slo: slo.clone(),
            start: start.unwrap_or(SEARCH_START),
        };
    }
    if let Some(rates) = rates {
        return Sweep::Levels(rates.iter().map(|rate| Level::Rate(*rate)).collect());
    }
    let concurrencies = arguments
        .concurrency
        .as_ref()
        .map_or(&[CONCURRENCY][..], |levels| &levels.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be counts"
    )]
    let level = |n: &f64| Level::Concurrency(*n as usize);
    Sweep::Levels(concurrencies.iter().map(level).collect())
}

/// Tells the progress on stderr: a bar on a terminal, a line for each load elsewhere.
struct Teller {
    is_quiet: bool,
    is_terminal: bool,
    has_bar: bool,
    place: String,
}

impl Teller {
    fn new(is_quiet: bool) -> Self {
        Self {
            is_quiet,
            is_terminal: std::io::stderr().is_terminal(),
            has_bar: false,
            place: String::new(),
        }
    }

    fn tell(&mut self, progress: &Progress) {
        if self.is_quiet {
            return;
        }
        match progress {
            Progress::Begins { run, .. } => {
                self.place = match run {
                    Some((index, n_runs)) if *n_runs > 1 => format!("{index}/{n_runs} "),
                    _ => String::new(),
                };
            }
            Progress::Runs { .. } if self.is_terminal => self.bar(progress),
            Progress::Runs { .. } => {}
            Progress::Ended { summary } => {
                self.clear();
                say(&format!("{}{summary}\n", self.place));
            }
        }
    }

    fn bar(&mut self, progress: &Progress) {
        let Progress::Runs {
            load,
            is_warming_up,
            share,
            recent: (n_requests, time),
            n_failed,
        } = progress
        else {
            return;
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a bar"
        )]
        let n_full = (share.clamp(0.0, 1.0) * BAR_WIDTH as f64) as usize;
        let bar = format!("{}{}", "#".repeat(n_full), "-".repeat(BAR_WIDTH - n_full));
        #[expect(clippy::cast_precision_loss, reason = "rounded for display")]
        let rate = *n_requests as f64 / time.as_secs_f64().max(1e-3);
        let state = match (is_warming_up, n_failed) {
            (true, _) => "warming up".to_owned(),
            (false, 0) => format!("{rate:.0} requests/s"),
            (false, n_failed) => format!("{rate:.0} requests/s, {n_failed} failed"),
        };
        say(&format!("\r\x1b[K{}{load} [{bar}] {state}", self.place));
        self.has_bar = true;
    }

    /// Takes the bar away.
    fn clear(&mut self) {
        if std::mem::take(&mut self.has_bar) {
            say("\r\x1b[K");
        }
    }
}

/// Writes to stderr; one that is closed is no reason to stop.
fn say(text: &str) {
    let mut stderr = std::io::stderr();
    drop(
        stderr
            .write_all(text.as_bytes())
            .and_then(|()| stderr.flush()),
    );
}
