//! The graph of a predictor, read into what each of its nodes does here. What is not served is refused with its place.

mod parameters;

use std::collections::BTreeSet;

use serde_json::Value;

use super::rules::{Server, containers};
use super::{SeldonDeploymentSpec, SeldonPredictor, SeldonUnit};
use crate::inference_service::is_name;

/// The most nodes of a graph.
const NODES_MAX: usize = 64;
/// The most nodes from the first to the last.
const DEPTH_MAX: usize = 16;
/// The most bytes of the name of a node's service, which is a label, too.
const SERVICE_BYTES_MAX: usize = 63;
/// Seldon's image of its epsilon-greedy router, without its tag.
const EPSILON_GREEDY_IMAGE: &str = "seldonio/mab_epsilon_greedy";
/// Seldon's image of its Thompson router, without its tag.
const THOMPSON_IMAGE: &str = "seldonio/mab_thompson_sampling";
/// The fields of a node.
const FIELDS: [&str; 12] = [
    "name",
    "children",
    "type",
    "implementation",
    "methods",
    "endpoint",
    "parameters",
    "modelUri",
    "serviceAccountName",
    "envSecretRefName",
    "storageInitializerImage",
    "logger",
];

/// A node with those below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// As it was written.
    pub unit: SeldonUnit,
    /// What it does.
    pub role: Role,
    /// The nodes below it.
    pub children: Vec<Self>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Its model is asked, and the children with what it answers.
    Model(Server),
    /// The children are asked, and its model with what they answer.
    OutputTransformer(Server),
    /// SIMPLE_MODEL: always the same answer.
    Fixed,
    /// RANDOM_ABTEST: the first child with this probability, else the second.
    AbTest {
        /// The parameter `ratioA`.
        ratio_a: f64,
    },
    /// SIMPLE_ROUTER: the first child.
    First,
    /// AVERAGE_COMBINER: the mean of what the children answer.
    Average,
    /// The best child, but with a probability one of the others.
    EpsilonGreedy {
        /// The probability.
        epsilon: f64,
        /// The best child as long as nothing is known.
        best_branch: Option<usize>,
        /// What random numbers begin with.
        seed: u64,
    },
    /// Each child as often as it is the best by the posterior.
    Thompson {
        /// What random numbers begin with.
        seed: u64,
    },
}

impl Role {
    /// Returns the server whose model the node is, if it is one.
    #[must_use]
    pub fn server(self) -> Option<Server> {
        match self {
            Self::Model(server) | Self::OutputTransformer(server) => Some(server),
            _ => None,
        }
    }

    /// Tells whether it is a router that learns.
    #[must_use]
    pub fn is_bandit(self) -> bool {
        matches!(self, Self::EpsilonGreedy { .. } | Self::Thompson { .. })
    }
}

impl Node {
    /// Tells whether it is one model and nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.children.is_empty() && self.role.server().is_some()
    }

    /// Returns it and all nodes below it, each before those below it.
    #[must_use]
    pub fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        all.extend(self.children.iter().flat_map(Self::all));
        all
    }
}

/// Returns the name of the service of a node's model.
#[must_use]
pub fn service_name(deployment: &str, predictor: &str, node: &str) -> String {
    format!("{deployment}-{predictor}-{node}")
}

/// Returns a predictor's nodes as they were written, each with its place and before those below it.
///
/// # Errors
/// If there are too many or too deep ones, or what is below one is no node.
pub(super) fn units(
    place: &str,
    predictor: &SeldonPredictor,
) -> Result<Vec<(String, SeldonUnit)>, String> {
    let mut found = Vec::new();
    let mut waiting = vec![(format!("{place}.graph"), predictor.graph.clone(), 1)];
    while let Some((place, unit, depth)) = waiting.pop() {
        if found.len() >= NODES_MAX || depth > DEPTH_MAX {
            return Err(format!(
                "{place}: a graph has at most {NODES_MAX} nodes here, and {DEPTH_MAX} from the first to the last"
            ));
        }
        let children = unit.children.iter().flatten().enumerate();
        let children = children.map(|(index, child)| {
            let place = format!("{place}.children[{index}]");
            let child = child_unit(&place, &child.0)?;
            Ok((place, child, depth + 1))
        });
        let mut children: Vec<_> = children.collect::<Result<_, String>>()?;
        children.reverse();
        waiting.append(&mut children);
        found.push((place, unit));
    }
    Ok(found)
}

