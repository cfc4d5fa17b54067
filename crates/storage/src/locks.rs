//! One fetch of a URI at a time; the next one finds what the first left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by name, which last as long as somebody holds or awaits them.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    by_name: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
}

/// Held while a fetch, or file work that outlives it, uses the name's files.
pub(crate) type LockGuard = Arc<OwnedMutexGuard<()>>;

impl Locks {
    pub(crate) async fn lock(&self, name: &str) -> LockGuard {
        Arc::new(self.by_name(name).lock_owned().await)
    }

    /// Locks `name` unless somebody holds it.
    pub(crate) fn try_lock(&self, name: &str) -> Option<LockGuard> {
        self.by_name(name).try_lock_owned().ok().map(Arc::new)
    }

    fn by_name(&self, name: &str) -> Arc<AsyncMutex<()>> {
        // The map is sound after any panic: each change is a single call.
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.retain(|_name, lock| lock.strong_count() > 0);
        match by_name.get(name).and_then(Weak::upgrade) {
            Some(lock) => lock,
            None => {
                let lock = Arc::new(AsyncMutex::new(()));
                by_name.insert(name.to_owned(), Arc::downgrade(&lock));
                lock
            }
        }
    }
}
