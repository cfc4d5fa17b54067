//! The library's file: where it is looked for, whether it is fit, and how it is loaded.

use std::fs::{self, File};
use std::io::Read as _;
use std::panic::catch_unwind;
use std::path::{self, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;

use crate::elf::unfit;
use crate::providers::{self, CUDA_LIBRARY};
use crate::watchdog::Watchdog;

/// What the library is called where we put it.
pub const FILE_NAME: &str = if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// What to do where there is no library that can be used.
const HINT: &str = "run: coracle engine install onnxruntime";

/// Where the library is looked for, in this order.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The file that the user named; no other is taken then.
    pub given: Option<PathBuf>,
    /// Directories of which the first that has the file is taken: beside the binary, the data directory, the system's.
    pub directories: Vec<PathBuf>,
    /// Directories with the libraries that execution providers need, before others.
    pub companions: Vec<PathBuf>,
}

/// A library that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Why it is not taken, as far as can be told without loading it.
    pub unfit: Option<String>,
}

impl Places {
    /// Returns the files that are there; the first that is fit is taken.
    #[must_use]
    pub fn all(&self) -> Vec<Found> {
        self.found().collect()
    }

    /// Looks at the files that are there, one after another.
    fn found(&self) -> impl Iterator<Item = Found> {
        // A relative name means one thing to who opens a file, and another to who loads a library.
        let given = self.given.as_deref();
        let given = given.map(|given| path::absolute(given).unwrap_or_else(|_| given.to_owned()));
        let directories = self.directories.iter().filter(|_| given.is_none());
        let files: Vec<PathBuf> = directories.filter_map(|place| in_place(place)).collect();
        given.into_iter().chain(files).map(|path| Found {
            unfit: unfit(&path).or_else(|| old_build(&path, &version(&path))),
            path,
        })
    }

    /// Returns the library that is taken.
    fn fit(&self) -> Result<PathBuf, String> {
        let mut reasons = Vec::new();
        for Found { path, unfit } in self.found() {
            match unfit {
                None => return Ok(path),
                Some(unfit) => reasons.push(format!("{} {unfit}", path.display())),
            }
        }
        Err(match reasons.as_slice() {
            [] => format!(
                "ONNX Runtime is not there (looked in {}); {HINT}",
                self.shown()
            ),
            reasons => format!(
                "ONNX Runtime cannot be used: {}; {HINT}",
                reasons.join(", ")
            ),
        })
    }

    fn shown(&self) -> String {
        let places = self.directories.iter();
        let places: Vec<String> = places.map(|place| place.display().to_string()).collect();
        places.join(", ")
    }
}

/// Returns the library in a directory: by its plain name, else the newest of those with a version.
fn in_place(directory: &Path) -> Option<PathBuf> {
    let plain = directory.join(FILE_NAME);
    if plain.is_file() {
        return Some(plain);
    }
    let entries = fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let versioned = entries.filter_map(|entry| {
        let name = entry.file_name();
        let version = name.to_str()?.strip_prefix("libonnxruntime.so.")?;
        let numbers: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        Some((numbers?, entry.path()))
    });
    let newest = versioned.max_by(|left, right| left.0.cmp(&right.0));
    newest.map(|(_, path)| path).filter(|path| path.is_file())
}

/// The library in use.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) environment: Environment,
    pub(crate) watchdog: &'static Watchdog,
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    /// Directories with the libraries that execution providers need.
    pub(crate) companions: Vec<PathBuf>,
}

/// The threads that runs share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads {
    pub(crate) count: usize,
    /// Whether they spin for a while before they sleep.
    pub(crate) spin: bool,
}

/// The process's only library, once one was loaded or failed to load, which is not tried again.
static LOADED: Mutex<Option<Result<&'static Library, String>>> = Mutex::new(None);

