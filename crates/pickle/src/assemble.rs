//! From the machine's slots to the graph: what the root reaches becomes nodes, or the unknown names and
//! their places become an error.

use std::collections::HashMap;
use std::sync::Arc;

use crate::globals::Special;
use crate::machine::latin1;
use crate::names::Unknown;
use crate::slot::Slot;
use crate::{Error, Node, NodeId, Object, UnknownGlobal};

/// The most steps of a place that are written: a search over pipelines of columns within one another has some twenty.
const PLACE_STEPS_MAX: usize = 64;

/// How many of the innermost steps are written of a place that has more.
const PLACE_STEPS_OF_DEEP: usize = 12;

/// How much of a key is written in a place, in characters.
const KEY_CHARS_MAX: usize = 40;

/// Makes the nodes of a graph and its root. Nodes that the root does not reach become `None`.
pub(crate) fn nodes(slots: Vec<Slot<'_>>, root: NodeId) -> Result<(Vec<Node>, NodeId), Error> {
    let reached = reach(&slots, root, None);
    let mut problem = None;
    let mut states: Vec<NodeId> = slots
        .iter()
        .zip(&reached)
        .filter_map(|(slot, is_reached)| match slot {
            Slot::Ready(Node::Object(object)) if *is_reached => object.state,
            _ => None,
        })
        .map(|state| match slots.get(state.index()) {
            Some(Slot::Alias(target)) => *target,
            _ => state,
        })
        .collect();
    // Objects may share one state; it is looked at once.
    states.sort_unstable();
    states.dedup();
    for state in states {
        check_attributes(&slots, state)?;
    }
    let aliases: HashMap<u32, NodeId> = slots
        .iter()
        .enumerate()
        .filter_map(|(index, slot)| match slot {
            Slot::Alias(target) => Some((u32::try_from(index).ok()?, *target)),
            _ => None,
        })
        .collect();
    let mut nodes: Vec<Node> = slots
        .into_iter()
        .zip(reached)
        .map(|(slot, is_reached)| match is_reached {
            true => finish(slot, &mut problem),
            false => Node::None,
        })
        .collect();
    if let Some(problem) = problem {
        return Err(Error::malformed(problem, 0));
    }
    if !aliases.is_empty() {
        for node in &mut nodes {
            resolve(node, &aliases);
        }
    }
    Ok((nodes, aliases.get(&root.0).copied().unwrap_or(root)))
}

