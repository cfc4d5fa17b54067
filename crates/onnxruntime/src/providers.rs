//! Execution providers: which there are, whether the library has them, and how a session is told of them.

use std::collections::BTreeMap;
use std::path::Path;

use ort::ep::{
    ArbitrarilyConfigurableExecutionProvider as _, CUDA, ExecutionProvider,
    ExecutionProviderDispatch, OpenVINO, TensorRT,
};
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use crate::library::Library;
use crate::messages::shortened;
use crate::needs;
use crate::settings::Provider;

/// The library of the provider cuda, which only builds for GPUs have beside them.
pub(crate) const CUDA_LIBRARY: &str = "libonnxruntime_providers_cuda.so";

/// How to get a library with the providers of GPUs, and how it is taken before one that is there for processors.
const GPU_HINT: &str = "; run: coracle engine install onnxruntime-gpu (it is taken where a server is started with --onnxruntime-providers, and where --onnxruntime names it)";

/// An execution provider that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cpu,
    Cuda,
    TensorRt,
    OpenVino,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::TensorRt, Self::OpenVino];

    /// Returns what it is called where it is asked for, which is what Triton calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
        }
    }

    /// Returns the file beside the runtime that it is in.
    pub(crate) fn library(self) -> Option<&'static str> {
        match self {
            Self::Cpu => None,
            Self::Cuda => Some(CUDA_LIBRARY),
            Self::TensorRt => Some("libonnxruntime_providers_tensorrt.so"),
            Self::OpenVino => Some("libonnxruntime_providers_openvino.so"),
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Tells whether the library was built with it; whether it works here shows when a session is made.
    fn is_built_in(self) -> bool {
        let is_built_in = match self {
            Self::Cpu => Ok(true),
            Self::Cuda => CUDA::is_available(),
            Self::TensorRt => TensorRT::is_available(),
            Self::OpenVino => OpenVINO::is_available(),
        };
        is_built_in.unwrap_or(false)
    }
}

/// Returns the names of those that the library was built with.
pub(crate) fn built_in() -> Vec<&'static str> {
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_built_in());
    kinds.map(Kind::name).collect()
}

/// Returns why those that the library was built with, or whose files lie beside it, cannot be used on this machine.
pub(crate) fn unusable(library: &Library) -> Vec<(&'static str, String)> {
    let unusable = Kind::ALL.into_iter().filter_map(|kind| {
        if !kind.is_built_in() {
            return Some((kind.name(), stray(kind, &library.path)?));
        }
        let builder = Session::builder(&library.environment);
        let brought = builder
            .map_err(|error| shortened(error.message()))
            .and_then(|mut builder| brought(&Provider::plain(kind), library, &mut builder));
        Some((kind.name(), brought.err()?))
    });
    unusable.collect()
}

/// Says so where the file of a provider lies beside a library that was built without it.
fn stray(kind: Kind, runtime: &Path) -> Option<String> {
    let file = kind.library()?;
    let is_there = runtime.with_file_name(file).exists();
    is_there.then(|| format!("{file} lies beside a library that was built without it"))
}

/// Splits providers into those that are there and warnings of those that are not but may be missing.
///
/// # Errors
/// Says which provider the library lacks, and which it has.
pub(crate) fn present(providers: &[Provider]) -> Result<(Vec<Provider>, Vec<String>), String> {
    let (mut present, mut warnings) = (Vec::new(), Vec::new());
    for provider in providers {
        if provider.kind.is_built_in() {
            present.push(provider.clone());
            continue;
        }
        let hint = match provider.kind {
            Kind::Cuda | Kind::TensorRt => GPU_HINT,
            Kind::Cpu | Kind::OpenVino => "",
        };
        let message = format!(
            "this library of ONNX Runtime has no execution provider {provider}; it has {}{hint}",
            built_in().join(", ")
        );
        if !provider.is_optional {
            return Err(message);
        }
        warnings.push(message);
    }
    Ok((present, warnings))
}

