//! One experiment's way, look by look.

use coracle_serving::experiment::{ExperimentId, PlannedVariant, VariantTarget};

use super::*;

fn wanted(promotes: bool, after: u64, stops_on_harm: bool) -> Wanted {
    let variant = |name: &str| PlannedVariant {
        name: name.to_owned(),
        weight: 1,
        target: VariantTarget::Own,
    };
    Wanted {
        planned: PlannedExperiment {
            variants: vec![variant("a"), variant("b")],
            ..PlannedExperiment::default()
        },
        promotes,
        after: Duration::from_secs(after),
        stops_on_harm,
    }
}

fn told(verdict: SummaryVerdict) -> ExperimentSummary {
    ExperimentSummary {
        stage: None,
        id: ExperimentId {
            namespace: "ml".to_owned(),
            name: "ab".to_owned(),
        },
        uid: "u".to_owned(),
        variants: vec![("a".to_owned(), 5, 7), ("b".to_owned(), 4, 4)],
        n_unassigned: 3,
        verdict,
        why: "numbers".to_owned(),
    }
}

struct Play {
    wanted: Wanted,
    status: ExperimentStatus,
    at: u64,
}

impl Play {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            status: ExperimentStatus::default(),
            at: 1_000,
        }
    }

    fn step(
        &mut self,
        obstacle: Option<&str>,
        summary: Option<&ExperimentSummary>,
        command: Option<Command>,
    ) -> Vec<&'static str> {
        let seen = Seen {
            wanted: &self.wanted,
            obstacle: obstacle.map(str::to_owned),
            summary,
            command,
            now: Duration::from_secs(self.at),
        };
        let happened = look(&mut self.status, &seen);
        happened.into_iter().map(|event| event.reason).collect()
    }

    fn stands(&self) -> (&str, Option<&str>) {
        (&self.status.phase, self.status.winner.as_deref())
    }
}

#[test]
fn it_waits_runs_and_is_promoted_by_its_rule() {
    let mut play = Play::new(wanted(true, 60, false));
    assert!(play.step(Some("variant b: loading"), None, None).is_empty());
    assert_eq!(play.stands(), ("Waiting", None));
    assert_eq!(play.status.message, "variant b: loading");
    assert_eq!(play.step(None, None, None), ["ExperimentRunning"]);
    assert_eq!(play.stands(), ("Running", None));
    let better = told(SummaryVerdict::Better("b".to_owned()));
    play.at += 30;
    assert_eq!(
        play.step(None, Some(&better), None),
        ["ExperimentVariantBetter"]
    );
    assert_eq!(play.stands(), ("Running", None));
    assert!(
        play.status
            .message
            .starts_with("b is better, and gets all requests in 30s")
    );
    play.at += 30;
    assert_eq!(play.step(None, Some(&better), None), ["ExperimentPromoted"]);
    assert_eq!(play.stands(), ("Promoted", Some("b")));
    assert_eq!(play.status.variants[0].requests, 7);
    assert_eq!(play.status.unassigned_requests, Some(3));
    // What it says then changes nothing, nor what is not there for a while.
    let harm = told(SummaryVerdict::Harm("b".to_owned()));
    let _warned = play.step(None, Some(&harm), None);
    assert_eq!(play.stands(), ("Promoted", Some("b")));
    let _waits = play.step(Some("loading"), None, None);
    let _again = play.step(None, None, None);
    assert_eq!(play.stands(), ("Promoted", Some("b")));
}

/// What decides though outcomes may still come is warned of, once.
#[test]
fn rules_by_values_that_are_never_final_are_warned_of() {
    let metric = |name: &str, role, kind, window_ms| PlannedMetric {
        name: name.to_owned(),
        kind,
        covariate: None,
        zero_if_missing: false,
        is_lower_better: false,
        role,
        expected: 0.1,
        margin: 0.1,
        window_ms,
    };
    let metrics = vec![
        metric("bought", MetricRole::Primary, MetricForm::Conversion, None),
        metric("spent", MetricRole::Primary, MetricForm::Sum, Some(60_000)),
        metric("seen", MetricRole::Secondary, MetricForm::Sum, None),
        metric(
            "returned",
            MetricRole::Guardrail,
            MetricForm::Conversion,
            None,
        ),
        metric("errors", MetricRole::Guardrail, MetricForm::Errors, None),
    ];
    for (promotes, stops, expected) in [
        (false, false, None),
        (true, false, Some("by bought, whose")),
        (false, true, Some("by returned, whose")),
        (true, true, Some("by bought, returned, whose")),
    ] {
        let mut wanted = wanted(promotes, 60, stops);
        wanted.planned.metrics.clone_from(&metrics);
        let warned = never_final(&wanted);
        let message = warned.map(|event| event.message);
        match expected {
            Some(expected) => assert!(message.unwrap().contains(expected)),
            None => assert_eq!(message, None),
        }
        let mut play = Play::new(wanted);
        let first = play.step(None, None, None);
        let is_warned = first.contains(&"ExperimentValuesOpen");
        assert_eq!(is_warned, expected.is_some(), "{first:?}");
        assert!(play.step(None, None, None).is_empty());
    }
}

