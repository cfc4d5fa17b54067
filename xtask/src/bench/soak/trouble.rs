//! Those who make a server's life hard: who reloads, who sends nonsense, who leaves, who is slow.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench::server::post;

/// Between two deeds of one trouble maker.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_OF_RELOADS: Duration = Duration::from_millis(60);
/// Slow clients at a time, and how often each sends a byte.
const SLOW_CLIENTS: usize = 16;
const PAUSE_OF_BYTES: Duration = Duration::from_millis(100);
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What is not a request, or none that can be answered with a prediction. `LEN` stands for the length of the body.
const NONSENSE: [(&str, &str); 12] = [
    (
        "POST /v1/models/iris:predict HTTP/1.1\r\nhost: t\r\ncontent-length: LEN\r\n\r\n",
        "{\"instances\": [[1, 2",
    ),
    (
        "POST /v1/models/iris:predict HTTP/1.1\r\nhost: t\r\ncontent-length: LEN\r\n\r\n",
        "{\"instances\": [[1, 2, 3]]}",
    ),
    (
        "POST /v1/models/iris:predict HTTP/1.1\r\nhost: t\r\ncontent-length: LEN\r\n\r\n",
        "{\"instances\": [[NaN, 1e999, \"x\", {}]]}",
    ),
    (
        "POST /v1/models/nobody:predict HTTP/1.1\r\nhost: t\r\ncontent-length: LEN\r\n\r\n",
        "{}",
    ),
    (
        "POST /v2/models/iris/infer HTTP/1.1\r\nhost: t\r\ncontent-length: LEN\r\n\r\n",
        "{\"inputs\":[{\"name\":\"X\",\"shape\":[1000000,1000000],\"datatype\":\"FP64\",\"data\":[]}]}",
    ),
    (
        "POST /v2/models/iris/infer HTTP/1.1\r\nhost: t\r\ninference-header-content-length: 999\r\ncontent-length: LEN\r\n\r\n",
        "{}\0\0\0\0",
    ),
    (
        "POST /v1/models/iris:predict HTTP/1.1\r\nhost: t\r\ncontent-length: 99999999999\r\n\r\n",
        "",
    ),
    (
        "POST /v1/models/iris:predict HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n",
        "zz\r\nhello",
    ),
    (
        "POST /v1/models/iris:predict HTTP/1.1\r\nhost: t\r\ncontent-encoding: gzip\r\ncontent-length: LEN\r\n\r\n",
        "not gzip at all",
    ),
    ("BREW /v1/models/iris HTTP/1.1\r\nhost: t\r\n\r\n", ""),
    ("GET /../../etc/passwd HTTP/1.1\r\nhost: t\r\n\r\n", ""),
    (
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fffd}\r\n\r\n",
        "garbage",
    ),
];

/// The trouble makers, and what they have done.
pub(super) struct Trouble {
    address: SocketAddr,
    examples: PathBuf,
    models: PathBuf,
    n_reloads: AtomicU64,
    n_nonsense: AtomicU64,
    n_left: AtomicU64,
    n_slow: AtomicU64,
}

/// Tells the trouble makers to stop, however the load ends.
pub(super) struct Ends<'a>(pub(super) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is slow here is slow on purpose"
)]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

impl Trouble {
    pub(super) fn new(address: SocketAddr, examples: PathBuf, models: PathBuf) -> Self {
        Self {
            address,
            examples,
            models,
            n_reloads: AtomicU64::new(0),
            n_nonsense: AtomicU64::new(0),
            n_left: AtomicU64::new(0),
            n_slow: AtomicU64::new(0),
        }
    }

