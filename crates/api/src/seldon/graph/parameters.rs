//! What the nodes of a graph are told: `parameters`, by implementation.

use super::Role;
use crate::seldon::{SeldonDeploymentSpec, SeldonUnit};

/// Those of TENSORFLOW_SERVER: what its model is called behind it, and what a signature and its tensors are called. A graph of ONNX is one signature, and a
/// model of several tensors has no answer in Seldon's protocol, so that they choose nothing.
const OF_TENSORFLOW: [&str; 4] = [
    "signature_name",
    "model_name",
    "model_input",
    "model_output",
];

/// Checks that a prepackaged server has the deployment's protocol, and its parameters.
pub(super) fn check_server(
    place: &str,
    spec: &SeldonDeploymentSpec,
    (implementation, unit): (&str, &SeldonUnit),
) -> Result<(), String> {
    if implementation == "TENSORFLOW_SERVER" && spec.protocol() == "v2" {
        return Err(format!(
            "{place}.implementation: TENSORFLOW_SERVER is served with the protocols tensorflow and seldon"
        ));
    }
    for (index, parameter) in unit.parameters.iter().flatten().enumerate() {
        let place = format!("{place}.parameters[{index}]");
        let (name, value) = (parameter.name.as_str(), parameter.value.as_str());
        match (implementation, name, value) {
            (
                "SKLEARN_SERVER",
                "method",
                "predict" | "predict_proba" | "decision_function" | "transform",
            ) if spec.protocol() == "seldon" => {}
            ("SKLEARN_SERVER", "method", _) if spec.protocol() == "seldon" => {
                return Err(format!(
                    "{place}: method '{value}' is not served here; predict_proba, predict, decision_function and transform are"
                ));
            }
            // Names are compared with the model's columns either way.
            ("MLFLOW_SERVER", "xtype", "ndarray" | "DataFrame") => {}
            ("TENSORFLOW_SERVER", name, _) if OF_TENSORFLOW.contains(&name) => {}
            _ => {
                return Err(format!(
                    "{place}: '{name}' says nothing to {implementation} with the protocol {}",
                    spec.protocol()
                ));
            }
        }
    }
    Ok(())
}

/// Reads the parameters of what is no model of a server.
pub(super) fn role(
    place: &str,
    (implementation, unit): (&str, &SeldonUnit),
    n_children: usize,
) -> Result<Role, String> {
    let known: &[&str] = match implementation {
        "RANDOM_ABTEST" => &["ratioA"],
        "EPSILON_GREEDY" => &[
            "n_branches",
            "epsilon",
            "best_branch",
            "seed",
            "verbose",
            "history",
            "branch_names",
        ],
        "THOMPSON_SAMPLING" => &["n_branches", "seed", "verbose", "history", "branch_names"],
        _ => &[],
    };
    for (index, parameter) in unit.parameters.iter().flatten().enumerate() {
        if !known.contains(&parameter.name.as_str()) {
            return Err(format!(
                "{place}.parameters[{index}]: '{}' says nothing to {implementation}",
                parameter.name
            ));
        }
    }
    let read = Read { place, unit };
    if let Some(n_branches) = read.whole("n_branches", n_children)?
        && n_branches != n_children
    {
        return Err(format!(
            "{place}.parameters: n_branches is {n_branches}, and there are {n_children} children"
        ));
    }
    Ok(match implementation {
        "RANDOM_ABTEST" => Role::AbTest {
            ratio_a: read.share("ratioA", 0.5)?,
        },
        "SIMPLE_ROUTER" => Role::First,
        "AVERAGE_COMBINER" => Role::Average,
        "EPSILON_GREEDY" => Role::EpsilonGreedy {
            epsilon: read.share("epsilon", 0.1)?,
            best_branch: read.whole("best_branch", n_children.saturating_sub(1))?,
            seed: read.seed()?,
        },
        "THOMPSON_SAMPLING" => Role::Thompson { seed: read.seed()? },
        _ => Role::Fixed,
    })
}

struct Read<'a> {
    place: &'a str,
    unit: &'a SeldonUnit,
}

impl Read<'_> {
    fn wrong<T>(&self, name: &str, value: &str, allowed: &str) -> Result<T, String> {
        let place = self.place;
        Err(format!(
            "{place}.parameters: {name} is '{value}', and must be {allowed}"
        ))
    }

    fn share(&self, name: &str, default: f64) -> Result<f64, String> {
        let Some(text) = self.unit.parameter(name) else {
            return Ok(default);
        };
        match text.trim().parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => self.wrong(name, text, "a number from 0 to 1"),
        }
    }

    fn whole(&self, name: &str, most: usize) -> Result<Option<usize>, String> {
        let Some(text) = self.unit.parameter(name) else {
            return Ok(None);
        };
        match text.trim().parse::<usize>() {
            Ok(number) if number <= most || name == "n_branches" => Ok(Some(number)),
            _ => self.wrong(name, text, &format!("a whole number from 0 to {most}")),
        }
    }

    fn seed(&self) -> Result<u64, String> {
        let Some(text) = self.unit.parameter("seed") else {
            return Ok(0);
        };
        text.trim()
            .parse()
            .or_else(|_| self.wrong("seed", text, "a whole number of 0 or more"))
    }
}
