//! Disks that fail: every operation of the disk fails once, at every place of a run, and nothing acknowledged is lost.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_api::kind::CONFIG_MAP;
use redb::{Database, StorageBackend};
use serde_json::json;

use super::journal::Opener;
use super::*;

/// A disk in memory, of which a part may fail.
#[derive(Debug, Default)]
struct Disk {
    /// What a process sees.
    now: Mutex<Vec<u8>>,
    /// What is there after the power was cut.
    synced: Mutex<Vec<u8>>,
    n_operations: AtomicUsize,
    /// The operations that fail: from this one, this many.
    failing: Mutex<(usize, usize)>,
}

impl Disk {
    fn with(content: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            now: Mutex::new(content.clone()),
            synced: Mutex::new(content),
            ..Self::default()
        })
    }

    /// Counts an operation that changes something, and fails it if it is to fail.
    fn change(&self) -> io::Result<()> {
        let index = self.n_operations.fetch_add(1, Ordering::Relaxed);
        let (from, count) = *self.failing.lock().unwrap();
        if (from..from + count).contains(&index) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn store(self: &Arc<Self>) -> Result<Store, StoreError> {
        let disk = Arc::clone(self);
        let open = move || Database::builder().create_with_backend(Handle(Arc::clone(&disk)));
        Journal::open_by(Path::new("disk"), Opener(Box::new(open))).map(Store::of)
    }
}

#[derive(Debug)]
struct Handle(Arc<Disk>);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.now.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let now = self.0.now.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&now[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.change()?;
        let mut now = self.0.now.lock().unwrap();
        now.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.change()?;
        let now = self.0.now.lock().unwrap().clone();
        *self.0.synced.lock().unwrap() = now;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.change()?;
        let mut now = self.0.now.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        now[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn key(name: &str) -> Key {
    Key::new(&CONFIG_MAP, "default", name)
}

/// What is known to be stored: a text by name; and what may or may not be, since its write failed.
#[derive(Debug, Default)]
struct Expected {
    acknowledged: BTreeMap<String, String>,
    unknown: BTreeMap<String, Vec<Option<String>>>,
}

impl Expected {
    /// Writes, replaces and removes objects; takes down what was acknowledged.
    fn run(&mut self, store: &Store, n_rounds: usize) -> usize {
        let mut n_failed = 0;
        for round in 0..n_rounds {
            for name in ["a", "b", "c"] {
                let name = format!("{name}{}", round % 3);
                let text = format!("{round} {}", "x".repeat(500));
                let object = json!({"data": {"x": text}});
                let there = store.get(&key(&name));
                let (result, wanted) = match there {
                    Some(there) if round % 5 == 4 => {
                        (store.delete(&key(&name), there.version), None)
                    }
                    Some(there) => (store.update(&key(&name), there.version, object), Some(text)),
                    None => (store.create(key(&name), object), Some(text)),
                };
                match result {
                    Ok(_) => {
                        // A write that succeeds puts everything right.
                        self.unknown.clear();
                        match wanted {
                            Some(text) => drop(self.acknowledged.insert(name, text)),
                            None => drop(self.acknowledged.remove(&name)),
                        }
                    }
                    Err(StoreError::Disk { reason }) => {
                        assert!(!reason.is_empty());
                        n_failed += 1;
                        self.unknown.entry(name).or_default().push(wanted);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        n_failed
    }

    fn check(&self, store: &Store, place: &str) {
        let (objects, _) = store.list(&CONFIG_MAP, None);
        let stored: BTreeMap<String, String> = objects
            .iter()
            .map(|stored| {
                let text = stored.object["data"]["x"].as_str().unwrap();
                (stored.key.name().to_owned(), text.to_owned())
            })
            .collect();
        let names = stored.keys().chain(self.acknowledged.keys());
        for name in names {
            let (is, should) = (stored.get(name), self.acknowledged.get(name));
            let may = self.unknown.get(name).into_iter().flatten();
            let is_good = is == should || may.into_iter().any(|text| text.as_ref() == is);
            assert!(
                is_good,
                "{place}: {name} is {is:?}, was acknowledged as {should:?}"
            );
        }
    }
}

/// Every operation of the disk fails, with those after it, at every place of a run; afterwards the disk works again.
#[test]
fn a_disk_that_fails_anywhere_loses_nothing_that_was_acknowledged() {
    let counting = Disk::with(Vec::new());
    Expected::default().run(&counting.store().unwrap(), 4);
    let n_operations = counting.n_operations.load(Ordering::Relaxed);
    assert!(n_operations > 50, "{n_operations}");
    let mut n_failed = 0;
    for from in 0..n_operations {
        for count in [1, 4] {
            let disk = Disk::with(Vec::new());
            *disk.failing.lock().unwrap() = (from, count);
            // Making the file may fail too: then there is nothing to lose.
            let Ok(store) = disk.store() else {
                continue;
            };
            let mut expected = Expected::default();
            n_failed += expected.run(&store, 4);
            let place = format!("failing from {from}, {count} operations");
            expected.check(&store, &format!("{place}, in memory"));
            // The process is killed, or the power is cut, before or after it is over.
            for content in [&disk.now, &disk.synced] {
                let after = Disk::with(content.lock().unwrap().clone());
                let opened = after
                    .store()
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                expected.check(&opened, &format!("{place}, opened again"));
            }
            *disk.failing.lock().unwrap() = (0, 0);
            expected.run(&store, 3);
            assert!(expected.unknown.is_empty());
            let after = Disk::with(disk.synced.lock().unwrap().clone());
            expected.check(&after.store().unwrap(), &format!("{place}, written on"));
        }
    }
    assert!(n_failed > 100, "{n_failed}");
}
