//! `TfIdfVectorizer`: counts of n-grams.

use std::collections::HashMap;

use coracle_model::{LoadError, RunError};
use coracle_tensor::{Tensor, Values};

use crate::error::{limit, malformed, shape_error, unsupported};
use crate::ops::elementwise::needed;
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{n_elements, tensor, to_i64s};

/// The widest vector.
const WIDTH_MAX: usize = 1 << 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Counts,
    Weights,
    WeightedCounts,
}

/// Tokens by number: strings and integers of the pool each have one.
#[derive(Debug)]
enum Vocabulary {
    Texts(HashMap<Vec<u8>, u32>),
    Ints(HashMap<i64, u32>),
}

#[derive(Debug)]
struct Vectorizer {
    mode: Mode,
    vocabulary: Vocabulary,
    /// The place of each n-gram in the vector.
    places: HashMap<Vec<u32>, usize>,
    /// The weight of each place; one where there are none.
    weights: Vec<f32>,
    n_min: usize,
    n_max: usize,
    n_skips: usize,
    width: usize,
}

fn count(build: &Build<'_, '_>, name: &str) -> Result<usize, LoadError> {
    let value = build.attributes.int(name)?;
    let value = value.and_then(|value| usize::try_from(value).ok());
    value.ok_or_else(|| malformed(format!("attribute '{name}' is missing or out of range")))
}

pub(super) fn vectorizer(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let mode = match attributes.word("mode", "")? {
        "TF" => Mode::Counts,
        "IDF" => Mode::Weights,
        "TFIDF" => Mode::WeightedCounts,
        other => return Err(unsupported(format!("mode '{other}'"))),
    };
    let texts = attributes.texts("pool_strings")?;
    let ints = attributes.ints("pool_int64s")?;
    let (vocabulary, pool) = match (texts, ints) {
        (texts, []) => {
            let (numbers, pool) = numbered(texts.iter().map(|&text| text.to_vec()));
            (Vocabulary::Texts(numbers), pool)
        }
        ([], ints) => {
            let (numbers, pool) = numbered(ints.iter().copied());
            (Vocabulary::Ints(numbers), pool)
        }
        _ => return Err(malformed("both 'pool_strings' and 'pool_int64s'")),
    };
    let indices = attributes.ints("ngram_indexes")?;
    let indices: Option<Vec<usize>> = indices
        .iter()
        .map(|&index| {
            usize::try_from(index)
                .ok()
                .filter(|&index| index < WIDTH_MAX)
        })
        .collect();
    let indices = indices.ok_or_else(|| limit(format!("ngram_indexes beyond {WIDTH_MAX}")))?;
    let width = indices.iter().max().map_or(0, |&last| last + 1);
    let places = n_grams(&pool, attributes.ints("ngram_counts")?, &indices)?;
    // Longer ones are not in the pool; looking them up would cost a row the cube of its length.
    let longest = places.keys().map(Vec::len).max().unwrap_or(0);
    let mut vectorizer = Vectorizer {
        mode,
        vocabulary,
        places,
        weights: weights(attributes.floats("weights")?, &indices, width)?,
        n_min: count(build, "min_gram_length")?,
        n_max: count(build, "max_gram_length")?,
        n_skips: count(build, "max_skip_count")?,
        width,
    };
    if vectorizer.n_min == 0 || vectorizer.n_min > vectorizer.n_max {
        return Err(malformed("min_gram_length is 0 or above max_gram_length"));
    }
    vectorizer.n_max = vectorizer.n_max.min(longest);
    function(vectorizer, vectorize)
}

fn numbered<T: Clone + Eq + std::hash::Hash>(
    items: impl Iterator<Item = T>,
) -> (HashMap<T, u32>, Vec<u32>) {
    let mut numbers: HashMap<T, u32> = HashMap::new();
    let pool = items.map(|item| {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        *numbers.entry(item).or_insert(next)
    });
    let pool = pool.collect();
    (numbers, pool)
}

/// Takes the pool apart into n-grams: `starts[n - 1]` says where those of length n begin.
fn n_grams(
    pool: &[u32],
    starts: &[i64],
    indices: &[usize],
) -> Result<HashMap<Vec<u32>, usize>, LoadError> {
    let mut places = HashMap::with_capacity(indices.len());
    let mut number = 0;
    for (order, start) in starts.iter().enumerate() {
        let length = order + 1;
        let bound = |start: i64| {
            usize::try_from(start)
                .ok()
                .filter(|&start| start <= pool.len())
        };
        let last = starts
            .get(length)
            .map_or(Some(pool.len()), |&start| bound(start));
        let (Some(first), Some(last)) = (bound(*start), last) else {
            return Err(malformed("'ngram_counts' points beyond the pool"));
        };
        let part = pool.get(first..last).unwrap_or_default();
        if part.len() % length != 0 {
            return Err(malformed(format!(
                "the pool ends within an n-gram of {length}"
            )));
        }
        for gram in part.chunks_exact(length) {
            let place = indices
                .get(number)
                .ok_or_else(|| malformed("fewer ngram_indexes than n-grams"))?;
            if places.insert(gram.to_vec(), *place).is_some() {
                return Err(malformed("an n-gram is in the pool twice"));
            }
            number += 1;
        }
    }
    if number != indices.len() {
        return Err(malformed(format!(
            "{} ngram_indexes for {number} n-grams",
            indices.len()
        )));
    }
    Ok(places)
}

