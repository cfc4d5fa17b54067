//! Spans of traces as OTLP messages (`opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`), version 1: the parts that
//! this server fills.

use prost::Message;

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// An integer.
    Integer(i64),
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A part of what its parent does.
    Internal,
    /// The answer to a request from outside.
    Server,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace's id.
    pub trace_id: [u8; 16],
    /// Its own.
    pub span_id: u64,
    /// Its parent's; 0 for none.
    pub parent_id: u64,
    /// Whether its parent is in another process.
    pub has_remote_parent: bool,
    /// What it is of, in few words that recur.
    pub name: String,
    /// What it is of.
    pub kind: SpanKind,
    /// When it began, in ns since 1970.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub is_error: bool,
}

/// What the spans are of.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// What is known of the process.
    pub attributes: Vec<(String, Value)>,
    /// The version of the program.
    pub version: String,
}

/// Returns the message that exports `spans`.
#[must_use]
pub fn export_request(resource: &Resource, spans: Vec<Span>) -> Vec<u8> {
    let attributes = resource.attributes.iter().cloned();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(ResourceMessage {
                attributes: attributes
                    .map(|(name, value)| key_value(name, value))
                    .collect(),
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "coracle".to_owned(),
                    version: resource.version.clone(),
                }),
                spans: spans.into_iter().map(SpanMessage::from).collect(),
            }],
        }],
    }
    .encode_to_vec()
}

/// The flags of W3C's trace context that a span of a recorded trace has, and OTLP's that say where its parent is.
const SAMPLED: u32 = 1;
const PARENT_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;
const STATUS_ERROR: i32 = 2;

impl From<Span> for SpanMessage {
    fn from(span: Span) -> Self {
        let remote = if span.has_remote_parent {
            PARENT_IS_REMOTE
        } else {
            0
        };
        let attributes = span.attributes.into_iter();
        Self {
            trace_id: span.trace_id.to_vec(),
            span_id: span.span_id.to_be_bytes().to_vec(),
            parent_span_id: match span.parent_id {
                0 => Vec::new(),
                parent => parent.to_be_bytes().to_vec(),
            },
            name: span.name,
            kind: match span.kind {
                SpanKind::Internal => 1,
                SpanKind::Server => 2,
            },
            start_time_unix_nano: span.start_ns,
            end_time_unix_nano: span.end_ns,
            attributes: attributes
                .map(|(name, value)| key_value(name.to_owned(), value))
                .collect(),
            status: span.is_error.then_some(Status { code: STATUS_ERROR }),
            flags: SAMPLED | PARENT_IS_KNOWN | remote,
        }
    }
}

fn key_value(key: String, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Integer(number) => any_value::Value::IntValue(number),
    };
    KeyValue {
        key,
        value: Some(AnyValue { value: Some(value) }),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<ResourceMessage>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceMessage {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(oneof = "any_value::Value", tags = "1, 3")]
    value: Option<any_value::Value>,
}

mod any_value {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Value {
        #[prost(string, tag = "1")]
        StringValue(String),
        #[prost(int64, tag = "3")]
        IntValue(i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes are what the Python package opentelemetry-proto 1.45.2 writes for the same spans.
    #[test]
    fn spans_are_written_as_the_reference_writes_them() {
        let span = |span_id, parent_id, kind, is_error| Span {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes(),
            span_id,
            parent_id,
            has_remote_parent: parent_id == 3,
            name: "POST".to_owned(),
            kind,
            start_ns: 1_700_000_000_000_000_001,
            end_ns: 1_700_000_000_000_000_002,
            attributes: vec![
                ("url.path", Value::Text("/x".to_owned())),
                ("http.response.status_code", Value::Integer(500)),
            ],
            is_error,
        };
        let resource = Resource {
            attributes: vec![("service.name".to_owned(), Value::Text("coracle".to_owned()))],
            version: "1.2.3".to_owned(),
        };
        let spans = vec![
            span(1, 3, SpanKind::Server, true),
            span(2, 0, SpanKind::Internal, false),
        ];
        let hex: String = export_request(&resource, spans)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, include_str!("otlp/expected.hex").trim());
    }
}
