//! What happens to revisions, line by line, in files: `DIRECTORY/NAMESPACE/REVISION/CONTAINER.log`.
//!
//! Each line starts with its time, so that readers can choose by it. A full file is set aside as `.log.1`, in the place of
//! the one before. Lines go through a bounded queue to one writing thread; those that find it full are lost. The
//! control side reads the files (`control::logs`).

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use coracle_base::Clock;

use crate::plan::RevisionId;

/// The part of a revision's work that a line is about, under the name of the container that does it in KServe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogSource {
    /// Fetching the files: `storage-initializer`.
    Fetch,
    /// Loading the model and answering with it: `kserve-container`.
    Serve,
}

impl LogSource {
    /// Every source, in the order of their work.
    pub const ALL: [Self; 2] = [Self::Fetch, Self::Serve];

    /// Returns the container's name.
    #[must_use]
    pub fn container(self) -> &'static str {
        match self {
            Self::Fetch => "storage-initializer",
            Self::Serve => "kserve-container",
        }
    }
}

/// The file of one revision's lines.
#[must_use]
pub fn log_path(directory: &Path, revision: &RevisionId, source: LogSource) -> PathBuf {
    let file = format!("{}.log", source.container());
    revision_directory(directory, revision).join(file)
}

/// The file of what the process of one replica writes; `is_previous` for the one that ran before.
#[must_use]
pub fn replica_log_path(
    directory: &Path,
    revision: &RevisionId,
    replica: u32,
    is_previous: bool,
) -> PathBuf {
    let container = LogSource::Serve.container();
    let previous = if is_previous { ".previous" } else { "" };
    let file = format!("{container}-{replica}{previous}.log");
    revision_directory(directory, revision).join(file)
}

