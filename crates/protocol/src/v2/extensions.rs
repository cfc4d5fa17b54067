//! Triton's extensions of the protocol over REST: configuration, statistics, repository, shared memory.

use serde::Deserialize;

use crate::facts::{
    IndexEntry, ModelCounters, ModelFacts, ModelSettings, RegionEntry, VersionChoice,
    config_datatype,
};
use crate::{RequestError, render};

/// Appends a model's configuration, with the fields that clients read.
pub fn model_config(facts: ModelFacts<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    render::string(facts.name, out);
    out.extend_from_slice(b",\"platform\":");
    render::string(facts.platform, out);
    out.extend_from_slice(b",\"backend\":\"coracle\",\"version_policy\":{");
    version_policy(facts, out);
    out.extend_from_slice(b"},\"max_batch_size\":");
    render::integer(facts.batch_size_max(), out);
    out.extend_from_slice(b",\"input\":[");
    let tensor = |spec: &coracle_model::TensorSpec, out: &mut Vec<u8>| {
        out.extend_from_slice(b"{\"name\":");
        render::string(&spec.name, out);
        out.extend_from_slice(b",\"data_type\":\"");
        out.extend_from_slice(config_datatype(spec.dtype).0.as_bytes());
        out.extend_from_slice(b"\",\"dims\":[");
        render::separated(facts.dims(spec).into_iter(), out, render::integer);
        out.extend_from_slice(b"]}");
    };
    render::separated(facts.signature.inputs.iter(), out, tensor);
    out.extend_from_slice(b"],\"output\":[");
    render::separated(facts.outputs(), out, tensor);
    out.push(b']');
    settings(&facts.settings, out);
    out.extend_from_slice(b",\"model_transaction_policy\":{\"decoupled\":false}}");
}

/// Appends which versions the model's own configuration asks for, else those that are served.
fn version_policy(facts: ModelFacts<'_>, out: &mut Vec<u8>) {
    match facts.settings.versions {
        Some(VersionChoice::Latest(n_versions)) => {
            out.extend_from_slice(b"\"latest\":{\"num_versions\":");
            render::integer(n_versions, out);
        }
        Some(VersionChoice::All) => out.extend_from_slice(b"\"all\":{"),
        Some(VersionChoice::Specific(versions)) => {
            out.extend_from_slice(b"\"specific\":{\"versions\":[");
            render::separated(versions.iter().copied(), out, render::integer);
            out.push(b']');
        }
        None => {
            out.extend_from_slice(b"\"specific\":{\"versions\":[");
            let served = facts.versions.iter();
            let served = served.filter_map(|text| text.parse::<i64>().ok());
            render::separated(served, out, render::integer);
            out.push(b']');
        }
    }
    out.push(b'}');
}

fn settings(settings: &ModelSettings<'_>, out: &mut Vec<u8>) {
    if let Some(batching) = settings.batching {
        out.extend_from_slice(b",\"dynamic_batching\":{\"preferred_batch_size\":[");
        let sizes = batching.preferred_sizes.iter().copied();
        render::separated(sizes, out, render::integer);
        out.extend_from_slice(b"],\"max_queue_delay_microseconds\":");
        let delay = u64::try_from(batching.delay.as_micros()).unwrap_or(u64::MAX);
        render::integer(delay, out);
        out.push(b'}');
    }
    if settings.keeps_answers {
        out.extend_from_slice(b",\"response_cache\":{\"enable\":true}");
    }
    if let Some(name) = settings.default_model_filename {
        out.extend_from_slice(b",\"default_model_filename\":");
        render::string(name, out);
    }
    if let Some(parameters) = settings.parameters.filter(|all| !all.is_empty()) {
        out.extend_from_slice(b",\"parameters\":{");
        render::separated(parameters.iter(), out, |(key, value), out| {
            render::string(key, out);
            out.extend_from_slice(b":{\"string_value\":");
            render::string(value, out);
            out.push(b'}');
        });
        out.push(b'}');
    }
}

/// Appends what was counted of models.
pub fn model_statistics<'a>(models: impl Iterator<Item = ModelCounters<'a>>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"model_stats\":[");
    render::separated(models, out, counters);
    out.extend_from_slice(b"]}");
}