    /// Starts them all; they go on until `is_over`.
    pub(super) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        is_over: &'scope AtomicBool,
    ) -> Vec<ScopedJoinHandle<'scope, Result<()>>> {
        let deeds: [fn(&Self, &AtomicBool) -> Result<()>; 4] =
            [Self::reload, Self::send_nonsense, Self::leave, Self::dawdle];
        let threads = deeds
            .into_iter()
            .map(|deed| scope.spawn(move || deed(self, is_over)));
        threads.collect()
    }

    pub(super) fn has_happened(&self) -> bool {
        let all = [
            &self.n_reloads,
            &self.n_nonsense,
            &self.n_left,
            &self.n_slow,
        ];
        all.iter().all(|count| count.load(Ordering::Relaxed) > 0)
    }

    pub(super) fn summary(&self) -> String {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!(
            "{} reloads, {} senseless requests, {} clients that left, {} slow clients that were cut off",
            count(&self.n_reloads),
            count(&self.n_nonsense),
            count(&self.n_left),
            count(&self.n_slow)
        )
    }

    /// Rewrites a model that is in use, and loads it; unloads another and loads it again.
    fn reload(&self, is_over: &AtomicBool) -> Result<()> {
        while !is_over.load(Ordering::Acquire) {
            let aside = self.models.join("iris/.coming");
            std::fs::copy(self.examples.join("iris/model.joblib"), &aside)?;
            std::fs::rename(&aside, self.models.join("iris/model.joblib"))?;
            for deed in ["iris/load", "wine/unload", "wine/load"] {
                let path = format!("/v2/repository/models/{deed}");
                post(self.address, &path, "{}").with_context(|| path.clone())?;
            }
            self.n_reloads.fetch_add(3, Ordering::Relaxed);
            pause(PAUSE_OF_RELOADS);
        }
        Ok(())
    }

    /// Sends what cannot be answered; the answer must say that it is the caller's fault, or be none.
    fn send_nonsense(&self, is_over: &AtomicBool) -> Result<()> {
        for (head, body) in NONSENSE.iter().cycle() {
            if is_over.load(Ordering::Acquire) {
                break;
            }
            let mut stream = self.connect()?;
            let head = head.replace("LEN", &body.len().to_string());
            // A server that has seen enough may close before it has read all.
            if stream.write_all(format!("{head}{body}").as_bytes()).is_ok() {
                let mut answer = [0; 16];
                let n_bytes = read_some(&mut stream, &mut answer)?;
                let answer = String::from_utf8_lossy(&answer[..n_bytes]);
                let is_refusal = answer.is_empty()
                    || answer.starts_with("HTTP/1.1 4")
                    || answer.starts_with("HTTP/1.1 501");
                ensure!(is_refusal, "{head}{body} was answered with {answer}");
            }
            self.n_nonsense.fetch_add(1, Ordering::Relaxed);
            pause(PAUSE);
        }
        Ok(())
    }

    /// Leaves in the middle: of the head, of the body, or before the answer.
    fn leave(&self, is_over: &AtomicBool) -> Result<()> {
        let body = "{\"instances\":[[5.1,3.5,1.4,0.2]]}";
        let request = format!(
            "POST /v1/models/iris:predict HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let lengths = [10, request.len() - body.len() / 2, request.len()];
        for n_bytes in lengths.into_iter().cycle() {
            if is_over.load(Ordering::Acquire) {
                break;
            }
            let mut stream = self.connect()?;
            stream.write_all(&request.as_bytes()[..n_bytes])?;
            drop(stream);
            self.n_left.fetch_add(1, Ordering::Relaxed);
            pause(PAUSE);
        }
        Ok(())
    }

    /// Keeps connections open with a byte now and then, until the server cuts them off.
    fn dawdle(&self, is_over: &AtomicBool) -> Result<()> {
        let mut clients: Vec<Option<(TcpStream, usize)>> =
            (0..SLOW_CLIENTS).map(|_| None).collect();
        let endless = b"POST /v1/models/iris:predict HTTP/1.1\r\nhost: slow\r\nx-endless: ";
        while !is_over.load(Ordering::Acquire) {
            for client in &mut clients {
                let Some((stream, n_sent)) = client else {
                    *client = Some((self.connect()?, 0));
                    continue;
                };
                let byte = endless.get(*n_sent).copied().unwrap_or(b'a');
                *n_sent += 1;
                if stream.write_all(&[byte]).is_err() {
                    self.n_slow.fetch_add(1, Ordering::Relaxed);
                    *client = None;
                }
            }
            pause(PAUSE_OF_BYTES);
        }
        Ok(())
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address).context("the server takes no connections")?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Reads the beginning of an answer; a connection that is closed is an empty one.
fn read_some(stream: &mut TcpStream, answer: &mut [u8]) -> Result<usize> {
    let mut n_read = 0;
    while n_read < answer.len() {
        match stream.read(&mut answer[n_read..]) {
            Ok(0) => break,
            Ok(n_bytes) => n_read += n_bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error).context("no answer, and the connection stays open"),
        }
    }
    Ok(n_read)
}
