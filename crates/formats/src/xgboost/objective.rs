//! XGBoost's objectives: the link of each, and what `base_score` means under it.

use coracle_estimators::BoostedLink;
use coracle_model::LoadError;

use super::{malformed, unsupported};

/// What of an objective matters after training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Objective {
    /// The function from margins to predictions.
    pub(super) link: BoostedLink,
    base: Base,
}

/// How `base_score` becomes the margin to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Itself,
    Logit,
    Logarithm,
}

/// Returns the objective of this name over so many scores per row.
///
/// # Errors
/// Kind `Unsupported` if it is not known.
pub(super) fn known(name: &str, n_groups: usize) -> Result<Objective, LoadError> {
    let sigmoid = BoostedLink::Sigmoid { scale: 1.0 };
    let (link, base) = match name {
        "reg:squarederror"
        | "reg:linear"
        | "reg:squaredlogerror"
        | "reg:pseudohubererror"
        | "reg:absoluteerror"
        | "reg:quantileerror"
        | "rank:pairwise"
        | "rank:ndcg"
        | "rank:map" => (BoostedLink::Identity, Base::Itself),
        "reg:expectileerror" if n_groups > 1 => {
            return Err(unsupported(
                "objective 'reg:expectileerror' with several expectiles is not supported",
            ));
        }
        "reg:expectileerror" => (BoostedLink::Identity, Base::Itself),
        "reg:logistic" | "binary:logistic" => (sigmoid, Base::Logit),
        "binary:logitraw" => (BoostedLink::Identity, Base::Itself),
        "binary:hinge" => (BoostedLink::Step, Base::Itself),
        "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => {
            (BoostedLink::Exponential, Base::Logarithm)
        }
        "multi:softprob" => (BoostedLink::Softmax, Base::Itself),
        "multi:softmax" => (BoostedLink::LargestIndex, Base::Itself),
        name => {
            let name = crate::document::quoted(name);
            return Err(unsupported(format!("objective {name} is not supported")));
        }
    };
    Ok(Objective { link, base })
}

impl Objective {
    /// Returns the margin that each of `n_groups` scores starts from.
    ///
    /// # Errors
    /// Kind `Malformed` if there are neither one nor `n_groups` base scores.
    pub(super) fn margins(
        self,
        base_scores: &[f32],
        n_groups: usize,
    ) -> Result<Vec<f32>, LoadError> {
        let margins: Vec<f32> = base_scores
            .iter()
            .map(|&score| self.margin(score))
            .collect();
        match margins.as_slice() {
            [margin] => Ok(vec![*margin; n_groups]),
            margins if margins.len() == n_groups => Ok(margins.to_vec()),
            margins => {
                let message = format!("{} base scores for {n_groups} scores", margins.len());
                Err(malformed(message))
            }
        }
    }

    fn margin(self, base_score: f32) -> f32 {
        match self.base {
            Base::Itself => base_score,
            Base::Logit => -(1.0 / base_score - 1.0).ln(),
            Base::Logarithm => base_score.ln(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_scores_are_on_the_scale_of_predictions() {
        let margins = |name: &str, scores: &[f32], n| known(name, n).unwrap().margins(scores, n);
        assert_eq!(margins("binary:logistic", &[0.5], 1).unwrap(), [0.0]);
        assert_eq!(margins("count:poisson", &[1.0], 1).unwrap(), [0.0]);
        assert_eq!(margins("multi:softprob", &[0.5], 3).unwrap(), [0.5; 3]);
        assert_eq!(
            margins("reg:squarederror", &[1.0, 2.0], 2).unwrap(),
            [1.0, 2.0]
        );
        assert!(margins("reg:squarederror", &[1.0, 2.0], 3).is_err());
        let error = known("mine", 1).unwrap_err().to_string();
        assert_eq!(error, "objective 'mine' is not supported");
    }
}
