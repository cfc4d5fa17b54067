//! Only values that are final are compared and bet on, and what holds does so however often one looks.

use coracle_policy::experiment::bounded_mean;

use super::super::recorder::record_of_outcome;
use super::*;

/// The window, in ms.
const WINDOW: u64 = 1_000;

fn windowed() -> PlannedExperiment {
    let mut planned = planned();
    planned.metrics.truncate(1);
    planned.metrics[0].window_ms = Some(WINDOW);
    planned.metrics[0].zero_if_missing = true;
    planned
}

/// Tells what came of a unit at `at`, as the server does.
fn tell(ledger: &mut Ledger, planned: &PlannedExperiment, unit: &str, at: u64) {
    let told = outcome(of_unit(unit), "converted", 1.0, None);
    let late = ledger.late(planned, (unit, &told), at);
    ledger.apply(record_of_outcome(at, unit, (&told, &late)), planned);
}

fn rate_at(ledger: &Ledger, planned: &PlannedExperiment, now: u64) -> SettledRate {
    let id = ExperimentId {
        namespace: "ml".to_owned(),
        name: "ab".to_owned(),
    };
    let standing = ledger.standing(&id, planned, &[], now);
    standing.variants[0].metrics[0].settled.unwrap()
}

#[test]
fn units_are_bet_on_once_their_window_has_closed() {
    let planned = windowed();
    let mut ledger = ledger(100);
    for (unit, at) in [("early", 1_000), ("late", 1_500), ("open", 2_100)] {
        ledger.apply(record_exposure(unit, "a", at), &planned);
    }
    // Who converts at once is not known any sooner than who does not.
    tell(&mut ledger, &planned, "open", 2_110);
    tell(&mut ledger, &planned, "early", 1_999);
    let counted = |now| {
        let rate = rate_at(&ledger, &planned, now);
        assert_eq!(
            rate.interval,
            bounded_mean(rate.rate * rate.units as f64, rate.units, 0.95)
        );
        (rate.units, rate.rate)
    };
    assert_eq!(counted(1_999), (0, 0.0));
    assert_eq!(counted(2_000), (1, 1.0));
    assert_eq!(counted(2_500), (2, 0.5));
    assert_eq!(counted(3_099), (2, 0.5));
    // What is told after the window does not count, here nor elsewhere.
    tell(&mut ledger, &planned, "late", 2_500);
    let rate = rate_at(&ledger, &planned, 3_100);
    assert_eq!((rate.units, rate.rate), (3, 2.0 / 3.0));
    let standing = standing_of(&ledger, &planned);
    assert_eq!(standing.n_outcomes, 2);
    assert!((standing.variants[0].metrics[0].mean - 2.0 / 3.0).abs() < 1e-12);
}

/// There are no bets where values are never final, or are gathered by what was earned, or are no rates.
#[test]
fn without_a_window_nobody_bets() {
    let mut open = windowed();
    open.metrics[0].window_ms = None;
    let mut bandit = windowed();
    bandit.allocation = Allocation::Bandit {
        strategy: BanditStrategy::Thompson,
        floor: 0.1,
    };
    let mut sum = windowed();
    sum.metrics[0].kind = MetricForm::Sum;
    for planned in [open, bandit, sum] {
        let mut ledger = ledger(100);
        ledger.apply(record_exposure("u", "a", 1), &planned);
        let standing = standing_of(&ledger, &planned);
        assert_eq!(standing.variants[0].metrics[0].settled, None);
    }
}

