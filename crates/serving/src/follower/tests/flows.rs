//! Flows of revisions.

use super::*;

/// Adds a flow of these revisions, one after another, to a plan.
pub(super) fn with_flow(plan: Plan, revisions: &[&str]) -> Plan {
    use crate::flow::{AskStep, PlannedFlow, Step};

    let ask = |revision: &&str| {
        Step::Ask(AskStep {
            node: "node".to_owned(),
            service: "s".to_owned(),
            revision: Some((*revision).to_owned()),
        })
    };
    let flow = PlannedFlow {
        name: "node".to_owned(),
        root: Step::Chain(revisions.iter().map(ask).collect()),
        shadow: None,
        fallback: None,
    };
    Plan {
        flows: [(service(), flow)].into(),
        ..plan
    }
}

#[test]
fn a_flow_switches_once_all_its_revisions_are_ready_and_not_before_that() {
    use crate::flow::{FlowStep, FlowTarget};

    let fixture = fixture();
    let observed_revisions = |observed: &Observed| {
        let flow = observed.flows.get(&service());
        let revisions = flow.map(|flow| flow.revisions().len());
        revisions.unwrap_or_default()
    };
    let of_a = plan(&[("a", "", 0)], &[("a", 100)]);
    fixture.plans.send(with_flow(of_a, &["a"]));
    fixture.wait(|observed| observed.revisions.contains_key(&id("a")));
    assert!(!fixture.table.load().has_flows());
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| observed_revisions(observed) == 1);
    assert!(fixture.table.load().flow(&service()).is_some());
    // A revision that goes and comes back is another model, which requests get once it is there.
    fixture.plans.send(with_flow(Plan::default(), &["a"]));
    fixture.wait(|observed| observed.revisions.is_empty());
    let of_a = plan(&[("a", "", 0)], &[("a", 100)]);
    fixture.plans.send(with_flow(of_a, &["a"]));
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| is_ready(observed, "a") && !observed.routes.is_empty());
    {
        let table = fixture.table.load();
        let FlowStep::Chain(steps) = table.flow(&service()).unwrap().root() else {
            panic!("no chain");
        };
        let FlowStep::Ask(ask) = &steps[0] else {
            panic!("no model");
        };
        let FlowTarget::Revision(held) = &ask.target else {
            panic!("no revision");
        };
        let now = table.service(&service()).unwrap().choose();
        assert!(Arc::ptr_eq(held, now));
    }
    let of_both = plan(&[("a", "", 0), ("b", "", 0)], &[("a", 100)]);
    fixture.plans.send(with_flow(of_both.clone(), &["a", "b"]));
    let observed = fixture.wait(|observed| observed.revisions.contains_key(&id("b")));
    assert_eq!(observed_revisions(&observed), 1);
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| observed_revisions(observed) == 2);
    fixture.plans.send(of_both);
    fixture.wait(|observed| observed.flows.is_empty());
    assert!(!fixture.table.load().has_flows());
    fixture.plans.stop();
}
