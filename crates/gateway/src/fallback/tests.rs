//! How long calls take that have a fallback, and what is said of the models that they ask: on a clock that is moved on when all wait.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use coracle_base::{Clock, ManualClock};
use coracle_protocol::Call;
use coracle_serving::{
    BulkheadSettings, Chaos, ChaosFault, ChaosTarget, FallbackMemory, HedgeAfter, HedgeTo,
    ModelTable, Protocol, Refusal, Route, RouteTarget, ServiceId, SharedTable,
};
use coracle_tensor::{Tensor, Values};
use tokio::time::Instant;

use super::*;
use crate::codec::Codec;
use crate::infer::too_late;
use crate::shadow::Answered;
use crate::shadow::tests::{calls, loaded, one};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// What the server allows.
const ALLOWED: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// The clock of the test's runtime.
#[derive(Debug)]
struct Paused(Instant);

impl Clock for Paused {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn unix_time(&self) -> Duration {
        self.0.elapsed()
    }
}

fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

fn settings() -> FallbackSettings {
    FallbackSettings {
        value: Some("7".to_owned()),
        service: Some(id("next")),
        ..FallbackSettings::default()
    }
}

/// The models `first` and `next`, and what calls them; `settings` are the first one's.
struct Two {
    calls: Calls,
    chaos: Chaos,
    first: Arc<ServedModel>,
    next: Arc<ServedModel>,
}

impl Two {
    fn new(settings: &FallbackSettings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(Paused(Instant::now()));
        let (first, next) = (Arc::new(one("first")), Arc::new(one("next")));
        first.set_fallback(Some(settings));
        let route = Arc::new(Route::single(Arc::clone(&next)));
        let table = ModelTable::from_routes(BTreeMap::from([(id("next"), route)]));
        let chaos = Chaos::new(Arc::new(ManualClock::new()), 1);
        let calls = Calls {
            table: Arc::new(SharedTable::new(table)),
            chaos: Some(chaos.clone()),
            ..calls(&clock)
        };
        Self {
            calls,
            chaos,
            first,
            next,
        }
    }

    fn strike(&self, name: &str, fault: ChaosFault) {
        let target = ChaosTarget {
            namespace: None,
            name: name.to_owned(),
        };
        self.chaos.set(target, fault, HOUR).unwrap();
    }

    fn hang(&self, name: &str) {
        let fault = ChaosFault {
            latency: HOUR,
            ..ChaosFault::default()
        };
        self.strike(name, fault);
    }

    fn fail(&self, name: &str) {
        let fault = ChaosFault {
            error_rate: 1.0,
            ..ChaosFault::default()
        };
        self.strike(name, fault);
    }

