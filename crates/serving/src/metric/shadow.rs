//! The metrics of shadows; there are samples only of services that have one.

use super::Metric;
use super::text::line;
use crate::ShadowFigures;
use crate::served_model::escape;

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
