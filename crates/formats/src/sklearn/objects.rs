//! Files that hold several objects: a dict, tuple or list of estimators and whatever was kept beside them.

use coracle_model::{LoadError, LoadErrorKind};
use coracle_pickle::{Graph, Node, NodeId};

use super::describe;

/// The most objects that are looked at.
const OBJECTS_MAX: usize = 1 << 10;
/// How deep containers may lie in each other, and how many values are looked at for estimators in them.
const DEPTH_MAX: usize = 8;
const VALUES_MAX: usize = 1 << 16;
/// Of so many values of a container each counts as one more: they are looked at quickly.
const VALUES_PER_LOOK: usize = 64;
/// What has a longer name is no object of its own: nobody asks for it.
const NAME_BYTES_MAX: usize = 1 << 12;
/// The most names in a message.
const SHOWN_MAX: usize = 20;

/// The object that is served, and what lies beside it.
pub(super) struct Chosen {
    pub(super) id: NodeId,
    /// For the description; empty where the file holds one object.
    pub(super) facts: Vec<(String, String)>,
}

/// Encoders of targets: what a classifier's labels were made with, not a step before it.
const OF_TARGETS: [&str; 3] = ["LabelEncoder", "LabelBinarizer", "MultiLabelBinarizer"];

/// Returns the object called `name`; without a name the file's one estimator.
///
/// An estimator beside another one is no choice: which is applied to requests, and whether one after the other, only
/// the code around the file knew. Encoders of labels are passed over.
///
/// # Errors
/// Kind `Unsupported` if there is no such object or no choice, naming all that there are.
pub(super) fn choose(graph: &Graph, name: Option<&str>) -> Result<Chosen, LoadError> {
    let root = graph.root();
    let Some(objects) = objects(graph)? else {
        return match name {
            None => Ok(Chosen {
                id: root,
                facts: Vec::new(),
            }),
            Some(name) => {
                let what = class_of(graph, root);
                let what = what.unwrap_or_else(|| describe::kind_of(graph.node(root)));
                Err(unsupported(format!(
                    "there is no object {name:?}: the file holds one object, {what}"
                )))
            }
        };
    };
    let found: Vec<&(String, NodeId)> = match name {
        Some(name) => objects.iter().filter(|(own, _)| own == name).collect(),
        None => {
            let estimators = objects
                .iter()
                .filter(|(_, id)| class_of(graph, *id).is_some());
            let of_targets =
                |id: NodeId| class_of(graph, id).is_some_and(|class| OF_TARGETS.contains(&class));
            estimators.filter(|(_, id)| !of_targets(*id)).collect()
        }
    };
    match (found.as_slice(), name) {
        ([(chosen, id)], _) => Ok(Chosen {
            id: *id,
            facts: vec![
                ("object".to_owned(), chosen.clone()),
                ("objects in the file".to_owned(), shown(graph, &objects)),
            ],
        }),
        (_, Some(name)) => Err(unsupported(format!(
            "there is no object {name:?}; the file holds {}",
            shown(graph, &objects)
        ))),
        ([], None) => Err(unsupported(format!(
            "holds no fitted estimator, but {}; save the estimator itself",
            shown(graph, &objects)
        ))),
        (_, None) => Err(unsupported(format!(
            "holds several objects: {}; name the one to serve with --object, or save them as one Pipeline",
            shown(graph, &objects)
        ))),
    }
}

/// Returns the named objects of a dict, or the numbered ones of a tuple or list, and those of such that hold estimators, as
/// `models.a`; `None` where the file holds one object.
fn objects(graph: &Graph) -> Result<Option<Vec<(String, NodeId)>>, LoadError> {
    let root = graph.root();
    let Some(outer) = items(graph, root) else {
        return Ok(None);
    };
    let mut objects = Vec::new();
    let mut values_left = VALUES_MAX;
    collect(graph, "", outer, DEPTH_MAX, &mut values_left, &mut objects);
    if objects.is_empty() {
        return Err(unsupported(format!(
            "holds {}, not a fitted scikit-learn estimator; save the estimator itself",
            describe::kind_of(graph.node(root))
        )));
    }
    Ok(Some(objects))
}

