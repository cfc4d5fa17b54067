//! What routers have learnt, in files that outlive the server: one for each router that learns.
//!
//! Expected flow: [`Memory::start`], then routers are made with it; each reward has one thread write what its router knows by then. Guarantees: a file is whole or
//! is not there; what was learnt before the last write is known again when a router of the same name, parameters and branches is made; a router that has a
//! successor, or whose flow is gone, writes nothing any more. A killed server may lose the rewards of its last moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use coracle_policy::bandit::Bandit;

use super::router::Known;
use crate::Teller;
use crate::plan::ServiceId;

/// Longer files are none of ours.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The most bytes of a file's name without what follows it.
const NAME_BYTES_MAX: usize = 200;

/// Keeps what routers have learnt. Clones are of the same.
#[derive(Clone, Debug)]
pub struct Memory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    queue: Mutex<Sender<Message>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    files: Arc<Files>,
    teller: Teller,
}

/// Whose the files are. Whoever changes one of them holds the lock.
#[derive(Debug, Default)]
struct Files(Mutex<Owners>);

#[derive(Debug, Default)]
struct Owners {
    /// By file: the number of the router that takes requests, or did last.
    newest: BTreeMap<PathBuf, u64>,
    n_made: u64,
    /// Those of which it was told that they cannot be read: routers are made again and again.
    told: BTreeSet<PathBuf>,
}

impl Files {
    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes to the writing thread; a router waits there once at most.
#[derive(Debug)]
enum Message {
    Changed(Arc<Known>),
    Stop,
}

/// Where a router is kept.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    /// What the router is, as a line.
    identity: String,
    queue: Sender<Message>,
    files: Arc<Files>,
    teller: Teller,
    /// The number that tells it from others of the same file.
    number: u64,
    /// Whether it waits to be written.
    waits: AtomicBool,
}

