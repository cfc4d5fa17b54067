//! `coracle experiment`: what an experiment says, what people want of it, and how large one must be.

use std::io::Write;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use coracle_control::annotations::EXPERIMENT as COMMAND;
use serde_json::{Value, json};

use crate::Environment;
use crate::args::ServiceArguments;
use crate::client::{Client, Request};
use crate::experiment_plan::{self, PlanArguments};
use crate::rollout;
use crate::shadow;

const GROUP: &str = "/apis/serving.coracle.dev/v1alpha1";

/// See and steer an Experiment, in which several models answer, and plan one.
///
/// NAME is the Experiment's.
#[derive(Debug, Subcommand)]
pub(crate) enum ExperimentCommand {
    /// Print what it says: the split, every variant in every metric, the verdict
    Report(ReportArguments),
    /// Print how it stands
    Status(ServiceArguments),
    /// Give a variant all requests
    Promote(PromoteArguments),
    /// Give the control all requests
    Stop(ServiceArguments),
    /// Let it run again
    Resume(ServiceArguments),
    /// Print how many units an experiment needs, and how long that takes
    Plan(PlanArguments),
}

/// Which report, and how.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    #[command(flatten)]
    experiment: ServiceArguments,

    /// Print all of it as JSON
    #[arg(long)]
    json: bool,
}

/// Which variant.
#[derive(Debug, Args)]
pub(crate) struct PromoteArguments {
    #[command(flatten)]
    experiment: ServiceArguments,

    /// The variant that gets all requests
    #[arg(value_name = "VARIANT")]
    variant: String,
}

/// Runs the command.
pub(crate) fn run(command: &ExperimentCommand, environment: &Environment) -> anyhow::Result<()> {
    match command {
        ExperimentCommand::Report(arguments) => report(arguments, environment),
        ExperimentCommand::Status(arguments) => status(arguments, environment),
        ExperimentCommand::Promote(arguments) => {
            let text = format!("promote:{}", arguments.variant);
            tell(&arguments.experiment, environment, &text)
        }
        ExperimentCommand::Stop(arguments) => tell(arguments, environment, "stop"),
        ExperimentCommand::Resume(arguments) => tell(arguments, environment, "resume"),
        ExperimentCommand::Plan(arguments) => experiment_plan::run(arguments),
    }
}

fn path(arguments: &ServiceArguments) -> String {
    let (namespace, name) = (&arguments.namespace, &arguments.name);
    format!("{GROUP}/namespaces/{namespace}/experiments/{name}")
}

fn find(client: &Client, arguments: &ServiceArguments) -> anyhow::Result<Value> {
    let namespace = &arguments.namespace;
    let experiment = client.get(&path(arguments));
    experiment.with_context(|| rollout::elsewhere(namespace, "experiments"))
}

fn tell(
    arguments: &ServiceArguments,
    environment: &Environment,
    command: &str,
) -> anyhow::Result<()> {
    let client = Client::connect(&arguments.state, environment)?;
    let patch = json!({"metadata": {"annotations": {COMMAND: command}}});
    let (status, answer) = client.send(&Request {
        method: "PATCH",
        path: &format!("{}?fieldManager=coracle", path(arguments)),
        accept: "",
        content_type: "application/merge-patch+json",
        body: &patch.to_string(),
    })?;
    let namespace = &arguments.namespace;
    rollout::found((status, answer), namespace, "experiments")?;
    let experiment = rollout::done(&client, &path(arguments), COMMAND)?;
    let (namespace, name) = (&arguments.namespace, &arguments.name);
    let status = &experiment["status"];
    let (phase, message) = (text(&status["phase"]), text(&status["message"]));
    if command == "resume" && status["winner"].is_string() {
        bail!(
            "{namespace}/{name} is not resumed: by spec.promotion it ends again at once: {message}"
        );
    }
    let settled = status["winner"].as_str().filter(|_| phase == "Waiting");
    let settled =
        settled.map(|winner| format!("{winner} is to take all requests once it is in force; "));
    let settled = settled.unwrap_or_default();
    writeln!(
        crate::printed::stdout(),
        "{namespace}/{name} {phase}: {settled}{message}"
    )?;
    Ok(())
}

