//! Asks a probe's question once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use coracle_serving::ProbeAction;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Target, grpc};
use crate::guarded::{Guarded, Heard, Surroundings};
use crate::log::{LastLines, LogSink, Stream, read_lines};

/// What is said where nobody listens.
pub(super) const REFUSED: &str = "nothing listens on port";
/// The most bytes that are read of an answer: the status line is all that counts.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Asks once; an error says what was wrong with the answer.
pub(super) async fn ask(
    target: &Target<'_>,
    action: &ProbeAction,
    limit: Duration,
) -> Result<(), String> {
    let asked = async {
        match action {
            ProbeAction::TcpSocket { port } => {
                connect(target.command.port(*port), *port).await.map(drop)
            }
            ProbeAction::HttpGet {
                path,
                port,
                headers,
            } => {
                let stream = connect(target.command.port(*port), *port).await?;
                http_get(stream, path, headers).await
            }
            ProbeAction::Grpc { port, service } => {
                let stream = connect(target.command.port(*port), *port).await?;
                grpc::check(stream, service).await
            }
            ProbeAction::Exec { command } => exec(target, command).await,
        }
    };
    match timeout(limit, asked).await {
        Ok(result) => result,
        Err(_elapsed) => Err(format!("no answer within {:.0?}", limit)),
    }
}

async fn connect(own: u16, declared: u16) -> Result<TcpStream, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, own));
    TcpStream::connect(address).await.map_err(|error| {
        let place = match own == declared {
            true => own.to_string(),
            false => format!("{own} (in the place of {declared})"),
        };
        match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("{REFUSED} {place}"),
            _ => format!("cannot connect to port {place}: {error}"),
        }
    })
}

/// Sends a GET and reads the status.
async fn http_get(
    mut stream: TcpStream,
    path: &str,
    headers: &[(String, String)],
) -> Result<(), String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut request = format!("GET {slash}{path} HTTP/1.1\r\n");
    let has = |name: &str| {
        headers
            .iter()
            .any(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    for (name, value) in [
        ("Host", "localhost"),
        ("User-Agent", "kube-probe/coracle"),
        ("Accept", "*/*"),
    ] {
        if !has(name) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Connection: close\r\n\r\n");
    let lost = |error: io::Error| format!("GET {path}: {error}");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
        match stream.read(&mut part).await.map_err(lost)? {
            0 => break,
            n_bytes => answer.extend_from_slice(&part[..n_bytes]),
        }
    }
    match parse_status(&answer) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("GET {path}: status {status}")),
        None => Err(format!("GET {path}: no HTTP answer")),
    }
}

/// Reads the status of an answer's first line.
fn parse_status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&byte| byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Keeps the last lines only.
struct Nowhere;

impl LogSink for Nowhere {
    fn line(&self, _stream: Stream, _text: &str) {}
}

/// Runs a program beside the replica, in its surroundings. Dropped at the time limit, it is killed by its guard.
async fn exec(target: &Target<'_>, argv: &[String]) -> Result<(), String> {
    let mut command = target.command.clone();
    command.argv = argv
        .iter()
        .map(|argument| target.command.expand(argument, target.models))
        .collect();
    let around = Surroundings {
        guard: target.guard,
        marker: target.marker,
        cgroup: None,
        grace: Duration::ZERO,
    };
    let name = argv.first().map_or("", String::as_str);
    let (mut guarded, stdout, stderr) =
        Guarded::spawn(&command, &around).map_err(|error| format!("exec {name}: {error}"))?;
    let said = LastLines::default();
    let sink: Arc<dyn LogSink> = Arc::new(Nowhere);
    let read_out = async {
        if let Some(stdout) = stdout {
            read_lines(stdout, Stream::Stdout, Arc::clone(&sink), said.clone()).await;
        }
    };
    let read_error = async {
        if let Some(stderr) = stderr {
            read_lines(stderr, Stream::Stderr, Arc::clone(&sink), said.clone()).await;
        }
    };
    let hear = async {
        loop {
            match guarded.next().await {
                Heard::Started(_) => {}
                heard => return heard,
            }
        }
    };
    let (heard, (), ()) = tokio::join!(hear, read_out, read_error);
    guarded.end().await;
    let what = match heard {
        Heard::Exited(0) => return Ok(()),
        Heard::Exited(code) => format!("exit code {code}"),
        Heard::Killed(signal) => format!("ended by signal {signal}"),
        Heard::Failed(why) => why,
        Heard::Started(_) | Heard::Gone => "its guard ended".to_owned(),
    };
    match said.take().pop() {
        Some(line) => Err(format!("exec {name}: {what}: {line}")),
        None => Err(format!("exec {name}: {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_is_an_answer() {
        let cases: [(&[u8], Option<u16>); 7] = [
            (b"HTTP/1.1 200 OK\r\n", Some(200)),
            (b"HTTP/1.0 503\r\nX: y\r\n", Some(503)),
            (b"HTTP/2 200\r\n", None),
            (b"SSH-2.0-OpenSSH\r\n", None),
            (b"HTTP/1.1 abc\r\n", None),
            (b"\xff\xff", None),
            (b"", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(parse_status(answer), expected);
        }
    }
}
