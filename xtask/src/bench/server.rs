//! A server under test: started, asked, measured, stopped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `command` and waits for the line on stderr that ends in `http://ADDRESS`.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stderr = child.stderr.take().context("no stderr")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        while let Some(line) = lines.next().transpose()? {
            let Some((_, rest)) = line.split_once("listening on http://") else {
                said = line;
                continue;
            };
            let address = rest.split_whitespace().next().unwrap_or(rest).parse();
            let address = address.with_context(|| format!("address in {line:?}"))?;
            // Keeps the pipe empty, so that the server never waits for us.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(Self { child, address });
        }
        bail!(
            "{command:?} ended before it listened: {}: {said}",
            child.wait()?
        );
    }

    /// Sends one request and returns the body of a 200 answer.
    pub(crate) fn post(&self, path: &str, body: &str) -> Result<String> {
        post(self.address, path, body)
    }

    /// Asks for something and returns the body of a 200 answer.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        exchange(self.address, ("GET", path), "")
    }

    /// Returns the number of the process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory in KiB as the kernel counts it.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        resident_kib(self.child.id())
    }
}

/// Returns the resident memory of a process in KiB as the kernel counts it.
pub(crate) fn resident_kib(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.context("no VmRSS")?.parse()?)
}

/// Returns how many files and sockets a process has open.
pub(crate) fn open_files(process: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended by itself; either way it is gone afterwards.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends one request on a connection of its own and returns the body of a 200 answer.
pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> Result<String> {
    exchange(address, ("POST", path), body)
}

fn exchange(address: SocketAddr, (method, path): (&str, &str), body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("answer is {head} {body}");
    }
    Ok(body.to_owned())
}
