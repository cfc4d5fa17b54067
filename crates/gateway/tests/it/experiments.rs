//! Experiments: which variant answers, what the answer says, and what is told of outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_base::SystemClock;
use coracle_gateway::Limits;
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{
    InferParameter, ModelInferResponse, ModelStreamInferResponse, ParameterChoice,
};
use coracle_serving::experiment::{
    By, Experiments, Exposure, ExposureEnd, MetricForm, MetricRole, PlannedExperiment,
    PlannedMetric, PlannedVariant, RouteExperiments, Split, SplitTarget, UnitSource, VariantTarget,
};
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, Route, ServedModel, ServiceId, Teller};
use serde_json::{Value, json};

use crate::client::{Answer, connect, send, write_request};
use crate::fixture::{Running, config, start_experimenting, sum_model};
use crate::gone::{cancel_over_grpc, leave, wait_for_loops};
use crate::grpc;
use crate::routes::JSON;

pub(crate) const PREDICT: &str = "/serving/ml/sum/v1/models/sum:predict";
const INFER: &str = "/serving/ml/sum/v2/models/sum/infer";
pub(crate) const OUTCOMES: &str = "/serving/ml/sum/experiments/ab/outcomes";

/// A server with an experiment on `sum`, whose treatment is the service `next`.
struct Stage {
    server: Running,
    experiments: Experiments,
    directory: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.experiments.stop();
    }
}

pub(crate) fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

pub(crate) fn planned(unit: UnitSource) -> PlannedExperiment {
    let variant = |name: &str, target| PlannedVariant {
        name: name.to_owned(),
        weight: 1,
        target,
    };
    PlannedExperiment {
        name: "ab".to_owned(),
        salt: "s".to_owned(),
        unit,
        variants: vec![
            variant("control", VariantTarget::Own),
            variant("treatment", VariantTarget::Service("next".to_owned())),
        ],
        share_ppm: 1_000_000,
        overrides: [
            ("c".to_owned(), "control".to_owned()),
            ("t".to_owned(), "treatment".to_owned()),
            ("7".to_owned(), "treatment".to_owned()),
        ]
        .into(),
        metrics: vec![PlannedMetric {
            name: "clicked".to_owned(),
            kind: MetricForm::Conversion,
            covariate: None,
            zero_if_missing: false,
            is_lower_better: false,
            role: MetricRole::Primary,
            expected: 0.1,
            margin: 0.1,
            window_ms: None,
        }],
        ..PlannedExperiment::default()
    }
}

fn start(planned: &PlannedExperiment) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::new());
    let experiments = Experiments::start(
        directory.path().to_owned(),
        coracle_gateway::EXPERIMENT_LINES,
        clock,
        Teller::nobody(),
    )
    .unwrap();
    let books = experiments.clone();
    let limits = config(Limits::default());
    let server = start_experimenting(limits, Some(experiments.clone()), |sum| {
        let (next, _entered, _gate) = sum_model();
        let loaded = LoadedModel::new("next".to_owned(), Box::new(next), LoadPhases::default());
        let next = Arc::new(ServedModel::new(loaded, 2));
        let book = books.open("ml", planned);
        let split = Split::try_new(planned, book, |target| match target {
            VariantTarget::Service(name) => SplitTarget::Service(id(name)),
            _ => SplitTarget::Own,
        });
        let on_sum = RouteExperiments::new(vec![split.unwrap()]);
        let sum = Route::single(Arc::new(sum)).with_experiments(Some(on_sum));
        let mut routes = BTreeMap::new();
        routes.insert(id("sum"), Arc::new(sum));
        routes.insert(id("next"), Arc::new(Route::single(next)));
        ModelTable::from_routes(routes)
    });
    Stage {
        server,
        experiments,
        directory,
    }
}

fn post(stage: &Stage, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![JSON];
    all.extend_from_slice(headers);
    send(stage.server.address, "POST", path, &all, body.as_bytes())
}

pub(crate) fn told(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (
        answer.header("x-coracle-experiment"),
        answer.header("x-coracle-variant"),
    )
}

pub(crate) fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap()
}

const ROWS: &str = r#"{"instances": [[1, 2]]}"#;

