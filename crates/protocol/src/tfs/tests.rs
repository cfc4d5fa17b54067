//! The dialect's bodies and messages, and what they must become. Answers' forms are those of TensorFlow Serving's documentation.

use bytes::Bytes;
use coracle_base::{Code, VersionState};
use coracle_model::Signature;
use coracle_tensor::{DType, Tensor, Values};
use prost::Message;

use super::*;
use crate::facts::{ModelSettings, VersionEntry};
use crate::grpc::PREFIX_BYTES;
use crate::grpc::tensorflow::{
    ClassificationRequest, ClassificationResponse, Dim, Example, ExampleList, Feature, FeatureKind,
    Features, FloatList, GetModelMetadataResponse, GetModelStatusResponse, Input, InputKind,
    Int64List, ModelSpec, PredictRequest, PredictResponse, RegressionResponse, SignatureDefMap,
    TensorInfo, TensorProto, TensorShapeProto, VersionChoice,
};
use crate::v1::tests::{context, signature};
use crate::{EncodeContext, Layout, NoRegions, v1};

fn named() -> Signature {
    let mut signature = signature(Some(["a", "b"]), false);
    signature.outputs[1].columns = Some(vec!["no".to_owned(), "yes".to_owned()]);
    signature
}

fn regressor() -> Signature {
    let mut signature = named();
    signature.outputs.truncate(1);
    signature
}

fn matrix(values: [f64; 4]) -> Tensor {
    Tensor::try_new(vec![2, 2], Values::F64(values.to_vec().into())).unwrap()
}

fn otherwise() -> crate::RequestError {
    crate::RequestError::new(Code::InvalidArgument, "the error of V1")
}

fn encode_context(signature: &Signature) -> EncodeContext<'_> {
    EncodeContext {
        model_name: "m",
        model_version: "1",
        signature,
        regions: &NoRegions,
    }
}

