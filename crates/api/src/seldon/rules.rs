//! The rules for SeldonDeployments: first those of Seldon's webhook, in its words; then what is served here, by name.
//!
//! What is served of a graph is in [`graph`].

use std::collections::BTreeSet;

use serde_json::Value;

use super::graph::{self, Node};
use super::{SeldonComponent, SeldonDeploymentSpec, SeldonPredictor, SeldonUnit};
use crate::inference_service::is_name;

/// The prepackaged servers of Seldon.
const PREPACKAGED: [&str; 7] = [
    "SKLEARN_SERVER",
    "XGBOOST_SERVER",
    "MLFLOW_SERVER",
    "TENSORFLOW_SERVER",
    "TRITON_SERVER",
    "HUGGINGFACE_SERVER",
    "TEMPO_SERVER",
];
/// The one whose model need not be anywhere.
const WITHOUT_URI: &str = "HUGGINGFACE_SERVER";
/// Those that speak TensorFlow's protocol.
const WITH_TENSORFLOW: [&str; 1] = ["TENSORFLOW_SERVER"];
/// The implementations that are no servers: Seldon's own, and its bandit routers under the names that they have here.
const BUILT_IN: [&str; 6] = [
    "SIMPLE_MODEL",
    "SIMPLE_ROUTER",
    "RANDOM_ABTEST",
    "AVERAGE_COMBINER",
    "EPSILON_GREEDY",
    "THOMPSON_SAMPLING",
];
/// The annotation of a predictor that does without an orchestrator.
const NO_ENGINE: &str = "seldon.io/no-engine";
/// The annotation that names a predictor's service.
const SERVICE_NAME: &str = "seldon.io/svc-name";
/// What an orchestrator needs for Kafka.
const KAFKA: [&str; 3] = ["KAFKA_BROKER", "KAFKA_INPUT_TOPIC", "KAFKA_OUTPUT_TOPIC"];

/// A prepackaged server whose models are read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// SKLEARN_SERVER
    Sklearn,
    /// XGBOOST_SERVER
    Xgboost,
    /// MLFLOW_SERVER
    Mlflow,
    /// TENSORFLOW_SERVER, of a model that was exported to ONNX
    Tensorflow,
}

impl Server {
    /// Returns the server that is called so.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        match name {
            "SKLEARN_SERVER" => Some(Self::Sklearn),
            "XGBOOST_SERVER" => Some(Self::Xgboost),
            "MLFLOW_SERVER" => Some(Self::Mlflow),
            "TENSORFLOW_SERVER" => Some(Self::Tensorflow),
            _ => None,
        }
    }

    /// Returns the name of the format of its models, as InferenceServices have it.
    #[must_use]
    pub fn format(self) -> &'static str {
        match self {
            Self::Sklearn => "sklearn",
            Self::Xgboost => "xgboost",
            Self::Mlflow => "mlflow",
            Self::Tensorflow => "onnx",
        }
    }
}

impl SeldonDeploymentSpec {
    /// Returns the protocol: `seldon`, `tensorflow` or `v2`.
    #[must_use]
    pub fn protocol(&self) -> &str {
        match self.protocol.as_deref() {
            None | Some("") => "seldon",
            Some("kfserving") => "v2",
            Some(protocol) => protocol,
        }
    }

    /// Returns the method that a node's model answers with, where the graph decides that: in Seldon's protocol scikit-learn's models say it by `method`.
    /// Without that transformers transform, and others give probabilities.
    #[must_use]
    pub fn method<'a>(&self, unit: &'a SeldonUnit) -> Option<&'a str> {
        let server = unit.implementation.as_deref().and_then(Server::find);
        if server != Some(Server::Sklearn) || self.protocol() != "seldon" {
            return None;
        }
        let default = match unit.unit_type.as_deref() {
            Some("TRANSFORMER" | "OUTPUT_TRANSFORMER") => "transform",
            _ => "predict_proba",
        };
        Some(unit.parameter("method").unwrap_or(default))
    }
}

