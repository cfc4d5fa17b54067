//! An HTTP server of a few lines: one request per connection, a handler for every one, a log of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request without its body, which none of these has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Ends the connection after so many bytes of the body.
    pub(crate) cut_at: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Answers with a file as servers do that know ranges.
    pub(crate) fn file(request: &Request, content: &[u8], etag: &str) -> Self {
        let reply = |status, body: &[u8]| {
            Self::new(status, body)
                .with("etag", format!("\"{etag}\""))
                .with("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        };
        let range = request
            .header("range")
            .strip_prefix("bytes=")
            .and_then(|range| range.split_once('-'));
        let Some((start, last)) = range else {
            return reply(200, content);
        };
        let start: usize = start.parse().unwrap();
        let end = (last.parse::<usize>().unwrap() + 1).min(content.len());
        reply(206, &content[start..end]).with(
            "content-range",
            format!("bytes {start}-{}/{}", end - 1, content.len()),
        )
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// Serves until dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let task = tokio::spawn({
            let log = log.clone();
            async move {
                while let Ok((stream, _peer)) = listener.accept().await {
                    tokio::spawn(serve(stream, handler.clone(), log.clone()));
                }
            }
        });
        Self { address, log, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Request>>>) {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_closed) => return,
        }
    }
    let text = String::from_utf8(text).unwrap();
    let mut lines = text.lines();
    let mut first = lines.next().unwrap().split(' ');
    let request = Request {
        method: first.next().unwrap().to_owned(),
        target: first.next().unwrap().to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
    };
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    let mut head = format!(
        "HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = match request.method.as_str() {
        "HEAD" => &[],
        _ => &reply.body[..reply.cut_at.unwrap_or(reply.body.len())],
    };
    // A client that has seen enough closes early; the test sees what it made of that.
    let _client_may_be_gone = stream.write_all(head.as_bytes()).await;
    let _client_may_be_gone = stream.write_all(body).await;
    let _client_may_be_gone = stream.shutdown().await;
}
