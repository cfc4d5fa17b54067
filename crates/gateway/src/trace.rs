//! W3C trace context: the trace that a request is part of is given back and written to the log.

use coracle_serving::TraceId;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries a trace.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The bit of the flags that says that the trace is recorded.
const SAMPLED: u8 = 1;

/// The trace that a request is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    id: TraceId,
    /// The caller's span.
    parent: u64,
    flags: u8,
}

impl Trace {
    /// Reads a request's trace; `None` if there is none, or it is not well-formed.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(TRACEPARENT)?.to_str().ok()?;
        let mut parts = text.split('-');
        let (version, id) = (parts.next()?, parts.next()?);
        let (parent, flags) = (parts.next()?, parts.next()?);
        let (version, flags) = (hex(version, 2)?, hex(flags, 2)?);
        let parent = hex(parent, 16)?;
        // Later versions may have more parts.
        let is_well_formed =
            version != 0xff && parent != 0 && (version != 0 || parts.next().is_none());
        let id = TraceId::new(hex(id, 32)?)?;
        is_well_formed.then_some(Self {
            id,
            parent: u64::try_from(parent).ok()?,
            flags: u8::try_from(flags).ok()?,
        })
    }

    /// Returns the trace's id.
    pub(crate) fn id(&self) -> TraceId {
        self.id
    }

    /// Returns the caller's span.
    pub(crate) fn parent(&self) -> u64 {
        self.parent
    }

    /// Tells whether the trace is recorded, as far as the caller knows.
    pub(crate) fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the header of the answer; `span` is this server's part of the trace.
    pub(crate) fn header(&self, span: u64) -> Option<HeaderValue> {
        // A span of zeros is none.
        let (id, flags, span) = (self.id, self.flags, span.max(1));
        HeaderValue::try_from(format!("00-{id}-{span:016x}-{flags:02x}")).ok()
    }
}

/// Reads a number of exactly so many hexadecimal digits, in lower case.
fn hex(text: &str, n_digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_hex = text.len() == n_digits && text.bytes().all(is_digit);
    is_hex
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_traces_are_followed() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let cases = [
            (format!("00-{id}-b7ad6b7169203331-01"), true),
            (format!("cc-{id}-b7ad6b7169203331-01-more"), true),
            (format!("00-{id}-b7ad6b7169203331-01-more"), false),
            (format!("ff-{id}-b7ad6b7169203331-01"), false),
            (format!("00-{id}-0000000000000000-01"), false),
            (format!("00-{id}-+7ad6b7169203331-01"), false),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false),
            (
                format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()),
                false,
            ),
            (id.to_owned(), false),
        ];
        for (text, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::try_from(&text).unwrap());
            let trace = Trace::of(&headers);
            assert_eq!(trace.is_some(), expected, "{text}");
            if let Some(trace) = trace {
                assert_eq!(trace.id().to_string(), id);
                assert!(trace.is_sampled());
                let header = trace.header(0xab).unwrap();
                assert_eq!(header, &format!("00-{id}-00000000000000ab-01"));
            }
        }
    }
}
