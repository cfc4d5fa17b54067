//! The head of a boosted ensemble: what XGBoost, LightGBM and CatBoost make of the scores of their trees.
//!
//! One type for all three: they differ in precision, in what counts as missing, in the function from scores to
//! values, and in how a class follows. scikit-learn's own boosting is a `Classifier` or `Regressor`.

mod linear;
mod link;

use coracle_model::{
    Accepts, Estimator, Method, MethodSpec, RunError, RunErrorKind, Scorer, Width, run_on_blocks,
    run_on_matrix,
};
use coracle_tensor::{DType, Rows, Table, Tensor, Values};

use crate::spec_error::SpecError;
use crate::{Labels, table};

pub use linear::BoostedLinear;
pub use link::BoostedLink;

/// The precision in which an ensemble's library computes and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoostedPrecision {
    /// Scores are single-precision numbers, and so are answers (XGBoost).
    Single,
    /// Everything is double precision (LightGBM, CatBoost).
    Double,
}

/// What counts as missing besides NaN.
#[derive(Clone, Debug, PartialEq)]
pub enum BoostedMissing {
    /// Nothing.
    Nan,
    /// Values that are this number in single precision (the `missing` parameter of XGBoost).
    Number(f32),
    /// What a sparse table does not keep; zeros that it keeps are values (XGBoost). Such a model reads sparse tables only.
    Absent,
    /// Zeros, up to this magnitude, in the columns that say so (`zero_as_missing` of LightGBM).
    Zeros {
        /// For each column whether its zeros are missing.
        columns: Vec<bool>,
        /// The largest magnitude of a zero.
        magnitude_max: f64,
    },
}

/// What a method gives.
#[derive(Clone, Debug, PartialEq)]
pub enum BoostedAnswer {
    /// The scores through the link.
    Values,
    /// The scores themselves (margins).
    Scores,
    /// The probability of each class: with one value p per row, 1 - p and p.
    Probabilities,
    /// The natural logarithms of these.
    LogProbabilities,
    /// The label of the predicted class.
    Label(Labels, ClassRule),
    /// The same, in a column of its own: `[rows, 1]`, as CatBoost gives labels of several classes.
    LabelColumn(Labels, ClassRule),
    /// For each score one of two labels, by the rule for one score: whether each of several things holds.
    LabelOfEach(Labels, ClassRule),
}

/// How the predicted class follows from a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClassRule {
    /// One value: the second class if it is above a half. Several: the first largest.
    ValueAboveHalf,
    /// The first class of largest probability.
    LargestProbability,
    /// One score: the second class if it is above this many. Several: the first largest.
    ScoreAbove(f64),
}

/// What a boosted ensemble is made from.
#[derive(Debug)]
pub struct BoostedSpec {
    /// The trees, or the linear functions, of the ensemble.
    pub scorer: Box<dyn Scorer>,
    /// The precision.
    pub precision: BoostedPrecision,
    /// What is missing besides NaN.
    pub missing: BoostedMissing,
    /// What scores are divided by before the link: the number of trees of a forest, else 1.
    pub divisor: f64,
    /// The function from scores to values.
    pub link: BoostedLink,
    /// The methods, the default one first, with what each gives.
    pub answers: Vec<(Method, BoostedAnswer)>,
}

/// A boosted ensemble.
#[derive(Debug)]
pub struct Boosted {
    spec: BoostedSpec,
    methods: Vec<MethodSpec>,
}

impl Boosted {
    /// Puts an ensemble together.
    ///
    /// # Errors
    /// [`SpecError`] if there is no method, the labels do not fit the scores, or the columns do not fit the scorer.
    pub fn try_new(spec: BoostedSpec) -> Result<Self, SpecError> {
        if spec.answers.is_empty() {
            return Err(SpecError::new("a boosted ensemble needs a method"));
        }
        if let BoostedMissing::Zeros { columns, .. } = &spec.missing
            && columns.len() != spec.scorer.n_features()
        {
            return Err(SpecError::new(format!(
                "{} columns for {} features",
                columns.len(),
                spec.scorer.n_features()
            )));
        }
        let n_scores = spec.scorer.n_scores();
        for (_, answer) in &spec.answers {
            let (labels, n_labels) = match answer {
                BoostedAnswer::Label(labels, _) | BoostedAnswer::LabelColumn(labels, _) => {
                    (labels, n_classes(n_scores))
                }
                BoostedAnswer::LabelOfEach(_, ClassRule::LargestProbability) => {
                    let message = "whether each of several things holds has no largest probability";
                    return Err(SpecError::new(message));
                }
                BoostedAnswer::LabelOfEach(labels, _) => (labels, 2),
                _ => continue,
            };
            if labels.len() != n_labels {
                let n_labels = labels.len();
                let message = format!("{n_scores} scores do not fit {n_labels} classes");
                return Err(SpecError::new(message));
            }
        }
        let methods = spec
            .answers
            .iter()
            .map(|(method, answer)| method_spec(&spec, *method, answer));
        Ok(Self {
            methods: methods.collect(),
            spec,
        })
    }