/// Returns what is tried where a session cannot be made with all `providers`: without each of those that may be missing, and without all of
/// them.
pub(crate) fn fewer(providers: &[Provider]) -> Vec<Vec<Provider>> {
    let may_go = |provider: &Provider| provider.is_optional && provider.kind != Kind::Cpu;
    let optional = providers.iter().enumerate();
    let optional = optional.filter(|(_, provider)| may_go(provider));
    let optional: Vec<usize> = optional.map(|(place, _)| place).collect();
    let without = |gone: &[usize]| {
        let kept = providers.iter().enumerate();
        let kept = kept.filter(|(place, _)| !gone.contains(place));
        kept.map(|(_, provider)| provider.clone()).collect()
    };
    let mut lists: Vec<Vec<Provider>> = optional.iter().map(|&place| without(&[place])).collect();
    if optional.len() > 1 {
        lists.push(without(&optional));
    }
    lists
}

/// Makes something with `providers`; where that fails, without those that may be missing, which are taken off the list then. Returns a warning
/// of them, too.
///
/// # Errors
/// The first failure, where all fail.
pub(crate) fn with_fewer<T>(
    providers: &mut Vec<Provider>,
    mut make: impl FnMut(&[Provider]) -> Result<T, String>,
) -> Result<(T, Option<String>), String> {
    let why = match make(providers) {
        Ok(made) => return Ok((made, None)),
        Err(why) => why,
    };
    for list in fewer(providers) {
        let Ok(made) = make(&list) else {
            continue;
        };
        let gone = providers.iter().filter(|provider| !list.contains(provider));
        let gone: Vec<&str> = gone.map(|provider| provider.kind.name()).collect();
        let warning = format!(
            "the graph runs without the execution provider {}: {why}",
            gone.join(", ")
        );
        *providers = list;
        return Ok((made, Some(warning)));
    }
    Err(why)
}

/// Loads what a provider needs on this machine, and tells a session of it.
///
/// # Errors
/// Names the libraries that are missing, or what the runtime says of it.
pub(crate) fn bring(
    provider: &Provider,
    library: &Library,
    builder: &mut SessionBuilder,
) -> Result<(), String> {
    brought(provider, library, builder).map_err(|error| of_provider(provider, &error))
}

fn brought(
    provider: &Provider,
    library: &Library,
    builder: &mut SessionBuilder,
) -> Result<(), String> {
    needs::bring(provider.kind, &library.path, &library.companions)?;
    registered(provider, builder)
}

fn of_provider(provider: &Provider, error: &str) -> String {
    format!("the execution provider {provider}: {error}")
}

/// Returns the options of a provider, with those that a server wants before what is said: that a kernel of a convolution is chosen by rule. By its
/// documentation the runtime's default tries all of them for each shape that it meets, and batches have many. With it one answer of 100 took 45 ms
/// on an H200, where others took one; that this is why was not measured.
fn options(provider: &Provider) -> BTreeMap<&str, &str> {
    let ours = match provider.kind {
        Kind::Cuda => Some(("cudnn_conv_algo_search", "HEURISTIC")),
        Kind::Cpu | Kind::TensorRt | Kind::OpenVino => None,
    };
    let said = provider.options.iter();
    let said = said.map(|(name, value)| (name.as_str(), value.as_str()));
    ours.into_iter().chain(said).collect()
}

/// Tells a session of a provider.
///
/// # Errors
/// What the runtime says of it.
pub(crate) fn register(provider: &Provider, builder: &mut SessionBuilder) -> Result<(), String> {
    registered(provider, builder).map_err(|error| of_provider(provider, &error))
}

