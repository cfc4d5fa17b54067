//! One payload as a CloudEvent: its attributes, and the room that it takes while it waits.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use bytes::Bytes;
use coracle_protocol::json_string;
use coracle_serving::ExportStatistics;

use super::PayloadTarget;

/// The bytes that an event is taken to need besides its data and texts.
const EVENT_BYTES: usize = 512;

/// What a payload is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Request,
    Response,
}

impl Part {
    /// Returns the type of the event, KServe's.
    fn event_type(self) -> &'static str {
        match self {
            Self::Request => "org.kubeflow.serving.inference.request",
            Self::Response => "org.kubeflow.serving.inference.response",
        }
    }
}

/// What the events of a request and of its answer have in common.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) target: PayloadTarget,
    pub(super) id: String,
    pub(super) source: String,
    pub(super) model: String,
    pub(super) version: String,
    pub(super) namespace: Option<String>,
    pub(super) revision: Option<String>,
    /// JSON of the request headers that are recorded.
    pub(super) metadata: Option<String>,
    /// JSON of the service's annotations that are recorded.
    pub(super) annotations: Option<String>,
    pub(super) traceparent: Option<String>,
}

impl Context {
    fn n_bytes(&self) -> usize {
        let options = [
            &self.namespace,
            &self.revision,
            &self.metadata,
            &self.annotations,
            &self.traceparent,
        ];
        let texts = [&self.id, &self.source, &self.model, &self.version];
        let lengths = options.into_iter().flatten().chain(texts);
        lengths.map(String::len).sum()
    }
}

/// What a payload is, besides its bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    pub(super) content_type: Cow<'static, str>,
    /// The protobuf message that it is.
    pub(super) message_type: Option<&'static str>,
    /// The length of the JSON where raw tensor data follows it.
    pub(super) json_length: Option<usize>,
    /// The HTTP status of an answer.
    pub(super) status: Option<u16>,
}

/// Room in the queue; given back when it is dropped.
#[derive(Debug)]
struct Room {
    exports: Arc<ExportStatistics>,
    n_bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.exports.payloads.release(self.n_bytes);
    }
}

/// A payload on its way.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) context: Arc<Context>,
    part: Part,
    kind: Kind,
    /// When it came or went, since 1970.
    at: Duration,
    pub(super) data: Bytes,
    room: Room,
}

impl Event {
    /// Makes an event; `None` if there is no room within `most` bytes.
    pub(super) fn try_new(
        (exports, most): (&Arc<ExportStatistics>, u64),
        context: &Arc<Context>,
        (part, kind): (Part, Kind),
        at: Duration,
        data: impl FnOnce() -> Bytes,
        n_bytes_data: usize,
    ) -> Option<Self> {
        let n_bytes = EVENT_BYTES + context.n_bytes() + n_bytes_data;
        let n_bytes = u64::try_from(n_bytes).unwrap_or(u64::MAX);
        let is_room = exports.payloads.try_hold(n_bytes, most);
        is_room.then(|| Self {
            context: Arc::clone(context),
            part,
            kind,
            at,
            data: data(),
            room: Room {
                exports: Arc::clone(exports),
                n_bytes,
            },
        })
    }

    /// Returns the bytes that it takes.
    pub(super) fn n_bytes(&self) -> u64 {
        self.room.n_bytes
    }

    /// Returns what its data is.
    pub(super) fn content_type(&self) -> &str {
        &self.kind.content_type
    }

