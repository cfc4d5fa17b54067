//! ONNX Runtime where it is there, else `rten`, which is part of this build.

use coracle_model::{GraphEngine, GraphFile, LoadError, Model};
use coracle_onnxruntime::OnnxRuntime;
use coracle_rten::Rten;

/// Both engines.
#[derive(Debug)]
pub(super) struct OrRten {
    onnxruntime: OnnxRuntime,
}

impl OrRten {
    pub(super) fn new(onnxruntime: OnnxRuntime) -> Self {
        Self { onnxruntime }
    }
}

impl GraphEngine for OrRten {
    fn look(&self) -> Result<(), LoadError> {
        Ok(())
    }

    fn load(&self, file: GraphFile<'_>) -> Result<Box<dyn Model>, LoadError> {
        // A graph that ONNX Runtime refuses is not tried elsewhere: what it is served by must not depend on that.
        match self.onnxruntime.look() {
            Ok(()) => self.onnxruntime.load(file),
            // What is to run elsewhere than on the processor does not run there instead.
            Err(missing) if needs_a_device(file.settings.get("providers")) => Err(missing),
            Err(missing) => Rten
                .load(file)
                .map_err(|error| LoadError::new(error.kind(), format!("{error}; {missing}"))),
        }
    }
}

/// Tells whether a list of execution providers has one beside the processor that must be there.
fn needs_a_device(providers: Option<&String>) -> bool {
    let mut providers = providers.into_iter().flat_map(|list| list.split(','));
    providers.any(|word| !matches!(word.trim(), "" | "cpu" | "cpu?") && !word.trim().ends_with('?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_that_must_be_there_are_told_from_others() {
        let needs = |list: &str| needs_a_device(Some(&list.to_owned()));
        assert!(!needs_a_device(None));
        assert!(!needs("cpu") && !needs("cuda?,cpu") && !needs("tensorrt?, cuda?"));
        assert!(needs("cuda") && needs("tensorrt?,cuda,cpu"));
    }
}
