//! Versions of a model side by side: which of them are served, and in which order they come and go.
//!
//! Pure: [`next_step`] is told what is there and says the next thing to do. Whoever does it asks again.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::str::FromStr;
use std::sync::Weak;

use coracle_base::{Code, VersionState};

use crate::ServedModel;

/// Which versions of a model are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The newest ones that load.
    Latest(NonZero<usize>),
    /// All of them.
    All,
    /// These.
    Specific(BTreeSet<u64>),
}

impl Default for VersionPolicy {
    /// The newest one, as TensorFlow Serving and Triton have it.
    fn default() -> Self {
        Self::Latest(NonZero::<usize>::MIN)
    }
}

impl FromStr for VersionPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write latest, latest:N, all, or versions such as 1,3".to_owned();
        match text {
            "all" => return Ok(Self::All),
            "latest" => return Ok(Self::default()),
            _ => {}
        }
        if let Some(number) = text.strip_prefix("latest:") {
            return number.parse().map(Self::Latest).map_err(|_| wrong());
        }
        let versions = text.split(',').map(|version| version.trim().parse());
        let versions: Result<_, _> = versions.collect();
        versions.map(Self::Specific).map_err(|_| wrong())
    }
}

/// What there is of a model's versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionSets {
    /// Whose files are there.
    pub found: BTreeSet<u64>,
    /// Which answer requests.
    pub served: BTreeSet<u64>,
    /// Which did not load.
    pub failed: BTreeSet<u64>,
    /// Which are to be served whatever the policy says, because a label names them.
    pub labelled: BTreeSet<u64>,
    /// Which are to go where others can be had, though they serve.
    pub dismissed: BTreeSet<u64>,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionStep {
    /// Load this version; then it serves, or it has failed.
    Load(u64),
    /// Let go of this version.
    Unload(u64),
    /// What serves is what is to serve.
    Done,
}

/// Returns the next step towards what `policy` wants of the versions in `sets`.
///
/// Loads come first, the newest before older ones; a version is let go of only when everything that is wanted serves. One that
/// has failed leaves its place to the next older one, so it never takes the place of one that serves. One that serves stays a
/// candidate though its files are gone, unless it is dismissed.
#[must_use]
pub fn next_step(policy: &VersionPolicy, sets: &VersionSets) -> VersionStep {
    let wanted = wanted_versions(policy, sets);
    if let Some(&version) = wanted.difference(&sets.served).last() {
        return VersionStep::Load(version);
    }
    // Nothing that can be had is wanted: what serves is better than nothing.
    if wanted.is_empty() {
        return VersionStep::Done;
    }
    let mut unwanted = sets.served.difference(&wanted);
    unwanted
        .next()
        .map_or(VersionStep::Done, |&version| VersionStep::Unload(version))
}

/// Returns the versions that `policy` wants of those in `sets`.
#[must_use]
pub fn wanted_versions(policy: &VersionPolicy, sets: &VersionSets) -> BTreeSet<u64> {
    let candidates = sets.found.union(&sets.served);
    let usable = candidates
        .filter(|version| sets.served.contains(version) || !sets.failed.contains(version))
        .filter(|version| !sets.dismissed.contains(version));
    let usable: BTreeSet<u64> = usable.copied().collect();
    let mut wanted: BTreeSet<u64> = match policy {
        VersionPolicy::Latest(n) => usable.iter().rev().take(n.get()).copied().collect(),
        VersionPolicy::All => usable.clone(),
        VersionPolicy::Specific(versions) => versions.intersection(&usable).copied().collect(),
    };
    wanted.extend(sets.labelled.intersection(&usable));
    wanted
}

/// A version that takes no requests.
#[derive(Clone, Debug)]
pub struct IdleVersion {
    /// The version.
    pub version: u64,
    /// Why it takes none.
    pub reason: IdleReason,
}

/// Why a version takes no requests.
#[derive(Clone, Debug)]
pub enum IdleReason {
    /// Others are loaded before it.
    Waiting,
    /// It is being loaded.
    Loading,
    /// It did not load.
    Failed {
        /// The failure.
        code: Code,
        /// What was wrong.
        message: String,
    },
    /// It was let go of; while requests run on it, it is still in memory.
    Left(Weak<ServedModel>),
}

/// A version's place in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatus {
    /// The version.
    pub version: String,
    /// Where it is.
    pub state: VersionState,
    /// Why it did not load.
    pub failure: Option<(Code, String)>,
}