#[test]
fn without_a_rule_nothing_ends_by_itself() {
    let mut play = Play::new(wanted(false, 0, false));
    for verdict in [
        SummaryVerdict::Better("b".to_owned()),
        SummaryVerdict::Harm("b".to_owned()),
        SummaryVerdict::Mismatch,
    ] {
        let _told = play.step(None, Some(&told(verdict)), None);
        assert_eq!(play.stands(), ("Running", None));
    }
    assert_eq!(play.status.verdict.as_deref(), Some("Mismatch"));
}

#[test]
fn harm_gives_the_control_all_requests_where_that_is_wanted() {
    let mut play = Play::new(wanted(true, 0, true));
    let harm = told(SummaryVerdict::Harm("b".to_owned()));
    let happened = play.step(None, Some(&harm), None);
    assert_eq!(
        happened,
        [
            "ExperimentGuardrailHarmed",
            "ExperimentRunning",
            "ExperimentStopped"
        ]
    );
    assert_eq!(play.stands(), ("Stopped", Some("a")));
}

#[test]
fn people_promote_stop_and_resume() {
    let mut play = Play::new(wanted(false, 0, false));
    let planned = play.wanted.planned.clone();
    let command = |text: &str| Command::read(text, &planned);
    let promote = command("promote:b").unwrap();
    let happened = play.step(None, None, Some(promote));
    assert_eq!(happened, ["ExperimentPromoted"]);
    assert_eq!(play.stands(), ("Promoted", Some("b")));
    let _stopped = play.step(None, None, Some(command("stop").unwrap()));
    assert_eq!(play.stands(), ("Stopped", Some("a")));
    let _resumed = play.step(None, None, Some(command("resume").unwrap()));
    assert_eq!(play.stands(), ("Running", None));
    assert!(command("promote:c").unwrap_err().contains("only a, b"));
    assert!(
        command("end")
            .unwrap_err()
            .contains("none of promote:VARIANT")
    );
}

#[test]
fn a_winner_that_is_taken_out_is_none() {
    let mut play = Play::new(wanted(false, 0, false));
    let _promoted = play.step(None, None, Some(Command::Promote("b".to_owned())));
    play.wanted.planned.variants.remove(1);
    let _runs = play.step(None, None, None);
    assert_eq!(play.stands(), ("Running", None));
}

#[test]
fn a_winner_says_why_it_has_won_whatever_was_in_the_way() {
    let mut play = Play::new(wanted(false, 0, false));
    let _promoted = play.step(None, None, Some(Command::Promote("b".to_owned())));
    assert_eq!(play.status.message, "b takes all requests: by hand");
    assert!(play.step(Some("b failed"), None, None).is_empty());
    let waits = (play.status.phase.as_str(), play.status.message.as_str());
    assert_eq!(waits, ("Waiting", "b failed"));
    assert_eq!(play.step(None, None, None), ["ExperimentPromoted"]);
    assert_eq!(play.stands(), ("Promoted", Some("b")));
    assert_eq!(play.status.message, "b takes all requests: by hand");
    assert!(play.step(None, None, None).is_empty());
}

#[test]
fn a_winner_that_cannot_take_requests_yet_is_not_said_to() {
    let mut play = Play::new(wanted(false, 0, false));
    let seen = Seen {
        wanted: &play.wanted,
        obstacle: Some("b is being loaded".to_owned()),
        summary: None,
        command: Some(Command::Promote("b".to_owned())),
        now: Duration::from_secs(play.at),
    };
    let happened = look(&mut play.status, &seen);
    let [event] = happened.as_slice() else {
        panic!("one event");
    };
    assert_eq!(
        event.message,
        "b is to take all requests: by hand; until then: b is being loaded"
    );
    assert_eq!(play.stands(), ("Waiting", Some("b")));
    assert_eq!(play.step(None, None, None), ["ExperimentPromoted"]);
    assert_eq!(play.status.message, "b takes all requests: by hand");
}

#[test]
fn what_its_rule_ends_again_at_once_is_not_resumed() {
    let mut play = Play::new(wanted(true, 0, true));
    let better = told(SummaryVerdict::Better("b".to_owned()));
    let _promoted = play.step(None, Some(&better), None);
    let resumed = play.step(None, Some(&better), Some(Command::Resume));
    assert_eq!(resumed, ["ExperimentCommandRefused"]);
    assert_eq!(play.stands(), ("Promoted", Some("b")));
    // After a restart nothing is told for a moment: what was told before holds.
    let resumed = play.step(None, None, Some(Command::Resume));
    assert_eq!(resumed, ["ExperimentCommandRefused"]);
    assert_eq!(play.stands(), ("Promoted", Some("b")));
    let wait = told(SummaryVerdict::Wait);
    let resumed = play.step(None, Some(&wait), Some(Command::Resume));
    assert_eq!(resumed, ["ExperimentRunning"]);
    let harm = told(SummaryVerdict::Harm("b".to_owned()));
    let _stopped = play.step(None, Some(&harm), None);
    let resumed = play.step(None, Some(&harm), Some(Command::Resume));
    assert_eq!(resumed, ["ExperimentCommandRefused"]);
    assert_eq!(play.stands(), ("Stopped", Some("a")));
    // Where the rule waits, it runs on.
    let mut play = Play::new(wanted(true, 60, false));
    let _promoted = play.step(None, Some(&better), Some(Command::Promote("b".to_owned())));
    let resumed = play.step(None, Some(&better), Some(Command::Resume));
    assert_eq!(resumed, ["ExperimentRunning"]);
    assert_eq!(play.stands(), ("Running", None));
}