fn status(arguments: &ServiceArguments, environment: &Environment) -> anyhow::Result<()> {
    let client = Client::connect(&arguments.state, environment)?;
    let experiment = find(&client, arguments)?;
    let status = &experiment["status"];
    let mut out = crate::printed::stdout();
    let service = text(&experiment["spec"]["inferenceService"]);
    writeln!(out, "service     {service}")?;
    for (name, field) in [
        ("phase", "phase"),
        ("since", "startedAt"),
        ("verdict", "verdict"),
        ("winner", "winner"),
        ("message", "message"),
    ] {
        writeln!(out, "{name:<11} {}", text(&status[field]))?;
    }
    print_unready(status, &mut out)?;
    for variant in list(&status["variants"]) {
        let name = text(&variant["name"]);
        let (units, requests) = (&variant["units"], &variant["requests"]);
        writeln!(
            out,
            "variant     {name}: {units} units, {requests} requests"
        )?;
    }
    if let Some(unassigned) = status["unassignedRequests"].as_u64() {
        writeln!(out, "unassigned  {unassigned} requests")?;
    }
    Ok(())
}

/// Prints what is not as it should be, beyond the message.
fn print_unready(status: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    for condition in list(&status["conditions"]) {
        let message = text(&condition["message"]);
        if condition["status"] == "False" && status["message"] != message {
            writeln!(out, "not ready   {message}")?;
        }
    }
    Ok(())
}

fn report(arguments: &ReportArguments, environment: &Environment) -> anyhow::Result<()> {
    let client = Client::connect(&arguments.experiment.state, environment)?;
    let experiment = find(&client, &arguments.experiment)?;
    let status = &experiment["status"];
    if status["phase"] == "Waiting" {
        bail!("it is not in force: {}", text(&status["message"]));
    }
    let url = status["url"].as_str().context("it has no report yet")?;
    let report = shadow::get(url)?;
    let mut out = crate::printed::stdout();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(());
    }
    print(&report, &mut out)?;
    writeln!(out, "\nas a page: {url}/page")?;
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn number(value: &Value) -> String {
    let shown = value.as_f64().map(|number| match number.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-4..1e6).contains(&size) => format!("{number:.2e}"),
        _ => format!("{number:.6}"),
    });
    shown.unwrap_or_else(|| "-".to_owned())
}

/// Prints a report.
fn print(report: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "{}/{} since {}",
        text(&report["namespace"]),
        text(&report["experiment"]),
        text(&report["since"])
    )?;
    let verdict = &report["verdict"];
    let variant = verdict["variant"].as_str();
    let variant = variant
        .map(|variant| format!(" {variant}"))
        .unwrap_or_default();
    writeln!(
        out,
        "  {}{variant}: {}",
        text(&verdict["state"]),
        text(&verdict["why"])
    )?;
    if let Some(winner) = report["winner"].as_str() {
        writeln!(out, "  {winner} takes all requests")?;
    }
    for test in [&report["split"]["fixed"], &report["split"]["anytime"]] {
        if let Some(is_mismatch) = test["isMismatch"].as_bool() {
            let word = if is_mismatch { "is not" } else { "is" };
            let (p_value, method) = (number(&test["pValue"]), text(&test["method"]));
            writeln!(
                out,
                "  the split {word} as the weights say: p {p_value}, {method}"
            )?;
        }
    }
    writeln!(out)?;
    print_variants(report, out)?;
    for comparison in list(&report["comparisons"]) {
        print_comparison(comparison, out)?;
    }
    print_bandit(&report["bandit"], out)
}