    /// Returns the scores of `rows`, missing values marked first.
    fn scores(&self, rows: Rows<'_>) -> Vec<f64> {
        let scorer = &self.spec.scorer;
        let mut scores = vec![0.0; rows.n_rows() * scorer.n_scores()];
        match self.marked(rows) {
            None => scorer.score(rows, &mut scores),
            Some(values) => {
                let rows = Rows::try_new(&values, rows.n_columns()).expect("same size as rows");
                scorer.score(rows, &mut scores);
            }
        }
        scores
    }

    /// Returns the values with NaN for what counts as missing; `None` if NaN alone does.
    fn marked(&self, rows: Rows<'_>) -> Option<Vec<f64>> {
        match &self.spec.missing {
            BoostedMissing::Nan | BoostedMissing::Absent => None,
            BoostedMissing::Number(number) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::float_cmp,
                    reason = "XGBoost compares singles exactly"
                )]
                let mark = |&value: &f64| match value as f32 == *number {
                    true => f64::NAN,
                    false => value,
                };
                Some(rows.values().iter().map(mark).collect())
            }
            BoostedMissing::Zeros {
                columns,
                magnitude_max,
            } => {
                let mark = |(&value, &marks): (&f64, &bool)| match marks {
                    true if value.abs() <= *magnitude_max => f64::NAN,
                    _ => value,
                };
                let columns = columns.iter().cycle();
                Some(rows.values().iter().zip(columns).map(mark).collect())
            }
        }
    }

    /// Returns the values of `rows`: the scores through the link.
    fn values(&self, rows: Rows<'_>) -> Vec<f64> {
        let mut scores = self.scores(rows);
        if self.spec.divisor != 1.0 {
            scores
                .iter_mut()
                .for_each(|score| *score /= self.spec.divisor);
        }
        let n_scores = self.spec.scorer.n_scores();
        self.spec
            .link
            .apply(self.spec.precision, n_scores, &mut scores);
        scores
    }

    /// Returns `(rows, classes)` probabilities.
    fn probabilities(&self, rows: Rows<'_>) -> Vec<f64> {
        let values = self.values(rows);
        if self.spec.scorer.n_scores() > 1 {
            return values;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "XGBoost's values are singles"
        )]
        let complement = |value: f64| match self.spec.precision {
            BoostedPrecision::Single => f64::from(1.0 - value as f32),
            BoostedPrecision::Double => 1.0 - value,
        };
        let pairs = values.iter().map(|&value| [complement(value), value]);
        pairs.flatten().collect()
    }

    fn labels(&self, rows: Rows<'_>, labels: &Labels, rule: ClassRule) -> Tensor {
        let n_scores = self.spec.scorer.n_scores();
        let above = |values: Vec<f64>, threshold: f64| match n_scores {
            1 => values
                .iter()
                .map(|&value| usize::from(value > threshold))
                .collect(),
            _ => largest(&values, n_scores),
        };
        let indices: Vec<usize> = match rule {
            ClassRule::ValueAboveHalf => above(self.values(rows), 0.5),
            ClassRule::ScoreAbove(threshold) => above(self.scores(rows), threshold),
            ClassRule::LargestProbability => largest(&self.probabilities(rows), labels.len()),
        };
        labels.take(&indices)
    }

    /// Returns one of two labels for each score.
    fn labels_of_each(
        &self,
        rows: Rows<'_>,
        labels: &Labels,
        rule: ClassRule,
    ) -> Result<Tensor, RunError> {
        let (values, threshold) = match rule {
            ClassRule::ScoreAbove(threshold) => (self.scores(rows), threshold),
            // Not the same as positive scores: the probability of a small one is a half, rounded.
            ClassRule::ValueAboveHalf | ClassRule::LargestProbability => (self.values(rows), 0.5),
        };
        let above = |&value: &f64| usize::from(value > threshold);
        let indices: Vec<usize> = values.iter().map(above).collect();
        let (_, values) = labels.take(&indices).into_parts();
        let shape = vec![rows.n_rows(), self.spec.scorer.n_scores()];
        Tensor::try_new(shape, values).map_err(table::internal)
    }

    /// Runs `method` on rows in which what is absent is NaN.
    fn answer(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        table::check(rows, self.n_features(), self.accepts())?;
        let mut offers = self.spec.answers.iter().zip(&self.methods);
        let offer = offers.find(|((offered, _), _)| *offered == method);
        let Some(((_, answer), spec)) = offer else {
            return Err(table::no_method(method));
        };
        let values = match answer {
            BoostedAnswer::Label(labels, rule) => return Ok(self.labels(rows, labels, *rule)),
            BoostedAnswer::LabelColumn(labels, rule) => {
                let (_, values) = self.labels(rows, labels, *rule).into_parts();
                return Tensor::try_new(vec![rows.n_rows(), 1], values).map_err(table::internal);
            }
            BoostedAnswer::LabelOfEach(labels, rule) => {
                return self.labels_of_each(rows, labels, *rule);
            }
            BoostedAnswer::Values => self.values(rows),
            BoostedAnswer::Scores => self.scores(rows),
            BoostedAnswer::Probabilities => self.probabilities(rows),
            BoostedAnswer::LogProbabilities => {
                let mut logarithms = self.probabilities(rows);
                for value in &mut logarithms {
                    *value = value.ln();
                }
                logarithms
            }
        };
        self.tensor(values, rows.n_rows(), spec.width)
    }

    /// Returns `values` as a tensor of the ensemble's precision.
    fn tensor(&self, values: Vec<f64>, n_rows: usize, width: Width) -> Result<Tensor, RunError> {
        let values = match self.spec.precision {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "exact: they are singles, widened"
            )]
            BoostedPrecision::Single => {
                Values::F32(values.into_iter().map(|value| value as f32).collect())
            }
            BoostedPrecision::Double => Values::F64(values.into()),
        };
        let shape = match width {
            Width::Scalar => vec![n_rows],
            Width::Columns(n_columns) => vec![n_rows, n_columns],
            Width::Outputs(n_outputs, width) => vec![n_rows, n_outputs, width],
        };
        Tensor::try_new(shape, values).map_err(table::internal)
    }
}

