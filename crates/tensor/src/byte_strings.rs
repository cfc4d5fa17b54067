//! Many short strings in two buffers, so that a column of labels costs two allocations.

/// A sequence of byte strings, some of which may be missing; text is UTF-8 by convention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByteStrings {
    /// End of each string in `bytes`.
    ends: Vec<usize>,
    bytes: Vec<u8>,
    /// The positions of those that are missing, rising; they take no bytes.
    missing: Vec<usize>,
}

impl ByteStrings {
    /// Returns an empty sequence.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Tells whether there are no strings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends a string.
    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len());
    }

    /// Appends a missing string.
    pub fn push_missing(&mut self) {
        self.missing.push(self.ends.len());
        self.ends.push(self.bytes.len());
    }

    /// Appends a string, or a missing one for `None`.
    pub fn push_optional(&mut self, string: Option<&[u8]>) {
        match string {
            Some(string) => self.push(string),
            None => self.push_missing(),
        }
    }

    /// Tells whether the string at `index` is missing.
    #[must_use]
    pub fn is_missing(&self, index: usize) -> bool {
        !self.missing.is_empty() && self.missing.binary_search(&index).is_ok()
    }

    /// Returns the position of the first missing string, if any is.
    #[must_use]
    pub fn first_missing(&self) -> Option<usize> {
        self.missing.first().copied()
    }

    /// Returns the string at `index`; `None` where it is missing or there is none.
    #[must_use]
    pub fn get_present(&self, index: usize) -> Option<&[u8]> {
        self.get(index).filter(|_| !self.is_missing(index))
    }

    /// Returns the string at `index`; a missing one is empty.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(previous) => *self.ends.get(previous)?,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    /// Visits the strings in order; missing ones are empty.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = &self.bytes[start..end];
            start = end;
            string
        })
    }

    /// Returns the memory held, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        (self.ends.capacity() + self.missing.capacity()) * size_of::<usize>()
            + self.bytes.capacity()
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for ByteStrings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut all = Self::new();
        for string in strings {
            all.push(string.as_ref());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::ByteStrings;

    #[test]
    fn strings_come_back_in_order() {
        let strings: ByteStrings = ["setosa", "", "virginica"].into_iter().collect();
        assert_eq!(strings.len(), 3);
        assert_eq!(strings.get(0), Some(&b"setosa"[..]));
        assert_eq!(strings.get(1), Some(&b""[..]));
        assert_eq!(strings.get(2), Some(&b"virginica"[..]));
        assert_eq!(strings.get(3), None);
        assert_eq!(strings.iter().count(), 3);
    }

    #[test]
    fn missing_strings_are_told_from_empty_ones() {
        let mut strings = ByteStrings::new();
        strings.push(b"");
        strings.push_missing();
        strings.push_optional(Some(b"x"));
        strings.push_optional(None);
        let present: Vec<_> = (0..5).map(|index| strings.get_present(index)).collect();
        assert_eq!(present, [Some(&b""[..]), None, Some(b"x"), None, None]);
        assert_eq!(strings.first_missing(), Some(1));
        assert_eq!(strings.get(1), Some(&b""[..]));
    }
}
