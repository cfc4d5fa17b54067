//! Request parameters, and the choice of outputs.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::content::Content;
use crate::error::quoted;
use crate::{DecodeContext, OutputForm, RegionSlice, RequestError};

/// The parameters that are understood; others are ignored, as the originals do.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(expecting = "\"parameters\" to be an object")]
pub(crate) struct Parameters {
    /// The method that is to answer.
    pub(crate) method: Option<String>,
    /// Whether outputs are to be binary, by default.
    pub(crate) binary_data_output: Option<bool>,
    /// Whether this output is to be binary.
    pub(crate) binary_data: Option<bool>,
    /// The size of a binary input.
    pub(crate) binary_data_size: Option<u64>,
    /// The region of shared memory that holds this tensor.
    pub(crate) shared_memory_region: Option<String>,
    /// Where in the region it starts; 0 if absent.
    pub(crate) shared_memory_offset: Option<u64>,
    /// The bytes of the region that it may take.
    pub(crate) shared_memory_byte_size: Option<u64>,
    /// The number of classes wanted instead of the tensor: refused.
    pub(crate) classification: Option<u64>,
    /// How long the caller waits, in microseconds; 0 for as long as it takes.
    pub(crate) timeout: Option<u64>,
    /// How urgent the request is: 1 is the highest, 0 the default.
    pub(crate) priority: Option<u64>,
    /// How the elements of this input are written.
    #[serde(default, rename = "content_type")]
    pub(crate) content: Content,
}

impl Parameters {
    /// Returns how long the caller waits, if it says so.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let timeout = self.timeout.filter(|microseconds| *microseconds > 0);
        timeout.map(Duration::from_micros)
    }

    /// Returns how urgent the request is.
    pub(crate) fn priority(&self) -> u64 {
        self.priority.unwrap_or(0)
    }

    /// Returns the part of shared memory that holds the tensor at `place`, if one does.
    ///
    /// # Errors
    /// Code `InvalidArgument` if the parameters that name it are incomplete.
    pub(crate) fn region(
        &self,
        place: impl fmt::Display,
    ) -> Result<Option<RegionSlice>, RequestError> {
        match (&self.shared_memory_region, self.shared_memory_byte_size) {
            (Some(region), Some(byte_size)) => Ok(Some(RegionSlice {
                region: region.clone(),
                offset: self.shared_memory_offset.unwrap_or(0),
                byte_size,
            })),
            (None, None) if self.shared_memory_offset.is_none() => Ok(None),
            _ => Err(RequestError::invalid(format!(
                "{place}: shared memory needs both shared_memory_region and shared_memory_byte_size"
            ))),
        }
    }

    /// Returns how the output at `place` is to be given; `default` says what holds for all of the request.
    ///
    /// # Errors
    /// Code `InvalidArgument` if it is to be in two places; `Unimplemented` for Triton's classification.
    pub(crate) fn form(
        &self,
        place: impl fmt::Display,
        default: &OutputForm,
    ) -> Result<OutputForm, RequestError> {
        if self.classification.is_some_and(|n_classes| n_classes > 0) {
            return Err(RequestError::unimplemented(format!(
                "{place}: classification of outputs is not supported; ask for predict or predict_proba"
            )));
        }
        match (self.region(&place)?, self.binary_data) {
            (Some(_), Some(true)) => Err(RequestError::invalid(format!(
                "{place}: binary_data and shared_memory_region exclude each other"
            ))),
            (Some(slice), _) => Ok(OutputForm::Region(slice)),
            (None, Some(true)) => Ok(OutputForm::Raw),
            (None, Some(false)) => Ok(OutputForm::Typed),
            (None, None) => Ok(default.clone()),
        }
    }
}

/// Returns the outputs of a request that names at most a method; the body's method goes before the URL's.
pub(crate) fn choose_outputs(
    ctx: &DecodeContext<'_>,
    method: Option<&str>,
) -> Result<Vec<usize>, RequestError> {
    let index = |name| ctx.signature.output_index(name);
    match method.or(ctx.method) {
        None => Ok(ctx.default_outputs.to_vec()),
        // What scikit-learn's method returns is two outputs.
        Some("kneighbors")
            if let (Some(distances), Some(indices)) =
                (index("kneighbors_distances"), index("kneighbors_indices")) =>
        {
            Ok(vec![distances, indices])
        }
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
