//! The serving side of the hinge: starts the control process, passes plans and observations, starts it again should it
//! end.

use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use coracle_base::Clock;
use coracle_control::hinge::{FromControl, ObservedChange, ToControl, read_message, write_message};
use coracle_gateway::Log;
use coracle_serving::experiment::{ExperimentSummary, Experiments};
use coracle_serving::{LoadSampler, Observed, ObservedCell, Plan, PlanSender};

use crate::args::ProgramArguments;
use crate::process_meter::ProcessMeter;
use crate::state::StateDirectory;
use crate::usage::UsageSampler;

/// How long after its end a control process is started again; doubles while it does not last.
const RESTART_AFTER: Duration = Duration::from_millis(100);
/// How often it is measured what revisions do, as Knative's autoscaler looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether revisions fail, while requests are split between some: a rollout takes a canary back that does.
const LOOK_AT_FAILURES_EVERY: Duration = Duration::from_millis(50);
/// At every so many of these looks it is measured what they use, too.
const LOOKS_PER_USAGE: u32 = 10;
/// How many looks at how experiments stand there are to one that counts.
const LOOKS_PER_STANDING: u32 = 2;
/// The longest such wait.
const RESTART_AFTER_MAX: Duration = Duration::from_secs(5);

/// How control processes are started.
#[derive(Clone, Debug)]
pub(crate) struct ControlCommand {
    pub(crate) state: StateDirectory,
    pub(crate) listen: IpAddr,
    pub(crate) api_port: u16,
    pub(crate) needs_credentials: bool,
    pub(crate) base_url: String,
    /// Manifests to apply at the first start.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) programs: ProgramArguments,
}

/// Keeps a control process running.
pub(crate) struct Supervisor {
    command: ControlCommand,
    plans: PlanSender,
    observed: Arc<ObservedCell>,
    /// Woken at every change of what is observed.
    changed: Arc<Changed>,
    /// Locked by the one thread that sends.
    samplers: Arc<Mutex<Samplers>>,
    stopping: Arc<AtomicBool>,
    /// Whether a control process came up; one that did not at the first start is not replaced.
    has_started: bool,
    log: Log,
}

/// Passes on that something changed, to whichever control process runs.
#[derive(Debug, Default)]
pub(crate) struct Changed(Mutex<Listener>);

#[derive(Debug, Default)]
struct Listener {
    sender: Option<Sender<()>>,
    /// Nobody is to listen any more.
    is_closed: bool,
}

impl Changed {
    fn listener(&self) -> MutexGuard<'_, Listener> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self) {
        if let Some(sender) = &self.listener().sender {
            // A control process that is gone is told anew when it is back.
            let _told = sender.send(());
        }
    }

    fn listen(&self) -> Receiver<()> {
        let (sender, receiver) = channel();
        // The first observation is sent whether or not something changes.
        let _told = sender.send(());
        let mut listener = self.listener();
        listener.sender = (!listener.is_closed).then_some(sender);
        receiver
    }

    /// Ends the sending of observations to the control process of now.
    fn end(&self) {
        self.listener().sender = None;
    }

    /// Ends it for good.
    fn close(&self) {
        let mut listener = self.listener();
        listener.sender = None;
        listener.is_closed = true;
    }
}

/// Ends the supervision, in two steps.
pub(crate) struct Stopper {
    stopping: Arc<AtomicBool>,
    changed: Arc<Changed>,
}

impl Stopper {
    /// Says that the end is near: a control process that ends now is not replaced.
    pub(crate) fn announce(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Ends the control process, which notices that its input is closed.
    pub(crate) fn stop(&self) {
        self.announce();
        self.changed.close();
    }
}

impl Supervisor {
    pub(crate) fn new(
        command: ControlCommand,
        plans: PlanSender,
        observed: Arc<ObservedCell>,
        changed: Arc<Changed>,
        samplers: Samplers,
        log: Log,
    ) -> Self {
        Self {
            command,
            plans,
            observed,
            changed,
            samplers: Arc::new(Mutex::new(samplers)),
            stopping: Arc::default(),
            has_started: false,
            log,
        }
    }

    /// Returns what ends the supervision.
    pub(crate) fn stopper(&self) -> Stopper {
        Stopper {
            stopping: Arc::clone(&self.stopping),
            changed: Arc::clone(&self.changed),
        }
    }