/// Returns the number of classes that so many scores can tell apart.
fn n_classes(n_scores: usize) -> usize {
    n_scores.max(2)
}

/// Returns the index of the first largest value of each row.
fn largest(values: &[f64], n_columns: usize) -> Vec<usize> {
    let first_largest = |row: &[f64]| {
        let mut best = 0;
        for (index, value) in row.iter().enumerate() {
            if *value > row[best] {
                best = index;
            }
        }
        best
    };
    values.chunks_exact(n_columns).map(first_largest).collect()
}

fn method_spec(spec: &BoostedSpec, method: Method, answer: &BoostedAnswer) -> MethodSpec {
    let n_scores = spec.scorer.n_scores();
    let numbers = match spec.precision {
        BoostedPrecision::Single => DType::F32,
        BoostedPrecision::Double => DType::F64,
    };
    let width = |n_columns: usize| match n_columns {
        1 => Width::Scalar,
        n_columns => Width::Columns(n_columns),
    };
    let (dtype, width) = match answer {
        BoostedAnswer::Label(labels, _) => (labels.dtype(), Width::Scalar),
        BoostedAnswer::LabelColumn(labels, _) => (labels.dtype(), Width::Columns(1)),
        BoostedAnswer::LabelOfEach(labels, _) => (labels.dtype(), Width::Columns(n_scores)),
        BoostedAnswer::Values => (numbers, width(spec.link.n_values(n_scores))),
        BoostedAnswer::Scores => (numbers, width(n_scores)),
        BoostedAnswer::Probabilities | BoostedAnswer::LogProbabilities => {
            (numbers, Width::Columns(n_classes(n_scores)))
        }
    };
    MethodSpec {
        method,
        dtype,
        width,
    }
}

impl Estimator for Boosted {
    fn n_features(&self) -> usize {
        self.spec.scorer.n_features()
    }

