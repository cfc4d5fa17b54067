//! Sound graphs: the answers, the signatures and the refusals.

use std::thread;

use coracle_base::{Code, SystemClock};
use coracle_formats::{LoadOptions, load_bytes};
use coracle_model::{LoadErrorKind, Model, RunTime};
use coracle_tensor::{DType, Tensor, Values};
use serde_json::Value;

use crate::Runtime;
use crate::fixture::{self, Case};

/// The fixtures are from another release of the library, whose kernels may add in another order.
pub(crate) const DIFFERENCE_MAX: f64 = 1e-5;

/// Half precision has three digits.
fn difference_max(case: &Case) -> f64 {
    match case.name.as_str() {
        "half precision" => 2e-3,
        name if name.contains("PROBIT") => 1e-3,
        "kmeans" => 1e-4,
        _ => DIFFERENCE_MAX,
    }
}

pub(crate) fn neural(name: &str) -> Case {
    let mut cases = fixture::lines("neural.jsonl").into_iter();
    cases.find(|case| case.name == name).unwrap()
}

pub(crate) fn neural_graphs_answer_as_in_python(runtime: &Runtime) {
    let options = LoadOptions {
        graph_engine: Some(runtime.0.clone()),
        ..LoadOptions::default()
    };
    let cases = fixture::lines("neural.jsonl");
    assert_eq!(cases.len(), 21);
    for case in cases {
        let (name, clock) = (&case.name, SystemClock::new());
        // Without the engine the graph is refused; one is of operators that our own kernels have, all in all.
        let model = match load_bytes(&case.model, &LoadOptions::default(), &clock) {
            Ok(_) if name == "truth values" => runtime.load(&case.model),
            Ok(_) => panic!("{name} is no graph for the engine"),
            Err(refused) => {
                assert_eq!(refused.kind(), LoadErrorKind::Unsupported, "{name}");
                load_bytes(&case.model, &options, &clock).map(|loaded| loaded.model)
            }
        };
        let model = model.unwrap_or_else(|error| panic!("{name}: {error}"));
        let n_warnings = model.description().warnings().count();
        let is_odd = name == "a shape that few numbers of rows have";
        assert_eq!(n_warnings, usize::from(is_odd), "{name}");
        for spec in &model.signature().inputs {
            assert_eq!(
                Some(&spec.wire_shape()),
                case.shapes.get(&spec.name),
                "{name}"
            );
            assert_eq!(spec.dtype, case.inputs[&spec.name].dtype(), "{name}");
        }
        let engine = &model.description().root.facts;
        assert!(
            engine
                .iter()
                .any(|(key, value)| key == "engine" && value.starts_with("ONNX Runtime")),
            "{name}: {engine:?}"
        );
        case.check(model.as_ref(), difference_max(&case))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Compares what the engine answers alone with the answers in Python; returns the refused ones with the reasons.
fn all_but_refused(runtime: &Runtime, cases: &[Case]) -> Vec<String> {
    let mut refused = Vec::new();
    let mut complaints = Vec::new();
    for case in cases {
        match runtime.load(&case.model) {
            Ok(model) => {
                if let Err(error) = case.check(model.as_ref(), difference_max(case)) {
                    complaints.push(format!("{}: {error}", case.name));
                }
            }
            Err(error) => refused.push(format!("{}: {error}", case.name)),
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    refused
}

pub(crate) fn operators_answer_as_in_python(runtime: &Runtime) {
    let cases = fixture::lines("operators.jsonl");
    let refused = all_but_refused(runtime, &cases);
    assert!(cases.len() > 400, "{}", cases.len());
    // What the runtime misreads is for our own kernels only.
    let others = refused.iter();
    let others = others.filter(|refusal| !refusal.contains("reads what is not there"));
    assert_eq!(others.count(), 0, "{}", refused.join("\n"));
    assert_eq!(refused.len(), 1, "{}", refused.join("\n"));
}

pub(crate) fn exported_models_answer_as_in_python(runtime: &Runtime) {
    let cases = fixture::exported();
    let refused = all_but_refused(runtime, &cases);
    assert!(refused.is_empty(), "{refused:?}");
    assert!(cases.len() > 80, "{}", cases.len());
    // Maps are tables whose columns have the names of the classes.
    let maps = cases.iter().filter(|case| {
        let model = runtime.load(&case.model).unwrap();
        let signature = model.signature();
        let keyed = signature.keyed_outputs.iter();
        let mut keyed = keyed.map(|&index| &signature.outputs[index]);
        keyed.any(|spec| spec.columns.as_ref().is_some_and(|names| names.len() > 1))
    });
    assert_eq!(maps.count(), 46);
}

pub(crate) fn nodes_answer_as_onnx_says(runtime: &Runtime) {
    let cases = fixture::lines("nodes.jsonl");
    let refused = all_but_refused(runtime, &cases);
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(cases.len(), 19);
    // Made-up values are no sizes: that these do not run says nothing of the graph, and nothing is known of it either.
    for case in cases {
        let warns = matches!(case.name.as_str(), "col2im" | "affine_grid_2d");
        let model = runtime.load(&case.model).unwrap();
        let n_warnings = model.description().warnings().count();
        assert_eq!(n_warnings, usize::from(warns), "{}", case.name);
        assert_eq!(model.run_time() == RunTime::Any, warns, "{}", case.name);
    }
}

pub(crate) fn integers_of_four_bits_are_no_others(runtime: &Runtime) {
    let mut cases = fixture::lines("nodes.jsonl").into_iter();
    let case = cases.find(|case| case.name == "cast_INT4_to_INT8").unwrap();
    let model = runtime.load(&case.model).unwrap();
    let spec = &model.signature().inputs[0];
    let n = case.inputs[&spec.name].values().len();
    for (value, is_taken) in [(-9, false), (-8, true), (7, true), (8, false)] {
        let values = Values::I8(vec![value; n].into());
        let tensor = Tensor::try_new(case.inputs[&spec.name].shape().to_vec(), values).unwrap();
        let answer = model.run(&[tensor], &[0]);
        assert_eq!(answer.is_ok(), is_taken, "{value}: {answer:?}");
        if let Err(error) = answer {
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.to_string().contains("-8 to 7"), "{error}");
        }
    }
}

/// A number that is between two that a datatype has is rounded, one beyond all of them is refused.
pub(crate) fn floats_of_eight_bits_are_no_others(runtime: &Runtime) {
    let cases = fixture::lines("nodes.jsonl");
    let ask = |name: &str, value: f32| {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let model = runtime.load(&case.model).unwrap();
        let spec = &model.signature().inputs[0];
        let shape = case.inputs[&spec.name].shape().to_vec();
        let values = Values::F32(vec![value; shape.iter().product()].into());
        model.run(&[Tensor::try_new(shape, values).unwrap()], &[0])
    };
    let (e4m3, e5m2) = (
        "cast_FLOAT8E4M3FN_to_FLOAT",
        "cast_FLOAT8E5M2FNUZ_to_FLOAT16",
    );
    for (name, value, expected) in [
        (e4m3, 447.0, 448.0),
        (e4m3, -0.3, -0.3125),
        (e5m2, 57_000.0, 57_344.0),
    ] {
        let answer = ask(name, value).unwrap();
        let found = answer[0].values().to_f64s().unwrap().into_owned();
        assert!(
            found.iter().all(|&found| found == expected),
            "{name}: {found:?}"
        );
    }
    assert!(ask(e4m3, f32::NAN).unwrap()[0].values().to_f64s().unwrap()[0].is_nan());
    for (name, value) in [
        (e4m3, 448.1),
        (e4m3, -1e9),
        (e4m3, f32::INFINITY),
        (e5m2, 6e4),
        (e5m2, f32::INFINITY),
    ] {
        let error = ask(name, value).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.to_string().contains("model expects -"), "{error}");
    }
    // What has infinities is not given one in place of a number that is too large even for the datatype that it is served in.
    let dequantized = cases
        .iter()
        .find(|case| case.name == "dequantizelinear_e5m2");
    let dequantized = dequantized.unwrap();
    let model = runtime.load(&dequantized.model).unwrap();
    let ask = |value: f64| {
        let inputs = model.signature().inputs.iter().enumerate();
        let inputs = inputs.map(|(index, spec)| {
            let given = &dequantized.inputs[&spec.name];
            let values = Values::F64(vec![value; given.values().len()].into());
            match index {
                0 => Tensor::try_new(given.shape().to_vec(), values).unwrap(),
                _ => given.clone(),
            }
        });
        model.run(&inputs.collect::<Vec<_>>(), &[0])
    };
    let infinite = ask(f64::INFINITY).unwrap()[0].values().to_f64s().unwrap()[0];
    assert_eq!(infinite, f64::INFINITY);
    for (value, expected) in [
        (1e39, "out of the range of FP32"),
        (6e4, "model expects -57344"),
    ] {
        let error = ask(value).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

pub(crate) fn what_does_not_fit_is_refused_with_both_sides(runtime: &Runtime) {
    let model = runtime
        .load(&neural("convolution of a fixed size").model)
        .unwrap();
    let ask = |model: &dyn Model, shape: &[usize], values: Values| {
        let tensor = Tensor::try_new(shape.to_vec(), values).unwrap();
        let error = model.run(&[tensor], &[0]).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        error.to_string()
    };
    // The rank, the fixed batch, and the datatype.
    let message = ask(model.as_ref(), &[8, 8], Values::F32(vec![0.0; 64].into()));
    assert!(
        message.contains("[8, 8]") && message.contains("[1, 3, 8, 8]"),
        "{message}"
    );
    let message = ask(
        model.as_ref(),
        &[2, 3, 8, 8],
        Values::F32(vec![0.0; 384].into()),
    );
    assert!(
        message.contains("[2, 3, 8, 8]") && message.contains("[1, 3, 8, 8]"),
        "{message}"
    );
    let texts = Values::Bytes(std::iter::repeat_n("a", 192).collect());
    let message = ask(model.as_ref(), &[1, 3, 8, 8], texts);
    assert!(
        message.contains("BYTES") && message.contains("FP32"),
        "{message}"
    );
    assert!(!model.rows_are_independent());
    // Sizes that the graph alone can judge: an index beyond the table.
    let model = runtime
        .load(&neural("attention over tokens").model)
        .unwrap();
    let ids = Tensor::try_new(vec![1, 1], Values::I64(vec![99].into())).unwrap();
    let mask = Tensor::try_new(vec![1, 1], Values::F32(vec![1.0].into())).unwrap();
    let error = model.run(&[ids, mask], &[0]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert_eq!(model.signature().inputs[0].dtype, DType::I64);
}

pub(crate) fn calls_from_many_threads_get_their_own_answers(runtime: &Runtime) {
    let case = neural("convolution of any size");
    let model = runtime.load(&case.model).unwrap();
    assert!(model.rows_are_independent());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    case.check(model.as_ref(), DIFFERENCE_MAX).unwrap();
                }
            });
        }
    });
}