fn child_unit(place: &str, child: &Value) -> Result<SeldonUnit, String> {
    let fields = child.as_object();
    let fields = fields.ok_or_else(|| format!("{place}: a node is an object"))?;
    if let Some(unknown) = fields
        .keys()
        .find(|field| !FIELDS.contains(&field.as_str()))
    {
        return Err(format!(
            "{place}.{unknown}: a node has no such field; it has {}",
            FIELDS.join(", ")
        ));
    }
    serde_json::from_value(child.clone()).map_err(|error| format!("{place}: {error}"))
}

/// Reads the graph of a predictor of the deployment `name`.
///
/// # Errors
/// With the place of what is not served.
pub fn read(
    (name, place): (&str, &str),
    spec: &SeldonDeploymentSpec,
    predictor: &SeldonPredictor,
) -> Result<Node, String> {
    let reader = Reader { spec, predictor };
    let n_nodes = units(place, predictor)?.len();
    let node = reader.node(&format!("{place}.graph"), &predictor.graph)?;
    if n_nodes == 1 && node.is_plain() {
        return Ok(node);
    }
    let mut names = BTreeSet::new();
    for one in node.all() {
        let own = one.unit.name.as_str();
        if !is_name(own) {
            return Err(format!(
                "{place}.graph: '{own}' is no name of a node of several here: lower case letters, digits and '-', beginning with a letter"
            ));
        }
        if !names.insert(own) {
            return Err(format!("{place}.graph: two nodes are named '{own}'"));
        }
        let service = service_name(name, &predictor.name, own);
        if service.len() > SERVICE_BYTES_MAX {
            return Err(format!(
                "{place}.graph: the service of node '{own}' would be {service}, which is longer than {SERVICE_BYTES_MAX} characters"
            ));
        }
    }
    Ok(node)
}

struct Reader<'a> {
    spec: &'a SeldonDeploymentSpec,
    predictor: &'a SeldonPredictor,
}