/// Makes the error that names every unknown global.
pub(crate) fn unknown_globals(
    slots: &[Slot<'_>],
    unknown: &[Unknown],
    root: Option<NodeId>,
) -> Error {
    let mut places: Vec<Option<String>> = vec![None; unknown.len()];
    if let Some(root) = root {
        let mut parents = vec![None; slots.len()];
        let reached = reach(slots, root, Some(&mut parents));
        for (index, slot) in slots.iter().enumerate() {
            let (Slot::Unknown(number) | Slot::Opaque(number)) = slot else {
                continue;
            };
            let is_reached = reached.get(index).copied().unwrap_or(false);
            if let Some(place @ None) = places.get_mut(*number)
                && is_reached
            {
                *place = Some(place_of(slots, &parents, index));
            }
        }
    }
    let mut found: Vec<_> = unknown.iter().zip(places).collect();
    // `getattr` is found to be unknown only when it is used.
    found.sort_by_key(|(unknown, _)| unknown.offset);
    let globals = found
        .into_iter()
        .map(|(unknown, place)| UnknownGlobal {
            name: unknown.name.clone(),
            place: place.unwrap_or_else(|| format!("byte {}", unknown.offset)),
        })
        .collect();
    Error::unknown_globals_found(globals)
}

/// Finds what the root reaches, without recursion; writes down from where, if asked.
pub(crate) fn reach(
    slots: &[Slot<'_>],
    root: NodeId,
    mut parents: Option<&mut Vec<Option<NodeId>>>,
) -> Vec<bool> {
    let mut reached = vec![false; slots.len()];
    let mut open = vec![root];
    if let Some(mark) = reached.get_mut(root.index()) {
        *mark = true;
    }
    while let Some(id) = open.pop() {
        let Some(slot) = slots.get(id.index()) else {
            continue;
        };
        slot.for_each_edge(|target| {
            if let Some(mark @ false) = reached.get_mut(target.index()) {
                *mark = true;
                open.push(target);
                if let Some(parent) = parents
                    .as_mut()
                    .and_then(|parents| parents.get_mut(target.index()))
                {
                    *parent = Some(id);
                }
            }
        });
    }
    reached
}

fn finish(slot: Slot<'_>, problem: &mut Option<&'static str>) -> Node {
    match slot {
        Slot::Ready(node) => node,
        Slot::Bytes(bytes) => Node::Bytes(bytes.into()),
        Slot::OldString(bytes) => Node::Str(latin1(&bytes).into()),
        Slot::Special(special) => Node::Global(special.canonical()),
        Slot::Known(known) => Node::Global(known.canonical),
        Slot::DType { dtype, .. } => Node::DType(Box::new(Arc::unwrap_or_clone(dtype))),
        Slot::ArrayWrapper => {
            Node::Object(Object::new(Special::ArrayWrapper.canonical(), Vec::new()))
        }
        // References to aliases are turned to their targets.
        Slot::Alias(_) => Node::None,
        Slot::EmptyArray => {
            *problem = Some("an array that was never filled");
            Node::None
        }
        Slot::Unknown(_) | Slot::Opaque(_) | Slot::Getter { .. } => {
            *problem = Some("an unknown name that was not reported");
            Node::None
        }
    }
}

/// Attributes must have names, and none may change what an object is.
fn check_attributes(slots: &[Slot<'_>], state: NodeId) -> Result<(), Error> {
    let Some(Slot::Ready(Node::Dict(entries))) = slots.get(state.index()) else {
        return Ok(());
    };
    for (key, _) in entries {
        let is_allowed = match slots.get(key.index()) {
            Some(Slot::Ready(Node::Str(name))) => &**name != "__class__",
            Some(Slot::OldString(name)) => &**name != b"__class__",
            _ => false,
        };
        if !is_allowed {
            return Err(Error::malformed(
                "an object with an impossible attribute",
                0,
            ));
        }
    }
    Ok(())
}

fn resolve(node: &mut Node, aliases: &HashMap<u32, NodeId>) {
    let resolve = |id: &mut NodeId| {
        if let Some(target) = aliases.get(&id.0) {
            *id = *target;
        }
    };
    let resolve_pair = |(key, value): &mut (NodeId, NodeId)| {
        resolve(key);
        resolve(value);
    };
    match node {
        Node::List(items) | Node::Tuple(items) | Node::Set(items) => {
            items.iter_mut().for_each(resolve);
        }
        Node::Dict(entries) => entries.iter_mut().for_each(resolve_pair),
        Node::Array(array) => array.objects_mut().iter_mut().for_each(resolve),
        Node::Object(object) => {
            object.args.iter_mut().for_each(resolve);
            object.state.iter_mut().for_each(resolve);
            if let Some(contents) = &mut object.contents {
                contents.elements.iter_mut().for_each(resolve);
                contents.entries.iter_mut().for_each(resolve_pair);
            }
        }
        Node::Slice(parts) => parts.iter_mut().for_each(resolve),
        _ => {}
    }
}

fn place_of(slots: &[Slot<'_>], parents: &[Option<NodeId>], index: usize) -> String {
    let mut steps = Vec::new();
    let mut child = index;
    loop {
        let Some(parent) = parents.get(child).copied().flatten() else {
            steps.push("root".to_owned());
            break;
        };
        if steps.len() >= PLACE_STEPS_MAX {
            // Deeper than any model: the innermost steps tell enough.
            steps.truncate(PLACE_STEPS_OF_DEEP);
            steps.push("...".to_owned());
            break;
        }
        if let Some(slot) = slots.get(parent.index()) {
            let step = step_to(
                slots,
                slot,
                parents.get(parent.index()).copied().flatten(),
                child,
            );
            steps.push(step);
        }
        child = parent.index();
    }
    steps.reverse();
    steps.concat()
}

/// Writes how `slot` refers to the node `child`.
fn step_to(slots: &[Slot<'_>], slot: &Slot<'_>, above: Option<NodeId>, child: usize) -> String {
    let is_child = |id: &NodeId| id.index() == child;
    match slot {
        // A step of a pipeline, a transformer of columns: a name and what it stands for.
        Slot::Ready(Node::Tuple(items)) if name_in(slots, items, child).is_some() => {
            format!(".{}", name_in(slots, items, child).unwrap_or_default())
        }
        Slot::Ready(Node::List(items) | Node::Tuple(items)) => {
            format!("[{}]", items.iter().position(is_child).unwrap_or(0))
        }
        Slot::Ready(Node::Array(array)) => {
            let items = array.objects().unwrap_or_default();
            format!("[{}]", items.iter().position(is_child).unwrap_or(0))
        }
        Slot::Ready(Node::Set(_)) => "{}".to_owned(),
        Slot::Ready(Node::Dict(entries)) => {
            let key = entries
                .iter()
                .find(|(_, value)| is_child(value))
                .and_then(|(key, _)| match slots.get(key.index()) {
                    Some(Slot::Ready(Node::Str(key))) => Some(shorten(key)),
                    Some(Slot::OldString(key)) => Some(shorten(&latin1(key))),
                    Some(Slot::Ready(Node::Int(key))) => Some(key.to_string()),
                    _ => None,
                })
                .unwrap_or_else(|| "?".to_owned());
            let is_state = above.is_some_and(|above| {
                matches!(slots.get(above.index()), Some(Slot::Ready(Node::Object(_))))
            });
            if is_state {
                format!(".{key}")
            } else {
                format!("[{key:?}]")
            }
        }
        Slot::Ready(Node::Object(object)) => {
            match object.args.iter().position(is_child) {
                Some(position) => format!("({position})"),
                // A dict of attributes writes its own step.
                None => String::new(),
            }
        }
        _ => String::new(),
    }
}

/// Returns the name that comes first in a tuple, if `child` is second.
fn name_in(slots: &[Slot<'_>], items: &[NodeId], child: usize) -> Option<String> {
    let [name, second, ..] = items else {
        return None;
    };
    if second.index() != child {
        return None;
    }
    match slots.get(name.index()) {
        Some(Slot::Ready(Node::Str(name))) => Some(shorten(name)),
        Some(Slot::OldString(name)) => Some(shorten(&latin1(name))),
        _ => None,
    }
}

fn shorten(key: &str) -> String {
    key.chars()
        .take(KEY_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect()
}
