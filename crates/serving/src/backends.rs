//! The processes that answer for a revision: which of them takes the next request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::process::Endpoints;

/// A process that takes requests.
#[derive(Debug)]
pub struct Backend {
    endpoints: Endpoints,
    in_flight: AtomicUsize,
}

impl Backend {
    /// Returns where it takes HTTP, which no other process does.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoints.http
    }

    /// Returns how many requests it is answering.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }
}

/// A request that a process is answering; over when this is dropped.
#[derive(Debug)]
pub struct BackendCall(Arc<Backend>);

impl BackendCall {
    /// Returns where the process takes HTTP, which no other process does.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Returns where the process takes requests.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        self.0.endpoints
    }
}

impl Drop for BackendCall {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The processes that take requests now.
#[derive(Debug, Default)]
pub struct Backends {
    list: ArcSwap<Vec<Arc<Backend>>>,
    turn: AtomicUsize,
    are_lost: AtomicBool,
    /// Told at every change.
    pub(crate) changed: Arc<Notify>,
}

impl Backends {
    /// Makes these the ones that take requests; those that were there keep their counts. Returns those that no longer
    /// take any, and may still be answering.
    pub fn set(&self, all: &[Endpoints]) -> Vec<Arc<Backend>> {
        let before = self.list.load_full();
        let known = |endpoints: Endpoints| {
            let mut known = before.iter();
            known
                .find(|backend| backend.endpoints == endpoints)
                .cloned()
        };
        let new = |endpoints: Endpoints| {
            Arc::new(Backend {
                endpoints,
                in_flight: AtomicUsize::new(0),
            })
        };
        let list = all
            .iter()
            .map(|&endpoints| known(endpoints).unwrap_or_else(|| new(endpoints)));
        self.list.store(Arc::new(list.collect()));
        self.changed.notify_waiters();
        let is_gone = |backend: &&Arc<Backend>| !all.contains(&backend.endpoints);
        before.iter().filter(is_gone).cloned().collect()
    }

    /// Says whether those that there were ended or stopped answering, and the next ones are not there yet: told before the list is.
    pub fn set_lost(&self, are_lost: bool) {
        self.are_lost.store(are_lost, Ordering::Release);
    }

    /// Tells whether there is none because those that there were ended or stopped answering; not while the first ones start.
    #[must_use]
    pub fn are_lost(&self) -> bool {
        self.are_lost.load(Ordering::Acquire) && self.is_empty()
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.load().is_empty()
    }

    /// Returns the one with the fewest requests that is not in `except`; those with equally many take turns.
    #[must_use]
    pub fn choose(&self, except: &[SocketAddr]) -> Option<BackendCall> {
        let list = self.list.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let n = list.len();
        let candidates = (0..n).filter_map(|step| list.get(turn.wrapping_add(step) % n));
        let best = candidates
            .filter(|backend| !except.contains(&backend.address()))
            .min_by_key(|backend| backend.in_flight())?;
        best.in_flight.fetch_add(1, Ordering::AcqRel);
        Some(BackendCall(Arc::clone(best)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn set(backends: &Backends, ports: &[u16]) -> Vec<Arc<Backend>> {
        let all: Vec<Endpoints> = ports.iter().map(|&port| at(port).into()).collect();
        backends.set(&all)
    }

    #[test]
    fn the_least_busy_is_chosen_and_equals_take_turns() {
        let backends = Backends::default();
        assert!(backends.choose(&[]).is_none());
        assert!(set(&backends, &[1, 2]).is_empty());
        let first = backends.choose(&[]).unwrap();
        let second = backends.choose(&[]).unwrap();
        assert_ne!(first.address(), second.address());
        drop(first);
        // The second still answers.
        let third = backends.choose(&[]).unwrap();
        assert_ne!(third.address(), second.address());
        assert!(backends.choose(&[at(1), at(2)]).is_none());
        drop((second, third));
        let turns: Vec<u16> = (0..4)
            .map(|_| backends.choose(&[]).unwrap().address().port())
            .collect();
        assert!(turns == [1, 2, 1, 2] || turns == [2, 1, 2, 1], "{turns:?}");
    }

    #[test]
    fn one_that_goes_keeps_its_requests_and_one_that_stays_its_count() {
        let backends = Backends::default();
        set(&backends, &[1]);
        let call = backends.choose(&[]).unwrap();
        assert!(set(&backends, &[1, 2]).is_empty());
        // The count of the one that stays is known.
        assert_eq!(backends.choose(&[]).unwrap().address(), at(2));
        let gone = set(&backends, &[2]);
        assert_eq!((gone.len(), gone[0].in_flight()), (1, 1));
        drop(call);
        assert_eq!(gone[0].in_flight(), 0);
    }
}
