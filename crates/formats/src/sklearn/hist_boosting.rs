//! Histogram gradient boosting, with categories and missing values.

use coracle_estimators::{
    Block, BlockAction, Category, Classifier, ColumnTransformer, Decision, InverseLink, Link,
    OrdinalColumn, OrdinalScorer, Pipeline, Regressor, Step,
};
use coracle_forest::{Categories, ForestSpec, NodeSpec, Precision, SplitRule, Target, TreeSpec};
use coracle_model::{Estimator, LoadError, Scorer, Width};
use coracle_pickle::{Array, NodeId};

use super::convert::Part;
use super::fitted::Fitted;
use super::labels::labels;
use super::nones::{self, NoneIs};
use super::{categories, encoders, tree};

/// Converts a histogram gradient boosting classifier.
pub(super) fn classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let losses = [
        "log_loss",
        "auto",
        "binary_crossentropy",
        "categorical_crossentropy",
    ];
    let loss = fitted.text("loss")?;
    if !losses.contains(&loss.as_str()) {
        return Err(fitted.unsupported(format!("loss '{loss}' is not supported")));
    }
    let (link, n_scores) = match labels.len() {
        2 => (Link::Sigmoid, 1),
        n_classes => (Link::Softmax, n_classes),
    };
    // Before 1.5 probabilities are compared, from then on scores; both prefer the first class on a tie.
    let decision = if fitted.version.is_from(5) {
        Decision::ScoreAboveZero
    } else {
        Decision::LargestProbability
    };
    let Kernel {
        scorer,
        encoder,
        facts,
        nones,
    } = kernel(fitted, n_scores, Some(labels.len()))?;
    let classifier = Classifier::try_new(scorer, Some(link), decision, labels)
        .map_err(|error| fitted.malformed(error.to_string()))?;
    part(fitted, encoder, classifier.without_log_proba(), facts).map(|part| part.with_nones(nones))
}

/// Converts a histogram gradient boosting regressor.
pub(super) fn regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let inverse_link = match fitted.text("loss")?.as_str() {
        "squared_error"
        | "least_squares"
        | "absolute_error"
        | "least_absolute_deviation"
        | "quantile" => InverseLink::Identity,
        "poisson" | "gamma" => InverseLink::Exponential,
        loss => return Err(fitted.unsupported(format!("loss '{loss}' is not supported"))),
    };
    let Kernel {
        scorer,
        encoder,
        facts,
        nones,
    } = kernel(fitted, 1, None)?;
    let regressor = Regressor::new(scorer, inverse_link, Width::Scalar);
    part(fitted, encoder, regressor, facts).map(|part| part.with_nones(nones))
}

/// Puts an encoder of texts before an estimator, if there is one.
fn part(
    fitted: &Fitted<'_>,
    encoder: Option<ColumnTransformer>,
    estimator: impl Estimator + 'static,
    facts: Vec<(String, String)>,
) -> Result<Part, LoadError> {
    let Some(encoder) = encoder else {
        return Ok(Part::new(estimator, facts));
    };
    let step = |name: &str, estimator: Box<dyn Estimator>| Step {
        name: name.to_owned(),
        estimator,
    };
    let encoder = step("categories", Box::new(encoder));
    let pipeline = Pipeline::try_new(vec![encoder], step("trees", Box::new(estimator)))
        .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part::new(pipeline, facts))
}

/// The trees, and what comes before them.
struct Kernel {
    scorer: Box<dyn Scorer>,
    /// Gives the scorer its table, where that is not the user's.
    encoder: Option<ColumnTransformer>,
    facts: Vec<(String, String)>,
    /// What `None` is to the encoder of its categories.
    nones: Vec<NoneIs>,
}

/// How the user's table becomes the trees'.
enum Preparation {
    /// It is the same.
    None,
    /// Columns of numbers are rearranged and encoded.
    Numbers(Vec<OrdinalColumn>),
    /// Some columns hold texts.
    Columns(ColumnTransformer),
}

