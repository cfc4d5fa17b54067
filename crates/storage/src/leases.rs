//! Which artifacts are in use: eviction passes them over.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How often each artifact is in use.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<String, usize>>,
}

/// Keeps an artifact's files where they are for as long as it, or a clone of it, lives.
#[derive(Clone, Default)]
pub struct Lease {
    held: Vec<Arc<Held>>,
}

struct Held {
    name: String,
    leases: Arc<Leases>,
}

impl Leases {
    /// Takes the artifact `name` into use, whether it is there yet or not.
    pub(crate) fn take(self: &Arc<Self>, name: &str) -> Lease {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(name.to_owned()).or_default() += 1;
        let one = Held {
            name: name.to_owned(),
            leases: Arc::clone(self),
        };
        Lease {
            held: vec![Arc::new(one)],
        }
    }

    /// Does `work` if nobody uses `name`; nobody can take it into use meanwhile.
    pub(crate) fn if_idle<T>(&self, name: &str, work: impl FnOnce() -> T) -> Option<T> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (!held.contains_key(name)).then(work)
    }
}

impl Lease {
    /// Returns one lease for all of `leases`.
    pub(crate) fn together(leases: impl IntoIterator<Item = Self>) -> Self {
        Self {
            held: leases.into_iter().flat_map(|lease| lease.held).collect(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = &self.leases.held;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.name);
            }
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.held.iter().map(|held| &held.name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_leased_is_not_idle_until_the_last_clone_is_gone() {
        let leases = Arc::new(Leases::default());
        let one = leases.take("a");
        let two = Lease::together([one.clone(), leases.take("b")]);
        drop(one);
        assert_eq!(leases.if_idle("a", || ()), None);
        assert_eq!(leases.if_idle("b", || ()), None);
        assert_eq!(leases.if_idle("c", || 1), Some(1));
        drop(two);
        assert_eq!(leases.if_idle("a", || 1), Some(1));
        assert_eq!(leases.if_idle("b", || 1), Some(1));
    }
}
