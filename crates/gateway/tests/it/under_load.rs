//! Retries, second attempts, breakers, bulkheads and what stands in, all at once, for programs that fail while many ask: nobody notices where that is promised.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coracle_gateway::Limits;
use coracle_serving::{BulkheadSettings, FallbackSettings, HedgeAfter};

use crate::client::{Answer, send};
use crate::fallback::magnitude;
use crate::fixture::Running;
use crate::forward::{backends, nobody};
use crate::guarded::{id, program, serve};
use crate::routes::JSON;
use crate::upstream::Telling;

const V1: &str = "/serving/n/sum/v1/models/sum:predict";
const ROW: &[u8] = br#"{"instances": [[-5, 1]]}"#;
/// What the program answers, and what stands in for it.
const OWN: &str = r#"{"predictions": [-4]}"#;
const OTHERS: &str = r#"{"predictions":[4.0]}"#;
const N_CALLERS: usize = 16;
const N_EACH: usize = 50;

fn ask(server: SocketAddr) -> Answer {
    send(server, "POST", V1, &[JSON], ROW)
}

/// Has many ask at the same time; returns how often which answer came: its status, who gave it, its body.
fn ask_all(server: SocketAddr) -> BTreeMap<(u16, Option<String>, String), usize> {
    let mut counts = BTreeMap::new();
    let answers = std::thread::scope(|scope| {
        let asking = || {
            let answers = (0..N_EACH).map(|_| {
                let answer = ask(server);
                let by = answer.header("x-coracle-fallback").map(str::to_owned);
                (answer.status, by, answer.body)
            });
            answers.collect::<Vec<_>>()
        };
        let callers: Vec<_> = (0..N_CALLERS).map(|_| scope.spawn(asking)).collect();
        let answers = callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap());
        answers.collect::<Vec<_>>()
    });
    for answer in answers {
        *counts.entry(answer).or_default() += 1;
    }
    counts
}

/// Returns a counter of the program's, summed over what else it is told apart by.
fn metric(server: &Running, name: &str) -> usize {
    let text = send(server.address, "GET", "/metrics", &[], b"").body;
    let start = format!("{name}{{model=\"sum\",namespace=\"n\",revision=\"sum-1\"");
    let lines = text.lines().filter(|line| line.starts_with(&start));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
    values.sum()
}

/// Without anything that stands in: what a tenth of the requests meets is made good by other processes, within the budget.
#[test]
fn retries_and_second_attempts_hide_processes_that_fail_a_few_requests() {
    let n_hung = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&n_hung);
    let own = || Some((200, OWN.to_owned()));
    let well = Telling::always(200, OWN);
    let busy = Telling::start(move |n, _| match n % 5 {
        4 => Some((503, "{}".to_owned())),
        _ => own(),
    });
    let hangs = Telling::start(move |n, _| match n % 25 {
        24 => {
            counted.fetch_add(1, Ordering::SeqCst);
            Some((0, String::new()))
        }
        _ => own(),
    });
    let all = [well.address, busy.address, hangs.address, nobody()];
    let sum = program("sum", &backends(&all));
    sum.set_fallback(Some(&FallbackSettings {
        retries: 3,
        hedge: Some(HedgeAfter::Time(Duration::from_millis(250))),
        breaker_failures: Some(20),
        ..FallbackSettings::default()
    }));
    let server = serve(Limits::default(), vec![("sum", sum)]);
    let n_all = N_CALLERS * N_EACH;
    let answers = ask_all(server.address);
    let expected = [((200, None, OWN.to_owned()), n_all)];
    assert_eq!(answers, expected.into(), "nobody notices");
    let n_hung = n_hung.load(Ordering::SeqCst);
    assert!(n_hung > 0 && metric(&server, "coracle_hedges_won_total") >= n_hung);
    assert!(metric(&server, "coracle_retries_total") > 0);
    assert_eq!(metric(&server, "coracle_requests_total"), n_all);
    assert_eq!(metric(&server, "coracle_requests_in_flight"), 0);
}

/// Where all processes fail, each in its way, something stands in for all of them, the breaker spares them, and once they are well they answer again.
#[test]
fn nobody_notices_programs_that_fail_where_something_stands_in() {
    let is_well = Arc::new(AtomicBool::new(false));
    let failing = |how: fn(usize) -> Option<(u16, String)>| {
        let is_well = Arc::clone(&is_well);
        Telling::start(move |n, _| match is_well.load(Ordering::SeqCst) {
            true => Some((200, OWN.to_owned())),
            false => how(n),
        })
    };
    let processes = [
        failing(|_| Some((503, "{}".to_owned()))),
        failing(|_| Some((500, "{}".to_owned()))),
        failing(|_| None),
        failing(|n| Some((0, String::new())).filter(|_| n % 2 == 0)),
    ];
    let mut addresses: Vec<_> = processes.iter().map(|process| process.address).collect();
    addresses.push(nobody());
    let sum = program("sum", &backends(&addresses));
    sum.set_fallback(Some(&FallbackSettings {
        service: Some(id("next")),
        timeout: Some(Duration::from_millis(500)),
        retries: 2,
        hedge: Some(HedgeAfter::Time(Duration::from_millis(100))),
        breaker_failures: Some(5),
        bulkhead: Some(BulkheadSettings {
            places: 8,
            queue: 4,
        }),
        ..FallbackSettings::default()
    }));
    let services = vec![("sum", sum), ("next", magnitude("next"))];
    let server = serve(Limits::default(), services);
    let n_all = N_CALLERS * N_EACH;
    let answers = ask_all(server.address);
    let by = Some("service".to_owned());
    assert_eq!(answers, [((200, by, OTHERS.to_owned()), n_all)].into());
    assert_eq!(metric(&server, "coracle_fallbacks_total"), n_all);
    assert_eq!(metric(&server, "coracle_requests_in_flight"), 0);
    // The breaker let through those who were on their way when it opened, and a few that found out.
    let n_asked: usize = processes.iter().map(Telling::n_asked).sum();
    assert!(n_asked < n_all / 2, "{n_asked}");
    // It finds out by itself that they are well; until then nobody notices either.
    is_well.store(true, Ordering::SeqCst);
    loop {
        let answer = ask(server.address);
        match answer.header("x-coracle-fallback") {
            Some(by) => assert_eq!((by, answer.body.as_str()), ("service", OTHERS)),
            None => {
                assert_eq!((answer.status, answer.body.as_str()), (200, OWN));
                break;
            }
        }
    }
}
