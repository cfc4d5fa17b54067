//! Shared memory that tensors may lie in, as the wire formats see it.

use std::fmt;

use coracle_base::Code;

use crate::RequestError;
use crate::error::quoted;

/// A part of a registered region of shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionSlice {
    /// The name under which the region was registered.
    pub region: String,
    /// Where the part starts, from the start of the region, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub byte_size: u64,
}

/// The registered regions.
pub trait Regions: fmt::Debug + Sync {
    /// Returns the bytes of `slice`.
    ///
    /// # Errors
    /// Code `InvalidArgument` if there is no such region, or the slice is not within it.
    fn read(&self, slice: &RegionSlice) -> Result<Vec<u8>, RequestError>;

    /// Writes `bytes` to the start of `slice`.
    ///
    /// # Errors
    /// As [`Regions::read`], and if `bytes` is longer than the slice.
    fn write(&self, slice: &RegionSlice, bytes: &[u8]) -> Result<(), RequestError>;
}

/// No shared memory at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRegions;

impl Regions for NoRegions {
    fn read(&self, slice: &RegionSlice) -> Result<Vec<u8>, RequestError> {
        Err(unknown_region(&slice.region))
    }

    fn write(&self, slice: &RegionSlice, _bytes: &[u8]) -> Result<(), RequestError> {
        Err(unknown_region(&slice.region))
    }
}

/// Returns the refusal of a region that is not registered.
pub(crate) fn unknown_region(name: &str) -> RequestError {
    let message = format!("no shared memory region {} is registered", quoted(name));
    RequestError::new(Code::InvalidArgument, message)
}
