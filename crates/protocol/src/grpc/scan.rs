//! A look over the fields of a message before it is decoded, so that a short message cannot become a large structure.

use crate::RequestError;

/// The most fields of a message's first level. Each may become a structure of some hundred bytes.
const FIELDS_MAX: usize = 65_536;

/// Checks that `bytes` are fields, and not too many of them.
///
/// # Errors
/// Code `InvalidArgument`.
pub(crate) fn check_fields(mut bytes: &[u8]) -> Result<(), RequestError> {
    let mut n_fields = 0_usize;
    while !bytes.is_empty() {
        n_fields = n_fields.saturating_add(1);
        if n_fields > FIELDS_MAX {
            let message = format!("the message has more than {FIELDS_MAX} fields");
            return Err(RequestError::invalid(message));
        }
        bytes = skip_field(bytes)
            .ok_or_else(|| RequestError::invalid("the message is damaged or cut off"))?;
    }
    Ok(())
}

/// Returns what follows the first field.
fn skip_field(bytes: &[u8]) -> Option<&[u8]> {
    let (key, rest) = varint(bytes)?;
    match key & 7 {
        0 => varint(rest).map(|(_, rest)| rest),
        1 => rest.get(8..),
        2 => {
            let (length, rest) = varint(rest)?;
            rest.get(usize::try_from(length).ok()?..)
        }
        5 => rest.get(4..),
        // Groups are of an older time; none of the messages has one.
        _ => None,
    }
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
