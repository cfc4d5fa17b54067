//! The bodies that are passed on: the caller's to the process, within its bounds; the process's to the caller, counted.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, Code};
use coracle_serving::{ModelCall, Outcome, ProcessLease, Protocol};
use h2::Reason;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::grpc::outcome_in;
use super::keeping::Keeping;
use crate::body::RequestBody;
use crate::experiment::Pending;
use crate::grpc::{failure, status_trailers};
use crate::infer::{Failure, too_late};

/// A request's body, for HTTP with a limit on its bytes and on the wait for each part. Streams of gRPC have neither: each
/// message has its limits where it is read, and a caller may be silent.
pub(super) struct BoundedBody {
    inner: Source,
    bounds: Option<Bounds>,
    /// Goes when nobody waits for the answer, nor takes it, any more.
    wanted: Option<oneshot::Receiver<Infallible>>,
    /// Where it is noted when all of it was passed on.
    ended: Option<(Arc<OnceLock<Duration>>, Arc<dyn Clock>)>,
}

/// Held for as long as an answer is wanted. The request of an answer that nobody wants is cancelled, even where its
/// caller goes on sending.
#[derive(Debug)]
pub(super) struct Wanted {
    _held: oneshot::Sender<Infallible>,
}

/// Where the bytes of a request come from.
enum Source {
    /// Its caller.
    Caller(RequestBody),
    /// They are here already.
    Whole(Full<Bytes>),
}

struct Bounds {
    bytes_left: u64,
    part_timeout: Duration,
    timer: Pin<Box<Sleep>>,
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
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
    /// Nobody wants the answer; in HTTP/2 the process is told so in the reason that is the source.
    #[error("the caller has gone")]
    Cancelled(#[source] h2::Error),
}

impl BoundedBody {
    pub(super) fn new(inner: RequestBody, bytes_max: u64, part_timeout: Duration) -> Self {
        let bounds = Bounds {
            bytes_left: bytes_max,
            part_timeout,
            timer: Box::pin(tokio::time::sleep(part_timeout)),
        };
        Self {
            inner: Source::Caller(inner),
            bounds: Some(bounds),
            wanted: None,
            ended: None,
        }
    }

    /// Notes there when all of it was passed on.
    pub(super) fn note_end(&mut self, at: Arc<OnceLock<Duration>>, clock: Arc<dyn Clock>) {
        self.ended = Some((at, clock));
    }

    /// Returns a body that is here already.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self {
            inner: Source::Whole(Full::new(bytes)),
            bounds: None,
            wanted: None,
            ended: None,
        }
    }

    /// Returns the body of a gRPC request, and what keeps it going.
    pub(super) fn unbounded(inner: RequestBody) -> (Self, Wanted) {
        let (held, wanted) = oneshot::channel();
        let body = Self {
            inner: Source::Caller(inner),
            bounds: None,
            wanted: Some(wanted),
            ended: None,
        };
        (body, Wanted { _held: held })
    }
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let frame = ready!(self.poll_part(cx));
        // One of known length is not asked for more once it is complete.
        let is_all = match &frame {
            None => true,
            Some(frame) => frame.is_ok() && self.is_end_stream(),
        };
        if let Some((at, clock)) = &self.ended
            && is_all
        {
            let _noted = at.set(clock.monotonic());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Source::Caller(caller) => caller.is_end_stream(),
            Source::Whole(whole) => whole.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Source::Caller(caller) => caller.size_hint(),
            Source::Whole(whole) => whole.size_hint(),
        }
    }
}

impl BoundedBody {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self;
        let cancelled = || Poll::Ready(Some(Err(BodyFault::Cancelled(Reason::CANCEL.into()))));
        if let Some(wanted) = &mut this.wanted
            && Pin::new(wanted).poll(cx).is_ready()
        {
            return cancelled();
        }
        let caller = match &mut this.inner {
            Source::Caller(caller) => caller,
            Source::Whole(whole) => {
                let frame = ready!(Pin::new(whole).poll_frame(cx));
                return Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})));
            }
        };
        let Poll::Ready(frame) = Pin::new(caller).poll_frame(cx) else {
            let Some(bounds) = &mut this.bounds else {
                return Poll::Pending;
            };
            return match bounds.timer.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(BodyFault::Late))),
                Poll::Pending => Poll::Pending,
            };
        };
        let Some(frame) = frame else {
            return Poll::Ready(None);
        };
        let Ok(frame) = frame else {
            return match this.wanted {
                Some(_) => cancelled(),
                None => Poll::Ready(Some(Err(BodyFault::Broken))),
            };
        };
        let n_bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        if let Some(bounds) = &mut this.bounds {
            match bounds.bytes_left.checked_sub(n_bytes) {
                Some(left) => bounds.bytes_left = left,
                None => return Poll::Ready(Some(Err(BodyFault::TooLarge))),
            }
            let next = Instant::now() + bounds.part_timeout;
            bounds.timer.as_mut().reset(next);
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

/// A process's answer on its way to the caller. The call ends with it.
pub(crate) struct ForwardedBody {
    inner: Incoming,
    end: Option<CallEnd>,
    limit: Limit,
    _wanted: Option<Wanted>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Nothing more is passed on.
    is_over: bool,
}

/// How long an answer may last.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// In HTTP: so long for each part of it.
    Parts(Duration),
    /// In gRPC: for the whole call, as long as the caller waits, and so until then; for ever if it does not say.
    Until(Option<(Duration, Instant)>),
}

