//! The metrics of shadows; there are samples only of services that have one.

use super::Metric;
use super::text::line;
use crate::served_model::escape;
use crate::{Chaos, ChaosCounts, ShadowFigures};

/// Returns one sentence on a metric of shadows or fallbacks.
pub(super) fn help(metric: Metric) -> &'static str {
    match metric {
        Metric::Fallbacks => {
            "Answers that were not the model's: another revision's or service's, a last good one or a default prediction."
        }
        Metric::Retries => "Requests that were tried again after a failure.",
        Metric::Hedges => {
            "Requests that were sent to a second process because the first had not answered."
        }
        Metric::ChaosFaults => {
            "Faults that were injected on purpose, by kind: latency, error, panic or load."
        }
        Metric::ChaosTargets => "Services and revisions that have faults on purpose now.",
        Metric::HedgesWon => "Requests that the second process answered first.",
        Metric::ShadowAgreement => {
            "Share of rows in which a shadow gave the label that was given, by output."
        }
        Metric::ShadowDrift => {
            "Population stability index of a shadow's numbers, by column of an output."
        }
        _ => "Copies of requests for a shadow, by how they ended.",
    }
}

/// Appends the samples of `metric`, if it is one of these.
pub(super) fn samples(metric: Metric, shadows: &[ShadowFigures], text: &mut String) {
    let name = metric.name();
    for figures in shadows {
        let labels = format!(
            "namespace=\"{}\",service=\"{}\",shadow=\"{}\"",
            escape(&figures.namespace),
            escape(&figures.service),
            escape(&figures.shadow)
        );
        let (key, values) = match metric {
            Metric::ShadowRequests => {
                for (outcome, count) in &figures.outcomes {
                    line(
                        text,
                        format_args!("{name}{{{labels},outcome=\"{outcome}\"}} {count}"),
                    );
                }
                continue;
            }
            Metric::ShadowAgreement => ("output", &figures.agreements),
            Metric::ShadowDrift => ("column", &figures.stability_indices),
            _ => return,
        };
        for (of, value) in values {
            let of = escape(of);
            line(
                text,
                format_args!("{name}{{{labels},{key}=\"{of}\"}} {value}"),
            );
        }
    }
}

/// Appends the samples of faults on purpose, where there may be any.
pub(super) fn chaos_samples(metric: Metric, chaos: &Chaos, text: &mut String) {
    let name = metric.name();
    if metric == Metric::ChaosTargets {
        let n_targets = chaos.list().len();
        return line(text, format_args!("{name} {n_targets}"));
    }
    let ChaosCounts {
        latency,
        errors,
        panics,
        loads,
    } = chaos.counts();
    for (kind, count) in [
        ("latency", latency),
        ("error", errors),
        ("panic", panics),
        ("load", loads),
    ] {
        line(text, format_args!("{name}{{kind=\"{kind}\"}} {count}"));
    }
}
