//! The arguments of `coracle bench` as typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use coracle_bench::slo::Slo;
use coracle_bench::{Arrivals, Protocol, Target, parse_sweep};

use crate::args::parse_duration;

/// Put load on a model server, and see how it bears it.
///
/// URL is that of a model (http://127.0.0.1:8080/v1/models/iris, .../v2/models/iris/versions/3), or of a server, together with --model. Any
/// server that speaks KServe's V1, the Open Inference Protocol (V2) or its gRPC will do, such as KServe's, Triton and MLServer. Requests are
/// made up from the model's metadata, or read from a file.
///
/// Latencies are counted from the time a request was to be sent. The status is 1 if a request failed (see --allow-errors).
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  coracle bench http://127.0.0.1:8080/v1/models/iris               16 connections, 10 seconds\n  coracle bench http://127.0.0.1:8080 --model iris --protocol grpc\n  coracle bench URL --concurrency 1:64 --plot iris.svg             1, 2, 4 ... 64 connections, with a picture\n  coracle bench URL --rate 5000                                    5,000 requests per second, as independent callers send them\n  coracle bench URL --slo p99=50ms                                 the highest rate at which 99 of 100 answers take 50 ms or less\n  coracle bench URL --data rows.csv --rows 100                     requests of 100 rows from a file\n  coracle bench URL --data body.json --json out.json -H 'Host: iris.example.com'\n\ndocs/benchmarking.md tells how to read the numbers."
)]
pub(crate) struct BenchArguments {
    /// The model, or the server
    #[arg(value_name = "URL", value_parser = parse_target)]
    pub(crate) target: Target,

    /// The model, where the URL does not name one [default: the only one that the server lists]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// The model's version [default: the server's choice]
    #[arg(long, value_name = "VERSION")]
    pub(crate) model_version: Option<String>,

    /// How the model is asked [default: as the URL says, else v2]
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    pub(crate) protocol: Option<ProtocolArgument>,

    /// Connections, each with one request at a time: 16, or several loads: 1,2,4 or 1:64 (doubles) or 8:64:8 (adds 8) [default: 16]
    #[arg(short = 'c', long, value_name = "N", value_parser = parse_concurrency, conflicts_with_all = ["rate", "slo"])]
    pub(crate) concurrency: Option<Levels>,

    /// Requests per second, whatever the server does: one rate or several, as above
    #[arg(short = 'r', long, value_name = "N", value_parser = parse_rates)]
    pub(crate) rate: Option<Levels>,

    /// How requests follow one another with --rate and --slo
    #[arg(long, value_enum, default_value = "poisson", value_name = "HOW")]
    pub(crate) arrivals: ArrivalsArgument,

    /// Search the highest rate that keeps this: p99=50ms, mean=2ms, p99.9=1s,errors=0.1% (begins at --rate, or 100)
    #[arg(long, value_name = "OBJECTIVE", value_parser = parse_slo)]
    pub(crate) slo: Option<Slo>,

    /// The most connections with --rate and --slo; they are opened as they are needed
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,

    /// How long each load is measured [default: 10s; 3s with --slo]
    #[arg(short = 'd', long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,

    /// Measure so many requests of each load instead
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = ["duration", "slo"], value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,

