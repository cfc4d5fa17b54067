//! What a run costs behind a socket at the very least: the floor that `cargo xtask bench onnx` compares with.
//!
//! Three ways to the same graph take turns of a moment each, so that what else the machine does meets all of them alike: a run in this
//! process; a request to a thread here that does nothing but read it, run and answer; a request to a server (of the Open Inference
//! Protocol, with binary tensors). Client and thread wait without looking: the system wakes them.
//!
//! `behind_a_socket LIBRARY GRAPH N SECONDS HOST:PORT NAME [--spin]`: dimensions that the graph leaves open are 1 where they are the first, else N. With `--spin`
//! the runtime's threads here look for work for a while, as those of a server with `--busy-poll` do. Prints one JSON object: medians and 99th percentiles in microseconds.
#![expect(clippy::print_stdout, reason = "prints its results")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails ends")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::{Clock, SystemClock};
use coracle_model::{GraphEngine, GraphFile, LoadError, LoadErrorKind, Model};
use coracle_onnxruntime::{OnnxRuntime, Places};
use coracle_tensor::{DType, Tensor, Values};
use serde_json::{Value, json};

/// How long each way has its turn.
const TURN: Duration = Duration::from_millis(250);
/// The length of the head of a request to the thread: what a server is sent is of about this size, too.
const HEAD: usize = 256;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, graph, size, seconds, address, name, further @ ..] = arguments.as_slice() else {
        eprintln!("usage: behind_a_socket LIBRARY GRAPH N SECONDS HOST:PORT NAME [--spin]");
        std::process::exit(2);
    };
    let model = load(
        library,
        graph,
        further.iter().any(|option| option == "--spin"),
    );
    let inputs = inputs(model.as_ref(), size.parse().unwrap());
    let bytes: Vec<u8> = inputs
        .iter()
        .flat_map(|input| raw(input).to_vec())
        .collect();
    let outputs = model.signature().default_outputs.clone();
    let floor = Floor::start(Arc::clone(&model), inputs.clone(), bytes.len());
    let mut floor = connect(&floor.address);
    let mut served = connect(address);
    let to_thread = [&[0; HEAD], &bytes[..]].concat();
    let to_server = request(name, model.as_ref(), &inputs, &bytes);
    let mut answers = [vec![0; 1 << 16], vec![0; 1 << 16]];
    let [of_thread, of_server] = &mut answers;
    let clock = SystemClock::new();
    let mut ways: [(&str, Vec<Duration>, &mut dyn FnMut()); 3] = [
        ("run", Vec::new(), &mut || {
            drop(model.run(&inputs, &outputs).unwrap());
        }),
        ("thread", Vec::new(), &mut || {
            ask_thread(&mut floor, &to_thread, of_thread)
        }),
        ("server", Vec::new(), &mut || {
            ask_server(&mut served, &to_server, of_server)
        }),
    ];
    // The first turns are not counted.
    let end = clock.monotonic() + Duration::from_secs_f64(seconds.parse().unwrap());
    let mut is_counted = false;
    while !is_counted || clock.monotonic() < end {
        for (_, times, way) in &mut ways {
            let turn_ends = clock.monotonic() + TURN;
            loop {
                let started = clock.monotonic();
                if started >= turn_ends {
                    break;
                }
                way();
                if is_counted {
                    times.push(clock.monotonic().saturating_sub(started));
                }
            }
        }
        is_counted = true;
    }
    let figures = ways.iter_mut().map(|(way, times, _)| {
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
        let times = json!({"p50_us": at(50), "p99_us": at(99), "n": times.len()});
        ((*way).to_owned(), times)
    });
    println!("{}", Value::Object(figures.collect()));
}

fn load(library: &str, graph: &str, spins: bool) -> Arc<dyn Model> {
    let places = Places {
        given: Some(PathBuf::from(library)),
        ..Places::default()
    };
    let n_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let bytes = std::fs::read(graph).unwrap();
    let external = |location: &str, _: u64, _: Option<u64>| {
        Err(LoadError::new(
            LoadErrorKind::Unsupported,
            format!("a file of weights, {location}"),
        ))
    };
    let file = GraphFile {
        bytes: &bytes,
        external: Vec::new(),
        description: coracle_onnx::describe(&bytes, &external).unwrap(),
        settings: std::collections::BTreeMap::new(),
    };
    let mut engine = OnnxRuntime::new(places, n_cores);
    if spins {
        engine = engine.with_spinning();
    }
    let loaded: Box<dyn Model> = engine.load(file).unwrap();
    Arc::from(loaded)
}

