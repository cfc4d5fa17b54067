//! Trial loads: a model is loaded in a child process first, which may take so much memory and time and no more.
//!
//! What a model's files make of memory is known once they are loaded, and some engines ask for it in ways that end the process.
//! The child is this program again ([`MODE`]); it bounds itself, loads the model as the server would, runs it once, and says how
//! that went. Whatever becomes of it, the server gets an error with the reason, or loads the model.

mod child;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use coracle_base::ByteCount;
use coracle_formats::{LoadOptions, bytes_to_read};
use coracle_model::{LoadError, LoadErrorKind, Method};
use coracle_process::guard::this_program;

use crate::Environment;
use crate::model_repository::Fingerprint;
use crate::trial_args::TrialArguments;

pub(crate) use child::run;

/// The first argument of the child.
pub(crate) const MODE: &str = "trial-load";

/// What a trial load may take unless something else is said, beside a multiple of the files: addresses count, not pages, and an
/// engine's library and threads reserve some hundred megabytes of them.
const MEMORY_BYTES: u64 = 1 << 30;
/// How many times the files' bytes are added to that: what is read, what is made of it, and what a run takes.
const MEMORY_PER_FILE_BYTE: u64 = 8;
/// The most of the child's words that are read.
const WORDS_BYTES_MAX: u64 = 64 << 10;
/// How long the last words of a child that has ended are waited for.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// How often a model is tried whose files change meanwhile.
const TRIALS_MAX: usize = 3;
/// The most models of which it is kept that they passed.
const PASSED_MAX: usize = 1_000;

/// Tries models.
#[derive(Debug)]
pub(crate) struct Trial {
    program: PathBuf,
    memory: Option<ByteCount>,
    time: Duration,
    onnxruntime: Option<PathBuf>,
    /// All that the child sees of the environment.
    variables: Vec<(&'static str, OsString)>,
    /// What passed, and is not tried again while the files are the same and are loaded in the same way.
    passed: Mutex<BTreeMap<PathBuf, (Fingerprint, child::Wanted)>>,
}

impl Trial {
    /// Returns how models are tried; `None` if they are not.
    pub(crate) fn of(
        arguments: &TrialArguments,
        onnxruntime: Option<&Path>,
        environment: &Environment,
    ) -> Option<Self> {
        let engines = &environment.engines;
        let path = |path: &Option<PathBuf>| path.clone().map(PathBuf::into_os_string);
        let variables = [
            ("HOME", path(&environment.home)),
            ("ORT_DYLIB_PATH", path(&engines.onnxruntime)),
            ("XDG_DATA_HOME", path(&engines.data_home)),
            ("LD_LIBRARY_PATH", engines.library_path.clone()),
        ];
        let variables = variables.into_iter();
        arguments.trial_load.then(|| Self {
            program: this_program(),
            memory: arguments.trial_load_memory,
            time: arguments.trial_load_time,
            onnxruntime: onnxruntime.map(Path::to_path_buf),
            variables: variables
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            passed: Mutex::default(),
        })
    }

    /// Loads the model at `path` by `load` once it has been loaded in a child process, unless it passed before and has not changed; returns whether it was
    /// tried, too. Where files change meanwhile, both are done again: what is loaded is what was tried.
    ///
    /// # Errors
    /// Those of `load`; what the model was refused for in the child, or what became of that: kind `LimitExceeded` where it was ended or ran out of
    /// memory or time, `Refused` where it died of something else; `Unreadable` if the files change each time, `LimitExceeded` if there are too many of them to tell.
    pub(crate) fn load<T>(
        &self,
        path: &Path,
        options: &LoadOptions,
        mut load: impl FnMut() -> Result<T, LoadError>,
    ) -> Result<(T, bool), LoadError> {
        let mut is_tried = false;
        for _ in 0..TRIALS_MAX {
            let (was_tried, passed) = self.pass(path, options)?;
            is_tried |= was_tried;
            let is_same = || Fingerprint::of_all(path).as_ref() == Some(&passed);
            if !is_same() {
                continue;
            }
            let loaded = load();
            if is_same() {
                return Ok((loaded?, is_tried));
            }
        }
        let message = format!(
            "{}: its files change while they are tried and loaded, {TRIALS_MAX} times in a row",
            path.display()
        );
        Err(LoadError::new(LoadErrorKind::Unreadable, message))
    }

    /// Loads the model in a child process, unless it passed before and has not changed; returns whether it was tried, and the files that passed.
    fn pass(&self, path: &Path, options: &LoadOptions) -> Result<(bool, Fingerprint), LoadError> {
        let memory = self.memory.unwrap_or_else(|| {
            let files = bytes_to_read(path).saturating_mul(MEMORY_PER_FILE_BYTE);
            ByteCount::new(files.saturating_add(MEMORY_BYTES))
        });
        let wanted = self.wanted(path, options, memory);
        // Of more files than are looked at nobody knows whether they change.
        let print = Fingerprint::of_all(path).ok_or_else(|| {
            let message = format!(
                "{}: more files than are looked at beside it",
                path.display()
            );
            LoadError::new(LoadErrorKind::LimitExceeded, message)
        })?;
        let now = (print.clone(), wanted.clone());
        let known = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(path) == Some(&now) {
            return Ok((false, print));
        }
        drop(known);
        self.try_out(&wanted, memory)
            .map_err(|error| error.at(format!("{}: trial load", path.display())))?;
        if Fingerprint::of_all(path).as_ref() == Some(&print) {
            let mut known = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
            // Better tried once more than kept without bound.
            if known.len() >= PASSED_MAX {
                known.clear();
            }
            known.insert(path.to_path_buf(), now);
        }
        Ok((true, print))
    }

