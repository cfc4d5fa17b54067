//! Several predictors of one deployment.

use super::*;

/// Who is one of several predictors knows which one, for as long as there are several; what came of their answers stays.
#[test]
fn several_predictors_know_which_one_they_are() {
    let fixture = fixture();
    let predictor = |name: &str| PlannedPredictor {
        name: name.to_owned(),
        node: "classify".to_owned(),
        revisions: vec![name.to_owned()],
    };
    let both = |predictors: Vec<PlannedPredictor>, shares: &[(&str, u8)]| {
        let mut plan = plan(&[("a", "", 0), ("b", "", 0)], shares);
        plan.routes.get_mut(&service()).unwrap().predictors = predictors;
        plan
    };
    let planned = both(
        vec![predictor("b"), predictor("a")],
        &[("a", 50), ("b", 50)],
    );
    fixture.plans.send(planned);
    for _ in 0..2 {
        fixture.open.send(()).unwrap();
    }
    fixture.wait(|observed| !observed.routes.is_empty());
    let numbers = || {
        let table = fixture.table.load();
        let targets = table.service(&service()).unwrap().targets().iter();
        let numbers = targets.map(|target| target.model.branch().map(|branch| branch.number));
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(numbers(), [Some(1), Some(0)]);
    let reward = Reward {
        reward: 1.0,
        n_rows: 1,
        routing: &|_node| Some(0),
    };
    let told = || {
        let table = fixture.table.load();
        let route = Arc::clone(table.service(&service()).unwrap());
        let predictors = route.predictors().into_iter();
        let all = predictors.flat_map(Predictors::feedback);
        let all = all.map(|(key, counters)| (key.to_owned(), counters.count()));
        (Arc::clone(&route), all.collect::<Vec<_>>())
    };
    assert_eq!(told().0.reward(&reward), Ok(Some("classify")));
    let planned = both(
        vec![predictor("a"), predictor("b")],
        &[("a", 60), ("b", 40)],
    );
    fixture.plans.send(planned);
    fixture.wait(|observed| observed.routes[&service()].targets[0].percent == 60);
    assert_eq!(numbers(), [Some(0), Some(1)]);
    let expected = [("a/classify".to_owned(), 0), ("b/classify".to_owned(), 1)];
    assert_eq!(told().1, expected);
    fixture
        .plans
        .send(both(Vec::new(), &[("a", 60), ("b", 40)]));
    fixture.wait(|observed| observed.routes[&service()].predictors.is_empty());
    assert_eq!(numbers(), [None, None]);
    assert_eq!(
        told().0.reward(&reward),
        Ok(Some(told().0.targets()[0].model.name()))
    );
    fixture.plans.stop();
}
