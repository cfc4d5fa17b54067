//! Texts to embeddings: served, beside a loop of tokenising, running and pooling in Python with the same libraries.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{CONCURRENCY, Peer, Scale, text};
use crate::bench::load_tool::{self, number};
use crate::bench::median;
use crate::bench::server::Server;

/// Measures, and prints a table of its own.
pub(super) fn measure(
    peer: &Peer,
    built: &Value,
    (coracle, server): (&Path, &Server),
    scale: Scale,
) -> Result<()> {
    let body = built["text_body"].as_str().context("no text")?;
    let directory = peer.work.join("models/sentences");
    let url = format!("http://{}/v1/models/sentences", server.address);
    let seconds = scale.seconds.to_string();
    let duration = format!("{seconds}s");
    let mut rounds = Vec::new();
    for _ in 0..scale.n_rounds {
        let python = peer.ask(&["texts", text(&directory)?, &seconds])?;
        let arguments = ["--data", body, "-c", CONCURRENCY, "-d", &duration];
        let served = load_tool::run(coracle, &url, &arguments)?;
        rounds.push((
            number(&python, "/texts_per_s")?,
            number(&served, "/runs/0/requests_per_s")?,
        ));
    }
    let middle = |value: &dyn Fn(&(f64, f64)) -> f64| {
        median(&mut rounds.iter().map(value).collect::<Vec<_>>())
    };
    println!(
        "\n| texts of {} tokens to embeddings, V1, one a request | loop on all cores, texts/s | served at {CONCURRENCY} connections, texts/s | ratio |",
        built["tokens"]
    );
    println!("|---|---|---|---|");
    println!(
        "| encoder with mask, mean, normalised | {:.0} | {:.0} | {:.2} |",
        middle(&|round| round.0),
        middle(&|round| round.1),
        middle(&|round| round.1 / round.0),
    );
    Ok(())
}
