//! Whether the answers of a service's models are kept for requests that come again: two annotations.

use std::time::Duration;

use coracle_base::ByteCount;
use coracle_serving::CacheSettings;
use serde_json::Value;

use crate::annotations::{RESPONSE_CACHE as SIZE, RESPONSE_CACHE_TTL as TTL};
use crate::object;

/// All of them.
pub(crate) const ANNOTATIONS: [&str; 2] = [SIZE, TTL];

/// Reads the annotations of a service.
///
/// # Errors
/// Says which annotation has which value, and what is allowed.
pub(crate) fn read(service: &Value) -> Result<Option<CacheSettings>, String> {
    let annotation = |name| object::text(service, "annotations", name);
    let ttl = annotation(TTL).map(|text| {
        let ttl = humantime::parse_duration(text).ok();
        ttl.filter(|ttl| !ttl.is_zero()).ok_or_else(|| {
            format!("annotation {TTL}: '{text}' is no time; write such as 60s or 5m")
        })
    });
    let ttl: Option<Duration> = ttl.transpose()?;
    let Some(text) = annotation(SIZE) else {
        return match ttl {
            Some(_) => Err(format!("annotation {TTL} says nothing without {SIZE}")),
            None => Ok(None),
        };
    };
    let size: ByteCount = text
        .parse()
        .map_err(|error| format!("annotation {SIZE}: {error}"))?;
    if size.as_u64() == 0 {
        return Err(format!("annotation {SIZE}: must be more than nothing"));
    }
    Ok(Some(CacheSettings {
        size_bytes: size.as_u64(),
        ttl,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotations_say_how_much_is_kept_and_for_how_long() {
        let of = |annotations: Value| read(&json!({"metadata": {"annotations": annotations}}));
        assert_eq!(of(json!({})), Ok(None));
        let settings = |ttl| CacheSettings {
            size_bytes: 64 << 20,
            ttl,
        };
        assert_eq!(of(json!({SIZE: "64MiB"})), Ok(Some(settings(None))));
        let minute = Some(Duration::from_secs(60));
        let both = of(json!({SIZE: "64MiB", TTL: "1m"}));
        assert_eq!(both, Ok(Some(settings(minute))));
        for (annotations, expected) in [
            (
                json!({SIZE: "much"}),
                "response-cache: `much` is not a number of bytes",
            ),
            (json!({SIZE: "0"}), "must be more than nothing"),
            (json!({SIZE: "1MiB", TTL: "soon"}), "'soon' is no time"),
            (json!({SIZE: "1MiB", TTL: "0s"}), "'0s' is no time"),
            (json!({TTL: "1m"}), "says nothing without"),
        ] {
            let error = of(annotations).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
