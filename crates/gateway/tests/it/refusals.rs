//! Every refusal of every protocol, over loopback: its status and its whole body.
//!
//! The tables are by protocol; each has models of every kind of signature to be refused by. TensorFlow Serving's gRPC is in `tfs_grpc`.

mod extensions;
mod grpc;
mod tfs;
mod v1;
mod v2;

use coracle_gateway::{Limits, ServerConfig};
use coracle_model::{ColumnPlace, Description, Model, RunError, Signature, TensorSpec};
use coracle_protocol::error_body;
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};

use crate::client::{Answer, send};
use crate::fixture::{Running, config, start_with};

/// A model of any signature; its answers are zeros.
#[derive(Debug)]
struct Blank {
    signature: Signature,
    description: Description,
}

impl Model for Blank {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let n_rows = inputs.first().map_or(0, Tensor::n_rows);
        let answer = |&output: &usize| {
            let spec = &self.signature.outputs[output];
            let shape: Vec<usize> = spec
                .shape
                .iter()
                .map(|size| size.unwrap_or(n_rows))
                .collect();
            let n_elements = shape.iter().product();
            let values = match spec.dtype {
                DType::Bytes => {
                    Values::Bytes(std::iter::repeat_n("a", n_elements).collect::<ByteStrings>())
                }
                _ => Values::F64(vec![0.0; n_elements].into()),
            };
            Tensor::try_new(shape, values).unwrap()
        };
        Ok(outputs.iter().map(answer).collect())
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        1
    }
}

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    }
}

fn named(spec: TensorSpec, columns: [&str; 2]) -> TensorSpec {
    TensorSpec {
        columns: Some(columns.map(str::to_owned).to_vec()),
        ..spec
    }
}

fn signature(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
    Signature {
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        name_rules: Default::default(),
        inputs,
        outputs,
        default_outputs: vec![0],
        columns: None,
    }
}

/// Models by name, one of each kind of signature.
fn signatures() -> Vec<(&'static str, Signature)> {
    let table = || spec("X", DType::F64, &[None, Some(2)]);
    let number = || spec("predict", DType::F64, &[None]);
    let scores = || {
        let scores = spec("predict_proba", DType::F64, &[None, Some(2)]);
        named(scores, ["no", "yes"])
    };
    let place = |name: &str, input| ColumnPlace {
        name: name.to_owned(),
        input,
    };
    let column = |name: &str, dtype| spec(name, dtype, &[None]);
    let mut mixed = signature(
        vec![column("a", DType::Bytes), column("c", DType::F64)],
        vec![number()],
    );
    mixed.columns = Some(vec![
        place("a", Some(0)),
        place("b", None),
        place("c", Some(1)),
    ]);
    let mut texts = signature(vec![column("t", DType::Bytes)], vec![number()]);
    texts.columns = Some(vec![place("t", Some(0))]);
    let single = |name: &str, size| spec(name, DType::F32, &[None, Some(size)]);
    vec![
        // A table whose columns have names; a classifier.
        (
            "classifier",
            signature(vec![named(table(), ["a", "b"])], vec![number(), scores()]),
        ),
        // A table whose columns have none, answered with texts.
        (
            "labels",
            signature(vec![table()], vec![spec("predict", DType::Bytes, &[None])]),
        ),
        // A column of texts, one that is not read, a column of numbers.
        ("mixed", mixed),
        ("texts", texts),
        // Two tensors by name.
        (
            "pair",
            signature(vec![single("p", 3), single("q", 1)], vec![number()]),
        ),
        (
            "cube",
            signature(
                vec![spec("X", DType::F32, &[None, Some(2), Some(2)])],
                vec![number()],
            ),
        ),
        (
            "words",
            signature(
                vec![spec("X", DType::Bytes, &[None, Some(1), Some(2)])],
                vec![number()],
            ),
        ),
    ]
}

/// The most elements of a request here.
const ELEMENTS_MAX: usize = 100;

fn start() -> Running {
    start_as(config(Limits {
        elements_max: ELEMENTS_MAX,
        ..Limits::default()
    }))
}

fn start_as(config: ServerConfig) -> Running {
    let n_workers = config.n_workers;
    start_with(config, |sum| {
        let others = signatures().into_iter().map(|(name, signature)| {
            let model = Blank {
                signature,
                description: Description::default(),
            };
            let model = Box::new(model);
            let loaded = LoadedModel::new(name.to_owned(), model, LoadPhases::default());
            ServedModel::new(loaded, n_workers)
        });
        ModelTable::try_new(others.chain([sum])).unwrap()
    })
}

/// A request that is refused: path, body, status, and the message, all of it but the place in the JSON that may follow.
type Refusal<'a> = (&'a str, &'a str, u16, &'a str);

fn assert_refused(answer: &Answer, what: &str, status: u16, message: &str) {
    let expected = String::from_utf8(error_body(message)).unwrap();
    let said = expected.strip_suffix("\"}").unwrap();
    let rest = answer.body.strip_prefix(said);
    assert!(
        rest.is_some_and(|rest| rest == "\"}" || rest.starts_with(" at line ")),
        "{what}: {}, expected {expected}",
        answer.body
    );
    assert_eq!(answer.status, status, "{what}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{what}"
    );
}

/// Posts what is refused.
fn check(refusals: &[Refusal<'_>]) {
    let server = start();
    for (path, body, status, message) in refusals {
        let answer = send(server.address, "POST", path, &[], body.as_bytes());
        assert_refused(&answer, &format!("{path} {body}"), *status, message);
    }
}