fn kernel(
    fitted: &Fitted<'_>,
    n_scores: usize,
    n_classes: Option<usize>,
) -> Result<Kernel, LoadError> {
    if fitted.version.is_up_to_zero(21) {
        return Err(fitted.unsupported("files of 0.21, where it was new, are not supported"));
    }
    let (_, base) = fitted.numbers("_baseline_prediction")?;
    if base.len() != n_scores {
        let message = format!("{} baseline predictions for {n_scores} scores", base.len());
        return Err(fitted.malformed(message));
    }
    let known = known_categories(fitted)?;
    let mut trees = Vec::new();
    for (iteration, &per_score) in fitted.list("_predictors")?.iter().enumerate() {
        let place = format!("_predictors[{iteration}]");
        let predictors = fitted
            .graph
            .list(per_score)
            .filter(|list| list.len() == n_scores);
        let predictors = predictors.ok_or_else(|| {
            fitted.malformed(format!("{place} does not hold {n_scores} predictors"))
        })?;
        for (score, &predictor) in predictors.iter().enumerate() {
            let predictor = fitted.part(predictor, &format!("{place}[{score}]"))?;
            trees.push(read_predictor(&predictor, &known, score)?);
        }
    }
    let n_features = fitted.n_features()?;
    let mut nones = vec![NoneIs::Missing; n_features];
    let preparation = match fitted.version.is_from(2) {
        true => encoded_columns(fitted, &mut nones)?,
        false => truncated_columns(&known).map_or(Preparation::None, Preparation::Numbers),
    };
    let spec = ForestSpec {
        n_features: match &preparation {
            Preparation::Numbers(columns) => columns.len(),
            Preparation::None | Preparation::Columns(_) => n_features,
        },
        n_scores,
        precision: Precision::Double,
        summation: Precision::Double,
        base,
        divisor: None,
        accepts_missing: true,
        accepts_infinite: true,
        trees,
    };
    let forest = tree::compile(fitted, spec)?;
    let facts = tree::facts(&forest, n_classes);
    let (scorer, encoder): (Box<dyn Scorer>, _) = match preparation {
        Preparation::None => (Box::new(forest), None),
        Preparation::Columns(encoder) => (Box::new(forest), Some(encoder)),
        Preparation::Numbers(columns) => {
            let scorer = OrdinalScorer::try_new(n_features, columns, Box::new(forest));
            let scorer = scorer.map_err(|error| fitted.malformed(error.to_string()))?;
            (Box::new(scorer), None)
        }
    };
    Ok(Kernel {
        scorer,
        encoder,
        facts,
        nones,
    })
}

/// A set of categories for every feature that has them.
type KnownCategories = Vec<Option<[u32; 8]>>;

/// Reads the bin mapper's categories; a predictor sends those it does not know where missing values go.
fn known_categories(fitted: &Fitted<'_>) -> Result<KnownCategories, LoadError> {
    if fitted.version.is_up_to_zero(23) {
        // There were none, and the mapper had another name.
        return Ok(Vec::new());
    }
    let mapper = fitted.part_in("_bin_mapper")?;
    if mapper.is_none("is_categorical_") {
        return Ok(Vec::new());
    }
    let flags = mapper.array("is_categorical_")?.to_i64s();
    let flags = flags
        .ok_or_else(|| mapper.malformed("'is_categorical_' is not an array of truth values"))?;
    let thresholds = mapper.list("bin_thresholds_")?;
    if flags.len() != thresholds.len() {
        return Err(mapper.malformed("'is_categorical_' and 'bin_thresholds_' differ in length"));
    }
    let sets = flags.iter().zip(thresholds).map(|(&is_categorical, &id)| {
        if is_categorical == 0 {
            return Ok(None);
        }
        let array = fitted.graph.array(id).and_then(Array::to_f64s);
        let categories = array.ok_or_else(|| mapper.malformed("categories are not numbers"))?;
        let mut set = [0_u32; 8];
        for category in categories {
            insert(&mut set, category).ok_or_else(|| {
                mapper.malformed(format!("category {category} is not in 0 to 255"))
            })?;
        }
        Ok(Some(set))
    });
    sets.collect()
}

/// Adds a category to a set of 256; `None` if it is out of range.
fn insert(set: &mut [u32; 8], category: f64) -> Option<()> {
    if !(0.0..256.0).contains(&category) {
        return None;
    }
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in 0..256"
    )]
    let category = category as u8;
    let word = set.get_mut(usize::from(category >> 5))?;
    *word |= 1_u32.checked_shl(u32::from(category & 31))?;
    Some(())
}

/// The node array's fields, by column.
struct PredictorColumns {
    value: Vec<f64>,
    feature: Vec<i64>,
    threshold: Vec<f64>,
    missing_left: Vec<i64>,
    left: Vec<i64>,
    right: Vec<i64>,
    is_leaf: Vec<i64>,
    is_categorical: Vec<i64>,
    bitset: Vec<i64>,
}

