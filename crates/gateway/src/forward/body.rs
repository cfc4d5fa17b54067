//! The bodies that are passed on: the caller's to the process, within its bounds; the process's to the caller, counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Clock;
use coracle_serving::{ModelCall, Outcome, ProcessLease, Protocol};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

/// A request's body with a limit on its bytes and on the wait for each part.
pub(super) struct BoundedBody {
    inner: Incoming,
    bytes_left: u64,
    part_timeout: Duration,
    timer: Pin<Box<Sleep>>,
}

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyFault {
    /// It has more bytes than are allowed.
    #[error("the body is larger than allowed")]
    TooLarge,
    /// The caller sent nothing for too long.
    #[error("the body did not arrive in time")]
    Late,
    /// The caller ended the connection.
    #[error("the body ended before its declared end")]
    Broken,
}

impl BoundedBody {
    pub(super) fn new(inner: Incoming, bytes_max: u64, part_timeout: Duration) -> Self {
        Self {
            inner,
            bytes_left: bytes_max,
            part_timeout,
            timer: Box::pin(tokio::time::sleep(part_timeout)),
        }
    }
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            return match this.timer.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(BodyFault::Late))),
                Poll::Pending => Poll::Pending,
            };
        };
        this.timer
            .as_mut()
            .reset(Instant::now() + this.part_timeout);
        let Some(frame) = frame else {
            return Poll::Ready(None);
        };
        let Ok(frame) = frame else {
            return Poll::Ready(Some(Err(BodyFault::Broken)));
        };
        let n_bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match this.bytes_left.checked_sub(n_bytes) {
            Some(left) => this.bytes_left = left,
            None => return Poll::Ready(Some(Err(BodyFault::TooLarge))),
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A process's answer on its way to the caller. The call ends with it.
pub(crate) struct ForwardedBody {
    inner: Incoming,
    end: Option<CallEnd>,
    part_timeout: Duration,
    timer: Pin<Box<Sleep>>,
}

/// What is done when a call ends.
pub(super) struct CallEnd {
    pub(super) call: ModelCall,
    /// The process is busy until then.
    pub(super) lease: ProcessLease,
    pub(super) protocol: Protocol,
    pub(super) outcome: Outcome,
    pub(super) clock: Arc<dyn Clock>,
}

impl CallEnd {
    fn finish(self) {
        let now = self.clock.monotonic();
        self.call.finish(self.protocol, self.outcome, now);
        drop(self.lease);
    }
}

impl std::fmt::Debug for ForwardedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwardedBody").finish_non_exhaustive()
    }
}

/// An answer that a process did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process did not end its answer")]
pub(crate) struct AnswerCut;

impl ForwardedBody {
    pub(super) fn new(inner: Incoming, end: CallEnd, part_timeout: Duration) -> Self {
        Self {
            inner,
            end: Some(end),
            part_timeout,
            timer: Box::pin(tokio::time::sleep(part_timeout)),
        }
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = AnswerCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerCut>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            return match this.timer.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(AnswerCut))),
                Poll::Pending => Poll::Pending,
            };
        };
        this.timer
            .as_mut()
            .reset(Instant::now() + this.part_timeout);
        match frame {
            Some(frame) => Poll::Ready(Some(frame.map_err(|_broken| AnswerCut))),
            None => {
                if let Some(end) = this.end.take() {
                    end.finish();
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ForwardedBody {
    fn drop(&mut self) {
        // An answer of known length is not asked for more once it is complete.
        if let Some(end) = self.end.take() {
            end.finish();
        }
    }
}
