//! Sends bytes to the Kubernetes API as bodies of every kind, as selectors and as paths; nothing is written.
#![no_main]

use std::sync::{Arc, LazyLock};

use coracle_base::ManualClock;
use coracle_control::{Answer, Api, ApiRequest, Store};
use libfuzzer_sys::fuzz_target;

const ISVC: &str = "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices";
const ISVC_X: &str = "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices/x";
const SECRET: &str = "/api/v1/namespaces/default/secrets";
const SECRET_X: &str = "/api/v1/namespaces/default/secrets/x";

/// Method, path, content type.
const REQUESTS: [(&str, &str, &str); 10] = [
    ("POST", ISVC, "application/json"),
    ("POST", ISVC, "application/yaml"),
    ("POST", SECRET, "application/vnd.kubernetes.protobuf"),
    ("PATCH", ISVC_X, "application/json-patch+json"),
    ("PATCH", ISVC_X, "application/merge-patch+json"),
    ("PATCH", ISVC_X, "application/apply-patch+yaml"),
    ("PATCH", SECRET_X, "application/strategic-merge-patch+json"),
    ("PUT", ISVC_X, "application/json"),
    ("DELETE", ISVC_X, "application/json"),
    (
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "application/json",
    ),
];

static API: LazyLock<Arc<Api>> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("coracle-fuzz-{}.redb", std::process::id()));
    let store = Store::open(&path).expect("a store can be made");
    let api = Arc::new(Api::new(
        Arc::new(store),
        Arc::new(ManualClock::new()),
        "fuzz",
    ));
    api.ensure_namespace("default")
        .expect("a namespace can be made");
    let objects = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: YQ==}\n---\napiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: x}\nspec: {predictor: {model: {modelFormat: {name: sklearn}, storageUri: s3://b/m}}}\n";
    api.apply_manifests(objects, "fuzz")
        .expect("the manifests are good");
    api
});

fn send(request: &ApiRequest) {
    if let Answer::Reply(reply) = API.answer(request)
        && reply.content_type.starts_with("application/json")
    {
        serde_json::from_slice::<serde_json::Value>(&reply.body).expect("answers are JSON");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, body)) = bytes.split_first() else {
        return;
    };
    let choice = usize::from(choice);
    if let Some((method, path, content_type)) = REQUESTS.get(choice) {
        return send(&ApiRequest {
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            query: "dryRun=All&fieldManager=fuzz".to_owned(),
            content_type: (*content_type).to_owned(),
            body: body.to_vec().into(),
            ..ApiRequest::default()
        });
    }
    let text = String::from_utf8_lossy(body).into_owned();
    let (path, query) = match choice % 2 {
        0 => (
            ISVC.to_owned(),
            format!("labelSelector={text}&fieldSelector={text}&continue={text}"),
        ),
        _ => (text, String::new()),
    };
    send(&ApiRequest {
        method: "GET".to_owned(),
        path,
        query,
        accept: "application/json;as=Table;v=v1;g=meta.k8s.io,application/json".to_owned(),
        ..ApiRequest::default()
    });
});
