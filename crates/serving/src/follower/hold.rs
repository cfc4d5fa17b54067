//! Loads that faults on purpose keep waiting: before it is their turn, so that they take no place from others.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use super::{Event, FollowerConfig};
use crate::plan::{PlannedRevision, RevisionId};
use crate::revision_log::LogSource;

/// Whether the wait of a revision is over.
#[derive(Debug, PartialEq, Eq)]
enum Hold {
    Waits,
    Over,
}

/// The loads that wait, or have waited and are to begin.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<RevisionId, Hold>);

impl Holds {
    /// Tells whether the load of a revision is to wait; the end of the wait is an event.
    pub(super) fn keep(
        &mut self,
        (id, planned): (&RevisionId, &PlannedRevision),
        config: &FollowerConfig,
        events: &Sender<Event>,
    ) -> bool {
        match self.0.get(id) {
            Some(Hold::Waits) => return true,
            Some(Hold::Over) => {
                self.0.remove(id);
                return false;
            }
            None => {}
        }
        let Some(chaos) = &config.chaos else {
            return false;
        };
        let model = planned.model_name.clone();
        let Some(delay) = chaos.load_delay(id, &model) else {
            return false;
        };
        let delay = humantime::format_duration(delay);
        let text = format!("chaos: the load waits for {delay}");
        config.log.write(id, LogSource::Fetch, &text);
        drop(events.send(Event::Progress(id.clone(), text)));
        let (chaos, of, events) = (chaos.clone(), id.clone(), events.clone());
        let thread = std::thread::Builder::new().name("coracle-chaos".to_owned());
        let spawned = thread.spawn(move || {
            chaos.hold_load(&of, &model);
            // A follower that is gone loads nothing.
            drop(events.send(Event::Held(of)));
        });
        let waits = spawned.is_ok();
        if waits {
            self.0.insert(id.clone(), Hold::Waits);
        }
        waits
    }

    /// Notes that a revision has waited.
    pub(super) fn end(&mut self, id: &RevisionId) {
        self.0.insert(id.clone(), Hold::Over);
    }

    /// Forgets those that have waited and are not wanted any more; who still waits is noticed when that is over.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&RevisionId) -> bool) {
        self.0
            .retain(|id, hold| *hold == Hold::Waits || is_wanted(id));
    }
}