    /// Starts the control process and, on a thread of its own, keeps one running; returns where its API listens, once it has planned what is to be served.
    ///
    /// # Errors
    /// If the first one cannot start.
    pub(crate) fn start(mut self) -> anyhow::Result<SocketAddr> {
        let mut control = Control::spawn(&self.command)?;
        let (first_words, first) = channel();
        std::thread::Builder::new()
            .name("coracle-supervise".to_owned())
            .spawn(move || {
                let mut first_words = Some(first_words);
                let mut wait = RESTART_AFTER;
                loop {
                    let lasted = self.attend(control, first_words.take());
                    if self.stopping.load(Ordering::Acquire) || !self.has_started {
                        return;
                    }
                    wait = if lasted { RESTART_AFTER } else { wait.saturating_mul(2).min(RESTART_AFTER_MAX) };
                    self.log.warn("the control process ended; what serves goes on serving, and another one is started");
                    self.command.files.clear();
                    control = loop {
                        std::thread::park_timeout(wait);
                        match Control::spawn(&self.command) {
                            Ok(control) => break control,
                            Err(error) => self.log.warn(&format!("{error:#}; trying again")),
                        }
                    };
                }
            })?;
        first
            .recv()
            .context("the control process ended at once")?
            .map_err(anyhow::Error::msg)
    }

    /// Passes messages until the control process ends; returns whether it had come up.
    fn attend(
        &mut self,
        control: Control,
        mut first_words: Option<Sender<Result<SocketAddr, String>>>,
    ) -> bool {
        let Control {
            mut child,
            input,
            output,
        } = control;
        let changes = self.changed.listen();
        let observed = Arc::clone(&self.observed);
        let sender = std::thread::Builder::new().name("coracle-observed".to_owned());
        let samplers = Arc::clone(&self.samplers);
        let sender = sender.spawn(move || {
            let mut samplers = samplers.lock().unwrap_or_else(PoisonError::into_inner);
            samplers.usage.forget();
            samplers.experiments.forget();
            samplers.load.begin_anew();
            send_observed(input, &changes, &observed, &mut samplers);
        });
        let mut output = BufReader::new(output);
        let mut plan = Plan::default();
        let mut address = None;
        let mut has_plan = false;
        while let Ok(Some(message)) = read_message(&mut output) {
            match message {
                FromControl::Listening { address: bound } => {
                    address = Some(bound);
                    // The same one again, should it be started again.
                    self.command.api_port = bound.port();
                }
                FromControl::Plan(change) => {
                    change.apply(&mut plan);
                    // The first one comes with the first round of the controller, even if it is empty.
                    has_plan = true;
                    self.plans.send(plan.clone());
                }
                FromControl::Log {
                    is_warning: true,
                    message,
                } => self.log.warn(&message),
                FromControl::Log {
                    is_warning: false,
                    message,
                } => self.log.info(&message),
                FromControl::Failed { message } => match first_words.take() {
                    Some(first_words) => drop(first_words.send(Err(message))),
                    None => self.log.warn(&message),
                },
            }
            if let Some(address) = address
                && let Some(first_words) = first_words.take_if(|_| has_plan)
            {
                self.has_started = true;
                drop(first_words.send(Ok(address)));
            }
        }
        self.changed.end();
        drop(child.wait());
        if let Ok(sender) = sender {
            drop(sender.join());
        }
        address.is_some()
    }
}

/// Tells how experiments stand, if they stand otherwise than before.
pub(crate) struct ExperimentSampler {
    experiments: Experiments,
    told: Vec<ExperimentSummary>,
}

impl ExperimentSampler {
    pub(crate) fn new(experiments: Experiments) -> Self {
        Self {
            experiments,
            told: Vec::new(),
        }
    }

    /// Makes the next look tell everything: whoever is told now knows nothing yet.
    fn forget(&mut self) {
        self.told.clear();
    }

    /// Tells whether a rollout decides by what users meet.
    fn is_urgent(&self) -> bool {
        let mut stages = self.told.iter().filter_map(|told| told.stage.as_ref());
        stages.any(|stage| stage.units.is_some())
    }

    fn sample(&mut self) -> Option<Vec<ExperimentSummary>> {
        let now = self.experiments.summaries();
        let is_new = now != self.told;
        self.told.clone_from(&now);
        is_new.then_some(now)
    }
}

/// What is measured from time to time.
pub(crate) struct Samplers {
    /// What revisions use, for people.
    pub(crate) usage: UsageSampler,
    /// What processes use, noted in what revisions do.
    pub(crate) processes: ProcessMeter,
    /// What revisions do, for the autoscaler.
    pub(crate) load: LoadSampler,
    /// How experiments stand.
    pub(crate) experiments: ExperimentSampler,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Samplers {
    /// Returns what there is to tell; `n_looks` counts the looks before.
    fn sample(&mut self, n_looks: u32) -> Vec<ToControl> {
        self.processes.look();
        let load = self.load.sample().map(ToControl::Load);
        let usage = n_looks
            .is_multiple_of(LOOKS_PER_USAGE)
            .then(|| self.usage.sample());
        let usage = usage.flatten().map(ToControl::Usage);
        // A rollout that is judged by users cannot wait.
        let is_due = n_looks.is_multiple_of(LOOKS_PER_STANDING) || self.experiments.is_urgent();
        let experiments = is_due.then(|| self.experiments.sample());
        let experiments = experiments.flatten().map(ToControl::Experiments);
        load.into_iter().chain(usage).chain(experiments).collect()
    }
}

/// When it is looked at what: by the clock alone, however often something else happens.
#[derive(Clone, Copy, Debug)]
struct Looks {
    next_all: Duration,
    next_failures: Duration,
}

/// What it is time to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Whether a revision has failed.
    Failures,
    /// What all revisions do and use.
    All,
}

impl Looks {
    fn from(now: Duration) -> Self {
        Self {
            next_all: now + LOOK_EVERY,
            next_failures: now + LOOK_AT_FAILURES_EVERY,
        }
    }

