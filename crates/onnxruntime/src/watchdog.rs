//! Ends what takes too long: the runtime looks at a flag between the nodes of a graph, and a thread of ours sets it in time.
//!
//! A single node that takes long is not ended within.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use coracle_base::{Clock, SystemClock};

/// What is called to end something; it returns at once.
type Stop = Box<dyn Fn() + Send>;

/// Ends what is not over in time.
#[derive(Debug)]
pub(crate) struct Watchdog {
    clock: SystemClock,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By when each is ended; the second number tells those of one time apart.
    watched: BTreeMap<(Duration, u64), Stop>,
    n_watched_ever: u64,
    /// When the thread looks next unless it is told to before; `None` for never.
    wakes_at: Option<Duration>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("watched", &self.watched.len())
            .finish_non_exhaustive()
    }
}

/// Something that is watched until this is dropped.
pub(crate) struct Watched {
    watchdog: &'static Watchdog,
    key: (Duration, u64),
    is_over: Arc<AtomicBool>,
}

impl Watchdog {
    /// Starts one, for as long as the process lives.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub(crate) fn start() -> std::io::Result<&'static Self> {
        let watchdog: &'static Self = Box::leak(Box::new(Self {
            clock: SystemClock::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }));
        let thread = thread::Builder::new().name("onnx-watchdog".to_owned());
        thread.spawn(|| watchdog.run())?;
        Ok(watchdog)
    }

    /// Returns the time on the clock by which deadlines are told.
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Calls `stop` at `until`, unless what is returned is dropped before.
    pub(crate) fn watch(
        &'static self,
        until: Duration,
        stop: impl Fn() + Send + 'static,
    ) -> Watched {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let stop = move || {
            told.store(true, Ordering::Release);
            stop();
        };
        let mut state = self.state();
        let key = (until, state.n_watched_ever);
        state.n_watched_ever = state.n_watched_ever.wrapping_add(1);
        state.watched.insert(key, Box::new(stop));
        let is_soon = state.wakes_at.is_none_or(|wakes_at| until < wakes_at);
        drop(state);
        if is_soon {
            self.changed.notify_one();
        }
        Watched {
            watchdog: self,
            key,
            is_over,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.state();
        loop {
            let now = self.now();
            while let Some(first) = state.watched.first_entry() {
                if first.key().0 > now {
                    break;
                }
                let stop = first.remove();
                stop();
            }
            let first = state.watched.first_key_value();
            state.wakes_at = first.map(|((until, _), _)| *until);
            state = match state.wakes_at {
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
                Some(until) => {
                    let left = until.saturating_sub(now);
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Watched {
    /// Tells whether it was ended.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watchdog.state().watched.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_over_in_time_is_not_ended_and_all_else_is() {
        let watchdog = Watchdog::start().unwrap();
        let (tell, told) = mpsc::channel();
        let watch = |until, name: &'static str| {
            let tell = tell.clone();
            watchdog.watch(until, move || tell.send(name).unwrap())
        };
        let late = watch(Duration::MAX, "late");
        let dropped = watch(
            watchdog.now().saturating_add(Duration::from_secs(600)),
            "dropped",
        );
        drop(dropped);
        // Earlier than what the thread waits for.
        let soon = watch(watchdog.now(), "soon");
        assert_eq!(told.recv().unwrap(), "soon");
        assert!(soon.is_over() && !late.is_over());
        drop((soon, late));
        assert!(watchdog.state().watched.is_empty());
        assert!(told.try_recv().is_err());
    }
}
