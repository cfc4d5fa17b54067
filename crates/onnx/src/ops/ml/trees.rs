//! Tree ensembles: the sums come from a kernel, or for what kernels do not do from a plain walk; what becomes of them is
//! what ONNX Runtime makes of them.

use coracle_model::{LoadError, RunError, Scorer};
use coracle_tensor::{DType, Rows, Tensor, Values};

use crate::ensemble::{Aggregate, EnsembleNode, EnsembleTree, TreeEnsemble, TreeKernels};
use crate::error::{dtype_error, internal, malformed, shape_error, unsupported};
use crate::labels::Labels;
use crate::ops::post::{Post, UNDEFINED_PROBIT};
use crate::ops::registry::{Build, Operator};
use crate::ops::values::{table, tensor};

/// What gives the aggregated leaves of each row.
#[derive(Debug)]
enum Scores {
    /// Sums.
    Kernel(Box<dyn Scorer>),
    /// Minima and maxima, and sums where some targets may get no weight at all.
    Walk(TreeEnsemble),
}

/// An ensemble with its scores.
#[derive(Debug)]
struct Trees {
    scores: Scores,
    n_features: usize,
    n_targets: usize,
    is_double: bool,
    aggregate: Aggregate,
    n_trees: f64,
    /// Which targets have a score, where that does not depend on the row.
    always: Vec<bool>,
}

/// The scores of a batch and which of them some leaf gave, both `(rows, targets)`; the latter is `(targets)` where it does not
/// depend on the row.
struct Scored {
    values: Vec<f64>,
    has: Vec<bool>,
}

impl Trees {
    fn compile(
        ensemble: TreeEnsemble,
        aggregate: Aggregate,
        needs_presence: bool,
        kernels: &dyn TreeKernels,
    ) -> Result<Self, LoadError> {
        let sums = matches!(aggregate, Aggregate::Sum | Aggregate::Average);
        let always = ensemble.always_scored();
        let named = ensemble.named();
        // Whether a target has a score depends on the row if only some leaves name it.
        let depends = always
            .iter()
            .zip(&named)
            .any(|(always, named)| always != named);
        let walks = !sums || needs_presence && depends;
        // The kernel's checks (cycles, shared nodes) hold for walks too.
        let kernel = kernels.compile(&ensemble)?;
        let (n_features, n_targets) = (ensemble.n_features, ensemble.n_targets);
        let is_double = ensemble.is_double;
        #[expect(clippy::cast_precision_loss, reason = "a number of trees")]
        let n_trees = ensemble.trees.len() as f64;
        let scores = if walks {
            Scores::Walk(ensemble)
        } else {
            Scores::Kernel(kernel)
        };
        Ok(Self {
            scores,
            n_features,
            n_targets,
            is_double,
            aggregate,
            n_trees,
            always,
        })
    }

    /// Scores every row; returns their number too.
    fn score(&self, input: Option<&Tensor>) -> Result<(usize, Scored), RunError> {
        let input = input.ok_or_else(|| internal("the input is missing"))?;
        let (n_rows, n_columns) = table(input.shape())?;
        if n_columns < self.n_features {
            return Err(shape_error(format!(
                "{n_columns} columns, the trees read {}",
                self.n_features
            )));
        }
        let values = self.rounded(input.values())?;
        let values: &[f64] = &values;
        let cut: Vec<f64>;
        let values = if n_columns == self.n_features {
            values
        } else {
            let rows = values.chunks_exact(n_columns);
            cut = rows
                .flat_map(|row| &row[..self.n_features])
                .copied()
                .collect();
            &cut
        };
        let mut sums = vec![0.0; n_rows * self.n_targets];
        if n_rows == 0 {
            let has = Vec::new();
            return Ok((0, Scored { values: sums, has }));
        }
        let has = match &self.scores {
            Scores::Kernel(kernel) => {
                let rows = Rows::try_new(values, self.n_features)
                    .ok_or_else(|| internal("ragged rows"))?;
                kernel.score(rows, &mut sums);
                self.always.clone()
            }
            Scores::Walk(ensemble) => {
                let mut has = vec![false; sums.len()];
                let scored = sums
                    .chunks_exact_mut(self.n_targets)
                    .zip(has.chunks_exact_mut(self.n_targets));
                for (row, (sums, has)) in values.chunks_exact(self.n_features).zip(scored) {
                    self.walk(ensemble, row, sums, has);
                }
                has
            }
        };
        if self.aggregate == Aggregate::Average {
            let n_trees = self.n_trees;
            sums.iter_mut()
                .for_each(|sum| *sum = self.round(*sum / n_trees));
        }
        Ok((n_rows, Scored { values: sums, has }))
    }

