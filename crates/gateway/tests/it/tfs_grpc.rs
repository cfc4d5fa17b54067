//! TensorFlow Serving's gRPC: what is refused, with which status and words; and what a classification calls the classes.

use bytes::Bytes;
use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load};
use coracle_gateway::Limits;
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::tensorflow::{
    BytesList, ClassificationRequest, ClassificationResponse, Dim, Example, ExampleList, Feature,
    FeatureKind, Features, FloatList, GetModelMetadataRequest, GetModelStatusRequest, Input,
    InputKind, Int64Value, ModelSpec, PredictRequest, RegressionResponse, TensorProto,
    TensorShapeProto, VersionChoice,
};

use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};

use crate::fixture::{config, start, start_with};
use crate::grpc::call;

pub(crate) const PREDICTION: &str = "/tensorflow.serving.PredictionService/";
pub(crate) const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";
const DT_DOUBLE: i32 = 2;
const DT_STRING: i32 = 7;

pub(crate) fn spec(name: &str) -> ModelSpec {
    ModelSpec {
        name: name.to_owned(),
        ..ModelSpec::default()
    }
}

fn numbered(version: i64) -> Option<ModelSpec> {
    Some(ModelSpec {
        version_choice: Some(VersionChoice::Version(Int64Value { value: version })),
        ..spec("sum")
    })
}

fn labelled(label: &str) -> Option<ModelSpec> {
    Some(ModelSpec {
        version_choice: Some(VersionChoice::VersionLabel(label.to_owned())),
        ..spec("sum")
    })
}

fn signed(signature: &str) -> Option<ModelSpec> {
    Some(ModelSpec {
        signature_name: signature.to_owned(),
        ..spec("sum")
    })
}

fn tensor(dtype: i32, sizes: &[i64]) -> TensorProto {
    let dims = sizes.iter().map(|&size| Dim {
        size,
        ..Dim::default()
    });
    TensorProto {
        dtype,
        tensor_shape: Some(TensorShapeProto {
            dim: dims.collect(),
            unknown_rank: false,
        }),
        double_val: vec![1.0, 2.0],
        ..TensorProto::default()
    }
}

/// A prediction for one row of these numbers.
pub(crate) fn row_of(model_spec: Option<ModelSpec>, numbers: [f64; 2]) -> PredictRequest {
    let tensor = TensorProto {
        double_val: numbers.to_vec(),
        ..tensor(DT_DOUBLE, &[1, 2])
    };
    PredictRequest {
        inputs: [("X".to_owned(), tensor)].into(),
        ..row(model_spec)
    }
}

/// A prediction for one row, as it should be.
fn row(model_spec: Option<ModelSpec>) -> PredictRequest {
    PredictRequest {
        model_spec,
        inputs: [("X".to_owned(), tensor(DT_DOUBLE, &[1, 2]))].into(),
        output_filter: vec![],
    }
}

fn with_tensor(tensor: TensorProto) -> PredictRequest {
    PredictRequest {
        inputs: [("X".to_owned(), tensor)].into(),
        ..row(Some(spec("sum")))
    }
}

fn examples(model_spec: Option<ModelSpec>, name: &str, kind: FeatureKind) -> Vec<u8> {
    let feature = Feature { kind: Some(kind) };
    let example = Example {
        features: Some(Features {
            feature: [(name.to_owned(), feature)].into(),
        }),
    };
    frame(&ClassificationRequest {
        model_spec,
        input: Some(Input {
            kind: Some(InputKind::ExampleList(ExampleList {
                examples: vec![example],
            })),
        }),
    })
}

fn floats(value: &[f32]) -> FeatureKind {
    FeatureKind::FloatList(FloatList {
        value: value.to_vec(),
    })
}

/// Method, message, status and a part of the words.
type Refusal = (&'static str, Vec<u8>, i32, &'static str);

