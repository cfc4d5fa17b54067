//! What callers know about the lists and maps of their objects.

/// What a schema says about the lists and maps at a path.
///
/// A path is the names of fields from the root; an item of a list is `[]`.
pub trait Topology {
    /// Returns how the list at `path` is merged.
    fn list(&self, path: &[&str]) -> ListKind;

    /// Returns whether the map at `path` has one owner as a whole.
    fn is_atomic_map(&self, path: &[&str]) -> bool;
}

/// How a list is merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// It has one owner as a whole.
    Atomic,
    /// Each of its (scalar) items has owners of its own.
    Set,
    /// Its items are objects, each known by the values of some fields.
    Map {
        /// The fields.
        keys: Vec<String>,
    },
}

/// The path element of list items in [`Topology`]'s paths.
pub(crate) const ITEM: &str = "[]";