pub(crate) fn sequences_are_json(runtime: &Runtime) {
    let numbers = |value: &Value| -> Vec<f64> {
        let text = value.to_string();
        let numbers = text.split(['[', ']', ',']).filter(|part| !part.is_empty());
        numbers.map(|part| part.parse().unwrap()).collect()
    };
    let cases = fixture::lines("structured.jsonl");
    assert_eq!(cases.len(), 10);
    for case in cases {
        let model = runtime.load(&case.model).unwrap();
        let signature = model.signature();
        let inputs = signature.inputs.iter();
        let inputs: Vec<Tensor> = inputs.map(|spec| case.inputs[&spec.name].clone()).collect();
        for (index, spec) in signature.outputs.iter().enumerate() {
            let wanted = &case.lists[&spec.name];
            if !signature.keyed_outputs.contains(&index) {
                let answer = model.run(&inputs, &[index]).unwrap();
                let found = answer[0].values().to_f64s().unwrap().into_owned();
                let is_said = !wanted.is_null();
                assert!(
                    !is_said || found == numbers(wanted),
                    "{}: {found:?}",
                    case.name
                );
                continue;
            }
            let wanted = wanted.as_array().unwrap();
            assert_eq!(spec.dtype, DType::Bytes);
            let answer = model.run(&inputs, &[index]).unwrap();
            let Values::Bytes(texts) = answer[0].values() else {
                panic!("{}: {answer:?}", case.name);
            };
            // What is optional is one text.
            let whole = [case.lists[&spec.name].clone()];
            let wanted = match spec.shape.is_empty() {
                true => &whole[..],
                false => wanted,
            };
            assert_eq!(texts.len(), wanted.len(), "{}", case.name);
            for (text, wanted) in texts.iter().zip(wanted) {
                let found: Value = serde_json::from_slice(text).unwrap();
                // The lists are the same lists, and the numbers the same numbers.
                let shape = |value: &Value| {
                    let text = value.to_string();
                    let shape = text.chars().filter(|letter| "[],".contains(*letter));
                    shape.collect::<String>()
                };
                assert_eq!(shape(&found), shape(wanted), "{}", case.name);
                let (found, wanted) = (numbers(&found), numbers(wanted));
                let close =
                    |(found, wanted): (&f64, &f64)| (found - wanted).abs() <= DIFFERENCE_MAX;
                assert!(found.iter().zip(&wanted).all(close), "{}", case.name);
            }
        }
    }
}

