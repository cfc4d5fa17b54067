//! What a model's own `config.pbtxt` says of how it is served; the command line goes before it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_formats::{TritonConfig, TritonVersions};
use coracle_model::{LoadError, Model};
use coracle_serving::batch::BatchSettings;
use coracle_serving::{CacheSettings, DeclaredConfig, QueueLimits, VersionPolicy};

/// The answers that are kept of a model whose configuration asks for that, where the command line says nothing.
const CACHE_BYTES: u64 = 64 << 20;

/// What is served of a model, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnConfig {
    pub(super) versions: Option<VersionPolicy>,
    pub(super) batching: Option<BatchSettings>,
    pub(super) queue: QueueLimits,
    pub(super) cache: Option<CacheSettings>,
    /// For who asks for the model's configuration.
    pub(super) declared: Option<Arc<DeclaredConfig>>,
}

impl OwnConfig {
    /// Reads what lies beside `place`, a model's file or a numbered directory. `None` for a file at fault, which is told when the
    /// model is loaded: that fails, and what was said before holds.
    pub(super) fn beside(place: &Path) -> Option<Self> {
        let config = TritonConfig::beside(place).ok()?;
        Some(config.as_ref().map(Self::of).unwrap_or_default())
    }

    fn of(config: &TritonConfig) -> Self {
        let versions = config.versions.as_ref().map(|versions| match versions {
            TritonVersions::Latest(n_versions) => VersionPolicy::Latest(*n_versions),
            TritonVersions::All => VersionPolicy::All,
            TritonVersions::Specific(versions) => VersionPolicy::Specific(versions.clone()),
        });
        let cache = config.response_cache == Some(true);
        Self {
            batching: batching(config),
            queue: QueueLimits {
                instances: config.instances,
                calls_max: config.queue.size_max,
                wait_max: config.queue.timeout,
            },
            cache: cache.then_some(CacheSettings {
                size_bytes: CACHE_BYTES,
                ttl: None,
            }),
            declared: Some(Arc::new(DeclaredConfig {
                max_batch_size: config.max_batch_size,
                versions: versions.clone(),
                has_batching: config.batching.is_some(),
                default_model_filename: config.default_model_filename.clone(),
                parameters: config.parameters.clone(),
            })),
            versions,
        }
    }
}

/// Returns how requests are put together: with `dynamic_batching` they wait as long as it says; without, only what is queued anyhow
/// is put together, up to the batch size.
fn batching(config: &TritonConfig) -> Option<BatchSettings> {
    let rows = config.max_batch_size;
    // A batch size of zero is that of a model whose requests run alone.
    let rows = rows.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX).max(1));
    match &config.batching {
        Some(batching) => Some(BatchSettings {
            rows_max: rows.unwrap_or(BatchSettings::ROWS_MAX_DEFAULT),
            wait: batching.max_queue_delay,
            rows_preferred: batching.preferred_sizes.clone(),
        }),
        None => rows.map(|rows_max| BatchSettings {
            rows_max,
            ..BatchSettings::opportunistic()
        }),
    }
}

/// Returns the place to look for the model's file: the file that the configuration names, in a numbered directory.
///
/// # Errors
/// If the configuration is at fault.
pub(crate) fn file_place(place: &Path) -> Result<(PathBuf, Option<TritonConfig>), LoadError> {
    let config = TritonConfig::beside(place)?;
    let name = config
        .as_ref()
        .and_then(|config| config.default_model_filename.as_deref());
    let file = match name {
        Some(name) if place.is_dir() => place.join(name),
        _ => place.to_path_buf(),
    };
    Ok((file, config))
}

/// Compares a model that is served as `name` with the configuration beside `place`; returns what is worth a note.
///
/// # Errors
/// If the configuration is not true of the model.
pub(crate) fn check_config(
    config: &TritonConfig,
    name: &str,
    place: &Path,
    model: &dyn Model,
) -> Result<Vec<String>, LoadError> {
    let checked = config.check(name, model.signature(), model.description());
    checked.map_err(|error| {
        let path = TritonConfig::path_beside(place);
        LoadError::new(error.kind(), format!("{}: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;
    use std::time::Duration;

    use super::*;

    fn own(text: &str) -> OwnConfig {
        OwnConfig::of(&TritonConfig::from_bytes(text.as_bytes()).unwrap())
    }

    #[test]
    fn batching_is_what_the_configuration_says() {
        let settings = |rows_max, wait, preferred: &[usize]| {
            Some(BatchSettings {
                rows_max,
                wait: Duration::from_micros(wait),
                rows_preferred: preferred.to_vec(),
            })
        };
        let cases = [
            ("", None),
            ("max_batch_size: 0", settings(1, 0, &[])),
            ("max_batch_size: 8", settings(8, 0, &[])),
            ("dynamic_batching {}", settings(32, 0, &[])),
            (
                "max_batch_size: 8 dynamic_batching { preferred_batch_size: [4] max_queue_delay_microseconds: 500 }",
                settings(8, 500, &[4]),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(own(text).batching, expected, "{text}");
        }
    }

    #[test]
    fn queues_are_what_the_configuration_says() {
        assert_eq!(own("").queue, QueueLimits::default());
        let text = "instance_group { count: 2 } dynamic_batching { default_queue_policy { default_timeout_microseconds: 1500 max_queue_size: 8 } }";
        let expected = QueueLimits {
            instances: NonZero::new(2),
            calls_max: NonZero::new(8),
            wait_max: Some(Duration::from_micros(1_500)),
        };
        assert_eq!(own(text).queue, expected);
    }

    #[test]
    fn versions_and_caches_are_what_the_configuration_says() {
        let latest = VersionPolicy::Latest(NonZero::new(2).unwrap());
        let config =
            own("version_policy { latest { num_versions: 2 } } response_cache { enable: true }");
        assert_eq!(config.versions, Some(latest));
        assert_eq!(config.cache.map(|cache| cache.size_bytes), Some(64 << 20));
        assert_eq!(own("response_cache { enable: false }").cache, None);
        let declared = own("parameters { key: \"a\" value { string_value: \"b\" } }").declared;
        assert_eq!(declared.unwrap().parameters["a"], "b");
    }
}
