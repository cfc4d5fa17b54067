//! Damages good requests of every protocol in every way that is cheap to try. Whatever comes out is a request of the shape that it
//! says, or an error, and never a panic. The seeds are fixed, so a failure repeats; `fuzz/` goes further.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as expected"
)]

use bytes::Bytes;
use coracle_model::{ColumnPlace, NameRules, Signature, TensorSpec};
use coracle_protocol::client::{NamedTensor, grpc_infer, v2_binary};
use coracle_protocol::compression::{Encoding, compress, expand};
use coracle_protocol::grpc::inference::{
    InferInputTensor, InferParameter, InferRequestedOutputTensor, InferTensorContents,
    ModelInferRequest, ParameterChoice,
};
use coracle_protocol::grpc::tensorflow::{
    ClassificationRequest, Dim, Example, ExampleList, Feature, FeatureKind, Features, FloatList,
    Input, InputKind, Int64List, ModelSpec, PredictRequest, TensorProto, TensorShapeProto,
};
use coracle_protocol::grpc::{self, Compression, FrameHead, InferHead, Message, PREFIX_BYTES};
use coracle_protocol::tfs::{self, Question};
use coracle_protocol::{Call, DecodeContext, EncodeContext, NoRegions, RequestError, v1, v2};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};

/// How often each good request is damaged.
const N_DAMAGES: usize = 1_500;
/// The most elements of a request, and bytes that compressed ones may expand to.
const MOST: usize = 2_000;

/// A linear congruential generator; enough to pick places and bytes.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next(256)).unwrap()
    }
}

/// What is put into requests: pieces that mean something to one decoder or another.
const PIECES: [&[u8]; 24] = [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"NaN",
    b"\"\\ud800\"",
    b"[[[[[[[[",
    b"]",
    b"}",
    b",",
    b"\"shape\":[-1,-1]",
    b"\"data\":[]",
    b"\"inputs\":",
    b"\"instances\":[[1,2]]",
    b"{\"a\":1}",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x0a\x00",
    b"\x32\x00",
    b"\x3a\x80\x80\x80\x80\x08",
    b"\x00\x00\x00\x80",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x00\x00\x00\xf8\x7f",
    b"\xc3\x28",
];

/// Damages `bytes` in one to three places.
fn damage(bytes: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    for _ in 0..=random.next(3) {
        let at = random.next(damaged.len() + 1);
        let to = (at + random.next(12)).min(damaged.len());
        match random.next(8) {
            0 => damaged.truncate(at),
            1 => drop(damaged.drain(at..to)),
            2 => {
                let piece = PIECES[random.next(PIECES.len())];
                drop(damaged.splice(at..at, piece.iter().copied()));
            }
            3 => {
                let piece = PIECES[random.next(PIECES.len())];
                drop(damaged.splice(at..to, piece.iter().copied()));
            }
            4 => {
                let copy = damaged[at..to].to_vec();
                let there = random.next(damaged.len() + 1);
                drop(damaged.splice(there..there, copy));
            }
            5 => {
                let other = &others[random.next(others.len())];
                let from = random.next(other.len());
                drop(damaged.splice(at.., other[from..].iter().copied()));
            }
            6 if at < damaged.len() => damaged[at] ^= 1 << random.next(8),
            _ if at < damaged.len() => damaged[at] = random.byte(),
            _ => damaged.push(random.byte()),
        }
    }
    damaged
}

/// Shows `decode` every good request as it is and damaged; at least one good one must be understood.
fn check(seed: u64, good: &[Vec<u8>], mut decode: impl FnMut(&[u8]) -> bool) {
    let mut random = Random(seed);
    assert!(good.iter().any(|bytes| decode(bytes)), "nothing is read");
    let mut n_understood = 0_usize;
    for bytes in good {
        for _ in 0..N_DAMAGES {
            let damaged = damage(bytes, good, &mut random);
            n_understood += usize::from(decode(&damaged));
        }
    }
    // Otherwise the damage is too great to reach anything.
    assert!(n_understood > 0, "all that is damaged is refused");
}

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        columns: None,
        accepts_missing: true,
        accepts_integers: true,
    }
}

