//! A place in the arena while the file is still being read.

use std::borrow::Cow;
use std::sync::Arc;

use crate::globals::Special;
use crate::{KnownGlobal, Node, NodeId, NumpyDType};

/// What a node is until the whole file is read.
#[derive(Debug)]
pub(crate) enum Slot<'a> {
    /// A value that needs nothing more.
    Ready(Node),
    /// Bytes that lie in the file; copied only if the root reaches them.
    Bytes(&'a [u8]),
    /// A byte string of Python 2: bytes or text, as its user reads it.
    OldString(Cow<'a, [u8]>),
    /// A name of the reader's own set.
    Special(Special),
    /// A name that is known as a record, constructor or value.
    Known(&'static KnownGlobal),
    /// A name that nobody knows, by its number.
    Unknown(usize),
    /// What a file wants made by an unknown name, by the name's number. Nothing is made.
    Opaque(usize),
    /// `getattr`; `is_used` once it named a method of an inert instance.
    Getter { offset: usize, is_used: bool },
    /// An array that waits for its contents.
    EmptyArray,
    /// A dtype; `is_built` once its state was seen.
    DType {
        dtype: Arc<NumpyDType>,
        is_built: bool,
    },
    /// joblib's stand-in for an array that follows in the file.
    ArrayWrapper,
    /// joblib's stand-in, once its array was read: the array.
    Alias(NodeId),
}

impl Slot<'_> {
    /// Calls `visit` with every node that this one refers to.
    pub(crate) fn for_each_edge(&self, visit: impl FnMut(NodeId)) {
        match self {
            Self::Ready(node) => for_each_edge(node, visit),
            Self::Alias(target) => std::iter::once(*target).for_each(visit),
            _ => {}
        }
    }
}

fn for_each_edge(node: &Node, mut visit: impl FnMut(NodeId)) {
    let pairs = |entries: &[(NodeId, NodeId)], visit: &mut dyn FnMut(NodeId)| {
        for (key, value) in entries {
            visit(*key);
            visit(*value);
        }
    };
    match node {
        Node::List(items) | Node::Tuple(items) | Node::Set(items) => {
            items.iter().copied().for_each(visit);
        }
        Node::Dict(entries) => pairs(entries, &mut visit),
        Node::Array(array) => array
            .objects()
            .unwrap_or_default()
            .iter()
            .copied()
            .for_each(visit),
        Node::Object(object) => {
            object.args.iter().copied().for_each(&mut visit);
            object.elements().iter().copied().for_each(&mut visit);
            pairs(object.entries(), &mut visit);
            object.state.iter().copied().for_each(visit);
        }
        Node::Slice(parts) => parts.iter().copied().for_each(visit),
        Node::None
        | Node::Bool(_)
        | Node::Int(_)
        | Node::BigInt(_)
        | Node::Float(_)
        | Node::Str(_)
        | Node::Bytes(_)
        | Node::DType(_)
        | Node::Global(_) => {}
    }
}
