//! Why a file was not read.

use std::fmt;
use std::io;

use coracle_base::Code;

use crate::Container;

/// Says what kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file names classes or functions outside the closed list.
    UnknownGlobal,
    /// The bytes are not a sound file.
    Malformed,
    /// Python could read this; the reader does not.
    Unsupported,
    /// A bound of [`Limits`](crate::Limits) was reached.
    LimitExceeded,
}

/// A class or function that the file names and nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownGlobal {
    /// Module and name, joined by a dot, with control characters escaped.
    pub name: String,
    /// Where in the graph it sits (`root.steps[0][1].tokenizer`), or at which byte it is named.
    pub place: String,
}

/// Why a file was not read. [`kind`](Self::kind) is for programs, `Display` for people.
#[derive(Debug)]
pub struct Error {
    detail: Box<Detail>,
}

#[derive(Debug)]
enum Detail {
    UnknownGlobals(Vec<UnknownGlobal>),
    Truncated {
        what: &'static str,
        offset: usize,
        needed: u64,
        available: usize,
    },
    Malformed {
        problem: String,
        offset: usize,
    },
    Unsupported {
        what: String,
        offset: usize,
    },
    Limit {
        what: &'static str,
        limit: u64,
    },
    Decompression {
        container: Container,
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn unknown_globals_found(globals: Vec<UnknownGlobal>) -> Self {
        Self::from_detail(Detail::UnknownGlobals(globals))
    }

    pub(crate) fn truncated(
        what: &'static str,
        offset: usize,
        needed: u64,
        available: usize,
    ) -> Self {
        Self::from_detail(Detail::Truncated {
            what,
            offset,
            needed,
            available,
        })
    }

    pub(crate) fn malformed(problem: impl Into<String>, offset: usize) -> Self {
        Self::from_detail(Detail::Malformed {
            problem: problem.into(),
            offset,
        })
    }

    pub(crate) fn unsupported(what: impl Into<String>, offset: usize) -> Self {
        Self::from_detail(Detail::Unsupported {
            what: what.into(),
            offset,
        })
    }

    pub(crate) fn limit(what: &'static str, limit: impl TryInto<u64>) -> Self {
        Self::from_detail(Detail::Limit {
            what,
            limit: limit.try_into().unwrap_or(u64::MAX),
        })
    }

    pub(crate) fn decompression(container: Container, source: io::Error) -> Self {
        Self::from_detail(Detail::Decompression { container, source })
    }

    fn from_detail(detail: Detail) -> Self {
        Self {
            detail: Box::new(detail),
        }
    }

    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &*self.detail {
            Detail::UnknownGlobals(_) => ErrorKind::UnknownGlobal,
            Detail::Truncated { .. } | Detail::Malformed { .. } | Detail::Decompression { .. } => {
                ErrorKind::Malformed
            }
            Detail::Unsupported { .. } => ErrorKind::Unsupported,
            Detail::Limit { .. } => ErrorKind::LimitExceeded,
        }
    }

    /// Returns the failure's place in the list that every Coracle error maps to.
    #[must_use]
    pub fn code(&self) -> Code {
        match self.kind() {
            ErrorKind::UnknownGlobal | ErrorKind::Malformed => Code::InvalidArgument,
            ErrorKind::Unsupported => Code::Unimplemented,
            ErrorKind::LimitExceeded => Code::ResourceExhausted,
        }
    }

    /// Returns the unknown names and where they sit; empty for other kinds of failure.
    #[must_use]
    pub fn unknown_globals(&self) -> &[UnknownGlobal] {
        match &*self.detail {
            Detail::UnknownGlobals(globals) => globals,
            _ => &[],
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.detail {
            Detail::UnknownGlobals(globals) => {
                f.write_str("refuses to load ")?;
                for (index, global) in globals.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}'{}'", global.name)?;
                }
                f.write_str(if globals.len() == 1 {
                    " (not a known data type)"
                } else {
                    " (not known data types)"
                })
            }
            Detail::Truncated {
                what,
                offset,
                needed,
                available,
            } => write!(
                f,
                "{what} at byte {offset} needs {needed} bytes, {available} are left"
            ),
            Detail::Malformed { problem, offset } => write!(f, "{problem} at byte {offset}"),
            Detail::Unsupported { what, offset } => {
                write!(f, "{what} at byte {offset} is not supported")
            }
            Detail::Limit { what, limit } => write!(f, "{what} would exceed the limit of {limit}"),
            Detail::Decompression { container, .. } => {
                write!(f, "the {container} data cannot be decompressed")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.detail {
            Detail::Decompression { source, .. } => Some(source),
            _ => None,
        }
    }
}