/// Loads the library, or returns the one that is loaded.
///
/// # Errors
/// Says what is missing or unfit, and what to do. A file that was not loaded may be another by the next call.
pub(crate) fn load(places: &Places, threads: Threads) -> Result<&'static Library, String> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = &*loaded {
        return known.clone();
    }
    let path = places.fit()?;
    let shown = path.display().to_string();
    let companions = places.companions.clone();
    let result = catch_unwind(|| open(path, companions, threads)).unwrap_or_else(|_panic| {
        Err("it is no library of ONNX Runtime that can be used".to_owned())
    });
    let result = result
        .map(|library| &*Box::leak(Box::new(library)))
        .map_err(|error| format!("ONNX Runtime cannot be used: {shown}: {error}; {HINT}"));
    *loaded = Some(result.clone());
    result
}

/// The oldest release that is taken: those from 1.24 to 1.31 end the whole process over some damaged graphs, such as an `LSTM`
/// whose input is a scalar, where this one gives an error.
const RELEASE_MIN: Release = (1, 32);
/// The oldest of the builds for GPUs, which come later than those for processors; what it cannot be trusted with is said of each model.
const GPU_RELEASE_MIN: Release = (1, 31);

type Release = (u32, u32);

fn release(version: &str) -> Option<Release> {
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    numbers.next().zip(numbers.next())
}

/// Says why a release is not taken, as `is release 1.20.0, ...`; one that cannot be told is.
#[must_use]
pub fn too_old(version: &str, is_for_gpus: bool) -> Option<String> {
    let oldest = match is_for_gpus {
        true => GPU_RELEASE_MIN,
        false => RELEASE_MIN,
    };
    (release(version)? < oldest).then(|| {
        let (major, minor) = oldest;
        format!("is release {version}, which can end the process over a damaged model; {major}.{minor} and newer are taken")
    })
}

/// What a provider's library has at least; those of releases have more than a hundred times as much.
const PROVIDER_BYTES_MIN: u64 = 1 << 20;

/// Says why a library is too old, which of a build for GPUs depends on what lies beside it. Whether the library itself is of such a build only
/// it can tell, once it is loaded ([`check_build`]).
fn old_build(path: &Path, version: &str) -> Option<String> {
    let why = too_old(version, false)?;
    let provider = path.with_file_name(CUDA_LIBRARY);
    if !provider.exists() {
        return Some(why);
    }
    let (major, minor) = GPU_RELEASE_MIN;
    let beside = unfit(&provider).or_else(|| {
        let size = fs::metadata(&provider).map_or(0, |metadata| metadata.len());
        (size < PROVIDER_BYTES_MIN).then(|| format!("has {size} bytes, which no such library has"))
    });
    match beside {
        Some(beside) => Some(format!(
            "{why} (of builds for GPUs {major}.{minor}, too, but {CUDA_LIBRARY} beside it {beside})"
        )),
        None => too_old(version, true),
    }
}

/// Refuses a release that is taken of builds for GPUs alone where the library, now that it is loaded, has no provider of theirs.
///
/// # Errors
/// Says what it has.
fn check_build(version: &str, built_in: &[&str]) -> Result<(), String> {
    let is_for_gpus = ["cuda", "tensorrt"]
        .iter()
        .any(|name| built_in.contains(name));
    match too_old(version, is_for_gpus) {
        None => Ok(()),
        Some(why) => Err(format!(
            "it {why} (of builds for GPUs {}.{}, too, but this one has only the execution providers {})",
            GPU_RELEASE_MIN.0,
            GPU_RELEASE_MIN.1,
            built_in.join(", ")
        )),
    }
}

impl Library {
    /// Says what is to be known of a release that is taken though it is older than others may be.
    pub(crate) fn warning(&self) -> Option<String> {
        too_old(&self.version, false)?;
        let (version, (major, minor)) = (&self.version, RELEASE_MIN);
        Some(format!(
            "ONNX Runtime {version}, a build for GPUs, can end the process over a damaged model, which {major}.{minor} does not; try files of strangers with --trial-load"
        ))
    }
}

