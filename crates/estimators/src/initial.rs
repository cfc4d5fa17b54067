//! Gradient boosting that starts from another estimator's prediction (`init=` in scikit-learn).

use coracle_model::{Accepts, Estimator, Method, MethodSpec, Scorer, Width};
use coracle_tensor::{Rows, Values};

use crate::spec_error::SpecError;

/// How the initial estimator's prediction becomes initial raw scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialLink {
    /// The predicted value itself.
    Value,
    /// The logit of the second class's probability.
    Logit,
    /// Half the logit of the second class's probability (exponential loss).
    HalfLogit,
    /// The logarithm of each class's probability (scikit-learn up to 1.3).
    Log,
    /// The logarithm of each class's probability over their geometric mean (1.4 and later).
    CenteredLog,
}

/// How far from 0 and 1 probabilities are kept before their logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbabilityMargin {
    /// The rounding unit of single precision (scikit-learn up to 1.7).
    Single,
    /// The rounding unit of double precision (1.8 and later).
    Double,
}

impl ProbabilityMargin {
    fn clip(self, probability: f64) -> f64 {
        let (low, high) = match self {
            Self::Single => (f64::from(f32::EPSILON), f64::from(1.0 - f32::EPSILON)),
            Self::Double => (f64::EPSILON, 1.0 - f64::EPSILON),
        };
        probability.clamp(low, high)
    }
}

/// From an initial estimator's prediction for a row to its initial raw scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initial {
    /// The function.
    pub link: InitialLink,
    /// The margin of probabilities, where the link takes their logarithm.
    pub margin: ProbabilityMargin,
}

impl Initial {
    /// Returns the raw scores for one row's prediction: a value or a probability per class.
    ///
    /// The binary links take the probabilities of two classes to one score.
    #[must_use]
    pub fn scores(self, predicted: &[f64]) -> Vec<f64> {
        let clip = |value: f64| self.margin.clip(value);
        let logit = |p: f64| (p / (1.0 - p)).ln();
        match (self.link, predicted) {
            (InitialLink::Logit, [_, second]) => vec![logit(clip(*second))],
            (InitialLink::HalfLogit, [_, second]) => vec![0.5 * logit(clip(*second))],
            (InitialLink::Log, _) => predicted.iter().map(|&p| clip(p).ln()).collect(),
            (InitialLink::CenteredLog, _) => {
                let logarithms: Vec<f64> = predicted.iter().map(|&p| clip(p).ln()).collect();
                #[expect(clippy::cast_precision_loss, reason = "a number of classes")]
                let mean = logarithms.iter().sum::<f64>() / predicted.len() as f64;
                logarithms
                    .iter()
                    .map(|logarithm| logarithm - mean)
                    .collect()
            }
            (InitialLink::Value | InitialLink::Logit | InitialLink::HalfLogit, _) => {
                predicted.to_vec()
            }
        }
    }
}

/// The sum of an initial estimator's scores and a boosted ensemble's.
///
/// The ensemble's scores are summed first and the initial ones added to them, so results may differ
/// from scikit-learn's, which starts from the initial scores, in the last bits.
#[derive(Debug)]
pub struct InitialScorer {
    initial: Box<dyn Estimator>,
    transform: Initial,
    ensemble: Box<dyn Scorer>,
}

impl InitialScorer {
    /// Returns the scorer of `ensemble` started from `initial`.
    ///
    /// # Errors
    /// [`SpecError`] if `initial` takes other columns, lacks the method that `transform` needs, or gives
    /// another number of scores than the ensemble.
    pub fn try_new(
        initial: Box<dyn Estimator>,
        transform: Initial,
        ensemble: Box<dyn Scorer>,
    ) -> Result<Self, SpecError> {
        if initial.n_features() != ensemble.n_features() {
            return Err(SpecError::new(format!(
                "the initial estimator takes {} columns, the ensemble {}",
                initial.n_features(),
                ensemble.n_features()
            )));
        }
        let spec = find_method(initial.as_ref(), transform.link.method())?;
        let n_scores = match (transform.link, spec.width) {
            (InitialLink::Logit | InitialLink::HalfLogit, Width::Columns(2)) => 1,
            (InitialLink::Value, Width::Scalar) => 1,
            (
                InitialLink::Value | InitialLink::Log | InitialLink::CenteredLog,
                Width::Columns(n),
            ) => n,
            _ => 0,
        };
        if n_scores != ensemble.n_scores() {
            return Err(SpecError::new(format!(
                "the initial estimator gives {n_scores} scores, the ensemble {}",
                ensemble.n_scores()
            )));
        }
        Ok(Self {
            initial,
            transform,
            ensemble,
        })
    }
}

impl InitialLink {
    fn method(self) -> Method {
        match self {
            Self::Value => Method::Predict,
            Self::Logit | Self::HalfLogit | Self::Log | Self::CenteredLog => Method::PredictProba,
        }
    }
}

fn find_method(estimator: &dyn Estimator, method: Method) -> Result<MethodSpec, SpecError> {
    let found = estimator
        .methods()
        .iter()
        .find(|spec| spec.method == method);
    let missing = || SpecError::new(format!("the initial estimator has no {}", method.as_str()));
    found.copied().ok_or_else(missing)
}

impl Scorer for InitialScorer {
    fn n_features(&self) -> usize {
        self.ensemble.n_features()
    }

    fn n_scores(&self) -> usize {
        self.ensemble.n_scores()
    }

    fn accepts(&self) -> Accepts {
        let (initial, ensemble) = (self.initial.accepts(), self.ensemble.accepts());
        Accepts {
            missing: initial.missing && ensemble.missing,
            magnitude_max: initial.magnitude_max.min(ensemble.magnitude_max),
        }
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        self.ensemble.score(rows, scores);
        // scikit-learn hands the initial estimator the table that the trees see: single precision.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to single is the point"
        )]
        let rounded: Vec<f64> = rows
            .values()
            .iter()
            .map(|&value| f64::from(value as f32))
            .collect();
        let rounded = Rows::try_new(&rounded, rows.n_columns()).expect("same size as rows");
        let predicted = self
            .initial
            .run(self.transform.link.method(), rounded)
            .expect("width and values were checked against accepts()");
        let Values::F64(predicted) = predicted.values() else {
            unreachable!("probabilities and regression values are doubles");
        };
        let n_predicted = predicted.len() / rows.n_rows().max(1);
        let predicted_rows = predicted.chunks_exact(n_predicted.max(1));
        for (predicted, scores) in predicted_rows.zip(scores.chunks_exact_mut(self.n_scores())) {
            let initial = self.transform.scores(predicted);
            for (score, initial) in scores.iter_mut().zip(initial) {
                *score += initial;
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        self.initial.memory_bytes() + self.ensemble.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_become_scores() {
        let initial = |link| Initial {
            link,
            margin: ProbabilityMargin::Double,
        };
        assert_eq!(initial(InitialLink::Logit).scores(&[0.5, 0.5]), [0.0]);
        assert_eq!(initial(InitialLink::Value).scores(&[3.5]), [3.5]);
        let centered = initial(InitialLink::CenteredLog).scores(&[0.25, 0.25, 0.5]);
        assert!(centered.iter().sum::<f64>().abs() < 1e-15);
        let log = initial(InitialLink::Log).scores(&[1.0, 0.0]);
        assert_eq!(log[1], f64::EPSILON.ln());
    }
}
