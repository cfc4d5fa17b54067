//! A look over the fields of a message before it is decoded, so that a short message cannot become a large structure.

use crate::RequestError;

/// The most fields of a message's first level. Each may become a structure of some hundred bytes.
const FIELDS_MAX: usize = 65_536;

/// Checks that `bytes` are fields, and not too many of them.
///
/// # Errors
/// Code `InvalidArgument`.
pub(crate) fn check_fields(bytes: &[u8]) -> Result<(), RequestError> {
    let mut n_fields = 0_usize;
    for field in Fields(bytes) {
        field?;
        n_fields = n_fields.saturating_add(1);
        if n_fields > FIELDS_MAX {
            let message = format!("the message has more than {FIELDS_MAX} fields");
            return Err(RequestError::invalid(message));
        }
    }
    Ok(())
}

/// What a field holds.
pub(crate) enum Held<'b> {
    /// A number, or a truth value.
    Varint(u64),
    /// A text, bytes, or a message.
    Bytes(&'b [u8]),
    /// Four or eight bytes.
    Fixed,
}

/// The fields of a message's first level: their numbers, and what they hold. An error, which is the last item, says that the rest is none.
pub(crate) struct Fields<'b>(pub(crate) &'b [u8]);

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Held<'b>), RequestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let first = first_field(self.0);
        self.0 = first.as_ref().map_or(&[], |(_, rest)| rest);
        let damaged = || RequestError::invalid("the message is damaged or cut off");
        Some(first.map(|(field, _)| field).ok_or_else(damaged))
    }
}

/// Returns the first field, and what follows it.
fn first_field(bytes: &[u8]) -> Option<((u64, Held<'_>), &[u8])> {
    let (key, rest) = varint(bytes)?;
    let (held, rest) = match key & 7 {
        0 => varint(rest).map(|(value, rest)| (Held::Varint(value), rest))?,
        1 => (Held::Fixed, rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            let (held, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Held::Bytes(held), rest)
        }
        5 => (Held::Fixed, rest.get(4..)?),
        // Groups are of an older time; none of the messages has one.
        _ => return None,
    };
    Some(((key >> 3, held), rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let shift = u32::try_from(index).ok()?.checked_mul(7)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index.checked_add(1)?..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_empty_fields_are_refused() {
        assert!(check_fields(&[0x2a, 0].repeat(FIELDS_MAX)).is_ok());
        assert!(check_fields(&[0x2a, 0].repeat(FIELDS_MAX + 1)).is_err());
        for damaged in [
            &[0x2a][..],
            &[0x2a, 1],
            &[0x08, 0x80],
            &[0x0b],
            &[0x09, 1],
            &[0xff; 11],
        ] {
            assert!(check_fields(damaged).is_err(), "{damaged:?}");
        }
    }
}
