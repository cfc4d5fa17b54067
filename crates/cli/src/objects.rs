//! Commands over the local API for people without kubectl.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coracle_control::Manifest;
use serde_json::{Value, json};

use crate::Environment;
use crate::args::{ApplyArguments, GetArguments, ServiceArguments};
use crate::client::{Client, Request, accepted};
use crate::manifest_files::{self, ManifestText};

const GROUP: &str = "/apis/serving.kserve.io/v1beta1";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// How long a change of the split may take.
const SHIFT_MAX: Duration = Duration::from_secs(300);

pub(crate) fn service_path(namespace: &str, name: &str) -> String {
    format!("{GROUP}/namespaces/{namespace}/inferenceservices/{name}")
}

/// Returns an InferenceService.
///
/// # Errors
/// If there is none of this name, with where it was looked for.
pub(crate) fn find(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Value> {
    let found = client.get(&service_path(namespace, name));
    found.with_context(|| looked_in(namespace))
}

/// Says where an InferenceService was looked for.
pub(crate) fn looked_in(namespace: &str) -> String {
    format!("in namespace {namespace} (-n names another; `coracle get` lists all)")
}

/// `coracle apply`
pub(crate) fn apply(arguments: &ApplyArguments, environment: &Environment) -> anyhow::Result<()> {
    let client = Client::connect(&arguments.state, environment)?;
    let mut out = crate::printed::stdout();
    let mut texts = Vec::new();
    for path in &arguments.files {
        texts.extend(manifest_files::read(path)?);
    }
    for ManifestText { shown, text } in texts {
        let manifests = Manifest::read_all(&text, &arguments.namespace);
        let manifests =
            manifests.map_err(|failure| anyhow::anyhow!("{shown}: {}", failure.message))?;
        for manifest in manifests {
            writeln!(
                out,
                "{}",
                apply_one(&client, &manifest).with_context(|| manifest.resource.clone())?
            )?;
        }
    }
    Ok(())
}

fn apply_one(client: &Client, manifest: &Manifest) -> anyhow::Result<String> {
    if let Some(namespace) = &manifest.namespace {
        ensure_namespace(client, namespace)?;
    }
    let path = format!(
        "{}?fieldManager=coracle&force=true&fieldValidation=Strict",
        manifest.path
    );
    let (status, answer) = client.send(&Request {
        method: "PATCH",
        path: &path,
        accept: "",
        content_type: "application/apply-patch+yaml",
        body: &manifest.object.to_string(),
    })?;
    accepted(status, answer)?;
    let what = if status == 201 { "created" } else { "applied" };
    Ok(format!("{} {what}", manifest.resource))
}

fn ensure_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let (status, answer) = client.send(&Request {
        method: "POST",
        path: "/api/v1/namespaces",
        accept: "",
        content_type: "application/json",
        body: &json!({"metadata": {"name": name}}).to_string(),
    })?;
    match status {
        409 => Ok(()),
        status => accepted(status, answer).map(|_namespace| ()),
    }
}

/// `coracle get`
pub(crate) fn get(arguments: &GetArguments, environment: &Environment) -> anyhow::Result<()> {
    let client = Client::connect(&arguments.state, environment)?;
    let mut out = crate::printed::stdout();
    if let Some(name) = &arguments.name {
        let namespace = arguments.namespace.as_deref().unwrap_or("default");
        let service = find(&client, namespace, name)?;
        writeln!(out, "{}", serde_json::to_string_pretty(&service)?)?;
        return Ok(());
    }
    let path = match &arguments.namespace {
        Some(namespace) => format!("{GROUP}/namespaces/{namespace}/inferenceservices"),
        None => format!("{GROUP}/inferenceservices"),
    };
    let (status, table) = client.send(&Request {
        method: "GET",
        path: &path,
        accept: TABLE,
        content_type: "application/json",
        body: "",
    })?;
    print_table(&accepted(status, table)?, &mut out)
}

/// Prints a table as kubectl does, the namespace first.
fn print_table(table: &Value, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows = vec![vec!["NAMESPACE".to_owned()]];
    if let Some(header) = rows.first_mut() {
        let columns = list(&table["columnDefinitions"]);
        header.extend(
            columns
                .iter()
                .map(|column| column["name"].as_str().unwrap_or_default().to_uppercase()),
        );
    }
    for row in list(&table["rows"]) {
        let namespace = row["object"]["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default();
        let mut cells = vec![namespace.to_owned()];
        cells.extend(list(&row["cells"]).iter().map(|cell| match cell {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            value => value.to_string(),
        }));
        rows.push(cells);
    }
    if rows.len() == 1 {
        writeln!(out, "no InferenceServices")?;
        return Ok(());
    }
    let n_columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("   ").trim_end())?;
    }
    Ok(())
}

/// `coracle delete`
pub(crate) fn delete(
    arguments: &ServiceArguments,
    environment: &Environment,
) -> anyhow::Result<()> {
    let client = Client::connect(&arguments.state, environment)?;
    let path = service_path(&arguments.namespace, &arguments.name);
    let (status, answer) = client.send(&Request {
        method: "DELETE",
        path: &path,
        accept: "",
        content_type: "application/json",
        body: "",
    })?;
    accepted(status, answer)?;
    writeln!(
        crate::printed::stdout(),
        "{}/{} deleted",
        arguments.namespace,
        arguments.name
    )?;
    Ok(())
}

/// `coracle promote` and `coracle rollback`: sets the canary's share and waits until it is in force.
pub(crate) fn shift(
    arguments: &ServiceArguments,
    environment: &Environment,
    percent: u8,
) -> anyhow::Result<()> {
    let client = Client::connect(&arguments.state, environment)?;
    let path = service_path(&arguments.namespace, &arguments.name);
    let patch = json!({"spec": {"predictor": {"canaryTrafficPercent": percent}}});
    let (status, answer) = client.send(&Request {
        method: "PATCH",
        path: &format!("{path}?fieldManager=coracle"),
        accept: "",
        content_type: "application/merge-patch+json",
        body: &patch.to_string(),
    })?;
    let wanted = accepted(status, answer)?["metadata"]["generation"].clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let settled = runtime.block_on(async {
        let wait = async {
            loop {
                let service = client.get(&path)?;
                if service["status"]["observedGeneration"] == wanted && is_ready(&service) {
                    return anyhow::Ok(service);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(SHIFT_MAX, wait).await
    });
    let Ok(service) = settled else {
        bail!(
            "the split did not take force within {}; see `coracle get {}`",
            humantime::format_duration(SHIFT_MAX),
            arguments.name
        );
    };
    print_split(&service?)
}

fn is_ready(service: &Value) -> bool {
    let conditions = service["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn print_split(service: &Value) -> anyhow::Result<()> {
    let mut out = crate::printed::stdout();
    let traffic = service["status"]["components"]["predictor"]["traffic"].as_array();
    for target in traffic.into_iter().flatten() {
        let revision = target["revisionName"].as_str().unwrap_or_default();
        writeln!(out, "{revision}  {}%", target["percent"])?;
    }
    Ok(())
}
