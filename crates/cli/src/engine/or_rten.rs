//! ONNX Runtime where it is there, else `rten`, which is part of this build.

use coracle_model::{GraphEngine, GraphFile, LoadError, Model, needs_a_device};
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
            Err(missing) if needs_a_device(&file.settings) => Err(missing),
            Err(missing) => Rten
                .load(file)
                .map_err(|error| LoadError::new(error.kind(), format!("{error}; {missing}"))),
        }
    }
}
