//! The metrics of kept answers; there are samples only of models that keep theirs.

use super::Metric;
use super::text::line;
use crate::ResponseCache;

/// Appends the sample of `metric`, if it is one of these.
pub(super) fn samples(metric: Metric, cache: &ResponseCache, labels: &str, text: &mut String) {
    let number = match metric {
        Metric::ResponseCacheHits => cache.totals().hits,
        Metric::ResponseCacheMisses => cache.totals().misses,
        Metric::ResponseCacheEvictions => cache.totals().evictions,
        Metric::ResponseCacheBytes => cache.totals().bytes,
        _ => return,
    };
    let name = metric.name();
    line(text, format_args!("{name}{{{labels}}} {number}"));
}
