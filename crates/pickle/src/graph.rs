//! What a file holds: an arena of nodes that refer to each other by id.
//!
//! Identity is kept (two references to one Python object are one [`NodeId`]) and cycles are allowed, so
//! whoever walks a graph must bound the walk. None of the methods here follows more than one edge.

use std::fmt;

use crate::{Array, DTypeKind, NumpyDType};

/// The values of one file.
#[derive(Debug)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
    pub(crate) info: FileInfo,
}

/// Names a node of one [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer that fits.
    Int(i64),
    /// A larger integer: little-endian two's complement.
    BigInt(Box<[u8]>),
    /// A float.
    Float(f64),
    /// Text; the byte strings of Python 2 too, read as latin-1.
    Str(Box<str>),
    /// `bytes` or `bytearray`.
    Bytes(Box<[u8]>),
    /// A list.
    List(Vec<NodeId>),
    /// A tuple.
    Tuple(Vec<NodeId>),
    /// A set or frozen set, in the file's order.
    Set(Vec<NodeId>),
    /// A dict, `OrderedDict` or `defaultdict`, in the file's order; of equal keys the last one counts.
    Dict(Vec<(NodeId, NodeId)>),
    /// A numpy array; numpy scalars are arrays of shape `[]`.
    Array(Box<Array>),
    /// A numpy dtype.
    DType(Box<NumpyDType>),
    /// A known class or function as a value, by its canonical name.
    Global(&'static str),
    /// An instance of a known class.
    Object(Object),
    /// `slice(start, stop, step)`.
    Slice([NodeId; 3]),
}

/// An instance of a known class, as the file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The class's canonical name.
    pub class: &'static str,
    /// What the constructor was given.
    pub args: Vec<NodeId>,
    /// What `__setstate__` was given: usually a dict of attributes, whose keys are then all text.
    pub state: Option<NodeId>,
    pub(crate) contents: Option<Box<Contents>>,
}

/// What an instance of a subclass of dict or list holds besides its attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Contents {
    pub(crate) entries: Vec<(NodeId, NodeId)>,
    pub(crate) elements: Vec<NodeId>,
}

/// How a file was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInfo {
    /// The compression around the pickle.
    pub container: Container,
    /// The pickle protocol, 0 to 5: the highest that the file's outer pickle declares; of skops files their own.
    pub protocol: u8,
    /// Whether arrays are stored joblib's way.
    pub joblib: bool,
    /// The release of skops that wrote the file, as it says; `None` for pickles.
    pub skops: Option<Box<str>>,
    /// The size after decompression, in bytes.
    pub inflated_bytes: usize,
}

/// The compression around a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    /// None.
    Raw,
    /// zlib.
    Zlib,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// The older `.lzma` form.
    Lzma,
    /// An LZ4 frame.
    Lz4,
    /// The zlib file of joblib before 0.10.
    ZFile,
}

impl Container {
    /// Returns the name of the form, in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zlib => "zlib",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Lz4 => "lz4",
            Self::ZFile => "zfile",
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl NodeId {
    /// Returns the node's position in the arena.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Object {
    pub(crate) fn new(class: &'static str, args: Vec<NodeId>) -> Self {
        Self {
            class,
            args,
            state: None,
            contents: None,
        }
    }

    /// Returns the entries of an instance of a subclass of dict (sklearn's `Bunch`); empty for others.
    #[must_use]
    pub fn entries(&self) -> &[(NodeId, NodeId)] {
        self.contents.as_ref().map_or(&[], |c| &c.entries)
    }

    /// Returns the elements of an instance of a subclass of list; empty for others.
    #[must_use]
    pub fn elements(&self) -> &[NodeId] {
        self.contents.as_ref().map_or(&[], |c| &c.elements)
    }
}

static NOTHING: Node = Node::None;

impl Graph {
    /// Returns the value of the file.
    #[must_use]
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// Returns a node; [`Node::None`] for an id of another graph that this one does not have.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.index()).unwrap_or(&NOTHING)
    }

    /// Returns the ids of all nodes, in the order of the arena.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        // Nodes are numbered in 32 bits when they are made.
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// Returns the number of nodes in the arena, those that the root does not reach included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Says whether the arena is empty, which no file's is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns how the file was stored.
    #[must_use]
    pub fn info(&self) -> &FileInfo {
        &self.info
    }

    /// Returns the text of a [`Node::Str`].
    #[must_use]
    pub fn str(&self, id: NodeId) -> Option<&str> {
        match self.node(id) {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text of a [`Node::Str`] or of a numpy string scalar.
    #[must_use]
    pub fn string(&self, id: NodeId) -> Option<String> {
        match self.node(id) {
            Node::Str(text) => Some(text.to_string()),
            Node::Array(array)
                if array.shape().is_empty() && array.dtype().kind == DTypeKind::Unicode =>
            {
                array.to_strings()?.pop()
            }
            _ => None,
        }
    }

    /// Returns an integer: an int that fits, a bool, or a numpy scalar of either.
    #[must_use]
    pub fn int(&self, id: NodeId) -> Option<i64> {
        match self.node(id) {
            Node::Bool(value) => Some(i64::from(*value)),
            Node::Int(value) => Some(*value),
            Node::Array(array) if array.shape().is_empty() => array.to_i64s()?.pop(),
            _ => None,
        }
    }

    /// Returns a number: a float, an int, a bool, or a numpy scalar of these.
    #[must_use]
    pub fn float(&self, id: NodeId) -> Option<f64> {
        match self.node(id) {
            Node::Bool(value) => Some(f64::from(u8::from(*value))),
            Node::Int(value) => Some(crate::array::int_to_f64(*value)),
            Node::Float(value) => Some(*value),
            Node::Array(array) if array.shape().is_empty() => array.to_f64s()?.pop(),
            _ => None,
        }
    }

    /// Returns a bool or a numpy bool scalar.
    #[must_use]
    pub fn bool(&self, id: NodeId) -> Option<bool> {
        match self.node(id) {
            Node::Bool(value) => Some(*value),
            Node::Array(array) if array.shape().is_empty() => array.to_bools()?.pop(),
            _ => None,
        }
    }

    /// Returns the items of a list or tuple.
    #[must_use]
    pub fn list(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::List(items) | Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the entries of a dict.
    #[must_use]
    pub fn dict(&self, id: NodeId) -> Option<&[(NodeId, NodeId)]> {
        match self.node(id) {
            Node::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// Returns the value under a text key of a dict; walks the entries.
    #[must_use]
    pub fn dict_get(&self, id: NodeId, key: &str) -> Option<NodeId> {
        self.entry(self.dict(id)?, key)
    }

    /// Returns an instance of a known class.
    #[must_use]
    pub fn object(&self, id: NodeId) -> Option<&Object> {
        match self.node(id) {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Returns an attribute of an object whose state is a dict.
    #[must_use]
    pub fn attr(&self, id: NodeId, name: &str) -> Option<NodeId> {
        self.dict_get(self.object(id)?.state?, name)
    }

    /// Returns an array.
    #[must_use]
    pub fn array(&self, id: NodeId) -> Option<&Array> {
        match self.node(id) {
            Node::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Returns the canonical name of a known class or function that occurs as a value.
    #[must_use]
    pub fn global(&self, id: NodeId) -> Option<&'static str> {
        match self.node(id) {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }

    fn entry(&self, entries: &[(NodeId, NodeId)], key: &str) -> Option<NodeId> {
        entries
            .iter()
            .rev()
            .find(|(name, _)| self.str(*name) == Some(key))
            .map(|(_, value)| *value)
    }
}
