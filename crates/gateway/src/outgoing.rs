//! HTTP requests of this server's own: what it sends to receivers of payloads and traces.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Body, Client, StatusCode};

/// How long a receiver may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// The tries to send something, and the pause before the second one, which then doubles.
const N_TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Returns a client; why there is none otherwise.
pub(crate) fn client() -> Result<Client, String> {
    // Another part of the program may have chosen already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = || {
        Client::builder()
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // The environment is read by the command line alone.
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
    };
    let client = builder().build();
    // A machine may have no certificates to trust; plain HTTP needs none.
    let client = client.or_else(|_| builder().tls_certs_only([]).build());
    client.map_err(|error| error.to_string())
}

/// Sends `body` until it is taken, it is refused, or the tries are over.
pub(crate) async fn post(
    client: &Client,
    url: &str,
    headers: &HeaderMap,
    body: impl Into<Body> + Clone,
) -> Result<(), String> {
    let mut pause = FIRST_PAUSE;
    for n_try in 1.. {
        let request = client.post(url).headers(headers.clone());
        let sent = request.body(body.clone()).send().await;
        let (why, is_passing) = match sent {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => {
                let status = response.status();
                let is_passing =
                    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                (format!("status {status}"), is_passing)
            }
            // The URL may hold a secret.
            Err(error) => (causes(&error.without_url()), true),
        };
        if !is_passing || n_try == N_TRIES {
            return Err(why);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

/// Returns an error with its last cause, which says most.
fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
