//! Answers about models over gRPC.

use coracle_model::TensorSpec;

use super::inference::{
    InferStatistics, MemoryUsage, ModelConfig, ModelIndex, ModelInput, ModelMetadataResponse,
    ModelOutput, ModelStatistics, ModelTransactionPolicy, ModelVersionPolicy, PolicyChoice,
    RepositoryIndexResponse, Specific, StatisticDuration, TensorMetadata,
};
use crate::facts::{CountAndTime, IndexEntry, ModelCounters, ModelFacts, config_datatype};

/// Returns what a model takes and gives.
#[must_use]
pub fn model_metadata(facts: ModelFacts<'_>) -> ModelMetadataResponse {
    let tensor = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.dtype.name().to_owned(),
        shape: spec.wire_shape(),
    };
    ModelMetadataResponse {
        name: facts.name.to_owned(),
        versions: facts
            .versions
            .iter()
            .map(|&version| version.to_owned())
            .collect(),
        platform: facts.platform.to_owned(),
        inputs: facts.signature.inputs.iter().map(tensor).collect(),
        outputs: facts.outputs().map(tensor).collect(),
    }
}

/// Returns a model's configuration in Triton's form.
#[must_use]
pub fn model_config(facts: ModelFacts<'_>) -> ModelConfig {
    let versions = facts
        .versions
        .iter()
        .filter_map(|version| version.parse().ok());
    ModelConfig {
        name: facts.name.to_owned(),
        platform: facts.platform.to_owned(),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(PolicyChoice::Specific(Specific {
                versions: versions.collect(),
            })),
        }),
        max_batch_size: facts.batch_size_max(),
        input: facts
            .signature
            .inputs
            .iter()
            .map(|spec| ModelInput {
                name: spec.name.clone(),
                data_type: config_datatype(spec.dtype).1,
                dims: facts.dims(spec),
            })
            .collect(),
        output: facts
            .outputs()
            .map(|spec| ModelOutput {
                name: spec.name.clone(),
                data_type: config_datatype(spec.dtype).1,
                dims: facts.dims(spec),
            })
            .collect(),
        backend: "coracle".to_owned(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
    }
}

/// Returns what was counted of a model.
#[must_use]
pub fn model_statistics(counters: ModelCounters<'_>) -> ModelStatistics {
    let timed = |timed: CountAndTime| {
        Some(StatisticDuration {
            count: timed.count,
            ns: timed.ns,
        })
    };
    ModelStatistics {
        name: counters.name.to_owned(),
        version: counters.version.to_owned(),
        last_inference: counters.last_inference_ms,
        inference_count: counters.inference_count,
        execution_count: counters.execution_count,
        inference_stats: Some(InferStatistics {
            success: timed(counters.success),
            fail: timed(counters.fail),
            queue: timed(counters.queue),
            compute_input: timed(counters.compute_input),
            compute_infer: timed(counters.compute_infer),
            compute_output: timed(counters.compute_output),
            cache_hit: timed(counters.cache_hit),
            cache_miss: timed(counters.cache_miss),
        }),
        memory_usage: vec![MemoryUsage {
            r#type: "CPU".to_owned(),
            id: 0,
            byte_size: counters.memory_bytes,
        }],
    }
}

/// Returns the index of the models.
#[must_use]
pub fn repository_index(entries: Vec<IndexEntry>) -> RepositoryIndexResponse {
    let model = |entry: IndexEntry| ModelIndex {
        state: entry.state().to_owned(),
        name: entry.name,
        version: entry.version,
        reason: entry.reason,
    };
    RepositoryIndexResponse {
        models: entries.into_iter().map(model).collect(),
    }
}