/// What is done when a call ends.
pub(super) struct CallEnd {
    pub(super) call: ModelCall,
    /// The process is busy until then.
    pub(super) lease: ProcessLease,
    pub(super) protocol: Protocol,
    /// How it ended, once that is known.
    pub(super) outcome: Option<Outcome>,
    /// What is noted of an experiment then.
    pub(super) pending: Option<Box<Pending>>,
    /// Where the answer is kept once it has come to a good end.
    pub(super) keeping: Option<Box<Keeping>>,
}

impl CallEnd {
    fn finish(self) {
        // One that has no outcome is the caller's that has gone.
        if let Some(keeping) = self.keeping.filter(|_| self.outcome == Some(Ok(()))) {
            keeping.keep();
        }
        if let Some(outcome) = self.outcome {
            self.call.finish(self.protocol, outcome);
            if let Some(pending) = self.pending {
                pending.end(outcome);
            }
        }
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
    pub(super) fn new(inner: Incoming, end: CallEnd, limit: Limit, wanted: Option<Wanted>) -> Self {
        let timer = match limit {
            Limit::Parts(timeout) => Some(tokio::time::sleep(timeout)),
            Limit::Until(until) => until.map(|(_, until)| tokio::time::sleep_until(until)),
        };
        Self {
            inner,
            end: Some(end),
            limit,
            _wanted: wanted,
            timer: timer.map(Box::pin),
            is_over: false,
        }
    }

    /// Ends an answer that the process did not end: in gRPC with a status.
    fn cut(&mut self, failure: &Failure) -> Option<Result<Frame<Bytes>, AnswerCut>> {
        self.is_over = true;
        self.finish(Some(Err(failure.code)));
        Some(match self.limit {
            Limit::Parts(_) => Err(AnswerCut),
            Limit::Until(_) => Ok(Frame::trailers(status_trailers(Some(failure)))),
        })
    }

    /// Tells whether it is known how the call ended.
    fn has_status(&self) -> bool {
        self.end.as_ref().is_none_or(|end| end.outcome.is_some())
    }

    fn finish(&mut self, outcome: Option<Outcome>) {
        if let Some(mut end) = self.end.take() {
            end.outcome = outcome.or(end.outcome);
            end.finish();
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
        if this.is_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            let Some(timer) = &mut this.timer else {
                return Poll::Pending;
            };
            ready!(timer.as_mut().poll(cx));
            let waited = match this.limit {
                Limit::Parts(timeout) => timeout,
                Limit::Until(until) => until.map_or(Duration::ZERO, |(timeout, _)| timeout),
            };
            return Poll::Ready(this.cut(&too_late(waited)));
        };
        if let (Limit::Parts(timeout), Some(timer)) = (this.limit, &mut this.timer) {
            timer.as_mut().reset(Instant::now() + timeout);
        }
        match frame {
            Some(Ok(frame)) => {
                if let Some(end) = &mut this.end
                    && let (Some(keeping), Some(data)) = (&mut end.keeping, frame.data_ref())
                    && !keeping.take(data)
                {
                    end.keeping = None;
                }
                if let (Limit::Until(_), Some(trailers)) = (this.limit, frame.trailers_ref()) {
                    // Whoever takes trailers asks for nothing more.
                    let outcome = outcome_in(trailers).unwrap_or(Err(Code::Internal));
                    this.finish(Some(outcome));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_broken)) => {
                let failure = failure(Code::Unavailable, &AnswerCut.to_string());
                Poll::Ready(this.cut(&failure))
            }
            None => {
                if !this.has_status() {
                    let why = "the process ended its answer without a status";
                    return Poll::Ready(this.cut(&failure(Code::Internal, why)));
                }
                this.finish(None);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream() && self.has_status()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ForwardedBody {
    fn drop(&mut self) {
        // An answer of known length is not asked for more once it is complete. Who leaves in the middle of a good one has not had it.
        if !self.inner.is_end_stream()
            && let Some(end) = &mut self.end
        {
            end.outcome = end.outcome.filter(Result::is_err);
        }
        self.finish(None);
    }
}
