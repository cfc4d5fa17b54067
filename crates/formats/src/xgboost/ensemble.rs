//! What an XGBoost file holds, from a JSON or UBJSON document.

use coracle_estimators::Category;
use coracle_forest::{Target, TreeSpec};
use coracle_model::LoadError;

use super::{categories, malformed, tree, unsupported};
use crate::document::{Document, Entry, parse_json, parse_ubjson, quoted};
use crate::numbers::to_single;

/// The most scores per row; more than any real model has.
const GROUPS_MAX: usize = 1 << 16;

/// A model as XGBoost stores it.
#[derive(Debug)]
pub(crate) struct Ensemble {
    pub(crate) version: Option<String>,
    pub(crate) objective: String,
    /// One for all scores, or one for each.
    pub(super) base_scores: Vec<f32>,
    pub(crate) n_features: usize,
    /// The number of scores per row: of classes, or of targets.
    pub(crate) n_groups: usize,
    pub(crate) booster: Booster,
    attributes: Vec<(String, String)>,
    pub(crate) feature_names: Option<Vec<String>>,
    /// For each feature its categories, where the file has other ones than codes.
    pub(super) categories: Vec<Option<Vec<Category>>>,
}

/// The model of an ensemble.
#[derive(Debug)]
pub(crate) enum Booster {
    Trees(Trees),
    /// `(n_features + 1, n_groups)` weights, row-major; the last row holds the biases.
    Linear(Vec<f32>),
}

/// The trees of an ensemble, in the order of training.
#[derive(Debug)]
pub(crate) struct Trees {
    pub(super) trees: Vec<TreeSpec>,
    /// Whether their leaves were scaled (dart).
    pub(super) is_weighted: bool,
    /// Where each iteration's trees begin, and where the last one's end; empty in files of old releases.
    pub(super) iteration_starts: Vec<usize>,
    pub(super) n_parallel: usize,
}

impl Booster {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Trees(trees) if trees.is_weighted => "dart",
            Self::Trees(_) => "gbtree",
            Self::Linear(_) => "gblinear",
        }
    }
}

impl Trees {
    /// Returns the trees of the first `n_iterations`, all of them if `None`.
    pub(super) fn of_iterations(
        &self,
        n_iterations: Option<usize>,
        n_groups: usize,
    ) -> Result<Vec<TreeSpec>, LoadError> {
        let Some(n_iterations) = n_iterations else {
            return Ok(self.trees.clone());
        };
        let is_vector =
            matches!(self.trees.first(), Some(tree) if tree.target == Target::AllScores);
        let n_groups = if is_vector { 1 } else { n_groups };
        let n_trees = match self.iteration_starts.get(n_iterations) {
            Some(&n_trees) => Some(n_trees),
            None if self.iteration_starts.is_empty() => n_iterations
                .checked_mul(self.n_parallel)
                .and_then(|n_trees| n_trees.checked_mul(n_groups)),
            None => None,
        };
        let trees = n_trees.and_then(|n_trees| self.trees.get(..n_trees));
        let wrong = || {
            malformed(format!(
                "the best iteration is {n_iterations}, there are fewer"
            ))
        };
        trees.map(<[TreeSpec]>::to_vec).ok_or_else(wrong)
    }
}

impl Ensemble {
    /// Reads JSON or UBJSON, which the first bytes tell apart.
    ///
    /// # Errors
    /// As [`Ensemble::read`], and `Malformed` if the bytes are no sound document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let document = match is_ubjson(bytes) {
            true => parse_ubjson(bytes)?,
            false => parse_json(bytes)?,
        };
        Self::read(&Entry::root(&document))
    }

    /// Reads a model document; that of a pickled booster, which holds it beside its configuration, too.
    ///
    /// # Errors
    /// Kind `Unsupported` for a booster that is not known, `Malformed` where something is missing.
    pub(crate) fn read(root: &Entry<'_>) -> Result<Self, LoadError> {
        if let Some(model) = root.find("Model") {
            let mut ensemble = Self::read(&model)?;
            if let (Some(n_parallel), Booster::Trees(trees)) =
                (configured_parallel(root)?, &mut ensemble.booster)
            {
                trees.n_parallel = n_parallel;
            }
            return Ok(ensemble);
        }
        let learner = root.field("learner")?;
        let parameters = learner.field("learner_model_param")?;
        let count = |key: &str| match parameters.find(key) {
            Some(entry) => entry.count(),
            None => Ok(0),
        };
        let n_groups = count("num_class")?.max(count("num_target")?).max(1);
        if n_groups > GROUPS_MAX {
            return Err(parameters.malformed(format_args!("{n_groups} classes or targets")));
        }
        let n_features = count("num_feature")?;
        let booster = learner.field("gradient_booster")?;
        Ok(Self {
            version: version(root),
            objective: learner
                .field("objective")?
                .field("name")?
                .text()?
                .to_owned(),
            base_scores: base_scores(&parameters)?,
            n_features,
            n_groups,
            booster: read_booster(&booster, n_features, n_groups)?,
            attributes: attributes(&learner)?,
            categories: categories::read(&booster, n_features)?,
            feature_names: feature_names(&learner)?,
        })
    }

    pub(super) fn from_legacy(legacy: super::legacy::Legacy) -> Result<Self, LoadError> {
        if legacy.n_groups > GROUPS_MAX {
            return Err(malformed(format!("{} classes or targets", legacy.n_groups)));
        }
        Ok(Self {
            version: legacy.version,
            objective: legacy.objective,
            base_scores: vec![legacy.base_score],
            n_features: legacy.n_features,
            n_groups: legacy.n_groups,
            booster: legacy.booster,
            attributes: legacy.attributes,
            feature_names: None,
            categories: Vec::new(),
        })
    }

    /// Tells whether the file is of this release or a later one, or does not say.
    pub(crate) fn is_from(&self, major: u32, minor: u32) -> bool {
        let Some(version) = &self.version else {
            return true;
        };
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }

    /// Returns an attribute that the training left in the model, such as `best_iteration`.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Returns the trees per iteration and score that the configuration names: models before 1.6 do not.