impl Memory {
    /// Starts the writing thread for files in `directory`; `teller` is told of those that cannot be read.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(directory: PathBuf, teller: Teller) -> io::Result<Self> {
        let (queue, messages) = channel();
        let thread = std::thread::Builder::new().name("coracle-routers".to_owned());
        let of_thread = directory.clone();
        let thread = thread.spawn(move || run(&of_thread, &messages))?;
        Ok(Self {
            inner: Arc::new(Inner {
                directory,
                queue: Mutex::new(queue),
                thread: Mutex::new(Some(thread)),
                files: Arc::default(),
                teller,
            }),
        })
    }

    /// Writes what waits, and ends.
    pub fn stop(&self) {
        let thread = self.inner.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        let is_told = self.sender().send(Message::Stop).is_ok();
        if let Some(thread) = thread.filter(|_| is_told) {
            drop(thread.join());
        }
    }

    /// Forgets the routers of a flow that is gone. What they have yet to write is written no more.
    pub(crate) fn forget(&self, id: &ServiceId) {
        let Some(prefix) = prefix(id) else { return };
        let is_its = |name: Option<&std::ffi::OsStr>| {
            let name = name.and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&prefix))
        };
        let mut owners = self.inner.files.lock();
        owners.newest.retain(|path, _| !is_its(path.file_name()));
        for entry in fs::read_dir(&self.inner.directory).into_iter().flatten() {
            if let Ok(entry) = entry
                && is_its(Some(&entry.file_name()))
            {
                // One that cannot be removed is recalled by a router just like it, which is no harm.
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    fn sender(&self) -> Sender<Message> {
        let queue = self.inner.queue.lock();
        queue.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns where a router is kept; `None` if its name makes no name of a file.
    pub(super) fn keeper(&self, id: &ServiceId, key: &str, identity: String) -> Option<Keeper> {
        let name = format!("{}{}", prefix(id)?, key.replace('/', "."));
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        let is_name = name.len() <= NAME_BYTES_MAX && name.bytes().all(is_inner);
        if !is_name {
            return None;
        }
        let path = self.inner.directory.join(format!("{name}.router"));
        let mut owners = self.inner.files.lock();
        owners.n_made += 1;
        let number = owners.n_made;
        drop(owners);
        Some(Keeper {
            path,
            identity,
            queue: self.sender(),
            files: Arc::clone(&self.inner.files),
            teller: self.inner.teller.clone(),
            number,
            waits: AtomicBool::new(false),
        })
    }
}

/// Returns what the names of a flow's files begin with.
fn prefix(id: &ServiceId) -> Option<String> {
    let is_plain = |text: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !text.is_empty() && text.bytes().all(is_inner)
    };
    let both = is_plain(&id.namespace) && is_plain(&id.name);
    both.then(|| format!("{}.{}.", id.namespace, id.name))
}

impl Keeper {
    /// Takes what was learnt before; what is another router's is passed over, and so is what cannot be read, which is told once.
    pub(super) fn recall(&self, bandit: &mut Bandit) {
        match self.known_before(bandit.arms.len()) {
            Ok(arms) => {
                for (arm, (won, trials)) in arms.into_iter().enumerate() {
                    bandit.reward_trials(arm, won, trials);
                }
            }
            Err(why) if self.files.lock().told.insert(self.path.clone()) => {
                let path = self.path.display();
                let line = format!("{path}: {why}; the router begins anew");
                self.teller.tell(&line);
            }
            Err(_told) => {}
        }
    }

    /// Returns what each of so many branches had won of how many trials; none if that is not known.
    fn known_before(&self, n_arms: usize) -> Result<Vec<(u64, u64)>, String> {
        let Some(text) = read(&self.path)? else {
            return Ok(Vec::new());
        };
        let mut lines = text.lines();
        if lines.next() != Some(self.identity.as_str()) {
            return Ok(Vec::new());
        }
        let arm = |line: &str| {
            let (won, trials) = line.split_once(' ')?;
            let (won, trials): (u64, u64) = (won.parse().ok()?, trials.parse().ok()?);
            (won <= trials).then_some((won, trials))
        };
        let arms = lines.enumerate().map(|(index, line)| {
            let number = index + 2;
            arm(line).ok_or_else(|| format!("line {number} could not be read"))
        });
        let arms: Vec<(u64, u64)> = arms.collect::<Result<_, _>>()?;
        match arms.len() == n_arms {
            true => Ok(arms),
            false => Err(format!(
                "it has {} branches, the router {n_arms}",
                arms.len()
            )),
        }
    }

    /// Makes the file this router's: what others know is not written there any more.
    pub(super) fn claim(&self) {
        let mut owners = self.files.lock();
        owners.newest.insert(self.path.clone(), self.number);
    }

    /// Has what is known by now written, soon.
    pub(super) fn keep(&self, known: &Arc<Known>) {
        if !self.waits.swap(true, Ordering::AcqRel) {
            // Without a thread the server ends.
            drop(self.queue.send(Message::Changed(Arc::clone(known))));
        }
    }

    fn write(&self, known: &Known) -> io::Result<()> {
        // What comes from here on is written after this.
        self.waits.store(false, Ordering::Release);
        let mut text = self.identity.clone();
        for arm in &known.now().arms {
            let won = (arm.mean * arm.units as f64).round() as u64;
            text.push_str(&format!("\n{won} {}", arm.units));
        }
        text.push('\n');
        // Nobody removes or succeeds it until it is written.
        let owners = self.files.lock();
        if owners.newest.get(&self.path) != Some(&self.number) {
            return Ok(());
        }
        let unfinished = self.path.with_extension("unfinished");
        fs::write(&unfinished, text)?;
        fs::rename(&unfinished, &self.path)
    }
}

/// Returns what is in a file, if it is there.
fn read(path: &Path) -> Result<Option<String>, String> {
    let unread = |error: io::Error| format!("it could not be read: {error}");
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unread)?,
    };
    let mut text = String::new();
    let mut bounded = file.take(FILE_BYTES_MAX);
    bounded.read_to_string(&mut text).map_err(unread)?;
    match text.ends_with('\n') {
        true => Ok(Some(text)),
        // It is written beside, and put into its place as a whole.
        false => Err("its last line does not end".to_owned()),
    }
}

fn run(directory: &Path, messages: &Receiver<Message>) {
    // A disk that takes nothing now may do so later.
    drop(fs::create_dir_all(directory));
    while let Ok(message) = messages.recv() {
        match message {
            Message::Changed(known) => {
                if let Some(keeper) = known.keeper() {
                    drop(keeper.write(&known));
                }
            }
            Message::Stop => return,
        }
    }
}

#[cfg(test)]
mod tests;