fn signature(inputs: Vec<TensorSpec>) -> Signature {
    let outputs = vec![
        spec("predict", DType::F64, &[None]),
        spec("predict_proba", DType::F64, &[None, Some(2)]),
    ];
    Signature {
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        name_rules: NameRules {
            underscores_may_be_blanks: true,
            mlflow_names_columns: true,
            mlflow_names_outputs: true,
        },
        inputs,
        outputs,
        default_outputs: vec![0],
        columns: None,
    }
}

/// A table without names, one with names, columns of texts and numbers, two tensors.
fn signatures() -> [Signature; 4] {
    let table = || spec("X", DType::F64, &[None, Some(2)]);
    let named = TensorSpec {
        columns: Some(["a", "b"].map(str::to_owned).to_vec()),
        ..table()
    };
    let place = |name: &str, input| ColumnPlace {
        name: name.to_owned(),
        input,
    };
    let mut mixed = signature(vec![
        spec("a", DType::Bytes, &[None]),
        spec("c", DType::F64, &[None]),
    ]);
    mixed.columns = Some(vec![
        place("a", Some(0)),
        place("b", None),
        place("c", Some(1)),
    ]);
    let two = vec![
        spec("p", DType::F32, &[None, Some(2)]),
        spec("q", DType::Bytes, &[None, Some(1)]),
    ];
    [
        signature(vec![table()]),
        signature(vec![named]),
        mixed,
        signature(two),
    ]
}

