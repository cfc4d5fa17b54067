//! Callers with and without credentials, and what roles let them do.

use std::sync::Arc;

use coracle_access::TokenStore;
use coracle_base::ManualClock;

use super::*;
use crate::store::Store;

const ML: &str = "/apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/ml/rolebindings";
const ACCOUNTS: &str = "/api/v1/namespaces/ml/serviceaccounts";

struct Fixture {
    api: Arc<Api>,
    clock: Arc<ManualClock>,
    _directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("state.redb")).unwrap();
    let clock = Arc::new(ManualClock::new());
    let tokens = TokenStore::open(directory.path()).unwrap();
    let api = Api::new(Arc::new(store), clock.clone(), "test").with_access(tokens, true);
    api.ensure_namespace("ml").unwrap();
    api.ensure_roles().unwrap();
    Fixture {
        api: Arc::new(api),
        clock,
        _directory: directory,
    }
}

impl Fixture {
    fn send(&self, user: &User, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = ApiRequest {
            user: user.clone(),
            method: method.to_owned(),
            path: path.to_owned(),
            content_type: "application/json".to_owned(),
            body: body.to_string().into(),
            ..ApiRequest::default()
        };
        let Answer::Reply(reply) = self.api.answer(&request) else {
            panic!("{path} is answered at once");
        };
        let value = serde_json::from_slice(&reply.body).unwrap_or_default();
        (reply.status, value)
    }

    fn get(&self, user: &User, path: &str) -> u16 {
        self.send(user, "GET", path, &Value::Null).0
    }

    fn bind(&self, by: &User, name: &str, role: &str, subject: Value) -> (u16, Value) {
        let body = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject]
        });
        self.send(by, "POST", BINDINGS, &body)
    }

    fn identify(&self, authorization: &str) -> Result<User, Failure> {
        self.api.identify(Credentials {
            authorization,
            certificate: None,
        })
    }
}

fn alice() -> User {
    User::authenticated("alice", &[])
}

fn to_alice() -> Value {
    json!({"kind": "User", "name": "alice"})
}

#[test]
fn nobody_sees_nothing_but_health_and_version() {
    let fixture = fixture();
    let nobody = fixture.identify("").unwrap();
    for path in ["/livez", "/version"] {
        assert_eq!(fixture.get(&nobody, path), 200, "{path}");
    }
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for path in [
        "/api",
        "/apis",
        ML,
        "/openapi/v3",
        "/api/v1/namespaces",
        review,
    ] {
        assert_eq!(fixture.get(&nobody, path), 401, "{path}");
    }
    for bad in ["Basic eDp5", "Bearer ", "Bearer x.y.z", "nonsense"] {
        assert_eq!(fixture.identify(bad).unwrap_err().status, 401, "{bad}");
    }
}

#[test]
fn roles_of_a_namespace_are_given_by_bindings() {
    let fixture = fixture();
    assert_eq!(fixture.get(&alice(), "/apis"), 200);
    let (status, failure) = fixture.send(&alice(), "GET", ML, &Value::Null);
    assert_eq!(status, 403);
    assert_eq!(
        failure["message"],
        "inferenceservices.serving.kserve.io is forbidden: User \"alice\" cannot list resource \"inferenceservices\" in API group \"serving.kserve.io\" in the namespace \"ml\""
    );
    let owner = User::owner();
    assert_eq!(fixture.bind(&owner, "a", "view", to_alice()).0, 201);
    assert_eq!(fixture.get(&alice(), ML), 200);
    assert_eq!(fixture.send(&alice(), "DELETE", ML, &Value::Null).0, 403);
    assert_eq!(fixture.get(&alice(), "/api/v1/namespaces/ml/secrets"), 403);
    assert_eq!(fixture.get(&alice(), "/api/v1/namespaces/ml"), 200);
    assert_eq!(fixture.get(&alice(), "/api/v1/namespaces/default"), 403);
    // What the autoscalers do is told of every namespace at once.
    assert_eq!(fixture.get(&alice(), "/metrics"), 403);
    // Without the binding, no role.
    fixture.send(&owner, "DELETE", &format!("{BINDINGS}/a"), &Value::Null);
    assert_eq!(fixture.get(&alice(), ML), 403);
}

#[test]
fn nobody_gives_what_they_do_not_have() {
    let fixture = fixture();
    let owner = User::owner();
    fixture.bind(&owner, "a", "admin", to_alice());
    let bob = json!({"kind": "User", "name": "bob"});
    assert_eq!(fixture.bind(&alice(), "b", "edit", bob.clone()).0, 201);
    let (status, failure) = fixture.bind(&alice(), "c", "cluster-admin", bob.clone());
    assert_eq!(status, 403, "{failure}");
    let (status, _) = fixture.bind(&owner, "d", "sudo", bob.clone());
    assert_eq!(status, 422);
    let (status, _) = fixture.bind(&owner, "e", "view", json!({"kind": "Robot", "name": "x"}));
    assert_eq!(status, 422);
    // A role is not changed under its holders.
    let changed = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [bob]});
    let (status, _) = fixture.send(&owner, "PUT", &format!("{BINDINGS}/b"), &changed);
    assert_eq!(status, 422);
    // Edit is not enough to give roles.
    let bob_user = User::authenticated("bob", &[]);
    assert_eq!(fixture.bind(&bob_user, "f", "view", to_alice()).0, 403);
}

#[test]
fn tokens_of_service_accounts_end_with_their_time_and_their_account() {
    let fixture = fixture();
    let owner = User::owner();
    fixture.send(
        &owner,
        "POST",
        ACCOUNTS,
        &json!({"metadata": {"name": "robot"}}),
    );
    let url = format!("{ACCOUNTS}/robot/token");
    let (status, answer) = fixture.send(
        &owner,
        "POST",
        &url,
        &json!({"spec": {"expirationSeconds": 60}}),
    );
    assert_eq!(status, 422, "{answer}");
    let (status, answer) = fixture.send(&owner, "POST", &url, &json!({}));
    assert_eq!(status, 201);
    assert_eq!(
        answer["status"]["expirationTimestamp"],
        "1970-01-01T01:00:00Z"
    );
    let header = format!("Bearer {}", answer["status"]["token"].as_str().unwrap());
    let user = fixture.identify(&header).unwrap();
    assert_eq!(user.name, "system:serviceaccount:ml:robot");
    fixture.clock.advance(Duration::from_secs(3_600));
    assert!(fixture.identify(&header).is_err());
    let (_, answer) = fixture.send(&owner, "POST", &url, &json!({}));
    let header = format!("Bearer {}", answer["status"]["token"].as_str().unwrap());
    assert!(fixture.identify(&header).is_ok());
    fixture.send(&owner, "DELETE", &format!("{ACCOUNTS}/robot"), &Value::Null);
    // One of the same name is another one.
    fixture.send(
        &owner,
        "POST",
        ACCOUNTS,
        &json!({"metadata": {"name": "robot"}}),
    );
    let failure = fixture.identify(&header).unwrap_err();
    assert!(
        failure.message.contains("service account is gone"),
        "{}",
        failure.message
    );
}
