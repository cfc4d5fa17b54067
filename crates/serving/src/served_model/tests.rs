//! Models that do as they are told, for tests here and elsewhere; and what is served of them.

use std::sync::atomic::AtomicUsize;

use coracle_model::{Description, HeldMemory, Model, RunErrorKind, SharedMemory, Signature};

use super::*;
use crate::LoadPhases;

/// A model that fails as it is told.
#[derive(Debug)]
pub(crate) struct Faulty {
    signature: Signature,
    description: Description,
    panics: bool,
    shared: Vec<HeldMemory>,
}

impl Model for Faulty {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, _inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        assert!(!self.panics, "told to");
        Ok(Vec::new())
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        let shared = self.shared.iter();
        7 + shared.map(HeldMemory::bytes).sum::<usize>()
    }

    fn shared_memory(&self) -> &[HeldMemory] {
        &self.shared
    }
}

pub(crate) fn faulty(panics: bool) -> Faulty {
    Faulty {
        signature: Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: vec![],
            outputs: vec![],
            default_outputs: vec![],
            columns: None,
        },
        description: Description::default(),
        panics,
        shared: Vec::new(),
    }
}

/// Returns a model of seven bytes beside what it holds with others.
pub(crate) fn sharing(name: &str, memory: &SharedMemory) -> LoadedModel {
    let model = Faulty {
        shared: vec![memory.hold()],
        ..faulty(false)
    };
    LoadedModel::new(name.to_owned(), Box::new(model), LoadPhases::default())
}

pub(crate) fn loaded(name: &str, panics: bool) -> LoadedModel {
    LoadedModel::new(
        name.to_owned(),
        Box::new(faulty(panics)),
        LoadPhases::default(),
    )
}

pub(crate) fn served(name: &str, panics: bool) -> ServedModel {
    ServedModel::new(loaded(name, panics), 1)
}

/// Whether a revision that stands in is ready changes again and again.
#[test]
fn what_a_breaker_has_seen_stays_where_its_terms_do() {
    let model = served("a", false);
    let settings = |revision: Option<&str>, breaker_failures| FallbackSettings {
        revision: revision.map(str::to_owned),
        breaker_failures: Some(breaker_failures),
        ..FallbackSettings::default()
    };
    let state = || {
        let fallback = model.fallback().unwrap();
        (fallback.state(|_| ()).unwrap(), fallback.n_fallbacks())
    };
    model.set_fallback(Some(&settings(None, 5)));
    let (seen, _) = state();
    model.fallback().unwrap().count_fallback();
    model.set_fallback(Some(&settings(Some("b"), 5)));
    let (later, n_fallbacks) = state();
    assert!(Arc::ptr_eq(&seen, &later));
    assert_eq!(n_fallbacks, 1);
    // Of other terms it has seen nothing.
    model.set_fallback(Some(&settings(Some("b"), 6)));
    let (other, n_fallbacks) = state();
    assert!(!Arc::ptr_eq(&seen, &other));
    assert_eq!(n_fallbacks, 1);
}

/// A counter that went and came back at 0 would look like a restart.
#[test]
fn what_was_counted_stays_while_nothing_is_done() {
    let model = served("a", false);
    let retries = FallbackSettings {
        retries: 2,
        ..FallbackSettings::default()
    };
    model.set_fallback(None);
    assert!(model.fallback().is_none());
    model.set_fallback(Some(&retries));
    model.fallback().unwrap().count_retry();
    let budget = model.fallback().unwrap().state(|_| ()).unwrap();
    model.set_fallback(None);
    assert!(!model.has_fallback() && model.fallback().is_none());
    let resting = model.counted_fallback().unwrap();
    assert_eq!(resting.settings(), &FallbackSettings::default());
    assert_eq!(resting.n_retries(), 1);
    model.set_fallback(Some(&FallbackSettings {
        retries: 1,
        ..retries
    }));
    assert!(model.has_fallback());
    let fallback = model.fallback().unwrap();
    assert_eq!((fallback.settings().retries, fallback.n_retries()), (1, 1));
    assert!(Arc::ptr_eq(&budget, &fallback.state(|_| ()).unwrap()));
}

