//! What Seldon's paths tell besides answers, and the ids of requests.

use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::ModelReadyRequest;

use super::*;
use crate::grpc;

fn get(server: &Running, path: &str) -> Answer {
    send(server.address, "GET", path, &[], b"")
}

#[test]
fn a_model_tells_what_it_takes_and_whether_it_is_well() {
    let server = start();
    let (_, v2) = read(&get(&server, "/seldon/ml/iris/v2/models/sum"));
    assert_eq!(v2["inputs"][0]["shape"], json!([-1, 2]));
    for version in ["v0.1", "v1.0"] {
        let api = format!("/seldon/ml/iris/api/{version}");
        for name in ["sum", "iris"] {
            let found = read(&get(&server, &format!("{api}/metadata/{name}")));
            assert_eq!(found, (200, v2.clone()));
        }
        let whole = json!({
            "name": "iris",
            "models": {"sum": v2},
            "graphinputs": v2["inputs"],
            "graphoutputs": v2["outputs"]
        });
        for path in ["/metadata", "/metadata/"] {
            let found = read(&get(&server, &format!("{api}{path}")));
            assert_eq!(found, (200, whole.clone()));
        }
        // As Seldon's wrapper answers it.
        let well =
            json!({"data": {"names": [], "tensor": {"shape": [0], "values": []}}, "meta": {}});
        for path in ["/status", "/status/sum"] {
            let found = read(&get(&server, &format!("{api}{path}")));
            assert_eq!(found, (200, well.clone()));
        }
        for path in ["/status/other", "/metadata/other"] {
            let found = read(&get(&server, &format!("{api}{path}")));
            let expected = json!({"status": {"code": 404, "info": "Failed to find model other", "status": "FAILURE"}});
            assert_eq!(found, (404, expected));
        }
    }
    let ping = get(&server, "/seldon/ml/iris/health/ping");
    assert_eq!((ping.status, ping.body.as_str()), (200, "pong"));
    for path in ["/api/v1.0/metadata", "/seldon/ml/nope/api/v1.0/status"] {
        let (status, answer) = read(&get(&server, path));
        let told = &answer["status"]["status"];
        assert_eq!((status, told), (404, &"FAILURE".into()));
    }
    let path = "/seldon/ml/iris/api/v1.0/metadata";
    assert_eq!(post(&server, path, "{}").0, 405);
}

#[test]
fn what_may_be_asked_is_told_to_people_and_programs() {
    let server = start();
    let page = get(&server, "/seldon/ml/iris/api/v1.0/doc/");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("seldon.json"), "{}", page.body);
    let content_type = page.header("content-type");
    assert_eq!(content_type, Some("text/html; charset=utf-8"));
    for path in [
        "/api/v1.0/doc/seldon.json",
        "/api/v0.1/doc/seldon.json",
        "/api/v1.0/seldon.json",
        "/seldon.json",
    ] {
        let path = format!("/seldon/ml/iris{path}");
        let (status, document) = read(&get(&server, &path));
        assert_eq!((status, &document["openapi"]), (200, &"3.0.3".into()));
        // As clients resolve it: from the folder that the document is in.
        let url = document["servers"][0]["url"].as_str().unwrap();
        let n_up = url.matches("..").count();
        let mut folders: Vec<&str> = path.split('/').collect();
        folders.truncate(folders.len() - 1 - n_up);
        let of_server = folders.join("/");
        // All that it names is there.
        for (path, of) in document["paths"].as_object().unwrap() {
            let path = format!("{of_server}{}", path.replace("{node}", "sum"));
            for method in of.as_object().unwrap().keys() {
                let method = method.to_uppercase();
                let message = br#"{"data": {"ndarray": [[1, 2]]}}"#;
                let body: &[u8] = if method == "POST" { message } else { b"" };
                let answer = send(server.address, &method, &path, &[JSON], body);
                assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
            }
        }
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/") {
            let reference = text[at + 1..].split('"').next().unwrap();
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}

