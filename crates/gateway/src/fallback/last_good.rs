//! The last good answers of a service, by a key of the caller's: what a model that fails is stood in for with. Bounded by number and bytes; those that are
//! oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_model::{Signature, TensorSpec};
use coracle_protocol::Call;
use coracle_serving::ServedModel;
use coracle_tensor::Tensor;
use hyper::header::{HeaderMap, HeaderValue};

use super::again::Came;
use crate::infer::Calls;
use crate::shadow::Answered;

/// The most keys that are kept of a service.
const KEYS_MAX: usize = 10_000;
/// The most bytes that are kept of a service.
const BYTES_MAX: u64 = 16 << 20;
/// What a key is taken to need besides its own bytes and those of its answer.
const ENTRY_BYTES: u64 = 256;
/// How long an answer may stand in for later ones.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// The last good answers of a service, whichever of its revisions gave them.
#[derive(Debug, Default)]
pub(crate) struct LastGood(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The answers, with when they were given.
    by_key: HashMap<HeaderValue, (Good, Duration)>,
    /// The keys, the oldest first.
    order: VecDeque<HeaderValue>,
    n_bytes: u64,
}

/// What is known of an answer.
#[derive(Clone, Debug)]
enum Good {
    /// The outputs of a model that is read here.
    Read(Arc<Answered>),
    /// What a program answered, which nobody has read.
    Came(Arc<Came>),
}

impl Good {
    fn n_bytes(&self) -> u64 {
        match self {
            Self::Read(answered) => answered.n_bytes(),
            Self::Came(came) => u64::try_from(came.n_bytes()).unwrap_or(u64::MAX),
        }
    }
}

impl LastGood {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer that was given at `now` as the last one for `key`.
    pub(crate) fn keep(&self, key: &HeaderValue, (answered, now): (Arc<Answered>, Duration)) {
        self.keep_good(key, (Good::Read(answered), now));
    }

    /// Keeps what a program answered at `now` as the last one for `key`.
    pub(crate) fn keep_came(&self, key: &HeaderValue, (came, now): (Came, Duration)) {
        self.keep_good(key, (Good::Came(Arc::new(came)), now));
    }

    /// Returns what a program answered last for `key`; `None` if that was too long before `now`, or a model gave the answer.
    pub(crate) fn came(&self, key: &HeaderValue, now: Duration) -> Option<Arc<Came>> {
        match self.good(key, now)? {
            Good::Came(came) => Some(came),
            Good::Read(_) => None,
        }
    }

    fn good(&self, key: &HeaderValue, now: Duration) -> Option<Good> {
        let (good, at) = self.kept().by_key.get(key).cloned()?;
        (now.saturating_sub(at) <= AGE_MAX).then_some(good)
    }

    fn keep_good(&self, key: &HeaderValue, (answered, now): (Good, Duration)) {
        // A copy: it came as a part of what was read from its connection, and would keep all of that in memory.
        let Ok(key) = HeaderValue::from_bytes(key.as_bytes()) else {
            return;
        };
        let mut kept = self.kept();
        kept.n_bytes += n_bytes(&key, &answered);
        match kept.by_key.insert(key.clone(), (answered, now)) {
            Some((before, _)) => kept.n_bytes -= n_bytes(&key, &before),
            None => kept.order.push_back(key),
        }
        while kept.order.len() > KEYS_MAX || kept.n_bytes > BYTES_MAX {
            let Some(oldest) = kept.order.pop_front() else {
                return;
            };
            if let Some((gone, _)) = kept.by_key.remove(&oldest) {
                kept.n_bytes -= n_bytes(&oldest, &gone);
            }
        }
    }

    /// Returns the outputs that a call asks for, as they were last; `None` if that was too long before `now`, or if one of them, or one of so many rows,
    /// is not known.
    pub(super) fn outputs(
        &self,
        (key, now): (&HeaderValue, Duration),
        (call, signature): (&Call, &Signature),
    ) -> Option<Vec<Tensor>> {
        let Good::Read(answered) = self.good(key, now)? else {
            return None;
        };
        let outputs = call.outputs.iter().map(|index| {
            let spec = signature.outputs.get(*index)?;
            let mut all = answered.outputs().iter();
            let (_, output) = all.find(|(known, _)| known == &spec.name)?;
            (output.n_rows() == call.n_rows && is_as(output, spec)).then(|| output.clone())
        });
        outputs.collect()
    }
}