/// Bets that were made stay, whoever comes again: those who convert come back more than others do. And none are made on units of whom some came back, to
/// be shown something else, before their windows closed.
#[test]
fn bets_are_not_taken_back_once_a_winner_was_resumed() {
    let running = windowed();
    let promoted = PlannedExperiment {
        winner: Some("b".to_owned()),
        ..windowed()
    };
    let mut ledger = ledger(100);
    for index in 0..10 {
        let (unit, at) = (format!("u{index}"), 1_000 + index);
        ledger.apply(record_exposure(&unit, "a", at), &running);
        if index < 3 {
            tell(&mut ledger, &running, &unit, at + 10);
        }
    }
    // Windows of these are open when the first of those who come back is shown the winner.
    for unit in ["open-1", "open-2"] {
        ledger.apply(record_exposure(unit, "a", 4_500), &running);
    }
    tell(&mut ledger, &running, "open-1", 4_600);
    let back = ["u0", "u1", "u2", "u9", "open-1"];
    for (unit, at) in back.into_iter().zip(5_000..) {
        let winner = Record::Winner {
            at: Some(at),
            unit: unit.into(),
            variant: "b".into(),
        };
        ledger.apply(winner, &promoted);
    }
    let counted = |ledger: &Ledger, planned: &PlannedExperiment, now| {
        let rate = rate_at(ledger, planned, now);
        (rate.units, (rate.rate * rate.units as f64).round())
    };
    assert_eq!(counted(&ledger, &promoted, 6_000), (10, 3.0));
    assert_eq!(counted(&ledger, &running, 6_000), (10, 3.0));
    // They are shown their variant again, one is set by hand, and somebody new comes.
    for unit in back {
        ledger.apply(record_exposure(unit, "a", 6_100), &running);
    }
    let by_hand = |unit: &'static str, at: u64| {
        let mut record = record_exposure(unit, "b", at);
        if let Record::Exposure { by, .. } = &mut record {
            *by = "override".into();
        }
        record
    };
    ledger.apply(by_hand("u8", 6_200), &running);
    ledger.apply(record_exposure("new", "a", 6_300), &running);
    tell(&mut ledger, &running, "new", 6_400);
    ledger.apply(record_exposure("by-hand", "a", 6_300), &running);
    ledger.apply(by_hand("by-hand", 6_400), &running);
    let standing = standing_of(&ledger, &running);
    // Neither who came back nor who was set by hand is analysed.
    assert_eq!(
        (
            standing.variants[0].units,
            standing.n_mixed,
            standing.n_overridden
        ),
        (7, 5, 2)
    );
    assert_eq!(counted(&ledger, &running, 7_299), (10, 3.0));
    assert_eq!(counted(&ledger, &running, 7_300), (11, 4.0));
    // A file that is written anew says the same.
    let mut read = super::ledger(100);
    let written = ledger.each_record(Counters::default(), &mut |record| {
        let line = LINES.line(record)?;
        read.apply(LINES.record(&line).unwrap(), &running);
        Ok(())
    });
    written.unwrap();
    assert_eq!(counted(&read, &running, 7_300), (11, 4.0));
}

/// Looked at after each unit, the interval misses the true rate at some look in at most 5 % of experiments, though those who convert do so at once or
/// late. Bets on the values as they stand miss it mostly: of units that are new those are known who convert at once, and all others count as zeros.
#[test]
fn rates_hold_at_all_looks() {
    const UNITS: u64 = 300;
    // 0.3 convert, a quarter of them after the window.
    let (rate, in_time) = (0.3, 0.75);
    let (mut n_missed, mut n_missed_open) = (0, 0);
    let mut width = 0.0;
    for seed in 0..100 {
        let planned = windowed();
        let mut ledger = ledger(1_000);
        let mut random = Random(seed);
        // What happens, in order: units come every 10 ms, and convert after up to 4 / 3 windows.
        let mut events: Vec<(u64, u64, bool)> = Vec::new();
        for unit in 0..UNITS {
            let at = 10_000 + unit * 10;
            events.push((at, unit, false));
            if random.uniform() < rate {
                let delay = random.uniform() * WINDOW as f64 / in_time;
                events.push((at + delay as u64, unit, true));
            }
        }
        events.sort_unstable();
        let (mut is_missed, mut is_missed_open) = (false, false);
        for (at, unit, is_told) in events {
            let name = format!("u{unit}");
            if is_told {
                tell(&mut ledger, &planned, &name, at);
                continue;
            }
            ledger.apply(record_exposure(&name, "a", at), &planned);
            let truth = rate * in_time;
            let misses = |interval: Bounds| interval.low > truth || interval.high < truth;
            let settled = rate_at(&ledger, &planned, at);
            is_missed |= misses(settled.interval);
            let open = rate_at(&ledger, &planned, u64::MAX);
            is_missed_open |= misses(open.interval);
            if unit == UNITS - 1 {
                width += (settled.interval.high - settled.interval.low) / 100.0;
            }
        }
        n_missed += i32::from(is_missed);
        n_missed_open += i32::from(is_missed_open);
    }
    assert!(n_missed <= 5, "{n_missed} of 100");
    assert!(n_missed_open > 50, "{n_missed_open} of 100");
    assert!(width < 0.25, "{width}");
}

