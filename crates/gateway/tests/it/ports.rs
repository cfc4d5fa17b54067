//! A further port, where gRPC clients expect one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use coracle_base::SystemClock;
use coracle_gateway::{AccessLog, Limits, Log, LogFormat, Server};
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::ModelInferResponse;
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel, SharedTable};
use tokio::sync::oneshot;

use crate::client::send;
use crate::fixture::{config, sum_model};
use crate::grpc::{call_at, row};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

#[test]
fn every_port_answers_rest_and_grpc() {
    let config = config(Limits::default());
    let mut server = Server::bind(SocketAddr::from(LOOPBACK), config.clone()).unwrap();
    let further = server.also_bind(SocketAddr::from(LOOPBACK)).unwrap();
    let addresses = [server.address(), further];
    assert_ne!(addresses[0], addresses[1]);
    let (model, _entered, _gate) = sum_model();
    let loaded = LoadedModel::new("sum".to_owned(), Box::new(model), LoadPhases::default());
    let served = ServedModel::new(loaded, config.n_workers);
    let table = Arc::new(SharedTable::new(ModelTable::try_new([served]).unwrap()));
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let clock = Arc::new(SystemClock::new());
        let (log, _writer) = Log::start(LogFormat::Json, AccessLog::Off, clock.clone());
        let told = async {
            drop(stopped.await);
        };
        server.run(table, &log, clock, told).unwrap()
    });
    for address in addresses {
        let answer = send(address, "GET", "/v2/health/live", &[], b"");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"live":true}"#)
        );
        let path = "/inference.GRPCInferenceService/ModelInfer";
        let answer = call_at(address, path, &[], frame(&row("sum", [1.0, 2.0])));
        let response: ModelInferResponse = answer.message();
        assert_eq!(response.raw_output_contents, [&3.0_f64.to_le_bytes()[..]]);
    }
    stop.send(()).unwrap();
    assert_eq!(thread.join().unwrap().n_connections_cut, 0);
}

#[test]
fn a_port_that_is_taken_is_refused_with_the_option_that_chooses_it() {
    let config = config(Limits::default());
    let mut server = Server::bind(SocketAddr::from(LOOPBACK), config.clone()).unwrap();
    let taken = server.address();
    let port = taken.port();
    let expected = |option: &str| {
        format!(
            "cannot listen on {taken}: another process listens there; find it with `ss -ltnp 'sport = :{port}'`, or choose another port with {option}"
        )
    };
    let error = server.also_bind(taken).unwrap_err();
    assert_eq!(error.to_string(), expected("--grpc-port"));
    let error = Server::bind(taken, config).unwrap_err();
    assert_eq!(error.to_string(), expected("--port"));
}
