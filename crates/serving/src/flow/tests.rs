//! Flows are built, succeed each other, choose and take rewards. What routers do is what Seldon's do (`RANDOM_ABTEST` of its executor, its epsilon-greedy
//! and Thompson routers).

use super::*;
use crate::served_model::tests::served;

fn id() -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: "iris".to_owned(),
    }
}

fn ask(node: &str) -> Step {
    Step::Ask(AskStep {
        node: node.to_owned(),
        service: format!("iris-default-{node}"),
        revision: Some(format!("iris-default-{node}-predictor-00001")),
    })
}

fn one(node: &str, routing: Routing, branches: &[&str]) -> Step {
    let branches = branches.iter().map(|name| ((*name).to_owned(), ask(name)));
    Step::One(OneStep {
        node: node.to_owned(),
        routing,
        branches: branches.collect(),
    })
}

fn epsilon_greedy(epsilon: f64, start: Option<usize>) -> Routing {
    Routing::Bandit(PlannedBandit::EpsilonGreedy {
        epsilon,
        start,
        seed: 7,
    })
}

fn planned(root: Step) -> PlannedFlow {
    PlannedFlow {
        name: "first".to_owned(),
        root,
        shadow: None,
        fallback: None,
    }
}

fn there(revision: &RevisionId) -> Option<Arc<ServedModel>> {
    Some(Arc::new(served(&revision.name, false)))
}

fn flow(root: Step) -> Flow {
    Flow::try_new(&id(), &planned(root), &there, None).unwrap()
}

fn router(flow: &Flow) -> &Router {
    flow.routers().next().unwrap().1
}

/// Returns how often each of three branches is chosen of so many requests.
fn chosen(router: &Router, n_requests: usize) -> [usize; 3] {
    let mut counts = [0; 3];
    for _ in 0..n_requests {
        counts[router.choose()] += 1;
    }
    counts
}

fn rewarded(flow: &Flow, reward: f64, routing: &[(&str, i64)]) -> Result<Vec<String>, NoReward> {
    let routing = |node: &str| {
        let mut pairs = routing.iter();
        pairs.find(|(name, _)| *name == node).map(|pair| pair.1)
    };
    let given = flow.reward(&Reward {
        reward,
        n_rows: 1,
        routing: &routing,
    });
    given.map(|nodes| nodes.into_iter().map(str::to_owned).collect())
}

fn counts(flow: &Flow) -> Vec<(String, u64, f64)> {
    let all = flow.feedback();
    all.map(|(node, one)| (node.to_owned(), one.count(), one.reward()))
        .collect()
}

#[test]
fn a_flow_waits_for_all_its_revisions() {
    let root = Step::Chain(vec![ask("a"), one("r", Routing::First, &["b", "c"])]);
    let planned = planned(root);
    let mut revisions = planned.revisions();
    revisions.sort_unstable();
    let all = ["a", "b", "c"].map(|node| format!("iris-default-{node}-predictor-00001"));
    assert_eq!(revisions, all);
    for missing in &all {
        let find = |revision: &RevisionId| match revision.name == *missing {
            true => None,
            false => there(revision),
        };
        assert!(Flow::try_new(&id(), &planned, &find, None).is_none());
    }
    assert!(Flow::try_new(&id(), &planned, &there, None).is_some());
}

