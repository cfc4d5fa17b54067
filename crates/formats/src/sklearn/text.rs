//! Vectorizers of texts.

use std::collections::HashMap;

use coracle_estimators::{
    Accents, Analyzer, StopWords, TermNorm, TermWeighter, TermWeights, Terms, TokenPattern, Unit,
    Vectorizer,
};
use coracle_model::LoadError;
use coracle_pickle::{Node, NodeId};

use super::convert::Part;
use super::fitted::Fitted;
use super::hashed;

/// Converts a vectorizer that counts by vocabulary.
pub(super) fn count(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    by_vocabulary(fitted, TermWeights::default())
}

/// Converts a vectorizer that weights what it counts.
pub(super) fn tfidf(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let weights = term_weights(&fitted.part_in("_tfidf")?)?;
    by_vocabulary(fitted, weights)
}

fn by_vocabulary(fitted: &Fitted<'_>, weights: TermWeights) -> Result<Part, LoadError> {
    let places = vocabulary(fitted)?;
    let facts = vec![("terms".to_owned(), places.len().to_string())];
    let vectorizer = Vectorizer::try_new(
        analyzer(fitted)?,
        Terms::Vocabulary(places),
        fitted.flag("binary")?,
        weights,
    );
    let vectorizer = vectorizer.map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part::new(vectorizer, facts))
}

/// Converts a vectorizer that counts by hash.
pub(super) fn hashing(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let columns = hashed::columns(fitted)?;
    let weights = TermWeights {
        norm: norm(fitted)?,
        ..TermWeights::default()
    };
    let vectorizer = Vectorizer::try_new(
        analyzer(fitted)?,
        Terms::Hashed(columns),
        fitted.flag("binary")?,
        weights,
    )
    .map_err(|error| fitted.malformed(error.to_string()))?;
    let facts = vec![("hashed to".to_owned(), columns.n_columns().to_string())];
    Ok(Part::new(vectorizer, facts))
}

/// Converts a transformer of counts.
pub(super) fn tfidf_transformer(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let weights = term_weights(fitted)?;
    let n_features = match fitted.attr("n_features_in_") {
        Some(_) => fitted.n_features()?,
        None => weights.idf.as_ref().map_or(0, Vec::len),
    };
    let weighter = TermWeighter::try_new(n_features, weights)
        .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part::new(weighter, Vec::new()))
}

fn vocabulary(fitted: &Fitted<'_>) -> Result<HashMap<Box<str>, u32>, LoadError> {
    const NAME: &str = "vocabulary_";
    let graph = fitted.graph;
    let wrong = || fitted.malformed(format!("'{NAME}' is not a dict of terms and places"));
    let entries = graph.dict(fitted.require(NAME)?).ok_or_else(wrong)?;
    let mut places = HashMap::with_capacity(entries.len());
    for &(term, place) in entries {
        let place = graph.int(place).and_then(|place| u32::try_from(place).ok());
        let (Some(term), Some(place)) = (graph.string(term), place) else {
            return Err(wrong());
        };
        places.insert(term.into_boxed_str(), place);
    }
    Ok(places)
}

fn analyzer(fitted: &Fitted<'_>) -> Result<Analyzer, LoadError> {
    for name in ["tokenizer", "preprocessor"] {
        if !fitted.is_none(name) {
            return Err(fitted.unsupported(format!("a {name} of your own is not supported")));
        }
    }
    let input = fitted.text("input")?;
    if input != "content" {
        return Err(fitted.unsupported(format!("input '{input}' is not supported")));
    }
    let accents = match fitted.graph.node(fitted.require("strip_accents")?) {
        Node::None => Accents::Keep,
        Node::Str(text) if text.as_ref() == "unicode" && fitted.version.is_up_to_zero(21) => {
            Accents::StripComposed
        }
        Node::Str(text) if text.as_ref() == "unicode" => Accents::StripUnicode,
        Node::Str(text) if text.as_ref() == "ascii" => Accents::StripToAscii,
        _ => return Err(fitted.unsupported("this 'strip_accents' is not supported")),
    };
    let unit = match fitted.graph.str(fitted.require("analyzer")?) {
        Some("word") => Unit::Words {
            pattern: TokenPattern::try_new(&fitted.text("token_pattern")?)
                .map_err(|error| fitted.unsupported(error.to_string()))?,
            stop_words: stop_words(fitted)?,
        },
        Some("char") => Unit::Characters,
        Some("char_wb") => Unit::CharactersInWords,
        _ => return Err(fitted.unsupported("an analyzer of your own is not supported")),
    };
    let range = fitted.list("ngram_range")?;
    let length = |id: &NodeId| {
        let length = fitted.graph.int(*id);
        length.and_then(|length| usize::try_from(length).ok())
    };
    let (Some(&[low, high]), true) = (range.first_chunk::<2>(), range.len() == 2) else {
        return Err(fitted.malformed("'ngram_range' is not a pair"));
    };
    let (Some(low), Some(high)) = (length(&low), length(&high)) else {
        return Err(fitted.malformed("'ngram_range' is not a pair of counts"));
    };
    Ok(Analyzer {
        lowercase: fitted.flag("lowercase")?,
        accents,
        unit,
        lengths: low..=high,
    })
}