impl Reader<'_> {
    fn node(&self, place: &str, unit: &SeldonUnit) -> Result<Node, String> {
        if unit.name.is_empty() {
            return Err(format!("{place}.name: the node has no name"));
        }
        let n_children = unit.children.as_ref().map_or(0, Vec::len);
        let role = self.role(place, unit, n_children)?;
        check_type(place, unit, role)?;
        let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let has_methods = unit.methods.as_ref().is_some_and(|all| !all.is_empty());
        for (field, is_there) in [
            ("logger", unit.logger.is_some()),
            ("methods", has_methods),
            (
                "envSecretRefName",
                is_set(&unit.env_secret_ref_name) && role.server().is_none(),
            ),
            (
                "modelUri",
                is_set(&unit.model_uri) && role.server().is_none(),
            ),
        ] {
            if is_there {
                return Err(format!("{place}.{field} is not served here; remove it"));
            }
        }
        let children = unit.children.iter().flatten().enumerate();
        let children = children.map(|(index, child)| {
            let place = format!("{place}.children[{index}]");
            self.node(&place, &child_unit(&place, &child.0)?)
        });
        Ok(Node {
            unit: unit.clone(),
            role,
            children: children.collect::<Result<_, String>>()?,
        })
    }

    fn role(&self, place: &str, unit: &SeldonUnit, n_children: usize) -> Result<Role, String> {
        let name = unit.implementation.as_deref().unwrap_or_default();
        if let Some(server) = Server::find(name) {
            parameters::check_server(place, self.spec, (name, unit))?;
            return Ok(match unit.unit_type.as_deref() {
                Some("OUTPUT_TRANSFORMER") => Role::OutputTransformer(server),
                _ => Role::Model(server),
            });
        }
        let name = match name {
            "" | "UNKNOWN_IMPLEMENTATION" => self.of_image(place, unit)?,
            name => name,
        };
        let children = |allowed: &str, is_allowed: bool| match is_allowed {
            true => Ok(()),
            false => Err(format!(
                "{place}.children: {name} has {allowed}, and here are {n_children}"
            )),
        };
        match name {
            "SIMPLE_MODEL" => {
                children("none", n_children == 0)?;
                if self.spec.protocol() != "seldon" {
                    return Err(format!(
                        "{place}.implementation: SIMPLE_MODEL answers with the protocol seldon only"
                    ));
                }
            }
            "RANDOM_ABTEST" => children("two", n_children == 2)?,
            "SIMPLE_ROUTER" | "AVERAGE_COMBINER" | "EPSILON_GREEDY" | "THOMPSON_SAMPLING" => {
                children("one or more", n_children > 0)?;
            }
            other => {
                return Err(format!(
                    "{place}.implementation: {other} is not served here; SKLEARN_SERVER, XGBOOST_SERVER, MLFLOW_SERVER, TENSORFLOW_SERVER, RANDOM_ABTEST, AVERAGE_COMBINER, SIMPLE_MODEL, SIMPLE_ROUTER, EPSILON_GREEDY and THOMPSON_SAMPLING are"
                ));
            }
        }
        parameters::role(place, (name, unit), n_children)
    }

    /// Returns what a container of Seldon's own does, if it is one of its routers.
    fn of_image(&self, place: &str, unit: &SeldonUnit) -> Result<&'static str, String> {
        let image = image(self.predictor, &unit.name).unwrap_or_default();
        match repository(image) {
            EPSILON_GREEDY_IMAGE => Ok("EPSILON_GREEDY"),
            THOMPSON_IMAGE => Ok("THOMPSON_SAMPLING"),
            _ => Err(format!(
                "{place}.implementation: containers of one's own ('{}') are not served here; SKLEARN_SERVER, XGBOOST_SERVER, MLFLOW_SERVER and TENSORFLOW_SERVER are, and Seldon's routers {EPSILON_GREEDY_IMAGE} and {THOMPSON_IMAGE}",
                unit.name
            )),
        }
    }
}

/// Returns the image of a node's container.
fn image<'a>(predictor: &'a SeldonPredictor, node: &str) -> Option<&'a str> {
    let mut all = containers(predictor).map(|(_, container)| container);
    all.find(|container| container["name"] == node)?
        .get("image")?
        .as_str()
}

/// Returns the repository of an image, without its registry where that is Docker's, and without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let image = image.split('@').next().unwrap_or_default();
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

/// Checks that a node's type is that of its implementation, where it has one.
fn check_type(place: &str, unit: &SeldonUnit, role: Role) -> Result<(), String> {
    let allowed: &[&str] = match role {
        // Seldon makes a MODEL of every prepackaged server.
        Role::Model(_) => &["MODEL", "TRANSFORMER"],
        Role::OutputTransformer(_) => &["OUTPUT_TRANSFORMER"],
        Role::Fixed => &["MODEL"],
        Role::Average => &["COMBINER"],
        Role::AbTest { .. } | Role::First | Role::EpsilonGreedy { .. } | Role::Thompson { .. } => {
            &["ROUTER"]
        }
    };
    match unit.unit_type.as_deref() {
        None | Some("" | "UNKNOWN_TYPE") => Ok(()),
        Some(own) if allowed.contains(&own) => Ok(()),
        Some(own) => {
            let implementation = unit.implementation.as_deref().unwrap_or_default();
            let allowed = match role {
                Role::Model(_) => "MODEL, TRANSFORMER and OUTPUT_TRANSFORMER are".to_owned(),
                _ => format!("{} is", allowed.join(", ")),
            };
            Err(format!(
                "{place}.type: {own} is not served here with {implementation}; {allowed}"
            ))
        }
    }
}

#[cfg(test)]
mod tests;