fn registered(provider: &Provider, builder: &mut SessionBuilder) -> Result<(), String> {
    let options = || options(provider).into_iter();
    let dispatch: ExecutionProviderDispatch = match provider.kind {
        // It is there anyhow, as the last.
        Kind::Cpu => return Ok(()),
        Kind::Cuda => options()
            .fold(CUDA::default(), |cuda, (name, value)| {
                cuda.with_arbitrary_config(name, value)
            })
            .build(),
        Kind::TensorRt => options()
            .fold(TensorRT::default(), |tensorrt, (name, value)| {
                tensorrt.with_arbitrary_config(name, value)
            })
            .build(),
        Kind::OpenVino => options()
            .fold(OpenVINO::default(), |openvino, (name, value)| {
                openvino.with_arbitrary_config(name, value)
            })
            .build(),
    };
    dispatch
        .register(builder)
        .map_err(|error| shortened(error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_convolutions_are_chosen_by_rule_unless_said_otherwise() {
        let mut cuda = Provider::plain(Kind::Cuda);
        cuda.options.insert("device_id".to_owned(), "1".to_owned());
        let expected = [("cudnn_conv_algo_search", "HEURISTIC"), ("device_id", "1")];
        assert_eq!(options(&cuda), expected.into());
        let name = "cudnn_conv_algo_search".to_owned();
        cuda.options.insert(name, "EXHAUSTIVE".to_owned());
        assert_eq!(options(&cuda)["cudnn_conv_algo_search"], "EXHAUSTIVE");
        assert!(options(&Provider::plain(Kind::TensorRt)).is_empty());
    }

    #[test]
    fn a_file_of_a_provider_beside_another_build_is_told() {
        let root = tempfile::tempdir().unwrap();
        let runtime = root.path().join("libonnxruntime.so");
        assert_eq!(stray(Kind::Cuda, &runtime), None);
        std::fs::write(root.path().join(CUDA_LIBRARY), "").unwrap();
        let said = stray(Kind::Cuda, &runtime).unwrap();
        assert!(said.starts_with(CUDA_LIBRARY), "{said}");
        assert_eq!(stray(Kind::TensorRt, &runtime), None);
        assert_eq!(stray(Kind::Cpu, &runtime), None);
    }

    #[test]
    fn what_may_be_missing_is_left_out_one_by_one_and_then_all() {
        let provider = |(kind, is_optional): (Kind, bool)| Provider {
            kind,
            is_optional,
            options: BTreeMap::new(),
        };
        let tried = |list: &[(Kind, bool)]| {
            let providers: Vec<Provider> = list.iter().copied().map(provider).collect();
            let lists = fewer(&providers).into_iter();
            let lists = lists.map(|list| list.iter().map(|provider| provider.kind).collect());
            lists.collect::<Vec<Vec<Kind>>>()
        };
        let nothing: Vec<Vec<Kind>> = Vec::new();
        assert_eq!(tried(&[]), nothing);
        assert_eq!(tried(&[(Kind::Cuda, false), (Kind::Cpu, true)]), nothing);
        let one = tried(&[(Kind::Cuda, true), (Kind::Cpu, false)]);
        assert_eq!(one, [[Kind::Cpu]]);
        let three = [
            (Kind::TensorRt, true),
            (Kind::Cuda, true),
            (Kind::OpenVino, false),
        ];
        let expected = [
            vec![Kind::Cuda, Kind::OpenVino],
            vec![Kind::TensorRt, Kind::OpenVino],
            vec![Kind::OpenVino],
        ];
        assert_eq!(tried(&three), expected);
    }

    #[test]
    fn the_first_list_that_works_is_kept_and_what_is_gone_is_told() {
        let provider = |kind| Provider {
            kind,
            is_optional: true,
            options: BTreeMap::new(),
        };
        let mut providers = vec![provider(Kind::TensorRt), provider(Kind::Cuda)];
        let made = with_fewer(&mut providers, |providers| {
            let has_cuda = providers.iter().any(|provider| provider.kind == Kind::Cuda);
            if has_cuda {
                Err("no driver".to_owned())
            } else {
                Ok(providers.len())
            }
        });
        let (made, warning) = made.unwrap();
        assert_eq!(made, 1);
        let expected = "the graph runs without the execution provider cuda: no driver";
        assert_eq!(warning.as_deref(), Some(expected));
        assert_eq!(providers, [provider(Kind::TensorRt)]);
        // A graph that runs on nothing is refused for the first reason, and nothing is changed.
        let mut providers = vec![provider(Kind::Cuda)];
        let made = with_fewer(&mut providers, |providers| {
            Err::<(), _>(format!("{} providers", providers.len()))
        });
        assert_eq!(made.unwrap_err(), "1 providers");
        assert_eq!(providers, [provider(Kind::Cuda)]);
    }
}
