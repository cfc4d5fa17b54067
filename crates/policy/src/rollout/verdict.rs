//! What is to become of a canary, in words that name the numbers.

use std::fmt;
use std::time::Duration;

/// Evidence of so much and more is written by its magnitude.
const MANY: f64 = 1e6;

/// What is to become of a canary now.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It waits.
    Hold(Hold),
    /// It goes to the next stage, with this share of requests.
    Advance {
        /// The share in percent.
        percent: f64,
    },
    /// It has passed every stage and takes over.
    Promote,
    /// It goes back: these checks failed.
    RollBack(Vec<Check>),
    /// It goes back: it waited longer than the deadline allows, for this.
    Overdue(Hold),
}

/// What a canary waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Hold {
    /// The stage has not lasted.
    Duration {
        /// What is left of it.
        remaining: Duration,
    },
    /// The canary has not had its requests.
    Requests {
        /// Those it had in this stage.
        had: u64,
        /// Those it must have had.
        needed: u64,
    },
    /// Of a metric, of predictions or of a queried number too little is known.
    Outcomes(Check),
    /// A rate or mean looks bad, without evidence yet that it is.
    Doubt(Check),
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// The share of requests that failed.
    Errors,
    /// The share of requests that were slow.
    Latency,
    /// The mean of the metric with this name.
    Metric(String),
    /// The queried number with this name.
    Query {
        /// Its name.
        name: String,
        /// Whether it is held against a bound, which stands in the place of the stable revision's.
        is_bound: bool,
    },
    /// How the predictions of the output with this name are distributed: the stability index, and how much of it is allowed.
    Predictions(String),
}

/// How a comparison stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// The canary's rate is within what is tolerated.
    Passed,
    /// It is not, but there is no evidence yet that this is more than chance.
    Doubtful,
    /// It is not, and there is evidence.
    Failed,
    /// There are not enough outcomes, predictions or answers to tell.
    TooFew,
}

/// One comparison with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is compared.
    pub kind: CheckKind,
    /// How it stands.
    pub state: CheckState,
    /// The stable revision's rate or mean in this stage.
    pub stable: f64,
    /// The canary's.
    pub canary: f64,
    /// The evidence of a regression, over the whole rollout for rates and over the stage for means: 1 is none.
    pub evidence: f64,
    /// The evidence from which on it is believed.
    pub needed: f64,
    /// What else there is to say, such as why a number is not known.
    pub note: Option<String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stable, canary) = (self.stable, self.canary);
        let (stable_percent, canary_percent) = (stable * 100.0, canary * 100.0);
        match &self.kind {
            CheckKind::Errors => write!(
                f,
                "errors {canary_percent:.2} % of the canary, {stable_percent:.2} % of the stable revision"
            )?,
            CheckKind::Latency => write!(
                f,
                "slow requests {canary_percent:.2} % of the canary, {stable_percent:.2} % of the stable revision"
            )?,
            CheckKind::Metric(name) => write!(
                f,
                "{name} {canary:.4} of the canary, {stable:.4} of the stable revision"
            )?,
            CheckKind::Query { name, is_bound } => {
                let of = match is_bound {
                    true => "allowed",
                    false => "of the stable revision",
                };
                write!(f, "{name} {canary} of the canary, {stable} {of}")?;
                let (n_bad, needed) = (self.evidence, self.needed);
                write!(f, " (bad looks in a row {n_bad:.0}, needed {needed:.0})")?;
                return write_note(f, self.note.as_deref());
            }
            CheckKind::Predictions(name) => write!(
                f,
                "predictions of {name}: stability index {canary:.3}, allowed {stable}"
            )?,
        }
        let needed = self.needed;
        match self.evidence {
            evidence if evidence < MANY => {
                write!(f, " (evidence {evidence:.3}, needed {needed:.0})")?
            }
            evidence if evidence.is_finite() => {
                write!(f, " (evidence {evidence:.1e}, needed {needed:.0})")?;
            }
            _ => write!(f, " (evidence beyond 1e308, needed {needed:.0})")?,
        }
        write_note(f, self.note.as_deref())
    }
}

fn write_note(f: &mut fmt::Formatter<'_>, note: Option<&str>) -> fmt::Result {
    match note {
        Some(note) => write!(f, ": {note}"),
        None => Ok(()),
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration { remaining } => {
                write!(
                    f,
                    "the stage lasts another {} s",
                    remaining.as_secs_f64().ceil()
                )
            }
            Self::Requests { had, needed } => {
                write!(f, "the canary had {had} of {needed} requests")
            }
            Self::Outcomes(check) => match check.kind {
                CheckKind::Metric(_) => write!(f, "too few outcomes: {check}"),
                _ => write!(f, "not known yet: {check}"),
            },
            Self::Doubt(check) => write!(f, "in doubt: {check}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold(hold) => write!(f, "waits: {hold}"),
            Self::Advance { percent } => write!(f, "goes on with {percent} % of requests"),
            Self::Promote => write!(f, "is promoted"),
            Self::RollBack(checks) => {
                write!(f, "goes back: ")?;
                for (index, check) in checks.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{check}")?;
                }
                Ok(())
            }
            Self::Overdue(hold) => write!(f, "goes back, overdue: {hold}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn great_evidence_is_written_by_its_magnitude() {
        let shown = |evidence| {
            let check = Check {
                kind: CheckKind::Errors,
                state: CheckState::Failed,
                stable: 0.0,
                canary: 1.0,
                evidence,
                needed: 200.0,
                note: None,
            };
            check.to_string()
        };
        for (evidence, expected) in [
            (0.5, "(evidence 0.500, needed 200)"),
            (999_999.0, "(evidence 999999.000, needed 200)"),
            (1.745_143_536_159_779e31, "(evidence 1.7e31, needed 200)"),
            (f64::INFINITY, "(evidence beyond 1e308, needed 200)"),
        ] {
            let shown = shown(evidence);
            assert!(shown.ends_with(expected), "{shown}");
        }
    }
}
