//! Ids of requests: the caller's own, or new ones.

use std::cell::{Cell, RefCell};

use bytes::BytesMut;
use hyper::header::{HeaderMap, HeaderValue};

use crate::respond::REQUEST_ID;

/// The longest request id that is given back.
const LENGTH_MAX: usize = 128;
/// The length of the ids that are made here.
const LENGTH: usize = 16;
/// So many ids share one allocation.
const PER_BUFFER: usize = 64;

/// Makes the ids of one event loop.
#[derive(Debug)]
pub(crate) struct RequestIds {
    next: Cell<u64>,
    /// Room for further ids.
    buffer: RefCell<BytesMut>,
}

impl RequestIds {
    /// Returns ids that follow from `seed`, which no other event loop has.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            next: Cell::new(seed),
            buffer: RefCell::default(),
        }
    }

    /// Returns a number that no other request of this server has.
    pub(crate) fn unique(&self) -> u64 {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        // A bijection spreads consecutive numbers over all of them (splitmix64's last steps).
        let mut mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    }

    /// Returns the caller's request id if it is one, else a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let mut id = match headers.get(REQUEST_ID) {
            Some(id) if is_well_formed(id) => id.clone(),
            _ => self.next(),
        };
        // Every id is another one: HTTP/2 is not to keep them in its tables.
        id.set_sensitive(true);
        id
    }

    fn next(&self) -> HeaderValue {
        let mixed = self.unique();
        let mut buffer = self.buffer.borrow_mut();
        if buffer.capacity() < LENGTH {
            buffer.reserve(LENGTH * PER_BUFFER);
        }
        for byte in mixed.to_be_bytes() {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            buffer.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        let digits = buffer.split().freeze();
        HeaderValue::from_maybe_shared(digits).unwrap_or(HeaderValue::from_static("0"))
    }
}

/// Tells whether a caller's id is given back.
pub(crate) fn is_well_formed(id: &HeaderValue) -> bool {
    (1..=LENGTH_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_sixteen_digits_each_and_differ() {
        let ids = RequestIds::new(7);
        let none = HeaderMap::new();
        let made: Vec<HeaderValue> = (0..1_000).map(|_| ids.of(&none)).collect();
        let different: HashSet<&[u8]> = made.iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(different.len(), made.len());
        let is_hex = |id: &[u8]| id.len() == LENGTH && id.iter().all(u8::is_ascii_hexdigit);
        assert!(different.into_iter().all(is_hex));
    }

    #[test]
    fn a_caller_s_own_id_is_kept_if_it_is_one() {
        let ids = RequestIds::new(7);
        for (sent, is_kept) in [("abc-1", true), ("", false), ("a b", false)] {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(sent))]);
            assert_eq!(ids.of(&headers) == sent, is_kept, "{sent:?}");
        }
    }
}
