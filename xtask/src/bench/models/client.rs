//! A client on one keep-alive connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks a model for one row; returns the answer, and the time that it took.
    #[expect(
        clippy::disallowed_types,
        reason = "a benchmark measures the machine's time"
    )]
    pub(super) fn predict(&mut self, model: &str, row: &[f64]) -> Result<(f64, Duration)> {
        let row: Vec<String> = row.iter().map(f64::to_string).collect();
        let body = format!("{{\"instances\":[[{}]]}}", row.join(","));
        let request = format!(
            "POST /v1/models/{model}:predict HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let started = std::time::Instant::now();
        self.stream.get_mut().write_all(request.as_bytes())?;
        let answer = self.read()?;
        let took = started.elapsed();
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        let value = answer["predictions"][0].as_f64();
        Ok((
            value.with_context(|| format!("no number in {answer}"))?,
            took,
        ))
    }

    fn read(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.trim().to_owned();
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let body = String::from_utf8(body)?;
        if !status.starts_with("HTTP/1.1 200") {
            bail!("{status}: {body}");
        }
        Ok(body)
    }
}

/// Returns the value of the metric whose line begins with `name`.
pub(super) fn metric(address: SocketAddr, name: &str) -> Result<u64> {
    let mut client = Client::connect(address)?;
    let request = "GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n";
    client.stream.get_mut().write_all(request.as_bytes())?;
    let text = client.read()?;
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    let value = lines.next().and_then(|line| line.rsplit(' ').next());
    value
        .with_context(|| format!("no metric {name}"))?
        .parse()
        .with_context(|| name.to_owned())
}
