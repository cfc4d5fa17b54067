//! `coracle shadow`: what the shadow of a service would have changed, in a terminal.

use std::io::{Read as _, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::Environment;
use crate::args::ServiceArguments;
use crate::client::Client;
use crate::objects;

const SELDON: &str = "/apis/machinelearning.seldon.io/v1";
/// How long the gateway may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Lines of a matrix, and requests, that are printed.
const LINES_MAX: usize = 12;

/// Compare a service with its shadow.
///
/// The annotation `serving.coracle.dev/shadow: NAME` of an InferenceService sends copies of its requests to the InferenceService NAME; nobody
/// gets their answers.
#[derive(Debug, Subcommand)]
pub(crate) enum ShadowCommand {
    /// Print how the shadow's answers differ from those that were given
    Report(ReportArguments),
}

/// Which report, and how.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    #[command(flatten)]
    service: ServiceArguments,

    /// Print all of it as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(command: &ShadowCommand, environment: &Environment) -> anyhow::Result<()> {
    let ShadowCommand::Report(arguments) = command;
    let ServiceArguments {
        name,
        namespace,
        state,
    } = &arguments.service;
    let client = Client::connect(state, environment)?;
    let url = url_of(&|path| client.get(path), namespace, name)?;
    let answer = get(&format!("{url}/shadow"))?;
    let report = &answer["shadows"][0];
    let mut out = crate::printed::stdout();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
        return Ok(());
    }
    print(report, &mut out)?;
    writeln!(out, "\nas a page: {url}/shadow/page")?;
    Ok(())
}

/// Returns where a service is asked, which `get` tells of; a SeldonDeployment that is a graph of several nodes is asked there, too, and is no InferenceService.
fn url_of(
    get: &dyn Fn(&str) -> anyhow::Result<Value>,
    namespace: &str,
    name: &str,
) -> anyhow::Result<String> {
    let url = match get(&objects::service_path(namespace, name)) {
        Ok(service) => service["status"]["url"].as_str().map(str::to_owned),
        Err(why) => {
            let path = format!("{SELDON}/namespaces/{namespace}/seldondeployments/{name}");
            // Who names neither is told of the InferenceService.
            let Ok(deployment) = get(&path) else {
                return Err(why.context(objects::looked_in(namespace)));
            };
            let url = deployment["status"]["address"]["url"].as_str();
            let base = url.and_then(|url| url.split_once("/seldon/"));
            base.map(|(base, _)| format!("{base}/serving/{namespace}/{name}"))
        }
    };
    url.with_context(|| format!("{namespace}/{name} is not served yet"))
}

/// Gets JSON of the gateway, which speaks HTTP on this machine.
pub(crate) fn get(url: &str) -> anyhow::Result<Value> {
    ask(url, None)
}

/// Gets JSON of the gateway, or posts some and returns the answer.
pub(crate) fn ask(url: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    let (method, body) = match body {
        Some(body) => ("POST", body.to_string()),
        None => ("GET", String::new()),
    };
    let rest = url.strip_prefix("http://");
    let rest = rest.with_context(|| format!("{url} is no http:// URL"))?;
    let (host, path) = rest
        .split_once('/')
        .with_context(|| format!("{url} has no path"))?;
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        write!(
            stream,
            "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = exchange().with_context(|| format!("the gateway at {host} does not answer"))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    let body = body.context("the answer of the gateway is no HTTP")?;
    let value: Value =
        serde_json::from_str(body).context("the answer of the gateway is no JSON")?;
    match value["error"].as_str() {
        Some(error) => bail!("{error}"),
        None => Ok(value),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn ms(value: &Value) -> String {
    let ms = value.as_f64().map(|seconds| seconds * 1e3);
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.3} ms"))
}

fn percent(value: &Value) -> String {
    let percent = value.as_f64().map(|ratio| ratio * 100.0);
    percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.2} %"))
}

/// Prints a report.
fn print(report: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "{}/{} and its shadow {}",
        text(&report["namespace"]),
        text(&report["service"]),
        text(&report["shadow"])
    )?;
    if report["lost"].as_u64() > Some(0) {
        let lost = &report["lost"];
        writeln!(
            out,
            "{lost} copies were lost: the shadow is slower than what comes"
        )?;
    }
    for comparison in list(&report["comparisons"]) {
        let shadow = match text(&comparison["shadow"]) {
            "" => "no revision",
            shadow => shadow,
        };
        writeln!(
            out,
            "\n{} and {shadow}: {} requests since {}",
            text(&comparison["stable"]),
            comparison["requests"],
            text(&comparison["since"])
        )?;
        print_ends(comparison, out)?;
        for output in list(&comparison["outputs"]) {
            print_output(output, out)?;
        }
        print_worst(comparison, out)?;
    }
    Ok(())
}

