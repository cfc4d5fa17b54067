//! Certificates and tokens in the state directory; `coracle kubeconfig` and `coracle token`.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coracle_access::{Authority, Claims, Issued, TokenKeys, TokenStore, User};
use coracle_base::{Clock as _, SystemClock};

use crate::Environment;
use crate::args::{KubeconfigArguments, TokenCommand, UpArguments, UserArguments};
use crate::kubeconfig::{Kubeconfig, Proof};
use crate::state::StateDirectory;

/// How long the certificates of the server and of its owner last; both are made anew at every start.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(2 * 365 * 24 * 3_600);
/// The longest time for which anything is issued.
const LIFETIME_MAX: Duration = Duration::from_secs(3_650 * 24 * 3_600);

/// The files that the control process reads.
pub(crate) const SERVER_CERTIFICATE: &str = "server.crt";
pub(crate) const SERVER_KEY: &str = "server.key";
pub(crate) const CLIENT_AUTHORITIES: &str = "client-ca.crt";
/// The files that this program's own commands read.
pub(crate) const OWNER_CERTIFICATE: &str = "owner.crt";
pub(crate) const OWNER_KEY: &str = "owner.key";
pub(crate) const SERVER_AUTHORITIES: &str = "server-ca.crt";
/// The name that the server's certificate is for, where it is not for every address.
pub(crate) const SERVER_NAME: &str = "server-name";

/// How the API is reached, and by whom.
#[derive(Debug)]
pub(crate) struct Secured {
    authority_pem: String,
    /// The name that the certificate is for; `None` if it is for the addresses, too.
    server_name: Option<String>,
    owner: Issued,
}

/// Returns whether callers of the API need credentials.
pub(crate) fn needs_credentials(arguments: &UpArguments) -> bool {
    arguments.require_credentials || !arguments.listen.is_loopback()
}

/// Makes the certificates that the API and its owner need, and writes them where the processes look for them.
pub(crate) fn prepare(
    arguments: &UpArguments,
    state: &StateDirectory,
) -> anyhow::Result<Option<Secured>> {
    if !needs_credentials(arguments) {
        return Ok(None);
    }
    let now = SystemClock::new().unix_time();
    let directory = state.access();
    let authority = Authority::open(&directory, now)?;
    let (server, server_authorities) = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => {
            let own = Issued {
                certificate_pem: read(certificate)?,
                key_pem: read(key)?,
            };
            // Whoever signed it is among what the file holds; a self-signed one is its own.
            let authorities = own.certificate_pem.clone();
            (own, authorities)
        }
        _ => {
            let names = server_names(arguments);
            let issued = authority.issue_server(&names, now, CERTIFICATE_LIFETIME)?;
            (issued, authority.certificate_pem().to_owned())
        }
    };
    let given = arguments.tls_cert.as_ref().and(arguments.tls_names.first());
    let server_name = given.cloned();
    let owner = authority.issue_client(&User::owner(), now, CERTIFICATE_LIFETIME)?;
    let mut clients = authority.certificate_pem().to_owned();
    if let Some(path) = &arguments.client_ca {
        clients.push_str(&read(path)?);
    }
    for (name, text) in [
        (SERVER_CERTIFICATE, &server.certificate_pem),
        (SERVER_KEY, &server.key_pem),
        (CLIENT_AUTHORITIES, &clients),
        (SERVER_AUTHORITIES, &server_authorities),
        (OWNER_CERTIFICATE, &owner.certificate_pem),
        (OWNER_KEY, &owner.key_pem),
        (SERVER_NAME, &server_name.clone().unwrap_or_default()),
    ] {
        state.write_secret(&directory.join(name), text)?;
    }
    Ok(Some(Secured {
        authority_pem: server_authorities,
        server_name,
        owner,
    }))
}

/// Returns the names that the certificate is for: those of this machine, and those that were given.
fn server_names(arguments: &UpArguments) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    if !arguments.listen.is_unspecified() {
        names.push(arguments.listen.to_string());
    }
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    names.push(host);
    names.extend(arguments.tls_names.iter().cloned());
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    names
}

/// Writes the kubeconfig of this machine's owner.
pub(crate) fn write_kubeconfig(
    state: &StateDirectory,
    address: SocketAddr,
    secured: Option<Secured>,
) -> anyhow::Result<String> {
    let server = api_url(address, secured.is_some());
    let (authority, server_name, proof) = match secured {
        Some(secured) => (
            Some(secured.authority_pem),
            secured.server_name,
            Proof::Certificate(secured.owner),
        ),
        None => (None, None, Proof::None),
    };
    state.write_kubeconfig(&Kubeconfig {
        server: &server,
        authority_pem: authority.as_deref(),
        server_name: server_name.as_deref(),
        user: "coracle",
        proof,
    })?;
    Ok(server)
}

