//! `cargo xtask bench kernels`: ns per row beside scikit-learn, XGBoost, LightGBM, onnxruntime, treelite, tl2cgen and lleaves.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::machine;
use crate::command;

/// Measures peers and ourselves on the same model files and prints a Markdown table.
pub(crate) fn run(root: &Path) -> Result<()> {
    let work = command::target_directory(root)?.join("bench-kernels");
    std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    let build = [
        "build",
        "--release",
        "--package",
        "coracle-formats",
        "--example",
        "time_model",
    ];
    command::run(&mut command::cargo(root, &build))?;

    eprintln!(
        "measuring the peers (installs pinned Python packages into {})",
        work.display()
    );
    let peers = command::output(
        Command::new("bash")
            .arg(root.join("bench/peers/run.sh"))
            .arg(&work),
    )?;
    let ours = command::output(
        Command::new(command::target_directory(root)?.join("release/examples/time_model"))
            .arg(work.join("models")),
    )?;

    let mut table: BTreeMap<String, BTreeMap<String, [Option<f64>; 2]>> = BTreeMap::new();
    for document in [&peers, &ours] {
        let document: Value = serde_json::from_str(document).context("measurements")?;
        collect(&document, &mut table)?;
    }
    println!("machine: {}", machine());
    println!("one thread; median ns per row, one row / per row of 1,000\n");
    println!("| model | engine | one row | per row of 1,000 | ours is faster by |");
    println!("|---|---|---|---|---|");
    for (model, engines) in &table {
        let ours = engines.get("coracle").copied().unwrap_or_default();
        for (engine, figures) in engines {
            print_row(model, engine, *figures, ours);
        }
    }
    Ok(())
}

fn collect(
    document: &Value,
    table: &mut BTreeMap<String, BTreeMap<String, [Option<f64>; 2]>>,
) -> Result<()> {
    let results = document["results"].as_array().context("no results")?;
    for result in results {
        let text = |key: &str| {
            result[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("no {key} in {result}"))
        };
        let ns = result["ns_per_row_median"]
            .as_f64()
            .with_context(|| format!("no figure in {result}"))?;
        let figures = table
            .entry(text("model")?)
            .or_default()
            .entry(text("peer")?)
            .or_default();
        let column = usize::from(result["rows"].as_u64() != Some(1));
        if let Some(figure) = figures.get_mut(column) {
            *figure = Some(ns);
        }
    }
    Ok(())
}

fn print_row(model: &str, engine: &str, figures: [Option<f64>; 2], ours: [Option<f64>; 2]) {
    let show = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.0}"));
    let ratio = |column: usize| {
        let theirs = figures.get(column).copied().flatten()?;
        let ours = ours.get(column).copied().flatten()?;
        Some(format!("{:.1}", theirs / ours))
    };
    let advantage = if engine == "coracle" {
        "-".to_owned()
    } else {
        let show = |ratio: Option<String>| ratio.unwrap_or_else(|| "-".to_owned());
        format!("{} / {}", show(ratio(0)), show(ratio(1)))
    };
    let [one, many] = figures;
    println!(
        "| {model} | {engine} | {} | {} | {advantage} |",
        show(one),
        show(many)
    );
}
