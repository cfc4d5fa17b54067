//! Routers that learn leave branches that give no answer: nobody can tell them what came of it.

use std::io::Read as _;
use std::net::Shutdown;

use super::*;
use crate::client::{connect, write_request};

/// What routers are that choose between branches of these names; the first one is taken as long as nothing is known.
fn greedy(branches: &[&str]) -> Step {
    let bandit = PlannedBandit::EpsilonGreedy {
        epsilon: 0.0,
        start: Some(0),
        seed: 1,
    };
    one("eg", Routing::Bandit(bandit), branches)
}

/// Sends requests one after another, and tells of each answer that it was good; returns how many failed.
fn n_failed(server: &Running, n_requests: usize) -> usize {
    let failed = (0..n_requests).filter(|_| {
        let (status, answer) = predict(server, &json!([[1, 3]]));
        if status != 200 {
            return true;
        }
        let feedback = json!({"response": answer, "reward": 1});
        assert_eq!(post(server, FEEDBACK, &feedback).0, 200);
        false
    });
    failed.count()
}

fn has_mean(server: &Running, branch: &str, mean: f64) {
    has_line(
        server,
        &format!(
            r#"coracle_graph_branch_reward_mean{{namespace="ml",service="iris",node="eg",branch="{branch}"}} {mean}"#
        ),
    );
}

fn good(server: &Running, branch: i64) {
    let feedback = json!({"response": {"meta": {"routing": {"eg": branch}}}, "reward": 1});
    assert_eq!(post(server, FEEDBACK, &feedback).0, 200);
}

#[test]
fn requests_are_not_sent_to_the_branch_that_fails() {
    let thompson = PlannedBandit::Thompson { seed: 1 };
    for root in [
        greedy(&["bad", "swap"]),
        one("eg", Routing::Bandit(thompson), &["bad", "swap"]),
        // It fails where the branch is longer, too.
        Step::One(OneStep {
            node: "eg".to_owned(),
            routing: Routing::Bandit(PlannedBandit::Thompson { seed: 2 }),
            branches: vec![
                (
                    "tenth".to_owned(),
                    Step::Chain(vec![ask("tenth"), average(&["double", "bad"])]),
                ),
                ("swap".to_owned(), ask("swap")),
            ],
        }),
    ] {
        let server = start(root);
        let n_failed = n_failed(&server, 60);
        assert!((1..20).contains(&n_failed), "{n_failed} of 60");
    }
}

#[test]
fn every_row_of_a_request_that_failed_has_earned_nothing() {
    let server = start(greedy(&["bad", "swap"]));
    assert_eq!(predict(&server, &json!([[1, 3], [1, 3], [1, 3]])).0, 500);
    good(&server, 0);
    has_mean(&server, "bad", 0.25);
    // Only the branch that failed: of others nothing is known.
    let server = start(average_of_routers());
    assert_eq!(predict(&server, &json!([[1, 3]])).0, 500);
    let feedback = json!({"response": {"meta": {"routing": {"well": 0, "eg": 0}}}, "reward": 1});
    assert_eq!(post(&server, FEEDBACK, &feedback).0, 200);
    has_mean(&server, "bad", 0.5);
    let line = r#"coracle_graph_branch_reward_mean{namespace="ml",service="iris",node="well",branch="double"} 1"#;
    has_line(&server, line);
}

/// Two routers whose answers become one; the one fails.
fn average_of_routers() -> Step {
    let Step::One(well) = greedy(&["double"]) else {
        panic!("it is one");
    };
    let well = Step::One(OneStep {
        node: "well".to_owned(),
        ..well
    });
    Step::All(AllStep {
        node: "mean".to_owned(),
        join: Join::Average,
        branches: vec![well, greedy(&["bad"])],
    })
}

#[test]
fn what_stands_in_for_a_branch_earns_it_nothing() {
    let stands_in = FallbackSettings {
        value: Some("5".to_owned()),
        ..FallbackSettings::default()
    };
    let server = start_where(greedy(&["bad", "swap"]), move |models| {
        models["bad"].set_fallback(Some(&stands_in));
    });
    let sent = json!({"data": {"ndarray": [[1, 3]]}});
    let (status, answer) = post(&server, PREDICT, &sent);
    assert_eq!(
        (status, &answer["meta"]),
        (
            200,
            &json!({"tags": {"fallback": "constant"}, "routing": {"eg": -2}, "requestPath": {"bad": "coracle"}})
        )
    );
    // What comes of it is nobody's.
    let feedback = json!({"response": answer, "reward": 1});
    let (status, told) = post(&server, FEEDBACK, &feedback);
    assert_eq!((status, &told["meta"]["requestPath"]), (200, &json!({})));
    has_mean(&server, "bad", 0.0);
    good(&server, 0);
    has_mean(&server, "bad", 0.5);
    // What stood in for a model before it is not the branch's fault.
    let stands_in = FallbackSettings {
        value: Some("[5, 6]".to_owned()),
        ..FallbackSettings::default()
    };
    let root = Step::Chain(vec![ask("bad"), greedy(&["double", "swap"])]);
    let server = start_where(root, move |models| {
        models["bad"].set_fallback(Some(&stands_in));
    });
    let (status, answer) = post(&server, PREDICT, &sent);
    assert_eq!((status, &answer["meta"]["routing"]["eg"]), (200, &json!(0)));
    good(&server, 0);
    has_mean(&server, "double", 1.0);
}

#[test]
fn a_branch_whose_answer_nobody_waited_for_has_earned_nothing() {
    let server = start_with(config(Limits::default()), move |sum| {
        let models = BTreeMap::from([
            ("sum".to_owned(), Arc::new(sum)),
            ("swap".to_owned(), model("swap", |a, b| vec![b, a])),
        ]);
        table(greedy(&["sum", "swap"]), &models)
    });
    let mut stream = connect(server.address);
    let body = format!(
        r#"{{"data": {{"ndarray": [[1000, 0]{}]}}}}"#,
        ", [1, 2]".repeat(98)
    );
    write_request(&mut stream, "POST", PREDICT, &[JSON], body.as_bytes());
    server.entered.recv().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    // The socket is closed a moment before the call is let go: each event loop's answer tells that it has done what it was at.
    for _ in 0..2 {
        assert_eq!(send(server.address, "GET", "/readyz", &[], b"").status, 200);
    }
    server.gate.send(()).unwrap();
    good(&server, 0);
    has_mean(&server, "sum", 0.01);
}
