//! How requests for a service are split over its revisions, and found among the versions of a model.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ServedModel;
use crate::experiment::RouteExperiments;
use crate::flow::{FeedbackCounters, NoReward, Reward};
use crate::plan::{PlannedPredictor, Sticky};
use crate::predictors::Predictors;

/// The number of requests after which the split repeats.
const CYCLE: usize = 100;

/// A service's revisions with their shares, or a model's versions, of which the newest takes what asks for none.
#[derive(Debug)]
pub struct Route {
    targets: Vec<RouteTarget>,
    /// Names of versions.
    labels: BTreeMap<String, String>,
    /// For each request of a cycle, the target that takes it; empty if one takes all.
    schedule: Vec<u8>,
    /// Draws the places of a cycle, where what targets answer is compared.
    draw: Option<Draw>,
    /// The target that takes all, where one does.
    only: usize,
    sticky: Option<Sticky>,
    /// The number of requests so far, modulo the size of the integer.
    turn: AtomicUsize,
    experiments: Option<Box<RouteExperiments>>,
    /// What it was told of its answers.
    feedback: Arc<FeedbackCounters>,
    predictors: Option<Box<Predictors>>,
}

/// A revision's share of requests.
#[derive(Clone, Debug)]
pub struct RouteTarget {
    /// The model.
    pub model: Arc<ServedModel>,
    /// The share, 0 to 100.
    pub percent: u8,
    /// Names under which the revision can be asked directly.
    pub tags: Vec<String>,
}

impl Route {
    /// Returns a route over `targets`, whose percentages sum to 100; `None` if they do not, or there are too many.
    #[must_use]
    pub fn try_new(targets: Vec<RouteTarget>, sticky: Option<Sticky>) -> Option<Self> {
        let sum: usize = targets
            .iter()
            .map(|target| usize::from(target.percent))
            .sum();
        if sum != CYCLE || targets.len() > usize::from(u8::MAX) {
            return None;
        }
        let shares: Vec<usize> = targets
            .iter()
            .map(|target| usize::from(target.percent))
            .collect();
        let schedule = match shares.contains(&CYCLE) {
            true => Vec::new(),
            false => spread(&shares),
        };
        Some(Self {
            only: shares.iter().position(|&share| share == CYCLE).unwrap_or(0),
            targets,
            labels: BTreeMap::new(),
            schedule,
            draw: None,
            sticky,
            turn: AtomicUsize::new(0),
            experiments: None,
            feedback: Arc::default(),
            predictors: None,
        })
    }

    /// Returns the route with requests split by chance instead of in turn, for targets that are compared: callers whose requests differ
    /// in turn, too, would have one target take those of one kind. Of each hundred requests from the first on every target still gets
    /// exactly its percentage.
    #[must_use]
    pub fn with_draw(mut self, draw: Draw) -> Self {
        self.draw = Some(draw);
        self
    }

    /// Returns the route with experiments on it, if there are any.
    #[must_use]
    pub fn with_experiments(mut self, experiments: Option<RouteExperiments>) -> Self {
        self.experiments = experiments.map(Box::new);
        self
    }

    /// Returns the route of a service with the predictors that its targets are, if those are several, and with what the one before it was told of its answers.
    #[must_use]
    pub fn with_feedback(
        mut self,
        (service, predictors): (&str, &[PlannedPredictor]),
        before: Option<&Self>,
    ) -> Self {
        if let Some(before) = before {
            self.feedback = Arc::clone(&before.feedback);
        }
        let before = before.and_then(Self::predictors);
        self.predictors = Predictors::several(service, predictors, before).map(Box::new);
        self
    }

    /// Returns what it was told of its answers, where nobody asks which of its targets gave them.
    #[must_use]
    pub fn feedback(&self) -> &FeedbackCounters {
        &self.feedback
    }

    /// Returns the predictors that its targets are, if those are several.
    #[must_use]
    pub fn predictors(&self) -> Option<&Predictors> {
        self.predictors.as_deref()
    }

    /// Takes what came of an answer; returns the name of the node that gave it, if one did.
    ///
    /// # Errors
    /// [`NoReward`] if there are several predictors, and it is not said which one that was.
    pub fn reward(&self, reward: &Reward<'_>) -> Result<Option<&str>, NoReward> {
        if let Some(predictors) = self.predictors() {
            return predictors.reward(reward);
        }
        self.feedback.add(reward.reward);
        let first = self.targets.first();
        Ok(first.map(|target| target.model.name()))
    }