#[test]
fn shares_are_exact_and_draws_are_independent() {
    let by_shares = flow(one(
        "p",
        Routing::Shares(vec![20, 30, 50]),
        &["a", "b", "c"],
    ));
    for _ in 0..3 {
        assert_eq!(chosen(router(&by_shares), 100), [20, 30, 50]);
    }
    let first = flow(one("r", Routing::First, &["a", "b"]));
    assert_eq!(chosen(router(&first), 50), [50, 0, 0]);
    let random = flow(one("r", Routing::Random { first: 0.3 }, &["a", "b"]));
    let turns: Vec<usize> = (0..20_000).map(|_| router(&random).choose()).collect();
    let n_first = turns.iter().filter(|branch| **branch == 0).count();
    // Four standard errors.
    assert!((5_740..=6_260).contains(&n_first), "{n_first}");
    // Two firsts follow each other as often as chance has it, 0.09; taking turns would not.
    let n_pairs = turns.windows(2).filter(|pair| pair == &[0, 0]).count();
    assert!((1_600..=2_000).contains(&n_pairs), "{n_pairs}");
    let taken: Vec<(&str, u64)> = router(&random).taken().collect();
    let n_first = u64::try_from(n_first).unwrap();
    assert_eq!(taken, [("a", n_first), ("b", 20_000 - n_first)]);
}

#[test]
fn routers_draw_independently_of_each_other() {
    let random = || Routing::Random { first: 0.5 };
    let flow = flow(Step::Chain(vec![
        one("outer", random(), &["a", "b"]),
        one("inner", random(), &["c", "d"]),
    ]));
    let routers: Vec<&Router> = flow.routers().map(|(_, router)| router).collect();
    let draws = (0..10_000).map(|_| routers[0].choose() == routers[1].choose());
    let n_equal = draws.filter(|is_equal| *is_equal).count();
    // Four standard errors.
    assert!((4_800..=5_200).contains(&n_equal), "{n_equal}");
}

