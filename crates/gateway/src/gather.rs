//! The pieces of a request's body put together, so that the numbers at its end are aligned and need not be copied again.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;

/// No number has more bytes.
const ALIGNMENT: usize = 8;
/// Room is made for so many times what has come, at most: nobody gets memory by saying how much is to come.
const GROWTH: usize = 8;

pub(crate) enum BodyFault {
    TooLarge,
    Broken,
}

/// Reads a body of at most `most` bytes. `length` tells from what came first how long the whole is, if that can be known.
pub(crate) async fn gather<B: Body<Data = Bytes> + Unpin>(
    mut body: B,
    most: usize,
    length: impl Fn(&Bytes) -> Option<usize>,
) -> Result<Bytes, BodyFault> {
    let mut gathered = Gathered::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_broken| BodyFault::Broken)?.into_data() else {
            continue;
        };
        if gathered.len().saturating_add(data.len()) > most {
            return Err(BodyFault::TooLarge);
        }
        gathered.add(data, |first| length(first).map(|length| length.min(most)));
        if body.is_end_stream() {
            break;
        }
    }
    Ok(gathered.finish())
}

#[derive(Default)]
struct Gathered {
    first: Bytes,
    /// All pieces from the second one on the first with them, after the padding.
    all: BytesMut,
    n_padding: usize,
    /// The length of the whole, if known.
    length: Option<usize>,
}

impl Gathered {
    fn len(&self) -> usize {
        // One of the two is empty.
        self.first.len() + self.all.len() - self.n_padding
    }

    fn add(&mut self, data: Bytes, length: impl FnOnce(&Bytes) -> Option<usize>) {
        if self.len() == 0 {
            // A body in one piece, the rule for small ones, is not copied.
            self.first = data;
            return;
        }
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            self.length = length(&first);
            self.reserve(first.len() + data.len());
            self.n_padding = self.padding();
            self.all.resize(self.n_padding, 0);
            self.all.extend_from_slice(&first);
        }
        self.reserve(data.len());
        self.all.extend_from_slice(&data);
    }

    /// Makes room for `n_more` bytes, and for what is to come after them.
    fn reserve(&mut self, n_more: usize) {
        if self.all.capacity() - self.all.len() >= n_more + ALIGNMENT {
            return;
        }
        let needed = self.all.len() + n_more + ALIGNMENT;
        let whole = self.length.map_or(0, |length| length + ALIGNMENT);
        let room = whole.min(needed.saturating_mul(GROWTH)).max(needed);
        self.all.reserve(room - self.all.len());
    }

    /// Returns how many bytes before the body put its end at a multiple of the alignment.
    fn padding(&self) -> usize {
        let length = self.length.unwrap_or(0);
        let end = self.all.as_ptr().addr().wrapping_add(length);
        end.wrapping_neg() % ALIGNMENT
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() {
            return self.first;
        }
        // Where the buffer moved while it grew, the allocator keeps at least this alignment; if it ever did not, the numbers
        // would be copied.
        self.all.freeze().slice(self.n_padding..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(body: &[u8], piece: usize, length: Option<usize>) -> Bytes {
        let mut gathered = Gathered::default();
        for piece in body.chunks(piece) {
            gathered.add(Bytes::copy_from_slice(piece), |first| {
                assert_eq!(first, &body[..first.len()]);
                length
            });
            assert!(gathered.all.capacity() <= 2 * GROWTH * (gathered.len() + ALIGNMENT) + 64);
        }
        assert_eq!(gathered.len(), body.len());
        gathered.finish()
    }

    #[test]
    fn the_end_of_a_body_in_pieces_is_aligned_where_its_length_is_known() {
        for n_bytes in (0..40).chain([1_000, 65_537, 100_003]) {
            let body: Vec<u8> = (0..n_bytes).map(|index| index as u8).collect();
            for piece in [1, 7, 64, 16_384] {
                // A megabyte that was promised and did not come costs no room.
                for length in [None, Some(n_bytes), Some(1 << 20)] {
                    let whole = gathered(&body, piece, length);
                    assert!(whole == body, "{n_bytes} bytes in pieces of {piece}");
                    if n_bytes > piece && length == Some(n_bytes) {
                        let end = whole.as_ptr().addr() + whole.len();
                        assert_eq!(end % ALIGNMENT, 0, "{n_bytes} bytes in pieces of {piece}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_body_in_one_piece_is_not_copied() {
        let body = Bytes::from(vec![7; 100]);
        let mut gathered = Gathered::default();
        gathered.add(body.clone(), |_first| None);
        assert_eq!(gathered.finish().as_ptr(), body.as_ptr());
    }
}
