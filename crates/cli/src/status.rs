//! `coracle status`: whether the control plane runs, and what it serves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::Environment;
use crate::args::StateArguments;
use crate::state::StateDirectory;

/// How long the API may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) fn run(arguments: &StateArguments, environment: &Environment) -> anyhow::Result<()> {
    let state = StateDirectory::new(arguments.state.as_deref(), environment)?;
    let mut out = std::io::stdout();
    let (Some(process), Some(address)) = (state.running_process(), state.api_address()) else {
        bail!(
            "nothing runs on {}; start it with `coracle up`",
            state.path().display()
        );
    };
    let list = get(
        &address,
        "/apis/serving.kserve.io/v1beta1/inferenceservices",
    )?;
    writeln!(out, "process     {process}")?;
    writeln!(out, "API         http://{address}")?;
    writeln!(out, "kubeconfig  {}", state.kubeconfig().display())?;
    let items = list["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if items.is_empty() {
        writeln!(
            out,
            "no InferenceServices; apply one with `kubectl apply -f FILE`"
        )?;
    }
    for item in items {
        let conditions = item["status"]["conditions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let ready = conditions
            .iter()
            .find(|condition| condition["type"] == "Ready");
        let ready = ready
            .and_then(|ready| ready["status"].as_str())
            .unwrap_or("Unknown");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        writeln!(
            out,
            "{}/{}  ready: {ready}  {}",
            text(&item["metadata"]["namespace"]),
            text(&item["metadata"]["name"]),
            text(&item["status"]["url"])
        )?;
    }
    Ok(())
}

/// Gets JSON from the API.
fn get(address: &str, path: &str) -> anyhow::Result<Value> {
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        // HTTP/1.0: the answer ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = fetch().with_context(|| format!("the API on {address} does not answer"))?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer of the API is no HTTP")?;
    serde_json::from_str(body).context("the answer of the API is no JSON")
}
