//! Load from `wrk`, and its report read back.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// What one run of `wrk` measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) requests_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Posts the body that `script` names to `path` over `n_connections` keep-alive connections for `seconds`.
pub(crate) fn drive(
    address: SocketAddr,
    path: &str,
    script: &Path,
    n_connections: usize,
    seconds: u32,
) -> Result<Measured> {
    let n_threads = if n_connections > 1 { 2 } else { 1 };
    let mut wrk = Command::new("wrk");
    wrk.args(["--latency", "-t", &n_threads.to_string()])
        .args([
            "-c",
            &n_connections.to_string(),
            "-d",
            &format!("{seconds}s"),
        ])
        .arg("-s")
        .arg(script)
        .arg(format!("http://{address}{path}"));
    let report =
        command::output(&mut wrk).context("is `wrk` installed? on Debian: apt-get install wrk")?;
    parse(&report)
}

fn parse(report: &str) -> Result<Measured> {
    if let Some(line) = report
        .lines()
        .find(|line| line.contains("Non-2xx") || line.contains("Socket errors"))
    {
        bail!("wrk met failures: {}", line.trim());
    }
    let field = |start: &str| {
        let line = report
            .lines()
            .find_map(|line| line.trim().strip_prefix(start));
        line.map(str::trim)
            .with_context(|| format!("no {start:?} in {report}"))
    };
    Ok(Measured {
        requests_per_s: field("Requests/sec:")?.parse()?,
        p50_us: parse_duration_us(field("50%")?)?,
        p99_us: parse_duration_us(field("99%")?)?,
    })
}

fn parse_duration_us(text: &str) -> Result<f64> {
    let digits_end = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let scale = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => bail!("unknown unit in {text:?}"),
    };
    Ok(number.parse::<f64>()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Running 1s test @ http://127.0.0.1:8080/\n  Latency Distribution\n     50%  201.00us\n     75%  300.00us\n     90%    0.90ms\n     99%    1.20ms\n  1000 requests in 1.00s\nRequests/sec:  61234.50\nTransfer/sec:      9.10MB\n";

    #[test]
    fn reads_the_report_of_wrk() {
        let measured = parse(REPORT).unwrap();
        assert_eq!(measured.requests_per_s, 61234.5);
        assert_eq!(measured.p50_us, 201.0);
        assert_eq!(measured.p99_us, 1200.0);
    }

    #[test]
    fn failed_requests_fail_the_benchmark() {
        let report = format!("{REPORT}  Non-2xx or 3xx responses: 12\n");
        assert!(parse(&report).unwrap_err().to_string().contains("12"));
    }
}
