//! Numbers that somebody else measures, such as Prometheus: asked for every now and then, judged by looks in a row.
//!
//! Nothing is known of how such a number comes about, so there is no evidence to weigh: a canary goes back once so many looks in a row were bad,
//! and goes on only when the last look was good and there were as many. A look without an answer is none: it holds the canary, and neither clears nor condemns it.

use super::{Better, Check, CheckKind, CheckState, judge};

/// What a queried number is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Against {
    /// The stable revision's, than which it may be worse by so much.
    Stable(f64),
    /// A number that it must not be worse than.
    Bound(f64),
}

/// A queried number that a canary must live up to.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryRule {
    /// Its name.
    pub name: String,
    /// Which way it is good.
    pub better: Better,
    /// What it is held against.
    pub against: Against,
    /// Looks that a stage needs, and bad ones in a row after which the canary goes back; at least 1. Default: 3.
    pub looks: u32,
}

/// What a look came to.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryLook {
    /// The canary's number, and the stable revision's where it is held against that.
    Numbers {
        /// The stable revision's.
        stable: Option<f64>,
        /// The canary's.
        canary: f64,
    },
    /// There was no answer, for this reason.
    None(String),
}

/// The looks of a stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryState {
    /// Looks with an answer.
    pub n_looks: u32,
    /// The last of them that were bad in a row.
    pub n_bad: u32,
    /// The last look, with or without an answer.
    pub last: Option<QueryLook>,
    /// The last numbers, of the stable revision (or the bound) and the canary.
    pub numbers: Option<(f64, f64)>,
}

impl QueryRule {
    fn is_bad(&self, limit: f64, canary: f64) -> bool {
        match self.better {
            Better::Higher => canary < limit,
            Better::Lower => canary > limit,
        }
    }

    /// Returns what the number is held against, and the limit that it must not be beyond.
    fn limit(&self, stable: Option<f64>) -> Option<(f64, f64)> {
        match (self.against, stable) {
            (Against::Bound(bound), _) => Some((bound, bound)),
            (Against::Stable(margin), Some(stable)) => Some(match self.better {
                Better::Higher => (stable, stable - margin),
                Better::Lower => (stable, stable + margin),
            }),
            (Against::Stable(_), None) => None,
        }
    }
}

impl QueryState {
    /// Takes a look. Numbers that are none are no answer.
    pub fn observe(&mut self, rule: &QueryRule, look: QueryLook) {
        if let QueryLook::Numbers { stable, canary } = look
            && let Some((shown, limit)) = rule.limit(stable)
            && limit.is_finite()
            && canary.is_finite()
        {
            self.n_looks = self.n_looks.saturating_add(1);
            self.n_bad = match rule.is_bad(limit, canary) {
                true => self.n_bad.saturating_add(1),
                false => 0,
            };
            self.numbers = Some((shown, canary));
            self.last = Some(look);
            return;
        }
        self.last = Some(match look {
            QueryLook::Numbers { .. } => QueryLook::None("the answer is no number".to_owned()),
            none => none,
        });
    }

    pub(super) fn check(&self, rule: &QueryRule) -> Check {
        let looks = rule.looks.max(1);
        let (state, note) = match &self.last {
            _ if self.n_bad >= looks => (CheckState::Failed, None),
            None => (CheckState::TooFew, Some("not asked yet".to_owned())),
            Some(QueryLook::None(why)) => (CheckState::TooFew, Some(why.clone())),
            Some(_) if self.n_bad > 0 => (judge(true, false), None),
            Some(_) if self.n_looks < looks => (CheckState::TooFew, None),
            Some(_) => (CheckState::Passed, None),
        };
        let (stable, canary) = self.numbers.unwrap_or_default();
        Check {
            kind: CheckKind::Query {
                name: rule.name.clone(),
                is_bound: matches!(rule.against, Against::Bound(_)),
            },
            state,
            stable,
            canary,
            evidence: f64::from(self.n_bad),
            needed: f64::from(looks),
            note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(better: Better, against: Against) -> QueryRule {
        QueryRule {
            name: "orders".to_owned(),
            better,
            against,
            looks: 3,
        }
    }

    fn numbers(stable: f64, canary: f64) -> QueryLook {
        QueryLook::Numbers {
            stable: Some(stable),
            canary,
        }
    }

    #[test]
    fn looks_in_a_row_decide() {
        use CheckState::{Doubtful, Failed, Passed, TooFew};
        let none = || QueryLook::None("no answer".to_owned());
        let (good, bad) = (|| numbers(10.0, 9.5), || numbers(10.0, 8.9));
        for (looks, expected) in [
            (vec![], TooFew),
            (vec![good(), good()], TooFew),
            (vec![good(), good(), good()], Passed),
            (vec![good(), good(), good(), bad()], Doubtful),
            (vec![bad(), bad(), good()], Passed),
            (vec![bad(), bad(), bad()], Failed),
            // Who does not answer holds: it neither clears nor condemns.
            (vec![good(), good(), good(), none()], TooFew),
            (vec![bad(), none(), bad(), none(), bad()], Failed),
            (vec![bad(), bad(), none()], TooFew),
            (vec![good(), good(), numbers(10.0, f64::NAN)], TooFew),
            (vec![good(), good(), good(), numbers(f64::NAN, 9.0)], TooFew),
        ] {
            let rule = rule(Better::Higher, Against::Stable(1.0));
            let mut state = QueryState::default();
            for look in &looks {
                state.observe(&rule, look.clone());
            }
            assert_eq!(state.check(&rule).state, expected, "{looks:?}");
        }
    }

    #[test]
    fn bounds_and_margins_are_for_either_way() {
        let is_bad = |better, against, stable, canary| {
            let rule = rule(better, against);
            let mut state = QueryState::default();
            state.observe(&rule, numbers(stable, canary));
            state.n_bad == 1
        };
        let (bound, margin) = (Against::Bound(5.0), Against::Stable(2.0));
        assert!(is_bad(Better::Lower, bound, 9.0, 5.1));
        assert!(!is_bad(Better::Lower, bound, 0.0, 5.0));
        assert!(is_bad(Better::Higher, bound, 0.0, 4.9));
        assert!(is_bad(Better::Lower, margin, 3.0, 5.1));
        assert!(!is_bad(Better::Lower, margin, 3.0, 5.0));
        assert!(!is_bad(Better::Higher, margin, 5.0, 3.0));
        // Without the stable revision's there is nothing to hold it against.
        let rule = rule(Better::Higher, margin);
        let mut state = QueryState::default();
        let alone = QueryLook::Numbers {
            stable: None,
            canary: 1.0,
        };
        state.observe(&rule, alone);
        assert_eq!(state.n_looks, 0);
    }
}
