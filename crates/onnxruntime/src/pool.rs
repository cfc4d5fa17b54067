//! The sessions of a graph, of which a run takes one for itself.
//!
//! A run that is alone takes the session whose parts go to all threads; runs that meet each take one that stays on the thread that
//! asks. Handing parts over costs time that nobody misses while processors are idle; where all of them are busy it is lost.
//!
//! Sessions that are missing are made beside the runs, one at a time: a run that finds none waits for one that is given back or for the
//! new one, whichever comes first. That none can be made costs no run more than the wait for those that are there.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// After a session that could not be made, so many runs meet before it is tried again; twice as many after each further one.
const MEETINGS_AFTER_FAILURE: u64 = 16;
/// More than so many times that is not doubled.
const DOUBLINGS_MAX: u32 = 16;

#[derive(Debug)]
pub(crate) struct Pool<S> {
    sessions: Mutex<Sessions<S>>,
    is_free: Condvar,
}

#[derive(Debug)]
struct Sessions<S> {
    /// For a run that is alone, or finds no other; `None` while it runs, or where all sessions are alike.
    wide: Option<S>,
    free: Vec<S>,
    /// The sessions beside the wide one, in use or free.
    n_there: usize,
    n_running: usize,
    /// The most runs at a time, and the most sessions beside the wide one.
    n_max: usize,
    is_making: bool,
    /// How many times in turn none could be made, and how many runs are yet to meet before it is tried again.
    n_failures: u32,
    n_meetings_left: u64,
}

/// A session in use; given back when it is dropped.
pub(crate) struct Taken<'p, S> {
    pool: &'p Pool<S>,
    session: Option<S>,
    is_wide: bool,
}

impl<S> Pool<S> {
    /// Returns a pool of these sessions, and of further ones up to `n_max` in use.
    pub(crate) fn new(sessions: Vec<S>, n_max: usize) -> Self {
        Self {
            sessions: Mutex::new(Sessions {
                wide: None,
                n_there: sessions.len(),
                free: sessions,
                n_running: 0,
                n_max: n_max.max(1),
                is_making: false,
                n_failures: 0,
                n_meetings_left: 0,
            }),
            is_free: Condvar::new(),
        }
    }

    /// Returns it with a session for runs that are alone.
    pub(crate) fn with_wide(mut self, session: S) -> Self {
        let sessions = self.sessions.get_mut();
        sessions.unwrap_or_else(PoisonError::into_inner).wide = Some(session);
        self
    }

    /// Keeps a session that nobody uses for runs that are alone, if there is one.
    pub(crate) fn widen(&self) {
        let mut sessions = self.sessions();
        if sessions.wide.is_none()
            && let Some(session) = sessions.free.pop()
        {
            sessions.wide = Some(session);
            sessions.n_there = sessions.n_there.saturating_sub(1);
        }
    }

    /// Takes the sessions that nobody uses in exchange for as many others.
    pub(crate) fn exchange(&self, sessions: Vec<S>) -> Vec<S> {
        std::mem::replace(&mut self.sessions().free, sessions)
    }

