//! Where a version of a model is in its life.

/// Where a version of a model is in its life, in TensorFlow Serving's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionState {
    /// It will be loaded.
    Start,
    /// It is being loaded.
    Loading,
    /// It answers requests.
    Available,
    /// It takes no more requests; some that it has are not answered yet.
    Unloading,
    /// It is gone, or did not load.
    End,
}
