//! Logits to labels and scores.

use super::*;

fn classifier(problem: Option<Problem>, labels: &[&str]) -> Classifier {
    let classes = Classes {
        labels: Some(labels.iter().map(|&label| label.to_owned()).collect()),
        problem,
        ..Classes::default()
    };
    Classifier::try_new(&classes, labels.len()).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.values().to_f64s().unwrap().into_owned()
}

#[test]
fn logits_become_labels_and_scores_by_the_kind_of_problem() {
    let logits = vec![0.0, 3.0_f32.ln(), -1.0, -1.0];
    let labels = ["no", "yes"];
    let one = classifier(None, &labels);
    assert_eq!(one.default_outputs(false), [0, 1]);
    let answers = one.answer(logits.clone(), &[0, 1, 2, 3]).unwrap();
    let wanted: ByteStrings = ["yes", "no"].into_iter().collect();
    assert_eq!(answers[0].values(), &Values::Bytes(wanted));
    let close = |found: &[f64], wanted: &[f64]| {
        assert_eq!(found.len(), wanted.len());
        let pairs = found.iter().zip(wanted);
        pairs
            .for_each(|(found, wanted)| assert!((found - wanted).abs() < 1e-6, "{found} {wanted}"));
    };
    close(&numbers(&answers[1]), &[0.75, 0.5]);
    close(&numbers(&answers[2]), &[0.25, 0.75, 0.5, 0.5]);
    assert_eq!(answers[2].shape(), [2, 2]);
    let several = classifier(Some(Problem::MultiLabel), &labels);
    assert_eq!(several.default_outputs(false), [2]);
    let answers = several.answer(logits.clone(), &[2]).unwrap();
    close(&numbers(&answers[0])[..2], &[0.5, 0.75]);
    let value = classifier(Some(Problem::Regression), &labels);
    let answers = value.answer(logits.clone(), &[2, 3]).unwrap();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(numbers(&answers[0])[2], -1.0);
    assert!(value.answer(logits, &[4]).is_err());
}

#[test]
fn what_is_no_number_is_the_largest_and_large_logits_stay_finite() {
    assert_eq!(largest(&[1.0, 5.0, 5.0]), (1, 5.0));
    let (place, value) = largest(&[1.0, f32::NAN, 7.0]);
    assert!(place == 1 && value.is_nan());
    let answers = classifier(None, &["a", "b"])
        .answer(vec![-2e30, 2e30], &[2])
        .unwrap();
    assert_eq!(numbers(&answers[0]), [0.0, 1.0]);
}

#[test]
fn unnamed_labels_have_the_names_of_transformers() {
    let unnamed = Classifier::try_new(&Classes::default(), 2).unwrap();
    assert_eq!(unnamed.labels, ["LABEL_0", "LABEL_1"]);
    let outputs = unnamed.outputs();
    assert_eq!(outputs[2].wire_shape(), [-1, 2]);
}

#[test]
fn cross_encoders_do_what_their_files_say() {
    let classes = Classes {
        labels: Some(vec!["LABEL_0".to_owned()]),
        problem: None,
        activation: Some(Activation::None),
        is_cross_encoder: true,
    };
    let raw = Classifier::try_new(&classes, 1).unwrap();
    assert_eq!(raw.default_outputs(true), [1]);
    assert_eq!(raw.default_outputs(false), [0, 1]);
    let answers = raw.answer(vec![-2.5], &[1]).unwrap();
    assert_eq!(numbers(&answers[0]), [-2.5]);
}

/// `CrossEncoder.get_default_activation_fn` of sentence-transformers 6.2 looks at its own settings and the number of labels only.
#[test]
fn cross_encoders_heed_no_kind_of_problem() {
    let problems = [
        None,
        Some(Problem::Regression),
        Some(Problem::MultiLabel),
        Some(Problem::SingleLabel),
    ];
    let cases = [
        (Some(Activation::Sigmoid), 1, Activation::Sigmoid),
        (Some(Activation::None), 1, Activation::None),
        (Some(Activation::Softmax), 3, Activation::Softmax),
        (None, 1, Activation::Sigmoid),
        (None, 3, Activation::None),
    ];
    for (activation, n, expected) in cases {
        for problem in problems {
            let classes = Classes {
                labels: None,
                problem,
                activation,
                is_cross_encoder: true,
            };
            let found = Classifier::try_new(&classes, n).unwrap().activation;
            assert_eq!(found, expected, "{activation:?} {n} {problem:?}");
        }
    }
}