/// Tells whether an output is one that a model answers with that has `spec`: the revision that gave it may have been another one.
fn is_as(output: &Tensor, spec: &TensorSpec) -> bool {
    let shape = output.shape();
    let mut sizes = shape.iter().zip(&spec.shape);
    output.dtype() == spec.dtype
        && shape.len() == spec.shape.len()
        && sizes.all(|(size, wanted)| wanted.is_none_or(|wanted| wanted == *size))
}

fn n_bytes(key: &HeaderValue, answered: &Good) -> u64 {
    let of_key = u64::try_from(key.len()).unwrap_or(u64::MAX);
    // It is there twice: by its place, and in the order.
    answered.n_bytes() + 2 * of_key + ENTRY_BYTES
}

impl Calls {
    /// Returns the key of a request whose last good answer may stand in for the model's, if there is to be one. An empty value is none, and of several
    /// it is not known which one says whose it is.
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
        only_value(headers, name).cloned().map(Box::new)
    }
}

/// Returns the value of a header that is there once, and is not empty.
pub(crate) fn only_value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let is_empty = value.as_bytes().trim_ascii().is_empty();
    (!is_empty).then_some(value)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use coracle_protocol::Layout;
    use coracle_tensor::{DType, Values};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answered(n: usize) -> (Arc<Answered>, Duration) {
        let values = Values::F64(vec![0.5; n].into());
        let outputs = vec![("y".to_owned(), Tensor::from_values(values))];
        let answered = Answered::of_outputs(outputs, Duration::ZERO);
        (Arc::new(answered), SECOND)
    }

    fn signature(dtype: DType, shape: Vec<Option<usize>>) -> Signature {
        Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: Vec::new(),
            outputs: vec![TensorSpec {
                name: "y".to_owned(),
                dtype,
                shape,
                columns: None,
                accepts_missing: false,
                accepts_integers: false,
            }],
            default_outputs: vec![0],
            columns: None,
        }
    }

    fn call(n_rows: usize) -> Call {
        Call {
            inputs: Vec::new(),
            outputs: vec![0],
            forms: Vec::new(),
            layout: Layout::Rows,
            id: None,
            tags: None,
            n_rows,
            timeout: None,
            priority: 0,
        }
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
        let each = kept.by_key.iter().map(|(key, (one, _))| n_bytes(key, one));
        assert_eq!(each.sum::<u64>(), kept.n_bytes);
    }

    #[test]
    fn a_key_is_one_value_that_is_not_empty() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-user", HeaderValue::from_static(value));
            }
            only_value(&headers, "x-user").cloned()
        };
        assert_eq!(of(&["ann"]), Some(key("ann")));
        for none in [&[][..], &[""], &["  "], &["ann", "bob"], &["ann", ""]] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_was_read_with_a_key_does_not_stay_with_it() {
        let read = Bytes::from([b'a'; 10_000].to_vec());
        let key = HeaderValue::from_maybe_shared(read.slice(5..10)).unwrap();
        assert_eq!(key.as_bytes().as_ptr(), read[5..].as_ptr(), "it is shared");
        let last_good = LastGood::default();
        last_good.keep(&key, answered(1));
        let kept = last_good.kept();
        for kept in kept.by_key.keys().chain(&kept.order) {
            assert!(!read.as_ptr_range().contains(&kept.as_bytes().as_ptr()));
        }
    }

    #[test]
    fn an_answer_is_given_again_for_an_hour_and_where_it_fits() {
        let last_good = LastGood::default();
        last_good.keep(&key("ann"), answered(2));
        let given = |now, dtype, shape: &[Option<usize>]| {
            let signature = signature(dtype, shape.to_vec());
            let call = call(2);
            let given = last_good.outputs((&key("ann"), now), (&call, &signature));
            given.is_some()
        };
        let until = SECOND + AGE_MAX;
        assert!(given(until, DType::F64, &[None]));
        assert!(!given(until + SECOND, DType::F64, &[None]));
        // Another revision's outputs are of another type or shape.
        assert!(!given(until, DType::F32, &[None]));
        assert!(!given(until, DType::F64, &[None, None]));
        assert!(!given(until, DType::F64, &[Some(3)]));
    }
}