/// A request: where its unit is, its path, header and body, and the variant that it gets.
type Case = (
    UnitSource,
    &'static str,
    Option<(&'static str, &'static str)>,
    String,
    Option<&'static str>,
);

fn units_in_heads() -> Vec<Case> {
    let header = || UnitSource::Header("x-user".to_owned());
    let cookie = UnitSource::Cookie("id".to_owned());
    let treatment = Some("treatment");
    vec![
        (header(), PREDICT, Some(("X-User", "t")), v1(""), treatment),
        (
            header(),
            PREDICT,
            Some(("x-user", "c")),
            v1(""),
            Some("control"),
        ),
        (header(), INFER, Some(("x-user", " t ")), v2(""), treatment),
        (header(), PREDICT, Some(("x-user", "")), v1(""), None),
        (header(), PREDICT, Some(("user", "t")), v1(""), None),
        (
            cookie,
            PREDICT,
            Some(("cookie", "a=b; id=t")),
            v1(""),
            treatment,
        ),
    ]
}

fn units_in_bodies() -> Vec<Case> {
    let parameter = || UnitSource::Parameter("user".to_owned());
    let field = || UnitSource::Field("who.id".to_owned());
    let input = || UnitSource::Input("X".to_owned());
    let feature = || UnitSource::Field("instances.0.0".to_owned());
    let treatment = Some("treatment");
    let given = v2(r#", "parameters": {"user": "t"}"#);
    vec![
        (
            field(),
            PREDICT,
            None,
            v1(r#", "who": {"id": "t"}"#),
            treatment,
        ),
        (field(), INFER, None, v2(r#", "who": {"id": 7}"#), treatment),
        (field(), PREDICT, None, v1(r#", "who": "t""#), None),
        (parameter(), INFER, None, given, treatment),
        (parameter(), INFER, Some(("user", "t")), v2(""), None),
        // A feature of the model is the unit: 7 however it is written.
        (
            input(),
            INFER,
            None,
            v2("").replace("[1, 2]}]", "[7.0, 2]}]"),
            treatment,
        ),
        (input(), PREDICT, None, v1(""), None),
        (feature(), PREDICT, None, rows("instances"), treatment),
        (feature(), PREDICT, None, rows("inputs"), treatment),
    ]
}

fn rows(name: &str) -> String {
    format!(r#"{{"{name}": [[7, 2], [1, 2]]}}"#)
}

fn v1(extra: &str) -> String {
    format!(r#"{{"instances": [[1, 2]]{extra}}}"#)
}

fn v2(extra: &str) -> String {
    format!(
        r#"{{"inputs": [{{"name": "X", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}}]{extra}}}"#
    )
}

#[test]
fn the_unit_is_where_the_experiment_says() {
    for (unit, path, header, body, expected) in
        units_in_heads().into_iter().chain(units_in_bodies())
    {
        let stage = start(&planned(unit));
        let answer = post(&stage, path, header.as_slice(), &body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        let experiment = expected.map(|_| "ab");
        // Who has no unit gets the control, and takes no part.
        let variant = expected.or(Some("control"));
        assert_eq!(
            told(&answer),
            (experiment, variant),
            "{path} {header:?} {body}"
        );
        if path == INFER {
            let model = match expected {
                Some("treatment") => "next",
                _ => "sum",
            };
            assert_eq!(json_of(&answer)["model_name"], model);
        }
    }
}

#[test]
fn grpc_takes_part_too() {
    let mut message = grpc::row("sum", [1.0, 2.0]);
    let stage = start(&planned(UnitSource::Parameter("user".to_owned())));
    let parameter = InferParameter {
        parameter_choice: Some(ParameterChoice::StringParam("t".to_owned())),
    };
    let answer = grpc::ask(&stage.server, "ModelInfer", &message);
    assert_eq!(answer.headers["x-coracle-variant"], "control");
    assert!(!answer.headers.contains_key("x-coracle-experiment"));
    message.parameters.insert("user".to_owned(), parameter);
    let answer = grpc::ask(&stage.server, "ModelInfer", &message);
    assert_eq!(answer.headers["x-coracle-variant"], "treatment");
    assert_eq!(answer.headers["x-coracle-experiment"], "ab");
    let response: ModelInferResponse = answer.message();
    assert_eq!(response.model_name, "next");
    let request_id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    let body = json!({"requestId": request_id, "metric": "clicked", "value": 1}).to_string();
    let answer = post(&stage, OUTCOMES, &[], &body);
    assert_eq!(
        (answer.status, json_of(&answer)["accepted"].as_u64()),
        (200, Some(1))
    );
}

#[test]
fn each_message_of_a_stream_has_an_id_of_its_own() {
    let stage = start(&planned(UnitSource::Parameter("user".to_owned())));
    let of = |unit: &str| {
        let mut message = grpc::row("sum", [1.0, 2.0]);
        let parameter_choice = Some(ParameterChoice::StringParam(unit.to_owned()));
        let parameter = InferParameter { parameter_choice };
        message.parameters.insert("user".to_owned(), parameter);
        frame(&message)
    };
    let body = ["c", "t"].map(of).concat();
    let path = "/inference.GRPCInferenceService/ModelStreamInfer";
    let answer = grpc::call(&stage.server, path, &[("x-request-id", "s")], body);
    assert_eq!(answer.status, 0, "{}", answer.message);
    // Each answer names its variant.
    let messages: Vec<ModelStreamInferResponse> = answer.messages();
    let text = |message: &ModelStreamInferResponse, name: &str| {
        let parameters = &message.infer_response.as_ref().unwrap().parameters;
        match parameters.get(name)?.parameter_choice.clone()? {
            ParameterChoice::StringParam(text) => Some(text),
            _ => None,
        }
    };
    let variants: Vec<Option<String>> = messages.iter().map(|one| text(one, "variant")).collect();
    assert_eq!(
        variants,
        ["control", "treatment"].map(|name| Some(name.to_owned()))
    );
    assert_eq!(text(&messages[0], "experiment").as_deref(), Some("ab"));
    // The value of each goes to its unit, and so to its variant.
    let outcome = |id: &str, value| json!({"requestId": id, "metric": "clicked", "value": value});
    let body = json!([outcome("s-1", 1), outcome("s-2", 0), outcome("s", 1)]).to_string();
    let found = json_of(&post(&stage, OUTCOMES, &[], &body));
    assert_eq!(
        (&found["accepted"], &found["rejected"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(found["errors"][0]["entry"], 2);
    let book = &stage.experiments.find(None, "ab")[0];
    assert_eq!(book.standing().n_overridden, 2);
    let mut files = std::fs::read_dir(stage.directory.path().join("ml")).unwrap();
    let path = files.next().unwrap().unwrap().path();
    let lines = std::fs::read_to_string(path).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let outcomes = lines.filter(|line: &Value| line["type"] == "outcome");
    let told: Vec<(Value, Value)> = outcomes
        .map(|line| (line["unit"].clone(), line["metrics"][0][1].clone()))
        .collect();
    assert_eq!(told, [(json!("c"), json!(1.0)), (json!("t"), json!(0.0))]);
}

#[test]
fn pages_of_other_sites_tell_no_outcomes() {
    let stage = start(&planned(UnitSource::Header("x-user".to_owned())));
    post(&stage, PREDICT, &[("x-user", "c")], ROWS);
    let body = r#"{"unit": "c", "metric": "clicked", "value": 1}"#;
    for (origin, status) in [("https://bad.example", 400), ("https://good.example", 200)] {
        let answer = post(&stage, OUTCOMES, &[("origin", origin)], body);
        assert_eq!(answer.status, status, "{origin}: {}", answer.body);
        let refusal = answer.body.contains("web pages may not change");
        assert_eq!(refusal, status != 200, "{}", answer.body);
    }
    assert_eq!(
        stage.experiments.find(None, "ab")[0].standing().n_outcomes,
        1
    );
}

#[test]
fn outcomes_are_taken_and_reported() {
    let mut planned = planned(UnitSource::Header("x-user".to_owned()));
    planned.overrides.clear();
    let stage = start(&planned);
    let mut of = BTreeMap::new();
    for index in 0..40 {
        let user = format!("u{index}");
        let answer = post(&stage, PREDICT, &[("x-user", &user)], ROWS);
        let (_, variant) = told(&answer);
        let request = answer.header("x-request-id").unwrap().to_owned();
        of.insert(user, (variant.unwrap().to_owned(), request));
    }
    // What fails is an exposure, too.
    let failed = post(
        &stage,
        PREDICT,
        &[("x-user", "u0")],
        r#"{"instances": [[1]]}"#,
    );
    assert_eq!(
        (failed.status, told(&failed).1),
        (400, Some(of["u0"].0.as_str()))
    );
    let (_, request) = &of["u1"];
    let entries = json!([
        {"unit": "u0", "metric": "clicked", "value": 0, "id": "a"},
        {"requestId": request, "metrics": {"clicked": true}, "id": "b"},
        {"requestId": request, "metrics": {"clicked": true}, "id": "b"},
        {"unit": "nobody", "metric": "clicked", "value": 1},
        {"unit": "u2", "metric": "clicked", "value": null},
    ]);
    let answer = post(&stage, OUTCOMES, &[], &entries.to_string());
    let found = json_of(&answer);
    assert_eq!(answer.status, 200);
    let counts = ["accepted", "duplicates", "rejected"].map(|name| found[name].as_u64());
    assert_eq!(counts, [Some(2), Some(1), Some(2)]);
    assert_eq!(found["errors"][0]["entry"], 3);
    assert_eq!(found["errors"][1]["entry"], 4);
    check_reports(&stage, &of);
    let metrics = send(stage.server.address, "GET", "/metrics", &[], b"").body;
    let n_control = of.values().filter(|(variant, _)| variant == "control");
    let n_control = n_control.count() + usize::from(of["u0"].0 == "control");
    for (name, labels, value) in [
        ("exposures_total", ",variant=\"control\"", n_control),
        ("exposures_total", ",variant=\"treatment\"", 41 - n_control),
        ("outcomes_total", "", 2),
        ("unassigned_total", "", 0),
        ("lost_total", "", 0),
        ("state", ",state=\"running\"", 1),
        ("state", ",state=\"settled\"", 0),
    ] {
        let of = "namespace=\"ml\",experiment=\"ab\"";
        let line = format!("coracle_experiment_{name}{{{of}{labels}}} {value}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

/// Bets are on units whose window has closed, and what is told after it is late. A window of no time has always closed.
#[test]
fn rates_of_closed_windows_name_their_method() {
    let mut planned = planned(UnitSource::Header("x-user".to_owned()));
    planned.overrides.clear();
    planned.metrics[0].window_ms = Some(0);
    planned.metrics[0].zero_if_missing = true;
    let stage = start(&planned);
    for index in 0..40 {
        let user = format!("u{index}");
        let answer = post(&stage, PREDICT, &[("x-user", &user)], ROWS);
        assert_eq!(answer.status, 200);
    }
    let body = r#"{"unit": "u0", "metric": "clicked", "value": 1, "id": "a"}"#;
    let counts = |answer: &Answer| {
        let found = json_of(answer);
        assert_eq!(answer.status, 200);
        ["accepted", "late", "duplicates"].map(|name| found[name].as_u64().unwrap())
    };
    assert_eq!(counts(&post(&stage, OUTCOMES, &[], body)), [0, 1, 0]);
    assert_eq!(counts(&post(&stage, OUTCOMES, &[], body)), [0, 0, 1]);
    let report = json_of(&send(
        stage.server.address,
        "GET",
        "/experiments/ab",
        &[],
        b"",
    ));
    let mut n_units = 0;
    for variant in report["variants"].as_array().unwrap() {
        let settled = &variant["metrics"]["clicked"]["settled"];
        assert_eq!(settled["method"], "betting, Beta mixture (anytime-valid)");
        assert_eq!(
            (&settled["mean"], &settled["low"]),
            (&json!(0.0), &json!(0.0))
        );
        assert_eq!(settled["units"], variant["units"]);
        n_units += settled["units"].as_u64().unwrap();
    }
    assert_eq!((n_units, &report["outcomes"]), (40, &json!(0)));
    let page = send(
        stage.server.address,
        "GET",
        "/experiments/ab/page",
        &[],
        b"",
    );
    assert!(
        page.body.contains("of units whose window has closed")
            && page.body.contains("betting, Beta mixture (anytime-valid)"),
        "{}",
        page.body
    );
}

/// Of units whose windows are open it is told how many there are, and nothing is compared.
#[test]
fn units_of_open_windows_are_told_apart() {
    let mut planned = planned(UnitSource::Header("x-user".to_owned()));
    planned.overrides.clear();
    planned.metrics[0].window_ms = Some(3_600_000);
    planned.metrics[0].zero_if_missing = true;
    let stage = start(&planned);
    for index in 0..10 {
        let user = format!("u{index}");
        let answer = post(&stage, PREDICT, &[("x-user", &user)], ROWS);
        assert_eq!(answer.status, 200);
    }
    let body = r#"{"unit": "u0", "metric": "clicked", "value": 1}"#;
    assert_eq!(post(&stage, OUTCOMES, &[], body).status, 200);
    let get = |path| send(stage.server.address, "GET", path, &[], b"");
    let report = json_of(&get("/experiments/ab"));
    let variants = report["variants"].as_array().unwrap();
    let of = |field: &str| {
        let metrics = variants
            .iter()
            .map(|variant| &variant["metrics"]["clicked"]);
        metrics.map(|metric| metric[field].as_u64().unwrap()).sum()
    };
    let found: [u64; 3] = ["open", "units", "missing"].map(of);
    assert_eq!(found, [10, 0, 0], "{report}");
    let why = report["verdict"]["why"].as_str().unwrap();
    assert!(
        why.ends_with("; 10 more units count once their windows have closed"),
        "{why}"
    );
    let page = get("/experiments/ab/page").body;
    assert!(
        page.contains("units is not compared yet: their windows are open"),
        "{page}"
    );
}

/// Checks that every way to the report tells each variant's units.
fn check_reports(stage: &Stage, of: &BTreeMap<String, (String, String)>) {
    // By name alone, in any namespace or in one.
    for path in [
        "/experiments/ab",
        "/experiments/ab?namespace=ml",
        "/serving/ml/sum/experiments/ab",
    ] {
        let report = json_of(&send(stage.server.address, "GET", path, &[], b""));
        let variants = report["variants"].as_array().unwrap();
        for variant in variants {
            let name = variant["name"].as_str().unwrap();
            let n_units = of.values().filter(|(of, _)| of == name).count();
            assert_eq!(
                variant["units"].as_u64(),
                u64::try_from(n_units).ok(),
                "{path}"
            );
            let clicked = &variant["metrics"]["clicked"];
            let sum = clicked["units"].as_u64().unwrap() + clicked["missing"].as_u64().unwrap();
            assert_eq!(Some(sum), variant["units"].as_u64());
        }
        assert_eq!(report["outcomes"], 2);
        assert_eq!(report["verdict"]["state"], "Wait");
    }
    let page = send(
        stage.server.address,
        "GET",
        "/experiments/ab/page",
        &[],
        b"",
    );
    assert!(page.status == 200 && page.body.contains("<h1>Experiment ml/ab</h1>"));
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let all = send(stage.server.address, "GET", "/experiments", &[], b"");
    assert_eq!(json_of(&all)["experiments"][0]["experiment"], "ab");
}

#[test]
fn what_cannot_be_taken_is_refused_with_a_reason() {
    let stage = start(&planned(UnitSource::Header("x-user".to_owned())));
    let good = r#"{"unit": "u", "metric": "clicked", "value": 1}"#;
    for (method, path, body, status, message) in [
        ("POST", OUTCOMES, "", 400, "the request body is empty"),
        ("POST", OUTCOMES, "{", 400, "not valid JSON"),
        (
            "POST",
            OUTCOMES,
            good,
            400,
            "has had no request in this experiment",
        ),
        (
            "POST",
            OUTCOMES,
            "[3, 4]",
            400,
            "none of the 2 outcomes can be taken; entry 0",
        ),
        (
            "POST",
            "/experiments/no/outcomes",
            good,
            404,
            "no experiment named no is in force",
        ),
        (
            "POST",
            "/experiments/ab/outcomes?namespace=no",
            good,
            404,
            "no experiment named ab",
        ),
        (
            "POST",
            "/rollouts/ru/outcomes",
            good,
            404,
            "no Rollout named ru is between revisions and takes outcomes; `kubectl get rollouts -A` lists all",
        ),
        ("GET", OUTCOMES, "", 405, "POST only"),
        ("POST", "/experiments/ab", good, 405, "GET, HEAD only"),
    ] {
        let answer = send(stage.server.address, method, path, &[JSON], body.as_bytes());
        assert_eq!(answer.status, status, "{path} {body}");
        let error = json_of(&answer)["error"].as_str().unwrap().to_owned();
        assert!(error.contains(message), "{path} {body}: {error}");
    }
}

#[test]
fn a_winner_takes_all_and_a_service_that_is_gone_takes_nothing() {
    let mut settled = planned(UnitSource::Header("x-user".to_owned()));
    settled.winner = Some("treatment".to_owned());
    let stage = start(&settled);
    for headers in [&[][..], &[("x-user", "c")]] {
        let answer = post(&stage, PREDICT, headers, ROWS);
        assert_eq!(told(&answer), (Some("ab"), Some("treatment")));
    }
    // Whom it knew, and takes now, is not analysed once it is resumed.
    let resumed = PlannedExperiment {
        overrides: BTreeMap::new(),
        ..planned(UnitSource::Header("x-user".to_owned()))
    };
    let book = stage.experiments.open("ml", &resumed);
    book.expose(Exposure {
        unit: "c".to_owned(),
        request_id: "r".to_owned(),
        variant: "control".to_owned(),
        revision: "sum".to_owned(),
        end: ExposureEnd::Answered,
        seconds: 0.1,
        by: By::Hash,
        propensity: None,
        features: Vec::new(),
        at: 1,
    });
    let n_mixed = || {
        // What is told of somebody is taken after what came before.
        let body = r#"{"unit": "c", "metric": "clicked", "value": 0}"#;
        assert_eq!(post(&stage, OUTCOMES, &[], body).status, 200);
        book.standing().n_mixed
    };
    assert_eq!(n_mixed(), 0);
    post(&stage, PREDICT, &[("x-user", "c")], ROWS);
    assert_eq!(n_mixed(), 1);
    let mut gone = planned(UnitSource::Header("x-user".to_owned()));
    gone.variants[1].target = VariantTarget::Service("gone".to_owned());
    let stage = start(&gone);
    let answer = post(&stage, PREDICT, &[("x-user", "t")], ROWS);
    assert_eq!((answer.status, told(&answer)), (200, (None, None)));
}

/// Lets `leave` ask the control for `u` and go once it runs; that is an exposure, and no error.
fn while_it_runs(leave: impl FnOnce(&Running)) {
    let mut planned = planned(UnitSource::Header("x-user".to_owned()));
    planned.variants[1].weight = 0;
    planned.overrides.clear();
    let stage = start(&planned);
    leave(&stage.server);
    // What is told of the user comes after, to whom an exposure is known.
    let body = r#"{"unit": "u", "metric": "clicked", "value": 0}"#;
    let answer = post(&stage, OUTCOMES, &[], body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    stage.server.gate.send(()).unwrap();
    let standing = stage.experiments.find(None, "ab")[0].standing();
    let control = &standing.variants[0];
    assert_eq!((control.units, control.requests, control.errors), (1, 1, 0));
}

#[test]
fn a_caller_that_leaves_over_http_was_shown_its_variant() {
    while_it_runs(|server| {
        let mut stream = connect(server.address);
        let body = format!(r#"{{"instances": [[1000, 0]{}]}}"#, ", [1, 2]".repeat(99));
        let headers = [JSON, ("x-user", "u")];
        write_request(&mut stream, "POST", PREDICT, &headers, body.as_bytes());
        server.entered.recv().unwrap();
        leave(stream);
        wait_for_loops(server);
    });
}

#[test]
fn a_call_over_grpc_that_is_cancelled_was_shown_its_variant() {
    while_it_runs(|server| {
        let headers = [("x-user", "u")];
        cancel_over_grpc(server, &headers, || server.entered.recv().unwrap());
    });
}
