//! A classifier: the scores of a kernel turned into labels and probabilities.

use coracle_model::{Accepts, Estimator, Method, MethodSpec, RunError, Scorer, Width};
use coracle_tensor::{DType, Rows, Table, Tensor};

use crate::faceted::first_largest;
use crate::spec_error::SpecError;
use crate::{Labels, Link, table};

/// How the predicted class follows from a row.
///
/// Releases of scikit-learn differ in this for the same estimator; the difference shows on ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// One score: the second class if it is above zero. Several: the first largest.
    ScoreAboveZero,
    /// One score: the second class if it is zero or above. Several: the first largest.
    ScoreFromZero,
    /// The first class of largest probability.
    LargestProbability,
}

/// A classifier over the scores of any kernel.
#[derive(Debug)]
pub struct Classifier {
    scorer: Box<dyn Scorer>,
    link: Option<Link>,
    decision: Decision,
    labels: Labels,
    methods: Vec<MethodSpec>,
}

/// Which methods besides `predict` a classifier offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Proba,
    LogProba,
    Decision,
}

impl Classifier {
    /// Returns a classifier of `labels` over `scorer`.
    ///
    /// `link` is `None` where the estimator has no probabilities. The methods offered follow from the
    /// parts: `predict_proba` and `predict_log_proba` need a link, `decision_function` a link other
    /// than [`Link::Identity`] or none.
    ///
    /// # Errors
    /// [`SpecError`] if the number of scores does not fit the number of labels.
    pub fn try_new(
        scorer: Box<dyn Scorer>,
        link: Option<Link>,
        decision: Decision,
        labels: Labels,
    ) -> Result<Self, SpecError> {
        let (n_scores, n_classes) = (scorer.n_scores(), labels.len());
        let fits = match link {
            Some(link) => link.fits(n_scores, n_classes),
            None => decision != Decision::LargestProbability && is_scored(n_scores, n_classes),
        };
        if !fits || n_classes == 0 {
            return Err(SpecError::new(format!(
                "{n_scores} scores do not fit {n_classes} classes"
            )));
        }
        let mut offers = Vec::new();
        if link.is_some() {
            offers.extend([Offer::Proba, Offer::LogProba]);
        }
        if link != Some(Link::Identity) {
            offers.push(Offer::Decision);
        }
        let methods = method_specs(&offers, &labels, n_scores);
        Ok(Self {
            scorer,
            link,
            decision,
            labels,
            methods,
        })
    }

    /// Removes `predict_log_proba`, which some estimators do not have.
    #[must_use]
    pub fn without_log_proba(mut self) -> Self {
        self.methods
            .retain(|spec| spec.method != Method::PredictLogProba);
        self
    }

    fn scores(&self, table: &Table<'_>) -> Vec<f64> {
        table::scores(self.scorer.as_ref(), table)
    }

    fn probabilities(&self, table: &Table<'_>, link: Link) -> Vec<f64> {
        let scores = self.scores(table);
        if link == Link::Identity {
            return scores;
        }
        let mut probabilities = vec![0.0; table.n_rows() * self.labels.len()];
        let rows_of_scores = scores.chunks_exact(self.scorer.n_scores());
        for (scores, probabilities) in
            rows_of_scores.zip(probabilities.chunks_exact_mut(self.labels.len()))
        {
            link.probabilities(scores, probabilities);
        }
        probabilities
    }

    fn predict(&self, table: &Table<'_>) -> Tensor {
        let indices: Vec<usize> = match (self.decision, self.link) {
            (Decision::LargestProbability, Some(link)) => {
                let probabilities = self.probabilities(table, link);
                let rows = probabilities.chunks_exact(self.labels.len());
                rows.map(first_largest).collect()
            }
            (decision, _) => {
                let scores = self.scores(table);
                let rows = scores.chunks_exact(self.scorer.n_scores());
                rows.map(|scores| class_of(decision, scores)).collect()
            }
        };
        self.labels.take(&indices)
    }

    /// Runs a method on a table that was checked.
    fn answer(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        match (method, self.link) {
            (Method::Predict, _) => Ok(self.predict(table)),
            (Method::PredictProba, Some(link)) => table::matrix(
                self.probabilities(table, link),
                table.n_rows(),
                self.labels.len(),
            ),
            (Method::PredictLogProba, Some(link)) => {
                let mut logarithms = self.probabilities(table, link);
                for value in &mut logarithms {
                    *value = value.ln();
                }
                table::matrix(logarithms, table.n_rows(), self.labels.len())
            }
            (Method::DecisionFunction, link) if link != Some(Link::Identity) => {
                let scores = self.scores(table);
                match self.scorer.n_scores() {
                    1 => Ok(table::column(scores)),
                    n_scores => table::matrix(scores, table.n_rows(), n_scores),
                }
            }
            _ => Err(table::no_method(method)),
        }
    }
}