/// The file that was full and set aside, of the file at `path`.
#[must_use]
pub fn set_aside_path(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

fn revision_directory(directory: &Path, revision: &RevisionId) -> PathBuf {
    directory.join(&revision.namespace).join(&revision.name)
}

/// Lines that may wait for the writing thread.
const QUEUE_LINES: usize = 8_192;
/// The size from which on a file is set aside.
const FILE_BYTES_MAX: u64 = 8 << 20;

enum Entry {
    Line(RevisionId, LogSource, String),
    ReplicaLine(RevisionId, u32, String),
    /// The process of a replica is another one.
    Restarted(RevisionId, u32),
    Forget(RevisionId),
}

/// Where lines about revisions go. Clones write to the same files.
#[derive(Clone, Debug)]
pub struct RevisionLog {
    queue: Option<SyncSender<Entry>>,
    clock: Arc<dyn Clock>,
}

impl RevisionLog {
    /// Starts the writing thread for files under `directory`.
    #[must_use]
    pub fn start(directory: PathBuf, clock: Arc<dyn Clock>) -> Self {
        let (queue, entries) = sync_channel(QUEUE_LINES);
        std::thread::spawn(move || write_entries(&directory, &entries));
        Self {
            queue: Some(queue),
            clock,
        }
    }

    /// Returns a log that keeps nothing.
    #[must_use]
    pub fn none(clock: Arc<dyn Clock>) -> Self {
        Self { queue: None, clock }
    }

    /// Adds a line, or several, about a revision.
    pub fn write(&self, revision: &RevisionId, source: LogSource, text: &str) {
        let Some(queue) = &self.queue else { return };
        let lines = self.with_time(text);
        // What a full queue cannot take is lost: nothing waits for a log.
        let _taken = queue.try_send(Entry::Line(revision.clone(), source, lines));
    }

    /// Adds a line that the process of one replica wrote.
    pub fn write_replica(&self, revision: &RevisionId, replica: u32, line: &str) {
        let Some(queue) = &self.queue else { return };
        let line = self.with_time(if line.is_empty() { " " } else { line });
        let _taken = queue.try_send(Entry::ReplicaLine(revision.clone(), replica, line));
    }

    /// Sets aside what the process of a replica wrote: what follows is another one's.
    pub fn restarted(&self, revision: &RevisionId, replica: u32) {
        if let Some(queue) = &self.queue {
            let _taken = queue.try_send(Entry::Restarted(revision.clone(), replica));
        }
    }

    fn with_time(&self, text: &str) -> String {
        let now = SystemTime::UNIX_EPOCH + self.clock.unix_time();
        let time = humantime::format_rfc3339_nanos(now);
        let mut lines = String::with_capacity(text.len() + 40);
        for line in text.lines() {
            lines.push_str(&format!("{time} {line}\n"));
        }
        lines
    }

    /// Removes the lines of a revision that is gone.
    pub fn forget(&self, revision: &RevisionId) {
        if let Some(queue) = &self.queue {
            let _taken = queue.try_send(Entry::Forget(revision.clone()));
        }
    }
}

/// Writes what comes until every log is gone; a disk that takes nothing loses the lines.
fn write_entries(directory: &Path, entries: &Receiver<Entry>) {
    while let Ok(first) = entries.recv() {
        // What has come meanwhile is written together, a file at a time.
        let mut batch: BTreeMap<PathBuf, String> = BTreeMap::new();
        for entry in std::iter::once(first).chain(entries.try_iter().take(QUEUE_LINES)) {
            match entry {
                Entry::Line(revision, source, lines) => {
                    let path = log_path(directory, &revision, source);
                    batch.entry(path).or_default().push_str(&lines);
                }
                Entry::ReplicaLine(revision, replica, line) => {
                    let path = replica_log_path(directory, &revision, replica, false);
                    batch.entry(path).or_default().push_str(&line);
                }
                Entry::Restarted(revision, replica) => {
                    let path = replica_log_path(directory, &revision, replica, false);
                    if let Some(lines) = batch.remove(&path) {
                        let _written = append(&path, &lines);
                    }
                    let previous = replica_log_path(directory, &revision, replica, true);
                    let _moved = fs::rename(&path, previous);
                    let _gone = fs::remove_file(set_aside_path(&path));
                }
                Entry::Forget(revision) => {
                    let own = revision_directory(directory, &revision);
                    batch.retain(|path, _| !path.starts_with(&own));
                    let _gone = fs::remove_dir_all(&own);
                }
            }
        }
        for (path, lines) in batch {
            let _written = append(&path, &lines);
        }
    }
}

fn append(path: &Path, lines: &str) -> std::io::Result<()> {
    let open = || OpenOptions::new().create(true).append(true).open(path);
    let mut file = match open() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            open()?
        }
        result => result?,
    };
    if file.metadata()?.len() >= FILE_BYTES_MAX {
        fs::rename(path, set_aside_path(path))?;
        file = open()?;
    }
    file.write_all(lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use coracle_base::ManualClock;

    use super::*;

    fn id(name: &str) -> RevisionId {
        RevisionId {
            namespace: "n".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn lines_are_kept_by_revision_and_container_until_the_revision_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, entries) = sync_channel(16);
        let log = RevisionLog {
            queue: Some(queue),
            clock: Arc::new(ManualClock::new()),
        };
        log.write(&id("a"), LogSource::Fetch, "fetching");
        log.write(&id("a"), LogSource::Serve, "one\ntwo");
        log.write(&id("b"), LogSource::Serve, "other");
        log.forget(&id("b"));
        drop(log);
        write_entries(directory.path(), &entries);
        let read = |revision: &str, source| {
            fs::read_to_string(log_path(directory.path(), &id(revision), source))
        };
        let time = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(
            read("a", LogSource::Fetch).unwrap(),
            format!("{time} fetching\n")
        );
        assert_eq!(
            read("a", LogSource::Serve).unwrap(),
            format!("{time} one\n{time} two\n")
        );
        assert!(read("b", LogSource::Serve).is_err());
    }

    #[test]
    fn each_replica_has_its_lines_and_those_of_the_process_before() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, entries) = sync_channel(16);
        let log = RevisionLog {
            queue: Some(queue),
            clock: Arc::new(ManualClock::new()),
        };
        log.write_replica(&id("a"), 0, "first");
        log.write_replica(&id("a"), 1, "other");
        log.restarted(&id("a"), 0);
        log.write_replica(&id("a"), 0, "");
        log.write_replica(&id("a"), 0, "second");
        drop(log);
        write_entries(directory.path(), &entries);
        let read = |replica, is_previous| {
            let path = replica_log_path(directory.path(), &id("a"), replica, is_previous);
            fs::read_to_string(path).unwrap_or_default()
        };
        let time = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(read(0, true), format!("{time} first\n"));
        assert_eq!(read(0, false), format!("{time}  \n{time} second\n"));
        assert_eq!(read(1, false), format!("{time} other\n"));
        assert_eq!(read(1, true), "");
    }

    #[test]
    fn a_full_file_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = log_path(directory.path(), &id("a"), LogSource::Serve);
        let full = "x".repeat(usize::try_from(FILE_BYTES_MAX).unwrap());
        append(&path, &full).unwrap();
        append(&path, "next\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "next\n");
        assert_eq!(fs::read_to_string(set_aside_path(&path)).unwrap(), full);
    }
}
