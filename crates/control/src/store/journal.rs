//! The file: one table of objects, one of numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use super::{Key, StoreError, Stored};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const VERSION: &str = "version";
/// Separates the parts of a key; no name holds it.
const SEPARATOR: char = '\0';

/// The file that objects are kept in.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    open: Opener,
    /// None after a failed write, until the file is opened again.
    database: Option<Database>,
    /// What failed writes were about: nobody knows which state of it is on the disk.
    doubtful: BTreeSet<Key>,
}

/// Opens the database; a test's may have a disk of its own.
pub(super) struct Opener(pub(super) Box<dyn Fn() -> Opened + Send>);

type Opened = Result<Database, redb::DatabaseError>;

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

type Objects = BTreeMap<Key, Arc<Stored>>;

impl Journal {
    /// Opens the file and reads everything: the version of the last write, and the objects.
    pub(super) fn open(path: &Path) -> Result<(Self, u64, Objects), StoreError> {
        let file = path.to_owned();
        Self::open_by(path, Opener(Box::new(move || Database::create(&file))))
    }

    pub(super) fn open_by(path: &Path, open: Opener) -> Result<(Self, u64, Objects), StoreError> {
        let failed = |reason: String| file_error(path, reason);
        let database = open_database(path, &open)?;
        let read = || -> Result<(u64, Vec<(String, Vec<u8>)>), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(OBJECTS)?;
            transaction.open_table(NUMBERS)?;
            transaction.commit()?;
            let transaction = database.begin_read()?;
            let numbers = transaction.open_table(NUMBERS)?;
            let version = numbers.get(VERSION)?.map_or(0, |number| number.value());
            let mut rows = Vec::new();
            for row in transaction.open_table(OBJECTS)?.iter()? {
                let (key, value) = row?;
                rows.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok((version, rows))
        };
        let (version, rows) = read().map_err(|error| failed(error.to_string()))?;
        let mut objects = Objects::new();
        for (key, value) in rows {
            let object: Value = serde_json::from_slice(&value)
                .map_err(|error| failed(format!("the object at {key:?} is damaged: {error}")))?;
            let mut parts = key.split(SEPARATOR).map(str::to_owned);
            let (Some(resource), Some(namespace), Some(name)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(failed(format!("the key {key:?} is damaged")));
            };
            let key = Key {
                resource,
                namespace,
                name,
            };
            let stored = Stored {
                key: key.clone(),
                version: stored_version(&object),
                object,
            };
            objects.insert(key, Arc::new(stored));
        }
        let journal = Self {
            path: path.to_owned(),
            open,
            database: Some(database),
            doubtful: BTreeSet::new(),
        };
        Ok((journal, version, objects))
    }

    /// Returns what must be written again with the next write: what failed writes were about.
    pub(super) fn doubtful(&self) -> Vec<Key> {
        self.doubtful.iter().cloned().collect()
    }

    /// Writes objects (or their absence) and the version; when this returns, they are on disk, all of them.
    pub(super) fn write(
        &mut self,
        version: u64,
        entries: &[(&Key, Option<&Value>)],
    ) -> Result<(), StoreError> {
        // After a failure the database takes no more writes; a new one repairs the file.
        let written = match self.database.take() {
            Some(database) => Ok(database),
            None => open_database(&self.path, &self.open),
        };
        let written = written.and_then(|database| {
            let outcome = write(&database, version, entries);
            outcome.map_err(|error| file_error(&self.path, error.to_string()))?;
            Ok(database)
        });
        match written {
            Ok(database) => {
                self.database = Some(database);
                self.doubtful.clear();
                Ok(())
            }
            Err(error) => {
                let keys = entries.iter().map(|(key, _)| (*key).clone());
                self.doubtful.extend(keys);
                Err(error)
            }
        }
    }
}

fn write(
    database: &Database,
    version: u64,
    entries: &[(&Key, Option<&Value>)],
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for (key, object) in entries {
            let text = format!(
                "{}{SEPARATOR}{}{SEPARATOR}{}",
                key.resource, key.namespace, key.name
            );
            match object {
                Some(object) => drop(objects.insert(text.as_str(), object.to_string().as_bytes())?),
                None => drop(objects.remove(text.as_str())?),
            }
        }
        transaction.open_table(NUMBERS)?.insert(VERSION, version)?;
    }
    transaction.commit()?;
    Ok(())
}

fn open_database(path: &Path, open: &Opener) -> Result<Database, StoreError> {
    open.0().map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse {
            path: path.display().to_string(),
        },
        error => file_error(path, error.to_string()),
    })
}

fn file_error(path: &Path, reason: String) -> StoreError {
    StoreError::File {
        path: path.display().to_string(),
        reason,
    }
}

fn stored_version(object: &Value) -> u64 {
    crate::object::meta_str(object, "resourceVersion")
        .parse()
        .unwrap_or(0)
}
