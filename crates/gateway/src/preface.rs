//! Tells HTTP/2 from HTTP/1.1 by a connection's first bytes, and gives them back to whoever reads it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How every HTTP/2 connection without TLS begins; no HTTP/1.1 request begins so.
const HTTP2: &[u8] = b"PRI";
/// Enough for the head of a usual request, so that it is read in one go.
const FIRST_READ_BYTES: usize = 8 * 1024;

/// A protocol by a connection's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Reads until the protocol is known.
///
/// # Errors
/// If the connection ends or breaks before.
pub(crate) async fn read(mut stream: TcpStream) -> io::Result<(Version, Rewound)> {
    let mut first = BytesMut::with_capacity(FIRST_READ_BYTES);
    let version = loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let n_compared = first.len().min(HTTP2.len());
        if first[..n_compared] != HTTP2[..n_compared] {
            break Version::Http1;
        }
        if n_compared == HTTP2.len() {
            break Version::Http2;
        }
    };
    let rewound = Rewound {
        first: first.freeze(),
        stream,
        n_writes: Rc::default(),
    };
    Ok((version, rewound))
}

/// A connection with its first bytes put back.
#[derive(Debug)]
pub(crate) struct Rewound {
    first: Bytes,
    stream: TcpStream,
    /// The number of writes so far.
    n_writes: Rc<Cell<u64>>,
}

impl Rewound {
    /// Counts its writes there.
    pub(crate) fn counting(self, n_writes: Rc<Cell<u64>>) -> Self {
        Self { n_writes, ..self }
    }

    /// Returns it with `unread` to be read before what follows.
    pub(crate) fn put_back(self, unread: Bytes) -> Self {
        // What was not read from there comes after it.
        let first = if self.first.is_empty() {
            unread
        } else {
            Bytes::from([unread, self.first].concat())
        };
        Self { first, ..self }
    }

    fn written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.n_writes.set(self.n_writes.get().wrapping_add(1));
        }
        written
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.has_remaining() {
            let n_bytes = self.first.len().min(into.remaining());
            into.put_slice(&self.first[..n_bytes]);
            self.first.advance(n_bytes);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(ctx, into)
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(ctx, from);
        self.written(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(ctx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(ctx, from);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
