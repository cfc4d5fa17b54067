//! `coracle rollout`: how a rollout stands, and what people want of it.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use coracle_control::annotations::ROLLOUT as COMMAND;
use serde_json::{Value, json};

use crate::Environment;
use crate::args::ServiceArguments;
use crate::client::{Client, Request, accepted};

const GROUP: &str = "/apis/serving.coracle.dev/v1alpha1";
/// How long a command may take to be done.
const DONE_MAX: Duration = Duration::from_secs(10);

/// See and steer a Rollout, by which new revisions of an InferenceService come to take its requests.
///
/// NAME is the Rollout's.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Print how it stands, with every comparison
    Status(ServiceArguments),
    /// Let no stage end for the time being; a new revision that is worse goes back all the same
    Pause(ServiceArguments),
    /// Let stages end again
    Resume(ServiceArguments),
    /// Go to the next stage at once
    Skip(ServiceArguments),
    /// Go back to the revision that serves
    Abort(ServiceArguments),
    /// Give the new revision all requests
    Promote(ServiceArguments),
    /// Try a revision again that went back
    Retry(ServiceArguments),
}

/// Runs the command.
pub(crate) fn run(command: &RolloutCommand, environment: &Environment) -> anyhow::Result<()> {
    let paused = |is_paused: bool| Some(json!({"spec": {"paused": is_paused}}));
    let at_once = |command: &str| Some(json!({"metadata": {"annotations": {COMMAND: command}}}));
    let (arguments, patch) = match command {
        RolloutCommand::Status(arguments) => (arguments, None),
        RolloutCommand::Pause(arguments) => (arguments, paused(true)),
        RolloutCommand::Resume(arguments) => (arguments, paused(false)),
        RolloutCommand::Skip(arguments) => (arguments, at_once("skip")),
        RolloutCommand::Abort(arguments) => (arguments, at_once("abort")),
        RolloutCommand::Promote(arguments) => (arguments, at_once("promote")),
        RolloutCommand::Retry(arguments) => (arguments, at_once("retry")),
    };
    let ServiceArguments {
        name,
        namespace,
        state,
    } = arguments;
    let client = Client::connect(state, environment)?;
    let path = format!("{GROUP}/namespaces/{namespace}/rollouts/{name}");
    let Some(patch) = patch else {
        let rollout = client.get(&path);
        let rollout = rollout.with_context(|| elsewhere(namespace, "rollouts"))?;
        return print(&rollout);
    };
    let (status, answer) = client.send(&Request {
        method: "PATCH",
        path: &format!("{path}?fieldManager=coracle"),
        accept: "",
        content_type: "application/merge-patch+json",
        body: &patch.to_string(),
    })?;
    let rollout = found((status, answer), namespace, "rollouts")?;
    if pending(&rollout, COMMAND).is_none() {
        let what = match rollout["spec"]["paused"] == true {
            true => "paused: no stage ends, and a revision that is worse goes back all the same",
            false => "resumed: stages end again",
        };
        writeln!(crate::printed::stdout(), "{namespace}/{name} is {what}")?;
        return Ok(());
    }
    let rollout = done(&client, &path, COMMAND)?;
    let (is_taken, why) = taken(&rollout);
    if !is_taken {
        bail!("{namespace}/{name}: {why}");
    }
    let status = |field: &str| rollout["status"][field].as_str().unwrap_or("-").to_owned();
    let (phase, message) = (status("phase"), status("message"));
    writeln!(
        crate::printed::stdout(),
        "{namespace}/{name} {phase}: {message}"
    )?;
    Ok(())
}

/// Says where something was looked for that may be elsewhere.
pub(crate) fn elsewhere(namespace: &str, plural: &str) -> String {
    format!("in namespace {namespace} (`kubectl get {plural} -A` lists all)")
}

/// Returns the answer of a request that was not refused; of what is not there it is said where it was looked for.
pub(crate) fn found(
    (status, answer): (u16, Value),
    namespace: &str,
    plural: &str,
) -> anyhow::Result<Value> {
    let answer = accepted(status, answer);
    match status {
        404 => answer.with_context(|| elsewhere(namespace, plural)),
        _ => answer,
    }
}

/// Returns the command that is not done yet.
fn pending<'a>(object: &'a Value, annotation: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][annotation].as_str()
}

/// Waits until the command in an annotation is done; returns the object as it is then.
pub(crate) fn done(client: &Client, path: &str, annotation: &str) -> anyhow::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let wait = async {
        loop {
            let object = client.get(path)?;
            if pending(&object, annotation).is_none() {
                return Ok(object);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let result = runtime.block_on(async { tokio::time::timeout(DONE_MAX, wait).await });
    result.unwrap_or_else(|_elapsed| bail!("told, but not done yet; the status shows when it is"))
}

/// Returns whether the last command had its effect, and why not.
fn taken(rollout: &Value) -> (bool, &str) {
    let conditions = rollout["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == "CommandTaken");
    let text = |field: &str| found.and_then(|condition| condition[field].as_str());
    (
        text("status") != Some("False"),
        text("message").unwrap_or_default(),
    )
}

fn print(rollout: &Value) -> anyhow::Result<()> {
    let mut out = crate::printed::stdout();
    let status = &rollout["status"];
    let text = |field: &str| status[field].as_str().unwrap_or("-").to_owned();
    writeln!(
        out,
        "service   {}",
        rollout["spec"]["inferenceService"].as_str().unwrap_or("-")
    )?;
    writeln!(out, "phase     {}", text("phase"))?;
    writeln!(out, "stable    {}", text("stableRevision"))?;
    writeln!(out, "canary    {}", text("canaryRevision"))?;
    if let (Some(step), Some(percent)) = (status["step"].as_i64(), status["percent"].as_i64()) {
        writeln!(out, "step      {step}, {percent} %")?;
    }
    writeln!(out, "message   {}", text("message"))?;
    let (is_taken, why) = taken(rollout);
    if !is_taken {
        writeln!(out, "refused   {why}")?;
    }
    for check in status["checks"].as_array().into_iter().flatten() {
        let text = |field: &str| check[field].as_str().unwrap_or_default();
        // The message begins with what is compared.
        let (state, message) = (text("state"), text("message"));
        writeln!(out, "{state:<9} {message}")?;
    }
    Ok(())
}
