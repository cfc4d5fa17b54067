//! Memory that several models may hold together: equal weights of a model's revisions, which are there once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The number of the next one.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Memory that several models may hold, for who lends it to them.
#[derive(Clone, Debug)]
pub struct SharedMemory(Arc<Inner>);

/// Memory that a model holds and others may hold, too; let go of when this is dropped.
#[derive(Debug)]
pub struct HeldMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u64,
    bytes: usize,
    n_holders: AtomicUsize,
}

impl SharedMemory {
    /// Returns a name for memory of so many bytes, which nobody holds yet.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Inner {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            bytes,
            n_holders: AtomicUsize::new(0),
        }))
    }

    /// Notes that one model more holds it.
    #[must_use]
    pub fn hold(&self) -> HeldMemory {
        self.0.n_holders.fetch_add(1, Ordering::Relaxed);
        HeldMemory(Arc::clone(&self.0))
    }
}

impl HeldMemory {
    /// Returns the number of this memory, which no other has while the process lives.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Returns its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// Returns what of it is this holder's if all who hold it now have an equal share, in bytes.
    #[must_use]
    pub fn share_bytes(&self) -> usize {
        let n_holders = self.0.n_holders.load(Ordering::Relaxed).max(1);
        self.0.bytes.div_ceil(n_holders)
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.0.n_holders.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_memory_together_has_a_share_of_it_each() {
        let memory = SharedMemory::new(9);
        let one = memory.hold();
        assert_eq!((one.bytes(), one.share_bytes()), (9, 9));
        let others = [memory.hold(), memory.hold()];
        assert_eq!((one.bytes(), one.share_bytes()), (9, 3));
        assert!(others.iter().all(|other| other.id() == one.id()));
        drop(others);
        assert_eq!(one.share_bytes(), 9);
        assert_ne!(SharedMemory::new(9).hold().id(), one.id());
    }
}
