//! Bulkheads: one service's requests take no more places than it says, whoever else is asked meanwhile.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use coracle_gateway::Limits;
use coracle_serving::{BulkheadSettings, FallbackSettings, ModelTable, Route};

use crate::client::{connect, read_answer, send, write_request};
use crate::fallback::magnitude;
use crate::fixture::{Running, config, start_with};
use crate::forward::backends;
use crate::guarded::{id, program, serve};
use crate::routes::JSON;
use crate::upstream::Upstream;

const SLOW: &str = "/serving/n/sum/v1/models/sum:predict";
const OTHER: &str = "/serving/n/next/v1/models/next:predict";
/// The model `sum` waits at this sum until it is let go.
const WAITS: &[u8] = br#"{"instances": [[999, 1]]}"#;
const ROW: &[u8] = br#"{"instances": [[1, 2]]}"#;

fn settings(places: u32, queue: u32) -> FallbackSettings {
    FallbackSettings {
        bulkhead: Some(BulkheadSettings { places, queue }),
        ..FallbackSettings::default()
    }
}

/// The models `sum`, with these rules, and `next`; both are costly, so that threads run them: two, of which one is for each.
fn start(settings: &FallbackSettings) -> Running {
    start_with(config(Limits::default()), |sum| {
        sum.set_fallback(Some(settings));
        let next = magnitude("next");
        for model in [&sum, &next] {
            model
                .cost()
                .record_decode(WAITS.len(), Duration::from_secs(1));
        }
        let routes = [("sum", sum), ("next", next)];
        let routes =
            routes.map(|(name, model)| (id(name), Arc::new(Route::single(Arc::new(model)))));
        ModelTable::from_routes(routes.into())
    })
}

fn status(server: &Running, path: &str, body: &[u8]) -> u16 {
    send(server.address, "POST", path, &[JSON], body).status
}

#[test]
fn a_slow_service_leaves_the_places_of_others() {
    let server = start(&settings(1, 1));
    let mut running = connect(server.address);
    write_request(&mut running, "POST", SLOW, &[JSON], WAITS);
    server.entered.recv().unwrap();
    // One is in work, one may wait, no more: of two that come now one is turned away at once.
    let (told, answers) = channel();
    for _ in 0..2 {
        let (told, address) = (told.clone(), server.address);
        std::thread::spawn(move || {
            let answer = send(address, "POST", SLOW, &[JSON], ROW);
            told.send(answer).unwrap();
        });
    }
    let refused = answers.recv().unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("bulkhead"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // The other service has its answers all the while.
    for _ in 0..20 {
        assert_eq!(status(&server, OTHER, ROW), 200);
    }
    server.gate.send(()).unwrap();
    assert_eq!(read_answer(&mut running, false).unwrap().status, 200);
    assert_eq!(answers.recv().unwrap().status, 200);
    while status(&server, SLOW, ROW) != 200 {
        std::thread::yield_now();
    }
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    assert!(text.contains("reason=\"queue_full\""), "{text}");
}

/// Who is turned away is answered by what stands in, and says nothing of the model.
#[test]
fn what_stands_in_answers_whom_a_bulkhead_turns_away() {
    let server = start(&FallbackSettings {
        service: Some(id("next")),
        breaker_failures: Some(1),
        retries: 3,
        ..settings(1, 0)
    });
    let mut running = connect(server.address);
    write_request(&mut running, "POST", SLOW, &[JSON], WAITS);
    server.entered.recv().unwrap();
    for _ in 0..5 {
        let answer = send(server.address, "POST", SLOW, &[JSON], ROW);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-coracle-fallback"), Some("service"));
    }
    server.gate.send(()).unwrap();
    assert_eq!(read_answer(&mut running, false).unwrap().status, 200);
    // Its place is free a moment after its answer is there.
    loop {
        let answer = send(server.address, "POST", SLOW, &[JSON], ROW);
        assert_eq!(answer.status, 200);
        if answer.header("x-coracle-fallback").is_none() {
            break;
        }
    }
}

/// A program's request holds its place until its answer has ended.
#[test]
fn a_program_has_a_bulkhead_too() {
    let upstream = Upstream::start();
    let sum = program("sum", &backends(&[upstream.address]));
    sum.set_fallback(Some(&settings(1, 0)));
    let other = program("next", &backends(&[upstream.address]));
    let server = serve(Limits::default(), vec![("sum", sum), ("next", other)]);
    let mut streaming = connect(server.address);
    write_request(&mut streaming, "GET", "/serving/n/sum/stream", &[], b"");
    // Its head is there.
    let mut first = [0];
    std::io::Read::read_exact(&mut streaming, &mut first).unwrap();
    assert_eq!(status(&server, SLOW, ROW), 503);
    assert_eq!(status(&server, OTHER, ROW), 203);
    upstream.gate.send(()).unwrap();
    // Once that has come to its end, the place is free.
    let mut rest = Vec::new();
    while !rest.ends_with(b"0\r\n\r\n") {
        std::io::Read::read_exact(&mut streaming, &mut first).unwrap();
        rest.push(first[0]);
    }
    while status(&server, SLOW, ROW) != 203 {
        std::thread::yield_now();
    }
}
