//! Busy polling: for a while after each answer an event loop asks its sockets again and again, instead of sleeping until the system
//! wakes it.
//!
//! Being woken takes longer than answering: tens of microseconds on virtual machines. What it costs is the processor, for as long as
//! requests keep coming and the given time after the last.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use tokio::sync::Notify;

/// Where a look at the sockets takes longer, without a request, others have used the processor: there are none to spare.
const LOOK_MAX: Duration = Duration::from_micros(20);

/// How long an event loop looks for the answer of a request that runs elsewhere: one that takes longer needs the processors itself.
const ANSWER_MAX: Duration = Duration::from_micros(50);

/// What keeps an event loop awake.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    /// How long after an answer.
    time: Duration,
    n_begun: Cell<u64>,
    n_ended: Cell<u64>,
    changed: Notify,
}

impl BusyPoll {
    /// Keeps this event loop awake for so long after each answer, until the loop ends.
    pub(crate) fn start(time: Duration, clock: &Arc<dyn Clock>) -> Rc<Self> {
        let (busy_poll, clock) = (Rc::new(Self::new(time)), Arc::clone(clock));
        let running = Rc::clone(&busy_poll);
        tokio::task::spawn_local(async move { running.run(clock.as_ref()).await });
        busy_poll
    }

    fn new(time: Duration) -> Self {
        Self {
            time,
            n_begun: Cell::new(0),
            n_ended: Cell::new(0),
            changed: Notify::new(),
        }
    }

    /// Is told of a request.
    pub(crate) fn begin(&self) {
        self.n_begun.set(self.n_begun.get().wrapping_add(1));
        self.changed.notify_one();
    }

    /// Is told of the end of a request.
    pub(crate) fn end(&self) {
        self.n_ended.set(self.n_ended.get().wrapping_add(1));
        self.changed.notify_one();
    }

    /// Returns how many requests began and ended, and for how long to look for the next or for an answer.
    fn seen(&self) -> ((u64, u64), Duration) {
        let seen = (self.n_begun.get(), self.n_ended.get());
        let time = match seen.0 == seen.1 {
            true => self.time,
            false => self.time.min(ANSWER_MAX),
        };
        (seen, time)
    }

    /// Keeps the event loop awake for as long as it is told to; never ends.
    async fn run(&self, clock: &dyn Clock) {
        let mut seen = (0, 0);
        loop {
            self.changed.notified().await;
            let before = seen;
            let mut time;
            (seen, time) = self.seen();
            if seen == before {
                // It was told of that while it was awake.
                continue;
            }
            let mut last = clock.monotonic();
            let mut until = last + time;
            loop {
                // The loop looks at its sockets before it comes back.
                tokio::task::yield_now().await;
                let now = clock.monotonic();
                let before = seen;
                (seen, time) = self.seen();
                if seen != before {
                    until = now + time;
                } else if now >= until || now.saturating_sub(last) > LOOK_MAX {
                    break;
                }
                last = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};

    use coracle_base::ManualClock;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Lets so many microseconds pass, looks, and tells whether there is to be another look.
    fn looks_on(clock: &ManualClock, run: Pin<&mut impl Future<Output = ()>>, micros: u64) -> bool {
        clock.advance(Duration::from_micros(micros));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let polled = run.poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        woken.0.load(Ordering::Relaxed)
    }

    fn answered(busy: &BusyPoll) {
        busy.begin();
        busy.end();
    }

    #[test]
    fn it_is_awake_for_the_given_time_after_the_last_request() {
        let clock = ManualClock::new();
        let busy = BusyPoll::new(Duration::from_micros(100));
        let mut run = pin!(busy.run(&clock));
        let mut goes_on = |micros| looks_on(&clock, run.as_mut(), micros);
        assert!(!goes_on(0));
        answered(&busy);
        assert!(goes_on(0));
        assert!((0..9).all(|_| goes_on(11)));
        // Another request, another hundred microseconds.
        answered(&busy);
        assert!(goes_on(0));
        assert!((0..9).all(|_| goes_on(11)));
        // What was told of while it was awake keeps it awake no longer than it did.
        assert!(!goes_on(1));
        assert!(!goes_on(0));
        answered(&busy);
        assert!(goes_on(0));
    }

    #[test]
    fn it_sleeps_while_a_long_request_runs_elsewhere_and_is_awake_after_its_answer() {
        let clock = ManualClock::new();
        let busy = BusyPoll::new(Duration::from_micros(100));
        let mut run = pin!(busy.run(&clock));
        let mut goes_on = |micros| looks_on(&clock, run.as_mut(), micros);
        assert!(!goes_on(0));
        busy.begin();
        assert!(goes_on(0));
        assert!((0..4).all(|_| goes_on(11)));
        assert!(!goes_on(11));
        assert!(!goes_on(0));
        busy.end();
        assert!(goes_on(0));
        assert!((0..9).all(|_| goes_on(11)));
        assert!(!goes_on(1));
        // Of two requests one is answered: the other one's answer is what is looked for.
        busy.begin();
        busy.begin();
        busy.end();
        assert!(goes_on(0));
        assert!((0..4).all(|_| goes_on(11)));
        assert!(!goes_on(11));
    }

    #[test]
    fn it_sleeps_where_others_want_the_processor() {
        let clock = ManualClock::new();
        let busy = BusyPoll::new(Duration::from_micros(100));
        let mut run = pin!(busy.run(&clock));
        let mut goes_on = |micros| looks_on(&clock, run.as_mut(), micros);
        assert!(!goes_on(0));
        answered(&busy);
        assert!(goes_on(0));
        assert!(goes_on(20));
        // Whoever answers requests takes longer.
        answered(&busy);
        assert!(goes_on(500));
        assert!(goes_on(20));
        // What was told of before is answered; nothing came since.
        assert!(!goes_on(21));
    }
}
