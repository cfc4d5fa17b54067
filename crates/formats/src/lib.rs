//! Model files to models: finds the file, reads it, checks it, builds the kernels.
//!
//! [`locate`] finds the model file by KServe's rules, [`load`] makes a [`Model`](coracle_model::Model) of it.
//! Loading executes nothing of the file's author. A file that holds anything Coracle cannot serve with the
//! reference library's own numbers is refused here, with a message that names it. Each library has its module: `sklearn`, `xgboost`, `lightgbm`,
//! `catboost`. `triton` reads the `config.pbtxt` that may lie beside a model, `beside` what says
//! that a graph is one of texts.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

mod beside;
mod catboost;
mod coded;
mod columns_model;
mod document;
mod kind;
mod lightgbm;
mod load;
mod locate;
mod mlflow;
mod numbers;
mod onnx;
mod size;
mod sklearn;
mod tabular;
mod triton;
mod xgboost;

pub use beside::{files_beside, variants};
pub use load::{LoadOptions, Loaded, Phases, load, load_bytes, load_graph_on};
pub use locate::{ModelFile, ModelVersions, locate, locate_all, locate_versions, versions_at};
pub use mlflow::mlflow_example;
pub use size::bytes_to_read;
pub use triton::{TritonBatching, TritonConfig, TritonQueue, TritonTensor, TritonVersions};