impl IdleVersion {
    /// Returns its place in its life.
    #[must_use]
    pub fn status(&self) -> VersionStatus {
        let (state, failure) = match &self.reason {
            IdleReason::Waiting => (VersionState::Start, None),
            IdleReason::Loading => (VersionState::Loading, None),
            IdleReason::Failed { code, message } => {
                (VersionState::End, Some((*code, message.clone())))
            }
            IdleReason::Left(model) if model.strong_count() > 0 => (VersionState::Unloading, None),
            IdleReason::Left(_) => (VersionState::End, None),
        };
        VersionStatus {
            version: self.version.to_string(),
            state,
            failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::served_model::tests::served;

    fn sets(found: &[u64], served: &[u64], failed: &[u64], labelled: &[u64]) -> VersionSets {
        let set = |versions: &[u64]| versions.iter().copied().collect();
        VersionSets {
            found: set(found),
            served: set(served),
            failed: set(failed),
            labelled: set(labelled),
            dismissed: BTreeSet::new(),
        }
    }

    /// Does what is said until there is nothing to do; `bad` versions do not load.
    fn settle(policy: &str, mut sets: VersionSets, bad: &[u64]) -> Vec<VersionStep> {
        let policy: VersionPolicy = policy.parse().unwrap();
        let mut steps = Vec::new();
        for _ in 0..32 {
            let step = next_step(&policy, &sets);
            match step {
                VersionStep::Done => return steps,
                VersionStep::Load(version) if bad.contains(&version) => {
                    sets.failed.insert(version);
                }
                VersionStep::Load(version) => {
                    sets.served.insert(version);
                }
                VersionStep::Unload(version) => {
                    assert!(sets.served.len() > 1, "the last one is let go of");
                    sets.served.remove(&version);
                }
            }
            steps.push(step);
        }
        panic!("it does not end: {steps:?}");
    }

    #[test]
    fn policies_say_what_comes_and_goes() {
        use VersionStep::{Load, Unload};
        type Case<'a> = (&'a str, VersionSets, &'a [u64], &'a [VersionStep]);
        let cases: [Case<'_>; 19] = [
            ("latest", sets(&[], &[], &[], &[]), &[], &[]),
            ("latest", sets(&[1, 2, 10], &[], &[], &[]), &[], &[Load(10)]),
            // The new one serves before the old one goes.
            (
                "latest",
                sets(&[1, 2], &[1], &[], &[]),
                &[],
                &[Load(2), Unload(1)],
            ),
            ("latest", sets(&[1, 2], &[2], &[], &[]), &[], &[]),
            // One that does not load takes nobody's place, at the start too.
            ("latest", sets(&[1, 2], &[1], &[], &[]), &[2], &[Load(2)]),
            ("latest", sets(&[1, 2], &[1], &[2], &[]), &[], &[]),
            (
                "latest",
                sets(&[1, 2, 3], &[], &[], &[]),
                &[2, 3],
                &[Load(3), Load(2), Load(1)],
            ),
            // One that failed while it serves (a reload) goes on.
            ("latest", sets(&[2], &[2], &[2], &[]), &[], &[]),
            // Files that are gone drop nothing.
            ("latest", sets(&[], &[2], &[], &[]), &[], &[]),
            ("latest", sets(&[1], &[2], &[], &[]), &[], &[]),
            ("all", sets(&[2], &[1, 2], &[], &[]), &[], &[]),
            (
                "latest",
                sets(&[3], &[2], &[], &[]),
                &[],
                &[Load(3), Unload(2)],
            ),
            (
                "latest:2",
                sets(&[1, 2, 3, 4], &[1, 2], &[], &[]),
                &[],
                &[Load(4), Load(3), Unload(1), Unload(2)],
            ),
            (
                "latest:2",
                sets(&[1, 2, 3], &[1, 2], &[], &[]),
                &[3],
                &[Load(3)],
            ),
            (
                "all",
                sets(&[1, 2, 3], &[1], &[], &[]),
                &[2],
                &[Load(3), Load(2)],
            ),
            (
                "1,3",
                sets(&[1, 2, 3], &[2], &[], &[]),
                &[],
                &[Load(3), Load(1), Unload(2)],
            ),
            // What is asked for is not there: what serves goes on.
            ("7", sets(&[1, 2], &[2], &[], &[]), &[], &[]),
            // A label keeps its version.
            ("latest", sets(&[1, 2, 3], &[1], &[], &[1]), &[], &[Load(3)]),
            (
                "latest",
                sets(&[1, 2, 3], &[], &[], &[1, 9]),
                &[],
                &[Load(3), Load(1)],
            ),
        ];
        for (policy, sets, bad, expected) in cases {
            let shown = format!("{policy} {sets:?}");
            assert_eq!(settle(policy, sets, bad), expected, "{shown}");
        }
    }

    #[test]
    fn what_is_dismissed_goes_once_another_serves() {
        use VersionStep::{Load, Unload};
        let dismissed = |found: &[u64]| VersionSets {
            dismissed: [3].into(),
            ..sets(found, &[3], &[], &[])
        };
        assert_eq!(
            settle("latest", dismissed(&[1, 2]), &[]),
            [Load(2), Unload(3)]
        );
        assert_eq!(settle("latest", dismissed(&[2]), &[2]), [Load(2)]);
        assert_eq!(settle("latest", dismissed(&[]), &[]), []);
    }

    #[test]
    fn policies_are_written_as_words_or_numbers() {
        let latest = |n| VersionPolicy::Latest(NonZero::new(n).unwrap());
        let cases = [
            ("latest", latest(1)),
            ("latest:3", latest(3)),
            ("all", VersionPolicy::All),
            ("3, 1", VersionPolicy::Specific([1, 3].into())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "latest:0", "latest:", "newest", "1,", "-1", "1;2"] {
            let error = text.parse::<VersionPolicy>().unwrap_err();
            assert!(error.starts_with("write latest"), "{text}: {error}");
        }
    }

    #[test]
    fn a_version_that_left_ends_with_its_last_request() {
        let model = Arc::new(served("a", false));
        let idle = IdleVersion {
            version: 2,
            reason: IdleReason::Left(Arc::downgrade(&model)),
        };
        assert_eq!(idle.status().state, VersionState::Unloading);
        drop(model);
        assert_eq!(idle.status().state, VersionState::End);
    }
}
