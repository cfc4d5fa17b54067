//! The logits of a text's tokens to named entities, as transformers' pipeline of token classification groups them (`simple`).

use coracle_model::{LoadError, LoadErrorKind, RunError, RunErrorKind, TensorSpec};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use serde::Serialize;

use crate::classes::largest;
use crate::settings::Classes;
use crate::tokens::{Encoded, Tokens};

/// The output: JSON, a list of entities for each text.
const OUTPUT: &str = "entities";
/// The label of what is no entity.
const OUTSIDE: &str = "O";

/// What makes entities of logits.
#[derive(Debug)]
pub(crate) struct Entities {
    labels: Vec<String>,
}

/// An entity, by the names of the pipeline.
#[derive(Debug, PartialEq, Serialize)]
struct Entity<'l> {
    entity_group: &'l str,
    score: f32,
    word: String,
    /// In letters of the text.
    start: usize,
    end: usize,
}

/// Tokens of one label after another.
struct Group<'l> {
    tag: &'l str,
    scores: Vec<f32>,
    words: Vec<String>,
    start: usize,
    end: usize,
}

impl Entities {
    /// Makes it for logits of `n_labels`.
    ///
    /// # Errors
    /// Kind `Malformed` if the files name another number of labels.
    pub(crate) fn try_new(classes: &Classes, n_labels: usize) -> Result<Self, LoadError> {
        let labels = match &classes.labels {
            Some(labels) if labels.len() != n_labels => {
                let message = format!(
                    "config.json: id2label has {} labels, the graph gives {n_labels} logits for a token",
                    labels.len()
                );
                return Err(LoadError::new(LoadErrorKind::Malformed, message));
            }
            Some(labels) => labels.clone(),
            None => (0..n_labels)
                .map(|label| format!("LABEL_{label}"))
                .collect(),
        };
        Ok(Self { labels })
    }

    /// Returns the only output.
    pub(crate) fn output() -> TensorSpec {
        TensorSpec {
            name: OUTPUT.to_owned(),
            dtype: DType::Bytes,
            shape: vec![None],
            columns: None,
            accepts_missing: false,
            accepts_integers: false,
        }
    }

    /// Says what is done, for people.
    pub(crate) fn described(&self) -> String {
        format!("{} labels of tokens, grouped", self.labels.len())
    }

    /// Returns the entities of texts, as JSON; `logits` are those of all their tokens, one text after the other.
    ///
    /// # Errors
    /// Kind `Internal` where they are of another number.
    pub(crate) fn answer(
        &self,
        texts: &[Encoded],
        logits: &[f32],
        tokens: &Tokens,
    ) -> Result<Tensor, RunError> {
        let n_labels = self.labels.len().max(1);
        let mut rest = logits;
        let mut answers = ByteStrings::default();
        for text in texts {
            let n_logits = text.ids.len().saturating_mul(n_labels);
            let split = rest.split_at_checked(n_logits);
            let (of_text, others) =
                split.ok_or_else(|| internal("tokens without logits".to_owned()))?;
            rest = others;
            let entities = self.entities(text, of_text, tokens);
            let json =
                serde_json::to_vec(&entities).map_err(|error| internal(error.to_string()))?;
            answers.push(&json);
        }
        Ok(Tensor::from_values(Values::Bytes(answers)))
    }

    fn entities(&self, text: &Encoded, logits: &[f32], tokens: &Tokens) -> Vec<Entity<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        let rows = logits.chunks_exact(self.labels.len().max(1));
        for (place, row) in text.places.iter().zip(rows) {
            if place.is_special {
                continue;
            }
            let (label, most) = largest(row);
            let sum: f32 = row.iter().map(|&logit| (logit - most).exp()).sum();
            let score = 1.0 / sum;
            let label = self.labels.get(label).map_or("", String::as_str);
            let (is_begun, tag) = tag_of(label);
            match groups.last_mut() {
                Some(group) if group.tag == tag && !is_begun => {
                    group.scores.push(score);
                    group.words.push(place.word.clone());
                    group.end = place.end;
                }
                _ => groups.push(Group {
                    tag,
                    scores: vec![score],
                    words: vec![place.word.clone()],
                    start: place.start,
                    end: place.end,
                }),
            }
        }
        let entities = groups.into_iter().map(|group| Entity {
            entity_group: group.tag,
            score: mean(&group.scores),
            word: tokens.words(group.words),
            start: group.start,
            end: group.end,
        });
        entities
            .filter(|entity| entity.entity_group != OUTSIDE)
            .collect()
    }
}

/// Returns whether a label begins an entity, and what it is of.
fn tag_of(label: &str) -> (bool, &str) {
    match (label.strip_prefix("B-"), label.strip_prefix("I-")) {
        (Some(tag), _) => (true, tag),
        (None, Some(tag)) => (false, tag),
        (None, None) => (false, label),
    }
}

fn mean(scores: &[f32]) -> f32 {
    let known = scores.iter().filter(|score| !score.is_nan());
    let (sum, n) = known.fold((0.0_f64, 0.0_f64), |(sum, n), &score| {
        (sum + f64::from(score), n + 1.0)
    });
    crate::pooling::single(sum / n)
}

fn internal(message: String) -> RunError {
    RunError::new(RunErrorKind::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_begin_or_go_on() {
        assert_eq!(tag_of("B-PER"), (true, "PER"));
        assert_eq!(tag_of("I-PER"), (false, "PER"));
        assert_eq!(tag_of("O"), (false, "O"));
        assert_eq!(tag_of("LABEL_0"), (false, "LABEL_0"));
    }

    #[test]
    fn labels_of_another_number_are_refused() {
        let classes = Classes {
            labels: Some(vec!["O".to_owned()]),
            ..Classes::default()
        };
        assert!(Entities::try_new(&classes, 2).is_err());
        let unnamed = Entities::try_new(&Classes::default(), 2).unwrap();
        assert_eq!(unnamed.labels, ["LABEL_0", "LABEL_1"]);
    }
}