/// Makes one row for each input of a graph.
fn inputs(model: &dyn Model, size: usize) -> Vec<Tensor> {
    let inputs = model.signature().inputs.iter();
    let made = inputs.map(|spec| {
        let open = |at: usize| if at == 0 { 1 } else { size };
        let sizes = spec.shape.iter().enumerate();
        let shape: Vec<usize> = sizes.map(|(at, size)| size.unwrap_or(open(at))).collect();
        let numbers = (0..shape.iter().product::<usize>()).map(|index| (index * 7 % 9) as u8);
        let values = match spec.dtype {
            DType::I64 => Values::I64(numbers.map(i64::from).collect::<Vec<_>>().into()),
            _ => Values::F32(numbers.map(f32::from).collect::<Vec<_>>().into()),
        };
        Tensor::try_new(shape, values).unwrap()
    });
    made.collect()
}

fn raw(tensor: &Tensor) -> &[u8] {
    match tensor.values() {
        Values::I64(values) => values.as_bytes(),
        Values::F32(values) => values.as_bytes(),
        other => panic!("{:?} is not measured", other.dtype()),
    }
}

/// A thread that reads requests of one size, runs, and answers.
struct Floor {
    address: String,
}

impl Floor {
    fn start(model: Arc<dyn Model>, inputs: Vec<Tensor>, n_bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let outputs = model.signature().default_outputs.clone();
            let (mut request, mut answer) = (vec![0; HEAD + n_bytes], Vec::new());
            while stream.read_exact(&mut request).is_ok() {
                let made = model.run(&inputs, &outputs).unwrap();
                answer.clear();
                answer.resize(HEAD, 0);
                made.iter()
                    .for_each(|output| answer.extend_from_slice(raw(output)));
                let length = u64::try_from(answer.len()).unwrap();
                answer[..8].copy_from_slice(&length.to_le_bytes());
                stream.write_all(&answer).unwrap();
            }
        });
        Self { address }
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads more of an answer; nobody closes the connection before its end.
fn more(stream: &mut TcpStream, answer: &mut [u8]) -> usize {
    let n_read = stream.read(answer).unwrap();
    assert!(n_read > 0, "the connection was closed");
    n_read
}

fn ask_thread(stream: &mut TcpStream, request: &[u8], answer: &mut [u8]) {
    stream.write_all(request).unwrap();
    let mut n_read = more(stream, answer);
    let length = u64::from_le_bytes(answer[..8].try_into().unwrap());
    while u64::try_from(n_read).unwrap() < length {
        n_read += more(stream, answer);
    }
}

/// Returns a whole request of the Open Inference Protocol.
fn request(name: &str, model: &dyn Model, inputs: &[Tensor], bytes: &[u8]) -> Vec<u8> {
    let specs = model.signature().inputs.iter().zip(inputs);
    let described = specs.map(|(spec, input)| {
        json!({
            "name": spec.name, "datatype": input.dtype().name(), "shape": input.shape(),
            "parameters": {"binary_data_size": raw(input).len()},
        })
    });
    let head = json!({"inputs": described.collect::<Vec<_>>(), "parameters": {"binary_data_output": true}});
    let head = head.to_string();
    let mut request = format!(
        "POST /v2/models/{name}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ninference-header-content-length: {}\r\n\r\n{head}",
        head.len() + bytes.len(),
        head.len()
    )
    .into_bytes();
    request.extend_from_slice(bytes);
    request
}

fn ask_server(stream: &mut TcpStream, request: &[u8], answer: &mut [u8]) {
    stream.write_all(request).unwrap();
    let mut n_read = more(stream, answer);
    let ends = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let head = std::str::from_utf8(&answer[..ends.unwrap()]).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    let length = head.len() + 4 + length.unwrap().parse::<usize>().unwrap();
    while n_read < length {
        n_read += more(stream, answer);
    }
}
