//! What the library of an execution provider needs on a machine: loaded before it from where it lies, and told by name where it is missing.
//!
//! The system's linker looks for it in its own places only, and names the first that it does not find. A library that is loaded already
//! is not looked for again, wherever it lies.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ort::util::preload_dylib;

use crate::elf;
use crate::providers::Kind;

/// What the runtime loads before any provider that has a library of its own.
const SHARED: &str = "libonnxruntime_providers_shared.so";

/// The most directories that packages of Python made in one place, and files of one, that are looked at.
const ENTRIES_MAX: usize = 4096;

/// What libraries are for, by what their names begin with: whose they are, and the package of Python that has them.
const KNOWN: [(&str, &str, Option<&str>); 9] = [
    ("libcuda.so", "NVIDIA's driver", None),
    ("libcudart.so", "CUDA", Some("nvidia-cuda-runtime")),
    ("libcublas.so", "CUDA", Some("nvidia-cublas")),
    ("libcublasLt.so", "CUDA", Some("nvidia-cublas")),
    ("libcurand.so", "CUDA", Some("nvidia-curand")),
    ("libcufft.so", "CUDA", Some("nvidia-cufft")),
    ("libnvrtc.so", "CUDA", Some("nvidia-cuda-nvrtc")),
    ("libcudnn.so", "cuDNN", Some("nvidia-cudnn")),
    ("libnvinfer.so", "TensorRT", None),
];

/// What builds for a release of CUDA load themselves when a graph needs it.
const LATER: [(&str, [&str; 3]); 2] = [
    (
        "libcudart.so.13",
        ["libcudnn.so.9", "libcufft.so.12", "libnvrtc.so.13"],
    ),
    (
        "libcudart.so.12",
        ["libcudnn.so.9", "libcufft.so.11", "libnvrtc.so.12"],
    ),
];

/// Loads what a provider's library needs, from `given` directories, from beside the runtime, and from where the system's linker looks.
///
/// # Errors
/// Names what is missing, where it was looked for, and where it comes from.
pub(crate) fn bring(kind: Kind, runtime: &Path, given: &[PathBuf]) -> Result<(), String> {
    let Some(name) = kind.library() else {
        return Ok(());
    };
    let beside = runtime.parent().unwrap_or(Path::new("."));
    let library = beside.join(name);
    // The runtime maps both, and the process would end with what is cut short.
    for file in [&library, &beside.join(SHARED)] {
        if file.exists()
            && let Some(unfit) = elf::unfit(file)
        {
            return Err(format!("{} {unfit}", file.display()));
        }
    }
    if !library.exists() {
        // Builds may have it inside; otherwise the runtime says what it misses.
        return Ok(());
    }
    let places = places(beside, given);
    let needed = elf::needed(&library);
    let later = LATER
        .iter()
        .find(|(cuda, _)| needed.iter().any(|name| name == cuda));
    let missing = load_all(needed.clone(), &places);
    if !missing.is_empty() {
        return Err(told(name, &missing, &places));
    }
    for name in later.map(|(_, names)| names).into_iter().flatten() {
        // What is not there may not be needed.
        let _is_loaded = load(name, &places);
    }
    Ok(())
}

/// A library that could not be loaded, and why if it is there.
struct Missing {
    name: String,
    why: Option<String>,
}

/// Loads libraries, and returns those that cannot be. One may need another of them, so that it is gone through them as long as that helps.
fn load_all(names: Vec<String>, places: &[PathBuf]) -> Vec<Missing> {
    let mut left = names;
    loop {
        let n_before = left.len();
        let tried = left.into_iter().filter_map(|name| {
            let why = load(&name, places).err()?;
            Some(Missing { name, why })
        });
        let missing: Vec<Missing> = tried.collect();
        if missing.is_empty() || missing.len() == n_before {
            return missing;
        }
        left = missing.into_iter().map(|missing| missing.name).collect();
    }
}