    /// Takes a session that nobody uses; waits for one until `time_left` says that no time is left, and returns `None` then.
    ///
    /// Calls `make` where a further session is wanted, which is to have one made elsewhere and to return at once; it is not called again before
    /// [`Pool::made`] was told what came of it.
    pub(crate) fn take(
        &self,
        time_left: impl Fn() -> Duration,
        make: impl Fn(),
    ) -> Option<Taken<'_, S>> {
        let mut sessions = self.sessions();
        let mut is_first_look = true;
        loop {
            let wants_one = sessions.wants_one(is_first_look);
            is_first_look = false;
            let taken = sessions.take();
            let taken = taken.map(|(session, is_wide)| Taken {
                pool: self,
                session: Some(session),
                is_wide,
            });
            if wants_one {
                sessions.is_making = true;
                drop(sessions);
                make();
                if taken.is_some() {
                    return taken;
                }
                sessions = self.sessions();
                continue;
            }
            if taken.is_some() {
                return taken;
            }
            let left = time_left();
            if left.is_zero() {
                return None;
            }
            let waited = self.is_free.wait_timeout(sessions, left);
            sessions = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the session that was to be made, or learns that there is none.
    pub(crate) fn made(&self, session: Option<S>) {
        let mut sessions = self.sessions();
        sessions.is_making = false;
        match session {
            Some(session) => {
                sessions.n_failures = 0;
                sessions.n_there = sessions.n_there.saturating_add(1);
                sessions.free.push(session);
            }
            None => {
                let doubled = 1_u64.checked_shl(sessions.n_failures.min(DOUBLINGS_MAX));
                sessions.n_meetings_left =
                    MEETINGS_AFTER_FAILURE.saturating_mul(doubled.unwrap_or(1));
                sessions.n_failures = sessions.n_failures.saturating_add(1);
            }
        }
        drop(sessions);
        // Whoever goes on without it may want a further one.
        self.is_free.notify_all();
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<S>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Sessions<S> {
    /// Tells whether a run that comes now had better have a session that is not there yet.
    fn wants_one(&mut self, is_first_look: bool) -> bool {
        let is_alone = self.n_running == 0 && (self.wide.is_some() || !self.free.is_empty());
        let may_be = self.n_there < self.n_max && self.n_running < self.n_max;
        if is_alone || !may_be || !self.free.is_empty() || self.is_making {
            return false;
        }
        if self.n_meetings_left > 0 {
            let met = u64::from(is_first_look);
            self.n_meetings_left = self.n_meetings_left.saturating_sub(met);
            return false;
        }
        true
    }

    fn take(&mut self) -> Option<(S, bool)> {
        if self.n_running >= self.n_max {
            return None;
        }
        let may_be_wide = self.n_running == 0 || self.free.is_empty();
        let wide = self.wide.take_if(|_| may_be_wide);
        let taken = match wide {
            Some(wide) => (wide, true),
            None => (self.free.pop()?, false),
        };
        self.n_running = self.n_running.saturating_add(1);
        Some(taken)
    }
}

impl<S> Taken<'_, S> {
    /// Returns the session, which is there for as long as this is.
    pub(crate) fn session(&mut self) -> Option<&mut S> {
        self.session.as_mut()
    }
}

impl<S> Drop for Taken<'_, S> {
    fn drop(&mut self) {
        let mut sessions = self.pool.sessions();
        sessions.n_running = sessions.n_running.saturating_sub(1);
        match (self.session.take(), self.is_wide) {
            (Some(session), true) => sessions.wide = Some(session),
            (Some(session), false) => sessions.free.push(session),
            (None, _) => {}
        }
        drop(sessions);
        self.pool.is_free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    fn no_time() -> Duration {
        Duration::ZERO
    }

    fn all_time() -> Duration {
        Duration::MAX
    }

    fn unwanted() {
        panic!("no further session is wanted");
    }

    /// What a session says of itself, and that it is in use.
    fn number(taken: &mut Taken<'_, u8>) -> u8 {
        *taken.session().unwrap()
    }

    #[test]
    fn a_run_that_is_alone_has_all_threads_and_runs_that_meet_one_each() {
        let pool = Pool::new(vec![1, 2], 2).with_wide(9);
        let take = || pool.take(no_time, unwanted);
        let mut alone = take().unwrap();
        assert_eq!(number(&mut alone), 9);
        let mut beside = take().unwrap();
        assert_eq!(number(&mut beside), 2);
        // No more than two at a time.
        assert!(take().is_none());
        drop(alone);
        // It meets the one that is still there.
        let mut next = take().unwrap();
        assert_eq!(number(&mut next), 1);
        drop((beside, next));
        assert_eq!(number(&mut take().unwrap()), 9);
    }

    #[test]
    fn sessions_are_made_as_runs_meet_and_never_more_than_may_be() {
        let pool = Pool::new(vec![1], 3);
        let n_made = AtomicUsize::new(0);
        let make = || {
            n_made.fetch_add(1, Ordering::Relaxed);
            pool.made(Some(7));
        };
        let first = pool.take(no_time, unwanted).unwrap();
        let second = pool.take(no_time, make).unwrap();
        let third = pool.take(no_time, make).unwrap();
        assert!(pool.take(no_time, unwanted).is_none());
        assert_eq!(n_made.load(Ordering::Relaxed), 2);
        drop((first, second, third));
        // All of them are kept.
        let kept = [(); 3].map(|()| pool.take(no_time, unwanted).unwrap());
        drop(kept);
        assert_eq!(pool.exchange(vec![3]).len(), 3);
    }

    #[test]
    fn a_run_waits_for_a_session_that_is_made_or_given_back_whichever_comes_first() {
        let pool = Pool::new(vec![1], 2);
        let first = pool.take(no_time, unwanted).unwrap();
        let (tell, told) = channel();
        let make = || tell.send(()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| number(&mut pool.take(all_time, make).unwrap()));
            told.recv().unwrap();
            // Nothing is made twice at a time, and who has no time goes without.
            assert!(pool.take(no_time, unwanted).is_none());
            drop(first);
            assert_eq!(waiting.join().unwrap(), 1);
            let mut again = pool.take(no_time, unwanted).unwrap();
            assert_eq!(number(&mut again), 1);
            let waiting = scope.spawn(|| number(&mut pool.take(all_time, unwanted).unwrap()));
            pool.made(Some(2));
            assert_eq!(waiting.join().unwrap(), 2);
        });
    }

    #[test]
    fn that_none_can_be_made_fails_nobody_while_one_serves() {
        let pool = Pool::new(vec![1], 2);
        let n_tried = AtomicUsize::new(0);
        let fail = || {
            n_tried.fetch_add(1, Ordering::Relaxed);
            pool.made(None);
        };
        let first = pool.take(no_time, unwanted).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| number(&mut pool.take(all_time, fail).unwrap()));
            while n_tried.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            drop(first);
            assert_eq!(waiting.join().unwrap(), 1);
        });
        // It is tried again, ever more rarely.
        let _held = pool.take(no_time, unwanted).unwrap();
        for n_expected in [2, 3] {
            let rest = MEETINGS_AFTER_FAILURE << (n_expected - 2);
            for _ in 0..rest {
                assert!(pool.take(no_time, unwanted).is_none());
            }
            assert!(pool.take(no_time, fail).is_none());
            assert_eq!(n_tried.load(Ordering::Relaxed), n_expected);
        }
    }

    #[test]
    fn a_run_that_meets_others_takes_what_is_free_while_one_is_made() {
        let pool = Pool::new(Vec::new(), 2).with_wide(9);
        let wide = pool.take(no_time, unwanted).unwrap();
        let mut narrow = pool.take(no_time, || pool.made(Some(1))).unwrap();
        assert_eq!(number(&mut narrow), 1);
        drop(wide);
        // It meets a run, and the one session that is free is not the one that it is to have.
        let n_wanted = AtomicUsize::new(0);
        let note = || {
            n_wanted.fetch_add(1, Ordering::Relaxed);
        };
        let mut beside = pool.take(no_time, note).unwrap();
        assert_eq!(number(&mut beside), 9);
        assert_eq!(n_wanted.load(Ordering::Relaxed), 1);
        drop(beside);
        pool.made(Some(2));
        assert_eq!(number(&mut pool.take(no_time, unwanted).unwrap()), 2);
    }
}