fn configured_parallel(root: &Entry<'_>) -> Result<Option<usize>, LoadError> {
    let found = root
        .find("Config")
        .and_then(|config| config.find("learner")?.find("gradient_booster"))
        .and_then(|booster| {
            booster
                .find("gbtree_train_param")?
                .find("num_parallel_tree")
        });
    found.map(|entry| entry.count()).transpose()
}

/// Tells UBJSON from JSON: after the brace comes the marker of a length, not a quote or a blank.
pub(crate) fn is_ubjson(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [b'{', b'i' | b'U' | b'I' | b'l' | b'L' | b'#' | b'$', ..]
    )
}

fn version(root: &Entry<'_>) -> Option<String> {
    let numbers = root.find("version")?.numbers().ok()?;
    let parts: Vec<String> = numbers.iter().map(f64::to_string).collect();
    Some(parts.join("."))
}

/// Reads `base_score`: a number as text, from 3.1 on a list in brackets.
fn base_scores(parameters: &Entry<'_>) -> Result<Vec<f32>, LoadError> {
    let entry = parameters.field("base_score")?;
    let text = match entry.document() {
        Document::Text(text) => text.as_str(),
        _ => return Ok(vec![to_single(entry.number()?)]),
    };
    let list = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let scores = list.unwrap_or(text).split(',');
    let scores: Result<Vec<f32>, _> = scores.map(|score| score.trim().parse()).collect();
    scores.map_err(|_unreadable| entry.malformed(format_args!("{} is no number", quoted(text))))
}

fn attributes(learner: &Entry<'_>) -> Result<Vec<(String, String)>, LoadError> {
    let Some(entry) = learner.find("attributes") else {
        return Ok(Vec::new());
    };
    let entries = entry
        .entries()?
        .iter()
        .filter_map(|(key, value)| match value {
            Document::Text(text) => Some((key.clone(), text.clone())),
            _ => None,
        });
    Ok(entries.collect())
}

fn feature_names(learner: &Entry<'_>) -> Result<Option<Vec<String>>, LoadError> {
    let Some(entry) = learner.find("feature_names") else {
        return Ok(None);
    };
    let names = entry.texts()?;
    Ok((!names.is_empty()).then_some(names))
}

fn read_booster(
    booster: &Entry<'_>,
    n_features: usize,
    n_groups: usize,
) -> Result<Booster, LoadError> {
    match booster.field("name")?.text()? {
        "gbtree" => {
            let model = booster.field("model")?;
            let weights = model.find("weight_drop");
            Ok(Booster::Trees(tree::read(&model, weights, n_groups)?))
        }
        "dart" => {
            let model = booster.field("gbtree")?.field("model")?;
            let weights = Some(booster.field("weight_drop")?);
            Ok(Booster::Trees(tree::read(&model, weights, n_groups)?))
        }
        "gblinear" => {
            let weights = booster.field("model")?.field("weights")?.numbers()?;
            let expected = n_features
                .checked_add(1)
                .and_then(|n_rows| n_rows.checked_mul(n_groups));
            if expected != Some(weights.len()) {
                return Err(booster.malformed(format_args!(
                    "{} weights for {n_features} features and {n_groups} scores",
                    weights.len()
                )));
            }
            Ok(Booster::Linear(
                weights.iter().map(|&weight| to_single(weight)).collect(),
            ))
        }
        name => Err(unsupported(format!(
            "booster {} is not supported",
            quoted(name)
        ))),
    }
}