    /// Returns the experiments on it.
    #[must_use]
    pub fn experiments(&self) -> Option<&RouteExperiments> {
        self.experiments.as_deref()
    }

    /// Returns a route with one target.
    #[must_use]
    pub fn single(model: Arc<ServedModel>) -> Self {
        let target = RouteTarget {
            model,
            percent: 100,
            tags: Vec::new(),
        };
        Self {
            targets: vec![target],
            labels: BTreeMap::new(),
            schedule: Vec::new(),
            draw: None,
            only: 0,
            sticky: None,
            turn: AtomicUsize::new(0),
            experiments: None,
            feedback: Arc::default(),
            predictors: None,
        }
    }

    /// Returns a route over the versions of a model, oldest first, and the versions that labels name; `None` if there is
    /// no version. The newest takes the requests that ask for no version.
    #[must_use]
    pub fn versions(
        models: Vec<Arc<ServedModel>>,
        labels: BTreeMap<String, String>,
    ) -> Option<Self> {
        let newest = models.len().checked_sub(1)?;
        let models = models.into_iter().enumerate();
        let target = |(index, model)| RouteTarget {
            model,
            percent: if index == newest { 100 } else { 0 },
            tags: Vec::new(),
        };
        Some(Self {
            targets: models.map(target).collect(),
            labels,
            schedule: Vec::new(),
            draw: None,
            only: newest,
            sticky: None,
            turn: AtomicUsize::new(0),
            experiments: None,
            feedback: Arc::default(),
            predictors: None,
        })
    }

    /// Returns the model of this version.
    #[must_use]
    pub fn version(&self, version: &str) -> Option<&Arc<ServedModel>> {
        let models = self.targets.iter().map(|target| &target.model);
        models.into_iter().find(|model| model.version() == version)
    }

    /// Returns the version that a label names, served or not.
    #[must_use]
    pub fn label(&self, label: &str) -> Option<&str> {
        self.labels.get(label).map(String::as_str)
    }

    /// Returns the versions that are served, each once, oldest first.
    #[must_use]
    pub fn served_versions(&self) -> Vec<&str> {
        let models = self.targets.iter().map(|target| &target.model);
        let mut versions: Vec<&str> = models.map(|model| model.version()).collect();
        versions.dedup();
        versions
    }

    /// Returns the model that takes the next request.
    ///
    /// Of any 100 requests in a row each target gets exactly its percentage, evenly spread; see [`Route::with_draw`] for another way.
    #[must_use]
    pub fn choose(&self) -> &Arc<ServedModel> {
        let index = match self.schedule.as_slice() {
            [] => self.only,
            schedule => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let place = match &self.draw {
                    Some(draw) => draw.place(turn as u64) as usize,
                    None => turn,
                };
                usize::from(schedule[place % schedule.len()])
            }
        };
        &self.targets[index].model
    }

    /// Returns what of a request decides which target takes it; `None` where that does not matter.
    #[must_use]
    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref().filter(|_| !self.schedule.is_empty())
    }

    /// Returns the model that takes every request with this value of what [`Route::sticky`] names.
    ///
    /// The order of the values is its first target's own: else the same callers would be the first of every canary.
    #[must_use]
    pub fn choose_for(&self, value: &[u8]) -> &Arc<ServedModel> {
        let first = self
            .targets
            .first()
            .and_then(|first| first.model.revision());
        let salt = first.map_or("", |revision| &revision.name).as_bytes();
        // FNV-1a, then a multiplication that brings the upper bits down: spreads short and similar values.
        let bytes = salt.iter().chain(&[0]).chain(value);
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let place = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let place = place % (CYCLE as u64);
        let mut end = 0;
        let target = self.targets.iter().find(|target| {
            end += u64::from(target.percent);
            place < end
        });
        target.map_or_else(|| self.choose(), |target| &target.model)
    }

    /// Returns the model under a tag.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> Option<&Arc<ServedModel>> {
        let has_tag = |target: &&RouteTarget| target.tags.iter().any(|one| one == tag);
        self.targets
            .iter()
            .find(has_tag)
            .map(|target| &target.model)
    }

    /// Returns the model of the target that is the revision of this name.
    #[must_use]
    pub fn revision(&self, name: &str) -> Option<&Arc<ServedModel>> {
        let mut models = self.targets.iter().map(|target| &target.model);
        models.find(|model| model.revision().is_some_and(|id| id.name == name))
    }

    /// Tells whether processes answer for any of its targets.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        self.targets
            .iter()
            .any(|target| target.model.is_forwarded())
    }

    /// Returns the targets.
    #[must_use]
    pub fn targets(&self) -> &[RouteTarget] {
        &self.targets
    }
}

