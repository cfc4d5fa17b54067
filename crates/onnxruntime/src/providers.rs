//! Execution providers: which there are, whether the library has them, and how a session is told of them.

use ort::ep::{
    ArbitrarilyConfigurableExecutionProvider as _, CUDA, ExecutionProvider,
    ExecutionProviderDispatch, OpenVINO, TensorRT,
};
use ort::session::builder::SessionBuilder;

use crate::messages::shortened;
use crate::settings::Provider;

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
        let message = format!(
            "this library of ONNX Runtime has no execution provider {provider}; it has {}",
            built_in().join(", ")
        );
        if !provider.is_optional {
            return Err(message);
        }
        warnings.push(message);
    }
    Ok((present, warnings))
}

/// Tells a session of a provider.
///
/// # Errors
/// What the library says of it: it may lack what the provider needs on this machine.
pub(crate) fn register(provider: &Provider, builder: &mut SessionBuilder) -> Result<(), String> {
    let options = || provider.options.iter();
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
    dispatch.register(builder).map_err(|error| {
        format!(
            "the execution provider {provider}: {}",
            shortened(error.message())
        )
    })
}
