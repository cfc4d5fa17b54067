//! Files written by scikit-learn, against scikit-learn's own answers; files that must be refused.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as expected"
)]

#[path = "../../../pickle/tests/skops/archive.rs"]
mod archive;
mod boosted;
mod columns;
mod damage;
mod fixture;
mod formats_page;
mod golden;
mod locate;
mod mlflow;
mod objects;
mod onnx;
mod refused;
mod seen;
mod skops;
