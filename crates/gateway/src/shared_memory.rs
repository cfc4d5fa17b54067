//! The shared memory that clients have registered: files under `/dev/shm`, read and written with bounds.
//!
//! Regions are read and written as files, not mapped: a client that cuts its file short while we read gets an error, where a
//! mapping would end the process. Only plain files directly under `/dev/shm` can be registered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use coracle_base::Code;
use coracle_protocol::facts::RegionEntry;
use coracle_protocol::{RegionSlice, Regions, RequestError};
use rustix::fs::{Mode, OFlags};

/// Where POSIX shared memory lies on Linux.
const DIRECTORY: &str = "/dev/shm";
/// The most regions that may be registered.
const REGIONS_MAX: usize = 1_024;

/// A registered region.
#[derive(Clone, Debug)]
struct Region {
    entry: RegionEntry,
    file: Arc<File>,
}

/// All registered regions.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    is_allowed: bool,
    regions_max: usize,
    regions: RwLock<BTreeMap<String, Region>>,
}

impl SharedMemory {
    /// Returns the shared memory of a server; nothing can be registered unless `is_allowed`.
    pub(crate) fn new(is_allowed: bool) -> Self {
        Self {
            is_allowed,
            regions_max: REGIONS_MAX,
            regions: RwLock::default(),
        }
    }

    /// Registers a region.
    ///
    /// # Errors
    /// Code `FailedPrecondition` if that is not allowed here, `AlreadyExists` if the name is taken, `InvalidArgument` if the key
    /// names no shared memory or is too small, `ResourceExhausted` if there are too many.
    pub(crate) fn register(&self, entry: RegionEntry) -> Result<(), RequestError> {
        if !self.is_allowed {
            let message =
                "shared memory is not allowed here; the server's --allow-shared-memory allows it";
            return Err(RequestError::new(Code::FailedPrecondition, message));
        }
        let key = quoted(&entry.key);
        let file = open(&entry.key).map_err(|reason| {
            let message = format!("cannot use shared memory key {key}: {reason}");
            RequestError::new(Code::InvalidArgument, message)
        })?;
        let held = file.metadata().map_or(0, |metadata| metadata.len());
        let (offset, byte_size) = (entry.offset, entry.byte_size);
        if offset.checked_add(byte_size).is_none_or(|end| end > held) {
            let message = format!(
                "shared memory key {key} has {held} bytes, the region is {byte_size} at offset {offset}"
            );
            return Err(RequestError::new(Code::InvalidArgument, message));
        }
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        if regions.contains_key(&entry.name) {
            let name = quoted(&entry.name);
            let message = format!("shared memory region {name} is registered already");
            return Err(RequestError::new(Code::AlreadyExists, message));
        }
        if regions.len() >= self.regions_max {
            let message = format!(
                "{} shared memory regions are registered, no more can be",
                self.regions_max
            );
            return Err(RequestError::new(Code::ResourceExhausted, message));
        }
        let file = Arc::new(file);
        regions.insert(entry.name.clone(), Region { entry, file });
        Ok(())
    }

    /// Forgets a region, or all of them; one that is not there is no error.
    pub(crate) fn unregister(&self, name: Option<&str>) {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        match name {
            Some(name) => drop(regions.remove(name)),
            None => regions.clear(),
        }
    }

    /// Returns a region, or all of them, by name.
    ///
    /// # Errors
    /// Code `NotFound` if the one asked for is not there.
    pub(crate) fn status(&self, name: Option<&str>) -> Result<Vec<RegionEntry>, RequestError> {
        let regions = self.read_regions();
        match name {
            None => Ok(regions
                .values()
                .map(|region| region.entry.clone())
                .collect()),
            Some(name) => match regions.get(name) {
                Some(region) => Ok(vec![region.entry.clone()]),
                None => Err(not_registered(name, Code::NotFound)),
            },
        }
    }

