//! Requests that arrive whole are answered by a loop of the gateway's own, all others by hyper: clients cannot tell which.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_base::{Clock as _, SystemClock};
use coracle_gateway::{CorsPolicy, Limits, ServerConfig};
use coracle_model::{Description, Model, RunError, Signature, TensorSpec};
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};
use coracle_tensor::{DType, Tensor, Values};

use crate::client::{connect, read_answer};
use crate::fixture::{config, start, start_with};

const BODY: &str = r#"{"instances": [[1, 2], [3, 4]]}"#;

fn quiet() -> ServerConfig {
    ServerConfig {
        cors: CorsPolicy::default(),
        ..config(Limits::default())
    }
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

fn predict(headers: &str) -> String {
    post("/v1/models/sum:predict", headers, BODY)
}

/// What a client sees of an answer: status, headers by name, body; without what differs from request to request.
type Seen = (u16, Vec<(String, String)>, Vec<u8>);

fn seen(stream: &mut TcpStream) -> Option<Seen> {
    let answer = read_answer(stream, false)?;
    let lines = answer.head.lines().skip(1);
    let headers = lines.filter_map(|line| line.split_once(": "));
    let mut headers: Vec<(String, String)> = headers
        .filter(|(name, _)| !["date", "traceparent"].contains(name))
        .map(|(name, value)| match name {
            "x-request-id" if value.len() == 16 => (name, "made"),
            _ => (name, value),
        })
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    headers.sort();
    Some((answer.status, headers, answer.bytes))
}

/// Sends what is given and no more; returns the answer, if there is one.
fn ask(address: SocketAddr, bytes: &[u8]) -> Option<Seen> {
    ask_on(&mut connect(address), bytes)
}

fn ask_on(stream: &mut TcpStream, bytes: &[u8]) -> Option<Seen> {
    // The server may have closed the connection: what it said before counts.
    stream.write_all(bytes).ok()?;
    seen(stream)
}

/// As [`ask`], but hyper answers: it keeps a connection once it had to take it, and `HEAD` is its own.
fn ask_hyper(address: SocketAddr, bytes: &[u8]) -> Option<Seen> {
    let mut stream = connect(address);
    let head = b"HEAD /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(head).unwrap();
    read_answer(&mut stream, true).unwrap();
    ask_on(&mut stream, bytes)
}

#[test]
fn both_ways_give_the_same_answers() {
    let with_cors = start(config(Limits::default()));
    let without = start(quiet());
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let v2 = r#"{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP64","data":[1,2]}]}"#;
    let raw_head = r#"{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP64","parameters":{"binary_data_size":16}}],"outputs":[{"name":"predict","parameters":{"binary_data":true}}]}"#;
    // Two doubles of zeros.
    let raw = format!("{raw_head}{}", "\0".repeat(16));
    let raw_length = format!(
        "inference-header-content-length: {}\r\ncontent-type: application/octet-stream\r\n",
        raw_head.len()
    );
    let requests = [
        predict(""),
        predict("content-type: application/json\r\nuser-agent: x\r\naccept: */*\r\n"),
        predict("Content-Type: text/plain\r\n"),
        predict("content-type: application/x-www-form-urlencoded\r\n"),
        predict("x-request-id: mine\r\nconnection: keep-alive\r\n"),
        predict("x-request-id: not one\r\n"),
        predict(trace),
        predict("origin: https://good.example\r\n"),
        predict("x-request-timeout: never\r\n"),
        predict("x-request-timeout: 5s\r\nx-request-priority: high\r\n"),
        predict("content-encoding: gzip\r\n"),
        predict("content-encoding: rot13\r\n"),
        predict("accept-encoding: gzip\r\n"),
        predict("connection: close\r\n"),
        predict("expect: 100-continue\r\n"),
        predict("a b: c\r\n"),
        post("/v1/models/nobody:predict", "", BODY),
        post("/v1/models/sum:predict", "", "{"),
        post(
            "/v1/models/sum:predict",
            "",
            r#"{"instances": [[1, 2, 3]]}"#,
        ),
        post("/v1/models/sum:predict", "", r#"{"instances": [[-1, -2]]}"#),
        post("/v2/models/sum/infer", "", v2),
        post(
            "/v2/models/sum/infer",
            "inference-header-content-length: x\r\n",
            v2,
        ),
        post(
            "/v2/models/sum/infer",
            "inference-header-content-length: 70\r\n",
            v2,
        ),
        post(
            "/v2/models/sum/infer",
            "content-type: application/octet-stream\r\n",
            v2,
        ),
        post(
            "/v2/models/sum/infer",
            "inference-header-content-length: 70\r\ncontent-type: application/octet-stream\r\n",
            v2,
        ),
        post(
            "/v1/models/sum:predict",
            "inference-header-content-length: 3\r\ncontent-type: application/octet-stream\r\n",
            BODY,
        ),
        post(
            "/v1/models/sum:predict",
            "inference-header-content-length: 3\r\n",
            BODY,
        ),
        post("/v2/models/sum/infer", &raw_length, &raw),
        post(
            "/v2/models/sum/infer",
            "inference-header-content-length: 9999\r\n",
            v2,
        ),
        post("/v2/models/sum/infer?a=%20", "", v2),
        post("/serving/default/sum/v2/models/sum/infer", "", v2),
        post("/v2/health/live", "", ""),
        post("/nothing", "", ""),
        post("http://a/v2", "", ""),
        "GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET /v2/models/sum HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET /v2/models/sum HTTP/1.0\r\n\r\n".to_owned(),
        "GET /v1/models/sum:predict HTTP/1.1\r\n\r\n".to_owned(),
        "GET /\u{e9} HTTP/1.1\r\n\r\n".to_owned(),
        "GET /apis HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "BREW / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
    ];
    for server in [&with_cors, &without] {
        for request in &requests {
            let whole = ask(server.address, request.as_bytes());
            let hyper = ask_hyper(server.address, request.as_bytes());
            assert!(whole.is_some(), "{request}");
            assert_eq!(whole, hyper, "{request}");
        }
    }
}

/// Numbers that are the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 27;
        usize::try_from(mixed % u64::try_from(limit).unwrap()).unwrap()
    }
}

