//! The last good answers of a model, by a key of the caller's: what a model that fails is stood in for with. Bounded by number and bytes; those that are
//! oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_model::Signature;
use coracle_protocol::Call;
use coracle_serving::ServedModel;
use coracle_tensor::Tensor;
use hyper::header::{HeaderMap, HeaderValue};

use crate::infer::Calls;
use crate::shadow::Answered;

/// The most keys that are kept of a model.
const KEYS_MAX: usize = 10_000;
/// The most bytes that are kept of a model.
const BYTES_MAX: u64 = 16 << 20;
/// What a key is taken to need besides its own bytes and those of its answer.
const ENTRY_BYTES: u64 = 256;

/// The last good answers of a model.
#[derive(Debug, Default)]
pub(super) struct LastGood(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<HeaderValue, Arc<Answered>>,
    /// The keys, the oldest first.
    order: VecDeque<HeaderValue>,
    n_bytes: u64,
}

impl LastGood {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer as the last one for `key`.
    pub(super) fn keep(&self, key: &HeaderValue, answered: Arc<Answered>) {
        let mut kept = self.kept();
        kept.n_bytes += n_bytes(key, &answered);
        match kept.by_key.insert(key.clone(), answered) {
            Some(before) => kept.n_bytes -= n_bytes(key, &before),
            None => kept.order.push_back(key.clone()),
        }
        while kept.order.len() > KEYS_MAX || kept.n_bytes > BYTES_MAX {
            let Some(oldest) = kept.order.pop_front() else {
                return;
            };
            if let Some(gone) = kept.by_key.remove(&oldest) {
                kept.n_bytes -= n_bytes(&oldest, &gone);
            }
        }
    }

    /// Returns the outputs that a call asks for, as they were last; `None` if one of them, or one of so many rows, is not known.
    pub(super) fn outputs(
        &self,
        key: &HeaderValue,
        (call, signature): (&Call, &Signature),
    ) -> Option<Vec<Tensor>> {
        let answered = self.kept().by_key.get(key).map(Arc::clone)?;
        let outputs = call.outputs.iter().map(|index| {
            let name = &signature.outputs.get(*index)?.name;
            let mut all = answered.outputs().iter();
            let (_, output) = all.find(|(known, _)| known == name)?;
            (output.n_rows() == call.n_rows).then(|| output.clone())
        });
        outputs.collect()
    }
}

fn n_bytes(key: &HeaderValue, answered: &Answered) -> u64 {
    let of_key = u64::try_from(key.len()).unwrap_or(u64::MAX);
    // It is there twice: by its place, and in the order.
    answered.n_bytes() + 2 * of_key + ENTRY_BYTES
}

impl Calls {
    /// Returns the key of a request whose last good answer may stand in for the model's, if there is to be one.
    pub(crate) fn last_good_key(
        &self,
        model: &ServedModel,
        headers: &HeaderMap,
    ) -> Option<Box<HeaderValue>> {
        if !model.has_fallback() {
            return None;
        }
        let fallback = model.fallback()?;
        let name = fallback.settings().key.as_deref()?;
        headers.get(name).cloned().map(Box::new)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coracle_tensor::Values;

    use super::*;

    fn answered(n: usize) -> Arc<Answered> {
        let values = Values::F64(vec![0.5; n].into());
        let outputs = vec![("y".to_owned(), Tensor::from_values(values))];
        Arc::new(Answered::of_outputs(outputs, Duration::ZERO))
    }

    fn key(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    #[test]
    fn the_oldest_keys_go_where_there_are_too_many() {
        let last_good = LastGood::default();
        for index in 0..KEYS_MAX + 5 {
            last_good.keep(&key(&index.to_string()), answered(1));
        }
        let kept = last_good.kept();
        assert_eq!((kept.order.len(), kept.by_key.len()), (KEYS_MAX, KEYS_MAX));
        assert!(!kept.by_key.contains_key(&key("4")) && kept.by_key.contains_key(&key("5")));
    }

    #[test]
    fn large_answers_make_room_by_their_bytes() {
        let last_good = LastGood::default();
        for index in 0..100 {
            last_good.keep(&key(&index.to_string()), answered(100_000));
        }
        // What comes again takes the place of what was there.
        for _ in 0..100 {
            last_good.keep(&key("99"), answered(100_000));
        }
        let kept = last_good.kept();
        assert!(kept.n_bytes <= BYTES_MAX, "{}", kept.n_bytes);
        assert_eq!(kept.by_key.len(), 20);
        let sum: u64 = kept.by_key.iter().map(|(key, one)| n_bytes(key, one)).sum();
        assert_eq!(sum, kept.n_bytes);
    }
}