/// Returns the weight of each place.
fn weights(weights: &[f32], indices: &[usize], width: usize) -> Result<Vec<f32>, LoadError> {
    if weights.is_empty() {
        return Ok(vec![1.0; width]);
    }
    if weights.len() != indices.len() {
        return Err(malformed(format!(
            "{} weights for {} n-grams",
            weights.len(),
            indices.len()
        )));
    }
    let all_one = weights.iter().all(|&weight| weight == 1.0);
    let in_order = indices
        .iter()
        .enumerate()
        .all(|(place, &index)| place == index);
    // ONNX says that weights go with n-grams, ONNX Runtime takes them by places: where both agree is what is served.
    match (all_one, in_order) {
        (true, _) => Ok(vec![1.0; width]),
        (false, true) => Ok(weights.to_vec()),
        (false, false) => Err(unsupported("weights where ngram_indexes are not in order")),
    }
}

/// What stands for a token that is in no n-gram.
const UNKNOWN: u32 = u32::MAX;

fn vectorize(model: &Vectorizer, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let input = needed(inputs, 0)?;
    let (n_rows, n_tokens, mut shape) = match *input.shape() {
        [n_tokens] => (1, n_tokens, vec![]),
        [n_rows, n_tokens] => (n_rows, n_tokens, vec![n_rows]),
        _ => {
            return Err(shape_error(format!(
                "shape {:?}, [n] or [rows, n] is taken",
                input.shape()
            )));
        }
    };
    shape.push(model.width);
    let mut vectors = vec![0.0_f32; n_elements(&shape)?];
    let tokens: Vec<u32> = match (&model.vocabulary, input.values()) {
        (Vocabulary::Texts(numbers), Values::Bytes(texts)) => texts
            .iter()
            .map(|text| numbers.get(text).copied().unwrap_or(UNKNOWN))
            .collect(),
        (Vocabulary::Ints(numbers), Values::I64(_) | Values::I32(_)) => to_i64s(input)?
            .iter()
            .map(|item| numbers.get(item).copied().unwrap_or(UNKNOWN))
            .collect(),
        (_, other) => {
            return Err(crate::error::dtype_error(format!(
                "{} is not what the pool holds",
                other.dtype()
            )));
        }
    };
    for row in 0..n_rows {
        let tokens = &tokens[row * n_tokens..(row + 1) * n_tokens];
        let vector = &mut vectors[row * model.width..(row + 1) * model.width];
        model.count(tokens, vector);
        match model.mode {
            Mode::Counts => {}
            Mode::Weights => {
                for (count, weight) in vector.iter_mut().zip(&model.weights) {
                    *count = if *count > 0.0 { *weight } else { 0.0 };
                }
            }
            Mode::WeightedCounts => {
                for (count, weight) in vector.iter_mut().zip(&model.weights) {
                    *count *= weight;
                }
            }
        }
    }
    Ok(vec![tensor(shape, Values::F32(vectors.into()))?])
}

impl Vectorizer {
    /// Counts the n-grams of one row, those with up to `n_skips` tokens left out between neighbours too.
    fn count(&self, tokens: &[u32], vector: &mut [f32]) {
        let mut gram = Vec::new();
        // A file may name any number; a distance beyond the row leaves no neighbours.
        let farthest = self.n_skips.min(tokens.len()).saturating_add(1);
        for distance in 1..=farthest {
            for start in 0..tokens.len() {
                gram.clear();
                for &token in tokens[start..].iter().step_by(distance).take(self.n_max) {
                    if token == UNKNOWN {
                        break;
                    }
                    gram.push(token);
                    // Single tokens have no distance; they are counted once.
                    let counts = gram.len() >= self.n_min && (gram.len() > 1 || distance == 1);
                    if counts && let Some(&place) = self.places.get(gram.as_slice()) {
                        vector[place] += 1.0;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_and_lengths_beyond_the_row_cost_nothing() {
        let places = [(vec![0], 0), (vec![0, 1], 1), (vec![0, 0], 2)];
        let model = Vectorizer {
            mode: Mode::Counts,
            vocabulary: Vocabulary::Ints(HashMap::new()),
            places: places.into_iter().collect(),
            weights: vec![1.0; 3],
            n_min: 1,
            n_max: usize::MAX,
            n_skips: usize::MAX,
            width: 3,
        };
        let mut vector = [0.0; 3];
        model.count(&[0, 1, 0], &mut vector);
        assert_eq!(vector, [2.0, 1.0, 1.0]);
    }
}