impl PredictorColumns {
    fn read(predictor: &Fitted<'_>) -> Result<Self, LoadError> {
        let nodes = predictor.array("nodes")?;
        let wrong =
            |name: &str| predictor.malformed(format!("nodes have no field '{name}' of numbers"));
        let field = |name: &str| nodes.field(name).ok_or_else(|| wrong(name));
        let integers = |name: &str| field(name)?.to_i64s().ok_or_else(|| wrong(name));
        let numbers = |name: &str| field(name)?.to_f64s().ok_or_else(|| wrong(name));
        // Up to 0.23 there were no categories.
        let is_older = predictor.version.is_up_to_zero(23);
        let categories = |name: &str| match is_older {
            true => integers("left").map(|left| vec![0; left.len()]),
            false => integers(name),
        };
        Ok(Self {
            value: numbers("value")?,
            feature: integers("feature_idx")?,
            threshold: match nodes.field("num_threshold") {
                None if is_older => numbers("threshold")?,
                _ => numbers("num_threshold")?,
            },
            missing_left: integers("missing_go_to_left")?,
            left: integers("left")?,
            right: integers("right")?,
            is_leaf: integers("is_leaf")?,
            is_categorical: categories("is_categorical")?,
            bitset: categories("bitset_idx")?,
        })
    }

    /// Returns the integers of one split, in `u32`.
    fn get(&self, predictor: &Fitted<'_>, column: &[i64], index: usize) -> Result<u32, LoadError> {
        let value = column
            .get(index)
            .and_then(|&value| u32::try_from(value).ok());
        value
            .ok_or_else(|| predictor.malformed(format!("node {index} holds an index out of range")))
    }
}

fn read_predictor(
    predictor: &Fitted<'_>,
    known: &KnownCategories,
    score: usize,
) -> Result<TreeSpec, LoadError> {
    let columns = PredictorColumns::read(predictor)?;
    let bitsets = match predictor.is_none("raw_left_cat_bitsets") {
        true => Vec::new(),
        false => read_bitsets(predictor)?,
    };
    let mut nodes = Vec::with_capacity(columns.value.len());
    for (index, is_leaf) in columns.is_leaf.iter().enumerate() {
        if *is_leaf != 0 {
            nodes.push(NodeSpec::Leaf);
            continue;
        }
        let feature = columns.get(predictor, &columns.feature, index)?;
        let is_categorical = columns.get(predictor, &columns.is_categorical, index)? != 0;
        let rule = if is_categorical {
            let bitset = columns.get(predictor, &columns.bitset, index)?;
            let lookup = |place: u32| usize::try_from(place).ok();
            let left = lookup(bitset)
                .and_then(|bitset| bitsets.get(bitset))
                .copied();
            let known = lookup(feature)
                .and_then(|feature| known.get(feature))
                .copied()
                .flatten();
            let (Some(left), Some(known)) = (left, known) else {
                return Err(
                    predictor.malformed(format!("node {index}: its categories are missing"))
                );
            };
            SplitRule::Categories(Box::new(Categories { left, known }))
        } else {
            SplitRule::LessOrEqual(columns.threshold.get(index).copied().unwrap_or(f64::NAN))
        };
        nodes.push(NodeSpec::Split {
            feature,
            rule,
            missing_left: columns.get(predictor, &columns.missing_left, index)? != 0,
            left: columns.get(predictor, &columns.left, index)?,
            right: columns.get(predictor, &columns.right, index)?,
        });
    }
    Ok(TreeSpec {
        nodes,
        values: columns.value,
        target: Target::OneScore(score),
    })
}

fn read_bitsets(predictor: &Fitted<'_>) -> Result<Vec<[u32; 8]>, LoadError> {
    let array = predictor.array("raw_left_cat_bitsets")?;
    let wrong = || predictor.malformed("'raw_left_cat_bitsets' is not an array of 8 words a row");
    if !matches!(array.shape(), [_, 8]) {
        return Err(wrong());
    }
    let words: Option<Vec<u32>> = array.to_i64s().and_then(|words| {
        words
            .into_iter()
            .map(|word| u32::try_from(word).ok())
            .collect()
    });
    let words = words.ok_or_else(wrong)?;
    words
        .chunks_exact(8)
        .map(|row| <[u32; 8]>::try_from(row).map_err(|_wrong_length| wrong()))
        .collect()
}