#[test]
fn rewards_go_to_the_branch_that_earned_them() {
    let inner = one("inner", Routing::Random { first: 0.5 }, &["b", "c"]);
    let branches = vec![("a".to_owned(), ask("a")), ("inner".to_owned(), inner)];
    let flow = flow(Step::Chain(vec![
        ask("scale"),
        Step::One(OneStep {
            node: "outer".to_owned(),
            routing: epsilon_greedy(0.1, None),
            branches,
        }),
    ]));
    let given = rewarded(&flow, 0.5, &[("outer", 1), ("inner", 0)]);
    assert_eq!(given.unwrap(), ["scale", "b"]);
    // Of a router that does not learn all branches are told, as Seldon's executor does.
    let given = rewarded(&flow, 1.0, &[("outer", 1)]);
    assert_eq!(given.unwrap(), ["scale", "b", "c"]);
    // A reward of nothing is a reward.
    let given = rewarded(&flow, 0.0, &[("outer", 0)]);
    assert_eq!(given.unwrap(), ["scale", "a"]);
    let expected = [
        ("a", 1, 0.0),
        ("b", 2, 1.5),
        ("c", 1, 1.0),
        ("scale", 3, 1.5),
    ];
    let expected = expected.map(|(node, count, reward)| (node.to_owned(), count, reward));
    assert_eq!(counts(&flow), expected);
    for (routing, words) in [
        (&[][..], "does not say which branch of 'outer'"),
        (&[("outer", -1)], "does not say which branch of 'outer'"),
        (&[("outer", 2)], "names branch 2 of 'outer', which has 2"),
        (&[("outer", 1), ("inner", -3)], "names branch -3 of 'inner'"),
    ] {
        let error = rewarded(&flow, 1.0, routing).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    // Nobody has a reward that cannot be given, nor one of an answer that no branch gave.
    assert_eq!(counts(&flow), expected);
    let given = rewarded(&flow, 0.0, &[("outer", NOBODY)]);
    assert_eq!(given.unwrap(), ["scale"]);
    let (_, outer) = flow.routers().find(|(key, _)| *key == "outer").unwrap();
    // The one half of one row is none that was won, as Seldon's routers count.
    assert_eq!(outer.earned(), [(0.0, 1), (0.5, 2)]);
}

#[test]
fn routers_that_learn_choose_what_earns() {
    let flow_of = |routing: Routing| flow(one("r", routing, &["a", "b", "c"]));
    let greedy = flow_of(epsilon_greedy(0.2, Some(2)));
    // As long as nothing is known, it is the branch that it is told.
    let opening = chosen(router(&greedy), 10_000);
    assert!((7_840..=8_160).contains(&opening[2]), "{opening:?}");
    for routing in [
        epsilon_greedy(0.2, None),
        Routing::Bandit(PlannedBandit::Thompson { seed: 3 }),
    ] {
        let flow = flow_of(routing.clone());
        let rates = [0.2, 0.8, 0.4];
        let mut noise = 0.5_f64;
        for _ in 0..2_000 {
            let branch = router(&flow).choose();
            noise = (noise + 0.618_033_988_749_895).fract();
            let reward = f64::from(u8::from(noise < rates[branch]));
            let routing = [("r", i64::try_from(branch).unwrap())];
            rewarded(&flow, reward, &routing).unwrap();
        }
        let counts = chosen(router(&flow), 10_000);
        assert!(counts[1] > 7_500, "{routing:?}: {counts:?}");
        let n_rows: u64 = router(&flow).earned().iter().map(|one| one.1).sum();
        assert_eq!(n_rows, 2_000);
    }
}

#[test]
fn rows_are_trials() {
    let flow = flow(one("r", epsilon_greedy(0.0, None), &["a", "b"]));
    let give = |branch: i64, reward: f64, n_rows: u64| {
        let routing = move |_: &str| Some(branch);
        let reward = Reward {
            reward,
            n_rows,
            routing: &routing,
        };
        flow.reward(&reward).unwrap();
    };
    give(1, 0.5, 5);
    give(1, 7.0, 1);
    give(0, -1.0, 3);
    give(0, 1.0, 0);
    let earned = router(&flow).earned();
    // int(0.5 * 5) of five, and one of one; rewards beyond 0 and 1 are held to them.
    assert_eq!(earned[0], (0.0, 3));
    assert_eq!(earned[1].1, 6);
    assert!((earned[1].0 - 0.5).abs() < 1e-12, "{earned:?}");
    assert_eq!(chosen(router(&flow), 100), [0, 100, 0]);
}

#[test]
fn what_is_learnt_stays_with_a_router_that_stays() {
    let of = |epsilon: f64, branches: &[&str]| {
        let of_a = one("r", epsilon_greedy(epsilon, None), branches);
        let of_b = one("r", epsilon_greedy(0.5, None), &["x", "y"]);
        planned(Step::One(OneStep {
            node: "iris".to_owned(),
            routing: Routing::Shares(vec![50, 50]),
            branches: vec![("a".to_owned(), of_a), ("b".to_owned(), of_b)],
        }))
    };
    let before = Flow::try_new(&id(), &of(0.1, &["a", "b"]), &there, None).unwrap();
    rewarded(&before, 1.0, &[("iris", 0), ("r", 1)]).unwrap();
    before.count(Ok(()));
    let earned = |flow: &Flow, key: &str| {
        let mut routers = flow.routers();
        routers.find(|(one, _)| *one == key).unwrap().1.earned()
    };
    let learnt = [(0.0, 0), (1.0, 1)];
    let after =
        |planned: PlannedFlow| Flow::try_new(&id(), &planned, &there, Some(&before)).unwrap();
    let same = after(of(0.1, &["a", "b"]));
    assert_eq!(earned(&same, "a/r"), learnt);
    // Routers of one name in two predictors are two.
    assert_eq!(earned(&same, "b/r"), [(0.0, 0), (0.0, 0)]);
    assert_eq!(same.outcomes().next(), Some((None, 1)));
    let other = after(of(0.2, &["a", "b"]));
    assert_eq!(earned(&other, "a/r"), [(0.0, 0), (0.0, 0)]);
    let more = after(of(0.1, &["a", "b", "c"]));
    assert_eq!(earned(&more, "a/r").len(), 3);
    // What the models were told is counted on.
    let (node, told) = more.feedback().nth(1).unwrap();
    assert_eq!((node, told.count()), ("a/b", 1));
}
