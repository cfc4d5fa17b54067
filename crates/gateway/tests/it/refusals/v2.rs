//! V2: JSON, and tensors as raw bytes.

use super::{assert_refused, check, start};
use crate::client::send;

/// A request of one tensor under the name `X`.
fn tensor(datatype: &str, shape: &str, data: &str) -> String {
    inputs(&[("X", datatype, shape, data)])
}

fn inputs(tensors: &[(&str, &str, &str, &str)]) -> String {
    let tensors = tensors.iter().map(|(name, datatype, shape, data)| {
        format!(
            r#"{{"name": "{name}", "shape": {shape}, "datatype": "{datatype}", "data": {data}}}"#
        )
    });
    let tensors: Vec<String> = tensors.collect();
    format!(r#"{{"inputs": [{}]}}"#, tensors.join(", "))
}

/// A good tensor with something beside it.
fn beside(rest: &str) -> String {
    let good = tensor("FP64", "[1, 2]", "[1, 2]");
    format!("{}, {rest}}}", good.strip_suffix('}').unwrap())
}

const PATH: &str = "/v2/models/classifier/infer";

#[test]
#[rustfmt::skip]
fn of_what_the_request_says() {
    let output = |parameters: &str| {
        beside(&format!(
            r#""outputs": [{{"name": "predict", "parameters": {parameters}}}]"#
        ))
    };
    let input = |parameters: &str| {
        format!(
            r#"{{"inputs": [{{"name": "X", "shape": [1, 2], "datatype": "FP64", "parameters": {parameters}}}]}}"#
        )
    };
    let region = r#"{"shared_memory_region": "r", "shared_memory_byte_size": 16}"#;
    let large = r#"{"shared_memory_region": "r", "shared_memory_byte_size": 801}"#;
    let both =
        r#"{"binary_data": true, "shared_memory_region": "r", "shared_memory_byte_size": 8}"#;
    let data_and_region = format!(
        r#"{{"inputs": [{{"name": "X", "shape": [1, 2], "datatype": "FP64", "data": [1, 2], "parameters": {region}}}]}}"#
    );
    check(&[
        (PATH, "", 400, "the request body is empty; send JSON such as {\"inputs\": [{\"name\": \"X\", \"shape\": [1, 2], \"datatype\": \"FP64\", \"data\": [1.0, 2.0]}]}"),
        (PATH, "{", 400, "the body is not valid JSON: EOF while parsing an object"),
        (PATH, "5", 400, "invalid type: integer `5`, expected an object with \"inputs\""),
        (PATH, "{}", 400, "missing field `inputs`"),
        (PATH, r#"{"inputs": []}"#, 400, "\"inputs\" is empty; send at least one tensor"),
        (PATH, r#"{"inputs": [5]}"#, 400, "invalid type: integer `5`, expected an input: an object with name, shape, datatype and data"),
        (PATH, r#"{"inputs": [{"name": "X", "datatype": "FP64", "data": [1]}]}"#, 400, "missing field `shape`"),
        (PATH, r#"{"inputs": [{"name": "X", "shape": [1], "data": [1]}]}"#, 400, "missing field `datatype`"),
        (PATH, r#"{"inputs": [{"shape": [1], "datatype": "FP64", "data": [1]}]}"#, 400, "missing field `name`"),
        (PATH, r#"{"inputs": [{"name": "X", "shape": ["a"], "datatype": "FP64", "data": [1]}]}"#, 400, "invalid type: string \"a\", expected i64"),
        (PATH, r#"{"inputs": [{"name": "X", "shape": [1], "datatype": "FP64"}]}"#, 400, "inputs[0]: \"data\" is missing"),
        (PATH, &beside(r#""id": 5"#), 400, "invalid type: integer `5`, expected a string"),
        (PATH, &beside(r#""outputs": [5]"#), 400, "invalid type: integer `5`, expected an output: an object with a name"),
        (PATH, &beside(r#""outputs": [{"name": "zzz"}]"#), 400, "unknown output \"zzz\"; the model has predict, predict_proba"),
        (PATH, &beside(r#""parameters": 5"#), 400, "invalid type: integer `5`, expected \"parameters\" to be an object"),
        (PATH, &beside(r#""parameters": {"method": "fly"}"#), 400, "unknown method \"fly\"; the model has predict, predict_proba"),
        (PATH, &beside(r#""parameters": {"priority": "high"}"#), 400, "invalid type: string \"high\", expected u64"),
        (PATH, &output(r#"{"classification": 2}"#), 501, "output \"predict\": classification of outputs is not supported; ask for predict or predict_proba"),
        (PATH, &output(both), 400, "output \"predict\": binary_data and shared_memory_region exclude each other"),
        (PATH, &output(r#"{"shared_memory_region": "r"}"#), 400, "output \"predict\": shared memory needs both shared_memory_region and shared_memory_byte_size"),
        (PATH, &output(region), 400, "no shared memory region \"r\" is registered"),
        (PATH, &input(r#"{"shared_memory_offset": 8}"#), 400, "inputs[0]: shared memory needs both shared_memory_region and shared_memory_byte_size"),
        (PATH, &input(region), 400, "inputs[0]: no shared memory region \"r\" is registered"),
        (PATH, &input(large), 400, "inputs[0]: 801 bytes of shared memory, at most 800 are read"),
        (PATH, &input(r#"{"binary_data_size": 16}"#), 400, "inputs[0]: binary_data_size without the header Inference-Header-Content-Length"),
        (PATH, &input(r#"{"binary_data_size": -1}"#), 400, "invalid value: integer `-1`, expected u64"),
        (PATH, &data_and_region, 400, "inputs[0]: \"data\", binary_data_size and shared_memory_region exclude each other"),
    ]);
}

#[test]
#[rustfmt::skip]
fn of_tensors() {
    let deep = format!("[{}]", vec!["1"; 17].join(", "));
    let many = format!("[{}]", vec!["1"; 101].join(", "));
    let of = |datatype, shape, data| tensor(datatype, shape, data);
    let base64 = r#"{"inputs": [{"name": "X", "shape": [1, 1, 2], "datatype": "BYTES", "data": ["YQ==", "%"], "parameters": {"content_type": "base64"}}]}"#;
    check(&[
        (PATH, &of("FP8", "[1, 2]", "[1, 2]"), 400, "inputs[0]: unknown datatype \"FP8\"; known are BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES"),
        (PATH, &of("UINT8", "[1, 2]", "[1, 256]"), 400, "inputs[0].data[1]: 256 is out of range for UINT8 (whole numbers 0 to 255)"),
        (PATH, &of("UINT16", "[1, 2]", "[1, 65536]"), 400, "inputs[0].data[1]: 65536 is out of range for UINT16 (whole numbers 0 to 65535)"),
        (PATH, &of("UINT32", "[1, 2]", "[1, -1]"), 400, "inputs[0].data[1]: -1 is out of range for UINT32 (whole numbers 0 to 4294967295)"),
        (PATH, &of("UINT64", "[1, 2]", "[1, -1]"), 400, "inputs[0].data[1]: -1 is out of range for UINT64 (whole numbers 0 to 18446744073709551615)"),
        (PATH, &of("INT8", "[1, 2]", "[1, 128]"), 400, "inputs[0].data[1]: 128 is out of range for INT8 (whole numbers -128 to 127)"),
        (PATH, &of("INT16", "[1, 2]", "[1, 32768]"), 400, "inputs[0].data[1]: 32768 is out of range for INT16 (whole numbers -32768 to 32767)"),
        (PATH, &of("INT32", "[1, 2]", "[1, 0.5]"), 400, "inputs[0].data[1]: 0.5 is out of range for INT32 (whole numbers -2147483648 to 2147483647)"),
        (PATH, &of("INT64", "[1, 2]", "[1, 9223372036854775808]"), 400, "inputs[0].data[1]: 9223372036854775808 is out of range for INT64 (whole numbers -9223372036854775808 to 9223372036854775807)"),
        (PATH, &of("FP16", "[1, 2]", "[1, 70000]"), 400, "inputs[0].data[1]: 70000 is out of range for FP16 (numbers within its range)"),
        (PATH, &of("BOOL", "[1, 2]", "[true, 2]"), 400, "inputs[0].data[1]: 2 is out of range for BOOL (true, false, 0 and 1)"),
        (PATH, &of("BOOL", "[1, 2]", "[true, \"x\"]"), 400, "inputs[0].data[1]: a string where a truth value belongs"),
        (PATH, &of("INT32", "[1, 2]", "[1, true]"), 400, "inputs[0].data[1]: a truth value where a number belongs"),
        (PATH, &of("INT32", "[1, 2]", "[1, null]"), 400, "inputs[0].data[1]: null where a number belongs"),
        (PATH, &of("FP64", "[1, 2]", "[1, null]"), 400, "inputs[0].data[1]: null (a missing value), this model takes numbers only"),
        (PATH, &of("FP64", "[1, 2]", "[1, {}]"), 400, "inputs[0].data[1]: an object where a number belongs"),
        (PATH, &of("BYTES", "[1, 2]", "[\"a\", 1]"), 400, "inputs[0].data[1]: a number where a string belongs"),
        (PATH, &of("BYTES", "[1, 2]", "[\"a\", null]"), 400, "inputs[0].data[1]: null where a string belongs"),
        (PATH, &of("BYTES", "[1, 2]", "[\"a\", [1]]"), 400, "inputs[0].data[1]: a list where a string belongs"),
        (PATH, &of("FP64", "[1, 2]", "[1, 2, 3]"), 400, "inputs[0]: 3 elements, shape [1, 2] holds 2"),
        (PATH, &of("FP64", "[4611686018427387904, 4]", "[1]"), 400, "inputs[0]: 1 elements, shape [4611686018427387904, 4] holds too many"),
        (PATH, &of("FP64", "[-1, -1]", "[1, 2]"), 400, "inputs[0]: shape [-1, -1], sizes are 0 or more (-1 at most once)"),
        (PATH, &of("FP64", &deep, "[1]"), 400, "inputs[0]: 17 dimensions, at most 16 are supported"),
        (PATH, &of("FP64", "[1, 2]", "5"), 400, "inputs[0]: data is nested 0 deep; send a flat list, or lists nested as shape [1, 2]"),
        (PATH, &of("FP64", "[1, 4]", "[[1, 2], [3, 4]]"), 400, "inputs[0]: data is nested as [2, 2], shape is [1, 4]"),
        (PATH, &of("FP64", "[2, 2]", "[[1, 2, 3], [4]]"), 400, "inputs[0]: data is ragged: lists of different lengths"),
        (PATH, &of("FP64", "[1, 101]", &many), 400, "inputs[0]: more than 100 elements; send smaller batches"),
        ("/v2/models/words/infer", base64, 400, "inputs[0].data[1]: not base64, which the content type says it is"),
    ]);
}

#[test]
#[rustfmt::skip]
fn of_tensors_by_name() {
    let a = ("a", "FP64", "[1]", "[1]");
    let z = ("z", "FP64", "[1]", "[1]");
    let b = |shape, data| ("b", "FP64", shape, data);
    let long = format!("[{}]", vec!["1"; 51].join(", "));
    let pair = "/v2/models/pair/infer";
    let mixed = "/v2/models/mixed/infer";
    let p = ("p", "FP32", "[1, 3]", "[1, 2, 3]");
    let text = ("a", "BYTES", "[1]", "[\"x\"]");
    let c = |shape, data| ("c", "FP64", shape, data);
    check(&[
        (PATH, &inputs(&[a, z]), 400, "inputs[1]: unknown column \"z\"; send one tensor \"X\", or one per column: a, b"),
        (PATH, &inputs(&[a, a]), 400, "inputs[1]: column \"a\" occurs twice"),
        (PATH, &inputs(&[a, b("[2]", "[1, 2]")]), 400, "inputs[1]: 2 rows, the columns before have 1"),
        (PATH, &inputs(&[a, b("[1, 2]", "[1, 2]")]), 400, "inputs[1]: shape [1, 2], a column has shape [n] or [n, 1]"),
        (PATH, &inputs(&[a, ("b", "BYTES", "[1]", "[\"x\"]")]), 400, "inputs[1]: datatype BYTES, the column expects numbers"),
        (PATH, &inputs(&[b("[51]", &long), b("[51]", &long)]), 400, "51 rows of 2 columns are more than 100 elements; send smaller batches"),
        ("/v2/models/labels/infer", &inputs(&[a, z]), 400, "2 input tensors, the model expects one, \"X\""),
        (pair, &inputs(&[p]), 400, "input \"q\" is missing; the model has p, q"),
        (pair, &inputs(&[p, p]), 400, "input \"p\" occurs twice"),
        (pair, &inputs(&[p, z]), 400, "unknown input \"z\"; the model has p, q"),
        (mixed, &inputs(&[text]), 400, "columns missing: c"),
        (mixed, &inputs(&[text, text]), 400, "inputs[1]: column \"a\" occurs twice"),
        (mixed, &inputs(&[text, z]), 400, "inputs[1]: unknown column \"z\"; send one tensor per column: a, c"),
        (mixed, &inputs(&[text, c("[2]", "[1, 2]")]), 400, "column \"c\": 2 rows, other columns have 1"),
        (mixed, &inputs(&[text, c("[1, 2]", "[1, 2]")]), 400, "inputs[1]: column \"c\" has shape [1, 2], a column has shape [n] or [n, 1]"),
        (mixed, &inputs(&[a, c("[1]", "[1]")]), 400, "inputs[0]: column \"a\": expected strings (BYTES), got FP64"),
        (mixed, &inputs(&[text, ("c", "BYTES", "[1]", "[\"x\"]")]), 400, "inputs[1]: column \"c\": expected numbers (FP64 or any other numeric datatype), got BYTES"),
        (mixed, &tensor("BYTES", "[1, 2]", "[\"x\", \"y\"]"), 400, "inputs[0]: unknown column \"X\" of shape [1, 2]; send one tensor per column (a, c), or one of shape [-1, 3]"),
    ]);
}

/// Datatype, shape, declared size, raw data and the message.
const RAW: [(&str, &str, usize, &[u8], &str); 9] = [
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
        "FP16",
        "[1, 2]",
        3,
        &[0; 3],
        "inputs[0]: 3 bytes, elements of FP16 have 2",
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
        "8 bytes follow the tensor data; the inputs' binary_data_size must add up to all that comes after the JSON",
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
        "inputs[0]: string 0 is cut off: each is its length in four bytes, then so many bytes",
    ),
    (
        "BYTES",
        "[-1]",
        404,
        &[0; 404],
        "inputs[0]: more than 100 elements; send smaller batches",
    ),
    (
        "UINT8",
        "[-1]",
        101,
        &[0; 101],
        "inputs[0]: more than 100 elements; send smaller batches",
    ),
];

#[test]
fn of_raw_bytes() {
    let server = start();
    for (datatype, shape, size, data, message) in RAW {
        let json = format!(
            r#"{{"inputs":[{{"name":"X","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#
        );
        let length = json.len().to_string();
        let headers = [
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", length.as_str()),
        ];
        let body = [json.as_bytes(), data].concat();
        let answer = send(server.address, "POST", PATH, &headers, &body);
        assert_refused(&answer, &json, 400, message);
    }
    let headers = |length| [("inference-header-content-length", length)];
    let cases: [(&str, &str, &[u8], &str); 5] = [
        (
            "/v2/models/pair/infer",
            "0",
            &[0; 16],
            "Inference-Header-Content-Length is 0, but the model has 2 inputs; send the JSON that describes them",
        ),
        (
            PATH,
            "0",
            &[0; 15],
            "inputs[0]: 15 bytes, elements of FP64 have 8",
        ),
        (
            PATH,
            "9",
            b"{}",
            "Inference-Header-Content-Length is 9, the body has 2 bytes",
        ),
        (
            PATH,
            "-1",
            b"{}",
            "Inference-Header-Content-Length must be the number of bytes of the JSON",
        ),
        (
            PATH,
            "x",
            b"{}",
            "Inference-Header-Content-Length must be the number of bytes of the JSON",
        ),
    ];
    for (path, length, body, message) in cases {
        let answer = send(server.address, "POST", path, &headers(length), body);
        assert_refused(&answer, length, 400, message);
    }
}
