//! Moving elements without computing: shapes, slices, joins, look-ups.

mod cut;
mod lookup;
mod shape;

pub(crate) use shape::axes;

use crate::ops::registry::{Build, Built};

/// Builds an operator of this family.
pub(crate) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    shape::build(name, build)
        .or_else(|| cut::build(name, build))
        .or_else(|| lookup::build(name, build))
}
