//! The ways to pool.

use super::*;

/// Two texts of up to three tokens with two numbers each; what is filled up holds numbers that must not count.
const HIDDEN: [f32; 12] = [
    1.0, -2.0, 3.0, 4.0, 900.0, 900.0, -900.0, -900.0, 900.0, 900.0, 0.5, -8.0,
];
const SPANS: [Span; 2] = [Span { start: 0, len: 2 }, Span { start: 2, len: 1 }];

fn pooled(poolings: &[Pooling], is_normalized: bool) -> Vec<f32> {
    let sentence = Sentence {
        poolings: poolings.to_vec(),
        dense: Vec::new(),
        is_normalized,
    };
    let mut out = Vec::new();
    pool(&HIDDEN, (3, 2), &SPANS, &sentence, &mut out);
    out
}

#[test]
fn each_way_to_pool_looks_at_the_texts_tokens_alone() {
    let root = 2.0_f32.sqrt();
    let cases = [
        (Pooling::Cls, [1.0, -2.0, 0.5, -8.0]),
        (Pooling::Lasttoken, [3.0, 4.0, 0.5, -8.0]),
        (Pooling::Max, [3.0, 4.0, 0.5, -8.0]),
        (Pooling::Mean, [2.0, 1.0, 0.5, -8.0]),
        (
            Pooling::MeanSqrtLenTokens,
            [4.0 / root, 2.0 / root, 0.5, -8.0],
        ),
        (Pooling::Weightedmean, [7.0 / 3.0, 2.0, 0.5, -8.0]),
    ];
    for (pooling, wanted) in cases {
        assert_eq!(pooled(&[pooling], false), wanted, "{}", pooling.name());
    }
    let both = pooled(&[Pooling::Mean, Pooling::Cls], false);
    assert_eq!(both, [2.0, 1.0, 1.0, -2.0, 0.5, -8.0, 0.5, -8.0]);
}

#[test]
fn vectors_are_divided_by_their_length_and_none_by_zero() {
    let vectors = pooled(&[Pooling::Lasttoken], true);
    assert_eq!(vectors[..2], [0.6, 0.8]);
    let mut zero = vec![0.0, 0.0, 3.0, 4.0];
    normalize_all(&mut zero, 2);
    assert_eq!(zero, [0.0, 0.0, 0.6, 0.8]);
}

#[test]
fn what_is_no_number_is_not_hidden_by_the_largest() {
    let sentence = Sentence {
        poolings: vec![Pooling::Max],
        dense: Vec::new(),
        is_normalized: false,
    };
    let mut out = Vec::new();
    let hidden = [1.0, f32::NAN, f32::NAN, 2.0];
    pool(
        &hidden,
        (2, 2),
        &[Span { start: 0, len: 2 }],
        &sentence,
        &mut out,
    );
    assert!(out.iter().all(|value| value.is_nan()), "{out:?}");
}
