//! What is done where a program fails: what stands in for it, further tries, breakers; and programs that stand in for others.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_base::SystemClock;
use coracle_gateway::Limits;
use coracle_protocol::compression::{Encoding, compress};
use coracle_protocol::grpc::inference::{ModelInferResponse, ParameterChoice};
use coracle_serving::{
    Backends, BulkheadSettings, FallbackMemory, FallbackSettings, HedgeAfter, ModelTable,
    RevisionId, RevisionLog, Route, RouteTarget, ServedModel, ServiceId,
};

use crate::client::{Answer, connect, send};
use crate::fallback::magnitude;
use crate::fixture::{Running, config, start_with};
use crate::forward::{backends, nobody};
use crate::grpc;
use crate::routes::JSON;
use crate::upstream::Telling;
use crate::upstream_grpc::GrpcUpstream;

const V1: &str = "/serving/n/sum/v1/models/sum:predict";
const V2: &str = "/serving/n/sum/v2/models/sum/infer";
/// On these numbers the model `sum` panics, and `magnitude` answers 4.
const ROW: &[u8] = br#"{"instances": [[-5, 1]]}"#;
const TENSOR: &[u8] =
    br#"{"id": "x", "inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [-5, 1]}]}"#;

pub(crate) fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "n".to_owned(),
        name: name.to_owned(),
    }
}

/// A model that processes answer for.
pub(crate) fn program(name: &str, backends: &Arc<Backends>) -> ServedModel {
    let revision = RevisionId {
        namespace: "n".to_owned(),
        name: format!("{name}-1"),
    };
    let log = RevisionLog::none(Arc::new(SystemClock::new()));
    ServedModel::unloaded(name.to_owned(), 2)
        .with_revision(&revision, log, Box::new(|| ()))
        .with_backends(Arc::clone(backends))
}

/// A server of these services.
pub(crate) fn serve(limits: Limits, services: Vec<(&'static str, ServedModel)>) -> Running {
    start_with(config(limits), |_| {
        let services = services.into_iter();
        let routes =
            services.map(|(name, model)| (id(name), Arc::new(Route::single(Arc::new(model)))));
        ModelTable::from_routes(routes.collect())
    })
}

/// The program `sum`, with these rules, and the model `next`.
fn start(addresses: &[SocketAddr], settings: &FallbackSettings) -> Running {
    let sum = program("sum", &backends(addresses));
    sum.set_fallback(Some(settings));
    serve(
        Limits::default(),
        vec![("sum", sum), ("next", magnitude("next"))],
    )
}

fn by_next() -> FallbackSettings {
    FallbackSettings {
        service: Some(id("next")),
        ..FallbackSettings::default()
    }
}

fn ask(server: &Running, path: &str, body: &[u8]) -> Answer {
    send(server.address, "POST", path, &[JSON], body)
}

fn metric(server: &Running, name: &str) -> u64 {
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    let of_sum = format!("{name}{{model=\"sum\",namespace=\"n\",revision=\"sum-1\"}} ");
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(&of_sum));
    found
        .unwrap_or_else(|| panic!("{name}: {text}"))
        .parse()
        .unwrap()
}

