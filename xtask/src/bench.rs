//! `cargo xtask bench`: measurements beside a peer or a floor, in one run.

pub(crate) mod cache;
pub(crate) mod control;
pub(crate) mod http;
pub(crate) mod kernels;
mod load;
mod load_tool;
pub(crate) mod models;
pub(crate) mod onnx;
pub(crate) mod overload;
pub(crate) mod rows;
mod server;
pub(crate) mod soak;
pub(crate) mod tool;
pub(crate) mod wire;

/// Returns the median of `values`; 0 if there are none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Describes this machine in one line: processor and number of cores.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| "unknown processor".to_owned());
    let megahertz = field("cpu MHz").unwrap_or_default();
    let n_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{model}, {megahertz} MHz, {n_cores} cores")
}