fn refused_predictions() -> Vec<Refusal> {
    let named = |name: &str| Some(spec(name));
    let filtered = PredictRequest {
        output_filter: vec!["zzz".to_owned()],
        ..row(named("sum"))
    };
    let other = PredictRequest {
        inputs: ["Y", "Z"]
            .map(|name| (name.to_owned(), tensor(DT_DOUBLE, &[1, 2])))
            .into(),
        ..row(named("sum"))
    };
    let nothing = PredictRequest {
        inputs: [].into(),
        ..row(named("sum"))
    };
    let cases: [(PredictRequest, i32, &str); 9] = [
        (row(None), 3, "Missing ModelSpec"),
        (row(named("")), 3, "Missing ModelSpec"),
        (
            row(named("nope")),
            5,
            "Model with name nope does not exist.",
        ),
        (
            row(numbered(7)),
            5,
            "model 'sum' has no version '7'; it has 1",
        ),
        (
            row(labelled("stable")),
            5,
            "model 'sum' has no label 'stable'",
        ),
        (
            row(signed("zzz")),
            3,
            "Serving signature name: \"zzz\" not found in signature def",
        ),
        (
            filtered,
            3,
            "output tensor alias not found in signature: \"zzz\"",
        ),
        (other, 3, "2 input tensors, the model expects one"),
        (nothing, 3, "\"inputs\" is empty"),
    ];
    let cases = cases.into_iter();
    cases
        .map(|(request, status, words)| ("Predict", frame(&request), status, words))
        .collect()
}

fn refused_tensors() -> Vec<Refusal> {
    let text = TensorProto {
        tensor_content: Bytes::from_static(b"\x01\x00\x00\x00a"),
        ..tensor(DT_STRING, &[1])
    };
    let cut = TensorProto {
        double_val: vec![],
        tensor_content: Bytes::from_static(b"1234567"),
        ..tensor(DT_DOUBLE, &[1, 2])
    };
    let doubles = |values: &[f64], sizes: &[i64]| TensorProto {
        double_val: values.to_vec(),
        ..tensor(DT_DOUBLE, sizes)
    };
    let huge = tensor(DT_DOUBLE, &[1 << 40, 1 << 40]);
    let cases: [(TensorProto, i32, &str); 8] = [
        (
            tensor(20, &[1, 2]),
            3,
            "inputs[\"X\"]: datatype 20 is not supported",
        ),
        (
            tensor(DT_DOUBLE, &[1, -2]),
            3,
            "inputs[\"X\"]: shape [1, -2], sizes are 0 or more",
        ),
        (huge, 3, "sizes are 0 or more, and up to"),
        (
            tensor(DT_DOUBLE, &[1, 1]),
            3,
            "2 elements, shape [1, 1] holds 1",
        ),
        (text, 3, "strings belong in string_val"),
        (cut, 3, "7 bytes, elements of FP64 have 8"),
        (doubles(&[1.0; 3], &[1, 3]), 3, "two columns, please"),
        (doubles(&[-1.0, 0.0], &[1, 2]), 13, "model 'sum' failed"),
    ];
    let cases = cases.into_iter();
    let message = |tensor| frame(&with_tensor(tensor));
    cases
        .map(|(tensor, status, words)| ("Predict", message(tensor), status, words))
        .collect()
}

fn refused_examples() -> Vec<Refusal> {
    let named = || Some(spec("sum"));
    let good = || examples(named(), "X", floats(&[1.0, 2.0]));
    let none = frame(&ClassificationRequest {
        model_spec: named(),
        input: None,
    });
    let text = FeatureKind::BytesList(BytesList {
        value: vec![Bytes::from_static(b"a")],
    });
    vec![
        (
            "Classify",
            good(),
            3,
            "the model gives no probabilities of classes",
        ),
        ("Regress", none, 3, "\"examples\" is empty"),
        (
            "Regress",
            examples(None, "X", floats(&[1.0, 2.0])),
            3,
            "Missing ModelSpec",
        ),
        (
            "Regress",
            examples(Some(spec("nope")), "X", floats(&[1.0])),
            5,
            "Model with name nope",
        ),
        (
            "Regress",
            examples(signed("zzz"), "X", floats(&[1.0, 2.0])),
            3,
            "Serving signature name",
        ),
        (
            "Regress",
            examples(named(), "X", floats(&[1.0])),
            3,
            "feature \"X\" has 1 values, model expects 2",
        ),
        (
            "Regress",
            examples(named(), "Y", floats(&[1.0])),
            3,
            "the model knows no names of columns",
        ),
        (
            "Regress",
            examples(named(), "X", text),
            3,
            "text where numbers belong",
        ),
    ]
}

fn refused_questions() -> Vec<Refusal> {
    let metadata = |model_spec| {
        frame(&GetModelMetadataRequest {
            model_spec,
            metadata_field: vec!["signature_def".to_owned()],
        })
    };
    let damaged = vec![0, 0, 0, 0, 3, 0x0a, 0xff, 1];
    vec![
        ("GetModelMetadata", metadata(None), 3, "Missing ModelSpec"),
        (
            "GetModelMetadata",
            metadata(Some(spec("nope"))),
            5,
            "Model with name nope",
        ),
        (
            "GetModelMetadata",
            metadata(numbered(7)),
            5,
            "no version '7'",
        ),
        (
            "MultiInference",
            metadata(Some(spec("sum"))),
            12,
            "PredictionService/MultiInference is not there",
        ),
        ("Predict", damaged.clone(), 3, "message"),
        ("Classify", damaged.clone(), 3, "message"),
        ("Regress", damaged.clone(), 3, "message"),
        ("GetModelMetadata", damaged, 3, "message"),
    ]
}

