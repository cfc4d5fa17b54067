//! What becomes of one experiment: it waits, runs, and ends with one variant for all requests.

use std::time::Duration;

use coracle_api::experiment::{ExperimentStatus, ExperimentVariantStatus};
use coracle_serving::experiment::{
    ExperimentSummary, MetricForm, MetricRole, PlannedExperiment, PlannedMetric, SummaryVerdict,
};

use super::spec::Wanted;
use crate::controller::events::Happened;
use crate::controller::times::remainder;
use crate::rest::rfc3339;

pub(super) const WAITING: &str = "Waiting";
const RUNNING: &str = "Running";
const PROMOTED: &str = "Promoted";
const STOPPED: &str = "Stopped";
/// The reason of the event that tells that a command has no effect.
const REFUSED: &str = "ExperimentCommandRefused";

/// What people want of an experiment at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// This variant gets all requests.
    Promote(String),
    /// The control gets all requests.
    Stop,
    /// It runs again.
    Resume,
}

impl Command {
    /// Reads a command.
    ///
    /// # Errors
    /// Says what it is, and what is allowed.
    pub(super) fn read(text: &str, planned: &PlannedExperiment) -> Result<Self, String> {
        match text {
            "stop" => return Ok(Self::Stop),
            "resume" => return Ok(Self::Resume),
            _ => {}
        }
        let Some(variant) = text.strip_prefix("promote:") else {
            return Err(format!(
                "'{text}' is none of promote:VARIANT, stop and resume"
            ));
        };
        let mut known = planned.variants.iter().map(|variant| variant.name.as_str());
        match known.any(|known| known == variant) {
            true => Ok(Self::Promote(variant.to_owned())),
            false => {
                let known = planned.variants.iter().map(|variant| variant.name.as_str());
                let known: Vec<&str> = known.collect();
                Err(format!(
                    "there is no variant '{variant}', only {}",
                    known.join(", ")
                ))
            }
        }
    }
}

impl Command {
    /// Returns why it has no effect on an experiment that stands so, if that can be told without the time.
    pub(super) fn refusal(&self, status: &ExperimentStatus, wanted: &Wanted) -> Option<String> {
        let winner = status.winner.as_deref()?;
        let by_rule = match status.verdict.as_deref()? {
            "Better" => wanted.promotes && wanted.after.is_zero(),
            "Harm" => wanted.stops_on_harm,
            _ => false,
        };
        (*self == Self::Resume && by_rule).then(|| {
            format!("resume: by spec.promotion it ends again at once, and {winner} has won; change that first")
        })
    }
}

/// Tells whether an experiment that stands so runs or has a winner.
pub(super) fn has_begun(status: &ExperimentStatus) -> bool {
    status.phase == RUNNING || status.winner.is_some()
}

/// Tells that a command has no effect, and why.
pub(super) fn refused(message: String) -> Happened {
    Happened {
        is_warning: true,
        reason: REFUSED,
        message,
    }
}

/// What is known when an experiment is looked at.
pub(super) struct Seen<'a> {
    pub(super) wanted: &'a Wanted,
    /// Why it cannot be in force.
    pub(super) obstacle: Option<String>,
    /// What the serving process has told of it.
    pub(super) summary: Option<&'a ExperimentSummary>,
    pub(super) command: Option<Command>,
    /// Since 1970.
    pub(super) now: Duration,
}

