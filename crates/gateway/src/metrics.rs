//! `/metrics`: which text format the scraper takes, and making the text without keeping other requests waiting.

use std::sync::atomic::Ordering;

use coracle_serving::{Exposition, MetricsText, ModelTable};
use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

use crate::connection::Handler;
use crate::respond::Reply;

/// So much text is made before other requests have their turn.
const TURN_BYTES: usize = 64 << 10;

impl Handler {
    /// Answers with the metrics.
    pub(crate) async fn metrics(&self, table: &ModelTable, headers: &HeaderMap) -> Reply {
        let exposition = exposition(headers);
        let shadows = self.calls.shadows.figures();
        let experiments = match self.calls.experiments.clone() {
            Some(experiments) => tokio::task::spawn_blocking(move || experiments.figures())
                .await
                .unwrap_or_default(),
            None => Vec::new(),
        };
        let metrics = MetricsText {
            table,
            http: &self.shared.http,
            exports: &self.shared.exports,
            budget: self.shared.budget.as_deref(),
            shadows: &shadows,
            experiments: &experiments,
            chaos: self.calls.chaos.as_ref(),
            ready: self.shared.ready.load(Ordering::Acquire),
            version: &self.shared.version,
            exposition,
        };
        let (mut text, mut n_bytes_turn) = (String::with_capacity(4096), 0);
        for part in metrics.parts() {
            text.push_str(&part);
            n_bytes_turn += part.len();
            if n_bytes_turn > TURN_BYTES {
                n_bytes_turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Reply::metrics(text, exposition)
    }
}

/// Returns the format that a scraper takes: OpenMetrics if it says so, and not that it would rather have the other.
fn exposition(headers: &HeaderMap) -> Exposition {
    let accepts = headers.get_all(ACCEPT).iter();
    let texts = accepts.filter_map(|value: &HeaderValue| value.to_str().ok());
    let (mut open_metrics, mut text) = (0.0, 0.0);
    for range in texts.flat_map(|text| text.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let quality = parts.filter_map(|part| part.strip_prefix("q=")).next();
        let quality: f64 = match quality {
            Some(quality) => quality.trim().parse().unwrap_or(0.0),
            None => 1.0,
        };
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            open_metrics = quality.max(open_metrics);
        } else if kind.eq_ignore_ascii_case("text/plain") {
            text = quality.max(text);
        }
    }
    if open_metrics > 0.0 && open_metrics >= text {
        Exposition::OpenMetrics
    } else {
        Exposition::Prometheus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scraper_chooses_the_format() {
        let cases = [
            ("", Exposition::Prometheus),
            ("*/*", Exposition::Prometheus),
            ("text/plain", Exposition::Prometheus),
            ("application/openmetrics-text", Exposition::OpenMetrics),
            // Prometheus 2 and 3.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Exposition::OpenMetrics,
            ),
            (
                "application/openmetrics-text;q=0.2, text/plain;q=0.9",
                Exposition::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Exposition::Prometheus),
            ("application/openmetrics-text;q=x", Exposition::Prometheus),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(exposition(&headers), expected, "{accept}");
        }
        assert_eq!(exposition(&HeaderMap::new()), Exposition::Prometheus);
    }
}
