//! The metrics of experiments, and of the stages of rollouts.

use super::Metric;
use super::text::line;
use crate::experiment::ExperimentFigures;
use crate::served_model::escape;

/// Returns one sentence on a metric of experiments.
pub(super) fn help(metric: Metric) -> &'static str {
    match metric {
        Metric::ExperimentExposures => "Requests that took part in an experiment, by variant.",
        Metric::ExperimentOutcomes => "Outcomes that were taken.",
        Metric::ExperimentUnassigned => "Requests without a unit, which took no part.",
        Metric::ExperimentLost => {
            "Exposures that are not in the books: too many at a time, a full disk, or too many units."
        }
        _ => "1 for the state that an experiment is in: running, or settled on a winner.",
    }
}

/// Appends the samples of `metric`, if it is one of these.
pub(super) fn samples(metric: Metric, experiments: &[ExperimentFigures], text: &mut String) {
    let name = metric.name();
    for figures in experiments {
        let labels = format!(
            "namespace=\"{}\",experiment=\"{}\"",
            escape(&figures.id.namespace),
            escape(&figures.id.name)
        );
        let count = match metric {
            Metric::ExperimentExposures => {
                for (variant, count) in &figures.exposures {
                    let variant = escape(variant);
                    line(
                        text,
                        format_args!("{name}{{{labels},variant=\"{variant}\"}} {count}"),
                    );
                }
                continue;
            }
            Metric::ExperimentState => {
                let states = [
                    ("running", !figures.is_settled),
                    ("settled", figures.is_settled),
                ];
                for (state, is_in) in states {
                    let one = u8::from(is_in);
                    line(
                        text,
                        format_args!("{name}{{{labels},state=\"{state}\"}} {one}"),
                    );
                }
                continue;
            }
            Metric::ExperimentOutcomes => figures.n_outcomes,
            Metric::ExperimentUnassigned => figures.n_unassigned,
            Metric::ExperimentLost => figures.n_lost,
            _ => return,
        };
        line(text, format_args!("{name}{{{labels}}} {count}"));
    }
}
