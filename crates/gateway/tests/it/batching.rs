//! Calls that are put together: every caller gets what it would have got alone, in every protocol.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load};
use coracle_gateway::Limits;
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{InferInputTensor, ModelInferRequest};
use coracle_serving::batch::BatchSettings;
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};

use crate::client::send;
use crate::fixture::{Running, config, start_with};
use crate::grpc::call_at;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");

fn served(name: &str, file: &str, batching: BatchSettings) -> ServedModel {
    let path = PathBuf::from(REPOSITORY).join(file);
    let loaded = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap();
    let loaded = LoadedModel::new(name.to_owned(), loaded.model, LoadPhases::default());
    ServedModel::new(loaded, 2).with_batching(batching)
}

/// A server of one model.
fn server(file: &str, batching: BatchSettings) -> Running {
    let model = served("m", file, batching);
    let table = ModelTable::try_new([model]).unwrap();
    start_with(config(Limits::default()), |_sum| table)
}

/// A request for one row, in one of the protocols.
#[derive(Clone, Debug)]
enum Request {
    Json { path: &'static str, body: String },
    Grpc(Vec<u8>),
}

impl Request {
    fn v1(row: &str) -> Self {
        Self::Json {
            path: "/v1/models/m:predict",
            body: format!("{{\"instances\": [{row}]}}"),
        }
    }

    fn v2(inputs: &str) -> Self {
        Self::Json {
            path: "/v2/models/m/infer",
            body: format!("{{\"id\": \"{}\", \"inputs\": [{inputs}]}}", inputs.len()),
        }
    }

    fn grpc(name: &str, datatype: &str, shape: &[i64], raw: Vec<u8>) -> Self {
        Self::Grpc(frame(&ModelInferRequest {
            model_name: "m".to_owned(),
            inputs: vec![InferInputTensor {
                name: name.to_owned(),
                datatype: datatype.to_owned(),
                shape: shape.to_vec(),
                ..InferInputTensor::default()
            }],
            raw_input_contents: vec![raw.into()],
            ..ModelInferRequest::default()
        }))
    }

