//! scikit-learn estimators, from the graph of a pickle or of a skops file; and those of XGBoost among or without them.
//!
//! One file per family; [`convert`] dispatches on the class. Attribute names, layouts and how releases differ
//! are facts of scikit-learn's own source, releases 0.18 to 1.9.

mod arrays;
mod bayes;
mod boosted;
mod boosting;
mod categories;
mod clustering;
mod column_imputer;
mod columns;
mod convert;
mod dates;
mod decomposition;
mod describe;
mod discriminant;
mod dummy;
mod encoders;
mod ensembles;
mod factorization;
mod fitted;
mod functions;
mod globals;
mod hashed;
mod hist_boosting;
mod imbalanced;
mod importance;
mod imputation;
mod isolation;
mod keyed;
mod labels;
mod linear;
mod manifold;
mod names;
mod neighbors;
mod network;
mod nones;
mod numbers;
mod numeric;
mod objects;
mod older;
mod older_columns;
mod older_encoders;
mod pipeline;
mod preprocessing;
mod process;
mod renames;
mod selection;
mod sketches;
mod sparsity;
mod svm;
mod text;
mod transformers;
mod tree;
mod version;
mod wrappers;

use std::sync::LazyLock;

use coracle_model::{Component, Estimator, LoadError};
use coracle_pickle::{ClassTable, Graph, Limits};

use version::Version;

static TABLE: LazyLock<ClassTable> =
    LazyLock::new(|| ClassTable::new(globals::GLOBALS).with_renames(renames::MODULES));

/// A converted estimator with what belongs to it.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) estimator: Box<dyn Estimator>,
    pub(crate) feature_names: Option<Vec<String>>,
    pub(crate) component: Component,
    /// The library that wrote the estimator, and its release where the file records it.
    pub(crate) library: &'static str,
    pub(crate) version: Option<String>,
}

/// Reads a file that may hold scikit-learn's classes.
///
/// # Errors
/// Those of [`coracle_pickle::read`].
pub(crate) fn read(bytes: &[u8]) -> Result<Graph, coracle_pickle::Error> {
    coracle_pickle::read(bytes, &TABLE, &Limits::default())
}

/// Reads a skops file that may hold scikit-learn's classes.
///
/// # Errors
/// Those of [`coracle_pickle::read_skops`].
pub(crate) fn read_skops(bytes: &[u8]) -> Result<Graph, coracle_pickle::Error> {
    coracle_pickle::read_skops(bytes, &TABLE, &Limits::default())
}

/// Converts the value of a file; the object called `object`, where it holds several.
///
/// # Errors
/// Kind `Unsupported` for what is not served, naming it and its place; `Malformed` where attributes contradict
/// each other.
pub(crate) fn convert(graph: &Graph, object: Option<&str>) -> Result<Converted, LoadError> {
    convert::root(graph, object)
}
