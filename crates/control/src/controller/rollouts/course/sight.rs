//! What is seen of both revisions that keeps a rollout or a command from going on.

use coracle_serving::RevisionState;

use super::super::command::Command;
use super::{BY_HAND, STOPPED, Seen};

/// Returns why a command that fits the status has no effect as things are.
pub(super) fn refused_by_sight(command: Command, seen: &Seen<'_>) -> Option<String> {
    let is_refused = |why: &str| Some(format!("{}: {why}", command.as_str()));
    if seen.is_split_by_hand {
        return is_refused(BY_HAND);
    }
    if seen.is_stopped && command != Command::Abort {
        return is_refused(STOPPED);
    }
    let newest = seen.newest.unwrap_or_default();
    if matches!(command, Command::Promote | Command::Retry) {
        let failure = failure_of(seen).or_else(|| refusal_of(seen));
        let why = failure.or_else(|| match seen.newest_state {
            // One that fails for now may be tried again, and takes nothing.
            Some(RevisionState::Failed { failure, .. }) if command == Command::Promote => {
                Some(format!("failed: {}", failure.message))
            }
            _ => None,
        });
        return why.and_then(|why| is_refused(&format!("{newest} {why}")));
    }
    // Nobody else would take the requests, and no stage is compared with that.
    if let Some(why) = stable_failure(seen) {
        return is_refused(&why);
    }
    if command != Command::Skip {
        return None;
    }
    let both = [
        (newest, seen.newest_state),
        (seen.stable.unwrap_or_default(), seen.stable_state),
    ];
    let absent = both.iter().find(|(_, state)| !is_ready(*state));
    absent.and_then(|(name, _)| is_refused(&format!("{name} is not loaded")))
}

fn is_ready(state: Option<&RevisionState>) -> bool {
    matches!(state, Some(RevisionState::Ready { .. }))
}

/// Tells whether the newest revision is ready beside one that is not: what it does alone is compared with nothing.
pub(super) fn is_alone(seen: &Seen<'_>) -> bool {
    is_ready(seen.newest_state) && !is_ready(seen.stable_state)
}

/// Says that the revision that serves has failed, if it has.
pub(super) fn stable_failure(seen: &Seen<'_>) -> Option<String> {
    let Some(RevisionState::Failed { failure, .. }) = seen.stable_state else {
        return None;
    };
    let stable = seen.stable.unwrap_or_default();
    Some(format!("{stable} failed: {}", failure.message))
}

/// Returns why the newest revision is not tried to be loaded.
pub(super) fn refusal_of(seen: &Seen<'_>) -> Option<String> {
    let refusal = seen.refusal.filter(|_| seen.newest_state.is_none())?;
    Some(format!("cannot be served: {refusal}"))
}

/// Returns why the newest revision cannot be loaded, if it will not be tried again by itself.
pub(super) fn failure_of(seen: &Seen<'_>) -> Option<String> {
    match seen.newest_state {
        Some(RevisionState::Failed { failure, .. }) if !failure.is_transient => {
            Some(format!("failed: {}", failure.message))
        }
        _ => None,
    }
}
