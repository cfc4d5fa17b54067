//! Kernels against a naive walker over the specification, and specifications that must be refused.

use coracle_model::Scorer;
use coracle_tensor::Rows;

use super::*;
use crate::{Categories, Members, NodeSpec, Precision, SplitRule, Target, TreeSpec};

/// A small generator of reproducible numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What a random forest is made from.
#[derive(Clone, Copy)]
struct Shape {
    n_trees: usize,
    n_features: usize,
    n_scores: usize,
    n_splits: usize,
    precision: Precision,
    summation: Precision,
    vector_leaves: bool,
    categories: bool,
    members: bool,
    /// Whether thresholds are many, so that few are asked for twice.
    fine: bool,
    /// Whether the leaf that is split is one nearest to the root.
    balanced: bool,
}

const PLAIN: Shape = Shape {
    n_trees: 20,
    n_features: 4,
    n_scores: 3,
    n_splits: 10,
    precision: Precision::Single,
    summation: Precision::Double,
    vector_leaves: true,
    categories: false,
    members: false,
    fine: false,
    balanced: false,
};

/// A threshold, or a value that meets one: few distinct ones, so that they often meet, unless many are wanted.
fn grid(random: &mut Random, shape: Shape) -> f64 {
    let n_steps = if shape.fine { 4096.0 } else { 16.0 };
    (random.unit() * n_steps).floor() / n_steps * 4.0 - 2.0 + 1e-9
}

fn random_tree(random: &mut Random, shape: Shape, index: usize) -> TreeSpec {
    let mut nodes = vec![NodeSpec::Leaf];
    for _ in 0..shape.n_splits {
        let leaves: Vec<usize> = (0..nodes.len())
            .filter(|&node| nodes[node] == NodeSpec::Leaf)
            .collect();
        let node = match shape.balanced {
            // Nodes are numbered level by level then.
            true => leaves[0],
            false => leaves[random.below(leaves.len())],
        };
        let feature = random.below(shape.n_features);
        let rule = if shape.categories && feature == 0 {
            let bits = |random: &mut Random| std::array::from_fn(|_| random.next() as u32);
            SplitRule::Categories(Box::new(Categories {
                left: bits(random),
                known: bits(random),
            }))
        } else if shape.members && feature <= 1 {
            let n_words = 1 + random.below(11);
            SplitRule::Members(Box::new(Members {
                bits: (0..n_words).map(|_| random.next() as u32).collect(),
                truncates: feature == 1,
            }))
        } else {
            SplitRule::LessOrEqual(grid(random, shape))
        };
        let left = u32::try_from(nodes.len()).unwrap();
        nodes[node] = NodeSpec::Split {
            feature: u32::try_from(feature).unwrap(),
            rule,
            missing_left: random.below(2) == 0,
            left,
            right: left + 1,
        };
        nodes.extend([NodeSpec::Leaf, NodeSpec::Leaf]);
    }
    let (width, target) = if shape.vector_leaves {
        (shape.n_scores, Target::AllScores)
    } else {
        (1, Target::OneScore(index % shape.n_scores))
    };
    let values = (0..nodes.len() * width)
        .map(|_| random.unit() - 0.5)
        .collect();
    TreeSpec {
        nodes,
        values,
        target,
    }
}

fn random_forest(random: &mut Random, shape: Shape) -> ForestSpec {
    ForestSpec {
        n_features: shape.n_features,
        n_scores: shape.n_scores,
        precision: shape.precision,
        summation: shape.summation,
        base: (0..shape.n_scores).map(|_| random.unit()).collect(),
        divisor: shape
            .n_trees
            .is_multiple_of(2)
            .then_some(shape.n_trees as f64),
        accepts_missing: true,
        accepts_infinite: true,
        trees: (0..shape.n_trees)
            .map(|index| random_tree(random, shape, index))
            .collect(),
    }
}

/// Values that meet thresholds, their neighbours, and every edge of the number line.
fn random_rows(random: &mut Random, shape: Shape, n_rows: usize) -> Vec<f64> {
    let mut value = || match random.below(12) {
        0 => f64::NAN,
        1 => -0.0,
        2 => 1e-310,
        3 => [f64::INFINITY, f64::NEG_INFINITY][random.below(2)],
        4 => 3e38,
        5 => -3e38,
        6 => random.below(400) as f64 - 0.5,
        7 => grid(random, shape).next_up(),
        8 => grid(random, shape),
        _ => random.unit() * 5.0 - 2.5,
    };
    (0..n_rows * shape.n_features).map(|_| value()).collect()
}

