//! Numbers of rollouts that are asked for elsewhere: who is to be asked what, when, and what was answered last. Who asks is `prometheus`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_policy::rollout::QueryLook;
use coracle_serving::ServiceId;
use tokio::sync::Notify;

/// What stands for a revision's name in a query.
pub(super) const REVISION: &str = "{{revision}}";

/// A question as a Rollout has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) address: String,
    pub(crate) query: String,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Whether it is asked for both revisions.
    pub(crate) is_compared: bool,
}

/// Which question it is: of which stage of which service's rollout, and the how manieth.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueryKey {
    pub(crate) service: ServiceId,
    /// In ms since 1970.
    pub(crate) since_ms: u64,
    pub(crate) place: usize,
}

/// A question with the names in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    pub(crate) address: String,
    /// For the revision that serves, if it is asked for.
    pub(crate) stable: Option<String>,
    pub(crate) canary: String,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

impl Question {
    /// Puts names into the question.
    pub(crate) fn about(&self, service: &ServiceId, (stable, canary): (&str, &str)) -> Asking {
        let named = |revision: &str| {
            self.query
                .replace("{{service}}", &service.name)
                .replace("{{namespace}}", &service.namespace)
                .replace(REVISION, revision)
        };
        Asking {
            address: self.address.clone(),
            stable: self.is_compared.then(|| named(stable)),
            canary: named(canary),
            interval: self.interval,
            timeout: self.timeout,
        }
    }
}

#[derive(Debug)]
struct Entry {
    asking: Asking,
    /// When it is asked next, on the monotonic clock; `None` while it is.
    due: Option<Duration>,
    /// The last answer, until it is taken.
    look: Option<QueryLook>,
}

/// Who is to be asked what.
#[derive(Debug, Default)]
pub struct QueryBoard {
    entries: Mutex<BTreeMap<QueryKey, Entry>>,
    changed: Notify,
}

impl QueryBoard {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<QueryKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants these asked from now on, and no others; those that are new at once.
    pub(crate) fn want(&self, wanted: BTreeMap<QueryKey, Asking>, now: Duration) {
        let mut entries = self.entries();
        entries.retain(|key, entry| wanted.get(key) == Some(&entry.asking));
        let n_before = entries.len();
        for (key, asking) in wanted {
            entries.entry(key).or_insert(Entry {
                asking,
                due: Some(now),
                look: None,
            });
        }
        if entries.len() > n_before {
            self.changed.notify_one();
        }
    }

    /// Takes the answer that has come since the last time.
    pub(crate) fn take(&self, key: &QueryKey) -> Option<QueryLook> {
        self.entries().get_mut(key)?.look.take()
    }

    /// Returns those whose time it is, at most so many, those that wait longest first; they are being asked from now on.
    pub(crate) fn due(&self, now: Duration, n_max: usize) -> Vec<(QueryKey, Asking)> {
        let mut entries = self.entries();
        let is_due = |entry: &Entry| entry.due.is_some_and(|due| due <= now);
        let due = entries.iter_mut().filter(|(_, entry)| is_due(entry));
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(_, entry)| entry.due);
        due.into_iter()
            .take(n_max)
            .map(|(key, entry)| {
                entry.due = None;
                (key.clone(), entry.asking.clone())
            })
            .collect()
    }

    /// Takes what was answered; nobody wants it any more if its stage is over.
    pub(crate) fn answered(
        &self,
        (key, asking): (&QueryKey, &Asking),
        look: QueryLook,
        now: Duration,
    ) {
        if let Some(entry) = self.entries().get_mut(key)
            && entry.asking == *asking
        {
            entry.due = Some(now.saturating_add(asking.interval));
            entry.look = Some(look);
        }
    }

    /// Returns how long it is to the next one; `None` if there is none.
    pub(crate) fn next_due(&self, now: Duration) -> Option<Duration> {
        let entries = self.entries();
        let due = entries.values().filter_map(|entry| entry.due).min()?;
        Some(due.saturating_sub(now))
    }

    /// Waits until there is something new to ask.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(since_ms: u64) -> QueryKey {
        QueryKey {
            service: ServiceId {
                namespace: "ml".to_owned(),
                name: "iris".to_owned(),
            },
            since_ms,
            place: 0,
        }
    }

    fn question() -> Question {
        Question {
            address: "http://p".to_owned(),
            query: "sum(x{ns=\"{{namespace}}\", s=\"{{service}}\", r=\"{{revision}}\"})".to_owned(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            is_compared: true,
        }
    }

    #[test]
    fn names_are_put_into_questions() {
        let service = key(0).service;
        let asking = question().about(&service, ("v1", "v2"));
        assert_eq!(asking.canary, r#"sum(x{ns="ml", s="iris", r="v2"})"#);
        assert_eq!(
            asking.stable.unwrap(),
            r#"sum(x{ns="ml", s="iris", r="v1"})"#
        );
    }

    #[test]
    fn each_is_asked_at_once_and_then_in_its_turn() {
        let board = QueryBoard::default();
        let asking = question().about(&key(0).service, ("v1", "v2"));
        let at = Duration::from_secs;
        board.want([(key(1), asking.clone())].into(), at(100));
        assert_eq!(board.due(at(100), 8), [(key(1), asking.clone())]);
        // It is being asked.
        assert_eq!(board.due(at(200), 8), []);
        assert_eq!(board.next_due(at(200)), None);
        let look = || QueryLook::None("no".to_owned());
        board.answered((&key(1), &asking), look(), at(101));
        assert_eq!(board.next_due(at(105)), Some(at(6)));
        assert_eq!(board.due(at(110), 8), []);
        assert_eq!(
            (board.take(&key(1)), board.take(&key(1))),
            (Some(look()), None)
        );
        assert_eq!(board.due(at(111), 0), []);
        assert_eq!(board.due(at(111), 8).len(), 1);
        // Who waits longest is asked first, whatever its name.
        board.want(
            [(key(1), asking.clone()), (key(2), asking.clone())].into(),
            at(111),
        );
        board.answered((&key(1), &asking), look(), at(102));
        assert_eq!(board.due(at(113), 1), [(key(2), asking.clone())]);
        assert_eq!(board.due(at(113), 8), [(key(1), asking.clone())]);
        // The next stage asks anew, and an answer for the one before comes to nobody.
        board.want([(key(3), asking.clone())].into(), at(112));
        board.answered((&key(1), &asking), look(), at(113));
        assert_eq!((board.take(&key(1)), board.take(&key(3))), (None, None));
        assert_eq!(board.due(at(113), 8).len(), 1);
    }
}
