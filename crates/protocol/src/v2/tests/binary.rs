//! The binary tensor extension, both ways.
//!
//! The raw bytes are those that numpy and tritonclient give for the values (`tobytes`, `serialize_byte_tensor`).

use bytes::Bytes;
use coracle_tensor::DType;

use super::*;

/// Every datatype with two elements and their raw form.
fn every_datatype() -> [(Values, &'static [u8]); 14] {
    let strings: ByteStrings = ["a", "\u{e9}\n"].into_iter().collect();
    [
        (Values::Bool(vec![true, false]), b"\x01\x00"),
        (Values::U8(vec![1, 255].into()), b"\x01\xff"),
        (Values::U16(vec![1, 65_534].into()), b"\x01\x00\xfe\xff"),
        (
            Values::U32(vec![1, u32::MAX].into()),
            b"\x01\x00\x00\x00\xff\xff\xff\xff",
        ),
        (
            Values::U64(vec![258, u64::MAX].into()),
            b"\x02\x01\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        (Values::I8(vec![1, -1].into()), b"\x01\xff"),
        (Values::I16(vec![1, -2].into()), b"\x01\x00\xfe\xff"),
        (
            Values::I32(vec![1, -2].into()),
            b"\x01\x00\x00\x00\xfe\xff\xff\xff",
        ),
        (
            Values::I64(vec![1, -2].into()),
            b"\x01\x00\x00\x00\x00\x00\x00\x00\xfe\xff\xff\xff\xff\xff\xff\xff",
        ),
        (
            Values::F16(vec![f16::from_f32(1.5), f16::from_f32(-2.0)].into()),
            b"\x00\x3e\x00\xc0",
        ),
        (
            Values::BF16(vec![bf16::from_f32(1.5), bf16::from_f32(-2.0)].into()),
            b"\xc0\x3f\x00\xc0",
        ),
        (
            Values::F32(vec![1.5, -2.0].into()),
            b"\x00\x00\xc0\x3f\x00\x00\x00\xc0",
        ),
        (
            Values::F64(vec![1.5, -2.0].into()),
            b"\x00\x00\x00\x00\x00\x00\xf8\x3f\x00\x00\x00\x00\x00\x00\x00\xc0",
        ),
        (
            Values::Bytes(strings),
            b"\x01\x00\x00\x00a\x03\x00\x00\x00\xc3\xa9\n",
        ),
    ]
}

/// A request of one binary tensor, with the length of its JSON.
fn request(datatype: &str, shape: &str, size: usize, data: &[u8]) -> (Bytes, Option<usize>) {
    let mut body = format!(
        r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#
    )
    .into_bytes();
    let json_length = body.len();
    body.extend_from_slice(data);
    (body.into(), Some(json_length))
}

#[test]
fn every_datatype_is_read_and_written() {
    for (values, bytes) in every_datatype() {
        let dtype = values.dtype();
        let (body, json_length) = request(dtype.name(), "[1, 2]", bytes.len(), bytes);
        let signature = signature(None, false);
        let call = decode_infer(&body, json_length, &context(&signature)).unwrap();
        assert_eq!(call.inputs[0].values(), &values, "{dtype}");
        let answer = Call {
            outputs: vec![0],
            forms: vec![OutputForm::Raw],
            ..Call::default()
        };
        let (out, json_length) = encode(&answer, &call.inputs);
        let (json, binary) = out.split_at(json_length.unwrap());
        assert_eq!(binary, bytes, "{dtype}");
        assert_eq!(
            str::from_utf8(json).unwrap(),
            format!(
                r#"{{"model_name":"iris","model_version":"1","outputs":[{{"name":"predict","shape":[1,2],"datatype":"{dtype}","parameters":{{"binary_data_size":{}}}}}]}}"#,
                bytes.len()
            )
        );
    }
    assert_eq!(
        every_datatype().map(|(values, _)| values.dtype()),
        DType::ALL
    );
}

/// Returns the address of the first element.
fn address(values: &Values) -> *const u8 {
    match values {
        Values::U8(items) => items.as_ptr(),
        Values::U16(items) => items.as_ptr().cast(),
        Values::U32(items) => items.as_ptr().cast(),
        Values::U64(items) => items.as_ptr().cast(),
        Values::I8(items) => items.as_ptr().cast(),
        Values::I16(items) => items.as_ptr().cast(),
        Values::I32(items) => items.as_ptr().cast(),
        Values::I64(items) => items.as_ptr().cast(),
        Values::F16(items) => items.as_ptr().cast(),
        Values::BF16(items) => items.as_ptr().cast(),
        Values::F32(items) => items.as_ptr().cast(),
        Values::F64(items) => items.as_ptr().cast(),
        Values::Bool(_) | Values::Bytes(_) => panic!("no numbers"),
    }
}

#[test]
fn many_numbers_stay_in_the_body_where_they_are_aligned() {
    let signature = signature(None, false);
    let mut ctx = context(&signature);
    ctx.elements_max = 1 << 20;
    let numbers = every_datatype().map(|(values, bytes)| (values.dtype(), bytes));
    let numbers = numbers.iter().filter_map(|&(dtype, bytes)| {
        let is_number = !matches!(dtype, DType::Bool | DType::Bytes);
        is_number.then(|| (dtype, dtype.size_bytes().unwrap(), bytes.repeat(4096)))
    });
    for (dtype, size, data) in numbers {
        let n_elements = data.len() / size;
        let (body, json_length) = request(
            dtype.name(),
            &format!("[{n_elements}, 1]"),
            data.len(),
            &data,
        );
        let json_length = json_length.unwrap();
        for offset in 0..8 {
            // The data `offset` bytes after an address that suits every datatype.
            let mut buffer = vec![0; body.len() + 16];
            let start = (buffer.as_ptr().wrapping_add(json_length)).align_offset(8) + offset;
            buffer[start..start + body.len()].copy_from_slice(&body);
            let placed = Bytes::from(buffer).slice(start..start + body.len());
            let call = decode_infer(&placed, Some(json_length), &ctx).unwrap();
            let values = call.inputs[0].values();
            let is_kept = address(values) == placed[json_length..].as_ptr();
            assert_eq!(is_kept, offset % size == 0, "{dtype} at {offset}");
            let mut raw = Vec::new();
            crate::raw::encode(values, &mut raw);
            assert!(raw == data, "{dtype} at {offset}");
        }
    }
}

#[test]
fn a_body_without_json_is_the_only_input() {
    let numbers = Bytes::from([1.0_f64, 2.0, 3.0, 4.0].map(f64::to_le_bytes).concat());
    let signature = signature(None, false);
    let call = decode_infer(&numbers, Some(0), &context(&signature)).unwrap();
    assert_eq!(call.inputs[0].shape(), [2, 2]);
    assert_eq!((call.n_rows, &*call.forms), (2, &[OutputForm::Raw][..]));
    let error = decode_infer(&numbers.slice(1..), Some(0), &context(&signature)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "inputs[0]: 31 bytes, elements of FP64 have 8"
    );
}

/// Datatype, shape, declared size and data that do not agree, each with its message.
const DISAGREEING: [(&str, &str, usize, &[u8], &str); 9] = [
    (
        "FP64",
        "[1, 3]",
        16,
        &[0; 16],
        "inputs[0]: 2 elements, shape [1, 3] holds 3",
    ),
    (
        "FP64",
        "[1, 2]",
        15,
        &[0; 15],
        "inputs[0]: 15 bytes, elements of FP64 have 8",
    ),
    (
        "FP64",
        "[1, 2]",
        17,
        &[0; 16],
        "inputs[0]: binary_data_size is 17, 16 bytes are left of the body",
    ),
    (
        "FP64",
        "[1, 1]",
        8,
        &[0; 16],
        "8 bytes follow the tensor data; the inputs' binary_data_size must add up",
    ),
    (
        "BOOL",
        "[2]",
        2,
        &[1, 2],
        "inputs[0]: byte 1 is 2, truth values are 0 or 1",
    ),
    (
        "BYTES",
        "[1]",
        3,
        &[1, 0, 0],
        "inputs[0]: string 0 is cut off",
    ),
    (
        "BYTES",
        "[1]",
        8,
        &[255, 255, 255, 255, 1, 2, 3, 4],
        "inputs[0]: string 0 is cut off",
    ),
    (
        "UINT8",
        "[-1]",
        1001,
        &[0; 1001],
        "inputs[0]: more than 1000 elements; send smaller batches",
    ),
    (
        "BYTES",
        "[-1]",
        4004,
        &[0; 4004],
        "inputs[0]: more than 1000 elements; send smaller batches",
    ),
];

#[test]
fn sizes_that_do_not_agree_are_refused() {
    let signature = signature(None, false);
    for (datatype, shape, size, data, message) in DISAGREEING {
        let (body, json_length) = request(datatype, shape, size, data);
        let error = decode_infer(&body, json_length, &context(&signature)).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let (body, _) = request("FP64", "[1, 2]", 16, &[0; 16]);
    let beyond = decode_infer(&body, Some(body.len() + 1), &context(&signature)).unwrap_err();
    assert_eq!(
        beyond.to_string(),
        format!(
            "Inference-Header-Content-Length is {}, the body has {} bytes",
            body.len() + 1,
            body.len()
        )
    );
}

#[test]
fn outputs_say_how_they_are_to_be_given() {
    let tensor =
        r#""inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]"#;
    let raw = OutputForm::Raw;
    let json = OutputForm::Typed;
    let cases = [
        (
            r#""parameters": {"binary_data_output": true}"#,
            vec![raw.clone()],
        ),
        (
            r#""outputs": [{"name": "predict", "parameters": {"binary_data": true}}, {"name": "predict_proba"}]"#,
            vec![raw.clone(), json.clone()],
        ),
        (
            r#""parameters": {"binary_data_output": true}, "outputs": [{"name": "predict", "parameters": {"binary_data": false}}, {"name": "output-0"}]"#,
            vec![json.clone(), raw],
        ),
        (
            r#""outputs": [{"name": "predict", "parameters": {"shared_memory_region": "r", "shared_memory_offset": 8, "shared_memory_byte_size": 16}}]"#,
            vec![OutputForm::Region(RegionSlice {
                region: "r".to_owned(),
                offset: 8,
                byte_size: 16,
            })],
        ),
        (r#""outputs": []"#, vec![json]),
    ];
    for (rest, forms) in cases {
        let call = decode(&format!("{{{tensor}, {rest}}}"), &signature(None, false)).unwrap();
        assert_eq!(call.forms, forms, "{rest}");
    }
}

#[test]
fn columns_may_be_binary() {
    let named = signature(Some(["a", "b"]), false);
    let mut body = br#"{"inputs":[{"name":"b","shape":[2],"datatype":"INT16","parameters":{"binary_data_size":4}},{"name":"a","shape":[2,1],"datatype":"FP32","data":[0.5,1.5]}]}"#.to_vec();
    let json_length = body.len();
    body.extend_from_slice(&[3, 0, 4, 0]);
    let call = decode_infer(&body.into(), Some(json_length), &context(&named)).unwrap();
    assert_eq!(
        call.inputs[0].values(),
        &Values::F64(vec![0.5, 3.0, 1.5, 4.0].into())
    );
}

#[test]
fn damaged_binary_bodies_are_errors_or_requests_never_panics() {
    let signature = signature(None, true);
    let (body, json_length) = request(
        "BYTES",
        "[2]",
        12,
        b"\x01\x00\x00\x00a\x03\x00\x00\x00\xc3\xa9\n",
    );
    for end in 0..body.len() {
        assert!(decode_infer(&body.slice(..end), json_length, &context(&signature)).is_err());
    }
    for length in 0..body.len() + 2 {
        drop(decode_infer(&body, Some(length), &context(&signature)));
    }
    for position in 0..body.len() {
        for byte in [0, 1, b'"', b'-', 0x7f, 0xff] {
            let mut damaged = body.to_vec();
            damaged[position] = byte;
            drop(decode_infer(
                &damaged.into(),
                json_length,
                &context(&signature),
            ));
        }
    }
}
