//! LightGBM's objectives: the link of each.

use coracle_estimators::BoostedLink;
use coracle_model::LoadError;

use super::{malformed, unsupported};
use crate::document::quoted;

/// Returns the link of an objective as models name it, such as `binary sigmoid:1`.
///
/// # Errors
/// Kind `Unsupported` if the objective is not known, `Malformed` if it does not fit the number of scores.
pub(super) fn link(objective: &str, n_scores: usize) -> Result<BoostedLink, LoadError> {
    let mut words = objective.split_whitespace();
    let name = words.next().unwrap_or_default();
    let parameters: Vec<&str> = words.collect();
    let sigmoid = || {
        let scale = parameters
            .iter()
            .find_map(|word| word.strip_prefix("sigmoid:"));
        let scale = scale.map_or(Some(1.0), |scale| scale.parse().ok());
        let wrong = || malformed(format!("objective {} has no scale", quoted(objective)));
        scale
            .map(|scale| BoostedLink::Sigmoid { scale })
            .ok_or_else(wrong)
    };
    let link = match name {
        // A model of an objective of the user's own; its scores are its predictions.
        "" | "custom" | "none" => BoostedLink::Identity,
        "regression" | "regression_l1" | "fair" | "quantile" | "mape"
            if parameters.contains(&"sqrt") =>
        {
            BoostedLink::SignedSquare
        }
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" | "lambdarank"
        | "rank_xendcg" => BoostedLink::Identity,
        "poisson" | "gamma" | "tweedie" => BoostedLink::Exponential,
        "binary" | "multiclassova" => sigmoid()?,
        "cross_entropy" | "xentropy" => BoostedLink::Sigmoid { scale: 1.0 },
        "cross_entropy_lambda" | "xentlambda" => BoostedLink::LogOnePlusExponential,
        "multiclass" => BoostedLink::Softmax,
        name => {
            return Err(unsupported(format!(
                "objective {} is not supported",
                quoted(name)
            )));
        }
    };
    let is_multi = name.starts_with("multiclass");
    let is_own = ["", "custom", "none"].contains(&name);
    if !is_own && (n_scores > 1) != is_multi {
        return Err(malformed(format!(
            "objective {} over {n_scores} scores",
            quoted(objective)
        )));
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_have_links() {
        let cases = [
            ("regression", 1, BoostedLink::Identity),
            ("regression sqrt", 1, BoostedLink::SignedSquare),
            ("huber", 1, BoostedLink::Identity),
            ("binary sigmoid:1.7", 1, BoostedLink::Sigmoid { scale: 1.7 }),
            ("multiclass num_class:3", 3, BoostedLink::Softmax),
            (
                "multiclassova num_class:3 sigmoid:0.8",
                3,
                BoostedLink::Sigmoid { scale: 0.8 },
            ),
            ("", 4, BoostedLink::Identity),
        ];
        for (objective, n_scores, expected) in cases {
            assert_eq!(link(objective, n_scores).unwrap(), expected, "{objective}");
        }
        assert!(link("binary sigmoid:x", 1).is_err());
        assert!(link("binary sigmoid:1", 3).is_err());
        let error = link("mine", 1).unwrap_err().to_string();
        assert_eq!(error, "objective 'mine' is not supported");
    }
}