/// Neither columns nor rows of a program's answers are known: those of the request and the value are.
#[test]
fn a_default_prediction_stands_in_for_a_program() {
    let failing = Telling::always(500, "{}");
    let (hangs, _listener) = silent();
    let settings = FallbackSettings {
        value: Some(r#"{"label": "no"}"#.to_owned()),
        timeout: Some(Duration::from_millis(50)),
        ..FallbackSettings::default()
    };
    for addresses in [vec![nobody()], vec![failing.address], vec![hangs], vec![]] {
        let server = start(&addresses, &settings);
        let answer = ask(&server, V1, br#"{"instances": [[1], [2]]}"#);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"predictions":["no","no"]}"#),
            "{addresses:?}"
        );
        assert_eq!(answer.header("x-coracle-fallback"), Some("constant"));
        let answer = ask(&server, V2, TENSOR);
        let found: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(found["parameters"]["fallback"], "constant");
        assert_eq!(found["outputs"][0]["data"], serde_json::json!(["no"]));
        assert_eq!(metric(&server, "coracle_fallbacks_total"), 2);
    }
    // Another service goes before it, and what it does not answer either it does.
    let server = start(
        &[failing.address],
        &FallbackSettings {
            service: Some(id("next")),
            ..settings.clone()
        },
    );
    assert_eq!(ask(&server, V1, ROW).body, r#"{"predictions":[4.0]}"#);
    let answer = ask(&server, V1, br#"{"instances": [["a"]]}"#);
    assert_eq!(answer.body, r#"{"predictions":["no"]}"#);
    // Of what is no request of theirs the program's own answer is given.
    let answer = ask(&server, V1, b"3");
    assert_eq!((answer.status, answer.body.as_str()), (500, "{}"));
}

/// A process that takes connections, and says nothing.
fn silent() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener)
}

#[test]
fn a_program_that_does_not_answer_is_stood_in_for() {
    let (hangs, _listener) = silent();
    let broken = Telling::start(|_, _| None);
    let failing = Telling::always(500, "{}");
    let late = FallbackSettings {
        timeout: Some(Duration::from_millis(50)),
        ..by_next()
    };
    for (addresses, settings) in [
        // Nobody listens: that is known at once, whatever time there is.
        (vec![nobody()], by_next()),
        (vec![nobody(), nobody()], by_next()),
        (vec![broken.address], by_next()),
        (vec![failing.address], by_next()),
        // None is there, or up, yet.
        (vec![], late.clone()),
        (vec![hangs], late),
    ] {
        let server = start(&addresses, &settings);
        let answer = ask(&server, V1, ROW);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"predictions":[4.0]}"#),
            "{addresses:?}"
        );
        assert_eq!(answer.header("x-coracle-fallback"), Some("service"));
        let answer = ask(&server, V2, TENSOR);
        let found: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(found["parameters"]["fallback"], "service");
        assert_eq!(found["outputs"][0]["data"][0], 4.0);
        assert_eq!(metric(&server, "coracle_fallbacks_total"), 2);
    }
    // What is no prediction is not stood in for.
    let server = start(&[broken.address], &by_next());
    assert_eq!(ask(&server, "/serving/n/sum/train", b"{}").status, 502);
    // What the caller did wrong stays wrong.
    let picky = Telling::always(422, r#"{"detail": "no"}"#);
    let server = start(&[picky.address], &by_next());
    let answer = ask(&server, V1, ROW);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (422, r#"{"detail": "no"}"#)
    );
    // And what others cannot answer either is what the program said.
    let server = start(&[failing.address], &by_next());
    let answer = ask(&server, V1, br#"{"instances": [["a"]]}"#);
    assert_eq!((answer.status, answer.body.as_str()), (500, "{}"));
}

/// Nor is one cut by the time after which a service that has been deleted would answer.
#[test]
fn a_program_that_nobody_stands_in_for_has_the_time_of_its_caller() {
    let (hangs, _listener) = silent();
    let late = FallbackSettings {
        service: Some(id("gone")),
        timeout: Some(Duration::from_millis(50)),
        ..FallbackSettings::default()
    };
    let server = start(&[hangs], &late);
    let headers = [JSON, ("x-request-timeout", "350ms")];
    let answer = send(server.address, "POST", V1, &headers, ROW);
    assert_eq!(answer.status, 504, "{answer:?}");
    let told = &answer.body;
    assert!(
        told.contains("no answer within ") && !told.contains("within 50ms"),
        "{answer:?}"
    );
}

#[test]
fn over_grpc_a_program_is_stood_in_for_and_the_answer_says_so() {
    let dies = GrpcUpstream::always("Dies");
    let absent = GrpcUpstream::always("IsAbsent");
    for address in [nobody(), dies.address, absent.address] {
        let server = start(&[address], &by_next());
        let answer = grpc::ask(&server, "ModelInfer", &grpc::row("sum", [-5.0, 1.0]));
        if address == absent.address {
            // It knows no such method: so would a caller be told.
            assert_eq!(answer.headers.get("x-coracle-fallback"), None);
            continue;
        }
        assert_eq!(answer.headers["x-coracle-fallback"], "service");
        let message = answer.message::<ModelInferResponse>();
        let name = ParameterChoice::StringParam("service".to_owned());
        assert_eq!(message.parameters["fallback"].parameter_choice, Some(name));
        assert_eq!(
            message.raw_output_contents,
            [4.0_f64.to_le_bytes().to_vec()]
        );
        assert_eq!(metric(&server, "coracle_fallbacks_total"), 1);
    }
}

/// A program stands in for a model that is read here, and for another program.
#[test]
fn a_program_stands_in_for_others() {
    let stands_in = Telling::start(|_, sent| {
        let path = sent.split(' ').nth(1)?;
        Some(match path {
            "/v1/models/next:predict" => (200, r#"{"predictions": [40]}"#.to_owned()),
            "/v1/models/next:predict?method=twice" => {
                (200, r#"{"predictions": [80]}"#.to_owned())
            }
            "/v2/models/next/infer" => (
                200,
                r#"{"model_name":"next","parameters":{"own":1},"outputs":[{"name":"y","datatype":"FP64","shape":[1],"data":[40.50]}]}"#.to_owned(),
            ),
            _ => (404, "{}".to_owned()),
        })
    });
    let next = || program("next", &backends(&[stands_in.address]));
    let sum = || {
        let (sum, _entered, _gate) = crate::fixture::sum_model();
        let phases = coracle_serving::LoadPhases::default();
        let loaded = coracle_serving::LoadedModel::new("sum".to_owned(), Box::new(sum), phases);
        ServedModel::new(loaded, 2)
    };
    for fails in [sum(), program("sum", &backends(&[nobody()]))] {
        fails.set_fallback(Some(&by_next()));
        let server = serve(Limits::default(), vec![("sum", fails), ("next", next())]);
        let answer = ask(&server, V1, ROW);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"predictions": [40]}"#)
        );
        assert_eq!(answer.header("x-coracle-fallback"), Some("service"));
        let answer = ask(&server, &format!("{V1}?method=twice"), ROW);
        assert_eq!(answer.body, r#"{"predictions": [80]}"#);
        let answer = ask(&server, V2, TENSOR);
        assert_eq!(
            answer.body,
            r#"{"parameters":{"fallback":"service","own":1},"model_name":"next","outputs":[{"name":"y","datatype":"FP64","shape":[1],"data":[40.50]}]}"#
        );
        // It counts among its own requests.
        let text = send(server.address, "GET", "/metrics", &[], b"").body;
        let line = r#"coracle_requests_total{model="next",namespace="n",revision="next-1",protocol="v1",code="ok"} 2"#;
        assert!(text.lines().any(|found| found == line), "{text}");
    }
    // Where it fails, too, the failure is that of the one that was asked.
    let sum = program("sum", &backends(&[nobody()]));
    sum.set_fallback(Some(&by_next()));
    let gone = program("next", &backends(&[nobody()]));
    let server = serve(Limits::default(), vec![("sum", sum), ("next", gone)]);
    let answer = ask(&server, V1, ROW);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        answer.body.contains("the process of 'sum'"),
        "{}",
        answer.body
    );
}

#[test]
fn a_program_stands_in_over_grpc() {
    let echo = GrpcUpstream::start();
    let next = program("next", &backends(&[echo.address]));
    let sum = program("sum", &backends(&[nobody()]));
    sum.set_fallback(Some(&by_next()));
    let server = serve(Limits::default(), vec![("sum", sum), ("next", next)]);
    let answer = grpc::ask(&server, "ModelInfer", &grpc::row("sum", [-5.0, 1.0]));
    assert_eq!(answer.headers["x-coracle-fallback"], "service");
    let message = answer.message::<ModelInferResponse>();
    // It is asked by its own name.
    assert_eq!(message.model_name, "next");
    let name = ParameterChoice::StringParam("service".to_owned());
    assert_eq!(message.parameters["fallback"].parameter_choice, Some(name));
}

/// Tried again is what no process has begun with, at another one if there is one.
#[test]
fn what_no_process_began_with_is_tried_again() {
    let retries = |n| FallbackSettings {
        retries: n,
        ..FallbackSettings::default()
    };
    let (busy, well) = (Telling::always(503, "{}"), Telling::always(200, "[1]"));
    let server = start(&[busy.address, well.address], &retries(1));
    for _ in 0..10 {
        let answer = ask(&server, V1, ROW);
        assert_eq!((answer.status, answer.body.as_str()), (200, "[1]"));
    }
    let n_busy = busy.n_asked();
    assert!(n_busy >= 5 && well.n_asked() == 10, "{n_busy}");
    assert_eq!(metric(&server, "coracle_retries_total"), n_busy as u64);
    // As often as is said, and no more; each of them is one request to whoever counts.
    let server = start(&[busy.address], &retries(3));
    assert_eq!(ask(&server, V2, TENSOR).status, 503);
    assert_eq!(
        (
            busy.n_asked() - n_busy,
            metric(&server, "coracle_retries_total")
        ),
        (4, 3)
    );
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    let line = r#"coracle_requests_total{model="sum",namespace="n",revision="sum-1",protocol="v2",code="unavailable"} 1"#;
    assert!(text.lines().any(|found| found == line), "{text}");
    // What it began with may be what it died of; and what is no prediction may have changed something.
    for (process, path, status) in [
        (Telling::always(500, "{}"), V1, 500),
        (Telling::start(|_, _| None), V1, 502),
        (Telling::always(429, "{}"), V1, 429),
        (Telling::always(503, "{}"), "/serving/n/sum/train", 503),
    ] {
        let server = start(&[process.address], &retries(3));
        assert_eq!(ask(&server, path, ROW).status, status);
        assert_eq!(process.n_asked(), 1, "{path} {status}");
        assert_eq!(metric(&server, "coracle_retries_total"), 0);
    }
}

/// Where all fails, retries are a part of the requests, and so do not become the load.
#[test]
fn tries_have_a_budget() {
    let busy = Telling::always(503, "{}");
    let settings = FallbackSettings {
        retries: 5,
        ..FallbackSettings::default()
    };
    let server = start(&[busy.address], &settings);
    for _ in 0..200 {
        assert_eq!(ask(&server, V1, ROW).status, 503);
    }
    // A fifth of them and ten a second, of ten seconds, and not five times as many; the window may have moved on meanwhile.
    let n_retries = metric(&server, "coracle_retries_total");
    assert!((100..700).contains(&n_retries), "{n_retries}");
    assert_eq!(busy.n_asked() as u64, 200 + n_retries);
}

#[test]
fn an_open_breaker_spares_a_program() {
    let failing = Telling::always(500, "{}");
    let breaker = FallbackSettings {
        breaker_failures: Some(3),
        ..FallbackSettings::default()
    };
    let server = start(&[failing.address], &breaker);
    for _ in 0..3 {
        assert_eq!(ask(&server, V1, ROW).status, 500);
    }
    let answer = ask(&server, V1, ROW);
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("failed or was slow again and again"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(failing.n_asked(), 3);
    // Who has somebody to stand in hears of none of it.
    let breaker = FallbackSettings {
        breaker_failures: Some(3),
        ..by_next()
    };
    let server = start(&[failing.address], &breaker);
    for _ in 0..10 {
        assert_eq!(ask(&server, V1, ROW).body, r#"{"predictions":[4.0]}"#);
    }
    assert_eq!(failing.n_asked(), 6);
    // Wrong requests, and those that it turns away, open none.
    for status in [400, 429] {
        let process = Telling::always(status, "{}");
        let server = start(&[process.address], &breaker);
        for _ in 0..10 {
            ask(&server, V1, ROW);
        }
        assert_eq!(process.n_asked(), 10, "{status}");
    }
}

/// The place of a request that failed is free for the revision that answers in its place.
/// The process has nothing to answer while its caller still sends.
#[test]
fn how_long_a_caller_sends_opens_no_breaker() {
    let well = Telling::always(200, "[1]");
    let settings = FallbackSettings {
        timeout: Some(Duration::from_millis(100)),
        breaker_failures: Some(2),
        ..FallbackSettings::default()
    };
    let server = start(&[well.address], &settings);
    for _ in 0..4 {
        let mut stream = connect(server.address);
        // Smaller ones are waited for before anybody is asked to answer.
        let head = format!(
            "POST {V1} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 200000\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 504");
    }
    let answer = ask(&server, V1, ROW);
    assert_eq!((answer.status, answer.body.as_str()), (200, "[1]"));
}

/// One process is slow and then has no time, the other one dies of the request: it is not put to further ones.
#[test]
fn what_a_second_process_died_of_is_not_tried_again() {
    let (tell, told) = channel();
    let told = Arc::new(Mutex::new(told));
    let waits = Arc::clone(&told);
    let slow = Telling::start(move |_, _| {
        let _asked = waits.lock().unwrap().recv();
        Some((503, "{}".to_owned()))
    });
    let dies = Telling::start(move |_, _| {
        let _told = tell.send(());
        None
    });
    let settings = FallbackSettings {
        retries: 3,
        hedge: Some(HedgeAfter::Time(Duration::from_millis(1))),
        ..FallbackSettings::default()
    };
    let server = start(&[slow.address, dies.address], &settings);
    for _ in 0..2 {
        // The one that dies may have been asked first, and alone.
        while told.lock().unwrap().try_recv().is_ok() {}
        assert_eq!(ask(&server, V1, ROW).status, 502);
    }
    let n_retries = metric(&server, "coracle_retries_total");
    assert_eq!((dies.n_asked(), n_retries), (2, 0));
    assert!(slow.n_asked() > 0);
}

#[test]
fn a_revision_stands_in_for_a_program_within_one_bulkhead() {
    let failing = Telling::always(500, "{}");
    let server = start_with(config(Limits::default()), |_| {
        let stable = Arc::new(magnitude("sum"));
        let canary = Arc::new(program("sum", &backends(&[failing.address])));
        let settings = FallbackSettings {
            revision: Some("stable".to_owned()),
            bulkhead: Some(BulkheadSettings {
                places: 1,
                queue: 0,
            }),
            ..FallbackSettings::default()
        };
        let memory = FallbackMemory::of(Some(&settings), [].into_iter());
        for model in [&stable, &canary] {
            model.share_fallback(Some(&settings), &memory);
            model.fallback().unwrap().set_revision(Some(&stable));
        }
        let targets = [(stable, 0), (canary, 100)];
        let targets = targets.map(|(model, percent)| RouteTarget {
            model,
            percent,
            tags: Vec::new(),
        });
        let route = Route::try_new(targets.into(), None).unwrap();
        ModelTable::from_routes([(id("sum"), Arc::new(route))].into())
    });
    for _ in 0..3 {
        let answer = ask(&server, V1, ROW);
        assert_eq!(answer.body, r#"{"predictions":[4.0]}"#, "{answer:?}");
        assert_eq!(answer.header("x-coracle-fallback"), Some("revision"));
    }
    assert_eq!(failing.n_asked(), 3);
}

/// How often a request to `sum` was turned away for this reason.
fn turned_away(server: &Running, reason: &str) -> u64 {
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    let mut lines = text.lines();
    let line = lines.find(|line| {
        let labels = line.strip_prefix("coracle_rejections_total");
        labels.is_some_and(|rest| rest.contains("\"sum\"") && rest.contains(reason))
    });
    let number = line.and_then(|line| line.rsplit(' ').next());
    number.map_or(0, |number| number.parse().unwrap())
}

/// A canary that dies at each request held its users until the next process was there.
#[test]
fn a_program_whose_process_ended_is_stood_in_for_at_once() {
    let serve_sum = |backends: &Arc<Backends>, settings: &FallbackSettings| {
        let sum = program("sum", backends);
        sum.set_fallback(Some(settings));
        serve(
            Limits::default(),
            vec![("sum", sum), ("next", magnitude("next"))],
        )
    };
    let is_by_next = |answer: Answer| {
        assert_eq!(answer.body, r#"{"predictions":[4.0]}"#, "{answer:?}");
        assert_eq!(answer.header("x-coracle-fallback"), Some("service"));
    };
    let lost = backends(&[]);
    lost.set_lost(true);
    let server = serve_sum(&lost, &by_next());
    is_by_next(ask(&server, V1, ROW));
    assert_eq!(turned_away(&server, "not_loaded"), 1);
    assert_eq!(turned_away(&server, "deadline"), 0);
    assert_eq!(metric(&server, "coracle_fallbacks_total"), 1);
    // One that starts for the first time is waited for, as long as its service says, and until it has ended.
    let starting = backends(&[]);
    let settings = FallbackSettings {
        timeout: Some(Duration::from_millis(50)),
        ..by_next()
    };
    let server = serve_sum(&starting, &settings);
    is_by_next(ask(&server, V1, ROW));
    assert_eq!(turned_away(&server, "deadline"), 1);
    let server = serve_sum(&starting, &by_next());
    let address = server.address;
    std::thread::scope(|scope| {
        let asked = scope.spawn(move || send(address, "POST", V1, &[JSON], ROW));
        let text = || send(address, "GET", "/metrics", &[], b"").body;
        while !text().contains(
            "coracle_requests_waiting{model=\"sum\",namespace=\"n\",revision=\"sum-1\"} 1",
        ) {
            std::thread::yield_now();
        }
        starting.set_lost(true);
        starting.set(&[]);
        is_by_next(asked.join().unwrap());
    });
    assert_eq!(turned_away(&server, "not_loaded"), 1);
}

#[test]
fn a_service_that_is_not_up_yet_is_stood_in_for_and_is_not_ready() {
    let absent = || ServedModel::absent("sum".to_owned(), 2, "no revision is up yet");
    let sum = absent();
    sum.set_fallback(Some(&by_next()));
    let services = vec![("sum", sum), ("next", magnitude("next"))];
    let server = serve(Limits::default(), services);
    for path in [V1, "/v1/models/sum:predict"] {
        let answer = ask(&server, path, ROW);
        assert_eq!(answer.body, r#"{"predictions":[4.0]}"#);
        assert_eq!(answer.header("x-coracle-fallback"), Some("service"));
    }
    let ready = |name: &str| {
        let path = format!("/serving/n/{name}/v2/models/{name}/ready");
        send(server.address, "GET", &path, &[], b"").status
    };
    assert_eq!((ready("sum"), ready("next")), (503, 200));
    // Where nothing stands in that is there, it says why.
    let sum = absent();
    sum.set_fallback(Some(&by_next()));
    let server = serve(Limits::default(), vec![("sum", sum)]);
    let answer = ask(&server, V1, ROW);
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("no revision is up yet"), "{answer:?}");
}

/// What stands in reads what was sent, however it came.
#[test]
fn a_compressed_request_is_stood_in_for() {
    let mut body = Vec::new();
    compress(Encoding::Gzip, ROW, &mut body).unwrap();
    let server = start(&[nobody()], &by_next());
    let headers = [JSON, ("content-encoding", "gzip")];
    let answer = send(server.address, "POST", V1, &headers, &body);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"predictions":[4.0]}"#)
    );
}

#[test]
fn a_table_of_csv_is_stood_in_for() {
    let failing = Telling::always(500, "{}");
    let server = start(&[failing.address], &by_next());
    let answer = send(
        server.address,
        "POST",
        "/serving/n/sum/invocations",
        &[("content-type", "text/csv")],
        b"a,b\n-5,1\n",
    );
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"predictions":[4.0]}"#)
    );
    assert_eq!(answer.header("x-coracle-fallback"), Some("service"));
}