    fn read_regions(&self) -> RwLockReadGuard<'_, BTreeMap<String, Region>> {
        self.regions.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a region's file and where in it `slice` starts.
    fn locate(&self, slice: &RegionSlice) -> Result<(Arc<File>, u64), RequestError> {
        let regions = self.read_regions();
        let region = regions
            .get(&slice.region)
            .ok_or_else(|| not_registered(&slice.region, Code::InvalidArgument))?;
        let end = slice.offset.checked_add(slice.byte_size);
        match (end, region.entry.offset.checked_add(slice.offset)) {
            (Some(end), Some(start)) if end <= region.entry.byte_size => {
                Ok((Arc::clone(&region.file), start))
            }
            _ => {
                let message = format!(
                    "shared memory region {} has {} bytes, asked for are {} at offset {}",
                    quoted(&slice.region),
                    region.entry.byte_size,
                    slice.byte_size,
                    slice.offset
                );
                Err(RequestError::new(Code::InvalidArgument, message))
            }
        }
    }
}

impl Regions for SharedMemory {
    fn read(&self, slice: &RegionSlice) -> Result<Vec<u8>, RequestError> {
        let (file, start) = self.locate(slice)?;
        let mut bytes = vec![0; usize::try_from(slice.byte_size).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, start)
            .map_err(|error| failed(&slice.region, &error))?;
        Ok(bytes)
    }

    fn write(&self, slice: &RegionSlice, bytes: &[u8]) -> Result<(), RequestError> {
        let (file, start) = self.locate(slice)?;
        if bytes.len() as u64 > slice.byte_size {
            let message = format!(
                "an output of {} bytes does not fit in the {} bytes of shared memory region {} that are for it",
                bytes.len(),
                slice.byte_size,
                quoted(&slice.region)
            );
            return Err(RequestError::new(Code::InvalidArgument, message));
        }
        // A file that was cut short is not to grow again.
        let held = file.metadata().map_or(0, |metadata| metadata.len());
        if start.saturating_add(bytes.len() as u64) > held {
            let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(failed(&slice.region, &cut));
        }
        file.write_all_at(bytes, start)
            .map_err(|error| failed(&slice.region, &error))
    }
}

/// Opens a POSIX shared memory object.
fn open(key: &str) -> Result<File, String> {
    let name = key.strip_prefix('/').unwrap_or(key);
    if name.is_empty()
        || name.len() > 255
        || name.contains(['/', '\0'])
        || [".", ".."].contains(&name)
    {
        return Err(format!("it must name a file directly under {DIRECTORY}"));
    }
    // No link is followed, and no pipe waited for.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = PathBuf::from(DIRECTORY).join(name);
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| error.to_string())?;
    let file = File::from(file);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err("it is no plain file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn not_registered(name: &str, code: Code) -> RequestError {
    let message = format!("no shared memory region {} is registered", quoted(name));
    RequestError::new(code, message)
}

fn failed(name: &str, error: &io::Error) -> RequestError {
    let message = format!("shared memory region {}: {error}", quoted(name));
    RequestError::new(Code::InvalidArgument, message)
}

