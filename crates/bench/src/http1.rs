//! HTTP/1.1 as a load tool needs it: whole requests written at once, answers read past as cheaply as they can be.
//!
//! No general client: a request is bytes that were made before the load began, and of an answer only the status and, where it is
//! wanted, the body matter. That keeps the tool's share of the machine small, which is what it measures beside.
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::connection::{Answer, Exchange, Keep, Stream};
use crate::record::{Failure, FailureKind};

/// The most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most headers of an answer.
const HEADERS_MAX: usize = 100;
/// The most bytes of a body that are kept.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// What is read at once.
const READ_BYTES: usize = 16 << 10;

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Http1 {
    stream: Stream,
    buffer: Vec<u8>,
}

/// Why an answer was not read.
#[derive(Debug)]
enum Fault {
    /// The connection ended or broke; whether before the first byte of an answer.
    Ended(io::Error, bool),
    /// What came is no HTTP.
    Malformed(String),
}

impl Http1 {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(READ_BYTES),
        }
    }

    /// Sends `request` and reads the answer.
    pub(crate) async fn exchange(&mut self, request: &[u8], keep: Keep) -> Exchange {
        self.buffer.clear();
        match self.try_exchange(request, keep).await {
            Ok((head, answer)) => {
                let result = if (200..300).contains(&head.status) {
                    Ok(answer)
                } else {
                    let message = Failure::message_of_body(&answer.body);
                    Err(Failure::new(FailureKind::Http(head.status), message))
                };
                Exchange::Answered(result, head.is_reusable)
            }
            Err(Fault::Ended(error, true)) => {
                Exchange::Stale(Failure::new(FailureKind::Connection, error))
            }
            Err(Fault::Ended(error, false)) => {
                Exchange::Answered(Err(Failure::new(FailureKind::Connection, error)), false)
            }
            Err(Fault::Malformed(what)) => {
                Exchange::Answered(Err(Failure::new(FailureKind::Answer, what)), false)
            }
        }
    }

    async fn try_exchange(&mut self, request: &[u8], keep: Keep) -> Result<(Head, Answer), Fault> {
        // An answer may come before the request is sent: a server that refuses a body answers its head. So a failed write is
        // told only if nothing can be read either.
        let written = self.write(request).await;
        let (mut head, n_head) = loop {
            self.fill(true, written.as_ref().err()).await?;
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
        };
        head.is_reusable &= written.is_ok();
        let mut answer = Answer::default();
        let keeps = keep == Keep::All || !(200..300).contains(&head.status);
        let mut body = head.body;
        self.buffer.drain(..n_head.min(self.buffer.len()));
        answer.n_bytes = u64::try_from(n_head).unwrap_or(u64::MAX);
        loop {
            let kept = keeps.then_some(&mut answer.body);
            let n_taken = body.feed(&self.buffer, kept)?;
            answer.n_bytes = answer
                .n_bytes
                .saturating_add(u64::try_from(n_taken).unwrap_or(0));
            self.buffer.drain(..n_taken.min(self.buffer.len()));
            if body.is_complete() {
                return Ok((head, answer));
            }
            match self.fill(false, None).await {
                Err(Fault::Ended(error, _)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    if matches!(body, Body::UntilEnd) {
                        return Ok((head, answer));
                    }
                    return Err(Fault::Ended(error, false));
                }
                result => result?,
            }
        }
    }

    async fn write(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await
    }

    /// Reads what is there; the end of the connection is an error.
    async fn fill(&mut self, is_head: bool, write_error: Option<&io::Error>) -> Result<(), Fault> {
        let is_first = is_head && self.buffer.is_empty();
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => {
                let error = match write_error {
                    Some(error) => io::Error::new(error.kind(), error.to_string()),
                    None => io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the server closed the connection before its answer was complete",
                    ),
                };
                Err(Fault::Ended(error, is_first))
            }
            Ok(_n_bytes) => Ok(()),
            Err(error) => Err(Fault::Ended(error, is_first)),
        }
    }
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    body: Body,
    is_reusable: bool,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// After so many bytes more.
    Length(u64),
    /// With the last chunk.
    Chunked(Chunk),
    /// With the connection.
    UntilEnd,
}

