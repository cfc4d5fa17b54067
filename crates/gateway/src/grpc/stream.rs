//! gRPC methods that stream: messages are answered one after another, in order.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use coracle_base::Code;
use coracle_protocol::grpc::service::{HealthCheckRequest, HealthCheckResponse};
use coracle_protocol::grpc::{
    self, Compression, FrameHead, InferHead, PREFIX_BYTES, decode, frame, framed,
};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Frame;
use hyper::header::HeaderValue;
use tokio::sync::mpsc;

use super::services::{HEALTH_WATCH, MODEL_STREAM_INFER};
use super::{Caller, encoding_header, expanded, failure, response, status_trailers};
use crate::body::{ReplyBody, RequestBody};
use crate::connection::Handler;
use crate::infer::{Failure, too_late};

/// Answers that may wait for a client to take them.
const QUEUE_FRAMES: usize = 4;

/// The other end of an answer that streams.
struct Answers {
    frames: mpsc::Sender<Frame<Bytes>>,
    compression: Compression,
}

/// The client is gone.
struct Gone;

impl Answers {
    async fn send(&self, message: Vec<u8>) -> Result<(), Gone> {
        let message = framed(message, self.compression);
        let frame = Frame::data(Bytes::from(message));
        self.frames.send(frame).await.map_err(|_closed| Gone)
    }

    async fn end(self, result: Result<(), Failure>) {
        let trailers = status_trailers(result.as_ref().err());
        // A client that is gone needs no status.
        drop(self.frames.send(Frame::trailers(trailers)).await);
    }
}

impl Handler {
    /// Answers a request that streams; the answers are made by a task of its own on this event loop.
    pub(super) fn stream(
        self: Rc<Self>,
        caller: Caller,
        body: RequestBody,
        request_id: HeaderValue,
    ) -> Response<ReplyBody> {
        let (frames, received) = mpsc::channel(QUEUE_FRAMES);
        let mut response = response(ReplyBody::frames(received), request_id);
        encoding_header(&mut response, caller.compression);
        let answers = Answers {
            frames,
            compression: caller.compression,
        };
        let messages = Messages {
            body,
            buffer: BytesMut::new(),
            compression: caller.compression,
            most: self.shared.limits.body_max.as_usize(),
            timeout: self.shared.limits.body_timeout,
        };
        tokio::task::spawn_local(async move {
            let timeout = caller.timeout.unwrap_or(Duration::MAX);
            let closed = answers.frames.clone();
            let conversation = self.converse(&caller, messages, &answers);
            let result = tokio::select! {
                result = tokio::time::timeout(timeout, conversation) => match result {
                    Ok(result) => result,
                    Err(_elapsed) => Err(too_late(timeout)),
                },
                () = closed.closed() => return,
            };
            answers.end(result).await;
        });
        response
    }

    async fn converse(
        &self,
        caller: &Caller,
        mut messages: Messages,
        answers: &Answers,
    ) -> Result<(), Failure> {
        let path = caller.head.uri.path();
        if path == HEALTH_WATCH {
            return self.watch_health(messages, answers).await;
        }
        loop {
            let message = tokio::select! {
                message = messages.next() => message?,
                () = self.draining() => {
                    return Err(failure(Code::Unavailable, "the server is shutting down"));
                }
            };
            let Some(message) = message else {
                return Ok(());
            };
            let answer = if path == MODEL_STREAM_INFER {
                self.stream_infer(caller, message).await?
            } else {
                frame(&grpc::reflect(decode(message)?))
            };
            if answers.send(answer).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Answers one request of a stream of inferences; a failure is an answer, and the stream goes on.
    async fn stream_infer(&self, caller: &Caller, message: Bytes) -> Result<Vec<u8>, Failure> {
        let id = InferHead::read(&message)
            .map(|head| head.id)
            .unwrap_or_default();
        caller.n_messages.set(caller.n_messages.get() + 1);
        let answered = match self.hold_message(caller, &message).await {
            Ok(taken) => self.model_infer(caller, message, taken).await,
            Err(failure) => Err(failure),
        };
        let mark = caller.seen.borrow_mut().variant.take();
        let notes = mark.as_ref().map(|mark| mark.notes()).unwrap_or_default();
        match answered {
            Ok(response) => Ok(grpc::stream_response(response, &notes)?),
            // Triton's clients may ask for a real status, which ends the stream.
            Err(failure) if wants_status(caller) => Err(failure),
            Err(failure) => Ok(grpc::stream_failure(&failure.message, &id, &notes)),
        }
    }

    /// Tells the health of a service now and whenever it changes.
    async fn watch_health(&self, mut messages: Messages, answers: &Answers) -> Result<(), Failure> {
        let message = messages.next().await?;
        let message =
            message.ok_or_else(|| failure(Code::InvalidArgument, "the request has no message"))?;
        let request: HealthCheckRequest = decode(message)?;
        let tell = || {
            frame(&HealthCheckResponse {
                status: self.health(&request.service),
            })
        };
        if answers.send(tell()).await.is_err() {
            return Ok(());
        }
        // Health changes once: when the server begins to shut down.
        self.draining().await;
        drop(answers.send(tell()).await);
        Err(failure(Code::Unavailable, "the server is shutting down"))
    }
}

fn wants_status(caller: &Caller) -> bool {
    let value = caller.head.headers.get("triton_grpc_error");
    value.is_some_and(|value| value == "true")
}

/// The messages of a request, one by one.
struct Messages {
    body: RequestBody,
    buffer: BytesMut,
    compression: Compression,
    most: usize,
    /// How long a message may take to arrive once it has begun.
    timeout: Duration,
}

impl Messages {
    /// Returns the next message; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.buffer.is_empty() && !self.more().await? {
            return Ok(None);
        }
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.rest()).await {
            Ok(message) => message.map(Some),
            Err(_elapsed) => {
                let wait = humantime::format_duration(timeout);
                let message = format!("the message did not arrive within {wait}");
                Err(failure(Code::DeadlineExceeded, &message))
            }
        }
    }

    /// Reads the message that has begun.
    async fn rest(&mut self) -> Result<Bytes, Failure> {
        let head = loop {
            match self.buffer.first_chunk::<PREFIX_BYTES>() {
                Some(prefix) => break FrameHead::read(*prefix, self.most)?,
                None => self.more_or_fail().await?,
            }
        };
        while self.buffer.len() < PREFIX_BYTES + head.length {
            self.more_or_fail().await?;
        }
        self.buffer.advance(PREFIX_BYTES);
        let message = self.buffer.split_to(head.length).freeze();
        expanded(message, head, self.compression, self.most)
    }

    async fn more_or_fail(&mut self) -> Result<(), Failure> {
        if self.more().await? {
            return Ok(());
        }
        let message = "the request ended within a message";
        Err(failure(Code::InvalidArgument, message))
    }

    /// Reads more bytes; false at the end.
    async fn more(&mut self) -> Result<bool, Failure> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|_broken| {
                failure(Code::InvalidArgument, "the request ended before its end")
            })?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                self.buffer.extend_from_slice(&data);
                return Ok(true);
            }
        }
        Ok(false)
    }
}