fn quoted(name: &str) -> String {
    let shown: String = name.chars().take(64).collect();
    format!("\"{}\"", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shared memory object of this test's own; gone with it.
    struct Object(String);

    impl Object {
        fn new(test: &str, bytes: &[u8]) -> Self {
            let name = format!("coracle-test-{}-{test}", std::process::id());
            std::fs::write(PathBuf::from(DIRECTORY).join(&name), bytes).unwrap();
            Self(name)
        }
    }

    impl Drop for Object {
        fn drop(&mut self) {
            drop(std::fs::remove_file(PathBuf::from(DIRECTORY).join(&self.0)));
        }
    }

    fn entry(key: &str, offset: u64, byte_size: u64) -> RegionEntry {
        RegionEntry {
            name: "r".to_owned(),
            key: key.to_owned(),
            offset,
            byte_size,
        }
    }

    fn slice(region: &str, offset: u64, byte_size: u64) -> RegionSlice {
        RegionSlice {
            region: region.to_owned(),
            offset,
            byte_size,
        }
    }

    #[test]
    fn regions_are_read_and_written_within_their_bounds() {
        let object = Object::new("bounds", b"0123456789");
        let memory = SharedMemory::new(true);
        memory
            .register(entry(&format!("/{}", object.0), 2, 6))
            .unwrap();
        assert_eq!(memory.read(&slice("r", 1, 3)).unwrap(), b"345");
        memory.write(&slice("r", 4, 2), b"xy").unwrap();
        assert_eq!(memory.read(&slice("r", 0, 6)).unwrap(), b"2345xy");
        let message = |result: Result<(), RequestError>| result.unwrap_err().to_string();
        let read = |slice| memory.read(&slice).map(drop);
        assert_eq!(
            message(read(slice("r", 4, 3))),
            "shared memory region \"r\" has 6 bytes, asked for are 3 at offset 4"
        );
        assert!(read(slice("r", u64::MAX, 2)).is_err());
        assert_eq!(
            message(read(slice("q", 0, 1))),
            "no shared memory region \"q\" is registered"
        );
        assert_eq!(
            message(memory.write(&slice("r", 4, 2), b"xyz")),
            "an output of 3 bytes does not fit in the 2 bytes of shared memory region \"r\" that are for it"
        );
        // The client cuts its file short: an error, and the file stays short.
        let path = PathBuf::from(DIRECTORY).join(&object.0);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(4)
            .unwrap();
        assert!(read(slice("r", 0, 6)).is_err());
        assert!(memory.write(&slice("r", 4, 2), b"xy").is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4);
    }

    #[test]
    fn no_more_than_a_number_of_regions_are_registered() {
        let object = Object::new("many", b"0123");
        let memory = SharedMemory {
            regions_max: 2,
            ..SharedMemory::new(true)
        };
        let named = |name: &str| RegionEntry {
            name: name.to_owned(),
            ..entry(&object.0, 0, 4)
        };
        memory.register(named("a")).unwrap();
        memory.register(named("b")).unwrap();
        let error = memory.register(named("c")).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(
            error.to_string(),
            "2 shared memory regions are registered, no more can be"
        );
        memory.unregister(Some("a"));
        memory.register(named("c")).unwrap();
    }

    #[test]
    fn only_plain_files_directly_there_are_registered() {
        let object = Object::new("keys", b"0123");
        let link = Object(format!("{}-link", object.0));
        std::os::unix::fs::symlink("/etc/passwd", PathBuf::from(DIRECTORY).join(&link.0)).unwrap();
        let memory = SharedMemory::new(true);
        let keys = [
            "",
            "/",
            ".",
            "..",
            "/../etc/passwd",
            "a/b",
            "nothing-is-here-by-this-name",
            &link.0,
        ];
        for key in keys {
            let error = memory.register(entry(key, 0, 1)).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{key}: {error}");
        }
        let beyond = memory.register(entry(&object.0, 1, 4)).unwrap_err();
        assert!(
            beyond
                .to_string()
                .ends_with("has 4 bytes, the region is 4 at offset 1"),
            "{beyond}"
        );
        assert!(memory.register(entry(&object.0, u64::MAX, 4)).is_err());
        memory.register(entry(&object.0, 0, 4)).unwrap();
        let twice = memory.register(entry(&object.0, 0, 4)).unwrap_err();
        assert_eq!(twice.code(), Code::AlreadyExists);
        assert_eq!(memory.status(None).unwrap().len(), 1);
        assert_eq!(memory.status(Some("r")).unwrap()[0].key, object.0);
        memory.unregister(Some("r"));
        let forbidden = SharedMemory::new(false).register(entry(&object.0, 0, 4));
        assert_eq!(forbidden.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(memory.status(Some("r")).unwrap_err().code(), Code::NotFound);
    }
}
