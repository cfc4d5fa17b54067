//! How many bytes a PredictRequest comes to, which is known before it is decoded: a look at it takes no memory, however many inputs and dimensions it has.

use super::datatype;
use crate::RequestError;
use crate::error::quoted;
use crate::grpc::{Fields, Held, check_fields};
use crate::v2::RANK_MAX;

/// Returns how many bytes a PredictRequest comes to: its own, or those of its inputs, which a few elements are repeated to fill. Its own where it is refused
/// for its form.
#[must_use]
pub fn predict_bytes(message: &[u8]) -> usize {
    let n_bytes = check_predict(message).unwrap_or_default();
    n_bytes.max(message.len())
}

/// Checks that a PredictRequest may be decoded, which a short one cannot be into a large structure; returns the bytes of its inputs where their shapes are
/// filled.
///
/// # Errors
/// Code `InvalidArgument` if there are too many fields or dimensions, or the message is damaged.
pub(super) fn check_predict(message: &[u8]) -> Result<usize, RequestError> {
    check_fields(message)?;
    let mut n_bytes = 0_usize;
    for field in Fields(message) {
        if let (2, Held::Bytes(entry)) = field? {
            n_bytes = n_bytes.saturating_add(entry_bytes(entry)?);
        }
    }
    Ok(n_bytes)
}

/// Returns the bytes of an input; of fields that are there again the last one counts, and of dimensions all do, as where they are decoded.
fn entry_bytes(entry: &[u8]) -> Result<usize, RequestError> {
    let mut size = InputSize {
        dtype: 0,
        rank: 0,
        n_elements: Some(1),
    };
    for field in Fields(entry) {
        if let (2, Held::Bytes(tensor)) = field? {
            size.read_tensor(tensor)?;
            if size.rank > RANK_MAX {
                let message = format!(
                    "inputs[{}]: more than {RANK_MAX} dimensions, which are the most that are supported",
                    quoted(&name(entry))
                );
                return Err(RequestError::invalid(message));
            }
        }
    }
    Ok(size.n_bytes().unwrap_or_default())
}

fn name(entry: &[u8]) -> String {
    let names = Fields(entry).filter_map(|field| match field {
        Ok((1, Held::Bytes(name))) => Some(name),
        _ => None,
    });
    String::from_utf8_lossy(names.last().unwrap_or_default()).into_owned()
}

/// What an input says of its size.
struct InputSize {
    dtype: i32,
    rank: usize,
    /// `None` if a dimension is negative.
    n_elements: Option<usize>,
}

impl InputSize {
    /// Takes in a tensor, its shape up to one dimension too many.
    fn read_tensor(&mut self, tensor: &[u8]) -> Result<(), RequestError> {
        for field in Fields(tensor) {
            match field? {
                (1, Held::Varint(dtype)) => self.dtype = as_int32(dtype),
                (2, Held::Bytes(shape)) => self.read_shape(shape)?,
                _ => {}
            }
            if self.rank > RANK_MAX {
                break;
            }
        }
        Ok(())
    }

    fn read_shape(&mut self, shape: &[u8]) -> Result<(), RequestError> {
        for field in Fields(shape) {
            let (2, Held::Bytes(dim)) = field? else {
                continue;
            };
            self.rank = self.rank.saturating_add(1);
            if self.rank > RANK_MAX {
                break;
            }
            let mut size = 0;
            for field in Fields(dim) {
                if let (1, Held::Varint(sent)) = field? {
                    size = sent.cast_signed();
                }
            }
            let size = usize::try_from(size).ok();
            let product = self.n_elements.zip(size);
            self.n_elements = product.map(|(product, size)| product.saturating_mul(size));
        }
        Ok(())
    }

    /// Returns its bytes; `None` of texts, which are not repeated, and of what is refused.
    fn n_bytes(&self) -> Option<usize> {
        let size = datatype(self.dtype)?.size_bytes()?;
        Some(self.n_elements?.saturating_mul(size))
    }
}

/// Returns the number of 32 bits that a varint is read as.
fn as_int32(varint: u64) -> i32 {
    let low = u32::try_from(varint & u64::from(u32::MAX));
    low.map_or(0, u32::cast_signed)
}