impl SeldonPredictor {
    /// Tells whether it gets copies only.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.shadow == Some(true)
    }

    /// Returns the value of one of its annotations.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

impl SeldonUnit {
    /// Returns the value of a parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter().flatten();
        let found = parameters.find(|parameter| parameter.name == name);
        found.map(|parameter| parameter.value.as_str())
    }

    /// Returns the transport that its endpoint names.
    fn transport(&self) -> Option<String> {
        let named = self.endpoint.as_ref()?.0.get("type")?.as_str()?;
        (!named.is_empty()).then(|| named.to_owned())
    }
}

/// Returns the containers of a predictor's components, with the place of their component.
pub fn containers(predictor: &SeldonPredictor) -> impl Iterator<Item = (usize, &Value)> {
    let components = predictor.component_specs.iter().flatten().enumerate();
    components.flat_map(|(place, component)| {
        let containers = component
            .spec
            .as_ref()
            .and_then(|spec| spec.0.get("containers"));
        let containers = containers.and_then(Value::as_array).into_iter().flatten();
        containers.map(move |container| (place, container))
    })
}

/// Checks a SeldonDeployment that has passed its schema.
///
/// # Errors
/// The first rule that is broken: Seldon's in its words, ours with the place of what is not served.
pub fn check(name: &str, spec: &SeldonDeploymentSpec) -> Result<(), String> {
    if spec.predictors.is_empty() {
        return Err("Graph contains no predictors".to_owned());
    }
    check_words(spec)?;
    let mut names = BTreeSet::new();
    for predictor in &spec.predictors {
        if !names.insert(predictor.name.as_str()) {
            return Err("Duplicate predictor name".to_owned());
        }
    }
    check_service_names(spec)?;
    let mut transports = BTreeSet::new();
    for (index, predictor) in spec.predictors.iter().enumerate() {
        let units = graph::units(&format!("spec.predictors[{index}]"), predictor)?;
        if predictor.annotation(NO_ENGINE).is_some() && units.len() > 1 {
            let message = "Running without engine only valid for single element graphs";
            return Err(message.to_owned());
        }
        for (_, unit) in &units {
            check_unit(spec, predictor, unit)?;
            transports.extend(unit.transport());
        }
    }
    check_transports(spec, &transports)?;
    check_traffic(spec)?;
    check_served(name, spec)
}

fn check_service_names(spec: &SeldonDeploymentSpec) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let given = spec.predictors.iter();
    for name in given.filter_map(|predictor| predictor.annotation(SERVICE_NAME)) {
        if !names.insert(name) {
            return Err(format!(
                "Found duplicate service name in {SERVICE_NAME} with value {name}"
            ));
        }
    }
    Ok(())
}

/// Checks the transports that nodes' endpoints name against each other, and against the deployment's.
fn check_transports(
    spec: &SeldonDeploymentSpec,
    transports: &BTreeSet<String>,
) -> Result<(), String> {
    let own = spec.transport.as_deref().filter(|own| !own.is_empty());
    let is_other = |own: &str| {
        let known = transports
            .iter()
            .filter(|one| matches!(one.as_str(), "REST" | "GRPC"));
        known.into_iter().any(|one| !one.eq_ignore_ascii_case(own))
    };
    Err(match own {
        _ if transports.len() > 1 => "Multiple endpoint.types found - can only have 1 type in graph. Please use spec.transport",
        Some(own) if is_other(own) => "Mixed transport types found. Remove graph endpoint.types if transport set at deployment level",
        _ => return Ok(()),
    }
    .to_owned())
}

