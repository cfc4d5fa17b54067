//! Tensors of large requests stand where they were received, whatever precedes them.

use coracle_gateway::Limits;
use coracle_model::{Description, Model, RunError, Signature, TensorSpec};
use coracle_protocol::client::{NamedTensor, grpc_infer, v2_binary};
use coracle_protocol::grpc::inference::ModelInferResponse;
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};
use coracle_tensor::{DType, Tensor, Values};
use serde_json::{Value, json};

use crate::client::send;
use crate::fixture::{Running, config, start_with};
use crate::grpc::call;

/// More than any reader takes at once, so that the body comes in pieces.
const N_NUMBERS: usize = 1 << 20;

/// Tells whether its input stands in the request's body, and gives its sum.
#[derive(Debug)]
struct Place {
    signature: Signature,
    description: Description,
}

impl Place {
    fn new() -> Self {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.to_owned(),
            dtype,
            shape: vec![None],
            columns: None,
            accepts_missing: false,
            accepts_integers: false,
        };
        Self {
            signature: Signature {
                keyed_outputs: Vec::new(),
                keyed_inputs: Vec::new(),
                unranked_inputs: Vec::new(),
                name_rules: Default::default(),
                inputs: vec![spec("x", DType::F32)],
                outputs: vec![spec("is_kept", DType::Bool), spec("sum", DType::F64)],
                default_outputs: vec![0, 1],
                columns: None,
            },
            description: Description::default(),
        }
    }
}

impl Model for Place {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let Values::F32(numbers) = inputs[0].values() else {
            panic!("the input is FP32");
        };
        let sum = numbers.iter().copied().map(f64::from).sum();
        Ok(vec![
            Tensor::from_values(Values::Bool(vec![numbers.is_kept()])),
            Tensor::from_values(Values::F64(vec![sum].into())),
        ])
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

fn server() -> Running {
    let config = config(Limits::default());
    let n_workers = config.n_workers;
    start_with(config, |_sum| {
        let place = Box::new(Place::new());
        let loaded = LoadedModel::new("place".to_owned(), place, LoadPhases::default());
        ModelTable::try_new([ServedModel::new(loaded, n_workers)]).unwrap()
    })
}

fn numbers() -> Vec<NamedTensor> {
    let numbers = (0..N_NUMBERS).map(|index| (index % 7) as f32);
    vec![NamedTensor {
        name: "x".to_owned(),
        tensor: Tensor::from_values(Values::F32(numbers.collect())),
    }]
}

fn sum() -> f64 {
    (0..N_NUMBERS).map(|index| (index % 7) as f64).sum()
}

#[test]
fn numbers_after_json_of_any_length_are_not_copied() {
    let server = server();
    let (body, json_length) = v2_binary(&numbers());
    let (json, raw) = body.split_at(json_length);
    // The answer in JSON.
    let json = str::from_utf8(json).unwrap().replace("true", "false");
    for n_blanks in 0..8 {
        let json = json.clone() + &" ".repeat(n_blanks);
        let length = json.len().to_string();
        let headers = [("inference-header-content-length", length.as_str())];
        let body = [json.as_bytes(), raw].concat();
        let path = "/v2/models/place/infer";
        let answer = send(server.address, "POST", path, &headers, &body);
        assert_eq!(answer.status, 200);
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        let data = |index: usize| &answer["outputs"][index]["data"];
        assert_eq!(data(0), &json!([true]), "copied after {n_blanks} blanks");
        assert_eq!(data(1), &json!([sum()]));
    }
}

#[test]
fn raw_contents_are_not_copied() {
    let server = server();
    for name in ["x", "xx", "xxx", "xxxx", "xxxxx"] {
        // A model of one input takes it under any name.
        let mut inputs = numbers();
        inputs[0].name = name.to_owned();
        let message = grpc_infer("place", "", &inputs);
        let path = "/inference.GRPCInferenceService/ModelInfer";
        let answer = call(&server, path, &[], message);
        let answer: ModelInferResponse = answer.message();
        assert_eq!(answer.raw_output_contents[0][..], [1], "copied: {name}");
        assert_eq!(answer.raw_output_contents[1][..], sum().to_le_bytes());
    }
}
