//! The bodies of answers: whole, with trailers for gRPC, message by message, or passed on from a process. And those of
//! requests whose beginning has been looked at.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HeaderMap;
use tokio::sync::mpsc;

use crate::busy_poll::BusyPoll;
use crate::forward::{AnswerCut, ForwardedBody};

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    data: Option<Bytes>,
    trailers: Option<Box<HeaderMap>>,
    frames: Option<mpsc::Receiver<Frame<Bytes>>>,
    forwarded: Option<Box<ForwardedBody>>,
    /// Keeps the connection counted as busy.
    busy: Option<Busy>,
}

impl ReplyBody {
    /// Returns a body that is there at once.
    pub(crate) fn full(data: Bytes) -> Self {
        Self {
            data: (!data.is_empty()).then_some(data),
            trailers: None,
            frames: None,
            forwarded: None,
            busy: None,
        }
    }

    /// Returns a body with trailers after it.
    pub(crate) fn with_trailers(data: Bytes, trailers: HeaderMap) -> Self {
        Self {
            trailers: Some(Box::new(trailers)),
            ..Self::full(data)
        }
    }

    /// Returns a body that comes frame by frame, its trailers last.
    pub(crate) fn frames(frames: mpsc::Receiver<Frame<Bytes>>) -> Self {
        Self {
            frames: Some(frames),
            ..Self::full(Bytes::new())
        }
    }

    /// Returns a body that a process makes.
    pub(crate) fn forwarded(body: ForwardedBody) -> Self {
        Self {
            forwarded: Some(Box::new(body)),
            ..Self::full(Bytes::new())
        }
    }

    /// Counts the connection as busy for as long as the body comes frame by frame.
    pub(crate) fn hold(&mut self, busy: Busy) {
        if self.frames.is_some() || self.forwarded.is_some() {
            self.busy = Some(busy);
        }
    }

    /// Returns what is there already.
    pub(crate) fn into_data(self) -> Bytes {
        self.data.unwrap_or_default()
    }

    /// Returns the number of bytes that are there already.
    pub(crate) fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }

    /// Returns the number of bytes that it is known to have.
    pub(crate) fn len_known(&self) -> usize {
        let forwarded = self.forwarded.as_ref();
        let known = forwarded.map_or(0, |body| body.size_hint().lower());
        usize::try_from(known).unwrap_or(usize::MAX).max(self.len())
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = AnswerCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerCut>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
        }
        if let Some(forwarded) = &mut self.forwarded {
            return Pin::new(forwarded.as_mut()).poll_frame(ctx);
        }
        match &mut self.frames {
            Some(frames) => frames.poll_recv(ctx).map(|frame| frame.map(Ok)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        if let Some(forwarded) = &self.forwarded {
            return forwarded.is_end_stream();
        }
        self.data.is_none() && self.trailers.is_none() && self.frames.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(forwarded) = &self.forwarded {
            return forwarded.size_hint();
        }
        // gRPC's answers have no length of their own.
        if self.trailers.is_some() || self.frames.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.len() as u64)
    }
}

/// The body of a request. Its beginning may have been looked at; it is read from its beginning all the same.
#[derive(Debug)]
pub(crate) struct RequestBody {
    begun: Bytes,
    /// The same while it is put together from several pieces.
    longer: BytesMut,
    /// What has not been looked at; none of a body that is there as a whole.
    rest: Option<Incoming>,
}

impl From<Incoming> for RequestBody {
    fn from(rest: Incoming) -> Self {
        Self {
            begun: Bytes::new(),
            longer: BytesMut::new(),
            rest: Some(rest),
        }
    }
}

impl From<Bytes> for RequestBody {
    fn from(begun: Bytes) -> Self {
        Self {
            begun,
            longer: BytesMut::new(),
            rest: None,
        }
    }
}

impl RequestBody {
    /// Waits until `n_bytes` are there, or the body's end; returns what is there. Called before all else.
    ///
    /// # Errors
    /// If the caller ended the connection.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(crate) async fn look_ahead(&mut self, n_bytes: usize) -> Result<&Bytes, hyper::Error> {
        while self.n_begun() < n_bytes {
            let Some(rest) = &mut self.rest else { break };
            let Some(frame) = rest.frame().await else {
                break;
            };
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            if self.n_begun() == 0 {
                self.begun = data;
                continue;
            }
            let begun = std::mem::take(&mut self.begun);
            self.longer.extend_from_slice(&begun);
            self.longer.extend_from_slice(&data);
        }
        self.put_together();
        Ok(&self.begun)
    }

    /// One of the two is empty.
    fn n_begun(&self) -> usize {
        self.begun.len() + self.longer.len()
    }

    fn put_together(&mut self) {
        if !self.longer.is_empty() {
            self.begun = std::mem::take(&mut self.longer).freeze();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.put_together();
        if !self.begun.is_empty() {
            let begun = std::mem::take(&mut self.begun);
            return Poll::Ready(Some(Ok(Frame::data(begun))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(ctx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let has_more = |rest: &Incoming| !rest.is_end_stream();
        self.n_begun() == 0 && !self.rest.as_ref().is_some_and(has_more)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        let rest = self.rest.as_ref().map_or(none, Body::size_hint);
        let begun = self.n_begun() as u64;
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(begun));
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(begun));
        }
        whole
    }
}

/// Counts a request that is in progress: of its connection, and of its event loop where that looks for the next one without sleeping.
#[derive(Debug)]
pub(crate) struct Busy {
    counter: Rc<Cell<u64>>,
    busy_poll: Option<Rc<BusyPoll>>,
}

impl Busy {
    /// Counts one more.
    pub(crate) fn new(counter: &Rc<Cell<u64>>, busy_poll: Option<&Rc<BusyPoll>>) -> Self {
        counter.set(counter.get() + 1);
        if let Some(busy_poll) = busy_poll {
            busy_poll.begin();
        }
        Self {
            counter: Rc::clone(counter),
            busy_poll: busy_poll.cloned(),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.counter.set(self.counter.get().saturating_sub(1));
        if let Some(busy_poll) = &self.busy_poll {
            busy_poll.end();
        }
    }
}
