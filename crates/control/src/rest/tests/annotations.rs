//! Annotations that say nothing are refused at the API, by whichever way they come.

use serde_json::json;

use super::fixture;

#[test]
fn a_misspelt_annotation_is_refused_when_it_is_created_and_patched() {
    let fixture = fixture();
    let services = "/apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices";
    let model = json!({"modelFormat": {"name": "sklearn"}, "storageUri": "file:///a"});
    let service = |annotations| {
        json!({
            "metadata": {"name": "iris", "annotations": annotations},
            "spec": {"predictor": {"model": model}}
        })
    };
    let misspelt = json!({"serving.coracle.dev/retrys": "2"});
    let (status, answer) = fixture.post(services, &service(misspelt.clone()));
    let expected = "admission webhook \"annotations.coracle.dev.validator\" denied the request: annotation serving.coracle.dev/retrys is not known; serving.coracle.dev/retries is";
    assert_eq!((status, &answer["message"]), (403, &json!(expected)));
    let (status, _) = fixture.post(services, &service(json!({"example.org/retrys": "2"})));
    assert_eq!(status, 201);
    let patch = json!({"metadata": {"annotations": misspelt}});
    let (status, answer) = fixture.merge(&format!("{services}/iris"), &patch);
    assert_eq!((status, &answer["message"]), (403, &json!(expected)));
    let runtimes = "/apis/serving.kserve.io/v1alpha1/clusterservingruntimes";
    let runtime = |engine: &str| {
        json!({
            "metadata": {"name": "own", "annotations": {"serving.coracle.dev/engine": engine}},
            "spec": {"containers": [], "supportedModelFormats": [{"name": "sklearn", "version": "1"}]}
        })
    };
    let (status, answer) = fixture.post(runtimes, &runtime("gpu"));
    let expected = "admission webhook \"clusterservingruntime.kserve-webhook-server.validator\" denied the request: annotation serving.coracle.dev/engine: 'gpu' is no engine; in-process is";
    assert_eq!((status, &answer["message"]), (403, &json!(expected)));
    assert_eq!(fixture.post(runtimes, &runtime("in-process")).0, 201);
}
