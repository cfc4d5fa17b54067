//! Who may run now, who waits, who is turned away.
//!
//! Two things are waited for: that the model is loaded (it may have been let go of for want of requests), and, where a
//! predictor limits its concurrency, for a free place, in the order of priorities. Both queues are bounded, and every wait
//! has a deadline.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_base::Code;
use tokio::sync::{Notify, oneshot};

use crate::Priority;
use crate::priority::PriorityQueue;

/// The most requests that wait for one model to be loaded, Knative's number.
const ACTIVATION_QUEUE_MAX: usize = 10_000;
/// Places in the queue for each place to run, Knative's number.
const QUEUE_PER_PLACE: usize = 10;

/// Why a request was turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many are waiting already.
    QueueFull,
    /// Too many of its service's are in work and waiting already.
    BulkheadFull,
    /// Too many are waiting for a thread already, or so many that its time would be over before its turn.
    PoolFull,
    /// The model failed again and again, and rests for a while.
    SetAside(String),
    /// There is nothing to load: why.
    Absent(String),
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
            Self::QueueFull
            | Self::BulkheadFull
            | Self::Failed(_)
            | Self::SetAside(_)
            | Self::Absent(_) => Code::Unavailable,
            Self::PoolFull => Code::ResourceExhausted,
            Self::Deadline => Code::DeadlineExceeded,
            Self::Forwarded => Code::Unimplemented,
        }
    }

    /// Returns it in words; those of Knative where it has some.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::QueueFull => "pending request queue full".to_owned(),
            Self::BulkheadFull => {
                "the service has as many requests as its bulkhead lets in; retry later".to_owned()
            }
            Self::PoolFull => "too many calls are waiting; retry later".to_owned(),
            Self::SetAside(why) | Self::Absent(why) => why.clone(),
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
    places: Arc<Places>,
    /// How many may wait for a place; `None` for some for each place.
    queue_max: Option<usize>,
}

#[derive(Debug)]
struct Places {
    /// The number of places; `usize::MAX` for no limit.
    limit: AtomicUsize,
    state: Mutex<PlacesState>,
}

#[derive(Debug)]
struct PlacesState {
    n_taken: usize,
    /// Those who wait; some may have gone.
    waiting: PriorityQueue<oneshot::Sender<TakenPlace>>,
}

/// A place to run; given back when it is dropped. `None` where there is no limit.
pub(crate) type Place = Option<TakenPlace>;

/// A place of those that are counted.
#[derive(Debug)]
pub(crate) struct TakenPlace {
    places: Option<Arc<Places>>,
}

impl Drop for TakenPlace {
    fn drop(&mut self) {
        if let Some(places) = self.places.take() {
            places.state().n_taken -= 1;
            places.hand_out();
        }
    }
}

