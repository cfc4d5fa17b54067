//! What a pod shows of a process: as the kubelet shows a container.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_serving::{ProcessExit, ProcessPhase, ProcessState, RevisionId};
use serde_json::{Value, json};

use super::Shown;
pub(crate) use crate::annotations::PROCESS as INDEX;
use crate::annotations::{LIMITS, PID};
use crate::object;
use crate::rest::rfc3339;

/// The most characters of its last lines that a pod shows.
const MESSAGE_CHARS_MAX: usize = 2_048;

/// Notes in a pod what is known of its process besides its status.
pub(super) fn annotate(pod: &mut Value, state: &ProcessState, index: u32) {
    let metadata = object::metadata_mut(pod);
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    annotations[INDEX] = index.to_string().into();
    let pid = state
        .pid
        .map_or_else(|| "none".to_owned(), |pid| pid.to_string());
    annotations[PID] = pid.into();
    if !state.limits.is_empty() {
        annotations[LIMITS] = state.limits.clone().into();
    }
}

pub(super) fn shown(state: &ProcessState) -> Shown {
    let running = || json!({"running": {"startedAt": at(state.started_at)}});
    let waiting =
        |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
    let shown = match (&state.phase, state.pid) {
        (ProcessPhase::BackOff { again_at }, _) => {
            let message = format!(
                "back-off until {}, then it is started again; it ended: {}",
                at(*again_at),
                state.last_exit.as_ref().map_or("", |exit| &exit.message)
            );
            waiting("CrashLoopBackOff", &message)
        }
        (ProcessPhase::Starting { why }, None) => waiting("ContainerCreating", why),
        _ => running(),
    };
    Shown {
        is_ready: state.address().is_some(),
        is_running: state.pid.is_some() || state.last_exit.is_some(),
        state: shown,
        last_state: state
            .last_exit
            .as_ref()
            .map_or_else(|| json!({}), |exit| terminated(exit, &state.last_lines)),
        n_restarts: u64::from(state.n_restarts),
        id: state
            .pid
            .map(|pid| format!("process://{pid}"))
            .unwrap_or_default(),
    }
}

/// Replicas of revisions.
type Processes = BTreeMap<RevisionId, Vec<ProcessState>>;

/// Returns which processes have ended between two looks, and how, in words.
pub(crate) fn restarts(before: &Processes, now: &Processes) -> Vec<(RevisionId, String)> {
    let mut restarts = Vec::new();
    for (id, states) in now {
        let old = before.get(id).map_or(&[][..], Vec::as_slice);
        for (index, state) in states.iter().enumerate() {
            let Some(exit) = &state.last_exit else {
                continue;
            };
            if old.get(index).and_then(|old| old.last_exit.as_ref()) == Some(exit) {
                continue;
            }
            let again = match state.phase {
                ProcessPhase::BackOff { again_at } => {
                    format!("it is started again at {}", at(again_at))
                }
                _ => "it is started again".to_owned(),
            };
            let message = format!(
                "Revision {}, process {index}: {}; {again}",
                id.name, exit.message
            );
            restarts.push((id.clone(), message));
        }
    }
    restarts
}

/// Returns a process that ended, with its last lines, as Kubernetes has them of a container without a termination message.
fn terminated(exit: &ProcessExit, last_lines: &[String]) -> Value {
    let mut message = exit.message.clone();
    for line in last_lines {
        message.push('\n');
        message.push_str(line);
    }
    let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    let mut terminated = json!({
        "reason": exit.reason,
        "exitCode": exit.code,
        "message": message,
        "startedAt": at(exit.started_at),
        "finishedAt": at(exit.finished_at)
    });
    if let Some(signal) = exit.signal {
        terminated["signal"] = signal.into();
    }
    json!({"terminated": terminated})
}

fn at(seconds: u64) -> String {
    rfc3339(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_shown_as_a_container_is() {
        let exit = ProcessExit {
            reason: "Error".to_owned(),
            code: 137,
            signal: Some(9),
            message: "ended by signal 9 (SIGKILL)".to_owned(),
            started_at: 1,
            finished_at: 2,
        };
        let mut state = ProcessState {
            pid: Some(42),
            started_at: 3,
            ..ProcessState::default()
        };
        let starting = shown(&state);
        assert!(starting.is_running && !starting.is_ready);
        assert_eq!(starting.id, "process://42");
        assert_eq!(
            starting.state["running"]["startedAt"],
            "1970-01-01T00:00:03Z"
        );
        state.phase = ProcessPhase::Ready {
            endpoints: std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into(),
        };
        assert!(shown(&state).is_ready);
        state = ProcessState {
            phase: ProcessPhase::BackOff { again_at: 12 },
            pid: None,
            n_restarts: 4,
            last_exit: Some(exit),
            last_lines: vec!["Traceback".to_owned()],
            ..state
        };
        let backing_off = shown(&state);
        let waiting = &backing_off.state["waiting"];
        assert_eq!(waiting["reason"], "CrashLoopBackOff");
        assert_eq!(
            waiting["message"],
            "back-off until 1970-01-01T00:00:12Z, then it is started again; it ended: ended by signal 9 (SIGKILL)"
        );
        let last = &backing_off.last_state["terminated"];
        assert_eq!(
            (&last["exitCode"], &last["signal"]),
            (&json!(137), &json!(9))
        );
        assert_eq!(last["message"], "ended by signal 9 (SIGKILL)\nTraceback");
        assert_eq!(backing_off.n_restarts, 4);
        let id = RevisionId {
            namespace: "n".to_owned(),
            name: "r".to_owned(),
        };
        let now: Processes = [(id.clone(), vec![state.clone()])].into();
        let told = restarts(&Processes::new(), &now);
        let message = "Revision r, process 0: ended by signal 9 (SIGKILL); it is started again at 1970-01-01T00:00:12Z";
        assert_eq!(told, [(id, message.to_owned())]);
        assert!(restarts(&now, &now).is_empty());
        let mut pod = json!({"metadata": {"name": "p"}});
        annotate(&mut pod, &state, 1);
        assert_eq!(
            pod["metadata"]["annotations"],
            json!({"serving.coracle.dev/process": "1", "serving.coracle.dev/pid": "none"})
        );
    }
}