fn api_url(address: SocketAddr, secured: bool) -> String {
    let scheme = if secured { "https" } else { "http" };
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("{scheme}://{address}")
}

/// `coracle kubeconfig`
pub(crate) fn kubeconfig(
    arguments: &KubeconfigArguments,
    environment: &Environment,
) -> anyhow::Result<()> {
    let state = StateDirectory::new(arguments.user.state.state.as_deref(), environment)?;
    let server = match (&arguments.server, state.api_url()) {
        (Some(server), _) => server.clone(),
        (None, Some(url)) => url,
        (None, None) => bail!(
            "there is no API in {}; start it with `coracle up`, or say where it is with --server URL",
            state.path().display()
        ),
    };
    let authority = fs::read_to_string(state.access().join(SERVER_AUTHORITIES)).ok();
    let server_name = match arguments.server {
        // A URL that is given has the name that the certificate is for.
        Some(_) => None,
        None => fs::read_to_string(state.access().join(SERVER_NAME)).ok(),
    };
    if !server.starts_with("https://") || authority.is_none() {
        bail!(
            "the API takes everybody who can reach it for the machine's owner, so that credentials mean nothing; start it with `coracle up --require-credentials` or --listen ADDRESS"
        );
    }
    let proof = if arguments.certificate {
        let now = SystemClock::new().unix_time();
        let user = user_of(&arguments.user)?;
        let issued = Authority::open(&state.access(), now)?.issue_client(
            &user,
            now,
            lifetime(&arguments.user)?,
        )?;
        Proof::Certificate(issued)
    } else {
        Proof::Token(issue_token(&arguments.user, &state)?)
    };
    let config = Kubeconfig {
        server: &server,
        authority_pem: authority.as_deref(),
        server_name: server_name.as_deref().filter(|name| !name.is_empty()),
        user: &arguments.user.name,
        proof,
    };
    write!(std::io::stdout(), "{}", config.to_yaml())?;
    Ok(())
}

/// `coracle token`
pub(crate) fn token(command: &TokenCommand, environment: &Environment) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match command {
        TokenCommand::Create(arguments) => {
            let state = StateDirectory::new(arguments.state.state.as_deref(), environment)?;
            writeln!(out, "{}", issue_token(arguments, &state)?)?;
        }
        TokenCommand::Rotate { revoke, state } => {
            let state = StateDirectory::new(state.state.as_deref(), environment)?;
            let store = open_tokens(&state)?;
            store.change(TokenKeys::rotate)?;
            if *revoke {
                store.change(TokenKeys::revoke_old)?;
                writeln!(out, "a new key signs; every token that was out is revoked")?;
            } else {
                writeln!(
                    out,
                    "a new key signs; tokens that are out go on until their time is over"
                )?;
            }
        }
    }
    Ok(())
}

fn open_tokens(state: &StateDirectory) -> anyhow::Result<TokenStore> {
    if !state.path().exists() {
        bail!(
            "there is no control plane in {}; start one with `coracle up`, or name its directory with --state",
            state.path().display()
        );
    }
    Ok(TokenStore::open(&state.access())?)
}

fn issue_token(arguments: &UserArguments, state: &StateDirectory) -> anyhow::Result<String> {
    let now = SystemClock::new().unix_time();
    let claims = Claims::new(&user_of(arguments)?, now, lifetime(arguments)?);
    let token = open_tokens(state)?.keys().sign(&claims);
    token.context("there is no key to sign with")
}

fn user_of(arguments: &UserArguments) -> anyhow::Result<User> {
    let is_bad = |name: &String| name.is_empty() || name.contains([',', '\n']);
    if let Some(bad) = std::iter::once(&arguments.name)
        .chain(&arguments.groups)
        .find(|name| is_bad(name))
    {
        bail!("{bad:?} cannot be a name: it is empty, or has a comma or a line break");
    }
    Ok(User::authenticated(&arguments.name, &arguments.groups))
}

fn lifetime(arguments: &UserArguments) -> anyhow::Result<Duration> {
    let duration = arguments.duration;
    if duration.is_zero() || duration > LIFETIME_MAX {
        bail!(
            "--duration is {}; it can be more than 0s and up to 3650days",
            humantime::format_duration(duration)
        );
    }
    Ok(duration)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