/// Draws the order of the hundred places of each cycle of turns.
#[derive(Clone, Debug)]
pub struct Draw {
    seed: u64,
}

impl Draw {
    /// The same seed draws the same orders.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Draws orders that nobody can tell beforehand.
    #[must_use]
    pub fn unforeseen() -> Self {
        Self::new(RandomState::new().hash_one(()))
    }

    /// Returns the place of a turn, 0 to 99; those of the hundred turns of a cycle are all places, each once.
    #[must_use]
    pub fn place(&self, turn: u64) -> u64 {
        /// The least prime above the number of places: multiplying by a number below it leaves no two of them alike.
        const PRIME: u64 = CYCLE as u64 + 1;
        let cycle = turn / CYCLE as u64;
        // splitmix64's finaliser (Steele, Lea and Flood, 2014).
        let mut mixed = self.seed ^ cycle.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let (step, offset) = (
            1 + (mixed & 0xffff_ffff) % (PRIME - 1),
            (mixed >> 32) % PRIME,
        );
        let mut place = turn % CYCLE as u64;
        loop {
            place = (place * step + offset) % PRIME;
            // One place too many: what comes there goes on to where that one goes.
            if place < CYCLE as u64 {
                return place;
            }
        }
    }
}

/// Spreads targets over a cycle in proportion to their shares: each turn goes to the target that is furthest behind
/// (smooth weighted round robin, as nginx has it).
pub(crate) fn spread(shares: &[usize]) -> Vec<u8> {
    let total: usize = shares.iter().sum();
    let mut credits = vec![0_i64; shares.len()];
    let mut schedule = Vec::with_capacity(total);
    for _ in 0..total {
        for (credit, &share) in credits.iter_mut().zip(shares) {
            *credit += i64::try_from(share).unwrap_or(0);
        }
        let mut best = 0;
        for (index, &credit) in credits.iter().enumerate() {
            if credit > credits[best] {
                best = index;
            }
        }
        credits[best] -= i64::try_from(total).unwrap_or(0);
        schedule.push(u8::try_from(best).unwrap_or(0));
    }
    schedule
}

#[cfg(test)]
mod tests {
    use coracle_base::SystemClock;

    use super::*;
    use crate::served_model::tests::served;
    use crate::{RevisionId, RevisionLog};

    #[test]
    fn every_window_of_a_hundred_has_the_exact_split() {
        for shares in [
            vec![20, 80],
            vec![1, 99],
            vec![33, 33, 34],
            vec![0, 50, 50],
            vec![10, 20, 30, 40],
        ] {
            let schedule = spread(&shares);
            let twice = [schedule.clone(), schedule].concat();
            for window in twice.windows(CYCLE) {
                for (index, &share) in shares.iter().enumerate() {
                    let n_taken = window
                        .iter()
                        .filter(|&&target| usize::from(target) == index)
                        .count();
                    assert_eq!(n_taken, share, "{shares:?}");
                }
            }
        }
    }

    /// However requests alternate, each target gets its share of every kind.
    #[test]
    fn a_split_by_chance_is_without_regard_to_what_comes_in_turn() {
        let draw = Draw::new(7);
        let schedule = spread(&[10, 90]);
        let taken: Vec<bool> = (0..200_000)
            .map(|turn| schedule[draw.place(turn) as usize] == 0)
            .collect();
        for cycle in taken.chunks(CYCLE) {
            assert_eq!(cycle.iter().filter(|&&taken| taken).count(), 10);
        }
        for period in 2..=100 {
            for kind in 0..period {
                let of_kind = taken.iter().skip(kind).step_by(period);
                let (n, n_taken) = of_kind.fold((0.0, 0.0), |(n, n_taken), &taken| {
                    (n + 1.0, n_taken + f64::from(u8::from(taken)))
                });
                let deviation: f64 = (n_taken - 0.1 * n) / f64::sqrt(n * 0.1 * 0.9);
                assert!(deviation.abs() < 6.0, "{period} {kind}: {deviation}");
            }
        }
    }