/// Looks at what is seen, and goes on, waits or ends it.
pub(super) fn look(status: &mut ExperimentStatus, seen: &Seen<'_>) -> Vec<Happened> {
    let mut happened = Vec::new();
    note_numbers(status, seen, &mut happened);
    let planned = &seen.wanted.planned;
    let control = planned.variants.get(planned.control);
    let control = control.map(|variant| variant.name.clone());
    // A winner that was taken out of the spec is none.
    let is_there = |winner: &String| planned.variants.iter().any(|one| one.name == *winner);
    if !status.winner.as_ref().is_some_and(is_there) {
        settle(status, None);
    }
    obey(status, seen, control.as_deref(), &mut happened);
    if let Some(obstacle) = &seen.obstacle {
        // It stays settled, and is in force again once it can be.
        status.phase = WAITING.to_owned();
        status.message.clone_from(obstacle);
        return happened;
    }
    if let Some(winner) = status.winner.clone() {
        if status.phase == WAITING {
            let phase = match control.as_ref() == Some(&winner) {
                true => STOPPED,
                false => PROMOTED,
            };
            phase.clone_into(&mut status.phase);
            happened.push(taking_all(status));
        }
        status.message = taking_all(status).message;
        return happened;
    }
    if status.phase != RUNNING {
        status.phase = RUNNING.to_owned();
        let again = status.started_at.is_some().then_some(" again");
        if status.started_at.is_none() {
            status.started_at = Some(rfc3339(seen.now));
        }
        happened.push(Happened {
            is_warning: false,
            reason: "ExperimentRunning",
            message: format!("its requests are split{}", again.unwrap_or_default()),
        });
        happened.extend(never_final(seen.wanted));
    }
    status.message = seen.summary.map_or_else(
        || "no requests yet".to_owned(),
        |summary| summary.why.clone(),
    );
    decide(status, seen, control, &mut happened);
    happened
}

/// Warns of metrics by which it ends by itself though their values are never final: of one variant outcomes may come later than of another.
fn never_final(wanted: &Wanted) -> Option<Happened> {
    let is_told = |metric: &&PlannedMetric| {
        let is_measured = matches!(metric.kind, MetricForm::Errors | MetricForm::Latency);
        metric.window_ms.is_none() && !is_measured
    };
    let decides = |metric: &&PlannedMetric| match metric.role {
        MetricRole::Primary => wanted.promotes,
        MetricRole::Guardrail => wanted.stops_on_harm,
        MetricRole::Secondary => false,
    };
    let metrics = wanted.planned.metrics.iter();
    let names = metrics.filter(is_told).filter(decides);
    let names: Vec<&str> = names.map(|metric| metric.name.as_str()).collect();
    (!names.is_empty()).then(|| Happened {
        is_warning: true,
        reason: "ExperimentValuesOpen",
        message: format!(
            "spec.promotion decides by {}, whose values are never final: a variant whose outcomes come later than another's looks worse until they are there. \
             Give each of them a window",
            names.join(", ")
        ),
    })
}

/// Does what people want.
fn obey(
    status: &mut ExperimentStatus,
    seen: &Seen<'_>,
    control: Option<&str>,
    happened: &mut Vec<Happened>,
) {
    match &seen.command {
        Some(Command::Promote(variant)) => {
            end(status, seen, (PROMOTED, variant, "by hand"), happened);
        }
        Some(Command::Stop) => {
            let control = control.unwrap_or_default();
            end(status, seen, (STOPPED, control, "by hand"), happened);
        }
        Some(Command::Resume) if status.winner.is_some() => {
            if let Some((_, winner)) = ended_by_rule(status, seen, control) {
                happened.push(refused(format!(
                    "resume: by spec.promotion, {winner} takes all requests again at once; change that first"
                )));
            } else {
                settle(status, None);
                status.phase = WAITING.to_owned();
            }
        }
        _ => {}
    }
}

/// Returns the phase and the winner with which it ends by itself now, if the spec and the verdict say so: the last one that was told, which
/// after a restart is that of before.
fn ended_by_rule(
    status: &ExperimentStatus,
    seen: &Seen<'_>,
    control: Option<&str>,
) -> Option<(&'static str, String)> {
    match (status.verdict.as_deref()?, &status.verdict_variant) {
        ("Better", Some(variant)) if seen.wanted.promotes => {
            (ran(status, seen) >= seen.wanted.after).then(|| (PROMOTED, variant.clone()))
        }
        ("Harm", _) if seen.wanted.stops_on_harm => {
            Some((STOPPED, control.unwrap_or_default().to_owned()))
        }
        _ => None,
    }
}