/// Of so many experiments whose variants convert alike, the control's users after 5 minutes and the treatment's after one, those in which a variant was ever said to be better; it is
/// looked at every 20 users.
fn n_false_winners(window_ms: Option<u64>, n_experiments: u64) -> usize {
    let id = ExperimentId {
        namespace: "ml".to_owned(),
        name: "ab".to_owned(),
    };
    let mut planned = windowed();
    planned.metrics[0].window_ms = window_ms;
    let is_fooled = |seed: &u64| {
        let mut random = Random(*seed);
        let mut ledger = ledger(2_000);
        let mut told = std::collections::BTreeSet::new();
        let mut is_fooled = false;
        for user in 0..1_500_u64 {
            let at = 10_000 + user * 1_000;
            let (variant, delay) = match random.uniform() < 0.5 {
                true => ("a", 300_000),
                false => ("b", 60_000),
            };
            let name = format!("u{user}");
            ledger.apply(record_exposure(&name, variant, at), &planned);
            if random.uniform() < 0.3 {
                told.insert((at + delay, name));
            }
            while let Some((then, name)) = told.pop_first() {
                if then > at {
                    told.insert((then, name));
                    break;
                }
                tell(&mut ledger, &planned, &name, then);
            }
            if user % 20 == 0 {
                let standing = ledger.standing(&id, &planned, &[], at);
                is_fooled |= matches!(standing.analysis.verdict, Verdict::Better { .. });
            }
        }
        is_fooled
    };
    (0..n_experiments).filter(is_fooled).count()
}

/// A variant whose outcomes come later than the other's is not worse for that: of units whose windows have closed all is known.
#[test]
fn a_variant_whose_outcomes_come_later_does_not_lose_for_that() {
    let n_false = n_false_winners(Some(360_000), 100);
    assert!(n_false <= 5, "{n_false} of 100");
    // Of values as they stand it mostly does.
    let n_open = n_false_winners(None, 20);
    assert!(n_open >= 15, "{n_open} of 20");
}

#[test]
fn it_is_told_of_how_many_units_windows_are_open() {
    let mut planned = windowed();
    planned.metrics.push(metric("spent", MetricForm::Sum));
    let mut ledger = ledger(100);
    for (unit, at) in [("early", 1_000), ("late", 1_500), ("open", 2_100)] {
        ledger.apply(record_exposure(unit, "a", at), &planned);
    }
    tell(&mut ledger, &planned, "open", 2_110);
    let id = ExperimentId {
        namespace: "ml".to_owned(),
        name: "ab".to_owned(),
    };
    let standing = ledger.standing(&id, &planned, &[], 2_500);
    let [converted, spent] = standing.variants[0].metrics[..] else {
        panic!("{standing:?}");
    };
    assert_eq!((converted.units, converted.open), (2, 1));
    // Without a window nothing is ever final, and all values count as they stand.
    assert_eq!((spent.missing, spent.open), (3, 0));
    let Verdict::Wait(why) = standing.analysis.verdict else {
        panic!("{:?}", standing.analysis.verdict);
    };
    assert!(
        why.ends_with("; 1 more units count once their windows have closed"),
        "{why}"
    );
    let standing = ledger.standing(&id, &planned, &[], 3_100);
    let converted = standing.variants[0].metrics[0];
    assert_eq!(
        (converted.units, converted.open, converted.mean),
        (3, 0, 1.0 / 3.0)
    );
}