fn stop_words(fitted: &Fitted<'_>) -> Result<StopWords, LoadError> {
    let graph = fitted.graph;
    let wrong = || fitted.unsupported("'stop_words' that are no list of texts are not supported");
    let items = match graph.node(fitted.require("stop_words")?) {
        Node::None => return Ok(StopWords::default()),
        Node::Str(text) if text.as_ref() == "english" => return Ok(StopWords::english()),
        Node::List(items) | Node::Tuple(items) | Node::Set(items) => items,
        Node::Array(array) => {
            return match array.to_strings() {
                Some(words) => Ok(words.into_iter().collect()),
                None => array
                    .objects()
                    .and_then(|ids| ids.iter().map(|&id| graph.string(id)).collect())
                    .ok_or_else(wrong),
            };
        }
        _ => return Err(wrong()),
    };
    let words: Option<StopWords> = items.iter().map(|&item| graph.string(item)).collect();
    words.ok_or_else(wrong)
}

fn norm(fitted: &Fitted<'_>) -> Result<Option<TermNorm>, LoadError> {
    match fitted.graph.node(fitted.require("norm")?) {
        Node::None => Ok(None),
        Node::Str(text) if text.as_ref() == "l1" => Ok(Some(TermNorm::L1)),
        Node::Str(text) if text.as_ref() == "l2" => Ok(Some(TermNorm::L2)),
        _ => Err(fitted.unsupported("this 'norm' is not supported")),
    }
}

fn term_weights(fitted: &Fitted<'_>) -> Result<TermWeights, LoadError> {
    Ok(TermWeights {
        sublinear: fitted.flag("sublinear_tf")?,
        idf: match fitted.flag("use_idf")? {
            true => Some(idf(fitted)?),
            false => None,
        },
        norm: norm(fitted)?,
    })
}

/// Reads the weight of each term: an array from 1.5 on, the diagonal of a sparse matrix before.
fn idf(fitted: &Fitted<'_>) -> Result<Vec<f64>, LoadError> {
    const DIAGONAL: &str = "_idf_diag";
    if fitted.attr("idf_").is_some() {
        return Ok(fitted.numbers("idf_")?.1);
    }
    let wrong = || fitted.malformed(format!("'{DIAGONAL}' is not a diagonal matrix"));
    let matrix = fitted
        .graph
        .sparse(fitted.require(DIAGONAL)?)
        .map_err(|error| fitted.malformed(format!("'{DIAGONAL}': {error}")))?
        .ok_or_else(wrong)?;
    let mut diagonal = vec![0.0; matrix.n_rows];
    let bounds = matrix.row_starts.windows(2).enumerate();
    for (row, bounds) in bounds {
        let &[start, end] = bounds else {
            return Err(wrong());
        };
        let columns = matrix.columns.get(start..end).unwrap_or_default();
        let values = matrix.values.get(start..end).unwrap_or_default();
        for (&column, &value) in columns.iter().zip(values) {
            if column != row {
                return Err(wrong());
            }
            if let Some(weight) = diagonal.get_mut(row) {
                *weight = value;
            }
        }
    }
    Ok(diagonal)
}