    /// Sends it; returns the status and the body, whatever they are.
    fn send(&self, address: SocketAddr) -> (u16, Vec<u8>) {
        match self {
            Self::Json { path, body } => {
                let answer = send(address, "POST", path, &[], body.as_bytes());
                (answer.status, answer.bytes)
            }
            Self::Grpc(message) => {
                let path = "/inference.GRPCInferenceService/ModelInfer";
                let answer = call_at(address, path, &[], message.clone());
                (u16::try_from(answer.status).unwrap(), answer.body)
            }
        }
    }
}

/// Requests for rows of numbers: by three protocols, and one in single precision.
fn of_numbers(rows: &[&[f64]]) -> Vec<Request> {
    let mut requests = Vec::new();
    for row in rows {
        let n = row.len();
        let list = format!("{row:?}");
        requests.push(Request::v1(&list));
        let input = |datatype: &str| {
            format!(
                r#"{{"name": "X", "shape": [1, {n}], "datatype": "{datatype}", "data": {list}}}"#
            )
        };
        requests.push(Request::v2(&input("FP64")));
        requests.push(Request::v2(&input("FP32")));
        let raw = row.iter().flat_map(|x| x.to_le_bytes()).collect();
        requests.push(Request::grpc(
            "X",
            "FP64",
            &[1, i64::try_from(n).unwrap()],
            raw,
        ));
    }
    requests
}

fn of_texts(texts: &[&str]) -> Vec<Request> {
    let mut requests = Vec::new();
    for text in texts {
        requests.push(Request::v1(&format!("{text:?}")));
        requests.push(Request::v2(&format!(
            r#"{{"name": "text", "shape": [1], "datatype": "BYTES", "data": [{text:?}]}}"#
        )));
        let length = u32::try_from(text.len()).unwrap().to_le_bytes();
        let raw = [&length[..], text.as_bytes()].concat();
        requests.push(Request::grpc("text", "BYTES", &[1], raw));
    }
    requests
}

/// Sends all requests at once to a server that lets them wait until all are there, and one after another to a server that
/// puts nothing together. The answers must be the same bytes; returns how many runs they took together.
fn check(file: &str, requests: Vec<Request>) -> u64 {
    let alone = BatchSettings {
        rows_max: 1,
        ..BatchSettings::opportunistic()
    };
    let together = BatchSettings {
        rows_max: requests.len(),
        // The batch goes when it is full, and that it does.
        wait: Duration::from_secs(10),
        rows_preferred: Vec::new(),
    };
    let (alone, together) = (server(file, alone), server(file, together));
    let expected: Vec<_> = requests
        .iter()
        .map(|request| request.send(alone.address))
        .collect();
    let calls = requests.iter().map(|request| {
        let (request, address) = (request.clone(), together.address);
        std::thread::spawn(move || request.send(address))
    });
    let calls: Vec<_> = calls.collect();
    for ((call, expected), request) in calls.into_iter().zip(&expected).zip(&requests) {
        assert_eq!(call.join().unwrap(), *expected, "{file}: {request:?}");
    }
    let ok = |server: &Running| count(server, "coracle_model_calls_total");
    assert_eq!(ok(&together), ok(&alone));
    assert_eq!(count(&alone, "coracle_model_runs_total"), ok(&alone));
    count(&together, "coracle_model_runs_total")
}

/// Returns the sum of a metric's series.
fn count(server: &Running, metric: &str) -> u64 {
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with(&format!("{metric}{{")));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

const IRISES: [&[f64]; 4] = [
    &[5.1, 3.5, 1.4, 0.2],
    &[5.9, 3.2, 4.8, 1.8],
    &[6.3, 3.3, 6.0, 2.5],
    &[7.4, 2.8, 6.1, 1.9],
];

#[test]
fn forests_answer_together_as_alone() {
    let file = "fixtures/sklearn/1.9.1/forest_classifier.joblib";
    // Double precision, and single.
    assert_eq!(check(file, of_numbers(&IRISES)), 2);
}

#[test]
fn calls_that_are_costly_to_read_wait_for_others_too() {
    let file = "fixtures/sklearn/1.9.1/forest_classifier.joblib";
    // Bodies of that size go to the compute pool to be decoded.
    let long = |row: &[f64]| Request::v1(&format!("{}{row:?}", " ".repeat(40 << 10)));
    assert_eq!(check(file, vec![long(IRISES[0]), long(IRISES[1])]), 1);
    // One that is short waits for one that is long.
    let short = Request::v1(&format!("{:?}", IRISES[2]));
    assert_eq!(check(file, vec![short, long(IRISES[3])]), 1);
}

#[test]
fn linear_models_answer_together_as_alone() {
    assert_eq!(check("examples/models/wine/model.pkl", wines()), 2);
}

fn wines() -> Vec<Request> {
    let row = |scale: f64| (1..=13).map(|n| f64::from(n) * scale).collect::<Vec<f64>>();
    let rows = [row(1.0), row(0.1), row(1.0 / 3.0)];
    of_numbers(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

#[test]
fn pipelines_of_texts_answer_together_as_alone() {
    let texts = [
        "Win a free prize now",
        "See you tonight, Mum",
        "",
        "free free é prize",
    ];
    assert_eq!(check("examples/spam/model.joblib", of_texts(&texts)), 1);
}

#[test]
fn columns_of_texts_and_numbers_answer_together_as_alone() {
    let rows = [
        r#"{"pclass": 3, "sex": "male", "age": 22.0, "sibsp": 1, "parch": 0, "fare": 7.25, "embarked": "S"}"#,
        r#"{"pclass": 1, "sex": "female", "age": null, "sibsp": 0, "parch": 2, "fare": 80.5, "embarked": "C"}"#,
        r#"{"pclass": 2, "sex": "male", "age": 4, "sibsp": 0, "parch": 0, "fare": 12, "embarked": null}"#,
    ];
    let requests: Vec<Request> = rows.iter().map(|row| Request::v1(row)).collect();
    check("examples/titanic/model.joblib", requests);
}

#[test]
fn a_bad_request_fails_alone() {
    let file = "fixtures/sklearn/1.9.1/forest_classifier.joblib";
    // What single precision cannot hold is found out by the model only.
    let rows: [&[f64]; 3] = [IRISES[0], &[1e300, 3.5, 1.4, 0.2], IRISES[1]];
    let mut requests = of_numbers(&rows);
    // Single precision itself cannot hold it, which decoding tells.
    requests.remove(6);
    // Six calls in double precision go well, alone, since the run of all failed; two in single share one.
    assert_eq!(check(file, requests), 7);
}
