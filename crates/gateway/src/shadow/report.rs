//! What a comparison has come to, as JSON.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use coracle_policy::shadow::{Labels, Numbers};
use coracle_serving::ShadowFigures;
use serde::{Serialize, Serializer};

use super::Pair;
use super::column::Column;
use super::comparison::{Comparison, Comparisons, Far, Output};
use super::latencies::Latencies;

/// The most pairs of labels that are shown, the most frequent first.
const PAIRS_SHOWN: usize = 400;

/// What comparing a service with its shadow has come to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) shadow: String,
    /// Copies for which there was no room, or nobody to take them.
    pub(super) lost: u64,
    /// By revisions, the newest first.
    #[serde(serialize_with = "shared")]
    pub(super) comparisons: Arc<Vec<Compared>>,
}

fn shared<S: Serializer>(list: &Arc<Vec<Compared>>, serializer: S) -> Result<S::Ok, S::Error> {
    list.as_ref().serialize(serializer)
}

/// What comparing two revisions has come to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Compared {
    pub(super) stable: String,
    pub(super) shadow: String,
    pub(super) since: String,
    pub(super) requests: u64,
    pub(super) outcomes: Vec<Count>,
    pub(super) failures: Vec<Count>,
    pub(super) latency: BothLatencies,
    pub(super) outputs: Vec<ComparedOutput>,
    pub(super) worst: Vec<FarShown>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Count {
    pub(super) name: String,
    pub(super) count: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct BothLatencies {
    /// Decoding and running, without waiting.
    pub(super) stable: LatencyShown,
    /// The same, on a thread of the lowest priority: under load rather too long.
    pub(super) shadow: LatencyShown,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LatencyShown {
    pub(super) count: u64,
    pub(super) mean_seconds: Option<f64>,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p95_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ComparedOutput {
    pub(super) name: String,
    pub(super) rows: u64,
    /// The share of rows in which both gave the same.
    pub(super) same_ratio: Option<f64>,
    pub(super) incomparable: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<LabelsShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) numbers: Option<NumbersShown>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LabelsShown {
    pub(super) agreement_ratio: Option<f64>,
    pub(super) cohens_kappa: Option<f64>,
    /// Rows of labels by what each gave, the most frequent first.
    pub(super) confusion: Vec<ConfusionShown>,
    /// Labels that are not shown one by one.
    pub(super) others: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ConfusionShown {
    pub(super) stable: String,
    pub(super) shadow: String,
    pub(super) count: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NumbersShown {
    /// Shadow minus stable.
    pub(super) difference_mean: f64,
    pub(super) difference_deviation: f64,
    /// `null` where just one was not a number.
    pub(super) distance_max: f64,
    pub(super) beyond: Vec<BeyondShown>,
    pub(super) only_one_missing: u64,
    pub(super) columns: Vec<ColumnShown>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct BeyondShown {
    pub(super) tolerance: f64,
    pub(super) count: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ColumnShown {
    /// `null`, as are the next two, where one of both has no numbers.
    pub(super) stability_index: Option<f64>,
    pub(super) kolmogorov_smirnov: Option<f64>,
    pub(super) p_value: Option<f64>,
    /// Where bins begin, but for the first.
    pub(super) edges: Vec<f64>,
    pub(super) stable: Vec<u64>,
    pub(super) shadow: Vec<u64>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FarShown {
    pub(super) distance: f64,
    pub(super) output: String,
    /// The row of it that is farthest apart.
    pub(super) row: usize,
    /// How many of its rows differ in this output.
    pub(super) rows_differed: usize,
    pub(super) stable: String,
    pub(super) shadow: String,
    pub(super) at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<String>,
}

impl Pair {
    /// Returns what the comparison has come to, as it was published last.
    pub(super) fn report(&self) -> Report {
        Report {
            namespace: self.of.namespace.clone(),
            service: self.of.name.clone(),
            shadow: self.shadow.name.clone(),
            lost: self.n_lost.load(Ordering::Relaxed),
            comparisons: self.published.get(),
        }
    }
}

/// What the comparisons of a pair had come to when its thread published it last. Who reads it waits for nobody.
#[derive(Debug, Default)]
pub(super) struct Published(ArcSwap<Vec<Compared>>);

impl Published {
    /// Publishes what the comparisons have come to.
    pub(super) fn publish(&self, comparisons: &Comparisons) {
        let list = comparisons.all().iter().rev().map(compared).collect();
        self.0.store(Arc::new(list));
    }

    fn get(&self) -> Arc<Vec<Compared>> {
        self.0.load_full()
    }
}

impl Report {
    /// Returns what the metrics show: outcomes of all revisions, distances of the newest.
    pub(super) fn figures(&self) -> ShadowFigures {
        let mut outcomes = vec![("lost", self.lost)];
        for name in super::comparison::Ends::default()
            .all()
            .map(|(name, _)| name)
        {
            let counts = self.comparisons.iter().flat_map(|one| &one.outcomes);
            let count = counts.filter(|one| one.name == name).map(|one| one.count);
            outcomes.push((name, count.sum()));
        }
        let newest = self.comparisons.iter().find(|one| !one.outputs.is_empty());
        let outputs = || newest.iter().flat_map(|one| &one.outputs);
        let agreements = outputs().filter_map(|output| {
            let labels = output.labels.as_ref()?;
            Some((output.name.clone(), labels.agreement_ratio?))
        });
        let indices = outputs().flat_map(|output| {
            let columns = output.numbers.iter().flat_map(|numbers| &numbers.columns);
            columns.enumerate().filter_map(|(index, column)| {
                let name = format!("{}[{index}]", output.name);
                Some((name, column.stability_index?))
            })
        });
        ShadowFigures {
            namespace: self.namespace.clone(),
            service: self.service.clone(),
            shadow: self.shadow.clone(),
            outcomes,
            agreements: agreements.collect(),
            stability_indices: indices.collect(),
        }
    }
}

fn compared(one: &Comparison) -> Compared {
    let outcomes = one.ends.all();
    let count = |(name, count): (&str, u64)| Count {
        name: name.to_owned(),
        count,
    };
    Compared {
        stable: one.pairing.stable.clone(),
        shadow: one.pairing.shadow.clone(),
        since: time(one.since),
        requests: outcomes.iter().map(|(_, count)| count).sum(),
        outcomes: outcomes.into_iter().map(count).collect(),
        failures: one
            .failures
            .iter()
            .map(|(why, n)| count((why, *n)))
            .collect(),
        latency: BothLatencies {
            stable: latency(&one.stable_latency),
            shadow: latency(&one.shadow_latency),
        },
        outputs: one
            .outputs
            .iter()
            .map(|(name, output)| compared_output(name, output))
            .collect(),
        worst: one.worst.kept().iter().map(far).collect(),
    }
}

fn time(at: Duration) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + at).to_string()
}

fn latency(latencies: &Latencies) -> LatencyShown {
    LatencyShown {
        count: latencies.count(),
        mean_seconds: latencies.mean_s(),
        p50_seconds: latencies.percentile_s(50),
        p95_seconds: latencies.percentile_s(95),
        p99_seconds: latencies.percentile_s(99),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn compared_output(name: &str, output: &Output) -> ComparedOutput {
    let same_ratio = output.n_same as f64 / output.n_rows.max(1) as f64;
    ComparedOutput {
        name: name.to_owned(),
        rows: output.n_rows,
        same_ratio: (output.n_rows > 0).then_some(same_ratio),
        incomparable: output.n_incomparable,
        labels: output.labels().map(labels),
        numbers: output
            .numbers
            .as_ref()
            .map(|numbers| self::numbers(numbers, &output.columns)),
    }
}

fn labels(labels: &Labels) -> LabelsShown {
    let mut pairs: Vec<ConfusionShown> = labels
        .pairs
        .iter()
        .map(|((stable, shadow), count)| ConfusionShown {
            stable: stable.clone(),
            shadow: shadow.clone(),
            count: *count,
        })
        .collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
    let rest = pairs.split_off(pairs.len().min(PAIRS_SHOWN));
    let rest: u64 = rest.iter().map(|pair| pair.count).sum();
    LabelsShown {
        agreement_ratio: labels.agreement(),
        cohens_kappa: labels.kappa(),
        confusion: pairs,
        others: rest + labels.others.0 + labels.others.1,
    }
}

fn numbers(numbers: &Numbers, columns: &[Column]) -> NumbersShown {
    let beyond = numbers.beyond.iter().map(|(tolerance, count)| BeyondShown {
        tolerance: *tolerance,
        count: *count,
    });
    NumbersShown {
        difference_mean: numbers.differences.mean,
        difference_deviation: numbers.differences.variance().sqrt(),
        distance_max: numbers.distance_max,
        beyond: beyond.collect(),
        only_one_missing: numbers.n_only_one_missing,
        columns: columns.iter().map(column).collect(),
    }
}

fn column(column: &Column) -> ColumnShown {
    let (profile, drift) = (column.profile(), column.drift());
    ColumnShown {
        stability_index: drift.map(|drift| drift.stability_index),
        kolmogorov_smirnov: drift.map(|drift| drift.distance),
        p_value: drift.map(|drift| drift.p_value),
        edges: profile.edges,
        stable: profile.reference,
        shadow: profile.observed,
    }
}

fn far((distance, far): &(f64, Far)) -> FarShown {
    FarShown {
        distance: *distance,
        output: far.output.clone(),
        row: far.row,
        rows_differed: far.n_rows,
        stable: far.stable.clone(),
        shadow: far.shadow.clone(),
        at: time(far.at),
        trace: far.trace.clone(),
        request: far.request.clone(),
    }
}

#[cfg(test)]
mod tests {
    use coracle_serving::ShadowKept;
    use coracle_tensor::{Tensor, Values};

    use super::super::Answered;
    use super::super::comparison::{Kept, Pairing};
    use super::*;

    /// Takes what both answered in requests of so many rows of `width` numbers, a second apart.
    fn reported(requests: &[(&[f64], &[f64])], width: usize) -> Report {
        let answered = |numbers: &[f64]| {
            let shape = match width {
                1 => vec![numbers.len()],
                _ => vec![numbers.len() / width, width],
            };
            let tensor = Tensor::try_new(shape, Values::F64(numbers.to_vec().into())).unwrap();
            Box::new(Answered::of_outputs(
                vec![("y".to_owned(), tensor)],
                Duration::ZERO,
            ))
        };
        let mut comparisons = Comparisons::default();
        for (second, (stable, shadow)) in requests.iter().enumerate() {
            let pairing = Pairing {
                stable: "a".to_owned(),
                shadow: "b".to_owned(),
            };
            let kept = || Kept {
                kept: ShadowKept::Answers,
                request: None,
                trace: None,
                at: Duration::from_secs(second as u64),
            };
            let shadow = Ok(answered(shadow));
            comparisons.push(pairing, Ok(&answered(stable)), &shadow, kept);
        }
        let published = Published::default();
        published.publish(&comparisons);
        Report {
            namespace: "ml".to_owned(),
            service: "iris".to_owned(),
            shadow: "next".to_owned(),
            lost: 0,
            comparisons: published.get(),
        }
    }

    #[test]
    fn a_column_without_numbers_keeps_its_place() {
        let nan = f64::NAN;
        let report = reported(&[(&[0.1, 0.2, nan, 0.3], &[nan, 0.2, nan, 0.7])], 2);
        let numbers = report.comparisons[0].outputs[0].numbers.as_ref().unwrap();
        let indices: Vec<_> = numbers
            .columns
            .iter()
            .map(|column| column.stability_index)
            .collect();
        assert!(indices[0].is_none() && indices[1].is_some(), "{indices:?}");
        let figures = report.figures().stability_indices;
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["y[1]"]);
        let page = super::super::page::page(&[report]);
        assert!(
            page.contains("column 0: no numbers of one of both"),
            "{page}"
        );
        assert!(page.contains("column 1: PSI"), "{page}");
    }

    #[test]
    fn labels_that_come_as_floats_are_compared_as_labels_and_numbers() {
        let report = reported(&[(&[0.0, 1.0, 2.0, 1.0], &[0.0, 1.0, 1.0, 1.0])], 1);
        let output = &report.comparisons[0].outputs[0];
        let labels = output.labels.as_ref().unwrap();
        let confusion: Vec<_> = labels
            .confusion
            .iter()
            .map(|pair| (pair.stable.as_str(), pair.shadow.as_str(), pair.count))
            .collect();
        assert_eq!(confusion, [("1", "1", 2), ("0", "0", 1), ("2", "1", 1)]);
        // (0.75 - 7 / 16) / (1 - 7 / 16)
        assert!((labels.cohens_kappa.unwrap() - 5.0 / 9.0).abs() < 1e-12);
        assert!(output.numbers.is_some());
        assert_eq!(report.figures().agreements, [("y".to_owned(), 0.75)]);
        // Scores are none.
        let scores = reported(&[(&[0.0, 0.25], &[0.0, 0.5])], 1);
        assert!(scores.comparisons[0].outputs[0].labels.is_none());
    }

    #[test]
    fn a_batch_takes_one_place_among_the_worst() {
        let (zeros, ones) = ([0.0; 50], [1.0; 50]);
        let mut batch = ones;
        batch[..10].fill(0.0);
        let requests = [
            (zeros.as_slice(), batch.as_slice()),
            (&zeros[..1], &ones[..1]),
            (&zeros[..2], &[0.0, 3.0]),
        ];
        let report = reported(&requests, 1);
        let worst = &report.comparisons[0].worst;
        let shown: Vec<_> = worst
            .iter()
            .map(|far| (far.distance, far.row, far.rows_differed, far.at.as_str()))
            .collect();
        let expected = [
            (3.0, 1, 1, "1970-01-01T00:00:02Z"),
            (1.0, 10, 40, "1970-01-01T00:00:00Z"),
            (1.0, 0, 1, "1970-01-01T00:00:01Z"),
        ];
        assert_eq!(shown, expected);
    }
}
