//! From a predictor's containers to the program that runs here: KServe's rules.
//!
//! Guarantees: what a manifest asks for and is not done here is refused by name, not left out. Left out without a word is
//! only what has no meaning without images and nodes (image pull settings, security contexts, scheduling).

mod ports;

use coracle_api::inference_service::{ModelSpec, PredictorSpec};
use coracle_api::quantity;
use coracle_api::serving_runtime::ServingRuntimeSpec;
use coracle_serving::{MODEL_PATH, Probe, ProbeAction, ProcessLimits, ProcessSpec};
use k8s_openapi::api::core::v1::{self as core, Container, PodSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::placeholders;
use super::variables::Sources;
use crate::images::Images;
use crate::object;
use crate::store::Store;

/// The container that answers requests.
const MAIN: &str = "kserve-container";
/// Where a predictor's custom container says where its files are.
const STORAGE_URI: &str = "STORAGE_URI";
/// How long a program may take to end, if the manifest does not say.
const GRACE_SECONDS: u32 = 30;

/// The annotation for the time that a program may take until it is ready, and that time without it.
const PROGRESS_DEADLINE: &str = "serving.knative.dev/progress-deadline";
const PROGRESS_SECONDS: u32 = 600;

/// What a translation needs besides the predictor.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) store: &'a Store,
    pub(super) service: &'a Value,
    /// The revision's name.
    pub(super) revision: &'a str,
    pub(super) images: &'a Images,
}

/// Why a container cannot be run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotRunnable {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl From<String> for NotRunnable {
    fn from(message: String) -> Self {
        Self {
            reason: "InvalidPredictorSpec",
            message,
        }
    }
}

/// Translates a predictor with containers of its own; returns the program and what it names as `STORAGE_URI`.
pub(super) fn custom(
    predictor: &PredictorSpec,
    around: Around<'_>,
) -> Result<(ProcessSpec, Option<String>), NotRunnable> {
    let container = main_container(&predictor.pod, "spec.predictor")?;
    let mut spec = process(container, &predictor.pod, around)?;
    // As KServe's webhook does: the files are fetched, and the variable names the place they are at.
    let variables = spec.environment.iter_mut();
    let variable = variables
        .filter(|(name, value)| name == STORAGE_URI && !value.is_empty())
        .last();
    let uri = variable.map(|(_, value)| std::mem::replace(value, MODEL_PATH.to_owned()));
    Ok((spec, uri))
}

/// Translates a model with the runtime that serves it.
pub(super) fn of_runtime(
    runtime: &ServingRuntimeSpec,
    (predictor, model): (&PredictorSpec, &ModelSpec),
    around: Around<'_>,
) -> Result<ProcessSpec, NotRunnable> {
    let container = main_container(&runtime.pod, "the runtime")?;
    let mut written = serde_json::to_value(container).map_err(|error| error.to_string())?;
    placeholders::replace(&mut written, around.service)?;
    let container: Container =
        serde_json::from_value(written).map_err(|error| error.to_string())?;
    let mut container = merged(container, &model.container);
    if let (Some(version), Some(image)) = (&model.source.runtime_version, &container.image) {
        container.image = Some(with_tag(image, version));
    }
    let mut pod = runtime.pod.clone();
    if predictor.pod.termination_grace_period_seconds.is_some() {
        pod.termination_grace_period_seconds = predictor.pod.termination_grace_period_seconds;
    }
    process(&container, &pod, around)
}

/// Returns the container that answers requests: the one of KServe's name, or the only one.
fn main_container<'a>(pod: &'a PodSpec, place: &str) -> Result<&'a Container, String> {
    if let Some([first, ..]) = pod.init_containers.as_deref() {
        return Err(format!(
            "{place}: the init container {} is not run here",
            first.name
        ));
    }
    match pod.containers.as_slice() {
        [] => Err(format!("{place} has no container")),
        [only] => Ok(only),
        several => {
            let other = several.iter().find(|container| container.name != MAIN);
            let other = other.map_or("", |container| &container.name);
            Err(format!(
                "{place}: only one container runs here; beside it there is {other}"
            ))
        }
    }
}

