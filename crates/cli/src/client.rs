//! A client of the local API, for the few commands that ask it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::Environment;
use crate::args::StateArguments;
use crate::state::StateDirectory;

/// How long the API may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The API of the control plane that runs on a state directory.
pub(crate) struct Client {
    address: String,
}

/// A request that is sent.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// `Accept`; empty for any.
    pub(crate) accept: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a str,
}

impl Client {
    /// Returns a client of the control plane that runs on the directory.
    pub(crate) fn connect(
        arguments: &StateArguments,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let state = StateDirectory::new(arguments.state.as_deref(), environment)?;
        match (state.running_process(), state.api_address()) {
            (Some(_), Some(address)) => Ok(Self { address }),
            _ => bail!(
                "nothing runs on {}; start it with `coracle up`",
                state.path().display()
            ),
        }
    }

    /// Gets JSON.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, answer) = self.send(&Request {
            method: "GET",
            path,
            accept: "",
            content_type: "application/json",
            body: "",
        })?;
        accepted(status, answer)
    }

    /// Sends a request; returns the status and the JSON of the answer.
    pub(crate) fn send(&self, request: &Request<'_>) -> anyhow::Result<(u16, Value)> {
        let Request {
            method,
            path,
            accept,
            content_type,
            body,
        } = request;
        let address = &self.address;
        let exchange = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            // HTTP/1.0: the answer ends with the connection.
            write!(
                stream,
                "{method} {path} HTTP/1.0\r\nhost: {address}\r\naccept: {accept}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nuser-agent: coracle\r\n\r\n{body}",
                body.len()
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().with_context(|| format!("the API on {address} does not answer"))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("the answer of the API is no HTTP")?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.context("the answer of the API has no status")?;
        let value = serde_json::from_str(body).context("the answer of the API is no JSON")?;
        Ok((status, value))
    }
}

/// Returns the answer of a request that was not refused.
pub(crate) fn accepted(status: u16, answer: Value) -> anyhow::Result<Value> {
    if status < 400 {
        return Ok(answer);
    }
    bail!(
        "{}",
        answer["message"].as_str().unwrap_or("the API refused it")
    )
}