/// Loads a library by name from the first of the places that has it, else from where the system's linker looks. What is not of devices is looked for
/// there first: the process has most of it already, and another of a place would be there twice.
fn load(name: &str, places: &[PathBuf]) -> Result<(), Option<String>> {
    let is_known = KNOWN.iter().any(|(start, ..)| name.starts_with(start));
    if !is_known && preload_dylib(name).is_ok() {
        return Ok(());
    }
    let mut why = None;
    for path in places.iter().map(|place| place.join(name)) {
        if !path.is_file() {
            continue;
        }
        match preload(&path) {
            Ok(()) => return Ok(()),
            Err(error) => why = why.or(Some(error)),
        }
    }
    match preload_dylib(name) {
        Ok(()) => Ok(()),
        Err(_not_there) => Err(why),
    }
}

fn preload(path: &Path) -> Result<(), String> {
    match elf::unfit(path) {
        Some(unfit) => Err(format!("{} {unfit}", path.display())),
        None => preload_dylib(path.to_path_buf()).map_err(|error| error.to_string()),
    }
}

/// Returns where libraries are looked for: in `given` directories and beside the runtime, in what packages of Python make of such a directory, and
/// where CUDA is installed.
fn places(beside: &Path, given: &[PathBuf]) -> Vec<PathBuf> {
    // onnxruntime/capi of a package lies two above others.
    let packages = beside.ends_with("onnxruntime/capi");
    let packages = packages.then(|| beside.ancestors().nth(2)).flatten();
    let roots = given.iter().map(PathBuf::as_path);
    let roots = roots.chain([beside]).chain(packages);
    let mut places = Vec::new();
    for root in roots {
        places.extend([root.to_path_buf(), root.join("lib"), root.join("lib64")]);
        places.extend(of_packages(&root.join("nvidia")));
        places.extend(["tensorrt_libs", "openvino/libs"].map(|below| root.join(below)));
    }
    places.push(PathBuf::from("/usr/local/cuda/lib64"));
    let mut seen = BTreeSet::new();
    places.retain(|place| place.is_dir() && seen.insert(place.clone()));
    places
}

/// Returns the directories of libraries below that of NVIDIA's packages.
fn of_packages(nvidia: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(nvidia).into_iter().flatten();
    let entries = entries.take(ENTRIES_MAX).filter_map(Result::ok);
    let mut places: Vec<PathBuf> = entries.map(|entry| entry.path().join("lib")).collect();
    places.sort();
    places
}

/// Says what is missing.
fn told(library: &str, missing: &[Missing], places: &[PathBuf]) -> String {
    let names = missing.iter().map(|Missing { name, why }| match why {
        Some(why) => format!("{name} ({why})"),
        None => name.clone(),
    });
    let names: Vec<String> = names.collect();
    let places = places.iter().map(|place| place.display().to_string());
    let places: Vec<String> = places
        .chain(["where the system's linker looks".to_owned()])
        .collect();
    let mut text = format!(
        "{library} needs what cannot be loaded: {} (looked in {})",
        names.join(", "),
        places.join(", ")
    );
    text.extend(sources(missing).map(|source| format!("; {source}")));
    text
}

/// Says where libraries come from.
fn sources(missing: &[Missing]) -> impl Iterator<Item = String> {
    let known = missing.iter().filter_map(|Missing { name, .. }| {
        let known = KNOWN.iter().find(|(start, ..)| name.starts_with(start))?;
        Some((name, known))
    });
    let suffix = cuda_suffix(missing);
    let (mut owners, mut packages) = (BTreeSet::new(), BTreeSet::new());
    for (name, (_, owner, package)) in known {
        match package {
            Some(package) => {
                let is_of_all = *package == "nvidia-cudnn";
                let suffix = match (suffix, is_of_all) {
                    (None, true) => "-cu13".to_owned(),
                    (None, false) => String::new(),
                    (Some(major), _) => format!("-cu{major}"),
                };
                packages.insert(format!("{package}{suffix}"));
            }
            None => {
                owners.insert(format!("{name} is of {owner}"));
            }
        }
    }
    let packages: Vec<String> = packages.into_iter().collect();
    let packages = (!packages.is_empty()).then(|| {
        format!(
            "to get CUDA's without being root, where DIR is the library's directory or one that CORACLE_ONNXRUNTIME_LIBRARIES names: pip install --target DIR {}",
            packages.join(" ")
        )
    });
    owners.into_iter().chain(packages)
}