fn print_variants(report: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    let variants = list(&report["variants"]).iter().map(|variant| {
        let control = variant["isControl"].as_bool().unwrap_or(false);
        let suffix = if control { " (control)" } else { "" };
        (format!("{}{suffix}", text(&variant["name"])), variant)
    });
    let variants: Vec<(String, &Value)> = variants.collect();
    let names = variants.iter().map(|(name, _)| name.chars().count());
    let width = names.max().unwrap_or(0).max("variant".len());
    writeln!(
        out,
        "  {:<width$} {:>9} {:>9} {:>9} {:>9}",
        "variant", "units", "expected", "requests", "failed"
    )?;
    let count = |number: &Value| number.as_u64().unwrap_or_default();
    for (name, variant) in variants {
        writeln!(
            out,
            "  {name:<width$} {:>9} {:>9.0} {:>9} {:>9}",
            count(&variant["units"]),
            variant["unitsExpected"].as_f64().unwrap_or_default(),
            count(&variant["requests"]),
            count(&variant["errors"])
        )?;
    }
    let (requests, units) = (&report["requests"], &report["units"]);
    writeln!(
        out,
        "  {} requests without a unit; {} units were shown several variants, {} were set by hand; {} exposures and {} units lost; {} outcomes",
        requests["unassigned"],
        units["severalVariants"],
        units["overridden"],
        requests["exposuresLost"],
        units["lost"],
        report["outcomes"]
    )?;
    for variant in list(&report["variants"]) {
        print_settled(variant, out)?;
    }
    Ok(())
}

/// Prints a variant's rates among the units whose values are final, and of how many they are not yet.
fn print_settled(variant: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    for (metric, standing) in variant["metrics"].as_object().into_iter().flatten() {
        if let Some(n_open @ 1..) = standing["open"].as_u64() {
            writeln!(
                out,
                "  {}: {metric} of {n_open} units is not compared yet: their windows are open",
                text(&variant["name"])
            )?;
        }
        let settled = &standing["settled"];
        if settled.is_object() {
            writeln!(
                out,
                "  {}: {metric} {} [{}, {}] of {} units whose window has closed  {}",
                text(&variant["name"]),
                number(&settled["mean"]),
                number(&settled["low"]),
                number(&settled["high"]),
                settled["units"],
                text(&settled["method"])
            )?;
        }
    }
    Ok(())
}

fn print_comparison(comparison: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    let side = |side: &Value| format!("{} of {} units", number(&side["mean"]), side["units"]);
    writeln!(
        out,
        "\n  {} ({}): {} {}, {} {}\n    {}, {} is better",
        text(&comparison["metric"]),
        text(&comparison["role"]),
        text(&comparison["variant"]),
        side(&comparison["ofVariant"]),
        text(&comparison["control"]),
        side(&comparison["ofControl"]),
        text(&comparison["basis"]),
        text(&comparison["better"]).to_lowercase()
    )?;
    for (name, field) in [
        ("at any time", "anytime"),
        ("at the end", "fixed"),
        ("relative", "lift"),
    ] {
        let effect = &comparison[field];
        if !effect.is_object() {
            continue;
        }
        let corrected = effect["pValueCorrected"].as_f64();
        let corrected =
            corrected.map(|_| format!(" ({} corrected)", number(&effect["pValueCorrected"])));
        writeln!(
            out,
            "    {name:<12} {} [{}, {}]  p {}{}  {}",
            number(&effect["difference"]),
            number(&effect["low"]),
            number(&effect["high"]),
            number(&effect["pValue"]),
            corrected.unwrap_or_default(),
            text(&effect["method"])
        )?;
    }
    let exact = &comparison["exact"];
    if exact.is_object() {
        writeln!(
            out,
            "    {:<12} p {}  {}",
            "exact",
            number(&exact["pValue"]),
            text(&exact["method"])
        )?;
    }
    let belief = &comparison["posterior"];
    if belief.is_object() {
        writeln!(
            out,
            "    {:<12} better with {}; expected loss {} if chosen, {} if not  {}",
            "believed",
            number(&belief["probabilityBetter"]),
            number(&belief["expectedLossOfVariant"]),
            number(&belief["expectedLossOfControl"]),
            text(&belief["method"])
        )?;
    }
    let guardrail = &comparison["guardrail"];
    if guardrail.is_object() {
        writeln!(
            out,
            "    {:<12} {} (worse by at most {})  {}",
            "guardrail",
            text(&guardrail["state"]),
            number(&guardrail["margin"]),
            text(&guardrail["method"])
        )?;
    }
    Ok(())
}