/// Walks the specification itself, one node at a time.
fn naive(spec: &ForestSpec, row: &[f64]) -> Vec<f64> {
    let mut sums = spec.base.clone();
    let round = |value: f64| match spec.summation {
        Precision::Single => f64::from(value as f32),
        Precision::Double => value,
    };
    sums.iter_mut().for_each(|sum| *sum = round(*sum));
    for tree in &spec.trees {
        let mut at = 0;
        while let NodeSpec::Split {
            feature,
            rule,
            missing_left,
            left,
            right,
        } = &tree.nodes[at]
        {
            let value = match spec.precision {
                Precision::Single => f64::from(row[*feature as usize] as f32),
                Precision::Double => row[*feature as usize],
            };
            let goes_left = match rule {
                _ if value.is_nan() => *missing_left,
                SplitRule::LessOrEqual(threshold) => value <= *threshold,
                SplitRule::Categories(categories) => {
                    categories.goes_left(value).unwrap_or(*missing_left)
                }
                SplitRule::Values(values) => values.contains(&value),
                SplitRule::Members(members) => {
                    let low = if members.truncates {
                        -1.0
                    } else {
                        -f64::MIN_POSITIVE
                    };
                    let bits = (0..32 * members.bits.len())
                        .filter(|&bit| members.bits[bit / 32] & (1 << (bit % 32)) != 0);
                    value > low && bits.map(|bit| bit as f64).any(|bit| value.trunc() == bit)
                }
            };
            at = if goes_left { *left } else { *right } as usize;
        }
        match tree.target {
            Target::AllScores => {
                for (sum, value) in sums.iter_mut().zip(&tree.values[at * spec.n_scores..]) {
                    *sum = round(*sum + round(*value));
                }
            }
            Target::OneScore(score) => {
                sums[score] = round(sums[score] + round(tree.values[at]));
            }
        }
    }
    if let Some(divisor) = spec.divisor {
        sums.iter_mut().for_each(|sum| *sum /= divisor);
    }
    sums
}

fn bits(scores: &[f64]) -> Vec<u64> {
    scores.iter().map(|score| score.to_bits()).collect()
}

fn check(forest: &Forest, spec: &ForestSpec, values: &[f64], expected: &[f64], about: &str) {
    let n_rows = values.len() / spec.n_features;
    // Numbers of rows on both sides of every limit within the kernels.
    for n in [
        n_rows, 257, 256, 129, 128, 100, 65, 64, 63, 33, 9, 8, 7, 4, 3,
    ] {
        let n = n.min(n_rows);
        let mut scores = vec![0.0; n * spec.n_scores];
        let rows = Rows::try_new(&values[..n * spec.n_features], spec.n_features).unwrap();
        forest.score(rows, &mut scores);
        let expected = &expected[..n * spec.n_scores];
        assert_eq!(bits(&scores), bits(expected), "{about}, {n} rows");
    }
    let expected = expected.chunks_exact(spec.n_scores);
    for (row, expected) in values.chunks_exact(spec.n_features).zip(expected) {
        let mut scores = vec![0.0; spec.n_scores];
        forest.score(Rows::try_new(row, spec.n_features).unwrap(), &mut scores);
        assert_eq!(bits(&scores), bits(expected), "{about}, one row");
    }
}

fn check_kernels(spec: &ForestSpec, values: &[f64], expected_kernels: &[Kernel]) {
    let rows = Rows::try_new(values, spec.n_features).unwrap();
    let expected: Vec<f64> = rows.iter().flat_map(|row| naive(spec, row)).collect();
    let mut kernels = Vec::new();
    for kernel in [Kernel::Intervals, Kernel::Ranks, Kernel::Traversal] {
        for instructions in Instructions::all() {
            let Some(forest) = Forest::with(spec, kernel, instructions).unwrap() else {
                continue;
            };
            assert_eq!(forest.kernel(), kernel);
            kernels.push(kernel);
            let about = format!("{kernel:?}, {instructions:?}");
            check(&forest, spec, values, &expected, &about);
        }
    }
    kernels.dedup();
    assert_eq!(kernels, expected_kernels);
}

const ALL: [Kernel; 3] = [Kernel::Intervals, Kernel::Ranks, Kernel::Traversal];
const NOT_INTERVALS: [Kernel; 2] = [Kernel::Ranks, Kernel::Traversal];
const NOT_RANKS: [Kernel; 2] = [Kernel::Intervals, Kernel::Traversal];
const WALK: [Kernel; 1] = [Kernel::Traversal];

