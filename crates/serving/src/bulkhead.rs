//! The bulkhead of a service: so many of its requests are in work at a time, whichever of its revisions takes them, and so many more wait; the threads and
//! processes beyond that are for others.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::Priority;
use crate::admission::{Admission, Place, Refusal};

/// How many requests of a service there may be at a time.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct BulkheadSettings {
    /// How many are in work, from 1.
    pub places: u32,
    /// How many more wait; 0 for none.
    pub queue: u32,
}

impl BulkheadSettings {
    /// How many requests wait for each place, unless it is said: as many as with a limit of concurrency.
    pub const QUEUE_PER_PLACE: u32 = 10;
}

/// The places of a service.
#[derive(Clone, Debug)]
pub(crate) struct Bulkhead {
    settings: BulkheadSettings,
    admission: Arc<Admission>,
}

impl Bulkhead {
    /// Returns one with all places free.
    pub(crate) fn new(settings: BulkheadSettings) -> Self {
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let admission = Admission::with_queue(number(settings.queue));
        admission.set_limit(Some(number(settings.places)));
        Self {
            settings,
            admission: Arc::new(admission),
        }
    }

    pub(crate) fn settings(&self) -> BulkheadSettings {
        self.settings
    }

    /// Takes a place if one is free.
    pub(crate) fn try_place(&self) -> Option<Place> {
        self.admission.try_place()
    }

    /// Waits for a place.
    pub(crate) async fn place(
        &self,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Place, Refusal> {
        match self.admission.place(priority, deadline).await {
            Err(Refusal::QueueFull) => Err(Refusal::BulkheadFull),
            place => place,
        }
    }
}
