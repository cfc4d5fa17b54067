//! The file: one table of objects, one of numbers.

use std::collections::BTreeMap;
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
    /// None after a failed write, until the file is opened again.
    database: Option<Database>,
}

type Objects = BTreeMap<Key, Arc<Stored>>;

impl Journal {
    /// Opens the file and reads everything: the version of the last write, and the objects.
    pub(super) fn open(path: &Path) -> Result<(Self, u64, Objects), StoreError> {
        let failed = |reason: String| file_error(path, reason);
        let database = open_database(path)?;
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
            database: Some(database),
        };
        Ok((journal, version, objects))
    }

    /// Writes objects (or their absence) and the version; when this returns, they are on disk, all of them.
    pub(super) fn write(
        &mut self,
        version: u64,
        entries: &[(&Key, Option<&Value>)],
    ) -> Result<(), StoreError> {
        // After a failure the database takes no more writes; a new one repairs the file.
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        match write(&database, version, entries) {
            Ok(()) => {
                self.database = Some(database);
                Ok(())
            }
            Err(error) => Err(file_error(&self.path, error.to_string())),
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

fn open_database(path: &Path) -> Result<Database, StoreError> {
    Database::create(path).map_err(|error| match error {
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