    /// Returns when the next look is; failures are looked at where requests are split.
    fn next(self, is_split: bool) -> Duration {
        match is_split {
            true => self.next_all.min(self.next_failures),
            false => self.next_all,
        }
    }

    /// Returns what it is time for now, and puts off the next time.
    fn due(&mut self, now: Duration, is_split: bool) -> Option<Look> {
        if now >= self.next_all {
            *self = Self::from(now);
            return Some(Look::All);
        }
        if !is_split || now < self.next_failures {
            return None;
        }
        self.next_failures = now + LOOK_AT_FAILURES_EVERY;
        Some(Look::Failures)
    }
}

/// Sends what is observed, at first as a whole, then as it changes, and what revisions do and use.
fn send_observed(
    mut input: ChildStdin,
    changes: &Receiver<()>,
    observed: &ObservedCell,
    samplers: &mut Samplers,
) {
    let mut sent = Observed::default();
    let mut is_first = true;
    let mut looks = Looks::from(samplers.clock.monotonic());
    let mut n_looks = 0_u32;
    loop {
        let is_split = samplers.load.is_split();
        let wait = looks.next(is_split);
        let wait = wait.saturating_sub(samplers.clock.monotonic());
        let mut messages = Vec::new();
        match changes.recv_timeout(wait) {
            Ok(()) => {
                // Several changes at once are one message.
                while changes.try_recv().is_ok() {}
                let now = observed.get();
                if now != sent || is_first {
                    messages.push(ToControl::Observed(ObservedChange::between(&sent, &now)));
                    sent = now;
                    is_first = false;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        match looks.due(samplers.clock.monotonic(), is_split) {
            Some(Look::All) => {
                n_looks = n_looks.wrapping_add(1);
                messages.extend(samplers.sample(n_looks));
            }
            Some(Look::Failures) => {
                let failures = samplers.load.sample_failures();
                messages.extend(failures.map(ToControl::Failures));
            }
            None => {}
        }
        for message in messages {
            if write_message(&mut input, &message).is_err() {
                return;
            }
        }
    }
}

/// A control process.
struct Control {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Control {
    fn spawn(command: &ControlCommand) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut process = Command::new(program);
        process
            .arg("control")
            .arg("--objects")
            .arg(command.state.objects())
            .arg("--logs")
            .arg(command.state.logs())
            .arg("--access")
            .arg(command.state.access())
            .arg("--listen")
            .arg(command.listen.to_string())
            .arg("--api-port")
            .arg(command.api_port.to_string())
            .arg("--base-url")
            .arg(&command.base_url);
        if command.needs_credentials {
            process.arg("--require-credentials");
        }
        if command.programs.run_programs {
            process.arg("--run-programs");
        }
        for image in &command.programs.images {
            process.arg("--image").arg(image);
        }
        for file in &command.files {
            process.arg("--filename").arg(file);
        }
        detach_from_terminal(&mut process);
        let mut child = process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the control process")?;
        let input = child
            .stdin
            .take()
            .context("the control process has no input")?;
        let output = child
            .stdout
            .take()
            .context("the control process has no output")?;
        Ok(Self {
            child,
            input,
            output,
        })
    }
}

/// Ctrl-C is for the serving process, which ends the other once its requests are finished.
#[cfg(unix)]
fn detach_from_terminal(process: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    process.process_group(0);
}

#[cfg(not(unix))]
fn detach_from_terminal(_process: &mut Command) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_by_the_clock_however_often_something_else_happens() {
        let ms = Duration::from_millis;
        let mut looks = Looks::from(Duration::ZERO);
        // Something changes every millisecond for two seconds, while requests are split.
        let found: Vec<(u64, Look)> = (1..=2_000)
            .filter_map(|at| Some((at, looks.due(ms(at), true)?)))
            .collect();
        let all = found.iter().filter(|(_, look)| *look == Look::All);
        assert_eq!(all.map(|(at, _)| *at).collect::<Vec<_>>(), [1_000, 2_000]);
        let failures = found.iter().filter(|(_, look)| *look == Look::Failures);
        assert_eq!(failures.count(), 2 * 19);
        // Without a split there is nothing but the look at all.
        let mut looks = Looks::from(Duration::ZERO);
        assert_eq!((looks.next(true), looks.next(false)), (ms(50), ms(1_000)));
        assert_eq!(looks.due(ms(999), false), None);
        assert_eq!(looks.due(ms(1_000), false), Some(Look::All));
    }
}