pub(crate) fn maps_are_json(runtime: &Runtime) {
    let cases = fixture::lines("mapped.jsonl");
    assert_eq!(cases.len(), 9);
    for case in cases {
        let name = &case.name;
        let loaded = runtime.load(&case.model);
        let expected = case.lists.first_key_value().unwrap().1;
        let model = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let signature = model.signature();
        assert_eq!(signature.keyed_outputs, [0], "{name}");
        assert_eq!(signature.outputs[0].dtype, DType::Bytes, "{name}");
        let inputs = signature.inputs.iter();
        let inputs = inputs.map(|spec| case.inputs[&spec.name].clone());
        let found = model.run(&inputs.collect::<Vec<_>>(), &[0]).unwrap();
        let Values::Bytes(texts) = found[0].values() else {
            panic!("{name}: no texts");
        };
        let found = texts
            .iter()
            .map(|text| serde_json::from_slice::<Value>(text).unwrap());
        let found: Vec<Value> = found.collect();
        let expected = match expected {
            Value::Array(maps) => maps.clone(),
            map => vec![map.clone()],
        };
        // Integers to the last digit; doubles are what Python writes, floats a digit more or less.
        let close = |(found, expected): (&Value, &Value)| {
            let (found, expected) = (found.as_object().unwrap(), expected.as_object().unwrap());
            found.len() == expected.len()
                && expected.iter().all(|(key, expected)| {
                    let found = &found[key];
                    found == expected || {
                        let difference = found.as_f64().unwrap() - expected.as_f64().unwrap();
                        found.is_f64() && difference.abs() <= DIFFERENCE_MAX
                    }
                })
        };
        assert_eq!(found.len(), expected.len(), "{name}");
        assert!(
            found.iter().zip(&expected).all(close),
            "{name}: {found:?}, expected {expected:?}"
        );
    }
}