#[test]
fn columns_become_a_table_and_outputs_come_whole() {
    let signature = named();
    let ctx = context(&signature);
    let cases = [
        r#"{"inputs": {"a": [1, 3], "b": [2, 4]}}"#,
        r#"{"inputs": {"b": [[2], [4]], "a": [[1], [3]]}}"#,
        r#"{"signature_name": "serving_default", "inputs": {"X": [[1, 2], [3, 4]]}}"#,
    ];
    for body in cases {
        let call = decode_columns(body.as_bytes(), &ctx, otherwise()).unwrap();
        assert_eq!(call.inputs[0], matrix([1.0, 2.0, 3.0, 4.0]), "{body}");
        assert_eq!((call.n_rows, call.layout), (2, Layout::Columns));
        let mut out = Vec::new();
        v1::encode_predict(&signature, &call, &call.inputs, &mut out);
        assert_eq!(out, br#"{"outputs":[[1.0,2.0],[3.0,4.0]]}"#);
    }
    let asking = br#"{"inputs": {"a": [1], "b": [2]}, "parameters": {"method": "predict_proba", "timeout": 2500, "priority": 3}}"#;
    let call = decode_columns(asking, &ctx, otherwise()).unwrap();
    assert_eq!((&call.outputs[..], call.priority), (&[1][..], 3));
    assert_eq!(call.timeout, Some(std::time::Duration::from_micros(2_500)));
    // A list of inputs is KServe's word for instances, too.
    let body = br#"{"signature_name": "predict_proba", "inputs": [[1, 2], [3, 4]]}"#;
    let call = v1::decode_predict(body, &ctx).unwrap();
    assert_eq!(call.outputs, [1]);
    let mut out = Vec::new();
    v1::encode_predict(&signature, &call, &call.inputs, &mut out);
    let both = r#"{"predictions":[[1.0,2.0],[3.0,4.0]],"outputs":[[1.0,2.0],[3.0,4.0]]}"#;
    assert_eq!(String::from_utf8(out).unwrap(), both);
}

/// As of a model of texts: so many texts of so many tokens.
#[test]
fn several_open_sizes_follow_from_how_lists_are_nested() {
    let mut signature = regressor();
    signature.columns = None;
    signature.inputs[0].shape = vec![None, None, Some(2)];
    let ctx = context(&signature);
    let shape = |sent: &str| {
        let body = format!(r#"{{"inputs": {{"X": {sent}}}}}"#);
        let call = decode_columns(body.as_bytes(), &ctx, otherwise());
        call.map(|call| call.inputs[0].shape().to_vec())
    };
    assert_eq!(shape("[[[1, 2], [3, 4], [5, 6]]]").unwrap(), [1, 3, 2]);
    assert_eq!(shape(" [ [[1, 2]], [[3, 4]] ] ").unwrap(), [2, 1, 2]);
    assert_eq!(shape("[]").unwrap(), [0, 0, 2]);
    assert_eq!(shape("[[], []]").unwrap(), [2, 0, 2]);
    for ragged in ["[[[1, 2]], [[3, 4], [5, 6]], []]", "[[[1, 2], [3]]]"] {
        let error = shape(ragged).unwrap_err().to_string();
        assert!(error.contains("ragged"), "{error}");
    }
}

#[test]
fn examples_are_classified_or_measured() {
    let (classifier, regressor) = (named(), regressor());
    let body = br#"{"context": {"b": 2}, "examples": [{"a": 1}, {"a": [3.0], "b": 4}]}"#;
    let table = matrix([1.0, 2.0, 3.0, 4.0]);
    let call = decode_examples(body, Question::Classify, &context(&classifier)).unwrap();
    assert_eq!((&call.inputs[0], &call.outputs[..]), (&table, &[1][..]));
    let mut out = Vec::new();
    let scores = matrix([0.25, 0.75, 1.0, 0.0]);
    encode_classes(&encode_context(&classifier), &call, &[scores], &mut out);
    let expected = r#"{"results":[[["no",0.25],["yes",0.75]],[["no",1.0],["yes",0.0]]]}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let whole = br#"{"examples": [{"X": [1, 2]}, {"X": [3, 4]}]}"#;
    let call = decode_examples(whole, Question::Regress, &context(&regressor)).unwrap();
    assert_eq!((&call.inputs[0], &call.outputs[..]), (&table, &[0][..]));
    let mut out = Vec::new();
    encode_values(
        &[Tensor::from_values(Values::F64(vec![3.0, 7.5].into()))],
        &mut out,
    );
    assert_eq!(out, br#"{"results":[3.0,7.5]}"#);
}

/// Bodies of examples that are refused, each with the start of its message.
const REFUSED: [(&str, &str); 11] = [
    ("", "the request body is empty"),
    ("{}", "missing field `examples`"),
    (r#"{"examples": []}"#, "\"examples\" is empty"),
    (
        r#"{"examples": [{"a": 1}]}"#,
        "examples[0]: feature \"b\" is missing",
    ),
    (
        r#"{"examples": [{}]}"#,
        "examples[0]: features \"a\", \"b\" are missing",
    ),
    (
        r#"{"context": {"d": 1}, "examples": [{"c": 1, "b": 1}]}"#,
        "examples[0]: unknown features \"c\", \"d\"; the model has a, b",
    ),
    (
        r#"{"examples": [{"a": [1, 2], "b": 1}]}"#,
        "examples[0]: feature \"a\" has 2 values, a column has one",
    ),
    (
        r#"{"examples": [{"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 2}]}"#,
        "examples[1]: unknown feature \"c\"; the model has a, b",
    ),
    (
        r#"{"examples": [{"X": [1]}]}"#,
        "examples[0]: feature \"X\" has 1 values, model expects 2",
    ),
    (
        r#"{"examples": [{"a": "x", "b": 1}]}"#,
        "examples[0]: feature \"a\" is neither a number nor a list of numbers",
    ),
    (
        r#"{"signature_name": "zzz", "examples": [{"X": [1, 2]}]}"#,
        "Serving signature name: \"zzz\" not found in signature def",
    ),
];

#[test]
fn refusals_say_why() {
    let signature = named();
    let ctx = context(&signature);
    for (body, message) in REFUSED {
        let error = decode_examples(body.as_bytes(), Question::Classify, &ctx).unwrap_err();
        assert!(error.to_string().starts_with(message), "{body}: {error}");
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let one = br#"{"examples": [{"a": 1, "b": 2}]}"#;
    let error = decode_examples(one, Question::Regress, &ctx).unwrap_err();
    assert!(
        error.to_string().starts_with("the model is a classifier"),
        "{error}"
    );
    let regressor = regressor();
    let error = decode_examples(one, Question::Classify, &context(&regressor)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the model gives no probabilities"),
        "{error}"
    );
    let columns =
        decode_columns(br#"{"inputs": {"a": [1], "c": [1]}}"#, &ctx, otherwise()).unwrap_err();
    assert!(
        columns
            .to_string()
            .starts_with("inputs[1]: unknown column \"c\""),
        "{columns}"
    );
}

fn predict_request(tensor: TensorProto) -> PredictRequest {
    PredictRequest {
        inputs: [("X".to_owned(), tensor)].into(),
        ..PredictRequest::default()
    }
}

fn tensor_proto(dtype: i32, sizes: &[i64]) -> TensorProto {
    let dim = sizes.iter().map(|&size| Dim {
        size,
        ..Dim::default()
    });
    TensorProto {
        dtype,
        tensor_shape: Some(TensorShapeProto {
            dim: dim.collect(),
            unknown_rank: false,
        }),
        ..TensorProto::default()
    }
}

fn decode_message(request: &PredictRequest) -> Result<crate::Call, crate::RequestError> {
    let signature = named();
    decode_predict_message(&Bytes::from(request.encode_to_vec()), &context(&signature))
}

#[test]
fn tensors_of_every_type_come_typed_or_as_content() {
    let mut double = tensor_proto(2, &[2, 2]);
    double.double_val = vec![1.0, 2.0, 3.0, 4.0];
    let call = decode_message(&predict_request(double.clone())).unwrap();
    assert_eq!(call.inputs[0], matrix([1.0, 2.0, 3.0, 4.0]));
    let signature = named();
    let answer = encode_prediction(&encode_context(&signature), &call, &call.inputs);
    let answer = PredictResponse::decode(&answer[PREFIX_BYTES..]).unwrap();
    assert_eq!(answer.outputs["predict"], double);
    let mut content = tensor_proto(2, &[2, 2]);
    content.tensor_content = Bytes::from([1.0_f64, 2.0, 3.0, 4.0].map(f64::to_le_bytes).concat());
    let call = decode_message(&predict_request(content)).unwrap();
    assert_eq!(call.inputs[0], matrix([1.0, 2.0, 3.0, 4.0]));
    // The last element stands for those that are not there.
    let mut one = tensor_proto(1, &[1, 2]);
    one.float_val = vec![0.5];
    let call = decode_message(&predict_request(one)).unwrap();
    assert_eq!(call.inputs[0].values(), &Values::F32(vec![0.5, 0.5].into()));
    // What is given is read back: every datatype survives the way through a message.
    for dtype in DType::ALL {
        assert_eq!(datatype(tensorflow_type(dtype).1), Some(dtype));
    }
}

/// Each of them is a few bytes, however many elements its shape asks for.
#[test]
fn inputs_that_are_filled_share_one_bound() {
    let mut one = tensor_proto(1, &[300, 2]);
    one.float_val = vec![0.5];
    let request = |names: &[&str]| {
        let inputs = names.iter().map(|name| ((*name).to_owned(), one.clone()));
        PredictRequest {
            inputs: inputs.collect(),
            ..PredictRequest::default()
        }
    };
    let graph = |names: &[&str]| {
        let message = Bytes::from(request(names).encode_to_vec());
        super::graph_request(&message, (1000, usize::MAX))
    };
    assert!(graph(&["X"]).is_ok());
    for error in [
        graph(&["X", "Y"]).unwrap_err(),
        decode_message(&request(&["X", "Y"])).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::InvalidArgument);
        let why = "shape [300, 2], more than 1000 elements with the inputs before it; send smaller batches";
        assert!(error.to_string().ends_with(why), "{error}");
    }
}

/// A message of a few bytes is read as what it asks for.
#[test]
fn inputs_that_are_filled_are_bounded_and_placed_by_their_bytes() {
    let of = |n_rows: i64, n_written: usize| {
        let mut one = tensor_proto(2, &[n_rows, 2]);
        one.double_val = vec![0.5; n_written];
        predict_request(one)
    };
    let graph = |request: &PredictRequest| {
        let message = Bytes::from(request.encode_to_vec());
        super::graph_request(&message, (1000, 4000))
    };
    // 4,000 bytes are allowed to what is repeated, and as many elements as ever to what is written.
    for (n_rows, n_written) in [(250, 1), (251, 502)] {
        assert!(graph(&of(n_rows, n_written)).is_ok());
        assert!(decode_message(&of(n_rows, n_written)).is_ok());
    }
    for error in [
        graph(&of(251, 1)).unwrap_err(),
        decode_message(&of(251, 1)).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(
            error.to_string(),
            "inputs[\"X\"]: 1 of 502 elements are written and the last one repeated; inputs that are filled so may have 4000 bytes in all; send smaller batches"
        );
    }
    let n_bytes = |request: &PredictRequest| {
        let message = Bytes::from(request.encode_to_vec());
        (predict_bytes(&message), message.len())
    };
    assert_eq!(n_bytes(&of(250, 1)).0, 4000);
    let mut two = of(250, 1);
    two.inputs.insert("Y".to_owned(), two.inputs["X"].clone());
    assert_eq!(n_bytes(&two).0, 8000);
    assert_eq!(n_bytes(&of(i64::MAX, 1)).0, usize::MAX);
    for small in [of(-1, 1), of(0, 0), of(1, 2), PredictRequest::default()] {
        let (found, own) = n_bytes(&small);
        assert_eq!(found, own);
    }
    assert_eq!(predict_bytes(&Bytes::from_static(b"{}")), 2);
}

/// A field of bytes, as protobuf writes it; its number and what it holds are short.
fn field(number: u8, held: &[u8]) -> Vec<u8> {
    let length = u8::try_from(held.len()).unwrap();
    [&[number << 3 | 2, length][..], held].concat()
}

/// The size of a message is asked for where it must not take long, and before it is known to be one.
#[test]
fn the_size_of_a_message_is_found_without_decoding_it() {
    let check = |tensor: &[u8], expected: Option<usize>| {
        let entry = [field(1, b"X"), field(2, tensor)].concat();
        let message = field(2, &entry);
        let own = message.len();
        assert_eq!(
            predict_bytes(&message),
            expected.unwrap_or(own),
            "{tensor:?}"
        );
        (message, own)
    };
    let double = &[0x08, 2][..];
    let hundred = field(2, &[0x08, 100]);
    // As in a message that is decoded: of fields that are there again the last one counts, and of dimensions all do.
    check(&[double, &field(2, &hundred)].concat(), Some(800));
    check(&[&field(2, &hundred), double].concat(), Some(800));
    check(
        &[&field(2, &hundred), double, &field(2, &hundred)].concat(),
        Some(80_000),
    );
    check(
        &[&field(2, &hundred), double, &[0x08, 1]].concat(),
        Some(400),
    );
    let overwritten = field(2, &[0x08, 3, 0x08, 100]);
    check(&[double, &field(2, &overwritten)].concat(), Some(800));
    // Texts are not repeated, and what is damaged has no size.
    check(&[&[0x08, 7][..], &field(2, &hundred)].concat(), None);
    check(&[double, &field(2, &hundred), &[0x12, 9]].concat(), None);
    let of_rank = |rank: usize| [double, &field(2, &field(2, &[0x08, 2]).repeat(rank))].concat();
    check(&of_rank(10), Some(8 << 10));
    check(&of_rank(16), Some(8 << 16));
    let (message, _) = check(&of_rank(17), None);
    let signature = named();
    let message = Bytes::from(message);
    for error in [
        decode_predict_message(&message, &context(&signature)).unwrap_err(),
        super::graph_request(&message, (1000, 1000)).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(
            error.to_string(),
            "inputs[\"X\"]: more than 16 dimensions, which are the most that are supported"
        );
    }
    // Inputs of four bytes' names, each of which would be a structure.
    let size = [double, &field(2, &hundred)].concat();
    let inputs = (0_u32..65_537).map(|name| {
        let entry = [field(1, &name.to_be_bytes()), field(2, &size)].concat();
        field(2, &entry)
    });
    let mut many: Vec<u8> = inputs.flatten().collect();
    assert_eq!(predict_bytes(&many), many.len());
    let one_less = many.len() / 65_537 * 65_536;
    many.truncate(one_less);
    assert_eq!(predict_bytes(&many), 65_536 * 800);
}

#[test]
fn messages_are_refused_with_a_reason() {
    let filter = PredictRequest {
        output_filter: vec!["zzz".to_owned()],
        ..predict_request(tensor_proto(2, &[1, 2]))
    };
    let mut narrow = tensor_proto(4, &[1, 2]);
    narrow.int_val = vec![1, 256];
    let mut text = tensor_proto(7, &[1, 2]);
    text.tensor_content = Bytes::from_static(b"ab");
    let cases = [
        (
            filter,
            "output tensor alias not found in signature: \"zzz\"",
        ),
        (
            predict_request(narrow),
            "inputs[\"X\"]: 256 is out of range for UINT8",
        ),
        (
            predict_request(text),
            "inputs[\"X\"]: strings belong in string_val",
        ),
        (
            predict_request(tensor_proto(8, &[1])),
            "inputs[\"X\"]: datatype 8 is not supported",
        ),
        (
            predict_request(tensor_proto(2, &[-1, 2])),
            "inputs[\"X\"]: shape [-1, 2], sizes are 0 or more",
        ),
        (
            predict_request(tensor_proto(2, &[1, 5_000])),
            "inputs[\"X\"]: shape [1, 5000], sizes are 0 or more, and up to 1000",
        ),
        (
            predict_request(tensor_proto(2, &[1, 2])),
            "inputs[0]: 0 elements, shape [1, 2] holds 2",
        ),
        (PredictRequest::default(), "\"inputs\" is empty"),
    ];
    for (request, message) in cases {
        let error = decode_message(&request).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
    let version_of = |head: &SpecHead| read_version(&head.encode_to_vec().into());
    let nameless = version_of(&SpecHead::default()).unwrap_err();
    assert_eq!(nameless.to_string(), "Missing ModelSpec");
    let by_label = SpecHead {
        model_spec: Some(ModelSpec {
            name: "m".to_owned(),
            version_choice: Some(VersionChoice::VersionLabel("2".to_owned())),
            ..ModelSpec::default()
        }),
    };
    let asked = Some(AskedVersion::Label("2".to_owned()));
    assert_eq!(version_of(&by_label), Ok(("m".to_owned(), asked)));
    // Fields that nobody asks for are not passed over without end.
    let many = [by_label.encode_to_vec(), [0x12, 0].repeat(65_536)].concat();
    let error = read_version(&many.into()).unwrap_err();
    assert_eq!(error.to_string(), "the message has more than 65536 fields");
}

#[test]
fn examples_come_in_messages() {
    let example = |a: f32, b: i64| {
        let float = FeatureKind::FloatList(FloatList { value: vec![a] });
        let int = FeatureKind::Int64List(Int64List { value: vec![b] });
        let feature = [("a".to_owned(), float), ("b".to_owned(), int)];
        let feature = feature.map(|(name, kind)| (name, Feature { kind: Some(kind) }));
        Example {
            features: Some(Features {
                feature: feature.into(),
            }),
        }
    };
    let request = ClassificationRequest {
        model_spec: Some(ModelSpec::default()),
        input: Some(Input {
            kind: Some(InputKind::ExampleList(ExampleList {
                examples: vec![example(1.0, 2), example(3.0, 4)],
            })),
        }),
    };
    let message = Bytes::from(request.encode_to_vec());
    let signature = named();
    let call = decode_examples_message(&message, Question::Classify, &context(&signature)).unwrap();
    assert_eq!(call.inputs[0], matrix([1.0, 2.0, 3.0, 4.0]));
    let scores = [matrix([0.25, 0.75, 1.0, 0.0])];
    let answer = encode_classification(&encode_context(&signature), &call, &scores);
    let answer = ClassificationResponse::decode(&answer[PREFIX_BYTES..]).unwrap();
    let rows = answer.result.unwrap().classifications;
    assert_eq!(
        (rows[0].classes[1].label.as_str(), rows[0].classes[1].score),
        ("yes", 0.75)
    );
    assert_eq!(rows.len(), 2);
    let answer = encode_regression(
        &encode_context(&signature),
        &[Tensor::from_values(Values::F64(vec![0.5].into()))],
    );
    let answer = RegressionResponse::decode(&answer[PREFIX_BYTES..]).unwrap();
    assert_eq!(answer.result.unwrap().regressions[0].value, 0.5);
    for end in 0..message.len() {
        drop(decode_examples_message(
            &message.slice(..end),
            Question::Classify,
            &context(&signature),
        ));
    }
}

#[test]
fn metadata_and_status_are_told() {
    let signature = regressor();
    let facts = ModelFacts {
        name: "m",
        version: "2",
        versions: &["1", "2"],
        platform: "sklearn",
        signature: &signature,
        elements_max: 1_000,
        settings: ModelSettings::default(),
    };
    let mut out = Vec::new();
    metadata(facts, &mut out);
    let input = r#""inputs":{"X":{"name":"X:0","dtype":"DT_DOUBLE","tensor_shape":{"dim":[{"size":"-1","name":""},{"size":"2","name":""}],"unknown_rank":false}}}"#;
    let output = r#""outputs":{"predict":{"name":"predict:0","dtype":"DT_DOUBLE","tensor_shape":{"dim":[{"size":"-1","name":""}],"unknown_rank":false}}}"#;
    let def = format!(r#"{{{input},{output},"method_name":"tensorflow/serving/predict"}}"#);
    let expected = format!(
        r#"{{"model_spec":{{"name":"m","signature_name":"","version":"2"}},"metadata":{{"signature_def":{{"signature_def":{{"serving_default":{def},"predict":{def}}}}}}}}}"#
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let message = model_metadata_message(facts);
    let message = GetModelMetadataResponse::decode(&message[PREFIX_BYTES..]).unwrap();
    let map = SignatureDefMap::decode(message.metadata["signature_def"].value.clone()).unwrap();
    assert_eq!(map.signature_def["serving_default"].inputs["X"].dtype, 2);
}

#[test]
fn what_takes_any_number_of_dimensions_has_none_to_tell() {
    let signature = Signature {
        unranked_inputs: vec![0],
        ..regressor()
    };
    let facts = ModelFacts {
        name: "m",
        version: "2",
        versions: &["2"],
        platform: "onnx",
        signature: &signature,
        elements_max: 1_000,
        settings: ModelSettings::default(),
    };
    let mut out = Vec::new();
    metadata(facts, &mut out);
    // As TensorFlow's own JSON has a tensor of an unknown shape.
    let input = r#""inputs":{"X":{"name":"X:0","dtype":"DT_DOUBLE","tensor_shape":{"dim":[],"unknown_rank":true}}}"#;
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(input), "{text}");
    let message = model_metadata_message(facts);
    let message = GetModelMetadataResponse::decode(&message[PREFIX_BYTES..]).unwrap();
    let map = SignatureDefMap::decode(message.metadata["signature_def"].value.clone()).unwrap();
    let def = &map.signature_def["serving_default"];
    let shape = |info: &TensorInfo| info.tensor_shape.clone().unwrap();
    let input = shape(&def.inputs["X"]);
    assert!(input.unknown_rank && input.dim.is_empty());
    assert!(!shape(&def.outputs["predict"]).unknown_rank);
}

#[test]
fn every_state_of_a_version_has_its_name_and_number() {
    // tensorflow_serving/apis/get_model_status.proto.
    let states = [
        (VersionState::Start, "START", 10),
        (VersionState::Loading, "LOADING", 20),
        (VersionState::Available, "AVAILABLE", 30),
        (VersionState::Unloading, "UNLOADING", 40),
        (VersionState::End, "END", 50),
    ];
    for (state, name, number) in states {
        let failure =
            (state == VersionState::End).then(|| (Code::InvalidArgument, "a \"b\"".to_owned()));
        let entry = VersionEntry {
            version: "12".to_owned(),
            state,
            failure: failure.clone(),
        };
        let message = model_status_message(std::slice::from_ref(&entry));
        let message = GetModelStatusResponse::decode(&message[PREFIX_BYTES..]).unwrap();
        let status = &message.model_version_status[0];
        let error_code = status.status.as_ref().unwrap().error_code;
        let expected_code = if failure.is_some() { 3 } else { 0 };
        assert_eq!(
            (status.version, status.state, error_code),
            (12, number, expected_code)
        );
        let told = match failure {
            Some(_) => r#"{"error_code":"INVALID_ARGUMENT","error_message":"a \"b\""}"#,
            None => r#"{"error_code":"OK","error_message":""}"#,
        };
        let mut out = Vec::new();
        model_status("m", &[entry], true, &mut out);
        let expected = format!(
            r#"{{"name":"m","ready":true,"model_version_status":[{{"version":"12","state":"{name}","status":{told}}}]}}"#
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
