//! What people want of a rollout at once. A command has its effect, or is refused: at once where the API can tell, and in the status and an event
//! where only the controller can. There is one at a time, so that none is lost under the next.

use coracle_api::rollout::RolloutStatus;
use serde_json::Value;

use super::course::{IDLE, PAUSED, PROGRESSING, PROMOTED, ROLLED_BACK};
use crate::controller::one_command;
use crate::object;

pub(super) use crate::annotations::ROLLOUT as COMMAND;

/// What people want at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// To the next stage, whatever the checks say.
    Skip,
    /// Back to the revision that serves.
    Abort,
    /// All requests to the new revision.
    Promote,
    /// The revision that went back is tried again.
    Retry,
}

impl Command {
    /// Reads the annotation.
    pub(crate) fn find(text: &str) -> Option<Self> {
        match text {
            "skip" => Some(Self::Skip),
            "abort" => Some(Self::Abort),
            "promote" => Some(Self::Promote),
            "retry" => Some(Self::Retry),
            _ => None,
        }
    }

    /// Returns it as the annotation has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Abort => "abort",
            Self::Promote => "promote",
            Self::Retry => "retry",
        }
    }

    /// Returns why it has no effect on a rollout that stands so, if it has none.
    pub(crate) fn refusal(self, status: &RolloutStatus) -> Option<String> {
        let canary = status.canary_revision.as_deref().unwrap_or_default();
        let is_in_force = status.stable_revision == status.canary_revision;
        let why = match (status.phase.as_str(), self) {
            (PROGRESSING | PAUSED, Self::Retry) => format!("{canary} is on trial"),
            (PROGRESSING | PAUSED, Self::Skip) if status.step.is_none() => {
                format!("{canary} is in no stage yet; `promote` gives it all requests")
            }
            (PROGRESSING | PAUSED, _) => return None,
            (ROLLED_BACK, Self::Promote | Self::Retry) => return None,
            (ROLLED_BACK, Self::Skip | Self::Abort) => format!("{canary} went back already"),
            (PROMOTED, Self::Abort) if !is_in_force => return None,
            (PROMOTED, _) => format!("{canary} is promoted already"),
            (IDLE, _) => "nothing is on trial: the newest revision takes all requests".to_owned(),
            _ if status.message.is_empty() => "nothing is on trial".to_owned(),
            _ => format!("nothing is on trial: {}", status.message),
        };
        Some(format!("{}: {why}", self.as_str()))
    }
}

/// Checks the command of a Rollout, if it has one; `old` is the Rollout before.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn check(old: Option<&Value>, rollout: &Value) -> Result<(), String> {
    let Some(text) = object::text(rollout, "annotations", COMMAND) else {
        return Ok(());
    };
    let command = Command::find(text).ok_or_else(|| {
        format!("annotation {COMMAND}: '{text}' is none of skip, abort, promote and retry")
    })?;
    match one_command::is_new(COMMAND, old, text)? {
        false => Ok(()),
        true => {
            let status = old.map(super::status_of).unwrap_or_default();
            command.refusal(&status).map_or(Ok(()), Err)
        }
    }
}

/// Checks that a patch brings no command while there is one.
///
/// # Errors
/// Says which one is not done yet.
pub(super) fn check_patch(live: &Value, patch: &Value) -> Result<(), String> {
    one_command::check_patch(COMMAND, live, patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_are_refused_where_they_have_no_effect() {
        let status = |phase: &str, step: Option<i32>, stable: &str| RolloutStatus {
            phase: phase.to_owned(),
            step,
            stable_revision: Some(stable.to_owned()),
            canary_revision: Some("v2".to_owned()),
            ..RolloutStatus::default()
        };
        let taken = |status: &RolloutStatus| {
            let all = ["skip", "abort", "promote", "retry"];
            let commands = all.map(|text| (text, Command::find(text).unwrap()));
            let taken = commands
                .into_iter()
                .filter(|(_, command)| command.refusal(status).is_none());
            taken.map(|(text, _)| text).collect::<Vec<_>>().join(" ")
        };
        for (phase, step, stable, expected) in [
            ("", None, "v1", ""),
            ("Waiting", None, "v1", ""),
            ("Idle", None, "v1", ""),
            ("Progressing", None, "v1", "abort promote"),
            ("Progressing", Some(1), "v1", "skip abort promote"),
            ("Paused", Some(1), "v1", "skip abort promote"),
            ("RolledBack", None, "v1", "promote retry"),
            ("Promoted", None, "v1", "abort"),
            ("Promoted", None, "v2", ""),
        ] {
            let status = status(phase, step, stable);
            assert_eq!(taken(&status), expected, "{phase} {step:?} {stable}");
        }
        let refused = Command::Retry.refusal(&status("Progressing", Some(1), "v1"));
        assert_eq!(refused.unwrap(), "retry: v2 is on trial");
    }

    #[test]
    fn there_is_one_command_at_a_time() {
        let with = |command: &str| {
            let status = json!({"phase": "Progressing", "step": 1});
            json!({"metadata": {"annotations": {COMMAND: command}}, "status": status})
        };
        let without = json!({"metadata": {}, "status": with("")["status"]});
        assert_eq!(check(Some(&without), &with("skip")), Ok(()));
        assert_eq!(check(Some(&with("skip")), &with("skip")), Ok(()));
        assert_eq!(check(Some(&with("skip")), &without), Ok(()));
        let error = check(Some(&with("skip")), &with("abort")).unwrap_err();
        assert!(error.contains("'skip', is not done yet"), "{error}");
        let error = check(Some(&without), &with("go")).unwrap_err();
        assert!(error.contains("none of skip, abort"), "{error}");
        // Nothing is on trial of a rollout that is new.
        assert!(check(None, &with("skip")).is_err());
        let path = "/metadata/annotations/serving.coracle.dev~1rollout";
        for (patch, is_refused) in [
            (
                json!({"metadata": {"annotations": {COMMAND: "skip"}}}),
                true,
            ),
            (json!([{"op": "add", "path": path, "value": "skip"}]), true),
            // With all that it is among, too.
            (
                json!([{"op": "replace", "path": "/metadata/annotations", "value": {COMMAND: "skip"}}]),
                true,
            ),
            (
                json!([{"op": "add", "path": "/metadata", "value": {"annotations": {COMMAND: "skip"}}}]),
                true,
            ),
            (
                json!([{"op": "replace", "path": "", "value": with("skip")}]),
                true,
            ),
            (
                json!([{"op": "copy", "from": "/metadata", "path": "/metadata"}]),
                true,
            ),
            (
                json!([{"op": "replace", "path": "/metadata/annotations", "value": {"team": "a"}}]),
                false,
            ),
            (
                json!([{"op": "add", "path": "/metadata/annotations/serving", "value": "skip"}]),
                false,
            ),
            (
                json!([{"op": "test", "path": "/metadata/annotations", "value": {COMMAND: "skip"}}]),
                false,
            ),
            (json!({"metadata": {"annotations": {COMMAND: null}}}), false),
            (json!([{"op": "remove", "path": path}]), false),
            (json!({"spec": {"paused": true}}), false),
        ] {
            let result = check_patch(&with("skip"), &patch);
            assert_eq!(result.is_err(), is_refused, "{patch}");
            assert_eq!(check_patch(&without, &patch), Ok(()));
        }
    }
}
