//! The sessions of a graph, of which a run takes one for itself.
//!
//! A run that is alone takes the session whose parts go to all threads; runs that meet each take one that stays on the thread that
//! asks. Handing parts over costs time that nobody misses while processors are idle; where all of them are busy it is lost.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Pool<S> {
    sessions: Mutex<Sessions<S>>,
    is_free: Condvar,
}

#[derive(Debug)]
struct Sessions<S> {
    /// For a run that is alone; `None` while it runs, or where all sessions are alike.
    wide: Option<S>,
    free: Vec<S>,
    n_running: usize,
    /// The most runs at a time.
    n_max: usize,
}

/// A session in use, or the place of one that is not made yet; given back when it is dropped.
pub(crate) struct Taken<'p, S> {
    pool: &'p Pool<S>,
    pub(crate) session: Option<S>,
    is_wide: bool,
}

impl<S> Pool<S> {
    /// Returns a pool of these sessions, and of further ones up to `n_max` in use.
    pub(crate) fn new(sessions: Vec<S>, n_max: usize) -> Self {
        Self {
            sessions: Mutex::new(Sessions {
                wide: None,
                free: sessions,
                n_running: 0,
                n_max: n_max.max(1),
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
        let Sessions { wide, free, .. } = &mut *sessions;
        *wide = wide.take().or_else(|| free.pop());
    }

    /// Takes the sessions that nobody uses in exchange for others.
    pub(crate) fn exchange(&self, sessions: Vec<S>) -> Vec<S> {
        std::mem::replace(&mut self.sessions().free, sessions)
    }

    /// Takes a session that nobody uses, or the place of one that is to be made (without a session then); waits for one until `time_left` says that no
    /// time is left, and returns `None` then.
    pub(crate) fn take(&self, time_left: impl Fn() -> Duration) -> Option<Taken<'_, S>> {
        let mut sessions = self.sessions();
        loop {
            if let Some((session, is_wide)) = sessions.take() {
                return Some(Taken {
                    pool: self,
                    session,
                    is_wide,
                });
            }
            let left = time_left();
            if left.is_zero() {
                return None;
            }
            let waited = self.is_free.wait_timeout(sessions, left);
            sessions = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<S>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Sessions<S> {
    fn take(&mut self) -> Option<(Option<S>, bool)> {
        if self.n_running >= self.n_max {
            return None;
        }
        let wide = self.wide.take_if(|_| self.n_running == 0);
        let taken = match (wide, self.free.pop()) {
            (Some(wide), free) => {
                self.free.extend(free);
                (Some(wide), true)
            }
            (None, Some(free)) => (Some(free), false),
            (None, None) => (None, false),
        };
        self.n_running = self.n_running.saturating_add(1);
        Some(taken)
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
    use super::*;

    fn never() -> Duration {
        Duration::ZERO
    }

    #[test]
    fn a_run_that_is_alone_has_all_threads_and_runs_that_meet_one_each() {
        let pool = Pool::new(vec![1, 2], 2).with_wide(9);
        let alone = pool.take(never).unwrap();
        assert_eq!(alone.session, Some(9));
        let beside = pool.take(never).unwrap();
        assert_eq!(beside.session, Some(2));
        // No more than two at a time.
        assert!(pool.take(never).is_none());
        drop(alone);
        // It meets the one that is still there.
        let next = pool.take(never).unwrap();
        assert_eq!(next.session, Some(1));
        drop((beside, next));
        assert_eq!(pool.take(never).unwrap().session, Some(9));
    }

    #[test]
    fn sessions_are_made_as_they_are_wanted() {
        let pool = Pool::new(vec![1], 2);
        let first = pool.take(never).unwrap();
        let mut second = pool.take(never).unwrap();
        assert_eq!((first.session, second.session), (Some(1), None));
        // One that was made is kept, one that failed leaves its place.
        second.session = Some(2);
        drop(second);
        assert_eq!(pool.take(never).unwrap().session, Some(2));
        assert_eq!(pool.exchange(vec![3]), [2]);
        assert_eq!(pool.take(never).unwrap().session, Some(3));
        drop(first);
    }
}