#[test]
fn refusals_have_a_status_and_say_why() {
    let server = start(config(Limits::default()));
    let refusals = refused_predictions().into_iter().chain(refused_tensors());
    let refusals = refusals.chain(refused_examples());
    for (method, message, status, words) in refusals.chain(refused_questions()) {
        let answer = call(&server, &format!("{PREDICTION}{method}"), &[], message);
        assert_eq!(
            answer.status, status,
            "{method}, {words}: {}",
            answer.message
        );
        assert!(
            answer.message.contains(words),
            "{method}: {}",
            answer.message
        );
        assert!(answer.body.is_empty(), "{method}, {words}");
    }
}

#[test]
fn statuses_of_what_is_not_there_are_refused() {
    let server = start(config(Limits::default()));
    let cases = [
        (None, 3, "Missing ModelSpec"),
        (
            Some(spec("nope")),
            5,
            "Model with name nope does not exist.",
        ),
        (numbered(7), 5, "no version '7'"),
        (labelled("stable"), 5, "no label 'stable'"),
    ];
    for (model_spec, status, words) in cases {
        let message = frame(&GetModelStatusRequest { model_spec });
        let answer = call(&server, STATUS, &[], message);
        assert_eq!(answer.status, status, "{words}: {}", answer.message);
        assert!(answer.message.contains(words), "{}", answer.message);
    }
}

#[test]
fn a_regression_is_answered() {
    let server = start(config(Limits::default()));
    let message = examples(Some(spec("sum")), "X", floats(&[1.0, 2.5]));
    let answer = call(&server, &format!("{PREDICTION}Regress"), &[], message);
    let response: RegressionResponse = answer.message();
    let values: Vec<f32> = response
        .result
        .unwrap()
        .regressions
        .iter()
        .map(|one| one.value)
        .collect();
    assert_eq!(values, [3.5]);
}

/// A classifier with texts for classes, and scikit-learn's own answers.
const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/sklearn/1.9.1/forest_classifier_strings"
);

fn numbers(list: &serde_json::Value) -> Option<Vec<f64>> {
    list.as_array()?
        .iter()
        .map(serde_json::Value::as_f64)
        .collect()
}

#[test]
fn a_classification_names_the_classes_as_scikit_learn_does() {
    let expected = std::fs::read(format!("{FIXTURE}.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let loaded = load(
        format!("{FIXTURE}.joblib").as_ref(),
        &LoadOptions::default(),
        &SystemClock::new(),
    );
    let model = loaded.unwrap().model;
    let server = start_with(config(Limits::default()), |_sum| {
        let loaded = LoadedModel::new("wine".to_owned(), model, LoadPhases::default());
        ModelTable::try_new([ServedModel::new(loaded, 2)]).unwrap()
    });
    let mut seen = std::collections::BTreeSet::new();
    let rows = expected["x"].as_array().unwrap().iter().enumerate();
    for (index, row) in rows {
        // Messages hold single precision, in which a forest compares.
        let Some(row) = numbers(row) else { continue };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "features of examples are single precision"
        )]
        let row: Vec<f32> = row.iter().map(|&number| number as f32).collect();
        let message = examples(Some(spec("wine")), "X", floats(&row));
        let path = format!("{PREDICTION}Classify");
        let response: ClassificationResponse = call(&server, &path, &[], message).message();
        let all = response.result.unwrap().classifications;
        let classes = &all[0].classes;
        let scores: Vec<f64> = classes.iter().map(|class| class.score.into()).collect();
        let proba = numbers(&expected["outputs"]["predict_proba"][index]).unwrap();
        assert_eq!(scores.len(), proba.len());
        for (score, proba) in scores.iter().zip(&proba) {
            assert!((score - proba).abs() < 1e-6, "row {index}: {scores:?}");
        }
        let best = classes.iter().reduce(|best, class| {
            if class.score > best.score {
                class
            } else {
                best
            }
        });
        let label = best.unwrap().label.as_str();
        assert_eq!(label, expected["outputs"]["predict"][index], "row {index}");
        seen.insert(label.to_owned());
    }
    assert!(seen.len() > 1, "{seen:?}");
}