/// Damages a request in one place.
fn damage(original: &[u8], random: &mut Random) -> Vec<u8> {
    let pieces: [&[u8]; 10] = [
        b"\r\n",
        b" ",
        b":",
        b"\0",
        b"\xff",
        b"content-length: 31\r\n",
        b"transfer-encoding: chunked\r\n",
        b"HTTP/1.0",
        b"\t",
        b"Connection: close\r\n",
    ];
    let mut request = original.to_vec();
    let at = random.below(request.len());
    match random.below(3) {
        0 => request[at] = u8::try_from(random.below(256)).unwrap(),
        1 => drop(request.remove(at)),
        _ => {
            let piece = pieces[random.below(pieces.len())];
            request.splice(at..at, piece.iter().copied());
        }
    }
    request
}

#[test]
fn damaged_requests_are_refused_as_by_hyper() {
    // Some of them lack their end.
    let limits = Limits {
        body_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = start(ServerConfig { limits, ..quiet() });
    let address = server.address;
    let original = predict("content-type: application/json\r\naccept: */*\r\n").into_bytes();
    let mut random = Random(5);
    let requests: Vec<Vec<u8>> = (0..480).map(|_| damage(&original, &mut random)).collect();
    let n_answered: usize = std::thread::scope(|scope| {
        let threads = requests.chunks(30).map(|requests| {
            scope.spawn(move || {
                let answers = requests.iter().map(|request| {
                    let (whole, hyper) = (ask(address, request), ask_hyper(address, request));
                    let shown = String::from_utf8_lossy(request);
                    assert_eq!(whole, hyper, "{shown:?}");
                    usize::from(whole.is_some())
                });
                answers.sum::<usize>()
            })
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert!(n_answered > 240, "{n_answered}");
}

#[test]
fn requests_may_come_in_pieces_and_several_at_a_time() {
    let server = start(quiet());
    let request = predict("");
    let mut stream = connect(server.address);
    // The body apart, as Python's clients send it; then two requests at once; then the head in pieces, which is hyper's.
    let (head, body) = request.split_at(request.len() - BODY.len());
    let (start, end) = head.split_at(20);
    for pieces in [
        vec![head, body],
        vec![&request, &request],
        vec![start, end, body],
        vec![&request],
    ] {
        for piece in &pieces {
            stream.write_all(piece.as_bytes()).unwrap();
            // Each in a segment of its own: what is read before is the answer to a question of another connection.
            ask(server.address, b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n");
        }
        let n_answers = if pieces.len() == 2 && pieces[0] == pieces[1] {
            2
        } else {
            1
        };
        for _ in 0..n_answers {
            let answer = read_answer(&mut stream, false).unwrap();
            assert_eq!(answer.body, r#"{"predictions":[3.0,7.0]}"#);
        }
    }
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_forever() {
    let limits = Limits {
        body_timeout: Duration::from_millis(20),
        ..Limits::default()
    };
    let server = start(ServerConfig { limits, ..quiet() });
    let mut stream = connect(server.address);
    let request = predict("");
    stream
        .write_all(&request.as_bytes()[..request.len() - 5])
        .unwrap();
    let (status, headers, body) = seen(&mut stream).unwrap();
    assert_eq!(status, 408);
    assert!(headers.contains(&("connection".to_owned(), "close".to_owned())));
    assert_eq!(body, br#"{"error":"the body did not arrive within 20ms"}"#);
}

/// More than sockets hold for a reader that does not read.
const MANY_BYTES: usize = 64 << 20;

/// A model whose answer is long.
#[derive(Debug)]
struct Long {
    signature: Signature,
    description: Description,
}

impl Long {
    fn new() -> Self {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            dtype: DType::U8,
            shape: vec![None],
            columns: None,
            accepts_missing: false,
            accepts_integers: true,
        };
        Self {
            signature: Signature {
                keyed_outputs: Vec::new(),
                keyed_inputs: Vec::new(),
                unranked_inputs: Vec::new(),
                name_rules: Default::default(),
                inputs: vec![spec("x")],
                outputs: vec![spec("y")],
                default_outputs: vec![0],
                columns: None,
            },
            description: Description::default(),
        }
    }
}

impl Model for Long {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, _inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        Ok(vec![Tensor::from_values(Values::U8(
            vec![7; MANY_BYTES].into(),
        ))])
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

#[test]
fn a_server_that_stops_closes_a_connection_after_the_answer_that_is_on_its_way() {
    let n_workers = quiet().n_workers;
    let mut server = start_with(quiet(), |_sum| {
        let loaded = LoadedModel::new(
            "long".to_owned(),
            Box::new(Long::new()),
            LoadPhases::default(),
        );
        ModelTable::try_new([ServedModel::new(loaded, n_workers)]).unwrap()
    });
    let mut stream = connect(server.address);
    let body = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":[1]}],"parameters":{"binary_data_output":true}}"#;
    stream
        .write_all(post("/v2/models/long/infer", "", body).as_bytes())
        .unwrap();
    let mut start = [0; 1_024];
    stream.read_exact(&mut start).unwrap();
    assert!(start.starts_with(b"HTTP/1.1 200 OK\r\n"));
    server.tell_to_stop();
    // Nobody listens once the connections have been told, too.
    while std::net::TcpStream::connect(server.address).is_ok() {}
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > MANY_BYTES - start.len());
    assert_eq!(server.wait().n_connections_cut, 0);
}

/// A model that notes the numbers of its runs, each of which takes as long as a request may hold up others.
#[derive(Debug)]
struct Notes {
    signature: Signature,
    description: Description,
    seen: Arc<Mutex<Vec<f64>>>,
}

impl Model for Notes {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let clock = SystemClock::new();
        let begun = clock.monotonic();
        while clock.monotonic() - begun < Duration::from_micros(250) {}
        let values = inputs[0].values().to_f64s().unwrap();
        self.seen.lock().unwrap().extend(values.iter());
        Ok(outputs.iter().map(|_| inputs[0].clone()).collect())
    }

    /// Calls that run together let each other go first anyhow.
    fn rows_are_independent(&self) -> bool {
        false
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

#[test]
fn a_connection_that_always_has_its_next_request_does_not_keep_the_others_waiting() {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape: vec![None],
        columns: None,
        accepts_missing: false,
        accepts_integers: true,
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Notes {
        signature: Signature {
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            keyed_outputs: Vec::new(),
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            default_outputs: vec![0],
            columns: None,
        },
        description: Description::default(),
        seen: Arc::clone(&seen),
    };
    let one_worker = ServerConfig {
        n_workers: 1,
        ..quiet()
    };
    let server = start_with(one_worker, |sum| {
        let loaded = LoadedModel::new("notes".to_owned(), Box::new(notes), LoadPhases::default());
        ModelTable::try_new([sum, ServedModel::new(loaded, 1)]).unwrap()
    });
    let note = |number: u64| {
        let body = format!(r#"{{"instances": [{number}]}}"#);
        post("/v1/models/notes:predict", "", &body)
    };
    let [mut holds, mut greedy, mut modest] = [(); 3].map(|()| connect(server.address));
    // Both are known to the loop, which then has other things to do while their requests come.
    for stream in [&mut greedy, &mut modest] {
        assert_eq!(ask_on(stream, note(0).as_bytes()).unwrap().0, 200);
    }
    let hold = post(
        "/v1/models/sum:predict",
        "",
        r#"{"instances": [[500, 500]]}"#,
    );
    holds.write_all(hold.as_bytes()).unwrap();
    server.entered.recv().unwrap();
    let many: String = (1..=50).map(note).collect();
    greedy.write_all(many.as_bytes()).unwrap();
    modest.write_all(note(99).as_bytes()).unwrap();
    server.gate.send(()).unwrap();
    for _ in 1..=50 {
        assert_eq!(seen_status(&mut greedy), 200);
    }
    assert_eq!(seen_status(&mut modest), 200);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 53);
    let place = seen.iter().position(|number| *number == 99.0).unwrap();
    assert!(place <= 4, "{seen:?}");
}

fn seen_status(stream: &mut TcpStream) -> u16 {
    read_answer(stream, false).unwrap().status
}