/// Returns whether scores without a link can name one of the classes.
fn is_scored(n_scores: usize, n_classes: usize) -> bool {
    n_scores == 1 && n_classes == 2 || n_scores == n_classes && n_classes > 1
}

fn class_of(decision: Decision, scores: &[f64]) -> usize {
    match scores {
        [score] if decision == Decision::ScoreFromZero => usize::from(*score >= 0.0),
        [score] => usize::from(*score > 0.0),
        _ => first_largest(scores),
    }
}

fn method_specs(offers: &[Offer], labels: &Labels, n_scores: usize) -> Vec<MethodSpec> {
    let mut methods = vec![MethodSpec {
        method: Method::Predict,
        dtype: labels.dtype(),
        width: Width::Scalar,
    }];
    for offer in offers {
        let (method, width) = match offer {
            Offer::Proba => (Method::PredictProba, Width::Columns(labels.len())),
            Offer::LogProba => (Method::PredictLogProba, Width::Columns(labels.len())),
            Offer::Decision if n_scores == 1 => (Method::DecisionFunction, Width::Scalar),
            Offer::Decision => (Method::DecisionFunction, Width::Columns(n_scores)),
        };
        methods.push(MethodSpec {
            method,
            dtype: DType::F64,
            width,
        });
    }
    methods
}

impl Estimator for Classifier {
    fn n_features(&self) -> usize {
        self.scorer.n_features()
    }

    fn accepts(&self) -> Accepts {
        self.scorer.accepts()
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn class_names(&self) -> Option<Vec<String>> {
        Some(self.labels.names())
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        table::check(rows, self.n_features(), self.accepts())?;
        self.answer(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        table::with_numbers(table, self.n_features(), self.accepts(), |table| {
            self.answer(method, table)
        })
    }

    fn memory_bytes(&self) -> usize {
        self.scorer.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::Values;

    use super::*;
    use crate::LinearScorer;

    fn binary(decision: Decision, link: Option<Link>) -> Classifier {
        let scorer = LinearScorer::try_new(vec![1.0], vec![0.0], 1).unwrap();
        let labels = Labels::new(Values::I64(vec![10, 20].into()));
        Classifier::try_new(Box::new(scorer), link, decision, labels).unwrap()
    }

    #[test]
    fn ties_follow_the_decision() {
        let cases = [
            (Decision::ScoreAboveZero, Some(Link::Sigmoid), 10),
            (Decision::ScoreFromZero, Some(Link::Sigmoid), 20),
            (Decision::LargestProbability, Some(Link::Sigmoid), 10),
            (Decision::ScoreAboveZero, None, 10),
        ];
        for (decision, link, expected) in cases {
            let classifier = binary(decision, link);
            let rows = Rows::try_new(&[0.0], 1).unwrap();
            let predicted = classifier.run(Method::Predict, rows).unwrap();
            assert_eq!(
                predicted.values(),
                &Values::I64(vec![expected].into()),
                "{decision:?}"
            );
        }
    }

    #[test]
    fn methods_follow_from_the_parts() {
        let names = |classifier: &Classifier| {
            let names: Vec<_> = classifier
                .methods()
                .iter()
                .map(|spec| spec.method.as_str())
                .collect();
            names.join(" ")
        };
        let with_link = binary(Decision::ScoreAboveZero, Some(Link::Sigmoid));
        assert_eq!(
            names(&with_link),
            "predict predict_proba predict_log_proba decision_function"
        );
        let without = binary(Decision::ScoreAboveZero, None);
        assert_eq!(names(&without), "predict decision_function");
        let rows = Rows::try_new(&[0.0], 1).unwrap();
        assert!(without.run(Method::PredictProba, rows).is_err());
    }

    #[test]
    fn wrong_widths_and_missing_values_are_refused() {
        let classifier = binary(Decision::ScoreAboveZero, None);
        let wide = Rows::try_new(&[0.0, 1.0], 2).unwrap();
        let error = classifier.run(Method::Predict, wide).unwrap_err();
        assert_eq!(
            error.to_string(),
            "each row has 2 values, the model expects 1"
        );
        let missing = Rows::try_new(&[f64::NAN], 1).unwrap();
        assert!(classifier.run(Method::Predict, missing).is_err());
    }

    #[test]
    fn scores_that_do_not_fit_the_labels_are_refused() {
        let scorer = LinearScorer::try_new(vec![1.0], vec![0.0], 1).unwrap();
        let labels = Labels::new(Values::I64(vec![1, 2, 3].into()));
        let error = Classifier::try_new(
            Box::new(scorer),
            Some(Link::Sigmoid),
            Decision::ScoreAboveZero,
            labels,
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "1 scores do not fit 3 classes");
    }
}
