//! How a service's requests are to be split: KServe's rules, as pure functions.

/// What bears on the split of a service without canary blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rollout {
    /// The newest revision.
    pub(crate) latest_created: String,
    /// The newest revision that is ready.
    pub(crate) latest_ready: Option<String>,
    /// The newest revision that had all requests.
    pub(crate) rolled_out: Option<String>,
    /// The one that had them before.
    pub(crate) previous: Option<String>,
    /// `canaryTrafficPercent`.
    pub(crate) percent: Option<u8>,
}

/// A revision's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) revision: String,
    pub(crate) percent: u8,
    /// Whether the share goes to whatever revision is the newest that is ready.
    pub(crate) latest: bool,
    pub(crate) tag: Option<String>,
}

const PREV: &str = "prev";

impl Rollout {
    /// Returns the split; empty if no revision is ready.
    ///
    /// The newest ready revision gets `percent` (all, if that is not set or nothing was rolled out before), the one
    /// rolled out last gets the rest, under the tag `prev`.
    pub(crate) fn shares(&self) -> Vec<Share> {
        let Some(latest) = &self.latest_ready else {
            return Vec::new();
        };
        let (percent, stable) = match (self.percent, &self.rolled_out) {
            (Some(percent), Some(stable)) => (percent.min(100), Some(stable)),
            _ => (100, None),
        };
        let mut shares = vec![Share {
            revision: latest.clone(),
            percent,
            latest: true,
            tag: None,
        }];
        if let Some(stable) = stable.filter(|_| percent < 100) {
            shares.push(Share {
                revision: stable.clone(),
                percent: 100 - percent,
                latest: false,
                tag: Some(PREV.to_owned()),
            });
        }
        shares
    }

    /// Returns what the rollout is once requests are split as `shares` says: which revision was rolled out last, and
    /// which before.
    pub(crate) fn advance(&self, shares: &[Share]) -> Self {
        let mut next = self.clone();
        let Some(latest) = &self.latest_ready else {
            return next;
        };
        let latest_percent = shares
            .iter()
            .find(|share| share.latest && share.revision == *latest)
            .map(|share| share.percent);
        if latest_percent == Some(100) && self.rolled_out.as_ref() != Some(latest) {
            next.previous.clone_from(&self.rolled_out);
            next.rolled_out = Some(latest.clone());
            return next;
        }
        // Taking back what was rolled out in full: the one before is pinned.
        let all_on_latest = shares
            .iter()
            .filter(|share| share.revision == *latest)
            .map(|share| u32::from(share.percent))
            .sum::<u32>()
            == 100;
        if self.rolled_out.as_ref() == Some(latest)
            && self.latest_created == *latest
            && latest_percent.is_some_and(|percent| percent < 100)
            && all_on_latest
            && self.previous.is_some()
        {
            next.rolled_out.clone_from(&self.previous);
        }
        next
    }
}

/// Returns the split of a service with canaries, each with its share and whether it is ready; the stable revision, if
/// it is ready, gets the rest.
///
/// A canary that is not ready gets nothing. Under `latest_is_canary` (the single block of tutorials) the canary counts as
/// the newest revision and the stable one as the previous.
pub(crate) fn canary_shares(
    stable: Option<&str>,
    canaries: &[(String, u8, bool)],
    latest_is_canary: bool,
) -> Vec<Share> {
    let Some(stable) = stable else {
        return Vec::new();
    };
    let ready = canaries.iter().filter(|(_, _, is_ready)| *is_ready);
    let taken: u32 = ready
        .clone()
        .map(|(_, percent, _)| u32::from(*percent))
        .sum();
    let rest = u8::try_from(100_u32.saturating_sub(taken)).unwrap_or(0);
    let mut shares: Vec<Share> = ready
        .map(|(revision, percent, _)| Share {
            revision: revision.clone(),
            percent: *percent,
            latest: latest_is_canary,
            tag: None,
        })
        .collect();
    let has_canary = !shares.is_empty();
    shares.push(Share {
        revision: stable.to_owned(),
        percent: rest,
        latest: !latest_is_canary || !has_canary,
        tag: (latest_is_canary && has_canary).then(|| PREV.to_owned()),
    });
    shares
}

