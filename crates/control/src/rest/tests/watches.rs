//! Watches, and what ends them.

use super::*;

async fn event(watch: &mut Watch) -> Value {
    serde_json::from_slice(&watch.next().await.unwrap()).unwrap()
}

#[tokio::test]
async fn watches_show_what_is_there_and_what_changes() {
    let fixture = fixture();
    let mut labelled = service("a");
    labelled["metadata"]["labels"] = json!({"tier": "x"});
    fixture.post(ISVC, &labelled);
    let mut watch = fixture.watch(&format!(
        "{ISVC}?watch=True&labelSelector=tier%3Dx&timeoutSeconds=5"
    ));
    assert_eq!(event(&mut watch).await["type"], "ADDED");
    fixture.post(ISVC, &service("other"));
    let url = format!("{ISVC}/a");
    fixture.merge(&url, &json!({"spec": {"predictor": {"minReplicas": 2}}}));
    let modified = event(&mut watch).await;
    assert_eq!(
        (
            &modified["type"],
            &modified["object"]["spec"]["predictor"]["minReplicas"]
        ),
        (&json!("MODIFIED"), &json!(2))
    );
    let (_, relabelled) = fixture.merge(&url, &json!({"metadata": {"labels": {"tier": "y"}}}));
    let left = event(&mut watch).await;
    assert_eq!(
        (&left["type"], &left["object"]["metadata"]["labels"]["tier"]),
        (&json!("DELETED"), &json!("x"))
    );
    assert_eq!(
        left["object"]["metadata"]["resourceVersion"],
        relabelled["metadata"]["resourceVersion"]
    );
    fixture.merge(&url, &json!({"metadata": {"labels": {"tier": "x"}}}));
    assert_eq!(event(&mut watch).await["type"], "ADDED");
    fixture.send("DELETE", &url, "", &Value::Null);
    assert_eq!(event(&mut watch).await["type"], "DELETED");
}

#[tokio::test]
async fn streaming_lists_end_their_beginning_with_a_bookmark() {
    let fixture = fixture();
    fixture.post(ISVC, &service("a"));
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=5";
    let mut watch = fixture.watch(&format!("{ISVC}?{query}"));
    assert_eq!(event(&mut watch).await["type"], "ADDED");
    let bookmark = event(&mut watch).await;
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(
        fixture
            .get(&format!("{ISVC}?watch=1&sendInitialEvents=true"))
            .0,
        422
    );
}

#[tokio::test(start_paused = true)]
async fn watches_end_when_their_time_is_up() {
    let fixture = fixture();
    let mut watch = fixture.watch(&format!(
        "{ISVC}?watch=1&resourceVersion=1&timeoutSeconds=3"
    ));
    assert_eq!(watch.next().await, None);
    assert_eq!(
        fixture.get(&format!("{ISVC}?watch=1&resourceVersion=99")).0,
        504
    );
}