    /// Returns the values in the precision of the comparisons, as doubles.
    #[expect(clippy::cast_precision_loss, reason = "rounding is the point")]
    fn rounded<'v>(&self, values: &'v Values) -> Result<std::borrow::Cow<'v, [f64]>, RunError> {
        let single = |value: f32| f64::from(value);
        match values {
            Values::F64(_) if !self.is_double => {
                Err(dtype_error("FP64 where the trees were compiled for FP32"))
            }
            Values::I64(items) if !self.is_double => {
                Ok(items.iter().map(|&item| single(item as f32)).collect())
            }
            Values::I32(items) if !self.is_double => {
                Ok(items.iter().map(|&item| single(item as f32)).collect())
            }
            values => values
                .to_f64s()
                .ok_or_else(|| dtype_error("the trees read numbers, got strings")),
        }
    }

    /// Rounds to the precision of the sums.
    #[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
    fn round(&self, value: f64) -> f64 {
        if self.is_double {
            value
        } else {
            f64::from(value as f32)
        }
    }

    fn walk(&self, ensemble: &TreeEnsemble, row: &[f64], sums: &mut [f64], has: &mut [bool]) {
        for tree in &ensemble.trees {
            for &(target, weight) in leaf(tree, row) {
                let sum = &mut sums[target];
                *sum = match self.aggregate {
                    _ if !has[target] => self.round(weight),
                    Aggregate::Sum | Aggregate::Average => self.round(*sum + self.round(weight)),
                    Aggregate::Min if weight < *sum => self.round(weight),
                    Aggregate::Max if weight > *sum => self.round(weight),
                    Aggregate::Min | Aggregate::Max => *sum,
                };
                has[target] = true;
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        match &self.scores {
            Scores::Kernel(kernel) => kernel.memory_bytes(),
            Scores::Walk(ensemble) => {
                let nodes = ensemble.trees.iter().map(|tree| tree.nodes.len());
                nodes.sum::<usize>() * size_of::<EnsembleNode>()
            }
        }
    }
}

/// Returns the weights of the leaf that a row reaches. The kernel's checks have seen that there are no cycles.
fn leaf<'t>(tree: &'t EnsembleTree, row: &[f64]) -> &'t [(usize, f64)] {
    let mut at = 0;
    loop {
        match &tree.nodes[at] {
            EnsembleNode::Leaf(weights) => return weights,
            EnsembleNode::Split {
                feature,
                test,
                missing_yes,
                yes,
                no,
            } => {
                let value = row[*feature as usize];
                let answer = test.holds(value) || *missing_yes && value.is_nan();
                at = (if answer { *yes } else { *no }) as usize;
            }
        }
    }
}

fn read_aggregate(build: &Build<'_, '_>) -> Result<Aggregate, LoadError> {
    Ok(match build.attributes.word("aggregate_function", "SUM")? {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(unsupported(format!("aggregate_function '{other}'"))),
    })
}

/// A regressor: scores and base values, transformed.
#[derive(Debug)]
struct Regressor {
    trees: Trees,
    base: Vec<f64>,
    post: Post,
    gives_double: bool,
}

