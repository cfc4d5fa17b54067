//! Sends bytes to a whole server over loopback, as a connection begins: HTTP/1.1 or HTTP/2, requests of every route, gRPC's frames,
//! shared memory. Whatever comes, the server answers the next one.
#![no_main]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use coracle_base::{ByteCount, SystemClock};
use coracle_fuzz::signatures;
use coracle_gateway::{
    AccessLog, CorsPolicy, Limits, Log, LogFormat, OutletConfig, Server, ServerConfig,
};
use coracle_model::{Description, Model, RunError, Signature};
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel, SharedTable};
use coracle_tensor::{Tensor, Values};
use libfuzzer_sys::fuzz_target;

/// A model of any table; its answers are zeros.
#[derive(Debug)]
struct Zero {
    signature: Signature,
    description: Description,
}

impl Model for Zero {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let n_rows = inputs.first().map_or(0, Tensor::n_rows);
        let answer = |_output: &usize| Tensor::from_values(Values::F64(vec![0.0; n_rows].into()));
        Ok(outputs.iter().map(answer).collect())
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

fn config() -> ServerConfig {
    ServerConfig {
        limits: Limits {
            body_max: ByteCount::new(64 << 10),
            body_timeout: Duration::from_millis(200),
            idle_timeout: Duration::from_millis(200),
            elements_max: 10_000,
            ..Limits::default()
        },
        n_workers: 1,
        n_pool_threads: 1,
        shutdown_timeout: Duration::from_secs(1),
        version: "0".to_owned(),
        allow_shared_memory: true,
        cors: CorsPolicy::default(),
        control: None,
        busy_poll: None,
        outlets: OutletConfig::default(),
    }
}

static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    let config = config();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(loopback, config.clone()).expect("a port is free");
    let address = server.address();
    let clock = Arc::new(SystemClock::new());
    let models = signatures().into_iter().zip(["m", "named", "mixed", "two"]);
    let models = models.map(|(signature, name)| {
        let description = Description::default();
        let model = Box::new(Zero {
            signature,
            description,
        });
        let loaded = LoadedModel::new(name.to_owned(), model, LoadPhases::default());
        ServedModel::new(loaded, config.n_workers)
    });
    let table = ModelTable::try_new(models).expect("the names differ");
    std::thread::spawn(move || {
        let (log, _writer) = Log::start(LogFormat::Json, AccessLog::Off, clock.clone());
        let table = Arc::new(SharedTable::new(table));
        drop(server.run(table, &log, clock, std::future::pending()));
    });
    address
});

/// Whether the client ends its side of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    All,
    More,
}

/// Sends `bytes`, and ends this side of the connection if they are all; reads what comes back until the server hangs up.
fn ask(bytes: &[u8], sent: Sent) -> Vec<u8> {
    let mut stream = TcpStream::connect(*ADDRESS).expect("the server accepts");
    let timeout = Some(Duration::from_secs(5));
    stream
        .set_read_timeout(timeout)
        .expect("the time is not zero");
    // A server may refuse by the head alone and hang up before all is sent.
    drop(stream.write_all(bytes));
    if sent == Sent::All {
        drop(stream.shutdown(Shutdown::Write));
    }
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    answer
}

fuzz_target!(|bytes: &[u8]| {
    ask(bytes, Sent::All);
    // Whoever ends its side may be taken for gone.
    let question = b"GET /healthz HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
    let answer = ask(question, Sent::More);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "the server answers");
});