/// Returns the values of a dict, tuple or list with their names.
fn items(graph: &Graph, id: NodeId) -> Option<Vec<(String, NodeId)>> {
    match graph.node(id) {
        Node::Dict(entries) => {
            let named = entries.iter().filter_map(|&(key, value)| {
                let name = graph
                    .string(key)
                    .or_else(|| Some(graph.int(key)?.to_string()))?;
                (name.len() <= NAME_BYTES_MAX).then_some((name, value))
            });
            Some(named.take(OBJECTS_MAX).collect())
        }
        Node::Tuple(items) | Node::List(items) => {
            let numbered = items.iter().enumerate();
            let numbered = numbered.map(|(number, &item)| (number.to_string(), item));
            Some(numbered.take(OBJECTS_MAX).collect())
        }
        _ => None,
    }
}

/// Adds objects under `prefix`; containers without an estimator are objects themselves.
fn collect(
    graph: &Graph,
    prefix: &str,
    values: Vec<(String, NodeId)>,
    depth_left: usize,
    values_left: &mut usize,
    objects: &mut Vec<(String, NodeId)>,
) {
    for (name, id) in values {
        if objects.len() >= OBJECTS_MAX {
            return;
        }
        let name = format!("{prefix}{name}");
        match items(graph, id) {
            Some(inner)
                if depth_left > 0 && holds_estimator(graph, id, depth_left, values_left) =>
            {
                let prefix = format!("{name}.");
                let depth_left = depth_left.saturating_sub(1);
                collect(graph, &prefix, inner, depth_left, values_left, objects);
            }
            _ => objects.push((name, id)),
        }
    }
}

/// Tells whether there is an estimator in a container, as far as it is looked.
fn holds_estimator(graph: &Graph, id: NodeId, depth_left: usize, values_left: &mut usize) -> bool {
    let n_values = match graph.node(id) {
        Node::Dict(entries) => entries.len(),
        Node::Tuple(items) | Node::List(items) => items.len(),
        _ => return false,
    };
    let Some(left) = values_left.checked_sub(n_values.div_ceil(VALUES_PER_LOOK).max(1)) else {
        return false;
    };
    *values_left = left;
    let mut look = |id: NodeId| {
        class_of(graph, id).is_some()
            || depth_left > 0
                && holds_estimator(graph, id, depth_left.saturating_sub(1), values_left)
    };
    match graph.node(id) {
        Node::Dict(entries) => entries.iter().any(|&(_, value)| look(value)),
        Node::Tuple(items) | Node::List(items) => items.iter().any(|&item| look(item)),
        _ => false,
    }
}

/// Returns the class of an estimator, without its module.
fn class_of(graph: &Graph, id: NodeId) -> Option<&'static str> {
    let object = graph.object(id)?;
    let is_known = graph.attr(id, "_sklearn_version").is_some()
        || super::boosted::is_known(object.class)
        || super::imbalanced::is_known(object.class)
            && !super::imbalanced::is_sampler(object.class);
    is_known.then(|| object.class.rsplit('.').next().unwrap_or(object.class))
}

/// Returns the objects with what they are: `model (LogisticRegression), threshold (a number)`.
fn shown(graph: &Graph, objects: &[(String, NodeId)]) -> String {
    let names = objects.iter().take(SHOWN_MAX).map(|(name, id)| {
        let what = match (class_of(graph, *id), graph.object(*id)) {
            (Some(class), _) => class,
            (None, Some(object)) => object.class,
            (None, None) => describe::kind_of(graph.node(*id)),
        };
        format!("{name} ({what})")
    });
    let mut names: Vec<String> = names.collect();
    if objects.len() > SHOWN_MAX {
        names.push("...".to_owned());
    }
    names.join(", ")
}

fn unsupported(message: String) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}
