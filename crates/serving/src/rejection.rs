//! Why requests are turned away before a model has seen them.

use crate::Refusal;

/// Why a request was turned away. The list is closed: each is a label's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Too many wait for the model or for a place to run.
    QueueFull,
    /// Too many wait for the compute pool.
    PoolFull,
    /// The model failed again and again, and rests for a while.
    SetAside,
    /// Its time was over while it waited.
    Deadline,
    /// The model that it woke could not be loaded.
    NotLoaded,
    /// It came in a stream that a program would have to answer.
    Forwarded,
}

impl Rejection {
    /// Every reason, in declaration order.
    pub const ALL: [Self; 6] = [
        Self::QueueFull,
        Self::PoolFull,
        Self::SetAside,
        Self::Deadline,
        Self::NotLoaded,
        Self::Forwarded,
    ];

    /// Returns the name, fit for a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::PoolFull => "pool_full",
            Self::SetAside => "set_aside",
            Self::Deadline => "deadline",
            Self::NotLoaded => "not_loaded",
            Self::Forwarded => "forwarded",
        }
    }

    pub(crate) fn index(self) -> usize {
        Self::ALL
            .iter()
            .position(|known| *known == self)
            .unwrap_or(0)
    }
}

impl From<&Refusal> for Rejection {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::QueueFull | Refusal::BulkheadFull => Self::QueueFull,
            Refusal::PoolFull => Self::PoolFull,
            Refusal::SetAside(_) => Self::SetAside,
            Refusal::Deadline => Self::Deadline,
            Refusal::Failed(_) | Refusal::Absent(_) => Self::NotLoaded,
            Refusal::Forwarded => Self::Forwarded,
        }
    }
}