fn counters(model: ModelCounters<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    render::string(model.name, out);
    out.extend_from_slice(b",\"version\":");
    render::string(model.version, out);
    for (name, value) in [
        (&b",\"last_inference\":"[..], model.last_inference_ms),
        (b",\"inference_count\":", model.inference_count),
        (b",\"execution_count\":", model.execution_count),
    ] {
        out.extend_from_slice(name);
        render::integer(value, out);
    }
    out.extend_from_slice(b",\"inference_stats\":{");
    let timed = [
        (&b"\"success\""[..], model.success),
        (b"\"fail\"", model.fail),
        (b"\"queue\"", model.queue),
        (b"\"compute_input\"", model.compute_input),
        (b"\"compute_infer\"", model.compute_infer),
        (b"\"compute_output\"", model.compute_output),
        (b"\"cache_hit\"", model.cache_hit),
        (b"\"cache_miss\"", model.cache_miss),
    ];
    render::separated(timed.into_iter(), out, |(name, timed), out| {
        out.extend_from_slice(name);
        out.extend_from_slice(b":{\"count\":");
        render::integer(timed.count, out);
        out.extend_from_slice(b",\"ns\":");
        render::integer(timed.ns, out);
        out.push(b'}');
    });
    out.extend_from_slice(
        b"},\"batch_stats\":[],\"memory_usage\":[{\"type\":\"CPU\",\"id\":0,\"byte_size\":",
    );
    render::integer(model.memory_bytes, out);
    out.extend_from_slice(b"}]}");
}

/// Appends the index of the models.
pub fn repository_index(entries: &[IndexEntry], out: &mut Vec<u8>) {
    out.push(b'[');
    render::separated(entries.iter(), out, |entry, out| {
        out.extend_from_slice(b"{\"name\":");
        render::string(&entry.name, out);
        out.extend_from_slice(b",\"version\":");
        render::string(&entry.version, out);
        out.extend_from_slice(b",\"state\":");
        render::string(entry.state(), out);
        out.extend_from_slice(b",\"reason\":");
        render::string(&entry.reason, out);
        out.push(b'}');
    });
    out.push(b']');
}

/// Appends the registered regions of shared memory.
pub fn region_status(regions: &[RegionEntry], out: &mut Vec<u8>) {
    out.push(b'[');
    render::separated(regions.iter(), out, |region, out| {
        out.extend_from_slice(b"{\"name\":");
        render::string(&region.name, out);
        out.extend_from_slice(b",\"key\":");
        render::string(&region.key, out);
        out.extend_from_slice(b",\"offset\":");
        render::integer(region.offset, out);
        out.extend_from_slice(b",\"byte_size\":");
        render::integer(region.byte_size, out);
        out.push(b'}');
    });
    out.push(b']');
}

/// A region of shared memory to be registered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "an object with key, offset and byte_size")]
pub struct RegisterRegion {
    /// The name of the shared memory object.
    pub key: String,
    /// Where the region starts in the object.
    #[serde(default)]
    pub offset: u64,
    /// Its length in bytes.
    pub byte_size: u64,
}

impl RegisterRegion {
    /// Decodes the body of `POST /v2/systemsharedmemory/region/R/register`.
    ///
    /// # Errors
    /// Code `InvalidArgument`.
    pub fn decode(body: &[u8]) -> Result<Self, RequestError> {
        serde_json::from_slice(body).map_err(|error| RequestError::from_json(body, &error))
    }
}

/// Decodes the body of `POST /v2/repository/index`: whether only models that are ready are to be listed.
///
/// # Errors
/// Code `InvalidArgument`.
pub fn decode_index(body: &[u8]) -> Result<bool, RequestError> {
    #[derive(Default, Deserialize)]
    #[serde(expecting = "an object such as {\"ready\": true}")]
    struct Index {
        #[serde(default)]
        ready: bool,
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(false);
    }
    let index: Index =
        serde_json::from_slice(body).map_err(|error| RequestError::from_json(body, &error))?;
    Ok(index.ready)
}

/// Checks the body of `POST /v2/repository/models/M/load`: parameters that change the model are refused.
///
/// # Errors
/// Code `InvalidArgument`, or `Unimplemented` for `config` and files in the request.
pub fn check_load(body: &[u8]) -> Result<(), RequestError> {
    #[derive(Default, Deserialize)]
    #[serde(expecting = "an object such as {\"parameters\": {}}")]
    struct Load {
        #[serde(default)]
        parameters: std::collections::BTreeMap<String, serde_json::Value>,
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let load: Load =
        serde_json::from_slice(body).map_err(|error| RequestError::from_json(body, &error))?;
    check_load_parameters(load.parameters.keys().map(String::as_str))
}

/// Checks the parameters of a request to load a model.
///
/// # Errors
/// Code `Unimplemented` for `config` and files in the request.
pub fn check_load_parameters<'a>(
    mut names: impl Iterator<Item = &'a str>,
) -> Result<(), RequestError> {
    let changes = |name: &&str| *name == "config" || name.starts_with("file:");
    match names.find(changes) {
        None => Ok(()),
        Some(name) => Err(RequestError::unimplemented(format!(
            "load parameter {}: models are loaded from their own files only",
            crate::error::quoted(name)
        ))),
    }
}