    fn request(&self, timeout: Option<Duration>) -> Request {
        Request {
            timeout,
            ..Request::plain(
                Codec::V1 { method: None },
                Bytes::from_static(br#"{"instances": [[1, 2]]}"#),
                self.calls.clock.monotonic(),
            )
        }
    }

    /// Asks the first model; returns what answered, or the code, and how long it took.
    async fn ask(&self, timeout: Option<Duration>) -> (Result<Option<StandIn>, Code>, Duration) {
        let began = Instant::now();
        let result = self.calls.answer(&self.first, self.request(timeout)).await;
        let by = result.map(|encoded| encoded.fallback.map(|stood_in| stood_in.by));
        (by.map_err(|failure| failure.code), began.elapsed())
    }
}

/// A model that nobody loads, with how often it was woken.
fn loading() -> (Arc<ServedModel>, Arc<AtomicUsize>) {
    let n_woken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&n_woken);
    let wake = Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let model = ServedModel::unloaded("loading".to_owned(), 1).with_wake(wake);
    (Arc::new(model), n_woken)
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_what_is_left_of_its_time() {
    let two = Two::new(&settings());
    let (model, n_woken) = loading();
    let began = Instant::now();
    let arrival = Arrival {
        at: two.calls.clock.monotonic(),
        time: ALLOWED,
        copy: OutputCopy::Nothing,
    };
    // Another try took so much of it.
    tokio::time::advance(6 * SECOND).await;
    let request = two.request(None);
    let ask = || two.calls.enter_and_run(&model, request.clone(), arrival);
    assert_eq!(ask().await.unwrap_err().code, Code::DeadlineExceeded);
    assert!(began.elapsed() < ALLOWED + SECOND, "{:?}", began.elapsed());
    assert!(n_woken.load(Ordering::Relaxed) > 0);
    // Where nothing is left, nothing is waited for.
    tokio::time::advance(SECOND).await;
    let (began, n_before) = (Instant::now(), n_woken.load(Ordering::Relaxed));
    assert_eq!(ask().await.unwrap_err().code, Code::DeadlineExceeded);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(n_woken.load(Ordering::Relaxed), n_before);
}

/// As those do whose model takes as long.
#[tokio::test(start_paused = true)]
async fn whom_latency_strikes_holds_the_places_that_he_has_taken() {
    let bulkhead = FallbackSettings {
        bulkhead: Some(BulkheadSettings {
            places: 1,
            queue: 0,
        }),
        ..FallbackSettings::default()
    };
    let five = async |two: &Two| {
        tokio::join!(
            two.ask(None),
            two.ask(None),
            two.ask(None),
            two.ask(None),
            two.ask(None)
        )
    };
    let slow = ChaosFault {
        latency: SECOND,
        ..ChaosFault::default()
    };
    let two = Two::new(&bulkhead);
    two.strike("first", slow);
    // 503, as docs/rollouts.md says.
    let refused = (Err(Code::Unavailable), Duration::ZERO);
    let first = (Ok(None), SECOND);
    let all = five(&two).await;
    assert_eq!(all, (first, refused, refused, refused, refused));
    // Who is struck by an error after a while holds them for that while, too.
    let errors = ChaosFault {
        error_rate: 1.0,
        error_code: Code::Internal,
        ..slow
    };
    two.strike("first", errors);
    let first = (Err(Code::Internal), SECOND);
    let all = five(&two).await;
    assert_eq!(all, (first, refused, refused, refused, refused));
    // Of the model's own places one is had after the other.
    let two = Two::new(&FallbackSettings::default());
    two.first.set_concurrency(Some(1));
    two.strike("first", slow);
    let after = |n_before: u32| (Ok(None), SECOND * (n_before + 1));
    let all = five(&two).await;
    assert_eq!(all, (after(0), after(1), after(2), after(3), after(4)));
}

#[tokio::test(start_paused = true)]
async fn another_service_is_not_asked_without_time() {
    let two = Two::new(&settings());
    two.hang("first");
    let (by, took) = two.ask(None).await;
    assert_eq!(by, Ok(Some(StandIn::Constant)));
    assert!(took < ALLOWED + SECOND, "{took:?}");
    assert_eq!(two.next.statistics().started(), 0);
    // With time it is, and answers.
    let settings = FallbackSettings {
        timeout: Some(SECOND),
        ..settings()
    };
    two.first.set_fallback(Some(&settings));
    let (by, took) = two.ask(None).await;
    assert_eq!(by, Ok(Some(StandIn::Service)));
    assert!(took < 2 * SECOND, "{took:?}");
    assert_eq!(two.next.statistics().started(), 1);
}

/// The other revision is asked before the other service, for as long as it is served; it has no say in when.
#[tokio::test(start_paused = true)]
async fn another_revision_is_asked_before_another_service() {
    let two = Two::new(&FallbackSettings {
        revision: Some("stable".to_owned()),
        timeout: Some(SECOND),
        ..settings()
    });
    let stable = Arc::new(one("stable"));
    let fallback = two.first.fallback().unwrap();
    fallback.set_revision(Some(&stable));
    let started = || {
        (
            stable.statistics().started(),
            two.next.statistics().started(),
        )
    };
    two.fail("first");
    assert_eq!(two.ask(None).await.0, Ok(Some(StandIn::Revision)));
    assert_eq!(started(), (1, 0));
    // One that hangs leaves time for the others.
    two.hang("stable");
    let (by, took) = two.ask(None).await;
    assert_eq!(by, Ok(Some(StandIn::Service)));
    assert!(took >= SECOND && took < 2 * SECOND, "{took:?}");
    assert_eq!(started(), (2, 1));
    // Nobody stands in for himself, nor who is no longer served.
    fallback.set_revision(Some(&two.first));
    assert_eq!(two.ask(None).await.0, Ok(Some(StandIn::Service)));
    fallback.set_revision(Some(&stable));
    drop(stable);
    assert_eq!(two.ask(None).await.0, Ok(Some(StandIn::Service)));
    assert_eq!(fallback.n_fallbacks(), 4);
}

/// Whatever is said by annotation may be changed at any time; what was counted stays.
#[tokio::test(start_paused = true)]
async fn what_is_done_is_what_the_settings_say_by_now() {
    let two = Two::new(&FallbackSettings::default());
    let set = |settings: &FallbackSettings| two.first.set_fallback(Some(settings));
    let value = FallbackSettings {
        value: Some("7".to_owned()),
        ..FallbackSettings::default()
    };
    two.fail("first");
    // How often the model is asked.
    let n_struck = async || {
        let before = two.chaos.counts().errors;
        let _answered = two.ask(None).await;
        two.chaos.counts().errors - before
    };
    for retries in [2, 1, 0, 3] {
        set(&FallbackSettings {
            retries,
            ..value.clone()
        });
        assert_eq!(n_struck().await, u64::from(retries) + 1);
    }
    // By what names another service, or one that is not there.
    for (name, by) in [
        ("next", StandIn::Service),
        ("nobody", StandIn::Constant),
        ("next", StandIn::Service),
    ] {
        set(&FallbackSettings {
            service: Some(id(name)),
            ..value.clone()
        });
        assert_eq!(two.ask(None).await.0, Ok(Some(by)), "{name}");
    }
    for failures in [1, 4, 2] {
        set(&FallbackSettings {
            breaker_failures: Some(failures),
            ..value.clone()
        });
        let mut n_asked = 0;
        for _ in 0..10 {
            n_asked += n_struck().await;
        }
        assert_eq!(n_asked, u64::from(failures));
    }
    two.hang("first");
    for time in [3 * SECOND, SECOND, 2 * SECOND] {
        set(&FallbackSettings {
            timeout: Some(time),
            ..value.clone()
        });
        let (by, took) = two.ask(None).await;
        assert_eq!(by, Ok(Some(StandIn::Constant)));
        assert!(took >= time && took < time + SECOND / 2, "{took:?}");
    }
    let fallback = two.first.fallback().unwrap();
    assert_eq!(fallback.n_retries(), 6);
    assert_eq!(fallback.n_fallbacks(), 4 + 3 + 30 + 3);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_leaves_time_for_the_default_prediction() {
    // Where nothing is said of its time, it leaves a little of the caller's.
    let two = Two::new(&settings());
    two.fail("first");
    two.hang("next");
    let (by, took) = two.ask(None).await;
    assert_eq!(by, Ok(Some(StandIn::Constant)));
    assert!(took < ALLOWED && took > ALLOWED / 2, "{took:?}");
    let (by, took) = two.ask(Some(SECOND)).await;
    assert_eq!(by, Ok(Some(StandIn::Constant)));
    assert!(took < SECOND, "{took:?}");
    // It may take as long as the model itself.
    let settings = FallbackSettings {
        timeout: Some(SECOND / 5),
        ..settings()
    };
    two.first.set_fallback(Some(&settings));
    let (by, took) = two.ask(None).await;
    assert_eq!(by, Ok(Some(StandIn::Constant)));
    assert!(took < SECOND, "{took:?}");
}

/// A costly request is read by a thread of the pool; nobody can move the clock on until it has been.
#[tokio::test(start_paused = true)]
async fn a_costly_request_is_stood_in_for_when_its_time_is_over() {
    let two = Two::new(&settings());
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let held = tokio::task::spawn_blocking(move || is_done.recv());
    let request = two.request(None);
    two.first.cost().record_decode(request.body.len(), SECOND);
    let fallback = two.first.fallback().unwrap();
    let deciding = Deciding::of(&fallback).unwrap();
    let signature = two.first.loaded().unwrap().model().signature().clone();
    deciding.signature.set(Some(signature)).unwrap();
    let wanted = Wanted {
        model: Arc::clone(&two.first),
        fallback,
        deciding,
        request,
        code: Code::DeadlineExceeded,
    };
    let arrival = Arrival {
        at: Duration::ZERO,
        time: Duration::ZERO,
        copy: OutputCopy::Nothing,
    };
    let answer = two.calls.stand_in(wanted, arrival).await;
    drop(done);
    assert!(held.await.unwrap().is_err());
    assert_eq!(answer.unwrap().body, br#"{"predictions":[7.0]}"#);
}

/// What decides about calls goes on where the default prediction or the header of last good answers is another one.
#[tokio::test(start_paused = true)]
async fn what_stands_in_is_what_the_settings_say_by_now() {
    let by_value = |value: &str, key: Option<&str>| FallbackSettings {
        value: Some(value.to_owned()),
        key: key.map(str::to_owned),
        ..FallbackSettings::default()
    };
    let two = Two::new(&by_value("7", Some("x-user")));
    let ask = async || {
        let request = Request {
            key: Some(Box::new(HeaderValue::from_static("ann"))),
            ..two.request(None)
        };
        let encoded = two.calls.answer(&two.first, request).await.unwrap();
        (encoded.body, encoded.fallback.map(|stood_in| stood_in.by))
    };
    let (good, by) = ask().await;
    assert_eq!(by, None);
    two.fail("first");
    assert_eq!(ask().await, (good, Some(StandIn::LastGood)));
    // Those by another header are others.
    for (value, body) in [
        ("8", &br#"{"predictions":[8.0]}"#[..]),
        ("9", br#"{"predictions":[9.0]}"#),
    ] {
        two.first
            .set_fallback(Some(&by_value(value, Some("x-session"))));
        assert_eq!(ask().await, (body.to_vec(), Some(StandIn::Constant)));
    }
    two.first.set_fallback(None);
    let answer = two.calls.answer(&two.first, two.request(None)).await;
    assert!(answer.is_err());
}

/// A revision that never answered has what another one of its service told the same user.
#[tokio::test(start_paused = true)]
async fn revisions_have_the_same_last_good_answers() {
    let two = Two::new(&settings());
    let by_key = FallbackSettings {
        key: Some("x-user".to_owned()),
        ..FallbackSettings::default()
    };
    let memory = FallbackMemory::default();
    for model in [&two.first, &two.next] {
        model.share_fallback(Some(&by_key), &memory);
    }
    two.fail("next");
    let ask = async |model, user| {
        let request = Request {
            key: Some(Box::new(HeaderValue::from_static(user))),
            ..two.request(None)
        };
        let answer = two.calls.answer(model, request).await;
        answer.map_err(|failure| failure.code).map(|encoded| {
            let by = encoded.fallback.map(|stood_in| stood_in.by);
            (encoded.body, by)
        })
    };
    let (body, by) = ask(&two.first, "ann").await.unwrap();
    assert_eq!(by, None);
    let last = Ok((body, Some(StandIn::LastGood)));
    assert_eq!(ask(&two.next, "ann").await, last);
    assert!(ask(&two.next, "bob").await.is_err());
    tokio::time::advance(HOUR + SECOND).await;
    assert!(ask(&two.next, "ann").await.is_err());
}

fn slow_after(limit: Duration) -> FallbackSettings {
    FallbackSettings {
        breaker_latency: Some(limit),
        ..FallbackSettings::default()
    }
}

/// Those who leave, and those whose own time is over, say that it took that long at least.
#[tokio::test(start_paused = true)]
async fn the_slowest_calls_are_slow_whoever_leaves() {
    let two = Two::new(&slow_after(SECOND / 10));
    two.hang("first");
    for turn in 0..20 {
        let late = Err(Code::DeadlineExceeded);
        match turn % 2 {
            0 => assert_eq!(two.ask(Some(SECOND / 5)).await.0, late, "{turn}"),
            _ => assert!(
                tokio::time::timeout(SECOND / 5, two.ask(None))
                    .await
                    .is_err()
            ),
        }
    }
    let (result, took) = two.ask(None).await;
    assert_eq!((result, took), (Err(Code::Unavailable), Duration::ZERO));
    // Those who leave sooner say nothing.
    let two = Two::new(&slow_after(SECOND));
    two.hang("first");
    for _ in 0..30 {
        drop(tokio::time::timeout(SECOND / 5, two.ask(None)).await);
    }
    two.chaos.clear(None);
    assert_eq!(two.ask(None).await.0, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn who_waits_until_it_is_loaded_finds_no_slow_model() {
    let two = Two::new(&slow_after(SECOND / 10));
    let (model, _n_woken) = loading();
    model.set_fallback(Some(&slow_after(SECOND / 10)));
    let local = tokio::task::LocalSet::new();
    let ask = || {
        let (calls, model, request) = (two.calls.clone(), Arc::clone(&model), two.request(None));
        async move { calls.answer(&model, request).await.map(|_| ()) }
    };
    let all: Vec<_> = (0..30).map(|_| local.spawn_local(ask())).collect();
    local
        .run_until(async {
            tokio::time::sleep(SECOND).await;
            model.load(loaded("loading"));
            for answer in all {
                assert!(answer.await.unwrap().is_ok());
            }
            assert!(ask().await.is_ok());
        })
        .await;
}

const OWN: Duration = Duration::from_secs(10);

#[test]
fn only_what_the_model_did_counts_against_it() {
    let late = |allowed, has_begun| too_late(allowed).begun(has_begun);
    let waited = |allowed| Failure::from(Refusal::Deadline).within(allowed);
    let coded = |code| Failure::new(code, "as it was told to");
    let shorter = OWN / 2;
    for (failure, others_answered, expected) in [
        (coded(Code::Internal), true, End::Failed),
        (coded(Code::Unavailable), true, End::Failed),
        (coded(Code::InvalidArgument), true, End::Answered),
        (Refusal::QueueFull.into(), false, End::GivenUp),
        (Refusal::PoolFull.into(), false, End::GivenUp),
        (Refusal::SetAside(String::new()).into(), false, End::Failed),
        // It ran for as long as it may.
        (late(OWN, true), true, End::Failed),
        // Its caller would not wait for so long.
        (late(shorter, true), false, End::GivenUp),
        (waited(shorter), false, End::GivenUp),
        // It waited behind others: those were answered, or nobody was.
        (late(OWN, false), true, End::GivenUp),
        (waited(OWN), true, End::GivenUp),
        (late(OWN, false), false, End::Failed),
        (waited(OWN), false, End::Failed),
    ] {
        let end = end_of(&failure, OWN, others_answered);
        assert_eq!(end, expected, "{failure:?} {others_answered}");
    }
}

#[test]
fn who_is_turned_away_by_a_crowd_does_not_add_to_it() {
    let refused = |refusal: Refusal| may_help(&refusal.into());
    assert!(!refused(Refusal::QueueFull) && !refused(Refusal::PoolFull));
    assert!(refused(Refusal::Failed("as it was told to".to_owned())));
    assert!(may_help(&Failure::new(Code::Internal, "once")));
    assert!(!may_help(&too_late(OWN)));
}

/// What is too large to be given again is a prediction all the same, and no last good answer.
#[test]
fn predictions_of_answers_too_large_to_keep_are_compared() {
    let signature = one("first").loaded().unwrap().model().signature().clone();
    for (n_rows, is_kept) in [(3, true), ((1 << 18) + 1, false)] {
        let call = Call {
            outputs: vec![0],
            n_rows,
            ..Call::default()
        };
        let numbers = Values::F64(vec![1.0; n_rows].into());
        let outputs = [Tensor::from_values(numbers)];
        for asked in [OutputCopy::FirstRow, OutputCopy::Whole, OutputCopy::Nothing] {
            let (ours, sent) = (&signature, (&call, &outputs[..]));
            let answered = Answered::copied(OutputCopy::Whole, ours, sent, SECOND);
            let mut encoded = Encoded {
                body: Vec::new(),
                json_length: None,
                phases: None,
                answered,
                fallback: None,
                from_cache: false,
            };
            let (last_good, key) = (LastGood::default(), HeaderValue::from_static("u"));
            keep(&last_good, (&key, SECOND), (&mut encoded, asked));
            let kept = last_good.outputs((&key, SECOND), (&call, &signature));
            assert_eq!(kept.is_some(), is_kept, "{n_rows}");
            let copied = encoded.answered.map(|copied| {
                let n_rows = copied.outputs()[0].1.n_rows();
                (n_rows, copied.is_whole())
            });
            let expected = match (asked, is_kept) {
                (OutputCopy::Nothing, _) => None,
                (OutputCopy::Whole, true) => Some((3, true)),
                _ => Some((1, false)),
            };
            assert_eq!(copied, expected, "{asked:?} of {n_rows}");
        }
    }
}

const AFTER: Duration = Duration::from_millis(50);

/// The first one's rules where `next` is asked, too, after a while.
fn hedged() -> FallbackSettings {
    FallbackSettings {
        service: Some(id("next")),
        hedge: Some(HedgeAfter::Time(AFTER)),
        hedge_to: Some(HedgeTo::Service),
        ..FallbackSettings::default()
    }
}

fn slow(latency: Duration) -> ChaosFault {
    ChaosFault {
        latency,
        ..ChaosFault::default()
    }
}

impl Two {
    fn counted(&self, outcome: Result<(), Code>) -> u64 {
        self.first.statistics().requests(Protocol::V1, outcome)
    }
}

/// What the model did is counted when it has ended, though its caller was answered long before.
#[tokio::test(start_paused = true)]
async fn another_service_is_asked_where_the_model_takes_long() {
    let two = Two::new(&hedged());
    assert_eq!(two.ask(None).await, (Ok(None), Duration::ZERO));
    assert_eq!(two.next.statistics().started(), 0);
    two.strike("first", slow(2 * SECOND));
    assert_eq!(two.ask(None).await, (Ok(Some(StandIn::Service)), AFTER));
    let fallback = two.first.fallback().unwrap();
    assert_eq!((fallback.n_hedges(), fallback.n_fallbacks()), ((1, 1), 1));
    assert_eq!(
        (two.counted(Ok(())), two.first.statistics().in_flight()),
        (1, 1)
    );
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(
        (two.counted(Ok(())), two.first.statistics().in_flight()),
        (2, 0)
    );
    // A request is one call, whoever answers it.
    let of_first = two.first.statistics();
    assert_eq!((of_first.started(), of_first.finished()), (2, 2));
    // One that hangs has failed, whoever answered.
    two.hang("first");
    assert_eq!(two.ask(None).await.0, Ok(Some(StandIn::Service)));
    tokio::time::sleep(ALLOWED).await;
    assert_eq!(two.counted(Err(Code::DeadlineExceeded)), 1);
    // It is the other one's own request, too, by which nobody judges it.
    let of_next = two.next.statistics();
    assert_eq!(of_next.requests(Protocol::V1, Ok(())), 2);
}

#[tokio::test(start_paused = true)]
async fn the_first_good_answer_of_two_counts() {
    let two = Two::new(&hedged());
    let fallback = two.first.fallback().unwrap();
    two.strike("first", slow(2 * AFTER));
    two.strike("next", slow(SECOND));
    assert_eq!(two.ask(None).await, (Ok(None), 2 * AFTER));
    assert_eq!((fallback.n_hedges(), fallback.n_fallbacks()), ((1, 0), 0));
    assert_eq!(two.next.statistics().in_flight(), 0);
    // Where the model fails meanwhile the other one is waited for, and the failure is what is counted.
    let fails = ChaosFault {
        error_rate: 1.0,
        ..slow(2 * AFTER)
    };
    two.strike("first", fails);
    let other = (Ok(Some(StandIn::Service)), AFTER + SECOND);
    assert_eq!(two.ask(None).await, other);
    assert_eq!(two.counted(Err(Code::Unavailable)), 1);
    // Who has failed already is not asked again.
    two.fail("next");
    let before = two.chaos.counts().errors;
    assert_eq!(two.ask(None).await, (Err(Code::Unavailable), 2 * AFTER));
    assert_eq!(two.chaos.counts().errors - before, 2);
    // And where it fails, or is not there, the model is waited for.
    two.strike("first", slow(2 * AFTER));
    assert_eq!(two.ask(None).await, (Ok(None), 2 * AFTER));
    let two = Two::new(&FallbackSettings {
        service: Some(id("nobody")),
        ..hedged()
    });
    two.strike("first", slow(2 * AFTER));
    assert_eq!(two.ask(None).await, (Ok(None), 2 * AFTER));
}

#[tokio::test(start_paused = true)]
async fn second_attempts_have_a_budget() {
    let two = Two::new(&FallbackSettings {
        hedge: Some(HedgeAfter::Time(Duration::from_millis(1))),
        ..hedged()
    });
    two.strike("first", slow(Duration::from_millis(2)));
    for _ in 0..300 {
        let (answer, _took) = two.ask(None).await;
        assert!(answer.is_ok());
    }
    // A fifth of the requests, and ten a second of ten seconds.
    let n_hedges = two.first.fallback().unwrap().n_hedges().0;
    assert!((100..=160).contains(&n_hedges), "{n_hedges}");
}

/// A task of its own is for those that are waited for beside another one.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_soon_answered_is_no_task() {
    let two = Two::new(&hedged());
    let n_tasks = || {
        let metrics = tokio::runtime::Handle::current().metrics();
        metrics.num_alive_tasks()
    };
    for (latency, n_expected) in [(AFTER * 3 / 4, 0), (3 * AFTER, 1)] {
        two.strike("first", slow(latency));
        two.strike("next", slow(HOUR));
        let half = async |time| {
            tokio::time::sleep(time).await;
            n_tasks()
        };
        let (_answer, before, after) =
            tokio::join!(two.ask(None), half(AFTER / 2), half(2 * AFTER));
        assert_eq!((before, after), (0, n_expected), "{latency:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_asked_in_the_end_takes_no_turn_of_a_split() {
    let mut two = Two::new(&FallbackSettings {
        hedge: Some(HedgeAfter::Time(Duration::from_millis(1))),
        ..hedged()
    });
    let half = |name: &str| RouteTarget {
        model: Arc::new(one(name)),
        percent: 50,
        tags: Vec::new(),
    };
    let route = Arc::new(Route::try_new(vec![half("a"), half("b")], None).unwrap());
    let table = ModelTable::from_routes([(id("next"), Arc::clone(&route))].into());
    two.calls.table = Arc::new(SharedTable::new(table));
    two.strike("first", slow(Duration::from_millis(2)));
    let n_hedges = || two.first.fallback().unwrap().n_hedges().0;
    let turn = || route.choose().name().to_owned();
    let mut n_refused = 0;
    for _ in 0..300 {
        let (before, n_before) = (turn(), n_hedges());
        assert!(two.ask(None).await.0.is_ok());
        if n_hedges() == n_before {
            // Nobody has had one in between.
            assert_ne!(turn(), before);
            n_refused += 1;
        }
    }
    assert!(n_refused > 0);
}

/// A call that its caller has left is wanted by nobody.
#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_ends_both_attempts() {
    let two = Two::new(&hedged());
    for name in ["first", "next"] {
        two.strike(name, slow(5 * SECOND));
    }
    for patience in [AFTER / 2, 2 * AFTER] {
        let left = tokio::time::timeout(patience, two.ask(None)).await;
        assert!(left.is_err());
        tokio::time::sleep(ALLOWED).await;
        for model in [&two.first, &two.next] {
            let statistics = model.statistics();
            assert_eq!(statistics.in_flight(), 0);
            assert_eq!(statistics.requests(Protocol::V1, Ok(())), 0);
        }
        assert_eq!(two.counted(Err(Code::DeadlineExceeded)), 0);
    }
}

/// Where nobody is there to answer in its place a model has the time that it would have without.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_stand_in_holds_while_there_is_one() {
    let two = Two::new(&FallbackSettings::default());
    two.strike("first", slow(3 * SECOND));
    let by = |name: &str, value: Option<&str>| FallbackSettings {
        service: Some(id(name)),
        value: value.map(str::to_owned),
        timeout: Some(SECOND),
        ..FallbackSettings::default()
    };
    let of_others = FallbackSettings {
        service: None,
        key: Some("x-user".to_owned()),
        ..by("", None)
    };
    for (settings, answered, seconds) in [
        (by("next", None), Some(StandIn::Service), 1),
        (by("gone", None), None, 3),
        (by("gone", Some("7")), Some(StandIn::Constant), 1),
        (of_others, None, 3),
    ] {
        two.first.set_fallback(Some(&settings));
        let (by, took) = two.ask(None).await;
        let took = took.as_secs_f64().round();
        assert_eq!(
            (by, took),
            (Ok(answered), f64::from(seconds)),
            "{settings:?}"
        );
    }
}
