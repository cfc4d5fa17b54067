//! W3C trace context: the trace that a request is part of is given back and written to the log.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries a trace.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace that a request is part of: its id, and whether it is sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    id: String,
    flags: String,
}

impl Trace {
    /// Reads a request's trace; `None` if there is none, or it is not well-formed.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(TRACEPARENT)?.to_str().ok()?;
        let mut parts = text.split('-');
        let (version, id) = (parts.next()?, parts.next()?);
        let (parent, flags) = (parts.next()?, parts.next()?);
        let is_hex = |part: &str, length: usize| {
            let mut digits = part.bytes();
            part.len() == length && digits.all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let is_zero = |part: &str| part.bytes().all(|digit| digit == b'0');
        let is_well_formed = is_hex(version, 2)
            && version != "ff"
            && is_hex(id, 32)
            && !is_zero(id)
            && is_hex(parent, 16)
            && !is_zero(parent)
            && is_hex(flags, 2)
            // Later versions may have more parts.
            && (version != "00" || parts.next().is_none());
        is_well_formed.then(|| Self {
            id: id.to_owned(),
            flags: flags.to_owned(),
        })
    }

    /// Returns the trace's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the header of the answer; `span` is this server's part of the trace.
    pub(crate) fn header(&self, span: u64) -> Option<HeaderValue> {
        // A span of zeros is none.
        let (id, flags, span) = (&self.id, &self.flags, span.max(1));
        HeaderValue::try_from(format!("00-{id}-{span:016x}-{flags}")).ok()
    }
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
                assert_eq!(trace.id(), id);
                let header = trace.header(0xab).unwrap();
                assert_eq!(header, &format!("00-{id}-00000000000000ab-01"));
            }
        }
    }
}