#[test]
fn a_panic_is_one_failed_call() {
    let model = served("bad", true);
    for _ in 0..2 {
        let error = model.try_enter().unwrap().run(&[], &[]).unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::Internal);
        assert!(
            error.to_string().starts_with("model 'bad' failed"),
            "{error}"
        );
    }
    assert!(
        served("good", false)
            .try_enter()
            .unwrap()
            .run(&[], &[])
            .is_ok()
    );
}

#[test]
fn labels_are_escaped() {
    assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    let model = served("a\"", false).with_version(3);
    assert_eq!(model.labels(), "model=\"a\\\"\",version=\"3\"");
}

/// What is served, asleep, and the number of times it was woken.
pub(super) fn asleep() -> (Arc<ServedModel>, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let id = RevisionId {
        namespace: "n".to_owned(),
        name: "r".to_owned(),
    };
    let log = RevisionLog::none(Arc::new(coracle_base::ManualClock::new()));
    let wake = Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let served = ServedModel::unloaded("a".to_owned(), 1).with_revision(&id, log, wake);
    (Arc::new(served), woken)
}

#[tokio::test(start_paused = true)]
async fn a_call_wakes_a_model_and_waits_for_it() {
    let (served, woken) = asleep();
    assert!(served.try_enter().is_none());
    let second = Duration::from_secs(1);
    let (entered, ()) = tokio::join!(served.enter(second), async {
        tokio::task::yield_now().await;
        assert_eq!(served.n_waiting(), 1);
        served.load(loaded("a", false));
    });
    assert!(entered.unwrap().run(&[], &[]).is_ok());
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert!(served.try_enter().is_some() && served.n_waiting() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_does_not_come_is_told() {
    let (served, _) = asleep();
    let second = Duration::from_secs(1);
    assert_eq!(served.enter(second).await.unwrap_err(), Refusal::Deadline);
    let (entered, ()) = tokio::join!(served.enter(second), async {
        tokio::task::yield_now().await;
        served.fail("the file is gone");
    });
    assert_eq!(
        entered.unwrap_err(),
        Refusal::Failed("the file is gone".to_owned())
    );
    // The next one tries again.
    let (entered, ()) = tokio::join!(served.enter(second), async {
        tokio::task::yield_now().await;
        served.load(loaded("a", false));
    });
    assert!(entered.is_ok());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_is_retired() {
    let (served, _) = asleep();
    let (entered, ()) = tokio::join!(served.enter(Duration::from_secs(1)), async {
        tokio::task::yield_now().await;
        served.retire();
    });
    assert!(matches!(entered.unwrap_err(), Refusal::Failed(_)));
}

#[test]
fn calls_end_on_the_model_that_they_have() {
    let served = served("a", false);
    let lease = served.try_enter().unwrap();
    served.unload();
    assert!(served.try_enter().is_none() && served.loaded().is_none());
    assert!(lease.run(&[], &[]).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_panics_again_and_again_is_set_aside_until_it_is_well() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = {
        let told = Arc::clone(&told);
        Box::new(move |trouble: Option<&str>| told.lock().unwrap().push(trouble.is_some()))
    };
    let model = served("bad", true).with_health_listener(tell);
    let second = Duration::from_secs(1);
    for _ in 0..5 {
        let lease = model.enter(second).await.unwrap();
        assert!(model.run(&lease, &[], &[], Duration::MAX).is_err());
    }
    assert!(model.trouble().is_some() && model.try_enter().is_none());
    let refusal = model.enter(second).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert_eq!(model.status().state, VersionState::End);
    // The first call after the pause tries it; it is no better.
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(model.trouble().is_none());
    let lease = model.enter(second).await.unwrap();
    assert!(model.run(&lease, &[], &[], Duration::MAX).is_err());
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(model.enter(second).await.is_err());
    // Loaded anew, it is another model.
    model.load(loaded("bad", false));
    let lease = model.enter(second).await.unwrap();
    assert!(model.run(&lease, &[], &[], Duration::MAX).is_ok());
    assert_eq!((model.n_panics(), model.trouble()), (6, None));
    assert_eq!(*told.lock().unwrap(), [true, true]);
}