#[test]
fn requests_to_deployments_have_seldons_id_in_every_protocol() {
    let server = start();
    let own = ("Seldon-Puid", "p-1");
    let message: &[u8] = br#"{"data": {"ndarray": [[1, 2]]}}"#;
    let inputs: &[u8] =
        br#"{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}"#;
    for (path, body, status) in [
        ("/api/v1.0/predictions", message, 200),
        ("/api/v1.0/feedback", br#"{"reward": 1}"#, 200),
        ("/v1/models/sum:predict", br#"{"instances": [[1, 2]]}"#, 200),
        ("/v2/models/sum/infer", inputs, 200),
        ("/v2/models/other/infer", inputs, 404),
        ("/api/v1.0/predictions", b"{", 400),
    ] {
        let path = format!("/seldon/ml/iris{path}");
        // The caller's own is the request's id, too, unless it has another.
        let answer = send(server.address, "POST", &path, &[JSON, own], body);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.header("seldon-puid"), Some("p-1"), "{path}");
        assert_eq!(answer.header("x-request-id"), Some("p-1"), "{path}");
        let both = [JSON, own, ("X-Request-Id", "r-1")];
        let answer = send(server.address, "POST", &path, &both, body);
        assert_eq!(answer.header("seldon-puid"), Some("p-1"), "{path}");
        assert_eq!(answer.header("x-request-id"), Some("r-1"), "{path}");
        // Else it is made, another one for each; what is none is not given back.
        let mut made = Vec::new();
        for headers in [&[JSON][..], &[JSON, ("Seldon-Puid", "a b")]] {
            let answer = send(server.address, "POST", &path, headers, body);
            let puid = answer.header("seldon-puid").unwrap();
            assert_eq!(answer.header("x-request-id"), Some(puid), "{path}");
            made.push(puid.to_owned());
        }
        assert_ne!(made[0], made[1]);
        assert!(!made.contains(&"a b".to_owned()), "{made:?}");
    }
    // In answers that are put in words elsewhere, too.
    let path = "/seldon/ml/iris/api/v1.0/predictions";
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [JSON, own, ("traceparent", parent)];
    let answer = send(server.address, "POST", path, &headers, message);
    assert!(answer.header("traceparent").is_some());
    assert_eq!(answer.header("seldon-puid"), Some("p-1"));
    // Of other services it is nothing.
    let answer = send(server.address, "GET", "/healthz", &[own], b"");
    assert_eq!(answer.header("seldon-puid"), None);
    assert_ne!(answer.header("x-request-id"), Some("p-1"));
}

#[test]
fn calls_over_grpc_have_seldons_id() {
    let server = start();
    let ready = ModelReadyRequest {
        name: "sum".to_owned(),
        version: String::new(),
    };
    let named = [
        ("seldon", "iris"),
        ("namespace", "ml"),
        ("seldon-puid", "p-2"),
    ];
    let ids = |path: &str, headers: &[(&str, &str)], message: Vec<u8>| {
        let answer = grpc::call(&server, path, headers, message);
        let id = |name: &str| {
            let value = answer.headers.get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        assert_eq!(answer.status, 0, "{path}: {}", answer.message);
        (id("seldon-puid"), id("x-request-id"))
    };
    let own = Some("p-2".to_owned());
    let path = "/inference.GRPCInferenceService/ModelReady";
    let found = ids(path, &named, frame(&ready));
    assert_eq!(found, (own.clone(), own.clone()));
    let (puid, id) = ids(path, &named[..2], frame(&ready));
    assert!(puid.is_some());
    assert_eq!(puid, id);
    let live = "/inference.GRPCInferenceService/ServerLive";
    assert_eq!(ids(live, &named[2..], vec![0; 5]).0, None);
    let graph = "/seldon.protos.Seldon/GraphMetadata";
    assert_eq!(ids(graph, &named, vec![0; 5]).0, own);
}