fn open(path: PathBuf, companions: Vec<PathBuf>, threads: Threads) -> Result<Library, String> {
    let version = version(&path);
    let watchdog = Watchdog::start().map_err(|error| error.to_string())?;
    let builder = ort::init_from(&path).map_err(|error| error.to_string())?;
    check_build(&version, &providers::built_in())?;
    let threads = GlobalThreadPoolOptions::default()
        .with_intra_threads(threads.count)
        .and_then(|options| options.with_inter_threads(1))
        .and_then(|options| options.with_spin_control(threads.spin));
    let threads = threads.map_err(|error| error.to_string())?;
    let environment = builder
        .with_name("coracle")
        .with_telemetry(false)
        .with_global_thread_pool(threads)
        .build()
        .map_err(|error| error.to_string())?;
    // What goes wrong comes back as an error; nothing is to be written beside our own log.
    environment.set_log_level(LogLevel::Fatal);
    Ok(Library {
        environment,
        watchdog,
        path,
        version,
        companions,
    })
}

/// The most bytes that are looked through for the version.
const VERSION_BYTES_MAX: u64 = 256 << 20;

/// Returns the release: builds mark their symbols with it (`VERS_1.32.0`), and files are often named after it.
fn version(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(VERSION_BYTES_MAX).read_to_end(&mut bytes));
    let mark = b"VERS_";
    let marked = bytes
        .windows(mark.len())
        .position(|window| window == mark)
        .filter(|_| read.is_ok())
        .and_then(|place| bytes.get(place.saturating_add(mark.len())..));
    let marked = marked.map(|rest| {
        let digits = rest.iter().take(20).copied().map(char::from);
        digits
            .take_while(|letter| letter.is_ascii_digit() || *letter == '.')
            .collect::<String>()
    });
    let named = || {
        let real = fs::canonicalize(path).ok()?;
        let name = real.file_name()?.to_str()?;
        let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        Some(digits.trim_end_matches(".dylib").to_owned())
    };
    let version = marked.filter(|version| !version.is_empty()).or_else(named);
    version
        .filter(|version| !version.is_empty())
        .unwrap_or_else(|| "of an unknown release".to_owned())
}

/// What a library is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// Its file.
    pub path: PathBuf,
    /// Its release.
    pub version: String,
    /// The execution providers that can be used.
    pub providers: Vec<String>,
    /// Those that it has and that cannot be used on this machine, and why.
    pub unusable: Vec<(String, String)>,
}

