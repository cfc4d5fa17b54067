//! What the arguments mean.

use clap::Parser as _;

use super::*;
use crate::args::{Arguments, Command};

fn configured(arguments: &[&str]) -> anyhow::Result<ServeConfig> {
    let iris = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/iris");
    let all = ["coracle", "serve"].iter().chain(arguments);
    let all = all.map(|argument| argument.replace("IRIS", iris));
    let Command::Serve(arguments) = Arguments::try_parse_from(all)?.command else {
        panic!("not serve");
    };
    ServeConfig::try_new(&arguments, &Environment::default())
}

#[test]
fn grpc_has_a_port_of_its_own_where_it_is_asked_for_or_expected() {
    let port = |arguments: &[&str]| {
        let gateway = configured(arguments).unwrap().gateway;
        gateway.grpc_address.map(|address| address.to_string())
    };
    assert_eq!(port(&["IRIS"]), None);
    let asked = port(&["IRIS", "--grpc-port", "9000"]);
    assert_eq!(asked.as_deref(), Some("127.0.0.1:9000"));
    let kserves = port(&["--model_dir", "IRIS"]);
    assert_eq!(kserves.as_deref(), Some("127.0.0.1:8081"));
    let both = port(&["--model_dir", "IRIS", "--grpc_port", "9000"]);
    assert_eq!(both.as_deref(), Some("127.0.0.1:9000"));
    // Whoever lets the system choose gets none unasked.
    assert_eq!(port(&["--model_dir", "IRIS", "--port", "0"]), None);
    let any = port(&["IRIS", "--port", "0", "--grpc-port", "0"]);
    assert_eq!(any.as_deref(), Some("127.0.0.1:0"));
    // The port of REST is where KServe has that of gRPC: it answers both.
    assert_eq!(port(&["--model_dir", "IRIS", "--port", "8081"]), None);
}

#[test]
fn ports_that_cannot_be_are_refused() {
    let refused = |arguments: &[&str]| configured(arguments).unwrap_err().to_string();
    let same = refused(&["IRIS", "--port", "9000", "--grpc-port", "9000"]);
    assert_eq!(
        same,
        "--grpc-port 9000 is --port, which answers gRPC too; leave --grpc-port out, or give it another port"
    );
    let large = refused(&["IRIS", "--grpc-port", "65536"]);
    assert!(large.contains("65536 is not in 0..=65535"), "{large}");
    let word = refused(&["IRIS", "--grpc-port", "grpc"]);
    assert!(
        word.contains("invalid value 'grpc' for '--grpc-port <PORT>'"),
        "{word}"
    );
}

#[test]
fn what_the_command_line_does_not_say_is_left_to_the_models() {
    let config = configured(&["IRIS"]).unwrap();
    assert_eq!((config.rules.policy, config.rules.batching), (None, None));
    let config = configured(&["IRIS", "--versions", "all", "--batch-max-size", "4"]).unwrap();
    assert!(config.rules.policy.is_some() && config.rules.batching.is_some());
}
