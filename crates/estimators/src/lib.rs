//! Estimators over tables, as scikit-learn defines them: heads, linear scores, preprocessing, pipelines.
//!
//! Nothing here reads files: `coracle-formats` builds these from fitted attributes through the `try_new`
//! constructors, which check that lengths agree. Tree kernels live in `coracle-forest`; [`Classifier`] and
//! [`Regressor`] take any [`Scorer`](coracle_model::Scorer).

mod boosted;
mod categorical;
mod categories;
mod category_codes;
mod category_features;
mod centers;
mod chain;
mod classifier;
mod column_imputer;
mod column_transformer;
mod columnwise;
mod date_time;
mod deviation;
mod faceted;
mod factors;
mod gaussian;
mod imputation;
mod imputer;
mod initial;
mod isotonic;
mod kernel;
mod keyed;
mod labels;
mod linalg;
mod linear;
mod link;
mod manifold;
mod metric;
mod neighbors;
mod network;
mod one_hot;
mod ordinal;
mod outputs;
mod pipeline;
mod pooling;
mod process;
mod projection;
mod regressor;
mod rowwise;
mod rules;
mod scaler;
mod sketch;
mod spec_error;
mod special;
mod spline;
mod svm;
mod table;
mod table_fn;
mod text;
mod value_encoder;

pub use boosted::{
    Boosted, BoostedAnswer, BoostedLinear, BoostedLink, BoostedMissing, BoostedPrecision,
    BoostedSpec, ClassRule,
};
pub use categorical::CategoryScores;
pub use categories::{Categories, Category, shown_names};
pub use category_codes::WithCodes;
pub use category_features::{
    AboveBorder, CategoryFeatures, Combination, Indicator, Statistic, StatisticCounts,
    StatisticKind, StatisticTable, WithCategories,
};
pub use centers::{CenterAnswer, Centers, ClusterNode, ClusterTree};
pub use chain::{Chain, ColumnAffine, Constant};
pub use classifier::{Classifier, Decision};
pub use column_imputer::{ColumnImputer, Fill, ImputedColumn, Marker};
pub use column_transformer::{Block, BlockAction, ColumnTransformer};
pub use columnwise::{BinEncoding, ColumnOperation, Columnwise, Distribution};
pub use date_time::DateTime;
pub use deviation::LinearDeviation;
pub use faceted::{Choice, Facet, Faceted};
pub use factors::{FactorRule, Factors, Lasso, LeastAngles, Multiplicative, UpdatesEnd};
pub use gaussian::{Factor, GaussianSpec, Gaussians, LogNormalized, LogSum};
pub use imputation::{
    ImputationStep, IterativeImputer, IterativeImputerSpec, KnnImputer, KnnImputerSpec,
    MissingIndicator,
};
pub use imputer::{ImputerSpec, MissingMarker, SimpleImputer};
pub use initial::{Initial, InitialLink, InitialScorer, ProbabilityMargin};
pub use isotonic::{Isotonic, OutOfBounds};
pub use kernel::{Kernel, KernelMap, KernelMapSpec};
pub use keyed::{Keyed, KeyedColumn};
pub use labels::Labels;
pub use linalg::{inverse, multiply, solve};
pub use linear::LinearScorer;
pub use link::Link;
pub use manifold::{CenteredSimilarities, Density, DensityKernel, NeighborMap, NeighborMaps};
pub use metric::{Metric, TruthMetric};
pub use neighbors::{
    LocalOutliers, NeighborAnswer, NeighborWeights, Neighborhood, Neighbors, Outlier, Reach,
};
pub use network::{Activation, Layer, Network};
pub use one_hot::{OneHotColumn, OneHotEncoder, Reading, Unknown};
pub use ordinal::{OrdinalColumn, OrdinalScorer};
pub use outputs::Padded;
pub use pipeline::{Pipeline, Step};
pub use pooling::{Pool, Pooled};
pub use process::{Covariance, Prior, Process, ProcessAnswer, Smoothness};
pub use projection::{Projection, ProjectionSpec};
pub use regressor::{InverseLink, Regressor};
pub use rowwise::{Norm, Products, RowOperation, Rowwise, Unary};
pub use rules::{RowRule, Rule, ZeroSum};
pub use scaler::{Scaler, ScalerStep};
pub use sketch::{Indicators, KernelSketch, SketchPlace};
pub use spec_error::SpecError;
pub use special::digamma;
pub use spline::{ColumnSplines, Extrapolation, Splines};
pub use svm::{PairRule, Pairs, Squeeze, Svm, SvmSpec};
pub use table_fn::{
    ClassIndexOf, Composed, Linked, Mapped, MethodOf, Pointwise, Selected, SideBySide, TableFn,
};
pub use text::{
    Accents, Analyzer, HashedColumns, StopWords, TermNorm, TermWeighter, TermWeights, Terms,
    TokenPattern, Unit, Vectorizer,
};
pub use value_encoder::{LabelEncoder, ValueColumn, ValueEncoder};
