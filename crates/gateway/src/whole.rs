//! HTTP/1.1 without detours: a request that is there as a whole is read, answered and written by one loop.
//!
//! This is for what nearly every request of an inference is: `GET` or `POST`, a few plain headers, a small body whose length
//! is declared. Whatever else comes (chunked bodies, `Expect`, upgrades, large bodies, heads in pieces, HTTP/1.0, anything
//! that is not well-formed) is not judged here: the connection goes to hyper with every byte of that request, and stays there.
//! Heads are read by the parser that hyper uses, with its settings.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{Buf, BytesMut};
use coracle_base::Clock;
use coracle_serving::ModelTable;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::arriving::BINARY_TYPE;
use crate::arriving::Content;
use crate::body::Busy;
use crate::connection::{Answered, Handler, body_cut, body_too_late};
use crate::preface::Rewound;
use crate::respond::{JSON_LENGTH, REQUEST_ID, Reply};
use crate::seldon;

/// Bodies up to this size are waited for here.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Heads of more headers go to hyper.
const HEADERS_MAX: usize = 32;
/// What is read in one go.
const READ_BYTES: usize = 8 << 10;
/// A connection whose next request is always there already lets others go first after this time. Answering one request takes a
/// cheap model a twentieth of it; a look at all sockets, which is made then, less.
const TURN_MAX: Duration = Duration::from_micros(250);
/// Answers up to this size are written in one piece with their head.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// What the loop and the task of its connection tell each other.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    /// Whether no request has begun: nothing is lost if the connection ends.
    pub(crate) is_waiting: Cell<bool>,
    /// Whether the connection is to end after the answer in progress.
    pub(crate) is_last: Cell<bool>,
}