/// Builds `TreeEnsembleRegressor`.
pub(super) fn regressor(build: &Build<'_, '_>) -> Result<Box<dyn Operator>, LoadError> {
    let attributes = &build.attributes;
    let n_targets = attributes.int("n_targets")?.unwrap_or(1);
    let n_targets = usize::try_from(n_targets).unwrap_or(0);
    let mut ensemble = TreeEnsemble::read_flat(attributes, "target", n_targets)?;
    ensemble.is_double |= build.input_dtype(0) == Some(DType::F64);
    let (base, _) = attributes.reals("base_values")?;
    if !base.is_empty() && base.len() != n_targets {
        return Err(malformed(format!(
            "{} base_values for {n_targets} targets",
            base.len()
        )));
    }
    let aggregate = read_aggregate(build)?;
    let is_extreme = matches!(aggregate, Aggregate::Min | Aggregate::Max);
    if is_extreme && n_targets == 1 && ensemble.has_empty_leaf() {
        return Err(unsupported(
            "a leaf without a weight under MIN or MAX, which counts as 0 for ONNX Runtime and as nothing for ONNX",
        ));
    }
    Ok(Box::new(Regressor {
        trees: Trees::compile(
            ensemble,
            aggregate,
            n_targets > 1 && !base.is_empty(),
            build.kernels,
        )?,
        base,
        post: Post::read(attributes)?,
        gives_double: false,
    }))
}

/// Builds `TreeEnsemble`, version 5.
pub(super) fn ensemble(build: &Build<'_, '_>) -> Result<Box<dyn Operator>, LoadError> {
    let attributes = &build.attributes;
    let n_targets = attributes.int("n_targets")?.unwrap_or(1);
    let n_targets = usize::try_from(n_targets).unwrap_or(0);
    let mut ensemble = TreeEnsemble::read_v5(attributes, n_targets)?;
    ensemble.is_double |= build.input_dtype(0) == Some(DType::F64);
    let aggregate = match attributes.int("aggregate_function")?.unwrap_or(1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(unsupported(format!("aggregate_function {other}"))),
    };
    let gives_double = ensemble.is_double;
    Ok(Box::new(Regressor {
        trees: Trees::compile(ensemble, aggregate, false, build.kernels)?,
        base: Vec::new(),
        post: Post::numbered(attributes.int("post_transform")?.unwrap_or(0))?,
        gives_double,
    }))
}

impl Operator for Regressor {
    fn run(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
        let n_targets = self.trees.n_targets;
        let (n_rows, scored) = self.trees.score(inputs[0])?;
        let mut sums = scored.values;
        if !self.base.is_empty() {
            for (row, sums) in sums.chunks_exact_mut(n_targets).enumerate() {
                let has = has_of(&scored.has, row, n_targets);
                for ((sum, base), has) in sums.iter_mut().zip(&self.base).zip(has) {
                    // Several targets get their base only where a leaf adds to them, as in ONNX Runtime.
                    if *has || n_targets == 1 {
                        *sum = self.trees.round(*sum + self.trees.round(*base));
                    }
                }
            }
        }
        let post = self.post.of_one(n_targets);
        let shape = vec![n_rows, n_targets];
        if self.gives_double && post == Post::None {
            return Ok(vec![tensor(shape, Values::F64(sums.into()))?]);
        }
        let mut singles = to_singles(&sums);
        singles
            .chunks_exact_mut(n_targets)
            .for_each(|row| post.apply(row));
        let values = if self.gives_double {
            Values::F64(singles.into_iter().map(f64::from).collect())
        } else {
            Values::F32(singles.into())
        };
        Ok(vec![tensor(shape, values)?])
    }

    fn memory_bytes(&self) -> usize {
        self.trees.memory_bytes()
    }
}

/// Returns which targets of a row have a score.
fn has_of(has: &[bool], row: usize, n_targets: usize) -> &[bool] {
    has.get(row * n_targets..(row + 1) * n_targets)
        .unwrap_or(&has[..n_targets])
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "exact in single precision, rounded in double"
)]
fn to_singles(sums: &[f64]) -> Vec<f32> {
    sums.iter().map(|&sum| sum as f32).collect()
}

/// A classifier: a label and the scores of all classes.
#[derive(Debug)]
struct Classifier {
    trees: Trees,
    base: Vec<f64>,
    post: Post,
    labels: Labels,
    /// Two classes of which the leaves name only one.
    is_binary: bool,
    /// Whether all weights are at least zero.
    all_positive: bool,
}

