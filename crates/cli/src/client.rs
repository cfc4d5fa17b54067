//! A client of the local API, for the few commands that ask it.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::Environment;
use crate::access;
use crate::args::StateArguments;
use crate::state::StateDirectory;

/// How long the API may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The API of the control plane that runs on a state directory.
pub(crate) struct Client {
    address: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
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
        let (Some(_), Some(url)) = (state.running_process(), state.api_url()) else {
            bail!(
                "nothing runs on {}; start it with `coracle up`",
                state.path().display()
            );
        };
        let (scheme, address) = url.split_once("://").context("the kubeconfig has no URL")?;
        let tls = match scheme {
            "https" => Some((
                owner_tls(&state.access())?,
                server_name(&state.access(), address)?,
            )),
            _ => None,
        };
        Ok(Self {
            address: address.to_owned(),
            tls,
        })
    }

    /// Copies the text at `path` to `out` as it comes, until the API ends it.
    pub(crate) fn copy(&self, path: &str, out: &mut impl Write) -> anyhow::Result<()> {
        let mut stream = self.open(None)?;
        let address = &self.address;
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nhost: {address}\r\nuser-agent: coracle\r\n\r\n"
        )?;
        stream.flush()?;
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                bail!("the API on {address} ended the connection");
            }
        }
        let is_refused = head.split(' ').nth(1).is_none_or(|status| status != "200");
        if is_refused {
            let mut body = String::new();
            reader.read_to_string(&mut body)?;
            let answer = serde_json::from_str(&body).unwrap_or_default();
            return accepted(400, answer).map(drop);
        }
        loop {
            let bytes = match reader.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if bytes.is_empty() {
                return Ok(());
            }
            // A reader that has seen enough, as `head` has, is no failure.
            if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
                return Ok(());
            }
            let n_bytes = bytes.len();
            reader.consume(n_bytes);
        }
    }

    fn open(&self, timeout: Option<Duration>) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(timeout)?;
        let Some((tls, name)) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let connection =
            ClientConnection::new(Arc::clone(tls), name.clone()).map_err(std::io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
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
            let mut stream = self.open(Some(ANSWER_MAX))?;
            // HTTP/1.0: the answer ends with the connection.
            write!(
                stream,
                "{method} {path} HTTP/1.0\r\nhost: {address}\r\naccept: {accept}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nuser-agent: coracle\r\n\r\n{body}",
                body.len()
            )?;
            stream.flush()?;
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                // The end of the connection is the end of the answer, said by TLS or not.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
                result => drop(result?),
            }
            Ok(String::from_utf8_lossy(&answer).into_owned())
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

/// A connection, under TLS or not.
trait Stream: std::io::Read + Write {}

impl<S: std::io::Read + Write> Stream for S {}

/// Returns the name that the server's certificate is for.
fn server_name(directory: &Path, address: &str) -> anyhow::Result<ServerName<'static>> {
    let given = std::fs::read_to_string(directory.join(access::SERVER_NAME)).unwrap_or_default();
    if !given.is_empty() {
        return Ok(ServerName::try_from(given)?);
    }
    let address: SocketAddr = address.parse().context("the kubeconfig has no address")?;
    Ok(ServerName::from(address.ip()))
}

/// Returns TLS with the certificate of the machine's owner.
fn owner_tls(directory: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read(access::SERVER_AUTHORITIES)?) {
        roots.add(certificate?)?;
    }
    let own = CertificateDer::pem_slice_iter(&read(access::OWNER_CERTIFICATE)?)
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&read(access::OWNER_KEY)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(own, key)?;
    Ok(Arc::new(config))
}

/// Returns the answer of a request that was not refused.
pub(crate) fn accepted(status: u16, answer: Value) -> anyhow::Result<Value> {
    if status < 400 {
        return Ok(answer);
    }
    bail!("{}", refusal(&answer))
}

/// Returns why the API refused something; which of its rules said so is of no use to people.
fn refusal(answer: &Value) -> &str {
    let message = answer["message"].as_str().unwrap_or("the API refused it");
    let rest = message.strip_prefix("admission webhook ");
    let why = rest.and_then(|rest| rest.split_once(" denied the request: "));
    why.map_or(message, |(_, why)| why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_say_why_and_not_by_which_rule() {
        for (message, expected) in [
            (
                "admission webhook \"rollout.coracle.dev.validator\" denied the request: skip: nothing is on trial",
                "skip: nothing is on trial",
            ),
            ("rollouts \"x\" not found", "rollouts \"x\" not found"),
        ] {
            let error = accepted(403, json!({"message": message})).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