/// Loads the library in `places` and says what it is.
///
/// # Errors
/// As loading it for a model.
pub fn inspect(places: &Places) -> Result<Inspected, String> {
    let alone = Threads {
        count: 1,
        spin: false,
    };
    let library = load(places, alone)?;
    let unusable = providers::unusable(library).into_iter();
    let unusable: Vec<(String, String)> =
        unusable.map(|(name, why)| (name.to_owned(), why)).collect();
    let mut providers: Vec<String> = providers::built_in()
        .into_iter()
        .map(str::to_owned)
        .collect();
    providers.retain(|name| unusable.iter().all(|(other, _)| other != name));
    for device in library.environment.devices() {
        let name = device.ep().map(ToString::to_string);
        let name = name.ok().filter(|name| name != "CPUExecutionProvider");
        providers.extend(name.filter(|name| !providers.contains(name)));
    }
    Ok(Inspected {
        path: library.path.clone(),
        version: library.version.clone(),
        providers,
        unusable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a library without segments, and the mark of a release.
    #[cfg(target_os = "linux")]
    fn library(release: &str) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(64, 0);
        bytes[16] = 3;
        bytes[18] = if cfg!(target_arch = "aarch64") {
            183
        } else {
            62
        };
        bytes[32] = 64;
        bytes.extend(format!("VERS_{release}\0").bytes());
        bytes
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_first_fit_library_is_taken_and_what_is_mended_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let directories = ["old", "cut", "good"].map(|name| root.path().join(name));
        let files = directories.each_ref().map(|place| place.join(FILE_NAME));
        for (place, file) in directories.iter().zip(&files) {
            fs::create_dir(place).unwrap();
            fs::write(file, library("1.24.4")).unwrap();
        }
        fs::write(&files[1], [0; 70]).unwrap();
        let mut places = Places {
            directories: directories.to_vec(),
            ..Places::default()
        };
        let refusal = places.fit().unwrap_err();
        assert!(
            refusal.contains("is release 1.24.4") && refusal.contains("no 64-bit"),
            "{refusal}"
        );
        fs::write(&files[2], library("1.32.0")).unwrap();
        assert_eq!(places.fit(), Ok(files[2].clone()));
        assert_eq!(
            places
                .all()
                .iter()
                .filter(|found| found.unfit.is_none())
                .count(),
            1
        );
        fs::write(&files[0], library("1.33.1")).unwrap();
        assert_eq!(places.fit(), Ok(files[0].clone()));
        // A file that is named is the only one.
        places.given = Some(files[1].clone());
        assert!(places.fit().is_err());
        places.given = Some(PathBuf::from("engine/lib.so"));
        let named = &places.all()[0].path;
        assert!(
            named.is_absolute() && named.ends_with("engine/lib.so"),
            "{named:?}"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_build_for_gpus_may_be_older() {
        let root = tempfile::tempdir().unwrap();
        let places = Places {
            directories: vec![root.path().to_path_buf()],
            ..Places::default()
        };
        fs::write(root.path().join(FILE_NAME), library("1.31.1")).unwrap();
        assert!(places.fit().is_err());
        // What lies beside it must be what its name says.
        let beside = root.path().join(CUDA_LIBRARY);
        let mut foreign = library("");
        foreign[18] = 20;
        foreign.resize(2 << 20, 0);
        for (bytes, expected) in [
            (Vec::new(), "is no shared library"),
            (vec![0; 2 << 20], "is no 64-bit shared library"),
            (foreign, "is for another kind of processor"),
            (library(""), "which no such library has"),
        ] {
            fs::write(&beside, bytes).unwrap();
            let refusal = places.fit().unwrap_err();
            let named = format!("{CUDA_LIBRARY} beside it ");
            assert!(
                refusal.contains("1.32 and newer")
                    && refusal.contains(&named)
                    && refusal.contains(expected),
                "{refusal}"
            );
        }
        let mut whole = library("");
        whole.resize(2 << 20, 0);
        fs::write(&beside, whole).unwrap();
        assert_eq!(places.fit(), Ok(root.path().join(FILE_NAME)));
        fs::write(root.path().join(FILE_NAME), library("1.30.0")).unwrap();
        assert!(places.fit().unwrap_err().contains("1.31 and newer"));
    }

    #[test]
    fn what_a_build_is_for_is_what_it_says_itself() {
        for (version, built_in) in [
            ("1.31.1", &["cpu", "cuda"][..]),
            ("1.31.1", &["cpu", "tensorrt"]),
            ("1.32.0", &["cpu"]),
        ] {
            assert_eq!(check_build(version, built_in), Ok(()), "{version}");
        }
        let why = check_build("1.31.1", &["cpu", "openvino"]).unwrap_err();
        assert!(
            why.contains("is release 1.31.1") && why.contains("providers cpu, openvino"),
            "{why}"
        );
        assert!(check_build("1.30.0", &["cpu", "cuda"]).is_err());
    }

    #[test]
    fn releases_that_end_the_process_are_refused() {
        for version in ["1.24.4", "1.31.0", "1.31.9", "0.5"] {
            assert!(too_old(version, false).is_some_and(|why| why.contains(version)));
        }
        for version in [
            "1.32.0",
            "1.33",
            "1.100.0",
            "2.0.1",
            "of an unknown release",
        ] {
            assert_eq!(too_old(version, false), None, "{version}");
        }
    }
}
