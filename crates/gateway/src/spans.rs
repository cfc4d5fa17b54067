//! Spans of traces, exported over OTLP: one for each request, with one below it for each phase of its inference.
//!
//! Requests are wrapped ([`Handler::traced`]) only where traces are exported. A request goes on with a `traceparent` of its own, so that
//! whatever reads that header (the log, exemplars, processes that requests are passed on to) is part of its span.

mod export;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coracle_protocol::otlp::{Span, SpanKind, Value};
use coracle_serving::{ExportStatistics, TraceId};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Request, Response, Version};
use tokio::sync::mpsc;

use crate::body::ReplyBody;
use crate::connection::Handler;
use crate::grpc::{GRPC_STATUS, is_grpc};
use crate::patience::Patience;
use crate::trace::{TRACEPARENT, Trace};

pub(crate) use export::SpanWriter;
pub use export::TraceConfig;

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Whether a request that is part of a trace does as its caller does.
    pub follows_parent: bool,
    /// The share of all other traces, 0 to 1.
    pub ratio: f64,
}

impl Default for Sampling {
    /// OpenTelemetry's own default.
    fn default() -> Self {
        Self {
            follows_parent: true,
            ratio: 1.0,
        }
    }
}

impl Sampling {
    /// Tells whether a trace is recorded.
    fn takes(self, id: TraceId, parent: Option<&Trace>) -> bool {
        if let Some(parent) = parent.filter(|_| self.follows_parent) {
            return parent.is_sampled();
        }
        // The last 56 bits of an id are random.
        let bits = id.to_bytes().into_iter().skip(9);
        let bits = bits.fold(0_u64, |bits, byte| bits << 8 | u64::from(byte));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the ratio is of 0 to 1"
        )]
        let taken = (self.ratio.clamp(0.0, 1.0) * 2_f64.powi(56)) as u64;
        bits < taken
    }
}

/// The time of an inference, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phases {
    pub(crate) arrived: Duration,
    /// When a thread took it.
    pub(crate) taken: Duration,
    pub(crate) decode: Duration,
    pub(crate) run_started: Duration,
    pub(crate) run: Duration,
    pub(crate) encode_started: Duration,
    pub(crate) encode: Duration,
    pub(crate) n_rows: usize,
}

/// What is known of an inference once it is over.
#[derive(Debug)]
pub(crate) struct Inferred {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) phases: Option<Box<Phases>>,
}

/// Where an inference tells what is known of it; travels with a request that is recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct InferenceSlot(Arc<OnceLock<Inferred>>);

impl InferenceSlot {
    pub(crate) fn tell(&self, inferred: Inferred) {
        // In a stream the first one is told.
        drop(self.0.set(inferred));
    }
}

/// The spans of one request.
type Spans = Vec<Span>;

/// Where spans go. Clones write to the same queue.
#[derive(Clone, Debug)]
pub(crate) struct Tracer {
    queue: mpsc::Sender<Spans>,
    sampling: Sampling,
    exports: Arc<ExportStatistics>,
}

/// A span that has begun.
struct Begun {
    trace: TraceId,
    span_id: u64,
    parent_id: u64,
    started: Duration,
    method: String,
    path: String,
    is_grpc: bool,
    version: Version,
}

impl Handler {
    /// Answers one request, and records its span if its trace is.
    pub(crate) async fn traced(
        self: std::rc::Rc<Self>,
        tracer: Tracer,
        mut request: Request<Incoming>,
        patience: Patience,
    ) -> Result<Response<ReplyBody>, std::convert::Infallible> {
        let parent = Trace::of(request.headers());
        let new_id = || u128::from(self.ids.unique()) << 64 | u128::from(self.ids.unique());
        let id = parent.map(|parent| parent.id());
        let Some(id) = id.or_else(|| TraceId::new(new_id())) else {
            return self.answer(request, patience).await;
        };
        if !tracer.sampling.takes(id, parent.as_ref()) {
            return self.answer(request, patience).await;
        }
        let begun = Begun {
            trace: id,
            span_id: self.ids.unique().max(1),
            parent_id: parent.map_or(0, |parent| parent.parent()),
            started: self.shared.clock.monotonic(),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            is_grpc: is_grpc(request.headers()),
            version: request.version(),
        };
        let header = HeaderValue::try_from(format!("00-{id}-{:016x}-01", begun.span_id)).ok();
        if let Some(header) = &header {
            request.headers_mut().insert(TRACEPARENT, header.clone());
        }
        let slot = InferenceSlot::default();
        request.extensions_mut().insert(slot.clone());
        let handler = std::rc::Rc::clone(&self);
        let mut answered = handler.answer(request, patience).await;
        if let (Ok(response), Some(header)) = (&mut answered, header) {
            response.headers_mut().insert(TRACEPARENT, header);
            let spans = self.spans(begun, slot.0.get(), response);
            tracer.send(spans);
        }
        answered
    }

