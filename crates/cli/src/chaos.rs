//! `coracle chaos`: faults on purpose, for a while.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use coracle_base::Clock;
use coracle_serving::Chaos;
use serde_json::{Value, json};

use crate::Environment;
use crate::args::StateArguments;
use crate::client::Client;
use crate::shadow;

/// Let services or revisions fail on purpose, to see what clients, fallbacks and rollouts make of it.
///
/// The server must have been started with --chaos. Faults end by themselves, and with the server.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  coracle chaos set ml/iris --latency 200ms --jitter 100ms --for 5m\n  coracle chaos set ml/iris-predictor-00002 --errors 0.5 --code internal\n  coracle chaos list\n  coracle chaos clear"
)]
pub(crate) enum ChaosCommand {
    /// Print which faults are set
    List(PlaceArguments),
    /// Set the faults of a service or revision, in the place of those it has
    Set(SetArguments),
    /// End the faults of a service or revision, or all of them
    Clear(ClearArguments),
}

/// Where the server is.
#[derive(Debug, Args)]
pub(crate) struct PlaceArguments {
    /// The server, such as http://localhost:8080 [default: the one that `coracle up` started]
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    #[command(flatten)]
    state: StateArguments,
}

/// What is set.
#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    /// NAMESPACE/NAME of a service or a revision; of `coracle serve`, the name of a model
    #[arg(value_name = "TARGET")]
    target: String,

    /// How long each attempt waits, such as 200ms
    #[arg(long, value_name = "TIME")]
    latency: Option<String>,

    /// How much longer at most, by chance
    #[arg(long, value_name = "TIME")]
    jitter: Option<String>,

    /// The share of attempts that fail, 0 to 1
    #[arg(long, value_name = "SHARE")]
    errors: Option<f64>,

    /// With which code they fail, such as unavailable (503) or internal (500)
    #[arg(long, value_name = "CODE")]
    code: Option<String>,

    /// The share of attempts that are panics of the model, 0 to 1; one that panics again and again is set aside
    #[arg(long, value_name = "SHARE")]
    panics: Option<f64>,

    /// How long loads wait
    #[arg(long, value_name = "TIME")]
    load_delay: Option<String>,

    /// How long the faults last
    #[arg(long = "for", default_value = "10m", value_name = "TIME")]
    lasting: String,

    /// Set them for a service or revision that is not served yet
    #[arg(long)]
    allow_absent: bool,

    #[command(flatten)]
    place: PlaceArguments,
}

/// What is ended.
#[derive(Debug, Args)]
pub(crate) struct ClearArguments {
    /// NAMESPACE/NAME of a service or a revision; all without it
    #[arg(value_name = "TARGET")]
    target: Option<String>,

    #[command(flatten)]
    place: PlaceArguments,
}

/// Returns what faults are set in, where the server may have some.
pub(crate) fn allowed(is_allowed: bool, clock: &Arc<dyn Clock>) -> Option<Chaos> {
    let seed = clock.unix_time().as_nanos() & u128::from(u64::MAX);
    let seed = u64::try_from(seed).unwrap_or_default();
    is_allowed.then(|| Chaos::new(Arc::clone(clock), seed))
}

/// Runs the command.
pub(crate) fn run(command: &ChaosCommand, environment: &Environment) -> anyhow::Result<()> {
    let (place, path, body) = match command {
        ChaosCommand::List(place) => (place, "chaos", None),
        ChaosCommand::Set(set) => (&set.place, "chaos/set", Some(set.body())),
        ChaosCommand::Clear(clear) => {
            let body = clear
                .target
                .as_ref()
                .map_or_else(|| json!({}), |target| json!({"target": target}));
            (&clear.place, "chaos/clear", Some(body))
        }
    };
    let url = match &place.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => gateway(&Client::connect(&place.state, environment)?)?,
    };
    let answer = shadow::ask(&format!("{url}/{path}"), body.as_ref())?;
    let lines = lines(&answer);
    let mut out = crate::printed::stdout();
    if let Some(n_cleared) = answer["cleared"].as_u64() {
        writeln!(out, "cleared: {n_cleared}")?;
    }
    if lines.is_empty() {
        writeln!(out, "no faults are set")?;
    }
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

impl SetArguments {
    fn body(&self) -> Value {
        let mut body = json!({"target": self.target, "for": self.lasting});
        if self.allow_absent {
            body["allowAbsent"] = true.into();
        }
        let given = [
            ("latency", self.latency.clone().map(Value::from)),
            ("jitter", self.jitter.clone().map(Value::from)),
            ("errorRate", self.errors.map(Value::from)),
            ("errorCode", self.code.clone().map(Value::from)),
            ("panicRate", self.panics.map(Value::from)),
            ("loadDelay", self.load_delay.clone().map(Value::from)),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }
}

/// Returns where the gateway of a control plane is: any of its services says it.
pub(crate) fn gateway(client: &Client) -> anyhow::Result<String> {
    let list = client.get("/apis/serving.kserve.io/v1beta1/inferenceservices")?;
    let items = list["items"].as_array();
    let urls = items.into_iter().flatten();
    let mut urls = urls.filter_map(|item| item["status"]["url"].as_str());
    let url = urls.next().context(
        "no service is served yet, whose URL would say where the server is; --url says it, too",
    )?;
    match url.split_once("/serving/") {
        Some((gateway, _)) => Ok(gateway.to_owned()),
        None => bail!("{url} is not where services of this server are; --url says where it is"),
    }
}

/// Returns a line for each service or revision that has faults.
pub(crate) fn lines(answer: &Value) -> Vec<String> {
    let all = answer["chaos"].as_array().into_iter().flatten();
    all.map(|one| {
        let text = |field: &str| one[field].as_str().unwrap_or_default();
        let mut faults = Vec::new();
        for (field, words) in [
            ("latency", "latency"),
            ("jitter", "jitter"),
            ("loadDelay", "loads wait"),
        ] {
            if text(field) != "0s" {
                faults.push(format!("{words} {}", text(field)));
            }
        }
        for (field, words) in [("errorRate", "errors"), ("panicRate", "panics")] {
            let share = one[field].as_f64().unwrap_or_default();
            if share > 0.0 {
                faults.push(format!("{words} {} %", share * 100.0));
            }
        }
        if one["errorRate"].as_f64() > Some(0.0) {
            faults.push(format!("code {}", text("errorCode")));
        }
        format!(
            "{}  {}; struck {}, another {}",
            text("target"),
            faults.join(", "),
            one["struck"],
            text("left")
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_a_line_each() {
        let answer = json!({"chaos": [{
            "target": "ml/iris", "latency": "200ms", "jitter": "0s", "errorRate": 0.5, "errorCode": "internal",
            "panicRate": 0.0, "loadDelay": "0s", "left": "9m 59s", "struck": 3,
        }]});
        assert_eq!(
            lines(&answer),
            ["ml/iris  latency 200ms, errors 50 %, code internal; struck 3, another 9m 59s"]
        );
        assert!(lines(&json!({})).is_empty());
    }
}
