//! `coracle status`: whether the control plane runs, and what it serves.

use std::io::Write as _;

use anyhow::bail;
use serde_json::Value;

use crate::Environment;
use crate::args::StateArguments;
use crate::client::Client;
use crate::state::StateDirectory;
use crate::{chaos, shadow};

/// Runs the command.
pub(crate) fn run(arguments: &StateArguments, environment: &Environment) -> anyhow::Result<()> {
    let state = StateDirectory::new(arguments.state.as_deref(), environment)?;
    let mut out = crate::printed::stdout();
    let (Some(process), Some(url)) = (state.running_process(), state.api_url()) else {
        bail!(
            "nothing runs on {}; start it with `coracle up`",
            state.path().display()
        );
    };
    let client = Client::connect(arguments, environment)?;
    let list = client.get("/apis/serving.kserve.io/v1beta1/inferenceservices")?;
    writeln!(out, "process     {process}")?;
    writeln!(out, "API         {url}")?;
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
    let told = chaos::gateway(&client).and_then(|url| shadow::get(&format!("{url}/chaos")));
    // Most servers have no faults, and say that they may not.
    for line in told.map(|told| chaos::lines(&told)).unwrap_or_default() {
        writeln!(out, "chaos       {line}")?;
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
