//! The operators of `ai.onnx.ml`.

mod encode;
mod linear;
mod maps;
mod scale;
mod svm;
mod trees;

use crate::ops::registry::{Build, Built};

/// Builds an operator of `ai.onnx.ml`; `ZipMap` is none, since its maps are made where an answer is written.
pub(crate) fn build(name: &str, build: &Build<'_, '_>) -> Option<Built> {
    Some(match name {
        "TreeEnsembleClassifier" => trees::classifier(build),
        "TreeEnsembleRegressor" => trees::regressor(build),
        "TreeEnsemble" => trees::ensemble(build),
        "LinearClassifier" => linear::classifier(build),
        "LinearRegressor" => linear::regressor(build),
        "SVMClassifier" => svm::classifier(build),
        "SVMRegressor" => svm::regressor(build),
        "Scaler" => scale::scaler(build),
        "Normalizer" => scale::normalizer(build),
        "Imputer" => scale::imputer(build),
        "Binarizer" => scale::binarizer(build),
        "FeatureVectorizer" => scale::feature_vectorizer(build),
        "ArrayFeatureExtractor" => encode::array_feature_extractor(build),
        "LabelEncoder" => encode::label_encoder(build),
        "OneHotEncoder" => encode::one_hot(build),
        "DictVectorizer" => maps::dict_vectorizer(build),
        "CastMap" => maps::cast_map(build),
        "CategoryMapper" => encode::category_mapper(build),
        _ => return None,
    })
}