pub(crate) fn inputs_of_any_rank_are_served(runtime: &Runtime) {
    let cases = fixture::lines("unranked.jsonl");
    assert_eq!(cases.len(), 17);
    for case in cases {
        let with_engine = runtime.load(&case.model).unwrap();
        let mut models = vec![with_engine];
        if case.name.starts_with("own") {
            let options = LoadOptions::default();
            let own = load_bytes(&case.model, &options, &SystemClock::new()).unwrap();
            models.push(own.model);
        }
        for model in models {
            let name = &case.name;
            let signature = model.signature();
            assert_eq!(signature.unranked_inputs, [0], "{name}");
            assert_eq!(signature.inputs[0].wire_shape(), [-1], "{name}");
            assert!(signature.columns.is_none(), "{name}");
            assert!(!model.rows_are_independent(), "{name}");
            assert_eq!(model.description().warnings().count(), 0, "{name}");
            let all: Vec<usize> = (0..signature.outputs.len()).collect();
            let inputs = signature.inputs.iter();
            let inputs = inputs.map(|spec| case.inputs[&spec.name].clone());
            let found = model.run(&inputs.collect::<Vec<_>>(), &all).unwrap();
            for (found, spec) in found.iter().zip(&signature.outputs) {
                let expected = &case.outputs[&spec.name];
                fixture::compare(found, expected, DIFFERENCE_MAX).unwrap();
            }
        }
    }
}

