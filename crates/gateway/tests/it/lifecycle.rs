//! Binding and stopping.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use coracle_gateway::{Limits, Server, ServerConfig};

use crate::client::{connect, read_answer, write_request};
use crate::fixture::{config, start};

const PREDICT: &str = "/v1/models/sum:predict";
/// A call that waits inside the model until the test lets it go on.
const WAITS: &[u8] = br#"{"instances": [[1000, 0]]}"#;

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let server = start(config(Limits::default()));
    let error = Server::bind(server.address, config(Limits::default()))
        .unwrap_err()
        .to_string();
    let port = server.address.port();
    assert_eq!(
        error,
        format!(
            "cannot listen on 127.0.0.1:{port}: another process listens there; find it with `ss -ltnp 'sport = :{port}'`, or choose another port with --port"
        )
    );
}

#[test]
fn shutdown_finishes_what_is_in_flight_and_refuses_what_is_new() {
    let mut server = start(config(Limits::default()));
    let mut idle = connect(server.address);
    write_request(&mut idle, "GET", "/readyz", &[], b"");
    assert_eq!(read_answer(&mut idle, false).unwrap().status, 200);
    let mut busy = connect(server.address);
    write_request(&mut busy, "POST", PREDICT, &[], WAITS);
    server.entered.recv().unwrap();
    server.tell_to_stop();
    // The call blocks its event loop, so this connection must be on the other one to see it close: both
    // loops got one connection each, in turn.
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "an idle connection is closed");
    server.gate.send(()).unwrap();
    let answer = read_answer(&mut busy, false).unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"predictions":[1000.0]}"#)
    );
    assert_eq!(server.wait().n_connections_cut, 0);
    assert!(
        TcpStream::connect(server.address).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn shutdown_cuts_what_takes_too_long_and_says_so() {
    let mut server = start(ServerConfig {
        shutdown_timeout: Duration::from_millis(20),
        ..config(Limits::default())
    });
    let mut stuck = connect(server.address);
    // A request whose body never comes keeps its connection busy.
    write_request(&mut stuck, "GET", "/readyz", &[], b"");
    assert_eq!(read_answer(&mut stuck, false).unwrap().status, 200);
    use std::io::Write as _;
    write!(
        stuck,
        "POST {PREDICT} HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
    )
    .unwrap();
    // Asked for the body, so the request is in flight.
    assert_eq!(read_answer(&mut stuck, true).unwrap().status, 100);
    server.tell_to_stop();
    assert_eq!(server.wait().n_connections_cut, 1);
}
