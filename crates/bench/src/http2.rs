//! gRPC calls over HTTP/2: one message out, one back, and the status after it.

use std::io;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::task::JoinHandle;

use crate::connection::{Answer, Exchange, Keep, Stream};
use crate::record::{Failure, FailureKind};

/// What the server may send of one answer, and of all, before it waits for us.
const WINDOW_BYTES: u32 = 16 << 20;

/// A connection of HTTP/2.
#[derive(Debug)]
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Http2 {
    /// Begins to speak HTTP/2; needs a [`tokio::task::LocalSet`].
    pub(crate) async fn start(stream: Stream) -> io::Result<Self> {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .enable_push(false);
        let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        // How it ends is told to whoever asks over it.
        let driver = tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    /// Calls a method with a framed message.
    pub(crate) async fn exchange(
        &mut self,
        head: &Request<()>,
        body: Bytes,
        keep: Keep,
    ) -> Exchange {
        match self.call(head, body, keep).await {
            Ok(result) => Exchange::Answered(result, true),
            Err(Broken { error, is_early }) => {
                let failure = Failure::new(FailureKind::Connection, error);
                if is_early {
                    Exchange::Stale(failure)
                } else {
                    Exchange::Answered(Err(failure), false)
                }
            }
        }
    }

    async fn call(
        &mut self,
        head: &Request<()>,
        message: Bytes,
        keep: Keep,
    ) -> Result<Result<Answer, Failure>, Broken> {
        let sender = self.sender.clone();
        let mut sender = sender.ready().await.map_err(Broken::early)?;
        let (response, mut stream) = sender
            .send_request(head.clone(), false)
            .map_err(Broken::early)?;
        stream.send_data(message, true).map_err(Broken::early)?;
        let (head, mut body) = match response.await {
            Ok(response) => response.into_parts(),
            // A stream that the server resets says nothing of the connection.
            Err(error) if error.is_reset() => {
                return Ok(Err(Failure::new(FailureKind::Connection, error)));
            }
            Err(error) => return Err(Broken::early(error)),
        };
        let mut answer = Answer::default();
        while let Some(bytes) = body.data().await {
            let bytes = bytes.map_err(Broken::late)?;
            body.flow_control()
                .release_capacity(bytes.len())
                .map_err(Broken::late)?;
            answer.n_bytes += bytes.len() as u64;
            if keep == Keep::All || head.status != 200 {
                answer.body.extend_from_slice(&bytes);
            }
        }
        let trailers = body.trailers().await.map_err(Broken::late)?;
        if head.status != 200 {
            let message = Failure::message_of_body(&answer.body);
            let kind = FailureKind::Http(head.status.as_u16());
            return Ok(Err(Failure::new(kind, message)));
        }
        // A call that fails at once has its status among the headers.
        let trailers = trailers.unwrap_or(head.headers);
        Ok(status(&trailers).map(|()| answer))
    }
}

/// A connection that can be used no more.
struct Broken {
    error: h2::Error,
    /// Whether nothing of an answer came.
    is_early: bool,
}

impl Broken {
    fn early(error: h2::Error) -> Self {
        Self {
            error,
            is_early: true,
        }
    }

    fn late(error: h2::Error) -> Self {
        Self {
            error,
            is_early: false,
        }
    }
}

/// Reads the status of a call from its trailers.
fn status(trailers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").and_then(|status| status.parse().ok()) {
        Some(0) => Ok(()),
        Some(status) => {
            let message = percent_decode(text("grpc-message").unwrap_or_default());
            Err(Failure::new(FailureKind::Grpc(status), message))
        }
        None => Err(Failure::new(
            FailureKind::Answer,
            "the answer has no grpc-status",
        )),
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_trailers_are_decoded() {
        let text = "inputs[0]: 100%25 \u{e9}\n";
        let encoded = coracle_protocol::grpc::percent_encode(text);
        assert_eq!(percent_decode(&encoded), text);
        assert_eq!(percent_decode("50% of %"), "50% of %");
    }

    #[test]
    fn a_call_without_status_is_no_success() {
        let mut trailers = HeaderMap::new();
        assert_eq!(status(&trailers).unwrap_err().kind, FailureKind::Answer);
        trailers.insert("grpc-status", "8".parse().unwrap());
        trailers.insert("grpc-message", "too many%21".parse().unwrap());
        let failure = status(&trailers).unwrap_err();
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (FailureKind::Grpc(8), "too many!")
        );
        trailers.insert("grpc-status", "0".parse().unwrap());
        assert!(status(&trailers).is_ok());
    }
}