/// Returns how long it has run.
fn ran(status: &ExperimentStatus, seen: &Seen<'_>) -> Duration {
    let started = status.started_at.as_deref();
    let started = started.and_then(|text| humantime::parse_rfc3339_weak(text).ok());
    let started = started.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    seen.now.saturating_sub(started.unwrap_or(seen.now))
}

/// Takes over what the serving process has told.
fn note_numbers(status: &mut ExperimentStatus, seen: &Seen<'_>, happened: &mut Vec<Happened>) {
    let Some(summary) = seen.summary else { return };
    let variants = summary.variants.iter();
    status.variants = variants
        .map(|(name, units, requests)| ExperimentVariantStatus {
            name: name.clone(),
            units: *units,
            requests: *requests,
        })
        .collect();
    status.unassigned_requests = Some(summary.n_unassigned);
    let (verdict, variant) = match &summary.verdict {
        SummaryVerdict::Wait => ("Wait", None),
        SummaryVerdict::Mismatch => ("Mismatch", None),
        SummaryVerdict::Harm(variant) => ("Harm", Some(variant)),
        SummaryVerdict::Better(variant) => ("Better", Some(variant)),
    };
    let is_new =
        status.verdict.as_deref() != Some(verdict) || status.verdict_variant.as_ref() != variant;
    if is_new && verdict != "Wait" {
        let about = variant
            .map(|variant| format!("{variant}: "))
            .unwrap_or_default();
        happened.push(Happened {
            is_warning: verdict != "Better",
            reason: match verdict {
                "Mismatch" => "ExperimentSplitMismatch",
                "Harm" => "ExperimentGuardrailHarmed",
                _ => "ExperimentVariantBetter",
            },
            message: format!("{about}{}", summary.why),
        });
    }
    status.verdict = Some(verdict.to_owned());
    status.verdict_variant = variant.cloned();
}

/// Ends it by itself, if the spec and the verdict say so.
fn decide(
    status: &mut ExperimentStatus,
    seen: &Seen<'_>,
    control: Option<String>,
    happened: &mut Vec<Happened>,
) {
    let Some(summary) = seen.summary else { return };
    if let Some((phase, winner)) = ended_by_rule(status, seen, control.as_deref()) {
        return end(status, seen, (phase, &winner, &summary.why), happened);
    }
    if let SummaryVerdict::Better(variant) = &summary.verdict
        && seen.wanted.promotes
    {
        let left = seen.wanted.after.saturating_sub(ran(status, seen));
        status.message = format!(
            "{variant} is better, and gets all requests in {}: {}",
            remainder(left),
            summary.why
        );
    }
}

/// Gives all requests to a winner, or to none.
fn settle(status: &mut ExperimentStatus, winner: Option<(&str, &str)>) {
    status.winner = winner.map(|(winner, _)| winner.to_owned());
    status.winner_why = winner.map(|(_, why)| why.to_owned());
}

fn end(
    status: &mut ExperimentStatus,
    seen: &Seen<'_>,
    (phase, winner, why): (&'static str, &str, &str),
    happened: &mut Vec<Happened>,
) {
    phase.clone_into(&mut status.phase);
    settle(status, Some((winner, why)));
    let mut event = taking_all(status);
    status.message.clone_from(&event.message);
    if let Some(obstacle) = &seen.obstacle {
        event.message = format!("{winner} is to take all requests: {why}; until then: {obstacle}");
    }
    happened.push(event);
}

/// Says that the winner takes all requests, and why.
fn taking_all(status: &ExperimentStatus) -> Happened {
    let winner = status.winner.as_deref().unwrap_or_default();
    let why = status.winner_why.as_deref();
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    Happened {
        is_warning: false,
        reason: match status.phase.as_str() {
            PROMOTED => "ExperimentPromoted",
            _ => "ExperimentStopped",
        },
        message: format!("{winner} takes all requests{why}"),
    }
}

#[cfg(test)]
mod tests;
