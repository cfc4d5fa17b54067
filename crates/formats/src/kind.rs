//! What a file is, told by its first bytes: names and endings are not believed.

use crate::{catboost, lightgbm, onnx, xgboost};

/// The kinds of files that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A pickle or joblib file, also compressed; whatever is nothing else.
    Pickle,
    /// A JSON text.
    Json,
    /// A UBJSON document.
    Ubjson,
    /// XGBoost's old binary form.
    XgboostBinary,
    /// LightGBM's text.
    LightgbmText,
    /// CatBoost's binary form.
    CatboostBinary,
    /// A zip archive: a skops file or nothing that is read.
    Zip,
    /// An ONNX graph.
    Onnx,
}

/// Returns the kind of a file.
pub(crate) fn of(bytes: &[u8]) -> FileKind {
    let text = bytes.trim_ascii_start();
    if xgboost::is_ubjson(bytes) {
        FileKind::Ubjson
    } else if text.starts_with(b"{") {
        FileKind::Json
    } else if bytes.starts_with(b"PK\x03\x04") {
        FileKind::Zip
    } else if catboost::is_binary(bytes) {
        FileKind::CatboostBinary
    } else if lightgbm::is_text(bytes) {
        FileKind::LightgbmText
    } else if onnx::is_onnx(bytes) {
        FileKind::Onnx
    } else if xgboost::is_legacy(bytes) {
        FileKind::XgboostBinary
    } else {
        FileKind::Pickle
    }
}

/// The keys with which the JSON of a model begins.
const FIRST_KEYS: [&str; 3] = ["learner", "features_info", "ctr_data"];

/// Tells whether the beginning of a file is that of a model of boosted trees.
pub(crate) fn begins_as_model(head: &[u8]) -> bool {
    match of(head) {
        FileKind::Pickle | FileKind::Zip => false,
        FileKind::Ubjson
        | FileKind::XgboostBinary
        | FileKind::LightgbmText
        | FileKind::CatboostBinary
        | FileKind::Onnx => true,
        FileKind::Json => {
            let text: String = String::from_utf8_lossy(head).split_whitespace().collect();
            let begins = |key: &&str| text.starts_with(&format!("{{\"{key}\":"));
            FIRST_KEYS.iter().any(begins)
        }
    }
}