/// Reads the encoder of categories (1.4 and later): the trees' columns in terms of the user's.
///
/// The encoded columns come first, the others follow, each group in the user's order. Into `nones`, one per column of the user, goes what
/// `None` is to the encoder.
fn encoded_columns(fitted: &Fitted<'_>, nones: &mut [NoneIs]) -> Result<Preparation, LoadError> {
    let n_features = nones.len();
    if fitted.is_none("_preprocessor") {
        return Ok(Preparation::None);
    }
    let preprocessor = fitted.part_in("_preprocessor")?;
    let mut columns = Vec::new();
    let mut blocks = Vec::new();
    let mut has_texts = false;
    for &entry in preprocessor.list("transformers_")? {
        let Some(&[name, transformer, selection]) = preprocessor.graph.list(entry) else {
            return Err(preprocessor.malformed("'transformers_' holds something else than triples"));
        };
        let selected = selected_columns(&preprocessor, selection, n_features)?;
        let action = match preprocessor.graph.str(name) {
            Some("encoder") => {
                let encoder = preprocessor.part(transformer, "encoder")?;
                nones::merge(nones, &selected, &nones::of_encoder(&encoder));
                has_texts = encodes_texts(&encoder)?;
                if has_texts {
                    BlockAction::Transform(Box::new(encoders::ordinal_encoder(&encoder)?.0))
                } else {
                    columns.extend(encoded(&encoder, &selected)?);
                    BlockAction::Passthrough
                }
            }
            Some("numerical") => {
                let same = selected.iter();
                columns.extend(same.map(|&column| OrdinalColumn::Same { column }));
                BlockAction::Passthrough
            }
            // Every column is one or the other, so nothing remains.
            Some("remainder") if selected.is_empty() => continue,
            _ => {
                return Err(preprocessor.unsupported("has a transformer other than its own two"));
            }
        };
        if !selected.is_empty() {
            blocks.push(Block {
                name: preprocessor.graph.str(name).unwrap_or_default().to_owned(),
                columns: selected,
                action,
                weight: None,
            });
        }
    }
    if !has_texts {
        return Ok(Preparation::Numbers(columns));
    }
    let names = fitted.feature_names()?;
    let encoder = ColumnTransformer::try_new(n_features, blocks, names.as_deref(), &[]);
    let encoder = encoder.map_err(|error| preprocessor.malformed(error.to_string()))?;
    Ok(Preparation::Columns(encoder))
}

/// Tells whether an encoder's categories are texts, or dates written as texts, in some column.
fn encodes_texts(encoder: &Fitted<'_>) -> Result<bool, LoadError> {
    let columns = categories::per_column(encoder)?;
    let mut all = columns.iter().flatten();
    Ok(all.any(|category| matches!(category, Category::Text(_) | Category::Date(_))))
}

/// Returns the columns of a model of release 1.0 or 1.1, which cuts a value toward zero before it asks whether that is
/// negative, so that -0.5 is category 0; `None` if no column has categories.
fn truncated_columns(known: &KnownCategories) -> Option<Vec<OrdinalColumn>> {
    known.iter().any(Option::is_some).then(|| {
        let columns = known.iter().enumerate();
        columns
            .map(|(column, categories)| match categories {
                Some(_) => OrdinalColumn::Truncated { column },
                None => OrdinalColumn::Same { column },
            })
            .collect()
    })
}

fn selected_columns(
    preprocessor: &Fitted<'_>,
    selection: NodeId,
    n_features: usize,
) -> Result<Vec<usize>, LoadError> {
    let graph = preprocessor.graph;
    let flags = match graph.list(selection) {
        Some(ids) => ids.iter().map(|&id| graph.bool(id)).collect(),
        None => graph.array(selection).and_then(Array::to_bools),
    };
    let flags = flags.filter(|flags: &Vec<bool>| flags.len() == n_features);
    let flags = flags
        .ok_or_else(|| preprocessor.unsupported("selects columns other than by truth values"))?;
    let selected = flags.iter().enumerate().filter(|(_, flag)| **flag);
    Ok(selected.map(|(column, _)| column).collect())
}

fn encoded(encoder: &Fitted<'_>, selected: &[usize]) -> Result<Vec<OrdinalColumn>, LoadError> {
    let lists = encoder.list("categories_")?;
    if lists.len() != selected.len() {
        return Err(encoder.malformed("'categories_' and the encoded columns differ in number"));
    }
    let columns = selected.iter().zip(lists).map(|(&column, &list)| {
        let array = encoder.graph.array(list);
        if let Some(array) = array {
            categories::check_integers(encoder, array)?;
        }
        let categories = array.and_then(Array::to_f64s);
        let categories =
            categories.ok_or_else(|| encoder.malformed("'categories_' are not numbers"))?;
        Ok(OrdinalColumn::Position { column, categories })
    });
    columns.collect()
}
