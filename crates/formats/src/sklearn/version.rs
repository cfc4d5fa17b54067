//! The release of scikit-learn that wrote a file.

use std::fmt;

use coracle_model::{LoadError, LoadErrorKind};

/// A release: `1.3.2` is `Version { major: 1, minor: 3, .. }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    text: String,
}

/// The oldest and the newest release whose files are served.
const OLDEST: (u32, u32) = (0, 18);
const NEWEST: (u32, u32) = (1, 9);

impl Version {
    /// Returns the newest release, for objects of other libraries, which record none.
    pub(crate) fn newest() -> Self {
        Self {
            major: NEWEST.0,
            minor: NEWEST.1,
            text: format!("{}.{}", NEWEST.0, NEWEST.1),
        }
    }

    /// Reads a release as scikit-learn records it.
    ///
    /// # Errors
    /// Kind `Malformed` if it is no release, `Unsupported` if files of it are not served.
    pub(crate) fn parse(text: &str) -> Result<Self, LoadError> {
        let mut parts = text.split('.').map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            let message = format!("'{text}' is not a release of scikit-learn");
            return Err(LoadError::new(LoadErrorKind::Malformed, message));
        };
        if (major, minor) < OLDEST || (major, minor) > NEWEST {
            let message = format!(
                "written by scikit-learn {text}; releases {}.{} to {}.{} are supported",
                OLDEST.0, OLDEST.1, NEWEST.0, NEWEST.1
            );
            return Err(LoadError::new(LoadErrorKind::Unsupported, message));
        }
        Ok(Self {
            major,
            minor,
            text: text.to_owned(),
        })
    }

    /// Tells whether this release is `0.minor` or earlier.
    pub(crate) fn is_up_to_zero(&self, minor: u32) -> bool {
        (self.major, self.minor) <= (0, minor)
    }

    /// Tells whether this release is `1.minor` or later.
    pub(crate) fn is_from(&self, minor: u32) -> bool {
        (self.major, self.minor) >= (1, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        let version = Version::parse("1.3.2").unwrap();
        assert!(version.is_from(3) && version.is_from(0) && !version.is_from(4));
        assert!(Version::parse("1.9.1").is_ok() && Version::parse("1.0rc1").is_err());
        let old = Version::parse("0.22.2.post1").unwrap();
        assert!(!old.is_from(0) && old.is_up_to_zero(22) && !old.is_up_to_zero(21));
        assert!(old.is_up_to_zero(24) && !version.is_up_to_zero(24));
        for unsupported in ["0.17.1", "1.10.0", "2.0.0"] {
            let error = Version::parse(unsupported).unwrap_err();
            assert_eq!(error.kind(), LoadErrorKind::Unsupported, "{error}");
        }
    }
}
