//! skops files: a zip archive of a `schema.json`, which describes every object, and of the arrays' own files.
//!
//! The schema is a tree of descriptions, each with the kind of its loader, a class by module and name, and an
//! identity. They become the nodes that a pickle of the same objects gives, with the same closed set of names and
//! the same form: whoever reads a graph need not know which it was. `kinds` makes containers and instances, `arrays`
//! what lies in files of the archive. Names are never looked up or imported, nothing is called, and nothing recurses
//! over the depth of the schema.
//!
//! An object that occurs again is described again under the same identity; the first description counts, as it does
//! for skops itself. Protocols 0 to 2 are read, which skops 0.2 to 0.16 write.

mod arrays;
mod kinds;

use std::collections::HashMap;

use crate::json::{Json, Map, Value, ValueId};
use crate::names::Names;
use crate::slot::Slot;
use crate::zip::{Allowance, Archive};
use crate::{
    ClassTable, Container, Error, ErrorKind, FileInfo, Graph, Limits, Node, NodeId, assemble,
};

/// The member that describes the objects.
const SCHEMA: &str = "schema.json";

/// The newest protocol that is read.
const PROTOCOL_MAX: i64 = 2;

/// How much of the schema's release of skops is kept, in characters.
const RELEASE_CHARS_MAX: usize = 40;

/// Reads a skops file into a graph, as [`read`](crate::read) does a pickle.
///
/// `bytes` is the whole file. `table` names the classes and functions that may occur beyond the reader's own set.
///
/// # Errors
/// As [`read`](crate::read); [`ErrorKind::Unsupported`] too for kinds of descriptions and protocols that this
/// reader does not know.
pub fn read_skops(bytes: &[u8], table: &ClassTable, limits: &Limits) -> Result<Graph, Error> {
    if bytes.len() > limits.file_bytes_max {
        return Err(Error::limit(
            "the file's size in bytes",
            limits.file_bytes_max,
        ));
    }
    let archive = Archive::read(bytes)?;
    let mut allowance = Allowance::new(bytes.len(), limits);
    let schema = archive.member(SCHEMA, &mut allowance)?;
    let text = str::from_utf8(&schema)
        .map_err(|error| Error::malformed("a schema that is not text", error.valid_up_to()))?;
    let json = Json::read(text, limits)?;
    let (protocol, release) = header(&json)?;
    let mut reader = Reader {
        json: &json,
        archive: &archive,
        allowance,
        names: Names::new(table),
        limits,
        slots: Vec::new(),
        open: Vec::new(),
        deferred: Vec::new(),
        by_identity: HashMap::new(),
        by_file: HashMap::new(),
    };
    let outcome = reader.read_all();
    if !reader.names.unknown.is_empty() {
        // An unknown name says more than whatever else may be wrong with the file.
        let (slots, unknown) = (&reader.slots, &reader.names.unknown);
        return Err(assemble::unknown_globals(slots, unknown, outcome.ok()));
    }
    let root = outcome?;
    let info = FileInfo {
        container: Container::Raw,
        protocol,
        joblib: false,
        skops: Some(release),
        inflated_bytes: reader.allowance.used.max(bytes.len()),
    };
    let (nodes, root) = assemble::nodes(reader.slots, root)?;
    Ok(Graph { nodes, root, info })
}

/// Reads the protocol, and the release of skops that wrote the file.
fn header(json: &Json<'_>) -> Result<(u8, Box<str>), Error> {
    let Value::Map(root) = json.value(json.root) else {
        return Err(Error::malformed("a schema that is no description", 0));
    };
    let protocol = match root.get("protocol").map(|id| json.value(id)) {
        Some(Value::Int(protocol)) => *protocol,
        _ => return Err(Error::malformed("a schema without its protocol", 0)),
    };
    let known = u8::try_from(protocol).ok();
    let Some(known) = known.filter(|_| protocol <= PROTOCOL_MAX) else {
        let what = format!("skops protocol {protocol} (0 to {PROTOCOL_MAX} are read)");
        return Err(Error::unsupported(what, 0));
    };
    let release = match root.get("_skops_version").map(|id| json.value(id)) {
        Some(Value::Text(text)) => text.chars().filter(|c| !c.is_control()),
        _ => return Err(Error::malformed("a schema without its release", 0)),
    };
    let release: String = release.take(RELEASE_CHARS_MAX).collect();
    Ok((known, release.into()))
}

/// Reads one file.
#[derive(Debug)]
struct Reader<'a> {
    json: &'a Json<'a>,
    archive: &'a Archive<'a>,
    allowance: Allowance,
    names: Names<'a>,
    limits: &'a Limits,
    slots: Vec<Slot<'a>>,
    /// Descriptions that wait to be read, with their nodes.
    open: Vec<(&'a Map<'a>, NodeId)>,
    /// Nodes that stand for the object of an identity.
    deferred: Vec<(&'a Map<'a>, NodeId)>,
    by_identity: HashMap<i64, NodeId>,
    /// The nodes of members that were read; each is read once.
    by_file: HashMap<&'a str, NodeId>,
}

