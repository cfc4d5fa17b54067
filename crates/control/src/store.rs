//! The objects: in memory for reading, in one file so that what was acknowledged is there again.
//!
//! Every write has a number of its own, the resource version, counted over all kinds. A write is on disk before anyone
//! sees it. Recent changes are kept, so that watches can go on from where they were.

mod journal;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use coracle_api::{KINDS, Kind};
use serde_json::Value;
use thiserror::Error;
use tokio::sync::watch;

use crate::object;
use journal::Journal;

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    resource: String,
    namespace: String,
    name: String,
}

impl Key {
    /// Returns the key of the object of this kind, namespace (empty for cluster-wide ones) and name.
    #[must_use]
    pub fn new(kind: &Kind, namespace: &str, name: &str) -> Self {
        Self {
            resource: kind.resource(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Returns whether it is of this kind.
    #[must_use]
    pub fn is_of(&self, kind: &Kind) -> bool {
        self.resource == kind.resource()
    }

    /// Returns the kind, if it is known to this program.
    #[must_use]
    pub fn kind(&self) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| self.is_of(kind))
    }

    /// Returns the namespace; empty for cluster-wide objects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// An object as it was at some time.
#[derive(Debug)]
pub struct Stored {
    /// Where it is.
    pub key: Key,
    /// The resource version.
    pub version: u64,
    /// The object; its metadata holds the resource version too.
    pub object: Value,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is another.
    Modified,
    /// It is gone.
    Deleted,
}

/// A change of an object.
#[derive(Clone, Debug)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The object; as it was last if it is gone, with the version of the deletion.
    pub stored: Arc<Stored>,
    /// The object before.
    pub previous: Option<Arc<Stored>>,
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub enum Write {
    /// Add an object.
    Create {
        /// Where.
        key: Key,
        /// The object.
        object: Value,
    },
    /// Replace an object.
    Update {
        /// Where.
        key: Key,
        /// The version that was read.
        expected: u64,
        /// The object.
        object: Value,
    },
    /// Remove an object.
    Delete {
        /// Where.
        key: Key,
        /// The version that was read.
        expected: u64,
    },
}

/// A write or read that failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is such an object already.
    #[error("the object exists")]
    AlreadyExists,
    /// There is no such object.
    #[error("there is no such object")]
    NotFound,
    /// The object is not the one that was read.
    #[error("the object has changed")]
    Conflict,
    /// Another process uses the file.
    #[error(
        "another coracle process uses {path}; stop it with `coracle down`, or choose another --state"
    )]
    InUse {
        /// The file.
        path: String,
    },
    /// A write did not reach the disk; nothing has changed.
    #[error("{reason}")]
    Disk {
        /// What went wrong, and where.
        reason: String,
    },
    /// The file could not be read or written.
    #[error("cannot store objects in {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What went wrong.
        reason: String,
    },
}

/// Changes that are no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

/// The most changes that are kept for watches.
const HISTORY_MAX: usize = 5_000;

/// The objects of all kinds.
#[derive(Debug)]
pub struct Store {
    /// Held while writing, so that writes come one after another.
    journal: Mutex<Journal>,
    state: RwLock<State>,
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Arc<Stored>>,
    history: VecDeque<Change>,
    /// The version after which every change is in the history.
    known_since: u64,
}