    /// Returns its attributes but for the type of its data, with KServe's names where KServe has one.
    pub(super) fn attributes(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let context = self.context.as_ref();
        let time = humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + self.at).to_string();
        let mut attributes: Vec<(&'static str, Cow<'_, str>)> = vec![
            ("specversion", "1.0".into()),
            ("id", context.id.as_str().into()),
            ("source", context.source.as_str().into()),
            ("type", self.part.event_type().into()),
            ("time", time.into()),
            ("inferenceservicename", context.model.as_str().into()),
            ("component", "predictor".into()),
        ];
        let texts = [
            ("namespace", &context.namespace),
            ("revision", &context.revision),
            ("metadata", &context.metadata),
            ("annotations", &context.annotations),
            ("traceparent", &context.traceparent),
        ];
        let texts = texts.into_iter();
        attributes.extend(texts.filter_map(|(name, text)| Some((name, text.as_deref()?.into()))));
        if context.revision.is_none() {
            attributes.push(("modelversion", context.version.as_str().into()));
        }
        if let Some(message_type) = self.kind.message_type {
            attributes.push(("messagetype", message_type.into()));
        }
        let numbers = [
            ("jsonlength", self.kind.json_length),
            ("statuscode", self.kind.status.map(usize::from)),
        ];
        let numbers = numbers.into_iter();
        attributes
            .extend(numbers.filter_map(|(name, number)| Some((name, number?.to_string().into()))));
        attributes
    }

    /// Returns it as a JSON object on one line.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.data.len() + EVENT_BYTES);
        let attributes = self.attributes().into_iter();
        let content_type = ("datacontenttype", self.content_type().into());
        for (index, (name, value)) in attributes.chain([content_type]).enumerate() {
            line.push(if index == 0 { b'{' } else { b',' });
            json_string(name, &mut line);
            line.push(b':');
            json_string(&value, &mut line);
        }
        match self.json_data() {
            Some(text) => {
                line.extend_from_slice(b",\"data\":");
                // Between its tokens, JSON may have new lines; within them it has none.
                let bytes = text.bytes();
                line.extend(bytes.map(|byte| match byte {
                    b'\n' | b'\r' => b' ',
                    byte => byte,
                }));
            }
            None => {
                line.extend_from_slice(b",\"data_base64\":");
                let text = base64::engine::general_purpose::STANDARD.encode(&self.data);
                json_string(&text, &mut line);
            }
        }
        line.extend_from_slice(b"}\n");
        line
    }

    /// Returns the data if it is the JSON that it says it is.
    fn json_data(&self) -> Option<&str> {
        let is_json = self.content_type().starts_with("application/json");
        let text = std::str::from_utf8(&self.data).ok().filter(|_| is_json)?;
        let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
        checked.is_ok().then_some(text)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::payload) fn event(
        exports: &Arc<ExportStatistics>,
        target: PayloadTarget,
        (content_type, data): (&'static str, &'static [u8]),
    ) -> Event {
        let context = Arc::new(Context {
            target,
            id: "7".to_owned(),
            source: "http://here/".to_owned(),
            model: "iris".to_owned(),
            version: "1".to_owned(),
            namespace: Some("ml".to_owned()),
            revision: None,
            metadata: Some("{\"X-Who\":[\"me\"]}".to_owned()),
            annotations: None,
            traceparent: None,
        });
        let kind = Kind {
            content_type: content_type.into(),
            status: Some(200),
            ..Kind::default()
        };
        Event::try_new(
            (exports, 1 << 20),
            &context,
            (Part::Response, kind),
            Duration::from_millis(1_700_000_000_123),
            || Bytes::from_static(data),
            data.len(),
        )
        .unwrap()
    }

    #[test]
    fn json_is_one_line_with_the_data_as_it_is() {
        let exports = Arc::default();
        let target = PayloadTarget::Url(String::new());
        let made = event(
            &exports,
            target.clone(),
            ("application/json", b"{\"a\":\r\n [1.50]}"),
        );
        let line = String::from_utf8(made.to_json()).unwrap();
        let expected = concat!(
            r#"{"specversion":"1.0","id":"7","source":"http://here/","type":"org.kubeflow.serving.inference.response","#,
            r#""time":"2023-11-14T22:13:20.123000Z","inferenceservicename":"iris","component":"predictor","namespace":"ml","#,
            r#""metadata":"{\"X-Who\":[\"me\"]}","modelversion":"1","statuscode":"200","datacontenttype":"application/json","#,
            r#""data":{"a":   [1.50]}}"#,
            "\n"
        );
        assert_eq!(line, expected);
        assert!(exports.payloads.held_bytes() > 512);
        drop(made);
        assert_eq!(exports.payloads.held_bytes(), 0);
        // What only says that it is JSON, and what is none, is bytes.
        for (content_type, data) in [
            ("application/json", b"{\"a\"".as_slice()),
            ("application/json", b"\"\xff\""),
            ("application/protobuf", b"{}"),
        ] {
            let line = event(&exports, target.clone(), (content_type, data)).to_json();
            let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
            let text = line["data_base64"].as_str().unwrap();
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            assert_eq!(bytes.unwrap(), data);
        }
    }
}
