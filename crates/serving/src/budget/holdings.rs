//! What models hold, alone and with others, and what of it is there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use coracle_model::HeldMemory;

use crate::LoadedModel;

/// What a model holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Bytes of its own.
    pub(super) own: u64,
    /// The numbers of what others may hold, too, with its bytes.
    pub(super) shared: Vec<(u64, u64)>,
}

impl Holdings {
    pub(super) fn of(model: &LoadedModel) -> Self {
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let held = model.model().shared_memory().iter();
        let shared: Vec<(u64, u64)> = held
            .map(|held: &HeldMemory| (held.id(), bytes(held.bytes())))
            .collect();
        let n_shared = shared
            .iter()
            .fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        Self {
            own: bytes(model.total_bytes()).saturating_sub(n_shared),
            shared,
        }
    }
}

/// What is held together: bytes, and by how many models, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Together(BTreeMap<u64, (u64, usize)>);

impl Together {
    /// Notes that a model is there, and returns how many bytes there are more for it.
    pub(super) fn hold(&mut self, holdings: &Holdings) -> u64 {
        let mut more = holdings.own;
        for &(id, bytes) in &holdings.shared {
            let (_, n_holders) = self.0.entry(id).or_insert_with(|| {
                more = more.saturating_add(bytes);
                (bytes, 0)
            });
            *n_holders += 1;
        }
        more
    }

    /// Notes that a model has gone, and returns how many bytes there are fewer for it.
    pub(super) fn release(&mut self, holdings: &Holdings) -> u64 {
        let mut fewer = holdings.own;
        for &(id, _) in &holdings.shared {
            if let Entry::Occupied(mut entry) = self.0.entry(id) {
                let (bytes, n_holders) = entry.get_mut();
                *n_holders = n_holders.saturating_sub(1);
                if *n_holders == 0 {
                    fewer = fewer.saturating_add(*bytes);
                    entry.remove();
                }
            }
        }
        fewer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_together_counts_once_until_the_last_has_gone() {
        let holdings = |own, shared: &[(u64, u64)]| Holdings {
            own,
            shared: shared.to_vec(),
        };
        let mut together = Together::default();
        let (first, second) = (holdings(1, &[(7, 100), (8, 20)]), holdings(2, &[(7, 100)]));
        assert_eq!(together.hold(&first), 121);
        assert_eq!(together.hold(&second), 2);
        assert_eq!(together.release(&first), 21);
        assert_eq!(together.release(&second), 102);
        assert_eq!(together.hold(&second), 102);
    }
}