/// Shapes, each with the kernels that take it.
const SHAPES: [(Shape, &[Kernel]); 31] = [
    (PLAIN, &ALL),
    (
        Shape {
            n_splits: 0,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_trees: 1,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_trees: 300,
            n_splits: 3,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_splits: 20,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_splits: 63,
            n_features: 2,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_splits: 64,
            ..PLAIN
        },
        &NOT_INTERVALS,
    ),
    (
        Shape {
            n_splits: 500,
            n_trees: 7,
            ..PLAIN
        },
        &WALK,
    ),
    (
        Shape {
            n_scores: 1,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_scores: 2,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_scores: 7,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            vector_leaves: false,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            vector_leaves: false,
            n_scores: 1,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            precision: Precision::Double,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            precision: Precision::Double,
            categories: true,
            ..PLAIN
        },
        &NOT_RANKS,
    ),
    (
        Shape {
            precision: Precision::Double,
            categories: true,
            n_splits: 100,
            ..PLAIN
        },
        &WALK,
    ),
    (
        Shape {
            n_features: 200,
            n_splits: 60,
            ..PLAIN
        },
        &NOT_INTERVALS,
    ),
    (
        Shape {
            summation: Precision::Single,
            n_scores: 1,
            n_trees: 101,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            summation: Precision::Single,
            vector_leaves: false,
            n_splits: 100,
            ..PLAIN
        },
        &NOT_INTERVALS,
    ),
    (
        Shape {
            members: true,
            summation: Precision::Single,
            ..PLAIN
        },
        &NOT_RANKS,
    ),
    (
        Shape {
            members: true,
            precision: Precision::Double,
            n_splits: 100,
            ..PLAIN
        },
        &WALK,
    ),
    (
        Shape {
            n_splits: 255,
            n_trees: 9,
            n_scores: 1,
            ..PLAIN
        },
        &NOT_INTERVALS,
    ),
    (
        Shape {
            n_splits: 256,
            n_trees: 3,
            ..PLAIN
        },
        &WALK,
    ),
    (
        Shape {
            n_splits: 40,
            n_trees: 45,
            fine: true,
            vector_leaves: false,
            summation: Precision::Single,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_splits: 25,
            n_trees: 65,
            fine: true,
            n_scores: 1,
            precision: Precision::Double,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_splits: 31,
            n_trees: 131,
            n_features: 90,
            n_scores: 1,
            summation: Precision::Single,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            n_splits: 31,
            n_trees: 40,
            n_features: 200,
            vector_leaves: false,
            ..PLAIN
        },
        &NOT_INTERVALS,
    ),
    (
        Shape {
            n_splits: 20,
            n_trees: 200,
            n_features: 300,
            fine: true,
            n_scores: 1,
            ..PLAIN
        },
        &NOT_INTERVALS,
    ),
    (
        Shape {
            balanced: true,
            n_splits: 63,
            n_trees: 70,
            n_scores: 1,
            summation: Precision::Single,
            ..PLAIN
        },
        &ALL,
    ),
    (
        Shape {
            balanced: true,
            n_splits: 60,
            n_trees: 129,
            n_features: 100,
            fine: true,
            vector_leaves: false,
            ..PLAIN
        },
        &NOT_INTERVALS,
    ),
    (
        Shape {
            balanced: true,
            n_splits: 47,
            n_trees: 20,
            n_features: 250,
            precision: Precision::Double,
            ..PLAIN
        },
        &NOT_INTERVALS,
    ),
];

#[test]
fn every_kernel_gives_the_bits_of_a_naive_walk() {
    for (seed, (shape, kernels)) in (1..).zip(SHAPES) {
        let mut random = Random(seed);
        let spec = random_forest(&mut random, shape);
        let rows = random_rows(&mut random, shape, 300);
        check_kernels(&spec, &rows, kernels);
    }
}

#[test]
fn a_chain_of_two_thousand_splits_is_walked() {
    let n_splits = 2_000_u32;
    let mut nodes = Vec::new();
    for index in 0..n_splits {
        nodes.push(NodeSpec::Split {
            feature: 0,
            rule: SplitRule::LessOrEqual(f64::from(index)),
            missing_left: false,
            left: 2 * index + 1,
            right: 2 * index + 2,
        });
        nodes.push(NodeSpec::Leaf);
    }
    nodes.push(NodeSpec::Leaf);
    let values = (0..nodes.len()).map(|index| index as f64).collect();
    let trees = vec![TreeSpec {
        nodes,
        values,
        target: Target::AllScores,
    }];
    let spec = ForestSpec {
        trees,
        ..random_forest(
            &mut Random(0),
            Shape {
                n_trees: 0,
                n_features: 1,
                n_scores: 1,
                ..PLAIN
            },
        )
    };
    check_kernels(&spec, &[0.0, 1.5, 1_999.0, 5_000.0, f64::NAN], &WALK);
}