fn check_words(spec: &SeldonDeploymentSpec) -> Result<(), String> {
    let is_one_of = |word: &Option<String>, known: &[&str]| {
        word.as_deref()
            .is_none_or(|word| word.is_empty() || known.contains(&word))
    };
    for (word, known, message) in [
        (
            &spec.protocol,
            &["seldon", "tensorflow", "kfserving", "v2"][..],
            "Invalid protocol",
        ),
        (&spec.transport, &["rest", "grpc"], "Invalid transport"),
        (&spec.server_type, &["rpc", "kafka"], "Invalid serverType"),
    ] {
        if !is_one_of(word, known) {
            return Err(message.to_owned());
        }
    }
    if spec.server_type.as_deref() == Some("kafka") {
        let has = |predictor: &SeldonPredictor, name: &str| {
            let variables = predictor.svc_orch_spec.as_ref();
            let variables = variables.and_then(|spec| spec.0.get("env")?.as_array());
            let mut variables = variables.into_iter().flatten();
            variables.any(|variable| variable["name"] == name)
        };
        let has_all = |predictor: &SeldonPredictor| KAFKA.iter().all(|name| has(predictor, name));
        if !spec.predictors.iter().all(has_all) {
            return Err(format!(
                "For kafka please supply svcOrchSpec envs {}",
                KAFKA.join(", ")
            ));
        }
    }
    Ok(())
}

/// Checks a node of a predictor's graph, as Seldon's webhook does.
fn check_unit(
    spec: &SeldonDeploymentSpec,
    predictor: &SeldonPredictor,
    unit: &SeldonUnit,
) -> Result<(), String> {
    if unit
        .logger
        .as_ref()
        .is_some_and(|logger| logger.mode.is_none())
    {
        return Err("No logger mode specified".to_owned());
    }
    let implementation = unit.implementation.as_deref().unwrap_or_default();
    let is_server = !matches!(implementation, "" | "UNKNOWN_IMPLEMENTATION")
        && !BUILT_IN.contains(&implementation);
    if is_server {
        let has_uri = unit.model_uri.as_deref().is_some_and(|uri| !uri.is_empty());
        if !has_uri && implementation != WITHOUT_URI {
            return Err(
                "Predictive unit modelUri required when using standalone servers".to_owned(),
            );
        }
        if spec.protocol() == "tensorflow" && !WITH_TENSORFLOW.contains(&implementation) {
            return Err(format!(
                "Prepackaged server does not handle tensorflow protocol {implementation}"
            ));
        }
        let own = containers(predictor).map(|(_, container)| container);
        let mut own = own.filter(|container| container["name"] == unit.name.as_str());
        let has_image = own.any(|container| {
            container["image"]
                .as_str()
                .is_some_and(|image| !image.is_empty())
        });
        if !has_image && !PREPACKAGED.contains(&implementation) {
            return Err(format!("No entry in predictors map for {implementation}"));
        }
        return Ok(());
    }
    if !matches!(implementation, "" | "UNKNOWN_IMPLEMENTATION") {
        return Ok(());
    }
    let mut containers = containers(predictor);
    if !containers.any(|(_, container)| container["name"] == unit.name.as_str()) {
        return Err("Can't find container for Predictive Unit".to_owned());
    }
    let has_methods = unit
        .methods
        .as_ref()
        .is_some_and(|methods| !methods.is_empty());
    if unit.unit_type.as_deref() == Some("UNKNOWN_TYPE") && !has_methods {
        return Err("Predictive Unit has no implementation methods defined. Change to a known type or add what methods it defines".to_owned());
    }
    Ok(())
}

fn check_traffic(spec: &SeldonDeploymentSpec) -> Result<(), String> {
    let (shadows, others): (Vec<_>, Vec<_>) =
        spec.predictors.iter().partition(|one| one.is_shadow());
    if shadows.len() > 1 {
        return Err("Multiple shadows are not allowed".to_owned());
    }
    if others.is_empty() {
        return Err("Shadow can not exist as only predictor".to_owned());
    }
    let traffic = |one: &&SeldonPredictor| one.traffic.unwrap_or(0);
    if shadows.iter().any(|one| !(0..=100).contains(&traffic(one))) {
        return Err(
            "shadow traffic is illegal, the traffic number should be between [0, 100]".to_owned(),
        );
    }
    let shares = others.iter().map(traffic);
    if shares.clone().any(|share| !(0..=100).contains(&share)) {
        return Err("Traffic must sum to 100 for multiple predictors".to_owned());
    }
    let sum = shares.fold(0, i32::saturating_add);
    match (others.len(), sum) {
        (1, 0 | 100) | (_, 100) => Ok(()),
        (1, _) => Err("Traffic must sum be 100 for a single predictor when set".to_owned()),
        _ => Err("Traffic must sum to 100 for multiple predictors".to_owned()),
    }
}

