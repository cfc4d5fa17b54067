//! Request parameters, and the choice of outputs.

use serde::Deserialize;

use crate::error::quoted;
use crate::{DecodeContext, RequestError};

/// The parameters that are understood; others are ignored, as the originals do.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Parameters {
    /// The method that is to answer.
    pub(crate) method: Option<String>,
    /// Whether outputs are to be binary, by default.
    pub(crate) binary_data_output: Option<bool>,
    /// Whether this output is to be binary.
    pub(crate) binary_data: Option<bool>,
    /// The size of a binary input.
    pub(crate) binary_data_size: Option<u64>,
}

impl Parameters {
    /// Refuses what belongs to the binary tensor extension.
    ///
    /// # Errors
    /// Code `Unimplemented`.
    pub(crate) fn refuse_binary(&self) -> Result<(), RequestError> {
        let wants_binary = self.binary_data == Some(true)
            || self.binary_data_output == Some(true)
            || self.binary_data_size.is_some();
        if wants_binary {
            return Err(RequestError::unimplemented(
                "binary tensor data is not supported yet; send and ask for JSON",
            ));
        }
        Ok(())
    }
}

/// Returns the outputs of a request that names at most a method; the body's method goes before the URL's.
pub(crate) fn choose_outputs(
    ctx: &DecodeContext<'_>,
    method: Option<&str>,
) -> Result<Vec<usize>, RequestError> {
    match method.or(ctx.method) {
        None => Ok(ctx.default_outputs.to_vec()),
        Some(method) => match ctx.signature.output_index(method) {
            Some(index) => Ok(vec![index]),
            None => Err(RequestError::invalid(format!(
                "unknown method {}; the model has {}",
                quoted(method),
                ctx.signature.output_names()
            ))),
        },
    }
}