/// Returns the runtime's container with what the model's says: arguments are added, the rest replaces what is there.
fn merged(mut base: Container, over: &Container) -> Container {
    let take = |base: &mut Option<Vec<String>>, over: &Option<Vec<String>>| {
        if over.is_some() {
            base.clone_from(over);
        }
    };
    take(&mut base.command, &over.command);
    if let Some(args) = &over.args {
        base.args
            .get_or_insert_default()
            .extend(args.iter().cloned());
    }
    for variable in over.env.iter().flatten() {
        let variables = base.env.get_or_insert_default();
        match variables.iter_mut().find(|one| one.name == variable.name) {
            Some(there) => there.clone_from(variable),
            None => variables.push(variable.clone()),
        }
    }
    if let Some(env_from) = &over.env_from {
        base.env_from
            .get_or_insert_default()
            .extend(env_from.iter().cloned());
    }
    if let Some(over) = &over.resources {
        let resources = base.resources.get_or_insert_default();
        if let Some(limits) = &over.limits {
            let own = limits
                .iter()
                .map(|(name, amount)| (name.clone(), amount.clone()));
            resources.limits.get_or_insert_default().extend(own);
        }
    }
    macro_rules! replace {
        ($($field:ident)*) => {$(
            if over.$field.is_some() {
                base.$field.clone_from(&over.$field);
            }
        )*};
    }
    replace!(image ports working_dir startup_probe readiness_probe liveness_probe lifecycle volume_mounts);
    base
}

/// Returns an image with another tag; one that is named by digest keeps it.
fn with_tag(image: &str, tag: &str) -> String {
    if image.contains('@') {
        return image.to_owned();
    }
    match image.rsplit_once(':') {
        Some((name, old)) if !old.contains('/') => format!("{name}:{tag}"),
        _ => format!("{image}:{tag}"),
    }
}

fn process(
    container: &Container,
    pod: &PodSpec,
    around: Around<'_>,
) -> Result<ProcessSpec, NotRunnable> {
    let name = match container.name.as_str() {
        "" => MAIN,
        name => name,
    };
    let in_container = |why: String| format!("container {name}: {why}");
    refuse_unknown(container, pod).map_err(in_container)?;
    let argv = argv(container, around.images).ok_or_else(|| no_program(name, container))?;
    let sources = Sources {
        store: around.store,
        service: around.service,
    };
    let mut environment = knative_environment(around);
    environment.extend(sources.environment(container).map_err(in_container)?);
    let ports = ports::declared(container).map_err(in_container)?;
    let probe = |probe: &Option<core::Probe>, kind: &str| {
        let read = probe.as_ref().map(|probe| read_probe(probe, container));
        read.transpose()
            .map_err(|why| in_container(format!("{kind}: {why}")))
    };
    let grace = pod.termination_grace_period_seconds;
    Ok(ProcessSpec {
        argv,
        environment,
        working_directory: container.working_dir.clone(),
        startup: probe(&container.startup_probe, "startupProbe")?,
        readiness: probe(&container.readiness_probe, "readinessProbe")?,
        liveness: probe(&container.liveness_probe, "livenessProbe")?,
        ports: ports.all,
        grpc_port: ports.grpc,
        is_h2c: ports.is_h2c,
        grace_seconds: grace.map_or(GRACE_SECONDS, |grace| u32::try_from(grace).unwrap_or(0)),
        progress_seconds: Some(progress_seconds(around.service)?),
        limits: limits(container).map_err(in_container)?,
    })
}

/// Returns how long a program may take until it is ready, Knative's annotation and default.
fn progress_seconds(service: &Value) -> Result<u32, String> {
    let Some(text) = object::text(service, "annotations", PROGRESS_DEADLINE) else {
        return Ok(PROGRESS_SECONDS);
    };
    let time = humantime::parse_duration(text).ok();
    let whole = time.filter(|time| time.subsec_nanos() == 0 && !time.is_zero());
    let seconds = whole.and_then(|time| u32::try_from(time.as_secs()).ok());
    seconds.ok_or_else(|| {
        format!("annotation {PROGRESS_DEADLINE}: {text:?} is no time in whole seconds, such as 600s or 10m")
    })
}

/// Refuses what a container asks for and does not get here.
fn refuse_unknown(container: &Container, pod: &PodSpec) -> Result<(), String> {
    if container.lifecycle.is_some() {
        return Err("lifecycle hooks are not run here".to_owned());
    }
    for mount in container.volume_mounts.iter().flatten() {
        let volumes = pod.volumes.iter().flatten();
        let is_scratch = volumes
            .into_iter()
            .any(|volume| volume.name == mount.name && volume.empty_dir.is_some());
        // Shared memory is there without being mounted.
        if !(is_scratch && mount.mount_path == "/dev/shm") {
            return Err(format!(
                "nothing is mounted at {} here; name the place of files as the model's storageUri or as STORAGE_URI, found at {MODEL_PATH}",
                mount.mount_path
            ));
        }
    }
    Ok(())
}

