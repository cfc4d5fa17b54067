//! Bodies of HTTP requests on their way: streams, or there as a whole, and of which type.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;

use crate::body::RequestBody;
use crate::codec::Codec;
use crate::patience::Patience;
use crate::respond::{JSON_LENGTH, Reply};

/// The content types that are taken for JSON: these, with any parameters, or none at all.
const JSON_TYPES: [&str; 3] = ["application/json", "application/ld+json", "text/json"];

/// The content type of JSON with raw tensor data after it.
pub(crate) const BINARY_TYPE: &str = "application/octet-stream";

/// The content type of CSV.
pub(crate) const CSV_TYPE: &str = "text/csv";

/// A body on its way.
pub(crate) struct Arriving {
    pub(crate) body: ArrivingBody,
    pub(crate) content: Content,
    /// When its head was there, and what it waits for.
    pub(crate) started: Duration,
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The headers say it; JSON where they do not.
    AsHeadersSay,
    /// So many bytes of JSON, then raw tensor data, under their own content type; the headers are without both.
    Binary { json_length: usize },
}

impl Content {
    /// Returns the content type, where there is one.
    pub(crate) fn media_type(self, headers: &HeaderMap) -> Option<&str> {
        match self {
            Self::Binary { .. } => Some(BINARY_TYPE),
            Self::AsHeadersSay => content_type(headers),
        }
    }

    /// Returns how many bytes of JSON come before the raw data, if any does.
    pub(crate) fn json_length(self, head: &Parts) -> Result<Option<usize>, Reply> {
        match self {
            Self::Binary { json_length } => Ok(Some(json_length)),
            Self::AsHeadersSay => json_length(&head.headers),
        }
    }
}

pub(crate) enum ArrivingBody {
    Stream(RequestBody, Patience),
    /// It is there, since when.
    Whole(Bytes, Duration),
}

impl Arriving {
    /// Returns a body that is there; when its head was, and when all of it.
    pub(crate) fn whole(body: Bytes, (started, arrived): (Duration, Duration)) -> Self {
        Self {
            body: ArrivingBody::Whole(body, arrived),
            content: Content::AsHeadersSay,
            started,
        }
    }
}

impl From<Arriving> for RequestBody {
    fn from(arriving: Arriving) -> Self {
        match arriving.body {
            ArrivingBody::Stream(body, _) => body,
            ArrivingBody::Whole(body, _) => body.into(),
        }
    }
}

/// Tells whether a content type is `known`, whatever its parameters.
pub(crate) fn is_type(content_type: Option<&str>, known: &str) -> bool {
    let essence = content_type.and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(known))
}

/// Returns the length of the JSON where the header says that raw tensor data follows it.
pub(crate) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Reply> {
    let Some(value) = headers.get(JSON_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| {
        Reply::error_and_close(
            StatusCode::BAD_REQUEST,
            "Inference-Header-Content-Length must be the number of bytes of the JSON",
        )
    })
}

pub(crate) fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?;
    Some(value.to_str().unwrap_or_default())
}

/// Refuses content types that are not read.
pub(crate) fn check_type(content_type: Option<&str>, codec: &Codec) -> Result<(), Reply> {
    let unsupported = |message: &str| {
        Err(Reply::error_and_close(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            message,
        ))
    };
    let Some(text) = content_type else {
        return Ok(());
    };
    let is = |known: &str| is_type(content_type, known);
    let is_read = match codec {
        Codec::Csv { .. } => is_utf_8(text),
        Codec::V2 {
            json_length: Some(_),
            ..
        } if is(BINARY_TYPE) => true,
        _ => JSON_TYPES.into_iter().any(is),
    };
    if is_read {
        return Ok(());
    }
    let shown: String = text.chars().take(64).collect();
    let hint = if is(CSV_TYPE) {
        match codec {
            Codec::Csv { .. } => ", or CSV in UTF-8",
            _ => "; CSV is taken at /invocations of a model",
        }
    } else if is("application/x-www-form-urlencoded") {
        "; with curl, add -H 'Content-Type: application/json'"
    } else if is(BINARY_TYPE) {
        ", or binary tensor data to V2 with the header Inference-Header-Content-Length"
    } else if matches!(codec, Codec::Invocations { .. }) {
        ", or a table as text/csv"
    } else {
        ""
    };
    unsupported(&format!(
        "content type '{shown}' is not supported; send application/json{hint}"
    ))
}

/// Tells whether texts of a content type are UTF-8, as they are where it does not say.
fn is_utf_8(content_type: &str) -> bool {
    let mut parameters = content_type.split(';').skip(1);
    parameters.all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset") || value.eq_ignore_ascii_case("utf-8")
    })
}