/// Where a body in chunks is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// In the line with a chunk's size: what was read of it, and whether its digits are over.
    Size(u64, bool),
    /// In a chunk: so many bytes are left.
    Data(u64),
    /// In the line break after it.
    End,
    /// In the trailers; whether the line has anything on it yet.
    Trailer(bool),
    /// Past it all.
    Complete,
}

/// Reads the head of an answer, past those that are only provisional; `None` if it is not all there.
fn parse_head(buffer: &[u8]) -> Result<Option<(Head, usize)>, Fault> {
    let mut start = 0_usize;
    loop {
        let rest = buffer.get(start..).unwrap_or_default();
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let malformed = |what: &dyn std::fmt::Display| {
            Fault::Malformed(format!("what came is no HTTP/1.1: {what}"))
        };
        let n_bytes = match response.parse(rest) {
            Ok(httparse::Status::Complete(n_bytes)) => n_bytes,
            Ok(httparse::Status::Partial) if rest.len() > HEAD_BYTES_MAX => {
                return Err(malformed(&"a head of more than 64 KiB"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(malformed(&error)),
        };
        let status = response.code.unwrap_or(0);
        start = start.saturating_add(n_bytes);
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let head = Head {
            status,
            body: body_of(status, response.headers)?,
            is_reusable: response.version == Some(1),
        };
        let closes = response.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("connection")
                && header.value.eq_ignore_ascii_case(b"close")
        });
        let is_reusable = head.is_reusable && !closes && head.body != Body::UntilEnd;
        return Ok(Some((
            Head {
                is_reusable,
                ..head
            },
            start,
        )));
    }
}

fn body_of(status: u16, headers: &[httparse::Header<'_>]) -> Result<Body, Fault> {
    if status == 204 || status == 304 {
        return Ok(Body::Length(0));
    }
    let mut length = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Body::Chunked(Chunk::Size(0, false)));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            let number = text.trim().parse::<u64>();
            let number = number.map_err(|_not_a_number| {
                Fault::Malformed(format!("content-length is {text:?}, no number of bytes"))
            })?;
            length = Some(number);
        }
    }
    Ok(length.map_or(Body::UntilEnd, Body::Length))
}

impl Body {
    fn is_complete(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Complete))
    }

    /// Takes what of `bytes` belongs to the body; returns how many that are.
    fn feed(&mut self, bytes: &[u8], mut kept: Option<&mut Vec<u8>>) -> Result<usize, Fault> {
        match self {
            Self::Length(left) => Ok(take(bytes, left, &mut kept)),
            Self::UntilEnd => Ok(take(bytes, &mut u64::MAX.clone(), &mut kept)),
            Self::Chunked(chunk) => {
                let mut n_taken = 0_usize;
                while let Some(rest) = bytes.get(n_taken..).filter(|rest| !rest.is_empty()) {
                    if *chunk == Chunk::Complete {
                        break;
                    }
                    n_taken = n_taken.saturating_add(chunk.feed(rest, &mut kept)?);
                }
                Ok(n_taken)
            }
        }
    }
}

/// Takes up to `left` of `bytes`.
fn take(bytes: &[u8], left: &mut u64, kept: &mut Option<&mut Vec<u8>>) -> usize {
    let n_bytes = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *left = left.saturating_sub(u64::try_from(n_bytes).unwrap_or(u64::MAX));
    if let (Some(kept), Some(bytes)) = (kept.as_deref_mut(), bytes.get(..n_bytes)) {
        let n_room = KEPT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(bytes.get(..n_room.min(n_bytes)).unwrap_or_default());
    }
    n_bytes
}

impl Chunk {
    /// Takes some of `bytes`, which are not empty; returns how many.
    fn feed(&mut self, bytes: &[u8], kept: &mut Option<&mut Vec<u8>>) -> Result<usize, Fault> {
        if let Self::Data(left) = self {
            let n_taken = take(bytes, left, kept);
            if *left == 0 {
                *self = Self::End;
            }
            return Ok(n_taken);
        }
        let Some(&byte) = bytes.first() else {
            return Ok(0);
        };
        *self = match (*self, byte) {
            (Self::Size(0, _), b'\n') => Self::Trailer(false),
            (Self::Size(size, _), b'\n') => Self::Data(size),
            (Self::Size(size, is_over), byte) => match char::from(byte).to_digit(16) {
                Some(digit) if !is_over => {
                    let size = size
                        .checked_mul(16)
                        .and_then(|size| size.checked_add(u64::from(digit)));
                    let size =
                        size.ok_or_else(|| Fault::Malformed("a chunk without end".to_owned()))?;
                    Self::Size(size, false)
                }
                // What follows the size, an extension or white space, says nothing to us.
                _ => Self::Size(size, true),
            },
            (Self::End, b'\n') => Self::Size(0, false),
            (Self::Trailer(false), b'\n') => Self::Complete,
            (Self::Trailer(true), b'\n') => Self::Trailer(false),
            (Self::Trailer(has_text), byte) => Self::Trailer(has_text || byte != b'\r'),
            (other, _) => other,
        };
        Ok(1)
    }
}