/// A place in a queue.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Places {
    fn state(&self) -> MutexGuard<'_, PlacesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Acquire)
    }

    fn take(self: &Arc<Self>, state: &mut PlacesState) -> TakenPlace {
        state.n_taken += 1;
        TakenPlace {
            places: Some(Arc::clone(self)),
        }
    }

    /// Gives the free places to those who wait, in turn.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            if state.n_taken >= self.limit() {
                return;
            }
            let Some(next) = state.waiting.pop() else {
                return;
            };
            let place = self.take(&mut state);
            drop(state);
            if let Err(mut place) = next.send(place) {
                // Its caller has gone; the place is for the next one.
                place.places = None;
                self.state().n_taken -= 1;
            }
        }
    }
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self {
            changed: Arc::default(),
            waiting: AtomicUsize::new(0),
            queue_max: None,
            places: Arc::new(Places {
                limit: AtomicUsize::new(usize::MAX),
                state: Mutex::new(PlacesState {
                    n_taken: 0,
                    waiting: PriorityQueue::new(),
                }),
            }),
        }
    }

    /// Returns one for whose places so many may wait.
    pub(crate) fn with_queue(queue_max: usize) -> Self {
        Self {
            queue_max: Some(queue_max),
            ..Self::new()
        }
    }

    /// Sets the number of places; `None` for no limit. Those who run go on.
    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        let limit = limit.unwrap_or(usize::MAX);
        self.places.limit.store(limit, Ordering::Release);
        self.places.hand_out();
    }

    /// Takes a place if one is free.
    pub(crate) fn try_place(&self) -> Option<Place> {
        let limit = self.places.limit();
        if limit == usize::MAX {
            return Some(None);
        }
        let mut state = self.places.state();
        (state.n_taken < limit).then(|| Some(self.places.take(&mut state)))
    }

    /// Takes a place in the queue for a place to run.
    pub(crate) fn queue_for_place(&self) -> Result<Waiting<'_>, Refusal> {
        let by_places = || self.places.limit().saturating_mul(QUEUE_PER_PLACE);
        self.queue(self.queue_max.unwrap_or_else(by_places))
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

    /// Waits for a place to run; those of a higher priority have theirs first.
    pub(crate) async fn place(
        &self,
        priority: Priority,
        deadline: tokio::time::Instant,
    ) -> Result<Place, Refusal> {
        let _waiting = self.queue_for_place()?;
        let place = {
            let mut state = self.places.state();
            let limit = self.places.limit();
            if limit == usize::MAX {
                return Ok(None);
            }
            if state.n_taken < limit {
                return Ok(Some(self.places.take(&mut state)));
            }
            // Those who have gone must not pile up while nobody gives a place back.
            if state.waiting.len() > 2 * self.n_waiting() {
                drop(state.waiting.take_where(oneshot::Sender::is_closed));
            }
            let (sender, place) = oneshot::channel();
            state.waiting.push(priority, sender);
            place
        };
        match tokio::time::timeout_at(deadline, place).await {
            Ok(Ok(place)) => Ok(Some(place)),
            // The queue is there as long as the model is.
            Ok(Err(_closed)) => Err(Refusal::Failed("it is no longer served".to_owned())),
            Err(_elapsed) => Err(Refusal::Deadline),
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
        assert_eq!(
            admission.place(Priority::DEFAULT, soon).await.unwrap_err(),
            Refusal::QueueFull
        );
        drop(waits);
        assert_eq!(admission.n_waiting(), 0);
        assert_eq!(
            admission.place(Priority::DEFAULT, soon).await.unwrap_err(),
            Refusal::Deadline
        );
        let soon = deadline_in(Duration::from_secs(1));
        let (second, ()) = tokio::join!(admission.place(Priority::DEFAULT, soon), async {
            drop(first)
        });
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
        let (waited, ()) = tokio::join!(admission.place(Priority::DEFAULT, soon), async {
            admission.set_limit(None)
        });
        assert!(waited.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_urgent_have_their_places_first_and_who_goes_leaves() {
        let admission = Admission::new();
        admission.set_limit(Some(1));
        let first = admission.try_place().unwrap();
        let order = Mutex::new(Vec::new());
        let soon = deadline_in(Duration::from_secs(1));
        let wait = async |level: u64, name: &'static str| {
            let place = admission.place(Priority::from_wire(level), soon).await;
            order.lock().unwrap().push(name);
            drop(place.unwrap());
        };
        let gone = async {
            let wait = admission.place(Priority::from_wire(1), soon);
            tokio::select! {
                _ = wait => panic!("no place is free"),
                () = tokio::task::yield_now() => {}
            }
        };
        tokio::join!(
            gone,
            wait(0, "third"),
            wait(1, "first"),
            wait(5, "last"),
            wait(2, "second"),
            async {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                drop(first);
            }
        );
        assert_eq!(*order.lock().unwrap(), ["first", "second", "third", "last"]);
        assert!(admission.try_place().is_some() && admission.n_waiting() == 0);
    }
}