/// Uniform numbers: splitmix64.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What comes too late is written down and told apart, and stays late when the file is read again.
#[test]
fn late_outcomes_stay_late_after_a_restart() {
    let mut planned = windowed();
    planned.metrics.push(metric("spent", MetricForm::Sum));
    let fixture = Fixture::new();
    let book = fixture.open(&planned);
    // The fixture's clock stands at 1,000 s.
    for (unit, at) in [("old", 999_000), ("new", 999_001)] {
        let exposure = exposure(unit, "a", true);
        book.expose(Exposure { at, ..exposure });
    }
    let both = NewOutcome {
        metrics: vec![("converted".to_owned(), 1.0), ("spent".to_owned(), 3.0)],
        ..outcome(of_unit("old"), "spent", 3.0, Some("o2"))
    };
    let taken = fixture.record(
        &book,
        vec![
            outcome(of_unit("old"), "converted", 1.0, Some("o1")),
            outcome(of_unit("new"), "converted", 1.0, None),
            both,
            outcome(of_unit("old"), "converted", 1.0, Some("o1")),
        ],
    );
    use Taken::{Counted, Duplicate, Late};
    assert_eq!(taken, [Late, Counted, Counted, Duplicate].map(Ok));
    let seen = |book: &Book| {
        let standing = book.standing();
        let settled = standing.variants[0].metrics[0].settled.unwrap();
        assert_eq!((settled.units, settled.rate), (1, 0.0));
        assert_eq!(standing.n_outcomes, 2);
        shown(book)
    };
    let before = seen(&book);
    assert!((before[0].4[1].mean - 3.0).abs() < 1e-12);
    drop(book);
    let fixture = fixture.again();
    // Windows of another length say nothing of what was told before.
    planned.metrics[0].window_ms = Some(1_000 * WINDOW);
    let book = fixture.open(&planned);
    fixture.settle(&book);
    assert_eq!(book.standing().n_outcomes, 2);
    planned.metrics[0].window_ms = Some(WINDOW);
    let book = fixture.open(&planned);
    assert_eq!(seen(&book), before);
}

/// Requests and outcomes of units of two variants, with SciPy's and NumPy's answers of what had come of them until their windows closed: over outcomes below the line, and over requests.
fn windowed_ratios() -> Vec<(Vec<f64>, Vec<f64>)> {
    let text = include_str!("../../../../../fixtures/statistics/reference.tsv");
    let lines = text.lines().map(|line| line.split('\t'));
    let ours = lines.filter_map(|mut fields| {
        let read = |text: &str| text.parse::<f64>().unwrap();
        let is_ours = fields.next() == Some("windowed_ratio");
        let arguments = fields.next()?.split(' ').map(read);
        is_ours.then(|| (arguments.collect(), fields.map(read).collect()))
    });
    let ours: Vec<_> = ours.collect();
    assert_eq!(ours.len(), 2);
    ours
}

fn ratio_planned(below: Option<&str>, window_ms: u64) -> PlannedExperiment {
    let mut ratio = metric("above", MetricForm::Ratio(below.map(str::to_owned)));
    ratio.window_ms = Some(window_ms);
    PlannedExperiment {
        metrics: vec![ratio],
        ..planned()
    }
}

