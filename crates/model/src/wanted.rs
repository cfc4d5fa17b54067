//! Whether somebody still waits for a run, told from another thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is called when nobody waits any more; it returns at once.
type Stop = Box<dyn Fn() + Send>;

/// Whether somebody still waits for a run. Clones are of one call.
#[derive(Clone, Debug, Default)]
pub struct Wanted(Arc<Call>);

#[derive(Default)]
struct Call {
    is_over: AtomicBool,
    stops: Mutex<Stops>,
}

#[derive(Default)]
struct Stops {
    by_number: BTreeMap<u64, Stop>,
    n_ever: u64,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

impl Call {
    fn stops(&self) -> MutexGuard<'_, Stops> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    /// Says that nobody waits any more, and stops what runs for the call.
    pub fn leave(&self) {
        self.0.is_over.store(true, Ordering::Release);
        let stops = std::mem::take(&mut self.0.stops().by_number);
        stops.into_values().for_each(|stop| stop());
    }

    /// Tells whether nobody waits any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }

    /// Calls `stop` when nobody waits any more: at once if that is so already, never once the result is dropped.
    pub fn on_leave(&self, stop: impl Fn() + Send + 'static) -> OnLeave {
        let mut stops = self.0.stops();
        let number = stops.n_ever;
        stops.n_ever = stops.n_ever.wrapping_add(1);
        stops.by_number.insert(number, Box::new(stop));
        drop(stops);
        // Whoever left before did not see it.
        if self.is_over() {
            self.leave();
        }
        OnLeave {
            call: Arc::clone(&self.0),
            number,
        }
    }
}

/// Something that is stopped when nobody waits any more, until this is dropped.
#[derive(Debug)]
pub struct OnLeave {
    call: Arc<Call>,
    number: u64,
}

impl Drop for OnLeave {
    fn drop(&mut self) {
        self.call.stops().by_number.remove(&self.number);
    }
}

/// Calls `stop` when nobody waits for any of `calls` any more; never if there are none, and never once the result is dropped.
pub fn on_all_left(calls: &[Wanted], stop: impl Fn() + Send + Sync + 'static) -> Vec<OnLeave> {
    if calls.is_empty() {
        return Vec::new();
    }
    let n_left = Arc::new(AtomicUsize::new(calls.len()));
    let stop = Arc::new(stop);
    let watched = calls.iter().map(|call| {
        let (n_left, stop) = (Arc::clone(&n_left), Arc::clone(&stop));
        call.on_leave(move || {
            if n_left.fetch_sub(1, Ordering::AcqRel) == 1 {
                stop();
            }
        })
    });
    watched.collect()
}

/// Tells whether nobody waits for any of `calls` any more; there has to be one.
#[must_use]
pub fn have_all_left(calls: &[Wanted]) -> bool {
    !calls.is_empty() && calls.iter().all(Wanted::is_over)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> (Arc<AtomicUsize>, impl Fn() + Send + Sync + 'static) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let count_up = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        (count, count_up)
    }

    #[test]
    fn what_runs_is_stopped_once_when_nobody_waits() {
        let wanted = Wanted::default();
        let (count, stop) = counter();
        let watched = wanted.on_leave(stop);
        assert!(!wanted.is_over() && count.load(Ordering::Relaxed) == 0);
        wanted.clone().leave();
        wanted.leave();
        assert!(wanted.is_over());
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(watched);
        // Too late for it, at once for the next.
        let (count, stop) = counter();
        let _watched = wanted.on_leave(stop);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_over_is_not_stopped() {
        let wanted = Wanted::default();
        let (count, stop) = counter();
        drop(wanted.on_leave(stop));
        wanted.leave();
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_run_for_several_goes_on_for_the_last() {
        let calls = [Wanted::default(), Wanted::default()];
        let (count, stop) = counter();
        let watched = on_all_left(&calls, stop);
        calls[0].leave();
        calls[0].leave();
        assert!(count.load(Ordering::Relaxed) == 0 && !have_all_left(&calls));
        calls[1].leave();
        assert!(count.load(Ordering::Relaxed) == 1 && have_all_left(&calls));
        drop(watched);
        let (count, stop) = counter();
        assert!(on_all_left(&[], stop).is_empty() && !have_all_left(&[]));
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