/// Reads an answer that comes in pieces; returns status, body and whether the connection can go on. `None` if it is cut off.
fn read_pieces<'a>(
    mut pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<(u16, Vec<u8>, bool)>, Fault> {
    let mut buffer = Vec::new();
    let (head, n_head) = loop {
        let Some(piece) = pieces.next() else {
            return Ok(None);
        };
        buffer.extend_from_slice(piece);
        if let Some(head) = parse_head(&buffer)? {
            break head;
        }
    };
    let (mut body, mut kept) = (head.body, Vec::new());
    buffer.drain(..n_head.min(buffer.len()));
    loop {
        let n_taken = body.feed(&buffer, Some(&mut kept))?;
        buffer.drain(..n_taken.min(buffer.len()));
        if body.is_complete() {
            break;
        }
        match pieces.next() {
            Some(piece) => buffer.extend_from_slice(piece),
            None if body == Body::UntilEnd => break,
            None => return Ok(None),
        }
    }
    Ok(Some((head.status, kept, head.is_reusable)))
}

/// Reads bytes as the load tool reads an answer, `n_bytes` (at least one) at a time, for those who damage answers. `None` if they are no
/// HTTP, or cut off.
#[doc(hidden)]
#[must_use]
pub fn read_answer(bytes: &[u8], n_bytes: usize) -> Option<(u16, Vec<u8>, bool)> {
    read_pieces(bytes.chunks(n_bytes.max(1))).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &[u8], n_bytes: usize) -> Result<Option<(u16, String, bool)>, Fault> {
        let read = read_pieces(answer.chunks(n_bytes))?;
        Ok(read.map(|(status, body, is_reusable)| {
            let body = String::from_utf8_lossy(&body).into_owned();
            (status, body, is_reusable)
        }))
    }

    const ANSWERS: [(&str, u16, &str, bool); 6] = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            200,
            "hello",
            true,
        ),
        (
            "HTTP/1.1 503 No\r\ncontent-length: 2\r\nConnection: Close\r\n\r\nno",
            503,
            "no",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=1\r\nabcd\r\n0A\r\n0123456789\r\n0\r\nt: 1\r\n\r\n",
            200,
            "abcd0123456789",
            true,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!",
            200,
            "!",
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\n\r\nuntil the end",
            200,
            "until the end",
            false,
        ),
    ];

    #[test]
    fn answers_are_read_however_they_are_cut() {
        for (answer, status, body, is_reusable) in ANSWERS {
            for n_bytes in 1..=answer.len() {
                let read = read(answer.as_bytes(), n_bytes).unwrap();
                assert_eq!(
                    read,
                    Some((status, body.to_owned(), is_reusable)),
                    "{answer:?}"
                );
            }
        }
    }

    #[test]
    fn damaged_answers_end() {
        for (answer, ..) in ANSWERS {
            for position in 0..answer.len() {
                // Whatever comes of it, it comes without a panic.
                drop(read(&answer.as_bytes()[..position], 3));
                for bit in 0..8 {
                    let mut damaged = answer.as_bytes().to_vec();
                    damaged[position] ^= 1 << bit;
                    drop(read(&damaged, 7));
                }
            }
        }
        let endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n";
        assert!(matches!(read(endless, 64), Err(Fault::Malformed(_))));
        let no_number = b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n";
        assert!(matches!(read(no_number, 64), Err(Fault::Malformed(_))));
        assert!(matches!(
            read(b"SSH-2.0-OpenSSH\r\n", 64),
            Err(Fault::Malformed(_))
        ));
    }
}
