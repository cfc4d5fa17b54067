//! Passes requests on to processes and their answers back, both as streams.
//!
//! What is passed on: method, path, query, headers and body; not the headers that are about the connection. A request is
//! tried again, with another process, only if no connection could be made: a process may have acted on anything more.
//! `call` does it for HTTP, `grpc` for gRPC; both over connections of `pool`, and by the rules of `guarded` where a service has some. `asked` is for programs that
//! answer in place of others, `keeping` for answers that are given again.

mod asked;
mod body;
mod call;
mod grpc;
mod guarded;
mod headers;
mod hedge;
mod keeping;
mod pool;

use std::time::Duration;

use coracle_base::Code;
use hyper::StatusCode;

pub(crate) use asked::Programs;
pub(crate) use body::{AnswerCut, ForwardedBody};
pub(crate) use call::{Forwarding, NoAnswer};
pub(crate) use pool::Pool;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection could be made; nothing of the request was used.
    NotConnected(String),
    /// It does not speak HTTP/2; the port that was asked.
    NotHttp2(u16),
    /// The connection broke before the answer began.
    Broken(String),
    /// The answer did not begin in time.
    Late,
    /// The request cannot be passed on as it is.
    Malformed(String),
}

impl Fault {
    /// Returns the status that callers get.
    fn status(&self) -> StatusCode {
        match self {
            Self::NotConnected(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) | Self::NotHttp2(_) => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns how it is counted.
    fn code(&self) -> Code {
        match self {
            Self::NotConnected(_) | Self::Broken(_) => Code::Unavailable,
            Self::NotHttp2(_) => Code::Unimplemented,
            Self::Late => Code::DeadlineExceeded,
            Self::Malformed(_) => Code::InvalidArgument,
        }
    }

    /// Returns it in words.
    fn message(&self, model: &str, timeout: Duration) -> String {
        match self {
            Self::NotConnected(why) => format!("the process of '{model}' cannot be reached: {why}"),
            Self::NotHttp2(port) => format!(
                "the process of '{model}' speaks no HTTP/2, which gRPC needs, on port {port}: name its port for gRPC h2c or grpc in its container's ports"
            ),
            Self::Broken(why) => {
                format!("the process of '{model}' ended the connection without an answer: {why}")
            }
            Self::Late => format!(
                "the process of '{model}' gave no answer within {}",
                humantime::format_duration(timeout)
            ),
            Self::Malformed(why) => format!("the request cannot be passed on: {why}"),
        }
    }
}

/// Returns how an answer with this status is counted.
fn outcome(status: StatusCode) -> Result<(), Code> {
    match status.as_u16() {
        0..=399 => Ok(()),
        404 => Err(Code::NotFound),
        409 => Err(Code::AlreadyExists),
        429 => Err(Code::ResourceExhausted),
        400..=499 => Err(Code::InvalidArgument),
        501 => Err(Code::Unimplemented),
        503 => Err(Code::Unavailable),
        504 => Err(Code::DeadlineExceeded),
        _ => Err(Code::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_say_what_happened_and_whose_it_is() {
        let cases = [
            (
                Fault::NotConnected("refused".to_owned()),
                503,
                "the process of 'm' cannot be reached: refused",
            ),
            (
                Fault::Broken("closed".to_owned()),
                502,
                "the process of 'm' ended the connection without an answer: closed",
            ),
            (
                Fault::NotHttp2(9),
                502,
                "the process of 'm' speaks no HTTP/2, which gRPC needs, on port 9: name its port for gRPC h2c or grpc in its container's ports",
            ),
            (
                Fault::Late,
                504,
                "the process of 'm' gave no answer within 5s",
            ),
            (
                Fault::Malformed("no".to_owned()),
                400,
                "the request cannot be passed on: no",
            ),
        ];
        for (fault, status, message) in cases {
            assert_eq!(fault.status().as_u16(), status);
            assert_eq!(fault.message("m", Duration::from_secs(5)), message);
        }
    }

    #[test]
    fn answers_are_counted_by_their_status() {
        let cases = [
            (200, None),
            (302, None),
            (400, Some(Code::InvalidArgument)),
            (422, Some(Code::InvalidArgument)),
            (404, Some(Code::NotFound)),
            (429, Some(Code::ResourceExhausted)),
            (500, Some(Code::Internal)),
            (502, Some(Code::Internal)),
            (503, Some(Code::Unavailable)),
            (504, Some(Code::DeadlineExceeded)),
        ];
        for (status, code) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(outcome(status).err(), code, "{status}");
        }
    }
}
