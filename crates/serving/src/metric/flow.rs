//! The metrics of graphs and of feedback; there are samples only of services that have a graph or were told something.

use super::Metric;
use super::text::line;
use crate::flow::FeedbackCounters;
use crate::plan::ServiceId;
use crate::predictors::Predictors;
use crate::served_model::escape;
use crate::{ModelTable, Route};

/// Returns one sentence on a metric of graphs or feedback.
pub(super) fn help(metric: Metric) -> &'static str {
    match metric {
        Metric::Feedback => "Rewards that were sent for a model's answers; those of 0 count.",
        Metric::FeedbackReward => "Sum of the rewards that were sent for a model's answers.",
        Metric::GraphRequests => "Finished requests of graphs by code (ok or the failure).",
        Metric::GraphFallbacks => {
            "Answers that another service, the last good answer or the default prediction gave in place of a graph."
        }
        Metric::GraphBranches => "Requests of a graph's router by the branch that took them.",
        _ => "Mean reward of a row by branch, of routers that learn.",
    }
}

/// Appends the samples of `metric`, if it is one of these.
pub(super) fn samples(metric: Metric, table: &ModelTable, text: &mut String) {
    match metric {
        Metric::Feedback | Metric::FeedbackReward => feedback(metric, table, text),
        Metric::GraphRequests => requests(metric.name(), table, text),
        Metric::GraphFallbacks => fallbacks(metric.name(), table, text),
        Metric::GraphBranches | Metric::GraphBranchReward => branches(metric, table, text),
        _ => {}
    }
}

fn labels(id: &ServiceId) -> String {
    format!(
        "namespace=\"{}\",service=\"{}\"",
        escape(&id.namespace),
        escape(&id.name)
    )
}

fn feedback(metric: Metric, table: &ModelTable, text: &mut String) {
    let name = metric.name();
    let mut one = |id: &ServiceId, node: &str, counters: &FeedbackCounters| {
        if counters.count() == 0 {
            return;
        }
        let labels = format!("{},node=\"{}\"", labels(id), escape(node));
        match metric {
            Metric::Feedback => {
                let count = counters.count();
                line(text, format_args!("{name}{{{labels}}} {count}"));
            }
            _ => {
                let reward = counters.reward();
                line(text, format_args!("{name}{{{labels}}} {reward}"));
            }
        }
    };
    for (id, route) in table.routes() {
        one(id, model_name(route), route.feedback());
        let predictors = route.predictors().into_iter();
        for (node, counters) in predictors.flat_map(Predictors::feedback) {
            one(id, node, counters);
        }
    }
    for (id, flow) in table.flows() {
        for (node, counters) in flow.feedback() {
            one(id, node, counters);
        }
    }
}

fn model_name(route: &Route) -> &str {
    let first = route.targets().first();
    first.map_or("", |target| target.model.name())
}

fn requests(name: &str, table: &ModelTable, text: &mut String) {
    for (id, flow) in table.flows() {
        let labels = labels(id);
        for (code, count) in flow.outcomes() {
            let code = code.map_or("ok", |code| code.as_str());
            line(
                text,
                format_args!("{name}{{{labels},code=\"{code}\"}} {count}"),
            );
        }
    }
}

/// Of graphs for which something stands in, or did.
fn fallbacks(name: &str, table: &ModelTable, text: &mut String) {
    for (id, flow) in table.flows() {
        let n_fallbacks = flow.n_fallbacks();
        if flow.fallback().is_some() || n_fallbacks > 0 {
            let labels = labels(id);
            line(text, format_args!("{name}{{{labels}}} {n_fallbacks}"));
        }
    }
}

fn branches(metric: Metric, table: &ModelTable, text: &mut String) {
    let name = metric.name();
    for (id, flow) in table.flows() {
        for (node, router) in flow.routers() {
            let labels = format!("{},node=\"{}\"", labels(id), escape(node));
            let earned = router.earned().into_iter().map(|(mean, _)| mean);
            let mut earned = earned.map(Some).chain(std::iter::repeat(None));
            for (branch, count) in router.taken() {
                let labels = format!("{labels},branch=\"{}\"", escape(branch));
                match (metric, earned.next().flatten()) {
                    (Metric::GraphBranches, _) => {
                        line(text, format_args!("{name}{{{labels}}} {count}"));
                    }
                    (_, Some(mean)) => line(text, format_args!("{name}{{{labels}}} {mean}")),
                    (_, None) => {}
                }
            }
        }
    }
}