/// Builds `TreeEnsembleClassifier`.
pub(super) fn classifier(build: &Build<'_, '_>) -> Result<Box<dyn Operator>, LoadError> {
    let attributes = &build.attributes;
    let labels = Labels::read(attributes, "classlabels_int64s", "classlabels_strings")?;
    let n_classes = labels.len();
    let mut ensemble = TreeEnsemble::read_flat(attributes, "class", n_classes)?;
    ensemble.is_double |= build.input_dtype(0) == Some(DType::F64);
    let (base, _) = attributes.reals("base_values")?;
    let fits = base.is_empty() || base.len() == n_classes || n_classes == 2 && base.len() == 1;
    if !fits {
        return Err(malformed(format!(
            "{} base_values for {n_classes} classes",
            base.len()
        )));
    }
    let all_positive = ensemble.all_positive();
    let n_named = ensemble.named().into_iter().filter(|&named| named).count();
    let needs_presence = n_classes == 2 || base.is_empty();
    let post = Post::read(attributes)?;
    if n_classes < 2 {
        return Err(unsupported("a classifier of one class"));
    }
    if n_classes == 2 && post == Post::Probit {
        return Err(unsupported(UNDEFINED_PROBIT));
    }
    Ok(Box::new(Classifier {
        trees: Trees::compile(ensemble, Aggregate::Sum, needs_presence, build.kernels)?,
        base,
        post,
        labels,
        is_binary: n_classes == 2 && n_named == 1,
        all_positive,
    }))
}

impl Classifier {
    /// Decides the label of a row by the largest score, and transforms the scores.
    fn decide(&self, scores: &mut [f32], has: &[bool]) -> usize {
        let counts_all = !self.base.is_empty();
        let mut best = None::<(usize, f32)>;
        for (class, (&score, has)) in scores.iter().zip(has).enumerate() {
            let counts = counts_all || *has;
            if counts && best.is_none_or(|(_, largest)| score > largest) {
                best = Some((class, score));
            }
        }
        self.post.apply(scores);
        best.map_or(0, |(class, _)| class)
    }

    /// Decides between two classes, whose scores have no base yet, and transforms the scores. Follows ONNX Runtime, to whom
    /// leaves of both classes mean something else than leaves of one.
    fn decide_two(&self, scores: &mut [f32], has: &[bool]) -> usize {
        let (mut first, mut second) = (scores[0], scores[1]);
        let [has_first, has_second] = [has[0], has[1]];
        let mut is_pair = has_second;
        match *self.base {
            [_, base] if has_second => {
                second = single(base) + first;
                first = -second;
            }
            [base, _] => {
                first += single(base);
                is_pair = true;
            }
            [base] => first += single(base),
            _ => {}
        }
        let deciding = match (has_second, has_first) {
            (true, _) => second,
            (false, true) => first,
            (false, false) => 0.0,
        };
        let threshold = match self.is_binary && self.all_positive {
            true => 0.5,
            false => 0.0,
        };
        if is_pair {
            scores[0] = if has_first { first } else { 0.0 };
            scores[1] = if has_second { second } else { 0.0 };
            self.post.apply(scores);
        } else if self.is_binary && self.all_positive || self.post == Post::Logistic {
            scores.copy_from_slice(&self.post.of_two(first));
        } else {
            scores.copy_from_slice(&[-first, first]);
        }
        usize::from(deciding > threshold)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
fn single(value: f64) -> f32 {
    value as f32
}

impl Operator for Classifier {
    fn run(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
        let n_classes = self.trees.n_targets;
        let (n_rows, scored) = self.trees.score(inputs[0])?;
        let mut sums = scored.values;
        if n_classes > 2 && !self.base.is_empty() {
            for row in sums.chunks_exact_mut(n_classes) {
                for (sum, base) in row.iter_mut().zip(&self.base) {
                    *sum = self.trees.round(*sum + self.trees.round(*base));
                }
            }
        }
        let mut singles = to_singles(&sums);
        let mut labels = Vec::with_capacity(n_rows);
        for (row, scores) in singles.chunks_exact_mut(n_classes).enumerate() {
            let has = has_of(&scored.has, row, n_classes);
            labels.push(match n_classes {
                2 => self.decide_two(scores, has),
                _ => self.decide(scores, has),
            });
        }
        Ok(vec![
            tensor(vec![n_rows], self.labels.pick(&labels))?,
            tensor(vec![n_rows, n_classes], Values::F32(singles.into()))?,
        ])
    }

    fn memory_bytes(&self) -> usize {
        self.trees.memory_bytes()
    }
}