/// Returns the split while a revision that is to take requests has failed: what it would take goes to the one of the others that has the most, if all
/// of them are ready. `None` where none has failed, or nothing else is there.
pub(crate) fn makeshift(
    shares: &[Share],
    is_ready: impl Fn(&str) -> bool,
    has_failed: impl Fn(&str) -> bool,
) -> Option<Vec<Share>> {
    let (taking, idle): (Vec<_>, Vec<_>) = shares.iter().partition(|share| share.percent > 0);
    let (lost, there): (Vec<_>, Vec<_>) = taking
        .into_iter()
        .partition(|share| has_failed(&share.revision));
    if lost.is_empty() || !there.iter().all(|share| is_ready(&share.revision)) {
        return None;
    }
    let freed = lost.iter().map(|share| share.percent);
    let freed = freed.fold(0, u8::saturating_add);
    let mut split: Vec<Share> = there.into_iter().cloned().collect();
    let most = split.iter_mut().max_by_key(|share| share.percent)?;
    most.percent = most.percent.saturating_add(freed);
    split.extend(idle.into_iter().cloned());
    Some(split)
}

/// Returns a split that sums to 100, as after one of its revisions is gone: the largest share takes what is missing, or loses what is too much. None takes
/// anything where none had any.
pub(crate) fn whole(mut shares: Vec<Share>) -> Vec<Share> {
    loop {
        let sum: u64 = shares.iter().map(|share| u64::from(share.percent)).sum();
        let largest = shares.iter_mut().max_by_key(|share| share.percent);
        let Some(largest) = largest.filter(|_| sum > 0) else {
            return Vec::new();
        };
        let others = sum.saturating_sub(u64::from(largest.percent));
        // Where the others have more than all, the next largest loses, too.
        largest.percent = u8::try_from(100_u64.saturating_sub(others)).unwrap_or(0);
        if others <= 100 {
            return shares;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays KServe's sequences: what is created and ready, the percentage, the expected split and rollout.
    struct Play(Rollout);

    impl Play {
        fn step(&mut self, newest: &str, percent: Option<u8>) -> Vec<(String, u8)> {
            self.0.latest_created = newest.to_owned();
            self.0.latest_ready = Some(newest.to_owned());
            self.0.percent = percent;
            self.settle()
        }

        /// Reconciles until nothing changes.
        fn settle(&mut self) -> Vec<(String, u8)> {
            loop {
                let shares = self.0.shares();
                let next = self.0.advance(&shares);
                if next == self.0 {
                    return shares
                        .into_iter()
                        .map(|share| (share.revision, share.percent))
                        .collect();
                }
                self.0 = next;
            }
        }
    }

    fn split(pairs: &[(&str, u8)]) -> Vec<(String, u8)> {
        pairs
            .iter()
            .map(|(revision, percent)| ((*revision).to_owned(), *percent))
            .collect()
    }

    #[test]
    fn kserves_sequences_hold() {
        let mut play = Play(Rollout::default());
        // (a) created with 10: all to the first; then two entries, both on it.
        assert_eq!(play.step("v1", Some(10)), split(&[("v1", 10), ("v1", 90)]));
        // (b) a second revision with 10.
        assert_eq!(play.step("v2", Some(10)), split(&[("v2", 10), ("v1", 90)]));
        // (c) another percentage.
        assert_eq!(play.step("v2", Some(40)), split(&[("v2", 40), ("v1", 60)]));
        // (d) a third revision while the second is a canary.
        assert_eq!(play.step("v3", Some(10)), split(&[("v3", 10), ("v1", 90)]));
        // (f) no requests for the canary.
        assert_eq!(play.step("v3", Some(0)), split(&[("v3", 0), ("v1", 100)]));
        // (e) promoted by removing the percentage.
        assert_eq!(play.step("v3", None), split(&[("v3", 100)]));
        assert_eq!(
            (play.0.rolled_out.as_deref(), play.0.previous.as_deref()),
            (Some("v3"), Some("v1"))
        );
        // (g) taken back after that.
        assert_eq!(play.step("v3", Some(0)), split(&[("v3", 0), ("v1", 100)]));
        // (h) and promoted again.
        assert_eq!(play.step("v3", None), split(&[("v3", 100)]));
    }

    #[test]
    fn promotion_by_a_hundred_is_promotion() {
        let mut play = Play(Rollout::default());
        play.step("v1", None);
        assert_eq!(play.step("v2", Some(20)), split(&[("v2", 20), ("v1", 80)]));
        assert_eq!(play.step("v2", Some(100)), split(&[("v2", 100)]));
        assert_eq!(play.0.previous.as_deref(), Some("v1"));
    }

    #[test]
    fn a_broken_revision_gets_nothing() {
        let mut play = Play(Rollout::default());
        play.step("v1", None);
        play.0.latest_created = "v2".to_owned();
        assert_eq!(play.settle(), split(&[("v1", 100)]));
        play.0.percent = Some(30);
        assert_eq!(play.settle(), split(&[("v1", 30), ("v1", 70)]));
        assert_eq!(play.0.rolled_out.as_deref(), Some("v1"));
    }

    #[test]
    fn what_has_failed_leaves_its_requests_to_what_is_there() {
        let share = |revision: &str, percent| Share {
            revision: revision.to_owned(),
            percent,
            latest: false,
            tag: None,
        };
        let shares = [share("b", 20), share("a", 80)];
        let split = |ready: &[&str], failed: &[&str]| {
            makeshift(
                &shares,
                |name| ready.contains(&name),
                |name| failed.contains(&name),
            )
        };
        assert_eq!(split(&["a", "b"], &[]), None);
        assert_eq!(split(&["b"], &["a"]), Some(vec![share("b", 100)]));
        assert_eq!(split(&["a"], &["b"]), Some(vec![share("a", 100)]));
        // What is being loaded is waited for.
        assert_eq!(split(&["b"], &[]), None);
        assert_eq!((split(&[], &["a"]), split(&[], &["a", "b"])), (None, None));
        // What went back stays at 0 %.
        let shares = [share("b", 0), share("a", 100)];
        assert_eq!(
            makeshift(&shares, |name| name == "b", |name| name == "a"),
            None
        );
    }

    #[test]
    fn a_split_that_is_not_whole_becomes_so_by_its_largest_share() {
        let share = |(revision, percent): &(&str, u8)| Share {
            revision: (*revision).to_owned(),
            percent: *percent,
            latest: false,
            tag: None,
        };
        let shares = |pairs: &[(&str, u8)]| -> Vec<Share> { pairs.iter().map(share).collect() };
        let cases: [(&[(&str, u8)], &[(&str, u8)]); 7] = [
            (&[("b", 20), ("a", 80)], &[("b", 20), ("a", 80)]),
            (&[("b", 20)], &[("b", 100)]),
            (&[("b", 20), ("a", 30)], &[("b", 20), ("a", 80)]),
            (&[("b", 20), ("a", 90)], &[("b", 20), ("a", 80)]),
            (
                &[("c", 100), ("b", 100), ("a", 100)],
                &[("c", 100), ("b", 0), ("a", 0)],
            ),
            // What had no requests gets none.
            (&[("b", 0)], &[]),
            (&[], &[]),
        ];
        for (given, expected) in cases {
            assert_eq!(whole(shares(given)), shares(expected), "{given:?}");
        }
        // More than a byte's worth is lost.
        let lost = shares(&[("a", 1), ("b", 100), ("c", 100), ("d", 100)]);
        let split = makeshift(&lost, |name| name == "a", |name| name != "a");
        assert_eq!(split.unwrap()[0].percent, 255);
    }

    #[test]
    fn canaries_that_are_not_ready_leave_everything_to_the_stable_one() {
        let canary = |ready| vec![("c".to_owned(), 20, ready)];
        let percents = |shares: Vec<Share>| -> Vec<(String, u8)> {
            shares
                .into_iter()
                .map(|share| (share.revision, share.percent))
                .collect()
        };
        assert_eq!(
            percents(canary_shares(Some("s"), &canary(true), true)),
            split(&[("c", 20), ("s", 80)])
        );
        assert_eq!(
            percents(canary_shares(Some("s"), &canary(false), true)),
            split(&[("s", 100)])
        );
        assert_eq!(canary_shares(None, &canary(true), true), []);
        let two = vec![("c".to_owned(), 20, true), ("d".to_owned(), 30, true)];
        assert_eq!(
            percents(canary_shares(Some("s"), &two, false)),
            split(&[("c", 20), ("d", 30), ("s", 50)])
        );
    }
}