pub(crate) fn maps_answer_as_in_python(runtime: &Runtime) {
    let cases = fixture::lines("maps.jsonl");
    assert_eq!(cases.len(), 10);
    let refused = all_but_refused(runtime, &cases);
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    for case in cases {
        let model = runtime.load(&case.model).unwrap();
        assert_eq!(model.signature().keyed_inputs, [0], "{}", case.name);
    }
}

pub(crate) fn what_is_no_json_is_refused_with_what_belongs_there(runtime: &Runtime) {
    let texts = |texts: &[&str]| Tensor::from_values(Values::Bytes(texts.iter().collect()));
    let ask = |case: &Case, name: &str, value: Tensor| {
        let model = runtime.load(&case.model).unwrap();
        let inputs = model.signature().inputs.iter();
        let inputs = inputs.map(|spec| match spec.name == name {
            true => value.clone(),
            false => case.inputs[&spec.name].clone(),
        });
        let error = model.run(&inputs.collect::<Vec<_>>(), &[0]).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        error.to_string()
    };
    let structured = fixture::lines("structured.jsonl");
    let of = |name: &str| structured.iter().find(|case| case.name == name).unwrap();
    let message = ask(
        of("rows put together"),
        "s",
        texts(&["[[1, 2, 3, 4]]", "[[1], [2, 3]]"]),
    );
    assert!(
        message.contains("\"s\", item 1: lists of different lengths"),
        "{message}"
    );
    let message = ask(of("integers taken out"), "s", texts(&["[1.5]"]));
    assert!(message.contains("1.5 is no INT64"), "{message}");
    let optional = |text: &str| {
        Tensor::try_new(Vec::new(), Values::Bytes([text].into_iter().collect())).unwrap()
    };
    let message = ask(of("a tensor that is there"), "o", optional("{}"));
    assert!(message.contains("where a value belongs"), "{message}");
    let maps = fixture::lines("maps.jsonl");
    let message = ask(&maps[0], "m", texts(&[r#"{"a": "b"}"#]));
    assert!(
        message.contains("\"a\": a string, where FP32 belongs"),
        "{message}"
    );
    let message = ask(&maps[0], "m", texts(&["{\"a\\u0000\": 1}"]));
    assert!(message.contains("NUL"), "{message}");
}

/// Operators that do not expect that nothing is there read memory that is not.
pub(crate) fn what_is_never_missing_is_not_left_out(runtime: &Runtime) {
    let cases = fixture::lines("structured.jsonl");
    let case = cases.iter();
    let case = case
        .rev()
        .find(|case| case.name == "an optional sequence as it is");
    let case = case.unwrap();
    let model = runtime.load(&case.model).unwrap();
    let ask = |text: &str| {
        let value = Tensor::try_new(Vec::new(), Values::Bytes([text].into_iter().collect()));
        model.run(&[value.unwrap()], &[0])
    };
    let error = ask("null").unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.to_string().contains("do not take"), "{error}");
    let answer = ask("[[1.0,2.0],[3.0]]").unwrap();
    let expected = Values::Bytes(["[[1.0,2.0],[3.0]]"].into_iter().collect());
    assert_eq!(
        (answer[0].shape(), answer[0].values()),
        (&[][..], &expected)
    );
}