/// Answers requests until the connection ends (`None`), or until one comes that is hyper's to answer.
pub(crate) async fn serve(
    stream: Rewound,
    handler: &Handler,
    talk: &Talk,
    begin: impl Fn() -> Busy,
) -> Option<Rewound> {
    let mut connection = Connection {
        stream,
        unread: BytesMut::with_capacity(READ_BYTES),
        out: Vec::with_capacity(256),
        turn: None,
    };
    loop {
        if connection.unread.is_empty() {
            // That came while the last answer was written.
            if talk.is_last.get() {
                return None;
            }
            talk.is_waiting.set(true);
            let read = connection.read().await;
            talk.is_waiting.set(false);
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
        let limits = &handler.shared.limits;
        let kept = Kept::of(&handler.calls.table.load());
        let most = (limits.head_bytes_max, limits.headers_max);
        let Some(head) = read_head(&connection.unread, most, kept) else {
            return Some(connection.rewound());
        };
        let busy = begin();
        let started = handler.shared.clock.monotonic();
        let mut arrived = started;
        connection
            .take_turns(handler.shared.clock.as_ref(), started)
            .await;
        let whole = head.n_bytes + head.n_body;
        if connection.unread.len() < whole {
            match wait_for_body(&mut connection, whole, limits.body_timeout).await {
                Body::Here => arrived = handler.shared.clock.monotonic(),
                Body::Gone => return None,
                Body::Refused(reply) => {
                    let answered = refused(handler, &head.parts, reply);
                    let written = connection.write(handler, &head.parts, answered, (started, true));
                    drop(written.await);
                    return None;
                }
            }
        }
        let request = connection.unread.split_to(whole).freeze();
        let body = request.slice(head.n_bytes..);
        let answer = handler.answer_whole(&head.parts, (body, head.content), (started, arrived));
        let answered = match connection.watch(pin!(answer)).await {
            Watched::Gone => return None,
            Watched::Answered(Some(answered)) => answered,
            Watched::Answered(None) => {
                let rest = std::mem::take(&mut connection.unread);
                connection.unread = BytesMut::from(&request[..]);
                connection.unread.unsplit(rest);
                return Some(connection.rewound());
            }
        };
        drop(busy);
        // What is read next may then take the room of this request again.
        drop(request);
        let is_last = talk.is_last.get();
        let written = connection.write(handler, &head.parts, answered, (started, is_last));
        if written.await.ok()? {
            return None;
        }
    }
}

fn refused(handler: &Handler, parts: &Parts, reply: Reply) -> Answered {
    handler.count_response(reply.status.as_u16());
    Answered {
        reply,
        request_id: handler.request_id(parts),
        trace: None,
    }
}

enum Body {
    Here,
    /// The connection is broken: nobody reads an answer.
    Gone,
    Refused(Reply),
}

/// Reads until so many bytes are there.
async fn wait_for_body(connection: &mut Connection, n_bytes: usize, timeout: Duration) -> Body {
    let whole = async {
        while connection.unread.len() < n_bytes {
            connection.unread.reserve(n_bytes - connection.unread.len());
            match connection.read().await {
                Ok(1..) => {}
                // Who has ended one side may still read.
                Ok(0) => return Body::Refused(body_cut()),
                Err(_) => return Body::Gone,
            }
        }
        Body::Here
    };
    let whole = tokio::time::timeout(timeout, whole).await;
    whole.unwrap_or_else(|_elapsed| Body::Refused(body_too_late(timeout)))
}

enum Watched {
    Answered(Option<Answered>),
    /// The client ended the connection before.
    Gone,
}

struct Connection {
    stream: Rewound,
    unread: BytesMut,
    /// Room for answers.
    out: Vec<u8>,
    /// Since when it has kept the event loop, once it has answered a request without waiting for the next.
    turn: Option<Duration>,
}

impl Connection {
    /// Returns the stream with what is unread put back.
    fn rewound(self) -> Rewound {
        self.stream.put_back(self.unread.freeze())
    }

    /// Waits for further bytes; returns how many came.
    async fn read(&mut self) -> io::Result<usize> {
        poll_fn(|ctx| {
            let read = self.poll_read(ctx);
            if read.is_pending() {
                self.turn = None;
            }
            read
        })
        .await
    }

    /// Lets other connections go first, those too that the loop has not looked at, if this one has kept the loop for long.
    async fn take_turns(&mut self, clock: &dyn Clock, now: Duration) {
        let began = *self.turn.get_or_insert(now);
        if now.saturating_sub(began) >= TURN_MAX {
            tokio::task::yield_now().await;
            self.turn = Some(clock.monotonic());
        }
    }

    fn poll_read(&mut self, ctx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.unread.capacity() - self.unread.len() < READ_BYTES / 4 {
            self.unread.reserve(READ_BYTES);
        }
        pin!(self.stream.read_buf(&mut self.unread)).poll(ctx)
    }

    /// Waits for an answer, and meanwhile for the connection's end, after which nobody wants it.
    async fn watch(
        &mut self,
        mut answer: Pin<&mut impl Future<Output = Option<Answered>>>,
    ) -> Watched {
        let mut has_looked = false;
        poll_fn(|ctx| {
            if let Poll::Ready(answered) = answer.as_mut().poll(ctx) {
                return Poll::Ready(Watched::Answered(answered));
            }
            self.turn = None;
            // What is answered at once, with others that have come, is answered to who has ended one side of the connection, too.
            if !std::mem::replace(&mut has_looked, true) {
                ctx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // The next requests may come early; beyond that they wait in the socket.
            while self.unread.len() < READ_BYTES {
                match self.poll_read(ctx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(Watched::Gone),
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Writes an answer; returns whether the connection ends with it.
    async fn write(
        &mut self,
        handler: &Handler,
        head: &Parts,
        answered: Answered,
        (at, is_last): (Duration, bool),
    ) -> io::Result<bool> {
        let out = &mut self.out;
        out.clear();
        let status = answered.reply.status;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        let mut ends = is_last;
        let is_plain = answered.trace.is_none() && handler.shared.cors.origins.is_empty();
        let (own, given);
        let mut digits = itoa::Buffer::new();
        let body: &[u8] = match answered.reply.plain_type().filter(|_| is_plain) {
            Some((content_type, json_length)) => {
                put(out, CONTENT_TYPE.as_str(), content_type.as_bytes());
                put(out, REQUEST_ID.as_str(), answered.request_id.as_bytes());
                if let Some(puid) = seldon::puid(head, &answered.request_id) {
                    put(out, seldon::PUID.as_str(), puid.as_bytes());
                }
                if let Some(json_length) = json_length {
                    let length = digits.format(json_length);
                    put(out, JSON_LENGTH.as_str(), length.as_bytes());
                }
                own = answered.reply.body;
                &own
            }
            None => {
                let (head, body) = handler.to_http(head, answered).into_parts();
                for (name, value) in &head.headers {
                    // The only value that answers have there is `close`.
                    if name == CONNECTION {
                        ends = true;
                        continue;
                    }
                    put(out, name.as_str(), value.as_bytes());
                }
                given = body.into_data();
                &given
            }
        };
        if ends {
            put(out, CONNECTION.as_str(), b"close");
        }
        let length = digits.format(body.len());
        put(out, CONTENT_LENGTH.as_str(), length.as_bytes());
        let clock = handler.shared.clock.as_ref();
        handler
            .dates
            .with(at, clock, |date| put(out, DATE.as_str(), date));
        out.extend_from_slice(b"\r\n\r\n");
        if body.len() <= JOINED_BYTES_MAX {
            out.extend_from_slice(body);
            self.stream.write_all(out).await?;
        } else {
            let mut both = Buf::chain(out.as_slice(), body);
            self.stream.write_all_buf(&mut both).await?;
        }
        Ok(ends)
    }
}

fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
}

/// The last date that an answer carried: it is read and written once a second.
#[derive(Debug, Default)]
pub(crate) struct Dates(RefCell<(u64, String)>);

impl Dates {
    /// Gives the date to `put`; `at` is the monotonic clock's time.
    fn with(&self, at: Duration, clock: &dyn Clock, put: impl FnOnce(&[u8])) {
        let mut kept = self.0.borrow_mut();
        if kept.0 != at.as_secs() || kept.1.is_empty() {
            let time = SystemTime::UNIX_EPOCH + clock.unix_time();
            *kept = (at.as_secs(), httpdate::fmt_http_date(time));
        }
        put(kept.1.as_bytes());
    }
}

/// A request's head.
#[derive(Debug)]
struct Head {
    /// Without the headers that say nothing here: those of the connection, and what every client sends.
    parts: Parts,
    content: Content,
    n_bytes: usize,
    n_body: usize,
}

/// Which of the headers that every client sends are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    None,
    /// It may name a service.
    Host,
    /// Any of them may choose a revision.
    All,
}

impl Kept {
    fn of(table: &ModelTable) -> Self {
        match (table.is_sticky(), table.has_namespaces()) {
            (true, _) => Self::All,
            (false, true) => Self::Host,
            (false, false) => Self::None,
        }
    }
}

/// Reads a head; `None` if it is not all there, or not one of those that are answered here.
fn read_head(
    bytes: &BytesMut,
    (n_bytes_max, n_headers_max): (usize, usize),
    kept: Kept,
) -> Option<Head> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let n_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(n_bytes)) => n_bytes,
        _ => return None,
    };
    let is_small = n_bytes <= n_bytes_max && request.headers.len() <= n_headers_max;
    if request.version != Some(1) || !is_small {
        return None;
    }
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = match request.method? {
        "POST" => Method::POST,
        "GET" => Method::GET,
        _ => return None,
    };
    head.uri = read_uri(request.path?)?;
    let (mut n_body, mut n_json, mut is_binary) = (None, None, false);
    for header in &*request.headers {
        match Known::of(header.name) {
            Known::Length => {
                let length = read_length(header.value).filter(|_| n_body.is_none());
                n_body = Some(length?);
            }
            Known::Connection if !header.value.eq_ignore_ascii_case(b"keep-alive") => return None,
            Known::Hyper => return None,
            Known::Host if kept == Kept::None => {}
            Known::Connection if kept != Kept::All => {}
            Known::Type if kept != Kept::All && header.value == b"application/json" => {}
            Known::Type if kept != Kept::All && header.value == BINARY_TYPE.as_bytes() => {
                is_binary = true;
            }
            Known::JsonLength if n_json.is_none() => n_json = Some(read_length(header.value)?),
            Known::JsonLength => return None,
            Known::Accept if kept != Kept::All && head.method == Method::POST => {}
            Known::Plain if kept != Kept::All => {}
            _ => {
                let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
                let value = HeaderValue::from_bytes(header.value).ok()?;
                head.headers.append(name, value);
            }
        }
    }
    let content = match (n_json, is_binary) {
        (Some(json_length), true) => Content::Binary { json_length },
        (json_length, _) => {
            // Half of that is for the rules on headers.
            let length = json_length.map(HeaderValue::from);
            head.headers
                .extend(length.map(|length| (JSON_LENGTH, length)));
            let binary = is_binary.then_some((CONTENT_TYPE, HeaderValue::from_static(BINARY_TYPE)));
            head.headers.extend(binary);
            Content::AsHeadersSay
        }
    };
    Some(Head {
        parts: head,
        content,
        n_bytes,
        n_body: n_body.unwrap_or(0),
    })
}

/// What a header is to this loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Length,
    Connection,
    /// What it asks for is hyper's to do.
    Hyper,
    Host,
    Type,
    JsonLength,
    /// What it accepts matters to some of what is read.
    Accept,
    /// It changes nothing.
    Plain,
    /// What answers the request may look at it.
    Other,
}

impl Known {
    fn of(name: &str) -> Self {
        const NAMES: [(&str, Known); 12] = [
            ("host", Known::Host),
            ("content-type", Known::Type),
            ("content-length", Known::Length),
            ("inference-header-content-length", Known::JsonLength),
            ("user-agent", Known::Plain),
            ("accept", Known::Accept),
            ("connection", Known::Connection),
            ("transfer-encoding", Known::Hyper),
            ("expect", Known::Hyper),
            ("upgrade", Known::Hyper),
            ("te", Known::Hyper),
            ("trailer", Known::Hyper),
        ];
        let is = |known: &str| known.len() == name.len() && known.eq_ignore_ascii_case(name);
        let known = NAMES.iter().find(|(known, _)| is(known));
        known.map_or(Self::Other, |(_, known)| *known)
    }
}

fn read_uri(target: &str) -> Option<Uri> {
    let uri = target.starts_with('/').then(|| Uri::try_from(target))?;
    uri.ok()
}

/// Reads the length of a small body: digits alone.
fn read_length(value: &[u8]) -> Option<usize> {
    let is_number = (1..=8).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number)?;
    let length = text.parse().ok();
    length.filter(|&length| length <= BODY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use coracle_base::ManualClock;
    use hyper::header::HOST;

    use super::*;

    const MOST: (usize, usize) = (64 << 10, 100);

    fn read(head: &str) -> Option<Head> {
        read_head(&BytesMut::from(head), MOST, Kept::None)
    }

    #[test]
    fn a_usual_request_is_read_here() {
        let text = "POST /v1/models/iris:predict?a=b HTTP/1.1\r\nHost: x\r\nUser-Agent: wrk\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX-Request-Id: a1\r\nConnection: Keep-Alive\r\n\r\n{}";
        let head = read(text).unwrap();
        assert_eq!(head.n_bytes, text.len() - 2);
        assert_eq!(head.n_body, 2);
        assert_eq!(head.parts.method, Method::POST);
        assert_eq!(head.parts.uri.path(), "/v1/models/iris:predict");
        assert_eq!(head.parts.uri.query(), Some("a=b"));
        assert_eq!(head.parts.headers.len(), 1);
        assert_eq!(head.parts.headers["x-request-id"], "a1");
    }

    #[test]
    fn what_says_where_or_what_is_kept() {
        let text = "GET / HTTP/1.1\r\nhost: a.b\r\ncontent-type: text/json\r\n\r\n";
        let head = read_head(&BytesMut::from(text), MOST, Kept::Host).unwrap();
        assert_eq!(head.parts.headers[HOST], "a.b");
        assert_eq!(head.parts.headers[CONTENT_TYPE], "text/json");
        assert_eq!(head.n_body, 0);
    }

    #[test]
    fn what_may_choose_a_revision_is_kept() {
        let text = "POST / HTTP/1.1\r\nhost: a\r\nuser-agent: b\r\naccept: c\r\ncontent-type: application/json\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n";
        let head = read_head(&BytesMut::from(text), MOST, Kept::All).unwrap();
        let mut names: Vec<&str> = head.parts.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = ["accept", "connection", "content-type", "host", "user-agent"];
        assert_eq!(names, expected);
    }

    #[test]
    fn everything_else_is_hyper_s() {
        let line = "POST / HTTP/1.1\r\n";
        let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
        let heads = [
            String::new(),
            "POST / HT".to_owned(),
            format!("{line}host: x\r\n"),
            "POST / HTTP/1.0\r\n\r\n".to_owned(),
            "PUT / HTTP/1.1\r\n\r\n".to_owned(),
            "HEAD / HTTP/1.1\r\n\r\n".to_owned(),
            "OPTIONS * HTTP/1.1\r\n\r\n".to_owned(),
            "GET http://a/b HTTP/1.1\r\n\r\n".to_owned(),
            format!("{line}transfer-encoding: chunked\r\n\r\n"),
            format!("{line}Expect: 100-continue\r\n\r\n"),
            format!("{line}connection: close\r\n\r\n"),
            format!("{line}connection: keep-alive, upgrade\r\n\r\n"),
            format!("{line}upgrade: h2c\r\n\r\n"),
            format!("{line}content-length: 1\r\ncontent-length: 1\r\n\r\n"),
            format!("{line}content-length: +1\r\n\r\n"),
            format!("{line}content-length: 1, 1\r\n\r\n"),
            format!("{line}content-length:\r\n\r\n"),
            format!("{line}content-length: 65537\r\n\r\n"),
            format!("{line}content-length : 1\r\n\r\n"),
            format!("{line}a b: 1\r\n\r\n"),
            format!("{line}{many}\r\n"),
        ];
        for head in heads {
            assert!(read(&head).is_none(), "{head:?}");
        }
        let text = BytesMut::from("GET / HTTP/1.1\r\na: b\r\n\r\n");
        assert!(read_head(&text, (10, 100), Kept::None).is_none());
        assert!(read_head(&text, (100, 0), Kept::None).is_none());
        assert!(read_head(&text, (100, 1), Kept::None).is_some());
    }

    #[test]
    fn a_date_is_written_once_a_second() {
        let clock = ManualClock::default();
        let dates = Dates::default();
        let date = |at| {
            let mut text = Vec::new();
            dates.with(at, &clock, |date| text.extend_from_slice(date));
            String::from_utf8(text).unwrap()
        };
        clock.advance(Duration::from_secs(784_111_777));
        let first = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(date(Duration::ZERO), first);
        clock.advance(Duration::from_secs(3));
        assert_eq!(date(Duration::from_millis(900)), first);
        assert_eq!(
            date(Duration::from_secs(1)),
            "Sun, 06 Nov 1994 08:49:40 GMT"
        );
    }
}