fn print_bandit(bandit: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    if !bandit.is_object() {
        return Ok(());
    }
    writeln!(
        out,
        "\n  {:<16} {:>9} {:>10} {:>10} {:>12}  {:>14}",
        "bandit", "rewards", "mean", "chosen", "if always", "standard error"
    )?;
    for arm in list(&bandit["arms"]) {
        let mut estimates = list(&bandit["offPolicy"]["estimates"]).iter();
        let estimate = estimates.find(|estimate| estimate["variant"] == arm["variant"]);
        let estimate = estimate.unwrap_or(&Value::Null);
        let mean = match &estimate["doublyRobust"] {
            Value::Null => &estimate["selfNormalised"],
            robust => robust,
        };
        writeln!(
            out,
            "  {:<16} {:>9} {:>10} {:>10} {:>12}  {:>14}",
            text(&arm["variant"]),
            arm["rewards"].as_u64().unwrap_or_default(),
            number(&arm["mean"]),
            number(&arm["propensity"]),
            number(mean),
            number(&estimate["standardError"])
        )?;
    }
    writeln!(out, "  if always: {}", text(&bandit["offPolicy"]["method"]))?;
    for arm in list(&bandit["arms"]) {
        if let Some(weights) = arm["weights"].as_object() {
            let weights = weights.iter();
            let weights: Vec<String> = weights
                .map(|(name, weight)| format!("{name} {}", number(weight)))
                .collect();
            let variant = text(&arm["variant"]);
            writeln!(out, "  {variant}: expected {}", weights.join(", "))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variant_that_is_not_ready_is_told_once() {
        let status = json!({"message": "no requests yet", "conditions": [
            {"type": "InForce", "status": "True"},
            {"type": "VariantsReady", "status": "False", "message": "variant b: InferenceService next is not ready"}
        ]});
        let mut out = Vec::new();
        print_unready(&status, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "not ready   variant b: InferenceService next is not ready\n"
        );
        let waits = json!({"message": "variant b: there is none", "conditions": [{"status": "False", "message": "variant b: there is none"}]});
        let mut out = Vec::new();
        print_unready(&waits, &mut out).unwrap();
        assert!(out.is_empty());
    }

    #[test]
    fn settled_rates_name_their_method() {
        let settled =
            json!({"method": "betting", "units": 40, "mean": 0.25, "low": 0.125, "high": 0.5});
        let variant = json!({"name": "new", "units": 50, "metrics": {"bought": {"mean": 0.2, "open": 0, "settled": settled}, "spent": {"mean": 3, "open": 10}}});
        let mut out = Vec::new();
        print_variants(&json!({"variants": [variant]}), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with("  new: bought 0.250000 [0.125000, 0.500000] of 40 units whose window has closed  betting\n  new: spent of 10 units is not compared yet: their windows are open\n"),
            "{text}"
        );
    }

    #[test]
    fn a_bandits_table_shows_the_errors_of_its_estimates() {
        let arm =
            |name: &str| json!({"variant": name, "rewards": 40, "mean": 0.25, "propensity": 0.5});
        let estimates = json!([{"variant": "a", "selfNormalised": 0.3, "standardError": 0.0125}]);
        let bandit = json!({"arms": [arm("a"), arm("b")], "offPolicy": {"method": "m", "estimates": estimates}});
        let mut out = Vec::new();
        print_bandit(&bandit, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        // The second one was never chosen.
        let expected = [
            "  bandit             rewards       mean     chosen    if always  standard error",
            "  a                       40   0.250000   0.500000     0.300000        0.012500",
            "  b                       40   0.250000   0.500000            -               -",
            "  if always: m",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_numbers_of_variants_stand_below_their_heads() {
        let variant = |name: &str, is_control: bool, units: u64| json!({"name": name, "isControl": is_control, "units": units, "unitsExpected": 512.5, "requests": 1_234, "errors": 0});
        let report = json!({"variants": [variant("old", true, 7), variant("new", false, 123_456)]});
        let mut out = Vec::new();
        print_variants(&report, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "  variant           units  expected  requests    failed"
        );
        assert_eq!(
            lines[1],
            "  old (control)         7       512      1234         0"
        );
        assert_eq!(
            lines[2],
            "  new              123456       512      1234         0"
        );
    }
}