    fn wanted(&self, path: &Path, options: &LoadOptions, memory: ByteCount) -> child::Wanted {
        child::Wanted {
            memory_bytes: memory.as_u64(),
            time: self.time,
            texts: match &options.text_engine {
                None => child::Texts::None,
                Some(engine) if engine.takes_pairs() => child::Texts::Pairs,
                Some(_) => child::Texts::One,
            },
            onnxruntime: self.onnxruntime.clone(),
            settings: options.engine_settings.clone(),
            object: options.object.clone(),
            method: options
                .default_method
                .map(Method::as_str)
                .map(str::to_owned),
            server: std::process::id(),
            path: path.to_path_buf(),
        }
    }

    fn try_out(&self, wanted: &child::Wanted, memory: ByteCount) -> Result<(), LoadError> {
        let child = Command::new(&self.program)
            .arg(MODE)
            .args(wanted.arguments())
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.map_err(|error| {
            let message = "cannot start the child process";
            LoadError::new(LoadErrorKind::Unreadable, message).with_source(error)
        })?;
        let ended = await_end(child, self.time).map_err(|error| {
            let message = "cannot wait for the child process";
            LoadError::new(LoadErrorKind::Unreadable, message).with_source(error)
        })?;
        verdict(&wanted.path, ended, self.time, memory)
    }
}

/// What became of a child.
struct Ended {
    /// `None` where its time was over.
    status: Option<ExitStatus>,
    said: String,
    complained: String,
}

/// Waits for the child to end, and ends it when its time is over, or where it cannot be listened to.
fn await_end(mut child: Child, time: Duration) -> std::io::Result<Ended> {
    let said = child.stdout.take().map(read_aside).transpose();
    let complained = child.stderr.take().map(read_aside).transpose();
    let heard = said.and_then(|said| Ok((said, complained?)));
    // What it would say something to is closed when it ends.
    let first = match &heard {
        Ok((Some(said), _)) => Some(said.recv_timeout(time)),
        _ => None,
    };
    let is_over = matches!(first, Some(Err(mpsc::RecvTimeoutError::Timeout)));
    if !matches!(first, Some(Ok(_))) {
        child.kill()?;
    }
    let status = child.wait()?;
    let (_, complained) = heard?;
    // Whoever else holds the pipe is not waited for.
    let complained = complained.and_then(|words| words.recv_timeout(LAST_WORDS_MAX).ok());
    Ok(Ended {
        status: (!is_over).then_some(status),
        said: first.and_then(Result::ok).unwrap_or_default(),
        complained: complained.unwrap_or_default(),
    })
}

/// Reads what a process says until it ends, and keeps the beginning.
fn read_aside(mut pipe: impl Read + Send + 'static) -> std::io::Result<mpsc::Receiver<String>> {
    let (tell, told) = mpsc::channel();
    let listen = move || {
        let mut bytes = Vec::new();
        let read = pipe.by_ref().take(WORDS_BYTES_MAX).read_to_end(&mut bytes);
        if read.is_ok() && std::io::copy(&mut pipe, &mut std::io::sink()).is_ok() {
            // Nobody may listen any more.
            drop(tell.send(String::from_utf8_lossy(&bytes).into_owned()));
        }
    };
    std::thread::Builder::new().spawn(listen)?;
    Ok(told)
}

/// Says what a child's end means.
fn verdict(path: &Path, ended: Ended, time: Duration, memory: ByteCount) -> Result<(), LoadError> {
    let limit = |message: String| Err(LoadError::new(LoadErrorKind::LimitExceeded, message));
    let bound = format!("it may take {}", memory.to_rounded());
    let Some(status) = ended.status else {
        let time = humantime::format_duration(time);
        return limit(format!(
            "not over within {time}; the child process was ended"
        ));
    };
    if let Some(error) = child::failure(&ended.said) {
        let text = error.to_string();
        let text = text.strip_prefix(&format!("{}: ", path.display()));
        let text = text.map_or_else(|| error.to_string(), str::to_owned);
        let message = format!("{text} ({bound} in a child process)");
        return Err(LoadError::new(error.kind(), message));
    }
    if child::is_success(&ended.said) && status.success() {
        return Ok(());
    }
    let last = last_words(&ended.complained);
    match status.signal() {
        Some(signal) => {
            let name = signal_name(signal);
            let message =
                format!("the child process was ended by signal {signal}{name}{last}; {bound}");
            let is_limit = matches!(signal, SIGABRT | SIGKILL | SIGXCPU);
            let kind = match is_limit {
                true => LoadErrorKind::LimitExceeded,
                false => LoadErrorKind::Refused,
            };
            Err(LoadError::new(kind, message))
        }
        None => Err(LoadError::new(
            LoadErrorKind::Refused,
            format!("the child process gave no answer ({status}){last}; {bound}"),
        )),
    }
}

/// Returns what a process complained of last, for a message.
fn last_words(complained: &str) -> String {
    let lines = complained.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("note: "));
    let lines: Vec<&str> = lines.collect();
    let last = lines.get(lines.len().saturating_sub(2)..).unwrap_or(&lines);
    match last {
        [] => String::new(),
        last => {
            let text: String = last.join(" ").chars().take(400).collect();
            format!(": {text}")
        }
    }
}

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (illegal instruction)",
        SIGABRT => " (aborted, as programs do for want of memory)",
        7 => " (bus error)",
        8 => " (arithmetic error)",
        SIGKILL => " (killed, as the system does for want of memory)",
        11 => " (segmentation fault)",
        SIGXCPU => " (processor time is over)",
        _ => "",
    }
}
