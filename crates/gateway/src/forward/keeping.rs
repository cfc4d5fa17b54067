//! Answers of programs that are kept as the last good ones of their callers: copied as they are passed on, and kept once they have come to a good end.

use std::sync::Arc;

use coracle_base::Clock;
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::asked::is_one_message;
use super::call::Kind;
use crate::arriving::json_length;
use crate::fallback::{Asked, Came, LastGood};

/// Larger answers are not kept.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// An answer on its way that is kept once it has ended well.
pub(super) struct Keeping {
    last_good: Arc<LastGood>,
    key: HeaderValue,
    came: Came,
    is_grpc: bool,
    clock: Arc<dyn Clock>,
}

impl Keeping {
    /// Returns that of an answer which begins so; `None` if it would be of no use.
    pub(super) fn new<B>(
        (last_good, key): (Arc<LastGood>, HeaderValue),
        asked: Asked,
        (kind, response): (Kind, &Response<B>),
        clock: Arc<dyn Clock>,
    ) -> Option<Box<Self>> {
        let is_grpc = matches!(kind, Kind::Grpc { .. });
        let headers = response.headers();
        let is_plain =
            response.status() == StatusCode::OK && !headers.contains_key(CONTENT_ENCODING);
        if !is_plain || !asked.is_answered_here() {
            return None;
        }
        let json_length = json_length_of(headers, is_grpc)?;
        Some(Box::new(Self {
            last_good,
            key,
            came: Came {
                asked,
                body: Vec::new(),
                json_length,
            },
            is_grpc,
            clock,
        }))
    }

    /// Takes a part of the answer; returns whether it is still of use.
    pub(super) fn take(&mut self, part: &[u8]) -> bool {
        let body = &mut self.came.body;
        let is_fit = body.len().saturating_add(part.len()) <= ANSWER_BYTES_MAX;
        if is_fit {
            body.extend_from_slice(part);
        }
        is_fit
    }

    /// Keeps what has ended well.
    pub(super) fn keep(mut self) {
        let is_whole = match self.is_grpc {
            true => is_one_message(&self.came.body, ANSWER_BYTES_MAX),
            false => !self.came.body.is_empty(),
        };
        if is_whole {
            self.came.body.shrink_to_fit();
            let now = self.clock.monotonic();
            self.last_good.keep_came(&self.key, (self.came, now));
        }
    }
}

/// Returns how much of an answer is JSON where it does not end with it; `None` if it does not say that as it should.
#[expect(clippy::option_option, reason = "it may say nothing of it, and well")]
fn json_length_of(headers: &HeaderMap, is_grpc: bool) -> Option<Option<usize>> {
    match is_grpc {
        true => Some(None),
        false => json_length(headers).ok(),
    }
}