    /// Returns the spans of a request that was answered.
    fn spans(
        &self,
        begun: Begun,
        inferred: Option<&Inferred>,
        response: &Response<ReplyBody>,
    ) -> Spans {
        let clock = &self.shared.clock;
        let (now, ended) = (clock.unix_time(), clock.monotonic());
        // One look at each clock: the same instant on both.
        let unix_ns = |at: Duration| {
            let time = now.saturating_sub(ended.saturating_sub(at));
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
        };
        let mut spans = Vec::with_capacity(6);
        let below = |name: &str, start: Duration, length: Duration| Span {
            trace_id: begun.trace.to_bytes(),
            span_id: self.ids.unique().max(1),
            parent_id: begun.span_id,
            has_remote_parent: false,
            name: name.to_owned(),
            kind: SpanKind::Internal,
            start_ns: unix_ns(start),
            end_ns: unix_ns(start + length),
            attributes: Vec::new(),
            is_error: false,
        };
        if let Some(phases) = inferred.and_then(|inferred| inferred.phases.as_deref()) {
            let decoded = phases.taken + phases.decode;
            let waits = [
                (phases.arrived, phases.taken),
                (decoded, phases.run_started),
            ];
            for (from, until) in waits {
                // A call that runs on its event loop waits once, and no time.
                if until > from {
                    spans.push(below("queue", from, until - from));
                }
            }
            spans.push(below("parse", phases.taken, phases.decode));
            spans.push(below("compute", phases.run_started, phases.run));
            spans.push(below("render", phases.encode_started, phases.encode));
        }
        let (attributes, is_error) = attributes(&begun, inferred, response);
        spans.push(Span {
            trace_id: begun.trace.to_bytes(),
            span_id: begun.span_id,
            parent_id: begun.parent_id,
            has_remote_parent: begun.parent_id != 0,
            name: name(&begun, inferred.is_some()),
            kind: SpanKind::Server,
            start_ns: unix_ns(begun.started),
            end_ns: unix_ns(ended),
            attributes,
            is_error,
        });
        spans
    }
}

/// Returns a span's name: bounded, so with the path only where that is of a model that is there.
fn name(begun: &Begun, is_inference: bool) -> String {
    match (begun.is_grpc, is_inference) {
        (true, true) => begun.path.trim_start_matches('/').to_owned(),
        (false, true) => format!("{} {}", begun.method, begun.path),
        (_, false) => begun.method.clone(),
    }
}

/// Returns what is known of a request, by OpenTelemetry's semantic conventions, and whether it failed on this side.
fn attributes(
    begun: &Begun,
    inferred: Option<&Inferred>,
    response: &Response<ReplyBody>,
) -> (Vec<(&'static str, Value)>, bool) {
    let text = |text: &str| Value::Text(text.to_owned());
    let count = |n: usize| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let status = response.status().as_u16();
    let mut attributes = vec![
        ("http.request.method", text(&begun.method)),
        ("url.path", text(&begun.path)),
        ("url.scheme", text("http")),
        (
            "http.response.status_code",
            Value::Integer(i64::from(status)),
        ),
        (
            "network.protocol.version",
            text(if begun.version == Version::HTTP_2 {
                "2"
            } else {
                "1.1"
            }),
        ),
    ];
    let mut is_error = status >= 500;
    if begun.is_grpc {
        let code = response.headers().get(GRPC_STATUS);
        let code = code.and_then(|code| code.to_str().ok()?.parse().ok());
        // An answer with a message has its status after it: it is good.
        let code: i64 = code.unwrap_or(0);
        // What OpenTelemetry counts as a server's fault.
        is_error = [2, 4, 12, 13, 14, 15].contains(&code);
        attributes.push(("rpc.system", text("grpc")));
        if let Some((service, method)) = begun.path.trim_start_matches('/').split_once('/') {
            attributes.push(("rpc.service", text(service)));
            attributes.push(("rpc.method", text(method)));
        }
        attributes.push(("rpc.grpc.status_code", Value::Integer(code)));
    }
    if let Some(inferred) = inferred {
        attributes.push(("coracle.model.name", text(&inferred.model)));
        attributes.push(("coracle.model.version", text(&inferred.version)));
        if let Some(phases) = &inferred.phases {
            attributes.push(("coracle.rows", count(phases.n_rows)));
        }
    }
    (attributes, is_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_traces_is_recorded_and_callers_are_followed() {
        let half = Sampling {
            follows_parent: true,
            ratio: 0.5,
        };
        let id = |bits: u128| TraceId::new(bits).unwrap();
        let low = id(1 << 64 | 0x7f_ffff_ffff_ffff);
        let high = id(1 << 64 | 0x80_0000_0000_0000);
        assert!(half.takes(low, None) && !half.takes(high, None));
        let trace = |flags: &str| {
            let header = format!("00-{low}-b7ad6b7169203331-{flags}");
            let mut headers = hyper::HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::try_from(header).unwrap());
            Trace::of(&headers).unwrap()
        };
        assert!(!half.takes(low, Some(&trace("00"))));
        assert!(half.takes(high, Some(&trace("01"))));
        let alone = Sampling {
            follows_parent: false,
            ..half
        };
        assert!(!alone.takes(high, Some(&trace("01"))));
        assert!(alone.takes(low, Some(&trace("00"))));
        let all = Sampling::default();
        assert!(all.takes(id(u128::MAX), None));
        let none = Sampling { ratio: 0.0, ..half };
        assert!(!none.takes(id(1), None));
    }
}
