//! Tree ensembles: validation, compact layouts, and the kernels that walk them.
//!
//! [`Forest::try_new`] takes trees as a file describes them ([`ForestSpec`]), checks everything and compiles
//! them to the layout that suits their size: interval tables (`interval`) for small forests, ranks (`ranked`) for trees of up
//! to 256 leaves, traversal (`traversal`) for all others. Every kernel gives the same bits: leaves are added in tree order, in the
//! precision that the specification names. Knows no file format.
//!
//! This crate alone may use `unsafe`: reads without bounds checks that the validation has made sound, and
//! calls of functions compiled for processor features found at run time.
#![allow(unsafe_code)]

mod forest;
mod instructions;
mod interval;
mod leaves;
mod linear_leaves;
mod ranked;
mod spec;
mod traversal;
mod tree;

pub use forest::{Forest, Kernel};
pub use linear_leaves::{EarlyStop, LinearForest, LinearLeaf};
pub use spec::{
    Categories, ForestError, ForestSpec, Members, NodeSpec, Precision, SplitRule, Target, TreeSpec,
};
