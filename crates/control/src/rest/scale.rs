//! The subresource `scale`: of SeldonDeployments as Seldon's have it, `spec.replicas`; of InferenceServices, whose originals have none, `minReplicas`.

use coracle_api::Kind;
use coracle_api::kind::{POD, SELDON_DEPLOYMENT};
use serde_json::{Value, json};

use super::Api;
use super::body::{self, essence};
use super::path::ObjectsTarget;
use super::request::{ApiReply, ApiRequest};
use crate::controller::seldon;
use crate::failure::Failure;
use crate::object;
use crate::store::Stored;

/// The label that pods of a service have.
const SERVICE_LABEL: &str = "serving.kserve.io/inferenceservice";

impl Api {
    /// Reads or changes the number of replicas of an InferenceService or SeldonDeployment.
    pub(crate) fn scale(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        name: &str,
    ) -> Result<ApiReply, Failure> {
        let live = self.live(target, name)?;
        let current = self.scale_of(&live);
        let wanted = match request.method.as_str() {
            "GET" | "HEAD" => return Ok(ApiReply::json(200, &current)),
            "PUT" => body::read(request)?
                .ok_or_else(|| Failure::bad_request("the body is empty; send the scale"))?,
            "PATCH" => patched(request, current)?,
            _ => return Err(Failure::method_not_allowed("a scale is read or changed")),
        };
        let named = object::meta_str(&wanted, "resourceVersion");
        if !named.is_empty() && named != live.version.to_string() {
            return Err(Failure::modified(target.kind, name));
        }
        let replicas = wanted.pointer("/spec/replicas").unwrap_or(&Value::Null);
        let Some(n_replicas) = replicas.as_u64().filter(|n| i32::try_from(*n).is_ok()) else {
            let cause = coracle_api::structural::Cause::invalid(
                "spec.replicas",
                replicas,
                "must be a number of replicas, 0 or more",
            );
            return Err(Failure::invalid(target.kind, name, &[cause]));
        };
        let mut warnings = Vec::new();
        let mut scaled = live.object.clone();
        if *target.kind == SELDON_DEPLOYMENT {
            warnings.extend(unscaled(target.kind, &scaled)?);
            scaled["spec"]["replicas"] = n_replicas.into();
        } else {
            scaled["spec"]["predictor"]["minReplicas"] = n_replicas.into();
        }
        let stored = self.replace_scaled(request, target, &live, scaled)?;
        let mut reply = ApiReply::json(200, &self.scale_of(&stored));
        reply.warnings.append(&mut warnings);
        Ok(reply)
    }

    fn scale_of(&self, service: &Stored) -> Value {
        let name = service.key.name();
        let namespace = service.key.namespace();
        // Pods are named after their services; a graph's services after the deployment.
        let (label, replicas, prefix) = match service.key.is_of(&SELDON_DEPLOYMENT) {
            true => (seldon::ID_LABEL, "/spec/replicas", format!("{name}-")),
            false => (
                SERVICE_LABEL,
                "/spec/predictor/minReplicas",
                format!("{name}-predictor-"),
            ),
        };
        let pods = self.store.list_named(&POD, namespace, &prefix);
        let n_running = pods.iter().filter(|pod| {
            let phase = pod.object.pointer("/status/phase");
            object::text(&pod.object, "labels", label) == Some(name)
                && phase.is_some_and(|phase| phase == "Running")
        });
        let least = service.object.pointer(replicas);
        json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": object::meta_str(&service.object, "uid"),
                "resourceVersion": service.version.to_string(),
                "creationTimestamp": object::meta_str(&service.object, "creationTimestamp")
            },
            "spec": {"replicas": least.cloned().unwrap_or_else(|| json!(1))},
            "status": {
                "replicas": n_running.count(),
                "selector": format!("{label}={name}")
            }
        })
    }
}

/// Says which predictors of a SeldonDeployment have a number of replicas of their own, which stays.
///
/// # Errors
/// If all of them have.
fn unscaled(kind: &Kind, deployment: &Value) -> Result<Option<String>, Failure> {
    let predictors = deployment.pointer("/spec/predictors");
    let predictors: Vec<&Value> = predictors
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    let has_own = |predictor: &&&Value| {
        let components = predictor.get("componentSpecs").and_then(Value::as_array);
        let mut components = components.into_iter().flatten();
        predictor["replicas"].is_number()
            || components.any(|component| {
                component["replicas"].is_number() || component["hpaSpec"].is_object()
            })
    };
    let own: Vec<&Value> = predictors.iter().filter(has_own).copied().collect();
    let names = own
        .iter()
        .map(|one| one["name"].as_str().unwrap_or_default());
    let names = names.collect::<Vec<_>>().join(", ");
    if own.is_empty() {
        return Ok(None);
    }
    if own.len() == predictors.len() {
        let why = format!(
            "each predictor has a number of replicas of its own, which goes before spec.replicas ({names}); change that one"
        );
        let cause = coracle_api::structural::Cause::forbidden("spec.replicas", &why);
        return Err(Failure::invalid(kind, object::name(deployment), &[cause]));
    }
    Ok(Some(format!(
        "predictors with a number of replicas of their own keep it: {names}"
    )))
}

fn patched(request: &ApiRequest, mut scale: Value) -> Result<Value, Failure> {
    let patch = body::read(request)?
        .ok_or_else(|| Failure::bad_request("the body is empty; send the patch"))?;
    match essence(&request.content_type) {
        "application/json-patch+json" => coracle_patch::json_patch(&mut scale, &patch)
            .map_err(|error| Failure::bad_request(error.to_string()))?,
        "application/merge-patch+json" => {
            coracle_patch::merge_patch(&mut scale, &patch);
            // A patch that names no version takes whatever is there.
            if patch.pointer("/metadata/resourceVersion").is_none() {
                object::metadata_mut(&mut scale).remove("resourceVersion");
            }
        }
        _ => {
            return Err(Failure::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json",
            ));
        }
    }
    Ok(scale)
}
