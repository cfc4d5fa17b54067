//! What a kept answer is found by: the whole of what decides it, written in one way only.

use std::sync::Arc;

use coracle_tensor::{Tensor, Values};

/// A request as far as it decides the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey(Arc<[u8]>);

impl CacheKey {
    /// Returns the key of a request for `outputs` of what was loaded as `content`.
    ///
    /// Every part is preceded by its length or has a fixed one, so two requests have one key only if they are one.
    #[must_use]
    pub fn new(content: u64, inputs: &[Tensor], outputs: &[usize]) -> Self {
        let n_bytes: usize = inputs.iter().map(tensor_bytes).sum();
        let mut key = Vec::with_capacity(n_bytes + 16 * (outputs.len() + 2));
        key.extend_from_slice(&content.to_le_bytes());
        number(&mut key, outputs.len());
        for &output in outputs {
            number(&mut key, output);
        }
        number(&mut key, inputs.len());
        for input in inputs {
            tensor(&mut key, input);
        }
        Self(key.into())
    }

    /// Returns its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn number(key: &mut Vec<u8>, number: usize) {
    key.extend_from_slice(&u64::try_from(number).unwrap_or(u64::MAX).to_le_bytes());
}

fn tensor(key: &mut Vec<u8>, tensor: &Tensor) {
    text(key, tensor.dtype().name().as_bytes());
    number(key, tensor.shape().len());
    for &size in tensor.shape() {
        number(key, size);
    }
    number(key, tensor.values().len());
    match tensor.values() {
        Values::Bool(items) => key.extend(items.iter().map(|&item| u8::from(item))),
        Values::U8(items) => key.extend_from_slice(items),
        Values::U16(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::U32(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::U64(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::I8(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::I16(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::I32(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::I64(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::F16(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::BF16(items) => fixed(key, items, |item| item.to_le_bytes()),
        // Bit by bit: zeros of either sign and all kinds of NaN are kept apart.
        Values::F32(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::F64(items) => fixed(key, items, |item| item.to_le_bytes()),
        Values::Bytes(strings) => {
            for (index, string) in strings.iter().enumerate() {
                key.push(u8::from(strings.is_missing(index)));
                text(key, string);
            }
        }
    }
}

fn text(key: &mut Vec<u8>, text: &[u8]) {
    number(key, text.len());
    key.extend_from_slice(text);
}

fn fixed<T: Copy, const N: usize>(key: &mut Vec<u8>, items: &[T], bytes: impl Fn(T) -> [u8; N]) {
    for &item in items {
        key.extend_from_slice(&bytes(item));
    }
}

/// Returns about what a tensor takes in memory.
pub(super) fn tensor_bytes(tensor: &Tensor) -> usize {
    let values = match (tensor.values(), tensor.dtype().size_bytes()) {
        (Values::Bytes(strings), _) => 2 * strings.memory_bytes(),
        (values, size) => values.len() * size.unwrap_or(1),
    };
    size_of::<Tensor>() + values + 16 * (tensor.shape().len() + 2)
}

#[cfg(test)]
mod tests {
    use coracle_tensor::ByteStrings;

    use super::*;

    #[test]
    fn whatever_decides_an_answer_tells_keys_apart() {
        let rows = |shape: &[usize], values| Tensor::try_new(shape.to_vec(), values).unwrap();
        let f64s = |items: &[f64]| Values::F64(items.to_vec().into());
        let texts = |items: &[&str]| {
            let strings: ByteStrings = items.iter().copied().collect();
            Tensor::from_values(Values::Bytes(strings))
        };
        let missing = {
            let mut strings = ByteStrings::new();
            strings.push_missing();
            strings.push(b"ab");
            Tensor::from_values(Values::Bytes(strings))
        };
        let one = rows(&[1, 2], f64s(&[0.0, 1.0]));
        let keys = [
            CacheKey::new(1, std::slice::from_ref(&one), &[0]),
            // Another model, other outputs, in another order.
            CacheKey::new(2, std::slice::from_ref(&one), &[0]),
            CacheKey::new(1, std::slice::from_ref(&one), &[1]),
            CacheKey::new(1, std::slice::from_ref(&one), &[0, 1]),
            CacheKey::new(1, std::slice::from_ref(&one), &[1, 0]),
            // Other shapes, datatypes, bits.
            CacheKey::new(1, &[rows(&[2, 1], f64s(&[0.0, 1.0]))], &[0]),
            CacheKey::new(1, &[rows(&[2], f64s(&[0.0, 1.0]))], &[0]),
            CacheKey::new(1, &[rows(&[1, 2], f64s(&[-0.0, 1.0]))], &[0]),
            CacheKey::new(1, &[rows(&[1, 2], f64s(&[f64::NAN, 1.0]))], &[0]),
            CacheKey::new(
                1,
                &[rows(&[1, 2], Values::F32(vec![0.0, 1.0].into()))],
                &[0],
            ),
            CacheKey::new(1, &[rows(&[1, 2], Values::I64(vec![0, 1].into()))], &[0]),
            CacheKey::new(1, &[rows(&[1, 2], Values::U64(vec![0, 1].into()))], &[0]),
            CacheKey::new(1, &[rows(&[1, 2], Values::Bool(vec![false, true]))], &[0]),
            // One input or two, texts that join to the same, missing and empty ones.
            CacheKey::new(1, &[one.clone(), one.clone()], &[0]),
            CacheKey::new(1, &[texts(&["ab", "c"])], &[0]),
            CacheKey::new(1, &[texts(&["a", "bc"])], &[0]),
            CacheKey::new(1, &[texts(&["", "ab"])], &[0]),
            CacheKey::new(1, &[missing], &[0]),
            CacheKey::new(1, &[], &[0]),
        ];
        for (index, key) in keys.iter().enumerate() {
            let n_equal = keys.iter().filter(|other| *other == key).count();
            assert_eq!(n_equal, 1, "{index}");
        }
        let nan = || rows(&[1], f64s(&[f64::NAN]));
        assert_eq!(
            CacheKey::new(1, &[nan()], &[0]),
            CacheKey::new(1, &[nan()], &[0])
        );
    }
}
