//! Models that do not all fit, asked for in turn.

use std::sync::atomic::AtomicUsize;

use coracle_base::{ByteCount, ManualClock};

use super::*;
use crate::Refusal;
use crate::served_model::tests::loaded;

const MINUTE: Duration = Duration::from_secs(60);

/// Counts the loads, and fails as it is told.
struct Counted {
    name: &'static str,
    n_loads: Arc<AtomicUsize>,
    is_broken: Arc<AtomicBool>,
}

impl ModelSource for Counted {
    fn file_bytes(&self) -> u64 {
        0
    }

    fn load(&self, _reason: LoadReason) -> Result<LoadedModel, LoadFailure> {
        self.n_loads.fetch_add(1, Ordering::Relaxed);
        match self.is_broken.load(Ordering::Relaxed) {
            true => Err(LoadFailure {
                code: Code::InvalidArgument,
                message: "the file is broken".to_owned(),
                is_transient: false,
            }),
            false => Ok(loaded(self.name, false)),
        }
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    on_demand: Arc<OnDemand>,
    n_loads: Arc<AtomicUsize>,
    is_broken: Arc<AtomicBool>,
    _threads: OnDemandThreads,
}

fn bench(limit: u64) -> Bench {
    bench_of(limit, 2)
}

fn bench_of(limit: u64, n_threads: usize) -> Bench {
    let clock = Arc::new(ManualClock::new());
    let budget = MemoryBudget::new(ByteCount::new(limit), clock.clone());
    let on_demand = Arc::new(OnDemand::new(Arc::new(budget), clock.clone()));
    let _threads = on_demand.start(n_threads).unwrap();
    Bench {
        clock,
        on_demand,
        n_loads: Arc::default(),
        is_broken: Arc::default(),
        _threads,
    }
}

impl Bench {
    fn register(&self, name: &'static str) -> (Arc<Sleeper>, Arc<ServedModel>) {
        let source = Counted {
            name,
            n_loads: Arc::clone(&self.n_loads),
            is_broken: Arc::clone(&self.is_broken),
        };
        let sleeper = Arc::new(Sleeper::new(Box::new(source), Arc::new(|| ())));
        let model = ServedModel::unloaded(name.to_owned(), 1);
        let model = self.on_demand.serve(&sleeper, model);
        (sleeper, model)
    }

    fn n_loads(&self) -> usize {
        self.n_loads.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn models_that_do_not_all_fit_are_loaded_when_they_are_asked_for() {
    // One thread is done with a load before it begins the next: the order of evictions is the order of loads.
    let bench = bench_of(14, 1);
    let models = ["a", "b", "c", "d"].map(|name| bench.register(name).1);
    for round in 1..=3 {
        for model in &models {
            let lease = model.enter(MINUTE).await.unwrap();
            assert!(lease.run(&[], &[]).is_ok());
        }
        // Two fit, so each of four in turn is loaded anew.
        assert_eq!(bench.n_loads(), round * 4);
        assert!(bench.on_demand.budget().used_bytes() <= 14);
    }
    let counters = bench.on_demand.budget().counters();
    assert_eq!(counters.evictions(), 10);
    assert_eq!(counters.loads(LoadReason::Request), 12);
    assert_eq!(counters.reloads().0.iter().sum::<u64>(), 12);
}

#[tokio::test]
async fn those_who_ask_together_share_one_load() {
    let bench = bench(7);
    let (_sleeper, model) = bench.register("a");
    let enter = || model.enter(MINUTE);
    let (a, b, c) = tokio::join!(enter(), enter(), enter());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(bench.n_loads(), 1);
}

#[tokio::test]
async fn a_failure_is_believed_for_a_while() {
    let bench = bench(7);
    let (sleeper, model) = bench.register("a");
    bench.is_broken.store(true, Ordering::Relaxed);
    let failed = Refusal::Failed("the file is broken".to_owned());
    for _ in 0..3 {
        assert_eq!(model.enter(MINUTE).await.unwrap_err(), failed);
    }
    assert_eq!(bench.n_loads(), 1);
    bench.clock.advance(RETRY_PAUSE);
    assert_eq!(model.enter(MINUTE).await.unwrap_err(), failed);
    assert_eq!(bench.n_loads(), 2);
    // Another file is another matter.
    bench.is_broken.store(false, Ordering::Relaxed);
    bench.on_demand.refresh(&sleeper, false).unwrap();
    assert!(!model.is_loaded() && model.enter(MINUTE).await.is_ok());
}

#[tokio::test]
async fn what_is_there_is_replaced_and_what_is_not_waits() {
    let bench = bench(14);
    let (a, served) = bench.register("a");
    bench.on_demand.load_if_room(&a).unwrap();
    let (b, other) = bench.register("b");
    // Not known to fit: seven bytes are there, and its file counts.
    bench.on_demand.load_if_room(&b).unwrap();
    assert!(served.is_loaded() && other.is_loaded());
    assert_eq!(bench.n_loads(), 2);
    bench.on_demand.refresh(&a, false).unwrap();
    assert_eq!(bench.n_loads(), 3);
    assert_eq!(
        bench.on_demand.budget().counters().loads(LoadReason::Ahead),
        3
    );
    assert!(bench.on_demand.budget().used_bytes() <= 14 && served.is_loaded());
}

#[tokio::test]
async fn a_model_larger_than_the_budget_fails_its_requests_alone() {
    let bench = bench(6);
    let (_sleeper, model) = bench.register("a");
    let Refusal::Failed(why) = model.enter(MINUTE).await.unwrap_err() else {
        panic!()
    };
    assert!(why.contains("7 B") && why.contains("6 B"), "{why}");
}
