//! Probes: asks a replica how it fares, and counts the answers as the kubelet does.

mod ask;
mod grpc;

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use coracle_serving::{Probe, ProbeAction, ProcessSpec};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

use crate::expand::Command;
use crate::guarded::GuardCommand;
use crate::proc_table;

/// What probes have found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It has not started yet, and why not.
    Waiting(String),
    /// It can take requests.
    Ready,
    /// It cannot, and why.
    Unready(String),
    /// It must be started again, and why.
    Failed(String),
}

/// The running program.
pub(crate) struct Target<'a> {
    pub(crate) command: &'a Command,
    pub(crate) models: Option<&'a Path>,
    pub(crate) guard: &'a GuardCommand,
    pub(crate) marker: &'a Path,
    pub(crate) pid: u32,
    /// How long a second of a probe is: a second, but in tests.
    pub(crate) second: Duration,
    pub(crate) started: Instant,
}

/// How often a replica is asked whether it is ready before it has been: failures mean nothing then, so that asking more
/// often than the manifest says makes it only sooner known.
const FIRST_READY_EVERY: Duration = Duration::from_millis(100);

/// The counts of one probe's answers.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    n_good: u32,
    n_bad: u32,
}

impl Tally {
    /// Takes an answer in; returns whether the count of its kind has come to its threshold.
    fn count(&mut self, is_good: bool, probe: &Probe) -> bool {
        let (count, other, threshold) = match is_good {
            true => (&mut self.n_good, &mut self.n_bad, probe.success_threshold),
            false => (&mut self.n_bad, &mut self.n_good, probe.failure_threshold),
        };
        *other = 0;
        *count = count.saturating_add(1);
        *count >= threshold.max(1)
    }
}

/// Without a readiness probe, it is ready when it listens.
fn listens(spec: &ProcessSpec) -> Probe {
    Probe {
        action: ProbeAction::TcpSocket {
            port: spec.main_port(),
        },
        initial_delay_seconds: 0,
        period_seconds: 5,
        timeout_seconds: 1,
        success_threshold: 1,
        failure_threshold: 3,
    }
}

/// Probes a program and tells what was found, until the future is dropped.
pub(crate) async fn watch(target: &Target<'_>, spec: &ProcessSpec, findings: &Sender<Finding>) {
    if let Some(probe) = &spec.startup
        && !has_started(target, probe, findings).await
    {
        // It is about to be ended.
        return pending().await;
    }
    let readiness = spec.readiness.clone().unwrap_or_else(|| listens(spec));
    tokio::join!(
        watch_readiness(target, &readiness, findings),
        watch_liveness(target, spec.liveness.as_ref(), findings)
    );
}

async fn tell(findings: &Sender<Finding>, finding: Finding) {
    // The supervisor hears until it drops this future.
    let _heard = findings.send(finding).await;
}

impl Target<'_> {
    fn seconds(&self, seconds: u32) -> Duration {
        self.second.saturating_mul(seconds)
    }

    async fn delay(&self, probe: &Probe) {
        let delay = self.seconds(probe.initial_delay_seconds);
        sleep(delay.saturating_sub(self.started.elapsed())).await;
    }

    async fn ask(&self, probe: &Probe) -> Result<(), String> {
        let timeout = self.seconds(probe.timeout_seconds.max(1));
        ask::ask(self, &probe.action, timeout).await
    }

    /// Adds to why nothing listens where the program listens instead.
    async fn explain(&self, why: String) -> String {
        if !why.contains(ask::REFUSED) {
            return why;
        }
        let pid = self.pid;
        let ports = tokio::task::spawn_blocking(move || proc_table::listening_ports(pid)).await;
        let ports: Vec<String> = ports
            .unwrap_or_default()
            .iter()
            .map(u16::to_string)
            .collect();
        match ports.is_empty() {
            true => why,
            false => format!(
                "{why}; it listens on {}: give it the port as $(PORT) in its args, or in the variable PORT",
                ports.join(", ")
            ),
        }
    }
}

async fn has_started(target: &Target<'_>, probe: &Probe, findings: &Sender<Finding>) -> bool {
    target.delay(probe).await;
    let mut tally = Tally::default();
    loop {
        let answer = target.ask(probe).await;
        let is_reached = tally.count(answer.is_ok(), probe);
        match answer {
            Ok(()) if is_reached => return true,
            Ok(()) => {}
            Err(why) => {
                let why = target.explain(format!("startup probe: {why}")).await;
                if is_reached {
                    tell(findings, Finding::Failed(why)).await;
                    return false;
                }
                tell(findings, Finding::Waiting(why)).await;
            }
        }
        sleep(target.seconds(probe.period_seconds.max(1))).await;
    }
}

async fn watch_liveness(target: &Target<'_>, probe: Option<&Probe>, findings: &Sender<Finding>) {
    let Some(probe) = probe else {
        return pending().await;
    };
    target.delay(probe).await;
    let mut tally = Tally::default();
    loop {
        let answer = target.ask(probe).await;
        let is_reached = tally.count(answer.is_ok(), probe);
        if let Err(why) = answer
            && is_reached
        {
            tell(findings, Finding::Failed(format!("liveness probe: {why}"))).await;
            return pending().await;
        }
        sleep(target.seconds(probe.period_seconds.max(1))).await;
    }
}

async fn watch_readiness(target: &Target<'_>, probe: &Probe, findings: &Sender<Finding>) {
    target.delay(probe).await;
    let mut tally = Tally::default();
    let mut is_ready = false;
    let mut was_ready = false;
    let period = target.seconds(probe.period_seconds.max(1));
    let mut told = None;
    loop {
        let answer = target.ask(probe).await;
        let is_reached = tally.count(answer.is_ok(), probe);
        match answer {
            Ok(()) if is_reached && !is_ready => {
                (is_ready, was_ready) = (true, true);
                tell(findings, Finding::Ready).await;
            }
            Err(why) if is_reached && is_ready => {
                is_ready = false;
                let why = format!("readiness probe: {why}");
                tell(findings, Finding::Unready(why)).await;
            }
            Err(why) if !was_ready => {
                let why = target.explain(format!("readiness probe: {why}")).await;
                if told.as_ref() != Some(&why) {
                    tell(findings, Finding::Waiting(why.clone())).await;
                    told = Some(why);
                }
            }
            _ => {}
        }
        let pause = match was_ready {
            true => period,
            false => FIRST_READY_EVERY.min(period),
        };
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let probe = Probe {
            success_threshold: 2,
            failure_threshold: 3,
            ..listens(&ProcessSpec::default())
        };
        let mut tally = Tally::default();
        let answers = [
            (true, false),
            (true, true),
            (true, true),
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (true, false),
            (true, true),
        ];
        for (index, (answer, expected)) in answers.into_iter().enumerate() {
            assert_eq!(tally.count(answer, &probe), expected, "{index}");
        }
    }
}