    /// How long each load runs before it is measured
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) warm_up: Duration,

    /// A file of requests: .json (a body), .jsonl (a body a line), .csv (rows, the first line names columns), .npy (rows)
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// Rows of a request, where it is made of rows or made up
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rows: u32,

    /// The shape of an input whose metadata leaves it open, such as image:1,3,224,224; may be given several times
    #[arg(long = "shape", value_name = "INPUT:SIZES", value_parser = parse_shape)]
    pub(crate) shapes: Vec<(String, Vec<usize>)>,

    /// Where random numbers begin: the same seed makes the same requests at the same times
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,

    /// A header of every request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,

    /// A bearer token, or @FILE to read it from a file
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Authorities to believe instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,

    /// Believe any certificate
    #[arg(short = 'k', long, conflicts_with = "ca_cert")]
    pub(crate) insecure: bool,

    /// How long an answer, or a connection, may take
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Duration,

    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Threads that wait for answers do not sleep: measures the server alone, not how soon this system wakes a client. Takes a core
    /// for each thread
    #[arg(long)]
    pub(crate) busy_poll: bool,

    /// Write what was measured as JSON, over time, too; - for the standard output, without the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draw latency against throughput (SVG)
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,

    /// Run the load although the first request fails, and end with status 0 although some do
    #[arg(long)]
    pub(crate) allow_errors: bool,

    /// Tell no progress
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
}

/// Several loads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Levels(pub(crate) Vec<f64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolArgument {
    /// KServe's V1
    V1,
    /// The Open Inference Protocol, JSON
    V2,
    /// The same with raw bytes after the JSON
    V2Binary,
    /// The same over gRPC
    Grpc,
}

impl From<ProtocolArgument> for Protocol {
    fn from(argument: ProtocolArgument) -> Self {
        match argument {
            ProtocolArgument::V1 => Self::V1,
            ProtocolArgument::V2 => Self::V2,
            ProtocolArgument::V2Binary => Self::V2Binary,
            ProtocolArgument::Grpc => Self::Grpc,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArrivalsArgument {
    /// Evenly
    Constant,
    /// As callers come that know nothing of one another
    Poisson,
}

impl From<ArrivalsArgument> for Arrivals {
    fn from(argument: ArrivalsArgument) -> Self {
        match argument {
            ArrivalsArgument::Constant => Self::Constant,
            ArrivalsArgument::Poisson => Self::Poisson,
        }
    }
}

fn parse_target(text: &str) -> Result<Target, String> {
    Target::parse(text).map_err(|error| error.to_string())
}

fn parse_rates(text: &str) -> Result<Levels, String> {
    parse_sweep(text)
        .map(Levels)
        .map_err(|error| error.to_string())
}

/// The most connections of a closed loop.
const CONCURRENCY_MAX: f64 = 100_000.0;

fn parse_concurrency(text: &str) -> Result<Levels, String> {
    let levels = parse_rates(text)?;
    let is_count = |level: &f64| level.fract() == 0.0 && *level <= CONCURRENCY_MAX;
    if !levels.0.iter().all(is_count) {
        return Err("whole numbers from 1 to 100,000 are allowed".to_owned());
    }
    Ok(levels)
}

fn parse_slo(text: &str) -> Result<Slo, String> {
    Slo::parse(text).map_err(|error| error.to_string())
}

fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let parts = text.rsplit_once(':').and_then(|(name, sizes)| {
        let sizes = sizes.split(',').map(|size| size.trim().parse().ok());
        let sizes: Option<Vec<usize>> = sizes.collect();
        sizes
            .filter(|_| !name.is_empty())
            .map(|sizes| (name.to_owned(), sizes))
    });
    parts.ok_or_else(|| "write INPUT:SIZES, such as image:1,3,224,224".to_owned())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write NAME: VALUE, such as 'Host: iris.example.com'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_shapes_and_headers_are_read() {
        assert_eq!(
            parse_concurrency("1:8"),
            Ok(Levels(vec![1.0, 2.0, 4.0, 8.0]))
        );
        assert!(parse_concurrency("1.5").is_err() && parse_concurrency("100001").is_err());
        assert_eq!(parse_shape("a:b:1,3"), Ok(("a:b".to_owned(), vec![1, 3])));
        assert!(
            parse_shape("image").is_err()
                && parse_shape(":1").is_err()
                && parse_shape("a:1,-1").is_err()
        );
        let header = ("Host".to_owned(), "h:80".to_owned());
        assert_eq!(parse_header("Host: h:80"), Ok(header));
        assert!(parse_header("Host").is_err());
    }
}