/// Returns the release of CUDA that packages are named after: those before 13 are.
fn cuda_suffix(missing: &[Missing]) -> Option<u32> {
    let mut majors = missing.iter().filter_map(|Missing { name, .. }| {
        let starts = ["libcudart.so.", "libcublas.so.", "libcublasLt.so."];
        let major = starts.iter().find_map(|start| name.strip_prefix(start))?;
        major.split('.').next()?.parse::<u32>().ok()
    });
    majors.next().filter(|&major| major < 13)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(names: &[&str]) -> Vec<Missing> {
        let names = names.iter().map(|name| Missing {
            name: (*name).to_owned(),
            why: None,
        });
        names.collect()
    }

    #[test]
    fn what_is_missing_is_named_with_where_it_comes_from() {
        let said = told(
            "libonnxruntime_providers_cuda.so",
            &missing(&[
                "libcublasLt.so.13",
                "libcublas.so.13",
                "libcudart.so.13",
                "libcuda.so.1",
            ]),
            &[PathBuf::from("/engines")],
        );
        assert_eq!(
            said,
            "libonnxruntime_providers_cuda.so needs what cannot be loaded: libcublasLt.so.13, libcublas.so.13, libcudart.so.13, libcuda.so.1 \
             (looked in /engines, where the system's linker looks); libcuda.so.1 is of NVIDIA's driver; to get CUDA's without being root, where \
             DIR is the library's directory or one that CORACLE_ONNXRUNTIME_LIBRARIES names: pip install --target DIR nvidia-cublas nvidia-cuda-runtime"
        );
        let before = missing(&["libcublas.so.12", "libcudnn.so.9", "libnvinfer.so.10"]);
        let sources: Vec<String> = sources(&before).collect();
        assert_eq!(sources[0], "libnvinfer.so.10 is of TensorRT");
        assert!(
            sources[1].ends_with(" nvidia-cublas-cu12 nvidia-cudnn-cu12"),
            "{sources:?}"
        );
        assert_eq!(super::sources(&missing(&["libother.so"])).count(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_damaged_library_of_a_provider_is_told_before_it_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        let runtime = root.path().join("libonnxruntime.so");
        assert_eq!(bring(Kind::Cuda, &runtime, &[]), Ok(()));
        for name in [Kind::Cuda.library().unwrap(), SHARED] {
            let file = root.path().join(name);
            fs::write(&file, [0; 100]).unwrap();
            let said = bring(Kind::Cuda, &runtime, &[]).unwrap_err();
            let expected = format!("{} is no 64-bit shared library", file.display());
            assert_eq!(said, expected);
            fs::remove_file(file).unwrap();
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn libraries_come_from_where_packages_put_them_and_from_the_system() {
        let root = tempfile::tempdir().unwrap();
        let capi = root.path().join("onnxruntime/capi");
        let cublas = root.path().join("nvidia/cu13/lib");
        let given = root.path().join("given");
        for directory in [&capi, &cublas, &given.join("lib64")] {
            fs::create_dir_all(directory).unwrap();
        }
        let found = places(&capi, &[given.clone(), capi.clone()]);
        let unique: BTreeSet<&PathBuf> = found.iter().collect();
        assert_eq!(found.len(), unique.len(), "{found:?}");
        for place in [&given, &given.join("lib64"), &capi, &cublas] {
            assert!(found.iter().any(|found| found == place), "{place:?}");
        }
        // What is there and no library is told; what the system has needs no place.
        fs::write(cublas.join("libcoracle_no_library.so.13"), [b'a'; 100]).unwrap();
        let names = [
            "libc.so.6",
            "libcoracle_no_library.so.13",
            "libcoracle_absent.so",
        ];
        let missing = load_all(names.map(str::to_owned).to_vec(), &found);
        let left: Vec<&str> = missing.iter().map(|missing| &*missing.name).collect();
        assert_eq!(left, names[1..]);
        let why = missing[0].why.as_deref().unwrap();
        assert!(
            why.contains("cu13/lib") && why.contains("is no 64-bit"),
            "{why}"
        );
        assert!(missing[1].why.is_none());
    }
}
