//! Bodies of HTTP requests on their way: streams, or there as a whole.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;

use crate::body::RequestBody;
use crate::connection::{BINARY_TYPE, content_type, json_length};
use crate::patience::Patience;
use crate::respond::Reply;

/// A body on its way.
pub(crate) struct Arriving {
    pub(crate) body: ArrivingBody,
    pub(crate) content: Content,
    /// When its head was there.
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
    Stream(Incoming, Patience),
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
            ArrivingBody::Stream(body, _) => body.into(),
            ArrivingBody::Whole(body, _) => body.into(),
        }
    }
}
