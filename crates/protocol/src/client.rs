//! Requests as a client writes them: tensors by name to bodies of V2, with JSON or binary data, and of gRPC.

use bytes::Bytes;
use coracle_tensor::Tensor;

use crate::grpc::frame;
use crate::grpc::inference::{InferInputTensor, ModelInferRequest};
use crate::{raw, render};

/// An input of a request: a tensor and the name that it goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// The name of the input.
    pub name: String,
    /// What it holds.
    pub tensor: Tensor,
}

/// Returns a V1 body: a row is a list (or a plain value) where there is one input, an object by name where there are several.
#[must_use]
pub fn v1_json(inputs: &[NamedTensor]) -> Vec<u8> {
    let mut out = b"{\"instances\":[".to_vec();
    let n_rows = inputs.iter().map(|input| input.tensor.n_rows()).max();
    render::separated(0..n_rows.unwrap_or(0), &mut out, |row, out| {
        if let [input] = inputs {
            return render::row(&input.tensor, row, out);
        }
        out.push(b'{');
        render::separated(inputs.iter(), out, |input, out| {
            render::string(&input.name, out);
            out.push(b':');
            // A column of a table is a value of the row, not a list of one.
            match input.tensor.shape() {
                [_, 1] => render::element(input.tensor.values(), row, out),
                _ => render::row(&input.tensor, row, out),
            }
        });
        out.push(b'}');
    });
    out.extend_from_slice(b"]}");
    out
}

/// Returns a V2 body with the data as JSON.
#[must_use]
pub fn v2_json(inputs: &[NamedTensor]) -> Vec<u8> {
    let mut out = b"{\"inputs\":[".to_vec();
    render::separated(inputs.iter(), &mut out, |input, out| {
        head(input, out);
        out.extend_from_slice(b",\"data\":");
        render::flat(input.tensor.values(), out);
        out.push(b'}');
    });
    out.extend_from_slice(b"]}");
    out
}

/// Returns a V2 body with the data as raw bytes after the JSON, and the length of the JSON (the header
/// `Inference-Header-Content-Length`). Outputs are asked for in the same form.
#[must_use]
pub fn v2_binary(inputs: &[NamedTensor]) -> (Vec<u8>, usize) {
    let mut out = b"{\"inputs\":[".to_vec();
    let mut binary = Vec::new();
    render::separated(inputs.iter(), &mut out, |input, out| {
        head(input, out);
        out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
        render::integer(raw::size_bytes(input.tensor.values()), out);
        out.extend_from_slice(b"}}");
        raw::encode(input.tensor.values(), &mut binary);
    });
    out.extend_from_slice(b"],\"parameters\":{\"binary_data_output\":true}}");
    let json_length = out.len();
    out.append(&mut binary);
    (out, json_length)
}

/// Returns a framed `ModelInferRequest` with raw contents.
#[must_use]
pub fn grpc_infer(model: &str, version: &str, inputs: &[NamedTensor]) -> Vec<u8> {
    let raw_of = |input: &NamedTensor| {
        let mut bytes = Vec::new();
        raw::encode(input.tensor.values(), &mut bytes);
        Bytes::from(bytes)
    };
    let tensor = |input: &NamedTensor| InferInputTensor {
        name: input.name.clone(),
        datatype: input.tensor.dtype().name().to_owned(),
        shape: input.tensor.shape().iter().map(wire_size).collect(),
        ..InferInputTensor::default()
    };
    frame(&ModelInferRequest {
        model_name: model.to_owned(),
        model_version: version.to_owned(),
        inputs: inputs.iter().map(tensor).collect(),
        raw_input_contents: inputs.iter().map(raw_of).collect(),
        ..ModelInferRequest::default()
    })
}

fn head(input: &NamedTensor, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    render::string(&input.name, out);
    out.extend_from_slice(b",\"shape\":[");
    render::separated(input.tensor.shape().iter(), out, |&size, out| {
        render::integer(size, out);
    });
    out.extend_from_slice(b"],\"datatype\":");
    render::string(input.tensor.dtype().name(), out);
}

fn wire_size(size: &usize) -> i64 {
    i64::try_from(*size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use coracle_tensor::Values;

    use super::*;

    fn inputs() -> [NamedTensor; 2] {
        let x = Tensor::try_new(vec![2, 1], Values::F64(vec![1.5, -2.0].into())).unwrap();
        let flags = Tensor::try_new(vec![2], Values::Bool(vec![true, false])).unwrap();
        let named = |name: &str, tensor| NamedTensor {
            name: name.to_owned(),
            tensor,
        };
        [named("X", x), named("f\"", flags)]
    }

    #[test]
    fn rows_of_v1_are_lists_or_objects() {
        let [x, flags] = inputs();
        let body = v1_json(std::slice::from_ref(&x));
        assert_eq!(body, br#"{"instances":[[1.5],[-2.0]]}"#);
        let body = v1_json(std::slice::from_ref(&flags));
        assert_eq!(body, br#"{"instances":[true,false]}"#);
        let body = String::from_utf8(v1_json(&[x, flags])).unwrap();
        assert_eq!(
            body,
            r#"{"instances":[{"X":1.5,"f\"":true},{"X":-2.0,"f\"":false}]}"#
        );
    }

    #[test]
    fn json_bodies_hold_every_input() {
        let body = String::from_utf8(v2_json(&inputs())).unwrap();
        assert_eq!(
            body,
            r#"{"inputs":[{"name":"X","shape":[2,1],"datatype":"FP64","data":[1.5,-2.0]},{"name":"f\"","shape":[2],"datatype":"BOOL","data":[true,false]}]}"#
        );
    }

    #[test]
    fn binary_bodies_have_raw_bytes_after_the_json() {
        let (body, json_length) = v2_binary(&inputs());
        let (json, binary) = body.split_at(json_length);
        assert!(json.ends_with(br#""parameters":{"binary_data_output":true}}"#));
        let sizes = String::from_utf8_lossy(json).matches("_size\":16").count();
        assert_eq!(sizes, 1, "two doubles");
        let expected = [1.5_f64.to_le_bytes(), (-2.0_f64).to_le_bytes()].concat();
        assert_eq!(binary, [&expected[..], &[1, 0]].concat());
    }

    #[test]
    fn messages_have_raw_contents() {
        use prost::Message as _;
        let framed = grpc_infer("iris", "2", &inputs());
        let message = ModelInferRequest::decode(&framed[5..]).unwrap();
        assert_eq!(
            (&*message.model_name, &*message.model_version),
            ("iris", "2")
        );
        assert_eq!(message.inputs[0].shape, [2, 1]);
        assert_eq!(message.raw_input_contents[1], Bytes::from_static(&[1, 0]));
    }
}