#[test]
fn no_rows_give_no_scores() {
    let forest = Forest::try_new(&random_forest(&mut Random(3), PLAIN)).unwrap();
    forest.score(Rows::try_new(&[], 4).unwrap(), &mut []);
}

#[test]
fn the_largest_magnitude_rounds_to_a_finite_single() {
    assert!((SINGLE_MAGNITUDE_MAX as f32).is_finite());
    assert!((SINGLE_MAGNITUDE_MAX.next_up() as f32).is_infinite());
}

fn split(feature: u32, left: u32, right: u32) -> NodeSpec {
    NodeSpec::Split {
        feature,
        rule: SplitRule::LessOrEqual(0.5),
        missing_left: false,
        left,
        right,
    }
}

#[test]
fn malformed_trees_are_refused() {
    let leaf = NodeSpec::Leaf;
    let all = Target::AllScores;
    let cases: [(Vec<NodeSpec>, usize, Target, &str); 9] = [
        (vec![], 0, all, "tree 0: has no nodes"),
        (
            vec![leaf.clone()],
            2,
            all,
            "tree 0: 2 values for 1 nodes of width 1",
        ),
        (
            vec![split(9, 1, 2), leaf.clone(), leaf.clone()],
            3,
            all,
            "tree 0: node 0: splits on feature 9 of 4",
        ),
        (
            vec![split(0, 1, 3), leaf.clone(), leaf.clone()],
            3,
            all,
            "tree 0: node 0: child 3 does not exist; there are 3 nodes",
        ),
        (
            vec![split(0, 1, 1), leaf.clone()],
            2,
            all,
            "tree 0: node 0: child 1 has another parent too",
        ),
        (
            vec![split(0, 0, 1), leaf.clone()],
            2,
            all,
            "tree 0: node 0: child 0 has another parent too",
        ),
        (
            vec![split(0, 1, 2), split(0, 2, 0), leaf.clone()],
            3,
            all,
            "tree 0: node 1: child 2 has another parent too",
        ),
        (
            vec![leaf.clone()],
            1,
            Target::OneScore(1),
            "tree 0: adds to score 1 of 1",
        ),
        (
            vec![split(0, u32::MAX, 1), leaf],
            2,
            all,
            "tree 0: node 0: child 4294967295 does not exist; there are 2 nodes",
        ),
    ];
    for (nodes, n_values, target, message) in cases {
        let tree = TreeSpec {
            nodes,
            values: vec![0.0; n_values],
            target,
        };
        let shape = Shape {
            n_trees: 0,
            n_scores: 1,
            ..PLAIN
        };
        let spec = ForestSpec {
            trees: vec![tree],
            ..random_forest(&mut Random(0), shape)
        };
        assert_eq!(Forest::try_new(&spec).unwrap_err().to_string(), message);
    }
}

#[test]
fn initial_scores_must_match() {
    let spec = ForestSpec {
        base: vec![0.0],
        ..random_forest(&mut Random(0), PLAIN)
    };
    let message = Forest::try_new(&spec).unwrap_err().to_string();
    assert_eq!(message, "1 initial scores for 3 scores");
}

#[test]
fn exact_values_go_left_and_no_others_do() {
    let split = |left, rule, missing_left| NodeSpec::Split {
        feature: 0,
        rule,
        missing_left,
        left,
        right: left + 1,
    };
    let spec = ForestSpec {
        n_features: 1,
        n_scores: 1,
        precision: Precision::Single,
        summation: Precision::Single,
        base: vec![0.0],
        divisor: None,
        accepts_missing: true,
        accepts_infinite: true,
        trees: vec![TreeSpec {
            nodes: vec![
                split(
                    1,
                    SplitRule::Values(Box::new([2.0, -0.5, f64::INFINITY])),
                    true,
                ),
                split(3, SplitRule::Values(Box::new([])), false),
                NodeSpec::Leaf,
                NodeSpec::Leaf,
                NodeSpec::Leaf,
            ],
            values: vec![0.0, 0.0, 1.0, 10.0, 100.0],
            target: Target::OneScore(0),
        }],
    };
    assert!(
        Forest::with_kernel(&spec, Kernel::Intervals)
            .unwrap()
            .is_none()
    );
    let forest = Forest::try_new(&spec).unwrap();
    let rows = [2.0, 2.5, -0.5, 0.0, f64::NAN, f64::INFINITY, 2.0 + 1e-12];
    let mut scores = [0.0; 7];
    forest.score(Rows::try_new(&rows, 1).unwrap(), &mut scores);
    // The last value is 2 in single precision.
    assert_eq!(scores, [100.0, 1.0, 100.0, 1.0, 100.0, 100.0, 100.0]);
}
