//! What a program answered last, given again to the same caller: nobody has read it, so it is for requests that ask the same in the same protocol.

use std::sync::Arc;

use coracle_base::Code;
use coracle_protocol::grpc::Message as _;
use coracle_protocol::grpc::inference::ModelInferResponse;

use super::stand_in::{marked, marked_of_program, with_field};
use super::undeclared::Asked;
use crate::codec::{Codec, Encoded, StandIn, StoodIn};

/// The id of a `ModelInferResponse` (3) as none.
const NO_ID: [u8; 2] = [0x1a, 0];

/// An answer of a program as it came.
#[derive(Debug)]
pub(crate) struct Came {
    /// What it answers.
    pub(crate) asked: Asked,
    /// In gRPC with its frame.
    pub(crate) body: Vec<u8>,
    /// The length of the JSON where raw tensor data follows it.
    pub(crate) json_length: Option<usize>,
}

impl Came {
    pub(super) fn n_bytes(&self) -> usize {
        self.body.len() + self.asked.n_bytes() + size_of::<Self>()
    }
}

/// Returns an answer once more, as one that says so, for a request with this id; `None` if that asks something else, or what came was no answer.
pub(crate) fn again(
    came: &Arc<Came>,
    codec: &Codec,
    (asked, id): (&Asked, Option<&str>),
    code: Code,
) -> Option<Encoded> {
    if came.asked != *asked {
        return None;
    }
    let n_json = came.json_length.unwrap_or(came.body.len());
    let (json, data) = came.body.split_at_checked(n_json)?;
    let (body, json_length) = match codec {
        Codec::V2 { .. } => {
            let json = with_field(json, "id", |_before| Some(id.map(Into::into)))?;
            let json_length = came.json_length.map(|_| json.len());
            ([&json, data].concat(), json_length)
        }
        Codec::Grpc => {
            // Of a field that comes again the last one counts.
            let with_id = id.map(|id| ModelInferResponse {
                id: id.to_owned(),
                ..ModelInferResponse::default()
            });
            let id = with_id.map_or(NO_ID.to_vec(), |with_id| with_id.encode_to_vec());
            ([came.body.as_slice(), &id].concat(), None)
        }
        _ => {
            with_field(json, "", |_before| Some(None))?;
            (came.body.clone(), None)
        }
    };
    let encoded = Encoded {
        body,
        json_length,
        phases: None,
        answered: None,
        fallback: None,
        from_cache: false,
    };
    let by = StandIn::LastGood;
    let stood_in = StoodIn::new(code, by);
    match codec {
        Codec::V2 { .. } => marked_of_program(codec, encoded, stood_in),
        _ => marked(codec, encoded, stood_in),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use coracle_protocol::grpc::inference::{InferParameter, ModelInferRequest, ParameterChoice};
    use coracle_protocol::grpc::{decode, frame};
    use serde_json::Value;

    use super::super::undeclared::asked;
    use super::*;

    const V1: Codec = Codec::V1 { method: None };
    const V2: Codec = Codec::V2 {
        method: None,
        json_length: None,
    };

    /// Asks the first, which `answer` answers, then the second.
    fn given(codec: &Codec, [first, second]: [&[u8]; 2], answer: &[u8]) -> Option<Encoded> {
        let of = |body: &[u8]| asked("/a", codec, &Bytes::copy_from_slice(body)).unwrap();
        let came = Came {
            asked: of(first).0,
            body: answer.to_vec(),
            json_length: None,
        };
        let (asked, id) = of(second);
        let asked = (&asked, id.as_deref());
        again(&Arc::new(came), codec, asked, Code::Unavailable)
    }

    fn tensor(n_rows: usize, more: &str) -> String {
        format!(
            r#"{{"inputs": [{{"name": "X", "shape": [{n_rows}, 1], "datatype": "FP64", "data": []}}]{more}}}"#
        )
    }

    #[test]
    fn what_asks_the_same_has_the_same_answer_with_its_own_id() {
        let answer = r#"{"model_name":"a","id":"1","outputs":[{"name":"y","data":[1.50]}]}"#;
        let [first, second] = [tensor(1, r#", "id": "1""#), tensor(1, r#", "id": "2""#)];
        let found = given(
            &V2,
            [first.as_bytes(), second.as_bytes()],
            answer.as_bytes(),
        );
        let found = found.unwrap();
        assert_eq!(
            std::str::from_utf8(&found.body).unwrap(),
            r#"{"parameters":{"fallback":"last-good"},"id":"2","model_name":"a","outputs":[{"name":"y","data":[1.50]}]}"#
        );
        assert_eq!(found.fallback.unwrap().by, StandIn::LastGood);
        // An id of nobody's is none.
        let second = tensor(1, "");
        let found = given(
            &V2,
            [first.as_bytes(), second.as_bytes()],
            answer.as_bytes(),
        );
        let found: Value = serde_json::from_slice(&found.unwrap().body).unwrap();
        assert_eq!(found.get("id"), None);
        let rows: &[u8] = br#"{"instances": [[1], [2]]}"#;
        let found = given(&V1, [rows, rows], br#"{"predictions": [1, 2]}"#).unwrap();
        assert_eq!(found.body, br#"{"predictions": [1, 2]}"#);
        for none in [&b""[..], b"<html>", b"[1]", b"{\"predictions\": "] {
            assert_eq!(given(&V1, [rows, rows], none), None, "{none:?}");
        }
    }

    #[test]
    fn another_question_has_another_answer() {
        let answer = br#"{"model_name":"a","outputs":[]}"#;
        for (first, second) in [
            (tensor(1, ""), tensor(2, "")),
            (tensor(1, ""), tensor(1, r#", "outputs": [{"name": "y"}]"#)),
            (
                tensor(1, r#", "outputs": [{"name": "y"}]"#),
                tensor(
                    1,
                    r#", "outputs": [{"name": "y", "parameters": {"binary_data": true}}]"#,
                ),
            ),
            (
                tensor(1, ""),
                tensor(1, r#", "parameters": {"binary_data_output": true}"#),
            ),
            (
                tensor(1, r#", "parameters": {"method": "predict_proba"}"#),
                tensor(1, ""),
            ),
        ] {
            let both = [first.as_bytes(), second.as_bytes()];
            assert_eq!(given(&V2, both, answer), None, "{first} {second}");
            assert!(given(&V2, [both[0], both[0]], answer).is_some());
        }
        let rows = [
            &br#"{"instances": [[1], [2]]}"#[..],
            br#"{"instances": [[1]]}"#,
        ];
        assert_eq!(given(&V1, rows, br#"{"predictions": [1, 2]}"#), None);
        for other in [
            &br#"{"instances": [[1], [2]], "parameters": {"method": "predict_proba"}}"#[..],
            br#"{"signature_name": "predict_proba", "instances": [[1], [2]]}"#,
        ] {
            let predictions = br#"{"predictions": [1, 2]}"#;
            assert_eq!(given(&V1, [other, rows[0]], predictions), None);
            assert_eq!(given(&V1, [rows[0], other], predictions), None);
            assert!(given(&V1, [other, other], predictions).is_some());
        }
        let asks = |method: Option<&str>| {
            let mut request = ModelInferRequest::default();
            request.inputs.push(Default::default());
            request.inputs[0].shape = vec![1, 2];
            if let Some(method) = method {
                let method = ParameterChoice::StringParam(method.to_owned());
                let method = InferParameter {
                    parameter_choice: Some(method),
                };
                request.parameters.insert("method".to_owned(), method);
            }
            request.encode_to_vec()
        };
        let (shares, labels) = (asks(Some("predict_proba")), asks(None));
        let message = frame(&ModelInferResponse::default());
        assert_eq!(given(&Codec::Grpc, [&shares, &labels], &message), None);
        assert!(given(&Codec::Grpc, [&shares, &shares], &message).is_some());
        // What is written to its caller's memory is not in the answer.
        let region = r#", "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]"#;
        let (asked, _id) = asked("/a", &V2, &Bytes::from(tensor(1, region))).unwrap();
        assert!(!asked.is_answered_here());
    }

    /// Each model of a program, and each version, answers for itself.
    #[test]
    fn another_model_or_version_has_another_answer() {
        let of_model = |name: &str, version: &str| {
            let mut request = ModelInferRequest {
                model_name: name.to_owned(),
                model_version: version.to_owned(),
                ..ModelInferRequest::default()
            };
            request.inputs.push(Default::default());
            request.inputs[0].shape = vec![1, 2];
            request.encode_to_vec()
        };
        let message = frame(&ModelInferResponse::default());
        let of_a = of_model("a", "1");
        for other in [of_model("b", "1"), of_model("a", "2"), of_model("a", "")] {
            assert_eq!(given(&Codec::Grpc, [&of_a, &other], &message), None);
        }
        assert!(given(&Codec::Grpc, [&of_a, &of_a], &message).is_some());
        let body = Bytes::from(tensor(1, ""));
        let at = |target: &str| asked(target, &V2, &body).unwrap().0;
        let path = "/v2/models/a/infer";
        for other in [
            "/v2/models/b/infer",
            "/v2/models/a/versions/2/infer",
            "/v2/models/a/infer?x=1",
        ] {
            assert_ne!(at(path), at(other), "{other}");
        }
        assert_eq!(at(path), at(path));
    }

    #[test]
    fn a_message_has_the_id_of_the_one_who_asks() {
        let asks = |id: &str| {
            let mut request = ModelInferRequest {
                id: id.to_owned(),
                ..ModelInferRequest::default()
            };
            request.inputs.push(Default::default());
            request.inputs[0].shape = vec![1, 2];
            request.encode_to_vec()
        };
        let answer = ModelInferResponse {
            model_name: "a".to_owned(),
            id: "1".to_owned(),
            ..ModelInferResponse::default()
        };
        for id in ["2", ""] {
            let both = [&*asks("1"), &*asks(id)];
            let found = given(&Codec::Grpc, both, &frame(&answer)).unwrap();
            let length = u32::from_be_bytes(found.body[1..5].try_into().unwrap());
            assert_eq!(length as usize, found.body.len() - 5);
            let message = Bytes::copy_from_slice(&found.body[5..]);
            let message: ModelInferResponse = decode(message).unwrap();
            assert_eq!(
                (message.model_name.as_str(), message.id.as_str()),
                ("a", id)
            );
            let by = ParameterChoice::StringParam("last-good".to_owned());
            assert_eq!(message.parameters["fallback"].parameter_choice, Some(by));
        }
    }
}