/// Checks that all that is asked for is served here.
fn check_served(name: &str, spec: &SeldonDeploymentSpec) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!(
            "metadata.name: '{name}' is no name of a service here: lower case letters, digits and '-', beginning with a letter"
        ));
    }
    if spec.server_type.as_deref() == Some("kafka") {
        return Err("spec.serverType: kafka is not served here; rpc is".to_owned());
    }
    let mut services = BTreeSet::new();
    let (mut has_graph, mut twice) = (false, None);
    for (index, predictor) in spec.predictors.iter().enumerate() {
        let place = format!("spec.predictors[{index}]");
        check_predictor(&place, predictor)?;
        let node = graph::read((name, &place), spec, predictor)?;
        has_graph |= !node.is_plain();
        for one in node.all() {
            // The choice between predictors goes by the deployment's name in `meta.routing`.
            if spec.predictors.len() > 1 && !one.children.is_empty() && one.unit.name == name {
                twice = Some(format!(
                    "{place}.graph: a node with children has the name of the SeldonDeployment, {name}, by which several predictors are told apart"
                ));
            }
            let service = graph::service_name(name, &predictor.name, &one.unit.name);
            if !services.insert(service.clone()) {
                twice = Some(format!(
                    "{place}.graph: two nodes would be served by one service, {service}"
                ));
            }
        }
        let shadow = format!("{name}-{}", predictor.name);
        if predictor.is_shadow() && !services.insert(shadow.clone()) {
            twice = Some(format!(
                "{place}.name: the shadow would be {shadow}, and so would the service of a node"
            ));
        }
        for (component, of) in predictor.component_specs.iter().flatten().enumerate() {
            check_component(&format!("{place}.componentSpecs[{component}]"), of)?;
        }
        for (component, container) in containers(predictor) {
            let place = format!("{place}.componentSpecs[{component}]");
            check_container(&place, container, &node)?;
        }
    }
    twice.filter(|_| has_graph).map_or(Ok(()), Err)
}

fn check_predictor(place: &str, predictor: &SeldonPredictor) -> Result<(), String> {
    if !is_name(&predictor.name) {
        return Err(format!(
            "{place}.name: '{}' is no name: lower case letters, digits and '-', beginning with a letter",
            predictor.name
        ));
    }
    let unserved = [
        ("explainer", predictor.explainer.is_some()),
        ("ssl", predictor.ssl.is_some()),
    ];
    refuse(place, &unserved)
}

/// Refuses the first field that is there.
fn refuse(place: &str, fields: &[(&str, bool)]) -> Result<(), String> {
    match fields.iter().find(|(_, is_there)| *is_there) {
        Some((field, _)) => Err(format!("{place}.{field} is not served here; remove it")),
        None => Ok(()),
    }
}

fn check_component(place: &str, component: &SeldonComponent) -> Result<(), String> {
    refuse(place, &[("kedaSpec", component.keda_spec.is_some())])
}

/// A container may say what the prepackaged server's may use, and nothing of what runs, unless it is one of Seldon's routers.
fn check_container(place: &str, container: &Value, graph: &Node) -> Result<(), String> {
    let name = container["name"].as_str().unwrap_or_default();
    let all = graph.all();
    let Some(node) = all.iter().find(|node| node.unit.name == name) else {
        return Err(format!(
            "{place}.spec.containers: '{name}' is no node of the graph; containers beside it are not served here"
        ));
    };
    let fields = container.as_object().into_iter().flatten();
    for (field, _) in fields {
        let is_of_image = matches!(field.as_str(), "image" | "imagePullPolicy");
        let is_told = matches!(field.as_str(), "name" | "resources" | "env");
        if !(is_told || is_of_image && node.role.is_bandit()) {
            return Err(format!(
                "{place}.spec.containers: {field} of '{name}' is not served here: its model is read here, and no container runs; resources and env are"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
