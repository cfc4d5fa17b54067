//! The processes of one revision, as the follower sees them.

use std::path::PathBuf;
use std::sync::Arc;

use coracle_base::Code;

use crate::backends::Backends;
use crate::plan::{LoadFailure, RevisionState};
use crate::process::{ProcessPhase, ProcessState};

/// The lines of a program that a failure quotes.
const LINES_QUOTED: usize = 3;

/// The processes of one revision.
#[derive(Debug, Default)]
pub(super) struct Crew {
    pub(super) backends: Arc<Backends>,
    /// Where the files are, once they are there; `Some(None)` if there are none.
    pub(super) files: Option<Option<PathBuf>>,
    /// How many processes were ordered last.
    pub(super) n_ordered: u32,
    /// What is known of each.
    pub(super) states: Vec<ProcessState>,
}

impl Crew {
    /// Returns the state of the revision that follows from those of its processes.
    pub(super) fn state(&self, attempt: u32) -> RevisionState {
        let n_ready = self.states.iter().filter_map(ProcessState::address).count();
        if n_ready > 0 || self.n_ordered == 0 {
            return RevisionState::Ready {
                memory_bytes: 0,
                replicas: u32::try_from(n_ready).unwrap_or(u32::MAX),
            };
        }
        let ended = |state: &&ProcessState| matches!(state.phase, ProcessPhase::BackOff { .. });
        if let Some(state) = self.states.iter().find(ended) {
            return RevisionState::Failed {
                attempt,
                failure: failure(state),
            };
        }
        let overdue = self.states.iter().find_map(|state| match &state.phase {
            ProcessPhase::Overdue { why } => Some(why),
            _ => None,
        });
        if let Some(why) = overdue {
            let failure = LoadFailure {
                code: Code::DeadlineExceeded,
                message: format!("the process is {why}"),
                is_transient: false,
            };
            return RevisionState::Failed { attempt, failure };
        }
        let progress = self.states.first().map(|state| match &state.phase {
            ProcessPhase::Starting { why } | ProcessPhase::Unready { why } => {
                // What comes again and again says more than what is being waited for.
                match &state.last_exit {
                    Some(exit) => format!("{why}; it ended before: {}", exit.message),
                    None => why.clone(),
                }
            }
            _ => "starting the process".to_owned(),
        });
        RevisionState::Loading {
            progress: progress.unwrap_or_else(|| "starting the process".to_owned()),
        }
    }
}

fn failure(state: &ProcessState) -> LoadFailure {
    let exit = state.last_exit.as_ref();
    let mut message = format!(
        "the process ended {} times, and is started again after a while: {}",
        state.n_restarts.saturating_add(1),
        exit.map_or("", |exit| &exit.message)
    );
    let n_left_out = state.last_lines.len().saturating_sub(LINES_QUOTED);
    let lines = state.last_lines.iter().skip(n_left_out);
    let lines: Vec<&str> = lines.map(|line| line.trim()).collect();
    if !lines.is_empty() {
        message.push_str(&format!("; its last lines: {}", lines.join(" | ")));
    }
    LoadFailure {
        code: Code::Unavailable,
        message,
        // Whoever runs it tries again by itself.
        is_transient: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessExit;

    fn process(phase: ProcessPhase) -> ProcessState {
        ProcessState {
            phase,
            ..ProcessState::default()
        }
    }

    #[test]
    fn one_that_takes_requests_is_enough() {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let ready = process(ProcessPhase::Ready {
            endpoints: address.into(),
        });
        let down = process(ProcessPhase::BackOff { again_at: 1 });
        let mut crew = Crew {
            n_ordered: 2,
            states: vec![down, ready],
            ..Crew::default()
        };
        let state = |replicas| RevisionState::Ready {
            memory_bytes: 0,
            replicas,
        };
        assert_eq!(crew.state(0), state(1));
        crew.states.pop();
        let RevisionState::Failed { failure, .. } = crew.state(0) else {
            panic!()
        };
        assert!(!failure.is_transient);
        let why = "not ready within 600 s: x".to_owned();
        crew.states = vec![process(ProcessPhase::Overdue { why })];
        let RevisionState::Failed { failure, .. } = crew.state(0) else {
            panic!()
        };
        assert_eq!(failure.code, Code::DeadlineExceeded);
        assert_eq!(failure.message, "the process is not ready within 600 s: x");
        (crew.n_ordered, crew.states) = (0, vec![]);
        assert_eq!(crew.state(0), state(0));
    }

    #[test]
    fn a_failure_quotes_the_last_lines() {
        let exit = ProcessExit {
            reason: "Error".to_owned(),
            code: 1,
            signal: None,
            message: "exit code 1".to_owned(),
            started_at: 0,
            finished_at: 0,
        };
        let state = ProcessState {
            last_exit: Some(exit),
            last_lines: ["Traceback:", "  in f", "  in g", " ValueError: x"]
                .map(str::to_owned)
                .into(),
            n_restarts: 2,
            ..process(ProcessPhase::BackOff { again_at: 1 })
        };
        assert_eq!(
            failure(&state).message,
            "the process ended 3 times, and is started again after a while: exit code 1; its last lines: in f | in g | ValueError: x"
        );
    }
}
