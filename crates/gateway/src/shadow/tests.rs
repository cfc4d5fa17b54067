//! What others see of a shadow while its thread is at a comparison.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use coracle_base::{Clock, ManualClock, SystemClock};
use coracle_model::{Description, Model, RunError, TensorSpec};
use coracle_serving::{
    ChaosFault, ChaosTarget, ComputePool, LoadPhases, LoadedModel, PoolLimits, Route,
    ShadowSettings,
};
use coracle_tensor::{ByteStrings, DType, Values};

use super::*;
use crate::infer::{Arrival, Calls};
use crate::joint::JointCalls;
use crate::shared_memory::SharedMemory;

/// A clock that keeps whoever asks for the time of day, as the thread does in the middle of a comparison, until the gate is open.
#[derive(Debug)]
struct Gate {
    clock: SystemClock,
    reached: Sender<()>,
    open: Mutex<Receiver<()>>,
}

impl Clock for Gate {
    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn unix_time(&self) -> Duration {
        let _told = self.reached.send(());
        let _opened = self.open.lock().unwrap().recv();
        self.clock.unix_time()
    }
}

/// Bounds by which requests have so many elements.
fn bounds(elements_max: usize) -> Limits {
    Limits {
        elements_max,
        ..Limits::default()
    }
}

fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

fn tap(of: &str, percent: u8) -> ShadowTap {
    let settings = ShadowSettings {
        service: "next".to_owned(),
        percent,
        kept: ShadowKept::Answers,
    };
    ShadowTap::new(id(of), settings)
}

fn begun(pair: &Arc<Pair>) -> Begun {
    Begun {
        pair: Arc::clone(pair),
        kept: ShadowKept::Answers,
        codec: Codec::Grpc,
        dialect: None,
        body: Bytes::new(),
        trace: None,
    }
}

#[test]
fn who_reads_the_report_waits_for_no_comparison() {
    let ((reached, is_reached), (open, gate)) = (channel(), channel::<()>());
    let clock = Arc::new(Gate {
        clock: SystemClock::new(),
        reached,
        open: Mutex::new(gate),
    });
    let table = Arc::new(SharedTable::new(ModelTable::default()));
    let shadows = Shadows::new((&table, &(clock as Arc<dyn Clock>)), &bounds(1), None);
    let tap = tap("iris", 100);
    let pair = shadows.pair(&tap).unwrap();
    let n_requests = |shadows: &Shadows| -> u64 {
        let reports = shadows.reports(Some(&id("iris")));
        let all = reports.iter().flat_map(|report| report.comparisons.iter());
        all.map(|compared| compared.requests).sum()
    };
    let copied = Copied {
        begun: begun(&pair),
        revision: "iris-1".to_owned(),
        answer: Ok(Given::Outputs(Box::new(Answered {
            outputs: vec![(
                "y".to_owned(),
                Tensor::from_values(Values::U8(vec![1].into())),
            )],
            elapsed: Duration::ZERO,
            is_whole: true,
        }))),
        _room: Room::try_new(&shadows.inner.held, 1).unwrap(),
    };
    pair.queue.try_send(copied).unwrap();
    is_reached.recv().unwrap();
    // The thread is at the comparison, and stays there.
    assert_eq!((n_requests(&shadows), shadows.figures().len()), (0, 1));
    drop(open);
    while n_requests(&shadows) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(shadows.figures()[0].outcomes[4], ("failed", 1));
}

/// A service whose shadow has these faults, and a copy for that.
struct Struck {
    shadows: Shadows,
    chaos: Chaos,
    copied: Copied,
    pair: Arc<Pair>,
}