fn print_ends(comparison: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    for one in list(&comparison["outcomes"]) {
        if one["count"].as_u64() > Some(0) {
            writeln!(out, "  {:<14} {}", text(&one["name"]), one["count"])?;
        }
    }
    for one in list(&comparison["failures"]) {
        writeln!(
            out,
            "  failed {} times: {}",
            one["count"],
            text(&one["name"])
        )?;
    }
    for name in ["stable", "shadow"] {
        let latency = &comparison["latency"][name];
        writeln!(
            out,
            "  {name:<14} p50 {}, p95 {}, p99 {} to decode and run",
            ms(&latency["p50Seconds"]),
            ms(&latency["p95Seconds"]),
            ms(&latency["p99Seconds"])
        )?;
    }
    Ok(())
}

fn print_output(output: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "  output {}: {} of {} rows the same",
        text(&output["name"]),
        percent(&output["sameRatio"]),
        output["rows"]
    )?;
    let labels = &output["labels"];
    if labels.is_object() {
        if let Some(kappa) = labels["cohensKappa"].as_f64() {
            writeln!(out, "    Cohen's kappa {kappa:.4}")?;
        }
        for pair in list(&labels["confusion"]).iter().take(LINES_MAX) {
            writeln!(
                out,
                "    {:>8}  given {}, shadow {}",
                pair["count"].to_string(),
                text(&pair["stable"]),
                text(&pair["shadow"])
            )?;
        }
    }
    let numbers = &output["numbers"];
    if numbers.is_object() {
        writeln!(
            out,
            "    shadow minus stable: mean {}, deviation {}, farthest {}",
            numbers["differenceMean"], numbers["differenceDeviation"], numbers["distanceMax"]
        )?;
        for (index, column) in list(&numbers["columns"]).iter().enumerate() {
            if column["stabilityIndex"].is_null() {
                writeln!(out, "    column {index}: no numbers of one of both")?;
                continue;
            }
            writeln!(
                out,
                "    column {index}: PSI {:.4}, Kolmogorov-Smirnov {:.4} (p {:.3})",
                column["stabilityIndex"].as_f64().unwrap_or_default(),
                column["kolmogorovSmirnov"].as_f64().unwrap_or_default(),
                column["pValue"].as_f64().unwrap_or_default()
            )?;
        }
    }
    Ok(())
}

fn print_worst(comparison: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    let worst = list(&comparison["worst"]);
    if !worst.is_empty() {
        writeln!(out, "  farthest apart:")?;
    }
    for far in worst.iter().take(LINES_MAX) {
        let others = match far["rowsDiffered"].as_u64() {
            Some(n_rows @ 2..) => format!(" of {n_rows} that differ"),
            _ => String::new(),
        };
        writeln!(
            out,
            "    {} row {}{others}: given {}, shadow {}  {}",
            text(&far["output"]),
            far["row"],
            text(&far["stable"]),
            text(&far["shadow"]),
            text(&far["request"])
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn graphs_have_reports_where_services_have_theirs() {
        let get = |path: &str| match path {
            "/apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices/iris" => {
                Ok(json!({"status": {"url": "http://localhost:8080/serving/ml/iris"}}))
            }
            "/apis/machinelearning.seldon.io/v1/namespaces/ml/seldondeployments/graph" => {
                let url = "http://localhost:8080/seldon/ml/graph/api/v1.0/predictions";
                Ok(json!({"status": {"address": {"url": url}}}))
            }
            "/apis/machinelearning.seldon.io/v1/namespaces/ml/seldondeployments/new" => {
                Ok(json!({"status": {"state": "Creating"}}))
            }
            path => bail!("{path} not found"),
        };
        let url = |name: &str| url_of(&get, "ml", name).map_err(|why| format!("{why:#}"));
        assert_eq!(
            url("iris").unwrap(),
            "http://localhost:8080/serving/ml/iris"
        );
        assert_eq!(
            url("graph").unwrap(),
            "http://localhost:8080/serving/ml/graph"
        );
        assert_eq!(url("new").unwrap_err(), "ml/new is not served yet");
        let neither = url("neither").unwrap_err();
        assert!(neither.starts_with("in namespace ml"), "{neither}");
        assert!(
            neither.contains("inferenceservices/neither not found"),
            "{neither}"
        );
    }
}