/// Returns the program and its arguments; `None` if there is no program.
fn argv(container: &Container, images: &Images) -> Option<Vec<String>> {
    let own = container
        .command
        .as_deref()
        .filter(|command| !command.is_empty());
    let image = container.image.as_deref().unwrap_or_default();
    let command = own.or_else(|| images.command(image))?;
    let arguments = container.args.iter().flatten();
    Some(command.iter().chain(arguments).cloned().collect())
}

fn no_program(name: &str, container: &Container) -> NotRunnable {
    match container.image.as_deref() {
        None | Some("") => format!("container {name} has neither a command nor an image").into(),
        Some(image) => NotRunnable {
            reason: "ImageWithoutCommand",
            message: format!(
                "container {name} has the image {image:?} and no command, and this machine runs no images: write what runs here as the container's command, or start coracle up with --image '{image}=PROGRAM ARGUMENTS'"
            ),
        },
    }
}

/// The variables that Knative gives every container.
fn knative_environment(around: Around<'_>) -> Vec<(String, String)> {
    let service = format!("{}-predictor", object::name(around.service));
    vec![
        ("K_SERVICE".to_owned(), service.clone()),
        ("K_CONFIGURATION".to_owned(), service),
        ("K_REVISION".to_owned(), around.revision.to_owned()),
    ]
}

fn limits(container: &Container) -> Result<ProcessLimits, String> {
    let limits = container
        .resources
        .as_ref()
        .and_then(|resources| resources.limits.as_ref());
    let read = |name: &str, unit: f64| {
        let amount = limits.and_then(|limits| limits.get(name));
        let read = amount.map(|amount| {
            let number = quantity::parse(&amount.0).filter(|number| *number >= 0.0);
            number
                .map(|number| whole(number / unit))
                .ok_or_else(|| format!("limit of {name}: {:?} is no quantity", amount.0))
        });
        read.transpose()
    };
    Ok(ProcessLimits {
        cpu_millis: read("cpu", 1e-3)?,
        memory_bytes: read("memory", 1.0)?,
    })
}

/// Rounds a number that is not negative up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is beyond the range becomes its end"
)]
fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

fn read_probe(probe: &core::Probe, container: &Container) -> Result<Probe, String> {
    let port = |port: &IntOrString| ports::resolve(port, container);
    let action = match (&probe.http_get, &probe.tcp_socket, &probe.exec, &probe.grpc) {
        (Some(get), None, None, None) => {
            if get.scheme.as_deref().is_some_and(|scheme| scheme != "HTTP") {
                return Err("only the scheme HTTP is asked".to_owned());
            }
            if get.host.as_deref().is_some_and(|host| !host.is_empty()) {
                return Err("only this machine is asked; remove host".to_owned());
            }
            let headers = get.http_headers.iter().flatten();
            ProbeAction::HttpGet {
                path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
                port: port(&get.port)?,
                headers: headers
                    .map(|header| (header.name.clone(), header.value.clone()))
                    .collect(),
            }
        }
        (None, Some(socket), None, None) => ProbeAction::TcpSocket {
            port: port(&socket.port)?,
        },
        (None, None, Some(exec), None) => ProbeAction::Exec {
            command: exec.command.clone().unwrap_or_default(),
        },
        (None, None, None, Some(grpc)) => ProbeAction::Grpc {
            port: ports::resolve_grpc(grpc.port, container)?,
            service: grpc.service.clone().unwrap_or_default(),
        },
        _ => {
            return Err(
                "exactly one of httpGet, tcpSocket, exec and grpc is to be given".to_owned(),
            );
        }
    };
    let number = |value: Option<i32>, default: u32, least: u32| {
        value.map_or(default, |value| {
            u32::try_from(value).unwrap_or(0).max(least)
        })
    };
    Ok(Probe {
        action,
        initial_delay_seconds: number(probe.initial_delay_seconds, 0, 0),
        // Knative's 0 asks often until the first good answer, which is done here for every readiness probe.
        period_seconds: match probe.period_seconds {
            Some(0) | None => 10,
            period => number(period, 10, 1),
        },
        timeout_seconds: number(probe.timeout_seconds, 1, 1),
        success_threshold: number(probe.success_threshold, 1, 1),
        failure_threshold: number(probe.failure_threshold, 3, 1),
    })
}

#[cfg(test)]
mod tests;
