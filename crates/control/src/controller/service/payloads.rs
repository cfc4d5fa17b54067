//! KServe's `logger`: what of it is served here, and what it comes to in a plan.

use coracle_api::inference_service::{LoggerMode, LoggerSpec, PredictorSpec};
use coracle_serving::{PayloadLogging, PayloadMode};
use serde_json::Value;

use super::Refusal;
use crate::object;

/// Returns what is recorded of the requests of a predictor with this logger.
pub(super) fn planned(service: &Value, logger: Option<&LoggerSpec>) -> Option<PayloadLogging> {
    let logger = logger?;
    let wanted = logger.metadata_annotations.iter().flatten();
    let annotations = wanted.filter_map(|name| {
        let value = object::text(service, "annotations", name)?;
        Some((name.clone(), value.to_owned()))
    });
    Some(PayloadLogging {
        url: logger.url.clone()?,
        mode: match logger.mode {
            None | Some(LoggerMode::All) => PayloadMode::All,
            Some(LoggerMode::Request) => PayloadMode::Request,
            Some(LoggerMode::Response) => PayloadMode::Response,
        },
        metadata_headers: logger.metadata_headers.clone().unwrap_or_default(),
        annotations: annotations.collect(),
    })
}

/// Refuses a logger that records nothing here, rather than to serve without the record that is asked for.
pub(super) fn check(template: &Value, is_program: impl FnOnce() -> bool) -> Result<(), Refusal> {
    let predictor: PredictorSpec = serde_json::from_value(template.clone()).unwrap_or_default();
    let Some(logger) = predictor.extension.logger else {
        return Ok(());
    };
    let refused = |message: String| {
        Err(Refusal {
            reason: "InvalidPredictorSpec",
            message,
        })
    };
    let url = logger.url.unwrap_or_default();
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("http" | "https")) {
        return refused(format!(
            "spec.predictor.logger.url '{url}': payloads are sent to http:// and https:// URLs; there is none by default"
        ));
    }
    if is_program() {
        return refused(
            "spec.predictor.logger is not served for programs yet: what they are asked and answer is not recorded; remove it"
                .to_owned(),
        );
    }
    let unserved = [
        ("storage", logger.storage.is_some()),
        ("marshallerUrl", logger.marshaller_url.is_some()),
        ("batchSize", logger.batch_size.is_some_and(|size| size > 1)),
    ];
    match unserved.into_iter().find(|(_, is_asked_for)| *is_asked_for) {
        Some((field, _)) => refused(format!(
            "spec.predictor.logger.{field} is not served: every payload is sent as it is, to the url"
        )),
        None => Ok(()),
    }
}
