//! What is to be run.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::slo::Slo;
use crate::{Arrivals, BenchError, Target, TlsOptions};

/// How much load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// So many connections, each with one request at a time (a closed loop).
    Concurrency(usize),
    /// So many requests per second, whatever the server does (an open loop).
    Rate(f64),
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Concurrency(n) => write!(f, "concurrency {n}"),
            Self::Rate(rate) => write!(f, "{rate:.0}/s"),
        }
    }
}

/// Which loads.
#[derive(Clone, Debug, PartialEq)]
pub enum Sweep {
    /// These, one after another.
    Levels(Vec<Level>),
    /// Rates, in search of the highest that keeps an objective.
    Search {
        /// The objective.
        slo: Slo,
        /// The first rate that is tried.
        start: f64,
    },
}

/// A whole run: whom to ask, what, how, how much.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model.
    pub target: Target,
    /// Whose certificates are believed.
    pub tls: TlsOptions,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// A file of requests; `None` to make them up from the model's metadata.
    pub data: Option<PathBuf>,
    /// Rows of a request, where the requests are made here.
    pub n_rows: usize,
    /// Shapes for inputs whose metadata leaves them open.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Where random numbers begin.
    pub seed: u64,
    /// Which loads.
    pub sweep: Sweep,
    /// How requests of an open loop follow one another.
    pub arrivals: Arrivals,
    /// How long each load runs before it is measured.
    pub warm_up: Duration,
    /// How long each load is measured.
    pub duration: Duration,
    /// How many requests of each load are measured, instead of a duration.
    pub n_requests: Option<u64>,
    /// How long an answer, or a connection, may take.
    pub timeout: Duration,
    /// Threads; `None` for one per core, if there are as many connections.
    pub n_threads: Option<usize>,
    /// Whether they never sleep while they wait for answers.
    pub is_busy: bool,
    /// The most connections of an open loop.
    pub connections_max: usize,
    /// Whether the load is run although the first request fails.
    pub allows_errors: bool,
    /// Whether measurements over time are kept.
    pub has_timeline: bool,
}

/// The most levels of a sweep.
const LEVELS_MAX: usize = 1_000;

/// Reads numbers: one (`16`), a list (`1,2,4`), or a range: `1:64` doubles, `1:64:x4` multiplies by 4, `10:100:10` adds 10.
///
/// # Errors
/// [`BenchError::Load`] with what was expected.
pub fn parse_sweep(text: &str) -> Result<Vec<f64>, BenchError> {
    let fault = |what: &str| {
        BenchError::Load(format!(
            "{text:?}: {what}; write a number (16), a list (1,2,4) or a range (1:64 doubles, 1:64:x4 multiplies, 10:100:10 adds)"
        ))
    };
    let number = |text: &str| match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err(fault("not a number above zero")),
    };
    let mut levels = Vec::new();
    for part in text.split(',') {
        let mut bounds = part.split(':');
        let first = number(bounds.next().unwrap_or_default())?;
        let Some(last) = bounds.next() else {
            levels.push(first);
            continue;
        };
        let last = number(last)?;
        let step = bounds.next().unwrap_or("x2");
        if bounds.next().is_some() {
            return Err(fault("too many colons"));
        }
        let next: Box<dyn Fn(f64) -> f64> = match step.strip_prefix('x') {
            Some(factor) => {
                let factor = number(factor)?;
                if factor <= 1.0 {
                    return Err(fault("a factor must be above 1"));
                }
                Box::new(move |level| level * factor)
            }
            None => {
                let step = number(step)?;
                Box::new(move |level| level + step)
            }
        };
        if last < first {
            return Err(fault("the range ends before it begins"));
        }
        let mut level = first;
        while level <= last * (1.0 + 1e-9) && levels.len() <= LEVELS_MAX {
            levels.push(level);
            level = next(level);
        }
    }
    if levels.len() > LEVELS_MAX {
        return Err(fault("more than 1,000 loads"));
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_are_numbers_lists_and_ranges() {
        let cases: [(&str, &[f64]); 6] = [
            ("16", &[16.0]),
            ("1,2,8", &[1.0, 2.0, 8.0]),
            ("1:8", &[1.0, 2.0, 4.0, 8.0]),
            ("1:20:x4", &[1.0, 4.0, 16.0]),
            ("10:30:10", &[10.0, 20.0, 30.0]),
            ("0.5,10:30:10", &[0.5, 10.0, 20.0, 30.0]),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_sweep(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "a",
            "8:1",
            "1:8:x1",
            "1:2:3:4",
            "1:1000000:1",
            "nan",
            "1:inf",
        ] {
            let error = parse_sweep(text).unwrap_err().to_string();
            assert!(error.contains("write a number"), "{text}: {error}");
        }
    }
}