fn struck(target: &str, fault: ChaosFault) -> Struck {
    let route = Arc::new(Route::single(Arc::new(one("next"))));
    let table = ModelTable::from_routes([(id("next"), route)].into());
    let table = Arc::new(SharedTable::new(table));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let chaos = Chaos::new(Arc::clone(&clock), 1);
    let target = ChaosTarget {
        namespace: None,
        name: target.to_owned(),
    };
    let hour = Duration::from_secs(60 * 60);
    chaos.set(target, fault, hour).unwrap();
    let shadows = Shadows::new((&table, &clock), &bounds(1_000), Some(chaos.clone()));
    let pair = shadows.pair(&tap("iris", 100)).unwrap();
    let copied = Copied {
        begun: Begun {
            codec: Codec::V1 { method: None },
            body: Bytes::from_static(br#"{"instances": [[1, 2]]}"#),
            ..begun(&pair)
        },
        revision: "iris-1".to_owned(),
        answer: Ok(Given::Outputs(Box::new(Answered {
            outputs: vec![(
                "predict".to_owned(),
                Tensor::from_values(Values::F64(vec![1.0].into())),
            )],
            elapsed: Duration::ZERO,
            is_whole: true,
        }))),
        _room: Room::try_new(&shadows.inner.held, 1).unwrap(),
    };
    Struck {
        shadows,
        chaos,
        copied,
        pair,
    }
}

impl Struck {
    fn send(self) -> (Shadows, Chaos) {
        self.pair.queue.try_send(self.copied).unwrap();
        (self.shadows, self.chaos)
    }
}

/// Waits for the comparison of a copy.
fn compared(shadows: &Shadows) -> report::Compared {
    loop {
        let report = shadows.reports(Some(&id("iris"))).pop().unwrap();
        match report.comparisons.first() {
            Some(compared) => return compared.clone(),
            None => std::thread::yield_now(),
        }
    }
}

#[test]
fn faults_strike_the_copies_for_their_target_and_leave_others_alone() {
    let latency = ChaosFault {
        latency: Duration::from_millis(1),
        ..ChaosFault::default()
    };
    let errors = ChaosFault {
        error_rate: 1.0,
        ..ChaosFault::default()
    };
    let panics = ChaosFault {
        panic_rate: 1.0,
        ..ChaosFault::default()
    };
    for (target, fault, expected) in [
        ("other", errors, None),
        ("next", latency, None),
        ("next", errors, Some("fails on purpose")),
        ("next", panics, Some("as by a panic")),
    ] {
        let (shadows, _chaos) = struck(target, fault).send();
        let compared = compared(&shadows);
        let whys: Vec<&str> = compared.failures.iter().map(|why| &*why.name).collect();
        match expected {
            None => assert!(whys.is_empty(), "{target}: {whys:?}"),
            Some(why) => assert!(whys.len() == 1 && whys[0].contains(why), "{whys:?}"),
        }
        let outcome = expected.map_or("agreed", |_| "failed");
        let counted = |count: &&report::Count| count.name == outcome;
        let count = compared.outcomes.iter().find(counted);
        assert_eq!(count.map(|count| count.count), Some(1), "{target}");
    }
}

/// A shadow that is slow on purpose is one whose answers take long, and is so for as long as that is set.
#[test]
fn the_comparison_shows_latency_on_purpose_and_does_not_outwait_it() {
    let latency = Duration::from_millis(20);
    let fault = ChaosFault {
        latency,
        ..ChaosFault::default()
    };
    let (shadows, _chaos) = struck("next", fault).send();
    let shown = compared(&shadows).latency.shadow.mean_seconds;
    assert!(shown.unwrap() >= latency.as_secs_f64(), "{shown:?}");
    let fault = ChaosFault {
        latency: Duration::from_secs(50),
        ..ChaosFault::default()
    };
    let (shadows, chaos) = struck("next", fault).send();
    while chaos.counts().latency == 0 {
        std::thread::yield_now();
    }
    chaos.clear(None);
    let shown = compared(&shadows).latency.shadow.mean_seconds;
    assert!(shown.unwrap() < 50.0, "{shown:?}");
}

/// Answers every row with 1.
#[derive(Debug)]
struct One {
    signature: Signature,
    description: Description,
}

impl Model for One {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let ones = vec![1.0; inputs[0].n_rows()];
        Ok(vec![Tensor::from_values(Values::F64(ones.into()))])
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

/// Serves a model that answers every row with 1.
pub(crate) fn one(name: &str) -> ServedModel {
    ServedModel::new(loaded(name), 1)
}

pub(crate) fn loaded(name: &str) -> LoadedModel {
    let phases = LoadPhases::default();
    LoadedModel::new(name.to_owned(), one_with(|_signature| ()), phases)
}

/// A model that answers every row with 1, with another signature.
pub(crate) fn one_with(change: impl FnOnce(&mut Signature)) -> Box<dyn Model> {
    let spec = |name: &str, shape| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape,
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let mut model = One {
        signature: Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: vec![spec("X", vec![None, Some(2)])],
            outputs: vec![spec("predict", vec![None])],
            default_outputs: vec![0],
            columns: None,
        },
        description: Description::default(),
    };
    change(&mut model.signature);
    Box::new(model)
}

pub(crate) fn calls(clock: &Arc<dyn Clock>) -> Calls {
    let table = Arc::new(SharedTable::new(ModelTable::default()));
    let limits = PoolLimits {
        n_threads: 1,
        calls_max: 10,
        bytes_max: 1 << 20,
    };
    let pool = ComputePool::start(limits, Arc::clone(clock)).unwrap();
    Calls {
        shadows: Shadows::new((&table, clock), &bounds(1_000), None),
        table,
        clock: Arc::clone(clock),
        elements_max: 1_000,
        body_max: 8_000,
        request_timeout: Duration::from_secs(10),
        pool: Arc::new(pool),
        worker: 0,
        occupancy: Arc::new(crate::alone::Occupancy::of_one_of(1)),
        joint: JointCalls::default(),
        shared_memory: Arc::new(SharedMemory::new(false)),
        payloads: None,
        programs: None,
        traces: false,
        experiments: None,
        chaos: None,
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_copied_only_for_the_requests_that_are() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let calls = calls(&clock);
    let model = Arc::new(one("iris"));
    model.set_shadow(Some(Arc::new(tap("iris", 10))));
    let pair = calls.shadows.pair(&model.shadow().unwrap()).unwrap();
    for turn in 0..20 {
        let request = Request::plain(
            Codec::V1 { method: None },
            Bytes::from_static(br#"{"instances": [[1, 2]]}"#),
            clock.monotonic(),
        );
        let encoded = calls.answer(&model, request).await.unwrap();
        // What was copied is on its way to the shadow, and nothing else was.
        assert!(encoded.answered.is_none(), "request {turn}");
    }
    assert_eq!(pair.n_lost.load(Ordering::Relaxed), 0);
}

/// Whoever sees how long a model takes beside its shadow sees that it is slow on purpose.
#[tokio::test(start_paused = true)]
async fn latency_on_purpose_is_of_the_time_that_the_model_took() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let chaos = Chaos::new(Arc::clone(&clock), 1);
    let calls = Calls {
        chaos: Some(chaos.clone()),
        ..calls(&clock)
    };
    let model = Arc::new(one("iris"));
    let latency = Duration::from_secs(2);
    let fault = ChaosFault {
        latency,
        ..ChaosFault::default()
    };
    for (struck, expected) in [("iris", latency), ("other", Duration::ZERO)] {
        chaos.clear(None);
        let target = ChaosTarget {
            namespace: None,
            name: struck.to_owned(),
        };
        chaos.set(target, fault, 10 * latency).unwrap();
        let request = Request::plain(
            Codec::V1 { method: None },
            Bytes::from_static(br#"{"instances": [[1, 2]]}"#),
            clock.monotonic(),
        );
        let arrival = Arrival {
            at: clock.monotonic(),
            time: 2 * latency,
            copy: OutputCopy::Whole,
        };
        let encoded = calls.enter_and_run(&model, request, arrival).await;
        assert_eq!(encoded.unwrap().answered.unwrap().elapsed, expected);
    }
}

/// A rollout compares the first row of an answer, and no more of it is copied for that.
#[tokio::test(start_paused = true)]
async fn of_answers_that_are_watched_the_first_row_is_copied() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let calls = calls(&clock);
    let model = Arc::new(one("iris"));
    for is_shadowed in [false, true] {
        if is_shadowed {
            model.set_shadow(Some(Arc::new(tap("iris", 100))));
        }
        let request = Request {
            is_watched: true,
            ..Request::plain(
                Codec::V1 { method: None },
                Bytes::from_static(br#"{"instances": [[1, 2], [3, 4], [5, 6]]}"#),
                clock.monotonic(),
            )
        };
        let encoded = calls.answer(&model, request).await.unwrap();
        let answered = encoded.answered.unwrap();
        let shapes: Vec<&[usize]> = answered
            .outputs
            .iter()
            .map(|(_, row)| row.shape())
            .collect();
        assert_eq!(shapes, [[1, 1]], "shadowed: {is_shadowed}");
    }
}

#[test]
fn answers_of_many_bytes_are_not_copied() {
    let signature = one("iris").loaded().unwrap().model().signature().clone();
    let call = Call {
        outputs: vec![0],
        ..Call::default()
    };
    let copied = |n_bytes: usize| {
        let text: ByteStrings = [vec![b'x'; n_bytes]].into_iter().collect();
        let outputs = [Tensor::from_values(Values::Bytes(text))];
        Answered::of(&signature, &call, &outputs, Duration::ZERO)
    };
    assert!(copied(BYTES_MAX + 1).is_none());
    // What is copied counts with its bytes.
    assert!(copied(1_000_000).unwrap().n_bytes() >= 1_000_000);
    let numbers = Tensor::from_values(Values::F64(vec![0.0; ELEMENTS_MAX].into()));
    assert!(Answered::of(&signature, &call, &[numbers], Duration::ZERO).is_some());
}

/// Serves services that have a shadow.
fn table_of(names: &[String]) -> ModelTable {
    let route = |name: &String| {
        let model = one(name);
        model.set_shadow(Some(Arc::new(tap(name, 100))));
        (id(name), Arc::new(Route::single(Arc::new(model))))
    };
    ModelTable::from_routes(names.iter().map(route).collect())
}

#[test]
fn comparisons_that_nobody_wants_make_room_and_go_after_a_while() {
    let names: Vec<String> = (0..=SHADOWS_MAX).map(|index| format!("s{index}")).collect();
    let table = Arc::new(SharedTable::new(table_of(&names)));
    let clock = Arc::new(ManualClock::new());
    let as_clock: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
    let shadows = Shadows::new((&table, &as_clock), &bounds(1), None);
    let (last, others) = names.split_last().unwrap();
    for name in others {
        assert!(shadows.pair(&tap(name, 100)).is_some());
        clock.advance(Duration::from_secs(1));
    }
    // All are wanted.
    assert!(shadows.pair(&tap(last, 100)).is_none());
    let why = shadows.absence(&id(last));
    assert!(
        why.starts_with(&format!(
            "ml/{last} is not compared with its shadow: 64 services"
        )),
        "{why}"
    );
    let why = shadows.absence(&id("nobody"));
    assert!(
        why.starts_with("no request of ml/nobody was copied"),
        "{why}"
    );
    // Two are not any more, and the one that was used last is the other.
    let wanted = [&names[..7], &names[8..20], &names[21..]].concat();
    table.store(table_of(&wanted));
    shadows
        .pair(&tap("s7", 100))
        .unwrap()
        .note_use(clock.monotonic());
    assert!(shadows.pair(&tap(last, 100)).is_some());
    let has = |name: &str| !shadows.reports(Some(&id(name))).is_empty();
    assert!(has("s7") && !has("s20") && has(last));
    let long = KEPT_FOR + Duration::from_secs(2);
    clock.advance(long);
    assert_eq!(shadows.figures().len(), SHADOWS_MAX - 1);
    assert!(!has("s7") && has("s0"));
}

#[test]
fn the_thread_of_a_comparison_ends_with_it() {
    let table = Arc::new(SharedTable::new(ModelTable::default()));
    let clock = Arc::new(ManualClock::new());
    let as_clock: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
    let shadows = Shadows::new((&table, &as_clock), &bounds(1), None);
    let published = {
        let pair = shadows.pair(&tap("iris", 100)).unwrap();
        Arc::downgrade(&pair.published)
    };
    clock.advance(KEPT_FOR * 2);
    assert_eq!(shadows.figures().len(), 0);
    // It was the last to hold this.
    while published.strong_count() > 0 {
        std::thread::yield_now();
    }
}
