//! The part of FlatBuffers that CatBoost's files need: tables, vectors, strings; every offset checked.

use coracle_model::LoadError;

use super::malformed;

/// A table in a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'b> {
    buffer: &'b [u8],
    position: usize,
}

/// A vector in a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vector<'b> {
    buffer: &'b [u8],
    first: usize,
    len: usize,
}

fn damaged() -> LoadError {
    malformed("not a sound CatBoost model: an offset points outside the file")
}

fn array<const N: usize>(buffer: &[u8], position: usize) -> Result<[u8; N], LoadError> {
    let bytes = buffer.get(position..).and_then(<[u8]>::first_chunk);
    bytes.copied().ok_or_else(damaged)
}

fn offset(buffer: &[u8], position: usize) -> Result<usize, LoadError> {
    let offset = u32::from_le_bytes(array(buffer, position)?);
    let offset = usize::try_from(offset).map_err(|_large| damaged())?;
    position.checked_add(offset).ok_or_else(damaged)
}

impl<'b> Table<'b> {
    /// Returns the root table of a buffer.
    pub(super) fn root(buffer: &'b [u8]) -> Result<Self, LoadError> {
        let position = offset(buffer, 0)?;
        Ok(Self { buffer, position })
    }

    /// Returns the place of a field, `None` if it has its default.
    fn field(&self, slot: usize) -> Result<Option<usize>, LoadError> {
        let back = i32::from_le_bytes(array(self.buffer, self.position)?);
        let back = isize::try_from(back).map_err(|_large| damaged())?;
        let entries = self
            .position
            .checked_add_signed(back.checked_neg().ok_or_else(damaged)?);
        let entries = entries.ok_or_else(damaged)?;
        let n_bytes = usize::from(u16::from_le_bytes(array(self.buffer, entries)?));
        let place = slot.saturating_mul(2).saturating_add(4);
        if place.saturating_add(2) > n_bytes {
            return Ok(None);
        }
        let at = entries.checked_add(place).ok_or_else(damaged)?;
        match u16::from_le_bytes(array(self.buffer, at)?) {
            0 => Ok(None),
            distance => self
                .position
                .checked_add(usize::from(distance))
                .map(Some)
                .ok_or_else(damaged),
        }
    }

    pub(super) fn byte(&self, slot: usize, default: u8) -> Result<u8, LoadError> {
        match self.field(slot)? {
            Some(at) => array(self.buffer, at).map(|[byte]| byte),
            None => Ok(default),
        }
    }

    pub(super) fn int(&self, slot: usize, default: i32) -> Result<i32, LoadError> {
        match self.field(slot)? {
            Some(at) => array(self.buffer, at).map(i32::from_le_bytes),
            None => Ok(default),
        }
    }

    pub(super) fn single(&self, slot: usize, default: f32) -> Result<f32, LoadError> {
        match self.field(slot)? {
            Some(at) => array(self.buffer, at).map(f32::from_le_bytes),
            None => Ok(default),
        }
    }

    pub(super) fn double(&self, slot: usize, default: f64) -> Result<f64, LoadError> {
        match self.field(slot)? {
            Some(at) => array(self.buffer, at).map(f64::from_le_bytes),
            None => Ok(default),
        }
    }

    pub(super) fn table(&self, slot: usize) -> Result<Option<Self>, LoadError> {
        let Some(at) = self.field(slot)? else {
            return Ok(None);
        };
        let position = offset(self.buffer, at)?;
        Ok(Some(Self { position, ..*self }))
    }

    /// Returns a vector of items of `size` bytes; an empty one if it is not there.
    pub(super) fn vector(&self, slot: usize, size: usize) -> Result<Vector<'b>, LoadError> {
        let buffer = self.buffer;
        let Some(at) = self.field(slot)? else {
            return Ok(Vector {
                buffer,
                first: 0,
                len: 0,
            });
        };
        let start = offset(buffer, at)?;
        let len = u32::from_le_bytes(array(buffer, start)?);
        let len = usize::try_from(len).map_err(|_large| damaged())?;
        let first = start.checked_add(4).ok_or_else(damaged)?;
        let end = len.checked_mul(size).and_then(|n| first.checked_add(n));
        match end {
            Some(end) if end <= buffer.len() => Ok(Vector { buffer, first, len }),
            _ => Err(damaged()),
        }
    }

    pub(super) fn text(&self, slot: usize) -> Result<String, LoadError> {
        let bytes = self.vector(slot, 1)?.bytes();
        String::from_utf8(bytes.to_vec()).map_err(|_invalid| malformed("text is not UTF-8"))
    }
}

impl<'b> Vector<'b> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the bytes of a vector of bytes.
    pub(super) fn bytes(&self) -> &'b [u8] {
        let end = self.first.saturating_add(self.len);
        self.buffer.get(self.first..end).unwrap_or_default()
    }

    /// Returns the items of a vector of scalars or structs of `N` bytes.
    pub(super) fn items<const N: usize>(&self) -> impl Iterator<Item = &'b [u8; N]> + use<'b, N> {
        let end = self.first.saturating_add(self.len.saturating_mul(N));
        let bytes = self.buffer.get(self.first..end).unwrap_or_default();
        bytes.as_chunks::<N>().0.iter()
    }

    /// Returns the tables of a vector of tables.
    pub(super) fn tables(&self) -> Result<Vec<Table<'b>>, LoadError> {
        let places = (0..self.len).map(|index| {
            let place = index.checked_mul(4).and_then(|n| self.first.checked_add(n));
            let position = offset(self.buffer, place.ok_or_else(damaged)?)?;
            Ok(Table {
                buffer: self.buffer,
                position,
            })
        });
        places.collect()
    }
}