    fn accepts(&self) -> Accepts {
        self.spec.scorer.accepts()
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn class_names(&self) -> Option<Vec<String>> {
        self.spec
            .answers
            .iter()
            .find_map(|(_, answer)| match answer {
                BoostedAnswer::Label(labels, _) | BoostedAnswer::LabelColumn(labels, _) => {
                    Some(labels.names())
                }
                _ => None,
            })
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        if self.spec.missing == BoostedMissing::Absent {
            let message = "the ensemble reads sparse tables, and got one that does not tell which values are absent";
            return Err(RunError::new(RunErrorKind::Internal, message));
        }
        self.answer(method, rows)
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        match (&self.spec.missing, table) {
            (BoostedMissing::Absent, Table::Sparse(sparse)) => {
                run_on_blocks(sparse, f64::NAN, |rows| self.answer(method, rows))
            }
            _ => run_on_matrix(table, |rows| self.run(method, rows)),
        }
    }

    fn memory_bytes(&self) -> usize {
        self.spec.scorer.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinearScorer;

    fn spec(n_scores: usize) -> BoostedSpec {
        let scorer = LinearScorer::try_new(vec![1.0; n_scores], vec![0.0; n_scores], 1).unwrap();
        BoostedSpec {
            scorer: Box::new(scorer),
            precision: BoostedPrecision::Double,
            missing: BoostedMissing::Nan,
            divisor: 1.0,
            link: BoostedLink::Sigmoid { scale: 1.0 },
            answers: vec![
                (Method::Predict, BoostedAnswer::Values),
                (Method::PredictProba, BoostedAnswer::Probabilities),
            ],
        }
    }

    #[test]
    fn one_value_is_the_probability_of_the_second_class() {
        let boosted = Boosted::try_new(spec(1)).unwrap();
        let rows = Rows::try_new(&[0.0], 1).unwrap();
        let values = boosted.run(Method::Predict, rows).unwrap();
        assert_eq!(values.shape(), [1]);
        let pairs = boosted.run(Method::PredictProba, rows).unwrap();
        assert_eq!(pairs.shape(), [1, 2]);
        assert_eq!(pairs.values(), &Values::F64(vec![0.5, 0.5].into()));
        assert!(boosted.run(Method::Transform, rows).is_err());
    }

    /// One score, the first column or, where it is absent, 7.
    #[derive(Debug)]
    struct FirstOrSeven;

    impl Scorer for FirstOrSeven {
        fn n_features(&self) -> usize {
            2
        }

        fn n_scores(&self) -> usize {
            1
        }

        fn accepts(&self) -> Accepts {
            Accepts::FINITE_OR_MISSING
        }

        fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
            for (row, score) in rows.iter().zip(scores) {
                *score = if row[0].is_nan() { 7.0 } else { row[0] };
            }
        }

        fn memory_bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn zeros_that_a_sparse_table_keeps_are_values() {
        let boosted = Boosted::try_new(BoostedSpec {
            scorer: Box::new(FirstOrSeven),
            missing: BoostedMissing::Absent,
            link: BoostedLink::Identity,
            answers: vec![(Method::Predict, BoostedAnswer::Values)],
            ..spec(1)
        })
        .unwrap();
        let mut sparse = coracle_tensor::SparseRows::try_new(2).unwrap();
        sparse.push(0, 0.0);
        sparse.end_row();
        sparse.push(1, 3.0);
        sparse.end_row();
        let values = boosted
            .run_table(Method::Predict, &Table::Sparse(&sparse))
            .unwrap();
        assert_eq!(values.values(), &Values::F64(vec![0.0, 7.0].into()));
        // A matrix does not tell.
        let rows = Rows::try_new(&[0.0, 3.0], 2).unwrap();
        assert!(boosted.run(Method::Predict, rows).is_err());
    }

    #[test]
    fn a_small_positive_score_is_a_probability_of_a_half_in_singles() {
        let labels = Labels::new(Values::I64(vec![0, 1].into()));
        let answers = |rule| {
            let each = BoostedAnswer::LabelOfEach(labels.clone(), rule);
            Boosted::try_new(BoostedSpec {
                precision: BoostedPrecision::Single,
                answers: vec![(Method::Predict, each)],
                ..spec(2)
            })
        };
        let rows = Rows::try_new(&[1e-9], 1).unwrap();
        let of = |rule| answers(rule).unwrap().run(Method::Predict, rows).unwrap();
        let halves = of(ClassRule::ValueAboveHalf);
        assert_eq!(halves.values(), &Values::I64(vec![0, 0].into()));
        let scores = of(ClassRule::ScoreAbove(0.0));
        assert_eq!(scores.values(), &Values::I64(vec![1, 1].into()));
        assert!(answers(ClassRule::LargestProbability).is_err());
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let labels = Labels::new(Values::I64(vec![0, 1, 2].into()));
        let label = BoostedAnswer::Label(labels, ClassRule::ValueAboveHalf);
        let wrong = BoostedSpec {
            answers: vec![(Method::Predict, label)],
            ..spec(1)
        };
        let error = Boosted::try_new(wrong).unwrap_err();
        assert_eq!(error.to_string(), "1 scores do not fit 3 classes");
        let zeros = BoostedMissing::Zeros {
            columns: vec![true; 2],
            magnitude_max: 0.0,
        };
        let wrong = BoostedSpec {
            missing: zeros,
            ..spec(1)
        };
        let error = Boosted::try_new(wrong).unwrap_err();
        assert_eq!(error.to_string(), "2 columns for 1 features");
    }
}
