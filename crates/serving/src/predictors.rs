//! Several predictors of a SeldonDeployment each of which is one model: revisions of one service that share its requests. Its callers are told which of them
//! answered, and what comes of an answer is that one's.

use std::sync::Arc;

use crate::flow::{FeedbackCounters, NOBODY, NoReward, Reward};
use crate::plan::PlannedPredictor;

/// The predictors that share the requests of a service.
#[derive(Debug)]
pub struct Predictors {
    deployment: String,
    all: Vec<Predictor>,
}

#[derive(Debug)]
struct Predictor {
    planned: PlannedPredictor,
    /// Its name, then its node's, as metrics have them.
    key: String,
    feedback: Arc<FeedbackCounters>,
}

/// Which one of several predictors a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The deployment's name.
    pub deployment: String,
    /// The predictor's number, from 0.
    pub number: i64,
}

impl Predictors {
    /// Returns those of a deployment, with what those of the same names and nodes were told `before`; `None` if there are not several.
    #[must_use]
    pub fn several(
        deployment: &str,
        planned: &[PlannedPredictor],
        before: Option<&Self>,
    ) -> Option<Self> {
        let all = planned.iter().map(|planned| {
            let key = format!("{}/{}", planned.name, planned.node);
            let mut before = before.into_iter().flat_map(|before| &before.all);
            let before = before.find(|before| before.key == key);
            Predictor {
                planned: planned.clone(),
                feedback: before.map_or_else(Arc::default, |one| Arc::clone(&one.feedback)),
                key,
            }
        });
        (planned.len() > 1).then(|| Self {
            deployment: deployment.to_owned(),
            all: all.collect(),
        })
    }

    /// Returns which of them a revision is.
    #[must_use]
    pub fn branch(&self, revision: &str) -> Option<Branch> {
        let of_revision = |one: &Predictor| one.planned.revisions.iter().any(|own| own == revision);
        let number = self.all.iter().position(of_revision)?;
        Some(Branch {
            deployment: self.deployment.clone(),
            number: i64::try_from(number).ok()?,
        })
    }

    /// Returns what the predictor is called that a revision is of: its name, then its node's.
    #[must_use]
    pub fn key(&self, revision: &str) -> Option<&str> {
        let number = usize::try_from(self.branch(revision)?.number).ok()?;
        self.all.get(number).map(|one| one.key.as_str())
    }

    /// Gives a reward to the one that answered; returns its node.
    ///
    /// # Errors
    /// [`NoReward`] if it is not said which one that is; none of them has it then.
    pub fn reward(&self, reward: &Reward<'_>) -> Result<Option<&str>, NoReward> {
        let node = || self.deployment.clone();
        let number = match (reward.routing)(&self.deployment) {
            None | Some(-1) => return Err(NoReward::Unrouted { node: node() }),
            Some(NOBODY) => return Ok(None),
            Some(number) => number,
        };
        let index = usize::try_from(number).ok();
        let one = index.and_then(|index| self.all.get(index));
        let one = one.ok_or_else(|| NoReward::NoBranch {
            node: node(),
            branch: number,
            n_branches: self.all.len(),
        })?;
        one.feedback.add(reward.reward);
        Ok(Some(&one.planned.node))
    }

    /// Visits what they were told of their answers, by their names and nodes.
    pub fn feedback(&self) -> impl Iterator<Item = (&str, &FeedbackCounters)> {
        let all = self.all.iter();
        all.map(|one| (one.key.as_str(), one.feedback.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(name: &str, node: &str) -> PlannedPredictor {
        PlannedPredictor {
            name: name.to_owned(),
            node: node.to_owned(),
            revisions: vec![format!("iris-{name}")],
        }
    }

    #[test]
    fn what_comes_of_an_answer_is_who_gave_its() {
        let planned = [planned("a", "classify"), planned("b", "classify")];
        assert!(Predictors::several("iris", &planned[..1], None).is_none());
        let both = Predictors::several("iris", &planned, None).unwrap();
        let branch = both.branch("iris-b").unwrap();
        assert_eq!((branch.deployment.as_str(), branch.number), ("iris", 1));
        assert_eq!(both.branch("iris-c"), None);
        assert_eq!(both.key("iris-b"), Some("b/classify"));
        let reward = |on: &Predictors, branch: Option<i64>| {
            let rewarded = on.reward(&Reward {
                reward: 0.5,
                n_rows: 1,
                routing: &|node| branch.filter(|_| node == "iris"),
            });
            rewarded.map(|node| node.map(str::to_owned))
        };
        assert_eq!(reward(&both, Some(1)), Ok(Some("classify".to_owned())));
        assert_eq!(reward(&both, Some(NOBODY)), Ok(None));
        for (branch, words) in [
            (None, "does not say which branch of 'iris' answered"),
            (Some(-1), "does not say which branch of 'iris' answered"),
            (Some(2), "names branch 2 of 'iris', which has 2"),
            (Some(i64::MIN), "'iris', which has 2"),
        ] {
            let why = reward(&both, branch).unwrap_err().to_string();
            assert!(why.contains(words), "{why}");
        }
        let told = |of: &Predictors| {
            let all = of
                .feedback()
                .map(|(key, counters)| (key.to_owned(), counters.count(), counters.reward()));
            all.collect::<Vec<_>>()
        };
        let [a, b] = ["a/classify", "b/classify"].map(str::to_owned);
        assert_eq!(told(&both), [(a, 0, 0.0), (b.clone(), 1, 0.5)]);
        // In whatever order they come, each keeps its own.
        let [first, second] = planned;
        let turned = [second, first];
        let later = Predictors::several("iris", &turned, Some(&both)).unwrap();
        assert_eq!(told(&later)[0], (b, 1, 0.5));
    }
}
