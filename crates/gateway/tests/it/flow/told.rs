//! What graphs tell of themselves on Seldon's paths, and by Seldon's calls over gRPC.

use coracle_protocol::seldon::{graph_metadata_message, model_metadata_message};

use super::*;
use crate::grpc;

fn get(server: &Running, path: &str) -> (u16, Value) {
    let answer = send(server.address, "GET", path, &[], b"");
    let body = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status, body)
}

const API: &str = "/seldon/ml/iris/api/v1.0";

/// Returns V2's metadata of a node.
fn node(server: &Running, name: &str) -> Value {
    let (status, found) = get(server, &format!("{API}/metadata/{name}"));
    assert_eq!(status, 200, "{found}");
    found
}

/// Returns a request for the metadata of a model of this name, which is short.
fn named(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let head = [0, 0, 0, 0, length + 2, 0x0a, length];
    [&head, name.as_bytes()].concat()
}

#[test]
fn a_graph_tells_what_its_ends_and_its_models_take_and_give() {
    let server = start(Step::Chain(vec![ask("double"), ask("wide")]));
    let (status, graph) = get(&server, &format!("{API}/metadata"));
    assert_eq!(status, 200, "{graph}");
    let (first, last) = (node(&server, "double"), node(&server, "wide"));
    assert_eq!(first["name"], "double");
    let expected = json!({
        "name": "iris",
        "models": {"double": first, "wide": last},
        "graphinputs": first["inputs"],
        "graphoutputs": last["outputs"]
    });
    assert_eq!(graph, expected);
    let (status, answer) = get(&server, &format!("{API}/metadata/nope"));
    assert_eq!(status, 404);
    assert_eq!(answer["status"]["info"], "Failed to find model nope");
    for path in ["/status", "/status/wide"] {
        let (status, answer) = get(&server, &format!("{API}{path}"));
        assert_eq!((status, &answer["meta"]), (200, &json!({})));
    }
    assert_eq!(get(&server, &format!("{API}/status/nope")).0, 404);
    // Models of predictors that share the requests have their keys.
    let server = start(one(
        "iris",
        Routing::Shares(vec![50, 50]),
        &["double", "swap"],
    ));
    let (_, graph) = get(&server, &format!("{API}/metadata"));
    let models = graph["models"].as_object().unwrap();
    let keys: Vec<&String> = models.keys().collect();
    assert_eq!(keys, ["double/double", "swap/swap"]);
    // One that never asks a model has none.
    let server = start(Step::Fixed {
        node: "simple".to_owned(),
    });
    let (status, graph) = get(&server, &format!("{API}/metadata"));
    let expected = json!({"name": "iris", "models": {}, "graphinputs": [], "graphoutputs": []});
    assert_eq!((status, graph), (200, expected));
}

#[test]
fn seldons_calls_tell_what_its_paths_do() {
    let server = start(Step::Chain(vec![ask("double"), ask("wide")]));
    let deployment = [("seldon", "iris"), ("namespace", "ml")];
    let of = |method: &str, headers: &[(&str, &str)], message: Vec<u8>| {
        let path = format!("/seldon.protos.Seldon/{method}");
        grpc::call(&server, &path, headers, message)
    };
    let rest = |path: &str| get(&server, &format!("{API}{path}")).1.to_string();
    let answer = of("GraphMetadata", &deployment, vec![0; 5]);
    let expected = graph_metadata_message(rest("/metadata").as_bytes()).unwrap();
    assert_eq!((answer.status, answer.body), (0, expected));
    // The namespace may be left out where only one deployment has the name.
    let answer = of("ModelMetadata", &deployment[..1], named("wide"));
    let expected = model_metadata_message(rest("/metadata/wide").as_bytes()).unwrap();
    assert_eq!((answer.status, answer.body), (0, expected));
    for (method, headers, message, status, words) in [
        (
            "ModelMetadata",
            &deployment[..],
            named("nope"),
            5,
            "Failed to find model nope",
        ),
        ("ModelMetadata", &[], named("wide"), 5, "no such deployment"),
        (
            "ModelMetadata",
            &deployment,
            vec![0, 0, 0, 0, 1, 0x0a],
            3,
            "",
        ),
        ("GraphMetadata", &[("seldon", "other")], vec![0; 5], 5, ""),
        ("Metadata", &deployment, vec![0; 5], 12, ""),
    ] {
        let answer = of(method, headers, message);
        assert_eq!(answer.status, status, "{method}: {}", answer.message);
        assert!(answer.message.contains(words), "{}", answer.message);
    }
}