impl Store {
    /// Opens the store in the file at `path`, which is made if there is none.
    ///
    /// # Errors
    /// [`StoreError::File`] if it cannot be read, or is in use by another process.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Journal::open(path).map(Self::of)
    }

    fn of((journal, version, objects): (Journal, u64, BTreeMap<Key, Arc<Stored>>)) -> Self {
        Self {
            journal: Mutex::new(journal),
            state: RwLock::new(State {
                version,
                objects,
                history: VecDeque::new(),
                known_since: version,
            }),
            version: watch::Sender::new(version),
        }
    }

    // A panic while a lock is held leaves the state whole: it is changed in single steps after the file is.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the version of the last write.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// Returns the object at `key`.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.read().objects.get(key).cloned()
    }

    /// Returns the objects of a kind, of one namespace or of all (`None`), by namespace and name, and the store's version.
    #[must_use]
    pub fn list(&self, kind: &Kind, namespace: Option<&str>) -> (Vec<Arc<Stored>>, u64) {
        let state = self.read();
        let start = Key::new(kind, namespace.unwrap_or_default(), "");
        let objects = state
            .objects
            .range(start.clone()..)
            .map(|(_, stored)| stored);
        let objects = objects.take_while(|stored| {
            stored.key.resource == start.resource
                && namespace.is_none_or(|namespace| stored.key.namespace == namespace)
        });
        (objects.cloned().collect(), state.version)
    }

    /// Returns the objects of a kind in a namespace whose names begin with `prefix`, by name.
    #[must_use]
    pub fn list_named(&self, kind: &Kind, namespace: &str, prefix: &str) -> Vec<Arc<Stored>> {
        let state = self.read();
        let start = Key::new(kind, namespace, prefix);
        let objects = state
            .objects
            .range(start.clone()..)
            .map(|(_, stored)| stored);
        let objects = objects.take_while(|stored| {
            stored.key.resource == start.resource
                && stored.key.namespace == namespace
                && stored.key.name.starts_with(prefix)
        });
        objects.cloned().collect()
    }

    /// Returns every object of a namespace, of all kinds.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Stored>> {
        let state = self.read();
        let objects = state.objects.values();
        let objects = objects.filter(|stored| stored.key.namespace == namespace);
        objects.cloned().collect()
    }

    /// Returns every object that names `uid` as its owner.
    #[must_use]
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Stored>> {
        let owns = |stored: &&Arc<Stored>| {
            let owners = object::at(&stored.object, &["metadata", "ownerReferences"]);
            let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
            owners.any(|owner| owner.get("uid").and_then(Value::as_str) == Some(uid))
        };
        self.read().objects.values().filter(owns).cloned().collect()
    }

    /// Returns the changes after `version`, oldest first.
    ///
    /// # Errors
    /// [`Expired`] if not all of them are known any more.
    pub fn changes_after(&self, version: u64) -> Result<Vec<Change>, Expired> {
        let state = self.read();
        if version < state.known_since {
            return Err(Expired);
        }
        let start = state
            .history
            .partition_point(|change| change.stored.version <= version);
        Ok(state.history.range(start..).cloned().collect())
    }

    /// Returns a receiver that always holds the version of the last write.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Adds an object.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], or [`StoreError::Disk`], after which nothing has changed.
    pub fn create(&self, key: Key, object: Value) -> Result<Arc<Stored>, StoreError> {
        self.write(Write::Create { key, object })
    }

    /// Replaces the object that was read with version `expected`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], or [`StoreError::Disk`], after which nothing has changed.
    pub fn update(
        &self,
        key: &Key,
        expected: u64,
        object: Value,
    ) -> Result<Arc<Stored>, StoreError> {
        let key = key.clone();
        self.write(Write::Update {
            key,
            expected,
            object,
        })
    }

    /// Removes the object that was read with version `expected`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], or [`StoreError::Disk`], after which nothing has changed.
    pub fn delete(&self, key: &Key, expected: u64) -> Result<Arc<Stored>, StoreError> {
        let key = key.clone();
        self.write(Write::Delete { key, expected })
    }

    /// Removes an object, however often others write it meanwhile.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::Disk`], after which nothing has changed.
    pub fn delete_whatever(&self, key: &Key) -> Result<Arc<Stored>, StoreError> {
        loop {
            let stored = self.get(key).ok_or(StoreError::NotFound)?;
            match self.delete(key, stored.version) {
                Err(StoreError::Conflict) => {}
                result => return result,
            }
        }
    }

    fn write(&self, write: Write) -> Result<Arc<Stored>, StoreError> {
        let mut results = self.write_all(vec![write]);
        results.pop().unwrap_or(Err(StoreError::NotFound))
    }

    /// Makes several writes, to different objects, with one wait for the disk; returns what became of each.
    ///
    /// Those that fail do not keep the others from being made.
    pub fn write_all(&self, writes: Vec<Write>) -> Vec<Result<Arc<Stored>, StoreError>> {
        let mut journal = self.writer();
        let mut version = self.version();
        let checked = writes
            .into_iter()
            .map(|write| self.check(write, &mut version));
        let checked: Vec<Result<Change, StoreError>> = checked.collect();
        let changes: Vec<&Change> = checked
            .iter()
            .filter_map(|result| result.as_ref().ok())
            .collect();
        let entries = changes.iter().map(|change| {
            let is_there = change.kind != ChangeKind::Deleted;
            (
                &change.stored.key,
                is_there.then_some(&change.stored.object),
            )
        });
        let mut entries: Vec<(&Key, Option<&Value>)> = entries.collect();
        if entries.is_empty() {
            return checked
                .into_iter()
                .map(|result| result.map(|change| change.stored))
                .collect();
        }
        // What a failed write may have left on the disk is put right with the first that succeeds.
        let doubtful = journal.doubtful();
        let others = doubtful
            .iter()
            .filter(|key| changes.iter().all(|change| change.stored.key != **key));
        let others: Vec<(&Key, Option<Arc<Stored>>)> =
            others.map(|key| (key, self.get(key))).collect();
        let again = others
            .iter()
            .map(|(key, stored)| (*key, stored.as_ref().map(|stored| &stored.object)));
        entries.extend(again);
        if let Err(error) = journal.write(version, &entries) {
            let reason = error.to_string();
            return checked
                .into_iter()
                .map(|result| {
                    result.and(Err(StoreError::Disk {
                        reason: reason.clone(),
                    }))
                })
                .collect();
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            state.take(change.clone());
        }
        drop(state);
        self.version.send_replace(version);
        checked
            .into_iter()
            .map(|result| result.map(|change| change.stored))
            .collect()
    }

    /// Checks a write against what is there; the change it makes gets the next version.
    fn check(&self, write: Write, version: &mut u64) -> Result<Change, StoreError> {
        let (kind, key, object, previous) = match write {
            Write::Create { key, object } => {
                if self.get(&key).is_some() {
                    return Err(StoreError::AlreadyExists);
                }
                (ChangeKind::Added, key, object, None)
            }
            Write::Update {
                key,
                expected,
                object,
            } => {
                let previous = self.expect(&key, expected)?;
                (ChangeKind::Modified, key, object, Some(previous))
            }
            Write::Delete { key, expected } => {
                let previous = self.expect(&key, expected)?;
                let object = previous.object.clone();
                (ChangeKind::Deleted, key, object, Some(previous))
            }
        };
        *version += 1;
        let mut object = object;
        object::metadata_mut(&mut object)
            .insert("resourceVersion".to_owned(), version.to_string().into());
        let stored = Arc::new(Stored {
            key,
            version: *version,
            object,
        });
        Ok(Change {
            kind,
            stored,
            previous,
        })
    }

    fn expect(&self, key: &Key, expected: u64) -> Result<Arc<Stored>, StoreError> {
        let stored = self.get(key).ok_or(StoreError::NotFound)?;
        if stored.version == expected {
            Ok(stored)
        } else {
            Err(StoreError::Conflict)
        }
    }
}

impl State {
    fn take(&mut self, change: Change) {
        let stored = &change.stored;
        match change.kind {
            ChangeKind::Deleted => drop(self.objects.remove(&stored.key)),
            ChangeKind::Added | ChangeKind::Modified => {
                drop(self.objects.insert(stored.key.clone(), Arc::clone(stored)));
            }
        }
        self.version = stored.version;
        self.history.push_back(change);
        if self.history.len() > HISTORY_MAX
            && let Some(oldest) = self.history.pop_front()
        {
            self.known_since = oldest.stored.version;
        }
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
