//! A run in a process, behind a socket at the very least, and served: taking turns of a moment, so that what else the machine does meets all alike.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::load_tool::number;
use super::super::median;
use super::super::server::Server;
use super::text;
use crate::command;

/// What takes the turns: an example of `coracle-onnxruntime`.
pub(super) struct Floor {
    program: PathBuf,
    library: String,
    tokens: String,
}

/// Medians in microseconds, with threads that sleep while they wait, or that do not.
struct Found {
    run: f64,
    thread: f64,
    server: f64,
    server_p99: f64,
}

impl Floor {
    /// Builds it, as the server was.
    pub(super) fn build(root: &Path, is_release: bool, built: &Value) -> Result<Self> {
        let mut build = vec!["build", "--package", "coracle-onnxruntime"];
        build.extend(["--example", "behind_a_socket"]);
        build.extend(is_release.then_some("--release"));
        command::run(&mut command::cargo(root, &build))?;
        let profile = if is_release { "release" } else { "debug" };
        let examples = command::target_directory(root)?
            .join(profile)
            .join("examples");
        let tokens = built["tokens"].as_u64().context("no number of tokens")?;
        Ok(Self {
            program: examples.join("behind_a_socket"),
            library: built["library"].as_str().context("no library")?.to_owned(),
            tokens: tokens.to_string(),
        })
    }

    fn ask(
        &self,
        (graph, file): (&str, &Path),
        server: &Server,
        option: Option<&str>,
        seconds: u32,
    ) -> Result<Found> {
        let mut ask = Command::new(&self.program);
        ask.args([
            &self.library,
            text(file)?,
            &self.tokens,
            &seconds.to_string(),
        ]);
        ask.args([server.address.to_string().as_str(), graph]);
        let printed = command::output(ask.args(option))?;
        let found: Value = serde_json::from_str(&printed)?;
        Ok(Found {
            run: number(&found, "/run/p50_us")?,
            thread: number(&found, "/thread/p50_us")?,
            server: number(&found, "/server/p50_us")?,
            server_p99: number(&found, "/server/p99_us")?,
        })
    }

    /// Prints a table of all graphs, which lie in `models`.
    pub(super) fn measure(
        &self,
        (graphs, models): (&[Value], &Path),
        (server, awake): (&Server, &Server),
        (n_rounds, seconds): (usize, u32),
    ) -> Result<()> {
        println!(
            "\nIn turns of 250 ms, one request after another, by a client that sleeps; \"a thread\" does nothing but read a request, run and answer. Medians of {n_rounds} rounds\n"
        );
        println!(
            "| graph | a run: p50 us | a thread: more, us | served p50 / p99 us | more, us | without sleep, a run: p50 us | a thread: more, us | served p50 / p99 us | more, us |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for graph in graphs {
            let graph = graph.as_str().context("a graph has no name")?;
            let file = models.join(graph).join("model.onnx");
            let mut rounds = Vec::new();
            for _ in 0..n_rounds {
                let asleep = self.ask((graph, &file), server, None, seconds)?;
                rounds.push((
                    asleep,
                    self.ask((graph, &file), awake, Some("--spin"), seconds)?,
                ));
            }
            let cells = |found: &dyn Fn(&(Found, Found)) -> &Found| {
                let middle = |value: &dyn Fn(&Found) -> f64| {
                    median(
                        &mut rounds
                            .iter()
                            .map(|round| value(found(round)))
                            .collect::<Vec<_>>(),
                    )
                };
                format!(
                    "{:.0} | {:.0} | {:.0} / {:.0} | {:.0}",
                    middle(&|found| found.run),
                    middle(&|found| found.thread - found.run),
                    middle(&|found| found.server),
                    middle(&|found| found.server_p99),
                    middle(&|found| found.server - found.run),
                )
            };
            println!(
                "| {graph} | {} | {} |",
                cells(&|round| &round.0),
                cells(&|round| &round.1)
            );
        }
        Ok(())
    }
}
