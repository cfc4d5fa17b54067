//! Estimators over tables of numbers, as scikit-learn defines them: heads, linear scores, preprocessing, pipelines.
//!
//! Nothing here reads files: `coracle-formats` builds these from fitted attributes through the `try_new`
//! constructors, which check that lengths agree. Tree kernels live in `coracle-forest`; [`Classifier`] and
//! [`Regressor`] take any [`Scorer`](coracle_model::Scorer).

mod boosted;
mod classifier;
mod faceted;
mod imputer;
mod initial;
mod isotonic;
mod kernel;
mod labels;
mod linear;
mod link;
mod ordinal;
mod pipeline;
mod regressor;
mod scaler;
mod spec_error;
mod svm;
mod table;
mod table_fn;

pub use boosted::{
    Boosted, BoostedAnswer, BoostedLinear, BoostedLink, BoostedMissing, BoostedPrecision,
    BoostedSpec, ClassRule,
};
pub use classifier::{Classifier, Decision};
pub use faceted::{Choice, Facet, Faceted};
pub use imputer::{ImputerSpec, MissingMarker, SimpleImputer};
pub use initial::{Initial, InitialLink, InitialScorer, ProbabilityMargin};
pub use isotonic::{Isotonic, OutOfBounds};
pub use kernel::Kernel;
pub use labels::Labels;
pub use linear::LinearScorer;
pub use link::Link;
pub use ordinal::{OrdinalColumn, OrdinalScorer};
pub use pipeline::{Pipeline, Step};
pub use regressor::{InverseLink, Regressor};
pub use scaler::{Scaler, ScalerStep};
pub use spec_error::SpecError;
pub use svm::{PairRule, Pairs, Svm, SvmSpec};
pub use table_fn::{
    ClassIndexOf, Composed, Linked, Mapped, MethodOf, Pointwise, Selected, SideBySide, TableFn,
};
