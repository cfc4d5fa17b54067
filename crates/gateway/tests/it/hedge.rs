//! Second attempts at other processes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use coracle_base::SystemClock;
use coracle_gateway::Limits;
use coracle_serving::{
    Backends, FallbackSettings, HedgeAfter, ModelTable, RevisionId, RevisionLog, Route,
    ServedModel, ServiceId,
};

use crate::client::send;
use crate::fixture::{Running, config, start_with};
use crate::forward::backends;
use crate::routes::JSON;
use crate::upstream::Upstream;

const PREDICT: &str = "/serving/n/sum/v1/models/sum:predict";

/// A process that takes requests and never answers; tells of each that ended unanswered.
fn silent() -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, told) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let ended = ended.clone();
            std::thread::spawn(move || {
                // Until the other end goes.
                let mut rest = Vec::new();
                drop(stream.read_to_end(&mut rest));
                let _told = ended.send(());
            });
        }
    });
    (address, told)
}

fn start(limits: Limits, backends: &Arc<Backends>, hedge: Option<HedgeAfter>) -> Running {
    let id = RevisionId {
        namespace: "n".to_owned(),
        name: "r".to_owned(),
    };
    let log = RevisionLog::none(Arc::new(SystemClock::new()));
    let model = ServedModel::unloaded("sum".to_owned(), 2)
        .with_revision(&id, log, Box::new(|| ()))
        .with_backends(Arc::clone(backends));
    let settings = FallbackSettings {
        hedge,
        ..FallbackSettings::default()
    };
    model.set_fallback(Some(&settings));
    start_with(config(limits), |_| {
        let service = ServiceId {
            namespace: "n".to_owned(),
            name: "sum".to_owned(),
        };
        let route = Arc::new(Route::single(Arc::new(model)));
        ModelTable::from_routes([(service, route)].into())
    })
}

fn counted(server: &Running, metric: &str) -> u64 {
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.starts_with(&format!("{metric}{{")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{metric}: {metrics}"))
}

#[test]
fn who_gets_no_answer_asks_another_and_lets_go_of_the_first() {
    let (silent, ended) = silent();
    let upstream = Upstream::start();
    let both = backends(&[silent, upstream.address]);
    let after = HedgeAfter::Time(Duration::from_millis(1));
    let server = start(Limits::default(), &both, Some(after));
    for _ in 0..6 {
        let answer = send(
            server.address,
            "POST",
            PREDICT,
            &[JSON],
            b"{\"instances\": []}",
        );
        assert_eq!(answer.status, 203, "{answer:?}");
        assert!(
            answer.body.ends_with("{\"instances\": []}"),
            "{}",
            answer.body
        );
    }
    // Half of them met the silent one, and none waits for it any more.
    for _ in 0..3 {
        ended.recv().unwrap();
    }
    assert!(counted(&server, "coracle_hedges_total") >= 3);
    assert!(counted(&server, "coracle_hedges_won_total") >= 3);
    assert_eq!(counted(&server, "coracle_requests_in_flight"), 0);
}

#[test]
fn what_may_not_be_made_twice_has_one_attempt() {
    let (silent, _ended) = silent();
    let upstream = Upstream::start();
    let limits = || Limits {
        request_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let after = HedgeAfter::Time(Duration::from_millis(1));
    for (hedge, path) in [
        (Some(after), "/serving/n/sum/train"),
        // Nothing is known of how long calls take.
        (Some(HedgeAfter::Percentile(95)), PREDICT),
        (None, PREDICT),
    ] {
        let both = backends(&[silent, upstream.address]);
        let server = start(limits(), &both, hedge);
        let post = |_| send(server.address, "POST", path, &[JSON], b"{}").status;
        let mut statuses: Vec<u16> = (0..2).map(post).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [203, 504], "{hedge:?} {path}");
    }
    // Nor is there anybody else to ask.
    let alone = backends(&[silent]);
    let server = start(limits(), &alone, Some(after));
    assert_eq!(
        send(server.address, "POST", PREDICT, &[JSON], b"{}").status,
        504
    );
    assert_eq!(counted(&server, "coracle_hedges_total"), 0);
}

#[test]
fn an_answer_that_is_none_waits_for_the_other() {
    let upstream = Upstream::start();
    let (broken, first) = (TcpListener::bind("127.0.0.1:0").unwrap(), channel::<()>());
    let address = broken.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in broken.incoming().flatten() {
            let _told = first.0.send(());
            let mut head = [0; 16];
            drop(stream.read_exact(&mut head));
        }
    });
    let both = backends(&[address, upstream.address]);
    let after = HedgeAfter::Time(Duration::from_secs(3600));
    let server = start(Limits::default(), &both, Some(after));
    // Before it is time for another one, what fails has failed.
    let post = |_| send(server.address, "POST", PREDICT, &[JSON], b"{}").status;
    let mut statuses: Vec<u16> = (0..2).map(post).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [203, 502]);
    assert_eq!(counted(&server, "coracle_hedges_total"), 0);
}

#[test]
fn a_body_that_does_not_end_has_no_more_than_the_time_of_its_request() {
    let upstream = Upstream::start();
    let limits = Limits {
        request_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    let after = HedgeAfter::Time(Duration::from_millis(1));
    let server = start(limits, &backends(&[upstream.address]), Some(after));
    let mut stream = TcpStream::connect(server.address).unwrap();
    // Smaller ones are waited for before anybody is asked to answer.
    let head = format!("POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n{{");
    stream.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 504");
}
