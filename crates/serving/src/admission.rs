//! Who may run now, who waits, who is turned away.
//!
//! Two things are waited for: that the model is loaded (it may have been let go of for want of requests), and, where a
//! predictor limits its concurrency, for a free place. Both queues are bounded, and every wait has a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_base::Code;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The most requests that wait for one model to be loaded, Knative's number.
const ACTIVATION_QUEUE_MAX: usize = 10_000;
/// Places in the queue for each place to run, Knative's number.
const QUEUE_PER_PLACE: usize = 10;

/// Why a request was turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many are waiting already.
    QueueFull,
    /// Its time was over before its turn came.
    Deadline,
    /// What it waited for did not load.
    Failed(String),
    /// A program serves what it asks for, and is not asked in this way.
    Forwarded,
}

impl Refusal {
    /// Returns the failure that it is.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            // As Knative answers when its queues are full.
            Self::QueueFull | Self::Failed(_) => Code::Unavailable,
            Self::Deadline => Code::DeadlineExceeded,
            Self::Forwarded => Code::Unimplemented,
        }
    }

    /// Returns it in words; those of Knative where it has some.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::QueueFull => "pending request queue full".to_owned(),
            Self::Deadline => "the request's time was over before its turn came".to_owned(),
            Self::Forwarded => {
                "a program serves it, which is asked with requests of its own: not within a stream that others answer"
                    .to_owned()
            }
            Self::Failed(why) => format!("the model was to be loaded for this request: {why}"),
        }
    }
}

/// The places to run of one model.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Told when the model is loaded, or fails to.
    pub(crate) changed: Arc<Notify>,
    waiting: AtomicUsize,
    /// The number of places; `usize::MAX` for no limit.
    limit: AtomicUsize,
    places: Arc<Semaphore>,
}

/// A place to run; given back when it is dropped. `None` where there is no limit.
pub(crate) type Place = Option<OwnedSemaphorePermit>;

/// A place in a queue.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self {
            changed: Arc::default(),
            waiting: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            places: Arc::new(Semaphore::new(0)),
        }
    }

    /// Sets the number of places; `None` for no limit. Those who run go on.
    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        let limit = limit.map_or(usize::MAX, |limit| limit.min(Semaphore::MAX_PERMITS));
        let before = self.limit.swap(limit, Ordering::AcqRel);
        let n_before = if before == usize::MAX { 0 } else { before };
        let n_after = if limit == usize::MAX { 0 } else { limit };
        if n_after >= n_before {
            self.places.add_permits(n_after - n_before);
        } else {
            // Places that are taken go once they are given back.
            let n_surplus = n_before - n_after;
            let n_forgotten = self.places.forget_permits(n_surplus);
            let places = Arc::clone(&self.places);
            if n_forgotten < n_surplus {
                let n_left = u32::try_from(n_surplus - n_forgotten).unwrap_or(u32::MAX);
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move {
                        if let Ok(taken) = places.acquire_many_owned(n_left).await {
                            taken.forget();
                        }
                    });
                }
            }
        }
        if limit == usize::MAX {
            // Whoever waited for a place needs none any more.
            self.changed.notify_waiters();
        }
    }

    fn is_limited(&self) -> bool {
        self.limit.load(Ordering::Acquire) != usize::MAX
    }

    /// Takes a place if one is free.
    pub(crate) fn try_place(&self) -> Option<Place> {
        if !self.is_limited() {
            return Some(None);
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.ok().map(Some)
    }

    /// Takes a place in the queue for a place to run.
    pub(crate) fn queue_for_place(&self) -> Result<Waiting<'_>, Refusal> {
        let limit = self.limit.load(Ordering::Acquire);
        self.queue(limit.saturating_mul(QUEUE_PER_PLACE))
    }

    /// Takes a place in the queue for the model.
    pub(crate) fn queue_for_model(&self) -> Result<Waiting<'_>, Refusal> {
        self.queue(ACTIVATION_QUEUE_MAX)
    }

    fn queue(&self, n_most: usize) -> Result<Waiting<'_>, Refusal> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= n_most {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::QueueFull);
        }
        Ok(Waiting(&self.waiting))
    }

    /// Waits for a place to run.
    pub(crate) async fn place(&self, deadline: tokio::time::Instant) -> Result<Place, Refusal> {
        let _waiting = self.queue_for_place()?;
        loop {
            let lifted = self.changed.notified();
            if !self.is_limited() {
                return Ok(None);
            }
            let place = Arc::clone(&self.places).acquire_owned();
            tokio::select! {
                place = place => return Ok(place.ok()),
                () = lifted => {}
                () = tokio::time::sleep_until(deadline) => return Err(Refusal::Deadline),
            }
        }
    }

    /// Returns how many wait.
    pub(crate) fn n_waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Returns the end of a wait of `time` from now.
pub(crate) fn deadline_in(time: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn places_are_limited_and_the_queue_is_bounded() {
        let admission = Admission::new();
        assert!(admission.try_place().is_some_and(|place| place.is_none()));
        admission.set_limit(Some(1));
        let first = admission.try_place().flatten().unwrap();
        assert!(admission.try_place().is_none());
        // Ten may wait, the eleventh may not.
        let soon = deadline_in(Duration::from_secs(1));
        let waits: Vec<_> = (0..10)
            .map(|_| admission.queue_for_place().unwrap())
            .collect();
        assert_eq!(admission.place(soon).await.unwrap_err(), Refusal::QueueFull);
        drop(waits);
        assert_eq!(admission.n_waiting(), 0);
        assert_eq!(admission.place(soon).await.unwrap_err(), Refusal::Deadline);
        let soon = deadline_in(Duration::from_secs(1));
        let (second, ()) = tokio::join!(admission.place(soon), async { drop(first) });
        assert!(second.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn limits_change_while_requests_run() {
        let admission = Arc::new(Admission::new());
        admission.set_limit(Some(2));
        let (one, two) = (
            admission.try_place().unwrap(),
            admission.try_place().unwrap(),
        );
        admission.set_limit(Some(1));
        drop(one);
        tokio::task::yield_now().await;
        // The place of the first is gone, the second still runs.
        assert!(admission.try_place().is_none());
        drop(two);
        tokio::task::yield_now().await;
        let last = admission.try_place().unwrap();
        assert!(last.is_some() && admission.try_place().is_none());
        // Who waits goes on when the limit is lifted.
        let soon = deadline_in(Duration::from_secs(1));
        let (waited, ()) = tokio::join!(admission.place(soon), async { admission.set_limit(None) });
        assert!(waited.unwrap().is_none());
    }
}