/// Takes what happened, in order: requests (0), and outcomes above the line (1) and below it (2).
fn happen(ledger: &mut Ledger, planned: &PlannedExperiment, events: &[f64]) {
    for event in events.chunks_exact(4) {
        let [unit, at, kind, value] = event else {
            panic!("{event:?}");
        };
        let (unit, at) = (*unit as u64, *at as u64);
        let variant = if unit % 2 == 0 { "a" } else { "b" };
        let unit = unit.to_string();
        let name = match *kind as u64 {
            0 => {
                ledger.apply(record_exposure(&unit, variant, at), planned);
                continue;
            }
            1 => "above",
            _ => "below",
        };
        let told = outcome(of_unit(&unit), name, *value, None);
        let late = ledger.late(planned, (&unit, &told), at);
        ledger.apply(record_of_outcome(at, &unit, (&told, &late)), planned);
    }
}

#[test]
fn ratios_with_a_window_are_of_what_came_within_it() {
    let id = ExperimentId {
        namespace: "ml".to_owned(),
        name: "ab".to_owned(),
    };
    for (arguments, answers) in windowed_ratios() {
        let (window, now) = (arguments[0] as u64, arguments[1] as u64);
        for (below, answers) in [Some("below"), None].into_iter().zip(answers.chunks(5)) {
            let planned = ratio_planned(below, window);
            let mut ledger = ledger(100);
            happen(&mut ledger, &planned, &arguments[2..]);
            // Written to a file and read again it is the same.
            let mut again = super::ledger(100);
            let mut lines = Vec::new();
            let mut write = |record: &Record<'_>| {
                lines.push(serde_json::to_string(record).unwrap());
                Ok(())
            };
            ledger.each_record(Counters::default(), &mut write).unwrap();
            for line in &lines {
                again.apply(serde_json::from_str(line).unwrap(), &planned);
            }
            for ledger in [&ledger, &again] {
                let standing = ledger.standing(&id, &planned, &[], now);
                let close = |found: f64, expected: f64| {
                    assert!(
                        (found - expected).abs() <= 1e-9 * expected.abs(),
                        "{below:?}: {found} is not {expected}"
                    );
                };
                for (variant, expected) in standing.variants.iter().zip(answers.chunks(2)) {
                    close(variant.metrics[0].units as f64, expected[0]);
                    close(variant.metrics[0].mean, expected[1]);
                }
                let fixed = standing.analysis.comparisons[0].fixed.unwrap();
                close(fixed.p_value, answers[4]);
                let n_open: u64 = standing
                    .variants
                    .iter()
                    .map(|one| one.metrics[0].open)
                    .sum();
                assert!(n_open > 0 || now > 5_000);
            }
        }
    }
}

/// What is below the line is late when the ratio's window says so; and requests count as long as there is no window.
#[test]
fn what_is_below_the_line_of_a_ratio_is_late_with_it() {
    let planned = ratio_planned(Some("below"), WINDOW);
    let mut ledger = ledger(100);
    ledger.apply(record_exposure("u", "a", 1_000), &planned);
    let told = outcome(of_unit("u"), "below", 1.0, None);
    assert_eq!(ledger.late(&planned, ("u", &told), 1_999), [false]);
    assert_eq!(ledger.late(&planned, ("u", &told), 2_000), [true]);
    let mut by_requests = ratio_planned(None, WINDOW);
    let mean = |planned: &PlannedExperiment| {
        let events = [
            [0.0, 10.0, 0.0, 0.0],
            [0.0, 20.0, 1.0, 6.0],
            [0.0, 500.0, 0.0, 0.0],
            [0.0, 1_010.0, 0.0, 0.0],
        ];
        let mut ledger = super::ledger(100);
        happen(&mut ledger, planned, events.as_flattened());
        standing_of(&ledger, planned).variants[0].metrics[0].mean
    };
    assert_eq!(mean(&by_requests), 3.0);
    by_requests.metrics[0].window_ms = None;
    assert_eq!(mean(&by_requests), 2.0);
}
