//! The operators. [`registry`] finds them; each module holds a family.

pub(crate) mod elementwise;
pub(crate) mod layout;
pub(crate) mod matrix;
pub(crate) mod ml;
pub(crate) mod post;
pub(crate) mod reduce;
pub(crate) mod registry;
pub(crate) mod text;
pub(crate) mod values;

pub(crate) use layout::axes as layout_axes;
