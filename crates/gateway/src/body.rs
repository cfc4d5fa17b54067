//! The bodies of answers: whole, with trailers for gRPC, or message by message.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::HeaderMap;
use tokio::sync::mpsc;

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    data: Option<Bytes>,
    trailers: Option<Box<HeaderMap>>,
    frames: Option<mpsc::Receiver<Frame<Bytes>>>,
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

    /// Counts the connection as busy for as long as the body comes frame by frame.
    pub(crate) fn hold(&mut self, busy: Busy) {
        if self.frames.is_some() {
            self.busy = Some(busy);
        }
    }

    /// Returns the number of bytes that are there already.
    pub(crate) fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
        }
        match &mut self.frames {
            Some(frames) => frames.poll_recv(ctx).map(|frame| frame.map(Ok)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none() && self.frames.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // gRPC's answers have no length of their own.
        if self.trailers.is_some() || self.frames.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.len() as u64)
    }
}

/// Counts the requests of one connection that are in progress.
#[derive(Debug)]
pub(crate) struct Busy(Rc<Cell<u64>>);

impl Busy {
    /// Counts one more.
    pub(crate) fn new(counter: &Rc<Cell<u64>>) -> Self {
        counter.set(counter.get() + 1);
        Self(Rc::clone(counter))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