    #[test]
    fn orders_of_a_cycle_have_every_place_once() {
        for seed in 0..50 {
            let draw = Draw::new(seed);
            for cycle in 0..20 {
                let mut places: Vec<u64> = (0..100)
                    .map(|turn| draw.place(cycle * 100 + turn))
                    .collect();
                places.sort_unstable();
                assert_eq!(places, (0..100).collect::<Vec<u64>>());
            }
        }
        assert!(Draw::unforeseen().place(u64::MAX) < 100);
    }

    #[test]
    fn a_caller_stays_and_moves_only_to_the_target_that_grows() {
        let route = |percent: u8| {
            let target = |name: &str, percent: u8| RouteTarget {
                model: Arc::new(served(name, false)),
                percent,
                tags: vec![],
            };
            let targets = vec![target("new", percent), target("old", 100 - percent)];
            Route::try_new(targets, Some(Sticky::Header("x-user".to_owned()))).unwrap()
        };
        let (few, many) = (route(20), route(60));
        assert!(few.sticky().is_some() && route(100).sticky().is_none());
        let mut n_new = 0;
        for user in 0..10_000_u32 {
            let value = format!("user-{user}");
            let first = few.choose_for(value.as_bytes()).name().to_owned();
            assert_eq!(few.choose_for(value.as_bytes()).name(), first);
            n_new += usize::from(first == "new");
            if first == "new" {
                assert_eq!(many.choose_for(value.as_bytes()).name(), "new");
            }
        }
        assert!((1_800..2_200).contains(&n_new), "{n_new}");
    }

    /// A tenth of the callers of one canary is a hundredth of all together with the next one's, not the same tenth.
    #[test]
    fn each_canary_has_callers_of_its_own() {
        let route = |canary: &str| {
            let target = |name: &str, percent: u8| {
                let revision = RevisionId {
                    namespace: "ml".to_owned(),
                    name: name.to_owned(),
                };
                let log = RevisionLog::none(Arc::new(SystemClock::new()));
                RouteTarget {
                    model: Arc::new(served(name, false).with_revision(
                        &revision,
                        log,
                        Box::new(|| ()),
                    )),
                    percent,
                    tags: vec![],
                }
            };
            let targets = vec![target(canary, 10), target("old", 90)];
            Route::try_new(targets, Some(Sticky::Header("x-user".to_owned()))).unwrap()
        };
        let canaries = ["iris-predictor-00002", "iris-predictor-00003"];
        let routes = canaries.map(route);
        let (mut n_of_one, mut n_of_both) = (0, 0);
        for user in 0..10_000_u32 {
            let value = format!("user-{user}");
            let [one, other] = [&routes[0], &routes[1]]
                .map(|route| route.choose_for(value.as_bytes()).name() != "old");
            n_of_one += usize::from(one);
            n_of_both += usize::from(one && other);
        }
        assert!((900..1_100).contains(&n_of_one), "{n_of_one}");
        assert!((60..140).contains(&n_of_both), "{n_of_both}");
    }

    #[test]
    fn the_newest_version_takes_what_asks_for_none() {
        let model = |version| Arc::new(served("a", false).with_version(version));
        let labels = BTreeMap::from([("stable".to_owned(), "2".to_owned())]);
        let route = Route::versions(vec![model(2), model(9), model(10)], labels).unwrap();
        for _ in 0..3 {
            assert_eq!(route.choose().version(), "10");
        }
        assert_eq!(route.version("9").unwrap().version(), "9");
        assert!(route.version("1").is_none() && route.label("canary").is_none());
        assert_eq!(route.label("stable"), Some("2"));
        assert_eq!(route.served_versions(), ["2", "9", "10"]);
        assert!(route.sticky().is_none() && !route.is_forwarded());
        assert!(Route::versions(vec![], BTreeMap::new()).is_none());
    }

    #[test]
    fn turns_are_evenly_spread() {
        let schedule = spread(&[20, 80]);
        for window in schedule.windows(5) {
            assert_eq!(window.iter().filter(|&&target| target == 0).count(), 1);
        }
    }
}
