//! Triton's extensions, versions, compression and origins.

use coracle_base::Code;
use coracle_gateway::{ControlError, IndexEntry, Limits, ModelControl, ServerConfig};
use coracle_serving::{ModelTable, Route, ServedModel, ServiceId};
use std::io::Write as _;
use std::net::Shutdown;
use std::sync::Arc;

use super::{assert_refused, start, start_as};
use crate::client::{connect, read_answer, send};
use crate::fixture::{config, start_with};

type Header = (&'static str, &'static str);
/// Method, path, headers, body, status and message.
type Refusal = (
    &'static str,
    &'static str,
    &'static [Header],
    &'static [u8],
    u16,
    &'static str,
);

const REGISTER: &str = "/v2/systemsharedmemory/region/r/register";
const NO_CONTROL: &str = "models are not loaded and unloaded on request here; `coracle serve --model-control explicit` allows it";
const TIME: &str =
    "x-request-timeout must be seconds above 0, such as 1.5, or with a unit, such as 250ms";
const LEVEL: &str =
    "x-request-priority must be a whole number: 1 is the highest level, 0 the default";
const NO_MODEL: &str = "Model with name nope does not exist.";

#[rustfmt::skip]
const REFUSALS: [Refusal; 38] = [
    ("GET", "/v2/models/nope", &[], b"", 404, NO_MODEL),
    ("GET", "/v2/models/nope/ready", &[], b"", 404, NO_MODEL),
    ("GET", "/v2/models/nope/config", &[], b"", 404, NO_MODEL),
    ("GET", "/v2/models/nope/stats", &[], b"", 404, NO_MODEL),
    ("GET", "/v1/models/nope", &[], b"", 404, NO_MODEL),
    ("GET", "/v1/models/nope/metadata", &[], b"", 404, NO_MODEL),
    ("POST", "/v1/models/nope:explain", &[], b"{}", 404, NO_MODEL),
    ("POST", "/v2/models/nope/infer", &[], b"{}", 404, NO_MODEL),
    ("GET", "/v2/models/sum/versions/2/config", &[], b"", 404, "model 'sum' has no version '2'; it has 1"),
    ("GET", "/v2/models/sum/versions/2/stats", &[], b"", 404, "model 'sum' has no version '2'; it has 1"),
    ("GET", "/v2/models/sum/versions/2/ready", &[], b"", 404, "model 'sum' has no version '2'; it has 1"),
    ("GET", "/v1/models/sum/versions/2", &[], b"", 404, "model 'sum' has no version '2'; it has 1"),
    ("GET", "/v1/models/sum/labels/best/metadata", &[], b"", 404, "model 'sum' has no label 'best'"),
    ("POST", "/v2/repository/index", &[], b"5", 400, "invalid type: integer `5`, expected an object such as {\"ready\": true}"),
    ("POST", "/v2/repository/index", &[], br#"{"ready": 5}"#, 400, "invalid type: integer `5`, expected a boolean"),
    ("POST", "/v2/repository/models/sum/load", &[], b"", 400, NO_CONTROL),
    ("POST", "/v2/repository/models/sum/unload", &[], b"", 400, NO_CONTROL),
    ("POST", "/v2/repository/models/sum/load", &[], b"5", 400, "invalid type: integer `5`, expected an object such as {\"parameters\": {}}"),
    ("POST", "/v2/repository/models/sum/load", &[], br#"{"parameters": {"file:1/model.onnx": "AA=="}}"#, 501, "load parameter \"file:1/model.onnx\": models are loaded from their own files only"),
    ("GET", "/v2/repository/models/sum/load", &[], b"", 405, "/v2/repository/models/sum/load takes POST only"),
    ("GET", "/v2/systemsharedmemory/region/r/status", &[], b"", 404, "no shared memory region \"r\" is registered"),
    ("POST", REGISTER, &[], b"", 400, "the body is not valid JSON: EOF while parsing a value"),
    ("POST", REGISTER, &[], b"5", 400, "invalid type: integer `5`, expected an object with key, offset and byte_size"),
    ("POST", REGISTER, &[], br#"{"key": "x"}"#, 400, "missing field `byte_size`"),
    ("POST", REGISTER, &[], br#"{"key": "a/b", "byte_size": 1}"#, 400, "cannot use shared memory key \"a/b\": it must name a file directly under /dev/shm"),
    ("POST", REGISTER, &[("origin", "http://bad.example")], br#"{"key": "x", "byte_size": 1}"#, 400, "web pages may not change what the server does"),
    ("POST", "/v2/repository/models/sum/unload", &[("origin", "null")], b"", 400, "web pages may not change what the server does"),
    ("OPTIONS", "/v2/models/sum/infer", &[("origin", "http://bad.example"), ("access-control-request-method", "POST")], b"", 405, "/v2/models/sum/infer takes POST only"),
    ("POST", "/v2/cudasharedmemory/region/r/register", &[], b"{}", 404, "nothing is at /v2/cudasharedmemory/region/r/register; there are /v1/models, /v1/models/M, /v1/models/M:predict, /v2, /v2/models/M, /v2/models/M/infer, /healthz, /readyz and /metrics"),
    ("POST", "/v1/models/sum:predict", &[("content-encoding", "gzip, br")], b"{}", 415, "content encoding 'gzip, br' is not supported; supported are gzip, br, zstd, deflate"),
    ("POST", "/v1/models/sum:predict", &[("x-request-timeout", "soon")], b"{}", 400, TIME),
    ("POST", "/v2/models/sum/infer", &[("x-request-timeout", "0")], b"{}", 400, TIME),
    ("POST", "/v1/models/sum:predict", &[("x-request-priority", "high")], b"{}", 400, LEVEL),
    ("POST", "/v2/models/sum/infer", &[("x-request-priority", "-1")], b"{}", 400, LEVEL),
    ("POST", "/v2/models/sum/infer", &[("content-type", "application/octet-stream")], b"{}", 415, "content type 'application/octet-stream' is not supported; send application/json, or binary tensor data to V2 with the header Inference-Header-Content-Length"),
    ("POST", "/v1/models/sum:predict", &[("content-type", "application/x-www-form-urlencoded")], b"{}", 415, "content type 'application/x-www-form-urlencoded' is not supported; send application/json; with curl, add -H 'Content-Type: application/json'"),
    ("DELETE", "/v1/models/sum", &[], b"", 405, "/v1/models/sum takes GET, HEAD only"),
    ("POST", "/v1/models/sum:predict", &[("content-type", "text/csv")], b"1,2", 415, "content type 'text/csv' is not supported; send application/json; CSV is taken at /invocations of a model"),
];

#[test]
fn of_extensions_versions_and_headers() {
    let server = start();
    for (method, path, headers, body, status, message) in REFUSALS {
        let answer = send(server.address, method, path, headers, body);
        assert_refused(&answer, &format!("{method} {path}"), status, message);
        assert_eq!(answer.header("allow").is_some(), status == 405, "{path}");
    }
}

#[test]
fn of_what_is_not_compressed_as_it_says() {
    let server = start();
    for name in ["gzip", "deflate", "br", "zstd"] {
        let headers = [("content-encoding", name)];
        let path = "/v2/models/sum/infer";
        // What begins well and what does not; the reason is the decompressor's own.
        for body in [&b"\xff\xff\xff\xff"[..], b"\x1f\x8b\x08\x00", b""] {
            let answer = send(server.address, "POST", path, &headers, body);
            let start = format!("{{\"error\":\"not {name} data: ");
            let is_said = answer.body.starts_with(&start) && answer.body.ends_with("\"}");
            assert!(is_said, "{name} {body:?}: {}", answer.body);
            assert_eq!(answer.status, 400, "{name}: {}", answer.body);
        }
    }
}

#[test]
fn of_shared_memory_where_it_is_not_allowed() {
    let server = start_as(ServerConfig {
        allow_shared_memory: false,
        ..config(Limits::default())
    });
    let body = br#"{"key": "x", "byte_size": 1}"#;
    let answer = send(server.address, "POST", REGISTER, &[], body);
    let message = "shared memory is not allowed here; the server's --allow-shared-memory allows it";
    assert_refused(&answer, REGISTER, 400, message);
}

/// A control that fails in every way.
#[derive(Debug)]
struct Failing;

impl ModelControl for Failing {
    fn index(&self) -> Vec<IndexEntry> {
        Vec::new()
    }

    fn load(&self, name: &str) -> Result<(), ControlError> {
        assert_ne!(name, "sum", "a defect");
        Err(ControlError {
            code: Code::NotFound,
            message: format!("Model with name {name} does not exist."),
        })
    }

    fn unload(&self, name: &str) -> Result<(), ControlError> {
        self.load(name)
    }
}

#[test]
fn of_loads_that_fail() {
    let server = start_as(ServerConfig {
        control: Some(Arc::new(Failing)),
        ..config(Limits::default())
    });
    for verb in ["load", "unload"] {
        let ask = |name: &str| {
            let path = format!("/v2/repository/models/{name}/{verb}");
            send(server.address, "POST", &path, &[], b"")
        };
        assert_refused(&ask("nope"), verb, 404, NO_MODEL);
        let message = "the model could not be loaded; this is a defect of the server";
        assert_refused(&ask("sum"), verb, 500, message);
    }
    let message = "web pages may not change what the server does";
    let headers = [("origin", "https://bad.example")];
    let path = "/v2/repository/models/nope/load";
    let answer = send(server.address, "POST", path, &headers, b"");
    assert_refused(&answer, path, 400, message);
    let headers = [("origin", "https://good.example")];
    let answer = send(server.address, "POST", path, &headers, b"");
    assert_refused(&answer, path, 404, NO_MODEL);
}

#[test]
fn of_a_name_of_several_namespaces() {
    let server = start_with(config(Limits::default()), |_sum| {
        let route = |namespace: &str| {
            let model = Arc::new(ServedModel::unloaded("twin".to_owned(), 2));
            let id = ServiceId {
                namespace: namespace.to_owned(),
                name: "twin".to_owned(),
            };
            let route = Route::versions(vec![model], [].into()).unwrap();
            (id, Arc::new(route))
        };
        ModelTable::from_routes(["blue", "green"].map(route).into())
    });
    let message = "services named twin are in the namespaces blue, green; ask one of them at /serving/NAMESPACE/twin";
    for path in ["/v1/models/twin:predict", "/v2/models/twin/infer"] {
        let answer = send(server.address, "POST", path, &[], b"{}");
        assert_refused(&answer, path, 404, message);
    }
}

#[test]
fn of_a_body_that_ends_too_early() {
    let server = start();
    for path in ["/v1/models/sum:predict", "/v2/repository/index"] {
        let mut stream = connect(server.address);
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\n{{"
        )
        .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = read_answer(&mut stream, false).unwrap();
        let message = "the body ended before its declared end";
        assert_refused(&answer, path, 400, message);
    }
}
