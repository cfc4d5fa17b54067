//! The closed list of failures that every public error maps to.

use std::fmt;

/// Says what kind of failure an error is, for callers that must act on it.
///
/// The list is closed on purpose: each protocol maps it to its own status codes in one `match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller sent something that can never work.
    InvalidArgument,
    /// The thing named does not exist.
    NotFound,
    /// The thing to be created exists.
    AlreadyExists,
    /// The request is sound, but the system is not in the state it needs.
    FailedPrecondition,
    /// A bound (queue, memory, size) was reached.
    ResourceExhausted,
    /// The service cannot answer now; a retry may succeed.
    Unavailable,
    /// The time allowed ran out.
    DeadlineExceeded,
    /// The operation is known and not supported.
    Unimplemented,
    /// A defect on our side.
    Internal,
}

impl Code {
    /// Every code, in declaration order.
    pub const ALL: [Self; 9] = [
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::FailedPrecondition,
        Self::ResourceExhausted,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Unimplemented,
        Self::Internal,
    ];

    /// Returns the code's name in snake case, fit for logs and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::FailedPrecondition => "failed_precondition",
            Self::ResourceExhausted => "resource_exhausted",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