impl<'a> Reader<'a> {
    /// Reads the schema, and returns its root.
    fn read_all(&mut self) -> Result<NodeId, Error> {
        let root = self.child(self.json.root)?;
        // What names nobody knows is asked of the whole file, so a description that cannot be read waits.
        let mut problem = None;
        while let Some((map, node)) = self.open.pop() {
            match self.describe(map) {
                Ok(slot) => self.set(node, slot),
                Err(error) if error.kind() == ErrorKind::LimitExceeded => return Err(error),
                Err(error) => {
                    problem.get_or_insert(error);
                }
            }
        }
        for (map, node) in std::mem::take(&mut self.deferred) {
            let target = self.identity(map).and_then(|id| self.by_identity.get(&id));
            let Some(target) = target.copied() else {
                return Err(Error::malformed(
                    "a reference to an object that is not described",
                    map.offset,
                ));
            };
            // An object may itself stand for the member of an archive.
            let target = match self.slots.get(target.index()) {
                Some(Slot::Alias(target)) => *target,
                _ => target,
            };
            self.set(node, Slot::Alias(target));
        }
        match problem {
            Some(problem) => Err(problem),
            None => Ok(root),
        }
    }

    /// Returns the node of a description, which is read later.
    fn child(&mut self, id: ValueId) -> Result<NodeId, Error> {
        let Value::Map(map) = self.json.value(id) else {
            return Err(Error::malformed("something other than a description", 0));
        };
        let map: &'a Map<'a> = map;
        if self.text(map, "__loader__")? == "CachedNode" {
            let node = self.push(Slot::Ready(Node::None))?;
            self.deferred.push((map, node));
            return Ok(node);
        }
        let identity = self.identity(map);
        if let Some(node) = identity.and_then(|id| self.by_identity.get(&id)) {
            return Ok(*node);
        }
        let node = self.push(Slot::Ready(Node::None))?;
        if let Some(identity) = identity {
            self.by_identity.insert(identity, node);
        }
        self.open.push((map, node));
        Ok(node)
    }

    fn children(&mut self, ids: &[ValueId]) -> Result<Vec<NodeId>, Error> {
        ids.iter().map(|id| self.child(*id)).collect()
    }

    /// Adds a node.
    fn push(&mut self, slot: Slot<'a>) -> Result<NodeId, Error> {
        let id = u32::try_from(self.slots.len()).ok();
        let Some(id) = id.filter(|_| self.slots.len() < self.limits.nodes_max) else {
            return Err(Error::limit("the nodes", self.limits.nodes_max));
        };
        self.slots.push(slot);
        Ok(NodeId(id))
    }

    fn set(&mut self, node: NodeId, slot: Slot<'a>) {
        if let Some(place) = self.slots.get_mut(node.index()) {
            *place = slot;
        }
    }

    /// Returns the identity of a description; 0 and other values are none.
    fn identity(&self, map: &Map<'a>) -> Option<i64> {
        match map.get("__id__").map(|id| self.json.value(id)) {
            Some(Value::Int(id)) if *id != 0 => Some(*id),
            _ => None,
        }
    }

    /// Returns a part of a description.
    fn part(&self, map: &Map<'a>, key: &'static str) -> Result<ValueId, Error> {
        map.get(key)
            .ok_or_else(|| Error::malformed(format!("a description without '{key}'"), map.offset))
    }

    /// Returns a text of a description.
    fn text(&self, map: &Map<'a>, key: &'static str) -> Result<&'a str, Error> {
        match self.json.value(self.part(map, key)?) {
            Value::Text(text) => Ok(text),
            _ => Err(wrong(map, key)),
        }
    }

    /// Returns a list of a description.
    fn list(&self, map: &Map<'a>, key: &'static str) -> Result<&'a [ValueId], Error> {
        match self.json.value(self.part(map, key)?) {
            Value::List(items) => Ok(items),
            _ => Err(wrong(map, key)),
        }
    }

    /// Returns an object of a description, such as another description.
    fn map(&self, map: &Map<'a>, key: &'static str) -> Result<&'a Map<'a>, Error> {
        match self.json.value(self.part(map, key)?) {
            Value::Map(inner) => Ok(inner),
            _ => Err(wrong(map, key)),
        }
    }

    /// Returns a description within another, which must be of this kind.
    fn inner(&self, map: &Map<'a>, key: &'static str, loader: &str) -> Result<&'a Map<'a>, Error> {
        let inner = self.map(map, key)?;
        match self.text(inner, "__loader__")? == loader {
            true => Ok(inner),
            false => Err(wrong(map, key)),
        }
    }
}

fn wrong(map: &Map<'_>, key: &str) -> Error {
    let problem = format!("a description whose '{key}' is of the wrong kind");
    Error::malformed(problem, map.offset)
}
