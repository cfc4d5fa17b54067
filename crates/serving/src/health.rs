//! Whether a model can be trusted with requests: one that panics again and again is set aside for a while.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::LoadedModel;

/// So many panics within [`PANIC_WINDOW`], with no call between that went well, set a model aside: one or two may be of
/// odd requests, which is their callers' concern; a model that fails whoever asks should say that it is not ready, so that
/// others are asked instead.
const PANICS_MAX: usize = 5;
/// See [`PANICS_MAX`]. Long enough for a model that is asked a few times a minute.
const PANIC_WINDOW: Duration = Duration::from_secs(60);
/// How long a model is set aside the first time; twice as long each further time that no call went well in between.
const PAUSE: Duration = Duration::from_secs(30);
/// The longest time that a model is set aside.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// What is known of a model's panics.
#[derive(Debug, Default)]
pub(crate) struct Health {
    n_panics: AtomicU64,
    /// Whether there is anything that a call that goes well would change.
    has_trouble: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    panics: VecDeque<Instant>,
    /// How often it was set aside since a call went well.
    n_pauses: u32,
    set_aside: Option<SetAside>,
}

/// A model that takes no calls for a while.
#[derive(Clone, Debug)]
pub(crate) struct SetAside {
    pub(crate) model: Arc<LoadedModel>,
    pub(crate) until: Instant,
    pub(crate) why: String,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how often the model panicked.
    pub(crate) fn n_panics(&self) -> u64 {
        self.n_panics.load(Ordering::Relaxed)
    }

    /// Notes a call that went well; tells whether that ends trouble.
    pub(crate) fn succeed(&self) -> bool {
        if !self.has_trouble.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = self.state();
        if state.set_aside.is_some() {
            // A call that began before it was set aside.
            return false;
        }
        self.has_trouble.store(false, Ordering::Relaxed);
        state.panics.clear();
        std::mem::take(&mut state.n_pauses) > 0
    }

    /// Notes a panic at `now`; tells for how long the model is to be set aside, if it is.
    pub(crate) fn panic(&self, now: Instant) -> Option<Duration> {
        self.n_panics.fetch_add(1, Ordering::Relaxed);
        self.has_trouble.store(true, Ordering::Relaxed);
        let mut state = self.state();
        state.panics.push_back(now);
        let is_old = |then: &Instant| now.duration_since(*then) > PANIC_WINDOW;
        while state.panics.front().is_some_and(is_old) {
            state.panics.pop_front();
        }
        // Whoever was set aside before gets one call to show that it is well.
        let most = if state.n_pauses == 0 { PANICS_MAX } else { 1 };
        if state.panics.len() < most {
            return None;
        }
        state.panics.clear();
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(state.n_pauses));
        state.n_pauses = state.n_pauses.saturating_add(1);
        Some(pause.min(PAUSE_MAX))
    }

    pub(crate) fn set_aside(&self, set_aside: SetAside) {
        self.state().set_aside = Some(set_aside);
    }

    /// Returns why the model takes no calls at `now`, if it is set aside.
    pub(crate) fn trouble(&self, now: Instant) -> Option<String> {
        if !self.has_trouble.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state();
        let set_aside = state.set_aside.as_ref()?;
        (now < set_aside.until).then(|| set_aside.why.clone())
    }

    /// Returns why the model is set aside, if it is: be it that its pause is over at `now`, and nobody has asked for it since.
    pub(crate) fn why_aside(&self, now: Instant) -> Option<String> {
        if !self.has_trouble.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state();
        let set_aside = state.set_aside.as_ref()?;
        Some(match now < set_aside.until {
            true => set_aside.why.clone(),
            false => {
                "the model failed again and again, and nobody has asked for it since".to_owned()
            }
        })
    }

    /// Takes back a model whose pause is over at `now`.
    ///
    /// # Errors
    /// Why it takes no calls yet.
    pub(crate) fn take_back(&self, now: Instant) -> Result<Option<Arc<LoadedModel>>, String> {
        let mut state = self.state();
        match state.set_aside.take() {
            None => Ok(None),
            Some(set_aside) if now < set_aside.until => {
                let why = set_aside.why.clone();
                state.set_aside = Some(set_aside);
                Err(why)
            }
            Some(set_aside) => Ok(Some(set_aside.model)),
        }
    }

    /// Forgets everything but the number of panics: the model was loaded anew.
    pub(crate) fn renew(&self) {
        *self.state() = State::default();
        self.has_trouble.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_panics_within_a_minute_without_success_set_aside() {
        let health = Health::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in [0, 1, 2, 3] {
            assert_eq!(health.panic(at(second)), None);
        }
        assert!(!health.succeed());
        // The count begins anew, and what is older than a minute does not count.
        for second in [10, 11, 12, 13, 72] {
            assert_eq!(health.panic(at(second)), None);
        }
        assert_eq!(health.panic(at(73)), None);
        assert_eq!(health.panic(at(73)), None);
        assert_eq!(health.panic(at(73)), Some(PAUSE));
        assert_eq!(health.n_panics(), 12);
    }

    #[test]
    fn pauses_grow_until_a_call_goes_well() {
        let health = Health::default();
        let now = Instant::now();
        let mut pauses = Vec::new();
        while pauses.len() < 7 {
            pauses.extend(health.panic(now));
        }
        let seconds: Vec<u64> = pauses.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 600, 600]);
        assert!(health.succeed() && !health.succeed());
        assert_eq!(health.panic(now), None);
    }
}