/// Decodes against every signature, looks at what comes of it, and encodes it as answers are.
fn each_signature(
    decode: impl Fn(&DecodeContext<'_>) -> Result<Call, RequestError>,
    encode: impl Fn(&EncodeContext<'_>, &Call),
) -> bool {
    let mut is_understood = false;
    for signature in signatures() {
        let ctx = DecodeContext {
            signature: &signature,
            default_outputs: &signature.default_outputs,
            method: None,
            elements_max: MOST,
            filled_bytes_max: 8 * MOST,
            regions: &NoRegions,
        };
        match decode(&ctx) {
            Ok(call) => {
                assert_eq!(call.inputs.len(), signature.inputs.len());
                for input in &call.inputs {
                    let n_elements: usize = input.shape().iter().product();
                    assert_eq!(input.values().len(), n_elements);
                    assert!(n_elements <= MOST);
                }
                assert!(call.outputs.iter().all(|&output| output < 2));
                is_understood = true;
                let ctx = EncodeContext {
                    model_name: "m",
                    model_version: "1",
                    signature: &signature,
                    regions: &NoRegions,
                };
                encode(&ctx, &call);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    is_understood
}

fn texts(bodies: &[&str]) -> Vec<Vec<u8>> {
    bodies.iter().map(|body| body.as_bytes().to_vec()).collect()
}

#[test]
fn v1_bodies() {
    let good = texts(&[
        r#"{"instances": [[1.5, null], [-2e3, true]], "parameters": {"method": "predict", "timeout": 5}}"#,
        r#"{"instances": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}"#,
        r#"{"inputs": {"a": ["é", null], "c": [1, 2]}, "signature_name": "predict_proba"}"#,
        r#"{"instances": [["x", {}, 1], {"a": 7, "c": null}]}"#,
        r#"{"instances": [{"p": [1, 2], "q": ["\n"]}], "x": {"y": [1]}}"#,
    ]);
    check(1, &good, |body| {
        each_signature(
            |ctx| v1::decode_predict(body, ctx),
            |ctx, call| {
                let mut out = Vec::new();
                v1::encode_predict(ctx.signature, call, &call.inputs, &mut out);
                assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
            },
        )
    });
}

#[test]
fn mlflows_bodies() {
    let good = texts(&[
        r#"{"dataframe_split": {"index": [4, "x"], "columns": ["z", "b", "a"], "data": [[{}, 1.5, null], [[], true, 2]]}}"#,
        r#"{"dataframe_records": [{"a": 1, "z": "x", "b": 2}, {"b": 4, "a": 3}], "params": {"q": 1}}"#,
        r#"{"inputs": {"a": "é", "z": {"y": [1]}, "c": 1}}"#,
        r#"{"inputs": {"b": [1, 2], "a": [3, null]}}"#,
        r#"{"instances": [{"p": [1, 2], "q": ["\n"]}]}"#,
    ]);
    check(3, &good, |body| {
        each_signature(
            |ctx| v1::decode_invocations(body, ctx),
            |ctx, call| {
                let mut out = Vec::new();
                v1::encode_invocations(ctx.signature, call, &call.inputs, &mut out);
                assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
            },
        )
    });
}

#[test]
fn tables_of_csv() {
    let good = texts(&[
        "a,b\n1,2\n3.5,-4e2\n",
        "z,\"b\",a\r\nx,True,\"1\"\r\n\r\n\"y\"\"\n,\",, 7 \r\n",
        "a,c\n\"é\"x,NA\n,1.0\n",
    ]);
    check(5, &good, |body| {
        each_signature(|ctx| v1::decode_csv(body, ctx), |_, _| ())
    });
}

#[test]
fn v2_bodies() {
    let good = texts(&[
        r#"{"id": "7", "inputs": [{"name": "X", "shape": [-1, 2], "datatype": "FP32", "data": [[1.5, null], [2, 3]]}], "outputs": [{"name": "output-0", "parameters": {"binary_data": false}}]}"#,
        r#"{"inputs": [{"name": "a", "shape": [2, 1], "datatype": "INT16", "data": [1, 2]}, {"name": "b", "shape": [2], "datatype": "BOOL", "data": [true, 0]}]}"#,
        r#"{"inputs": [{"name": "a", "shape": [1], "datatype": "BYTES", "data": ["YQ=="], "parameters": {"content_type": "base64"}}, {"name": "c", "shape": [1], "datatype": "FP64", "data": [1]}], "parameters": {"timeout": 5, "priority": 2}}"#,
        r#"{"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP64", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}}]}"#,
    ]);
    check(2, &good, |body| {
        let body = Bytes::copy_from_slice(body);
        each_signature(|ctx| v2::decode_infer(&body, None, ctx), encode_v2)
    });
}

fn encode_v2(ctx: &EncodeContext<'_>, call: &Call) {
    let mut out = Vec::new();
    // Without shared memory an output that is to go there is refused.
    if let Ok(json_length) = v2::encode_infer(ctx, call, &call.inputs, &mut out) {
        let json = out.split_at(json_length.unwrap_or(out.len())).0;
        assert!(serde_json::from_slice::<serde_json::Value>(json).is_ok());
    }
}

fn named_tensors() -> [Vec<NamedTensor>; 3] {
    let tensor = |name: &str, shape: &[usize], values| NamedTensor {
        name: name.to_owned(),
        tensor: Tensor::try_new(shape.to_vec(), values).unwrap(),
    };
    let strings: ByteStrings = ["a", "é\n"].into_iter().collect();
    [
        vec![tensor(
            "X",
            &[2, 2],
            Values::F32(vec![1.0, 2.0, 0.5, -4.0].into()),
        )],
        vec![
            tensor("a", &[2], Values::Bytes(strings)),
            tensor("c", &[2, 1], Values::I16(vec![3, -4].into())),
        ],
        vec![tensor("X", &[1, 2], Values::Bool(vec![true, false]))],
    ]
}

#[test]
fn v2_bodies_with_raw_tensors() {
    // The first two bytes say how much of the rest is JSON, so that damage reaches that, too.
    let good = named_tensors().map(|tensors| {
        let (body, json_length) = v2_binary(&tensors);
        let length = u16::try_from(json_length).unwrap();
        [&length.to_le_bytes()[..], &body].concat()
    });
    check(3, &good, |bytes| {
        let Some((length, body)) = bytes.split_first_chunk::<2>() else {
            return false;
        };
        let length = usize::from(u16::from_le_bytes(*length));
        let body = Bytes::copy_from_slice(body);
        each_signature(|ctx| v2::decode_infer(&body, Some(length), ctx), encode_v2)
    });
    let rows = [1.0_f64, 2.0, 3.0, 4.0].map(f64::to_le_bytes).concat();
    check(4, &[rows], |body| {
        let body = Bytes::copy_from_slice(body);
        each_signature(|ctx| v2::decode_infer(&body, Some(0), ctx), encode_v2)
    });
}

fn typed_message() -> Vec<u8> {
    let input = |name: &str, datatype: &str, contents| InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![1],
        contents: Some(contents),
        ..InferInputTensor::default()
    };
    let parameter = |choice| InferParameter {
        parameter_choice: Some(choice),
    };
    let request = ModelInferRequest {
        model_name: "m".to_owned(),
        id: "7".to_owned(),
        parameters: [
            (
                "timeout".to_owned(),
                parameter(ParameterChoice::Int64Param(5)),
            ),
            (
                "method".to_owned(),
                parameter(ParameterChoice::StringParam("predict".to_owned())),
            ),
        ]
        .into(),
        inputs: vec![
            input(
                "a",
                "BYTES",
                InferTensorContents {
                    bytes_contents: vec![Bytes::from_static(b"x")],
                    ..InferTensorContents::default()
                },
            ),
            input(
                "c",
                "INT8",
                InferTensorContents {
                    int_contents: vec![-3],
                    ..InferTensorContents::default()
                },
            ),
        ],
        outputs: vec![InferRequestedOutputTensor {
            name: "predict".to_owned(),
            parameters: [(
                "binary_data".to_owned(),
                parameter(ParameterChoice::BoolParam(true)),
            )]
            .into(),
        }],
        ..ModelInferRequest::default()
    };
    request.encode_to_vec()
}

#[test]
fn messages_of_the_open_inference_protocol() {
    let mut good: Vec<Vec<u8>> = named_tensors()
        .iter()
        .map(|tensors| grpc_infer("m", "1", tensors)[PREFIX_BYTES..].to_vec())
        .collect();
    good.push(typed_message());
    check(5, &good, |bytes| {
        let message = Bytes::copy_from_slice(bytes);
        drop(InferHead::read(&message));
        drop(grpc::decode::<grpc::inference::ModelMetadataRequest>(
            message.clone(),
        ));
        each_signature(
            |ctx| grpc::decode_infer(&message, ctx),
            |ctx, call| {
                if let Ok(framed) = grpc::encode_infer(ctx, call, &call.inputs) {
                    assert!(grpc::stream_response(framed, &[]).is_ok());
                }
            },
        )
    });
}

#[test]
fn bodies_of_tensorflow_serving() {
    let columns = texts(&[
        r#"{"inputs": {"a": [1, 3], "b": [[2], [4]]}, "parameters": {"timeout": 5}}"#,
        r#"{"signature_name": "serving_default", "inputs": {"X": [[1, 2], [3, null]]}}"#,
        r#"{"inputs": {"p": [[1, 2]], "q": [["x"]]}}"#,
    ]);
    let otherwise = || RequestError::new(coracle_base::Code::InvalidArgument, "no columns");
    check(6, &columns, |body| {
        each_signature(
            |ctx| tfs::decode_columns(body, ctx, otherwise()),
            |ctx, call| {
                let mut out = Vec::new();
                v1::encode_predict(ctx.signature, call, &call.inputs, &mut out);
            },
        )
    });
    let examples = texts(&[
        r#"{"context": {"b": 2}, "examples": [{"a": 1}, {"a": [3.0], "b": null}]}"#,
        r#"{"signature_name": "predict", "examples": [{"X": [1, 2]}]}"#,
    ]);
    check(7, &examples, |body| {
        each_signature(
            |ctx| tfs::decode_examples(body, Question::Classify, ctx),
            |ctx, call| {
                let mut out = Vec::new();
                tfs::encode_classes(ctx, call, &call.inputs, &mut out);
            },
        )
    });
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

fn model_spec() -> Option<ModelSpec> {
    Some(ModelSpec {
        name: "m".to_owned(),
        signature_name: "serving_default".to_owned(),
        ..ModelSpec::default()
    })
}

#[test]
fn predictions_of_tensorflow_serving() {
    let predict = |name: &str, tensor| {
        let request = PredictRequest {
            model_spec: model_spec(),
            inputs: [(name.to_owned(), tensor)].into(),
            output_filter: vec!["predict".to_owned()],
        };
        request.encode_to_vec()
    };
    let typed = TensorProto {
        double_val: vec![1.0, 2.0],
        ..tensor_proto(2, &[1, 2])
    };
    let content = TensorProto {
        tensor_content: Bytes::from([1.0_f32, 2.0].map(f32::to_le_bytes).concat()),
        ..tensor_proto(1, &[1, 2])
    };
    let repeated = TensorProto {
        int_val: vec![3],
        ..tensor_proto(4, &[2, 2])
    };
    let good = [typed, content, repeated].map(|tensor| predict("X", tensor));
    check(8, &good, |bytes| {
        let message = Bytes::copy_from_slice(bytes);
        drop(tfs::read_version(&message));
        assert!(tfs::predict_bytes(bytes) >= bytes.len());
        each_signature(
            |ctx| tfs::decode_predict_message(&message, ctx),
            |ctx, call| drop(tfs::encode_prediction(ctx, call, &call.inputs)),
        )
    });
}

#[test]
fn examples_of_tensorflow_serving() {
    let feature = |kind| Feature { kind: Some(kind) };
    let floats = |value: &[f32]| {
        feature(FeatureKind::FloatList(FloatList {
            value: value.to_vec(),
        }))
    };
    let seven = feature(FeatureKind::Int64List(Int64List { value: vec![7] }));
    let example = |features: &[(&str, Feature)]| Example {
        features: Some(Features {
            feature: features
                .iter()
                .map(|(name, feature)| ((*name).to_owned(), feature.clone()))
                .collect(),
        }),
    };
    let request = |example: Example| {
        let examples = vec![example.clone(), example];
        let request = ClassificationRequest {
            model_spec: model_spec(),
            input: Some(Input {
                kind: Some(InputKind::ExampleList(ExampleList { examples })),
            }),
        };
        request.encode_to_vec()
    };
    let good = [
        request(example(&[("X", floats(&[1.0, 2.0]))])),
        request(example(&[("a", floats(&[1.0])), ("b", seven)])),
    ];
    check(9, &good, |bytes| {
        let message = Bytes::copy_from_slice(bytes);
        each_signature(
            |ctx| tfs::decode_examples_message(&message, Question::Classify, ctx),
            |ctx, call| drop(tfs::encode_classification(ctx, call, &call.inputs)),
        )
    });
}

#[test]
fn compressed_bodies_within_their_limit() {
    let plain = [b"{\"instances\": [[1, 2]]}".repeat(20), vec![7; 5]];
    for (seed, encoding) in (10..).zip(Encoding::ALL) {
        let good = plain.each_ref().map(|bytes| {
            let mut out = Vec::new();
            compress(encoding, bytes, &mut out).unwrap();
            out
        });
        check(seed, &good, |bytes| match expand(encoding, bytes, MOST) {
            Ok(expanded) => {
                assert!(expanded.len() <= MOST);
                true
            }
            Err(_) => false,
        });
    }
}

#[test]
fn frames_and_headers_of_grpc() {
    let message = b"a message that is repeated, repeated, repeated".to_vec();
    let framed = |compression| {
        let plain = [&[0, 0, 0, 0, 46][..], &message].concat();
        grpc::framed(plain, compression)
    };
    let all = [
        Compression::Identity,
        Compression::Gzip,
        Compression::Deflate,
    ];
    check(20, &all.map(framed), |bytes| {
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return false;
        };
        let Ok(head) = FrameHead::read(*prefix, MOST) else {
            return false;
        };
        assert!(head.length <= MOST);
        all.iter().any(|compression| {
            let expanded = compression.expand(rest, MOST);
            expanded.is_ok_and(|expanded| expanded.len() <= MOST)
        }) || !head.is_compressed
    });
    check(21, &texts(&["5S", "100m", "99999999n"]), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let encoded = grpc::percent_encode(&text);
        assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        grpc::parse_timeout(&text).is_some()
    });
    check(
        22,
        &texts(&["gzip;q=0.5, br", "*;q=1.000, identity;q=0"]),
        |bytes| Encoding::preferred(&String::from_utf8_lossy(bytes)).is_some(),
    );
}

#[test]
fn bodies_of_extensions() {
    let good = texts(&[
        r#"{"key": "/r", "offset": 0, "byte_size": 64}"#,
        r#"{"ready": true}"#,
        r#"{"parameters": {"unload_dependents": true, "config": "{}"}}"#,
    ]);
    check(23, &good, |body| {
        let region = v2::RegisterRegion::decode(body).is_ok();
        drop(v2::check_load(body));
        drop(v2::decode_index(body));
        region
    });
}
