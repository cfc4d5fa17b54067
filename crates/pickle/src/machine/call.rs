//! What `REDUCE`, `NEWOBJ`, `BUILD` and the item opcodes make. Every callable has a typed handler here
//! or becomes a record of its arguments; nothing is called.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Machine, NONE};
use crate::globals::Special;
use crate::graph::Contents;
use crate::slot::Slot;
use crate::{Array, DTypeKind, Error, GlobalForm, Node, NodeId, NumpyDType, Object};

/// What an argument list costs to keep, besides its items, in bytes.
const ARGUMENTS_BYTES: usize = 32;

impl<'a> Machine<'a> {
    /// Makes what calling `callable` with the tuple `args` would.
    pub(super) fn reduce(&mut self, callable: NodeId, args: NodeId) -> Result<Slot<'a>, Error> {
        if let Some(number) = self.unknown_number(callable) {
            return Ok(Slot::Opaque(number));
        }
        if matches!(self.slot(callable), Slot::Getter { .. }) {
            return self.call_getter(callable, args);
        }
        let args = self.arguments(args)?;
        match self.slot(callable) {
            Slot::Special(special) => {
                let special = *special;
                self.call(special, &args)
            }
            Slot::Known(known) if known.form != GlobalForm::Value => {
                Ok(record(known.canonical, args))
            }
            Slot::Known(known) => Err(self.unsupported(format!("calling '{}'", known.canonical))),
            _ => Err(self.malformed("a call of something that is no function")),
        }
    }

    /// Makes a bare instance of `class`, as `class.__new__(class, *args)` would.
    pub(super) fn new_object(&mut self, class: NodeId, args: NodeId) -> Result<Slot<'a>, Error> {
        if let Some(number) = self.unknown_number(class) {
            return Ok(Slot::Opaque(number));
        }
        let args = self.arguments(args)?;
        match self.slot(class) {
            Slot::Known(known) if known.form.is_class() => Ok(record(known.canonical, args)),
            Slot::Known(known) => {
                Err(self.unsupported(format!("an instance of '{}'", known.canonical)))
            }
            Slot::Special(Special::ArrayWrapper) => Ok(Slot::ArrayWrapper),
            Slot::Special(Special::SideFileWrapper) => {
                Err(self.unsupported("joblib's old form with arrays in files of their own"))
            }
            Slot::Special(Special::Object) if args.is_empty() => {
                Ok(record(Special::Object.canonical(), args))
            }
            Slot::Special(special) => {
                Err(self.unsupported(format!("a bare instance of '{}'", special.canonical())))
            }
            _ => Err(self.malformed("an instance of something that is no class")),
        }
    }

    /// Gives `target` its state.
    pub(super) fn build(&mut self, target: NodeId, state: NodeId) -> Result<(), Error> {
        match self.slot(target) {
            Slot::Unknown(_) | Slot::Opaque(_) => return Ok(()),
            Slot::EmptyArray => return self.build_array(target, state),
            Slot::DType {
                is_built: false, ..
            } => return self.build_dtype(target, state),
            Slot::Ready(Node::Object(_)) => {}
            _ => return Err(self.malformed("a state for a value that takes none")),
        }
        match self.slots.get_mut(target.index()) {
            Some(Slot::Ready(Node::Object(object))) if object.state.is_none() => {
                object.state = Some(state);
                Ok(())
            }
            _ => Err(self.unsupported("a second state for one object")),
        }
    }

    pub(super) fn append(&mut self, target: NodeId, items: &[NodeId]) -> Result<(), Error> {
        match self.slots.get_mut(target.index()) {
            Some(Slot::Ready(Node::List(list))) => list.extend_from_slice(items),
            Some(Slot::Ready(Node::Object(object))) => {
                contents(object).elements.extend_from_slice(items);
            }
            Some(Slot::Unknown(_) | Slot::Opaque(_)) => {}
            _ => return Err(self.malformed("items for a value that is no list")),
        }
        Ok(())
    }

    pub(super) fn add_to_set(&mut self, target: NodeId, items: &[NodeId]) -> Result<(), Error> {
        match self.slots.get_mut(target.index()) {
            Some(Slot::Ready(Node::Set(set))) => set.extend_from_slice(items),
            Some(Slot::Unknown(_) | Slot::Opaque(_)) => {}
            _ => return Err(self.malformed("items for a value that is no set")),
        }
        Ok(())
    }

    pub(super) fn set_entries(
        &mut self,
        target: NodeId,
        pairs: &[(NodeId, NodeId)],
    ) -> Result<(), Error> {
        match self.slots.get_mut(target.index()) {
            Some(Slot::Ready(Node::Dict(entries))) => entries.extend_from_slice(pairs),
            Some(Slot::Ready(Node::Object(object))) => {
                contents(object).entries.extend_from_slice(pairs);
            }
            Some(Slot::Unknown(_) | Slot::Opaque(_)) => {}
            _ => return Err(self.malformed("entries for a value that is no dict")),
        }
        Ok(())
    }

    /// Groups keys and values.
    pub(super) fn pairs(&self, items: &[NodeId]) -> Result<Vec<(NodeId, NodeId)>, Error> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without its value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn call(&mut self, special: Special, args: &[NodeId]) -> Result<Slot<'a>, Error> {
        let node = match (special, args) {
            (Special::List, _) => Node::List(self.iterable(special, args)?),
            (Special::Tuple, _) => Node::Tuple(self.iterable(special, args)?),
            (Special::Set | Special::FrozenSet, _) => Node::Set(self.iterable(special, args)?),
            (Special::Dict | Special::OrderedDict, []) => Node::Dict(Vec::new()),
            (Special::Dict | Special::OrderedDict, [entries]) => {
                Node::Dict(self.entries_of(*entries)?)
            }
            (Special::DefaultDict, [] | [_]) => {
                self.check_factory(args)?;
                Node::Dict(Vec::new())
            }
            (Special::DefaultDict, [_, entries]) => {
                self.check_factory(args)?;
                Node::Dict(self.entries_of(*entries)?)
            }
            (Special::Bytes | Special::ByteArray, _) => return self.call_bytes(special, args),
            (Special::CodecsEncode, _) => return self.call_encode(args),
            (Special::Slice, [start, stop, step]) => Node::Slice([*start, *stop, *step]),
            (Special::Complex, [real, imaginary]) => self.call_complex(*real, *imaginary)?,
            (Special::Object, []) => return Ok(record(special.canonical(), Vec::new())),
            (Special::Reconstructor, [class, base, state]) => {
                return self.call_reconstructor(*class, *base, *state);
            }
            (Special::ArrayReconstruct, [class, shape, code]) => {
                return self.call_array_reconstruct(*class, *shape, *code);
            }
            (Special::ArrayScalar, [dtype, data]) => self.call_scalar(*dtype, *data)?,
            (Special::ArrayFromBuffer, [buffer, dtype, shape, order, rest @ ..]) => {
                self.call_from_buffer(*buffer, *dtype, *shape, *order, rest)?
            }
            (Special::DType, [code, ..]) => return self.call_dtype(*code),
            _ => {
                let what = format!("'{}' with {} arguments", special.canonical(), args.len());
                return Err(self.unsupported(what));
            }
        };
        Ok(Slot::Ready(node))
    }

    fn iterable(&mut self, special: Special, args: &[NodeId]) -> Result<Vec<NodeId>, Error> {
        let [source] = args else {
            if args.is_empty() {
                return Ok(Vec::new());
            }
            let what = format!("'{}' with {} arguments", special.canonical(), args.len());
            return Err(self.unsupported(what));
        };
        let items = match self.slot(*source) {
            Slot::Ready(Node::List(items) | Node::Tuple(items) | Node::Set(items)) => items.clone(),
            _ => {
                let what = format!("'{}' of something other than a list", special.canonical());
                return Err(self.unsupported(what));
            }
        };
        self.charge(items.len().saturating_mul(4))?;
        Ok(items)
    }

    fn entries_of(&mut self, source: NodeId) -> Result<Vec<(NodeId, NodeId)>, Error> {
        let entries: Option<Vec<_>> = match self.slot(source) {
            Slot::Ready(Node::Dict(entries)) => Some(entries.clone()),
            Slot::Ready(Node::List(items) | Node::Tuple(items)) => items
                .iter()
                .map(|item| match self.slot(*item) {
                    Slot::Ready(Node::List(pair) | Node::Tuple(pair)) => match pair.as_slice() {
                        [key, value] => Some((*key, *value)),
                        _ => None,
                    },
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        let entries =
            entries.ok_or_else(|| self.malformed("a dict of something other than pairs"))?;
        self.charge(entries.len().saturating_mul(8))?;
        Ok(entries)
    }

    fn check_factory(&self, args: &[NodeId]) -> Result<(), Error> {
        match args.first().map(|factory| self.slot(*factory)) {
            None | Some(Slot::Ready(Node::None) | Slot::Special(_) | Slot::Known(_)) => Ok(()),
            Some(_) => Err(self.unsupported("a defaultdict of something other than a class")),
        }
    }

    fn call_bytes(&mut self, special: Special, args: &[NodeId]) -> Result<Slot<'a>, Error> {
        match args {
            [] => Ok(Slot::Bytes(&[])),
            [source] => {
                let bytes = self.owned_bytes(*source)?;
                Ok(Slot::Ready(Node::Bytes(bytes)))
            }
            // What Python 2 writes for a bytearray.
            [_, _] if special == Special::ByteArray => self.call_encode(args),
            _ => Err(self.unsupported(format!("'{}' with these arguments", special.canonical()))),
        }
    }

    fn call_encode(&mut self, args: &[NodeId]) -> Result<Slot<'a>, Error> {
        let [text, encoding] = args else {
            return Err(self.unsupported("'_codecs.encode' with other than two arguments"));
        };
        if !self.is_text(*encoding, "latin1") && !self.is_text(*encoding, "latin-1") {
            return Err(self.unsupported("'_codecs.encode' into other than latin1"));
        }
        self.charge(self.text_len(*text))?;
        let bytes: Option<Box<[u8]>> = match self.text(*text) {
            Some(text) => text
                .chars()
                .map(|c| u8::try_from(u32::from(c)).ok())
                .collect(),
            None => return Err(self.malformed("'_codecs.encode' of something other than text")),
        };
        let bytes = bytes.ok_or_else(|| self.malformed("characters outside latin1"))?;
        Ok(Slot::Ready(Node::Bytes(bytes)))
    }

    fn call_complex(&mut self, real: NodeId, imaginary: NodeId) -> Result<Node, Error> {
        let (Slot::Ready(Node::Float(real)), Slot::Ready(Node::Float(imaginary))) =
            (self.slot(real), self.slot(imaginary))
        else {
            return Err(self.malformed("a complex number of other than two floats"));
        };
        let data = [real.to_le_bytes(), imaginary.to_le_bytes()].concat();
        let dtype = Arc::new(NumpyDType::plain(DTypeKind::Complex, 16));
        Array::from_bytes(Vec::new(), dtype, data.into_boxed_slice())
            .map(|array| Node::Array(Box::new(array)))
            .ok_or_else(|| self.malformed("a complex number that cannot be held"))
    }

    /// Makes what protocols 0 and 1 write for instances of most classes.
    fn call_reconstructor(
        &mut self,
        class: NodeId,
        base: NodeId,
        state: NodeId,
    ) -> Result<Slot<'a>, Error> {
        if let Some(number) = self.unknown_number(class) {
            return Ok(Slot::Opaque(number));
        }
        let base = match self.slot(base) {
            Slot::Special(base @ (Special::Object | Special::Dict | Special::List)) => *base,
            _ => return Err(self.unsupported("an instance of a subclass of this builtin class")),
        };
        let Slot::Known(known) = self.slot(class) else {
            return match self.slot(class) {
                Slot::Special(Special::ArrayWrapper) => Ok(Slot::ArrayWrapper),
                Slot::Special(Special::SideFileWrapper) => {
                    Err(self.unsupported("joblib's old form with arrays in files of their own"))
                }
                _ => Err(self.unsupported("an instance of a class of this kind")),
            };
        };
        if !known.form.is_class() {
            return Err(self.unsupported(format!("an instance of '{}'", known.canonical)));
        }
        let mut object = Object::new(known.canonical, Vec::new());
        match base {
            Special::Dict => contents(&mut object).entries = self.entries_of(state)?,
            Special::List => contents(&mut object).elements = self.iterable(base, &[state])?,
            _ => {}
        }
        Ok(Slot::Ready(Node::Object(object)))
    }

    /// Copies an argument tuple.
    pub(super) fn arguments(&mut self, args: NodeId) -> Result<Vec<NodeId>, Error> {
        let Slot::Ready(Node::Tuple(items)) = self.slot(args) else {
            return Err(self.malformed("arguments that are no tuple"));
        };
        let items = items.clone();
        // Short lists are paid for by the opcodes that made them.
        if items.len() > 8 {
            self.charge(
                items
                    .len()
                    .saturating_mul(4)
                    .saturating_add(ARGUMENTS_BYTES),
            )?;
        }
        Ok(items)
    }

    pub(super) fn is_unknown(&self, id: NodeId) -> bool {
        self.unknown_number(id).is_some()
    }

    fn unknown_number(&self, id: NodeId) -> Option<usize> {
        match self.slot(id) {
            Slot::Unknown(number) | Slot::Opaque(number) => Some(*number),
            _ => None,
        }
    }

    /// Reads a text, or a byte string of Python 2 as latin-1.
    pub(super) fn text(&self, id: NodeId) -> Option<Cow<'_, str>> {
        match self.slot(id) {
            Slot::Ready(Node::Str(text)) => Some(Cow::Borrowed(text)),
            Slot::OldString(bytes) => Some(latin1(bytes)),
            _ => None,
        }
    }

    /// Says whether a node is this text, whose characters are all ASCII. Costs no more than the text.
    pub(super) fn is_text(&self, id: NodeId, expected: &str) -> bool {
        match self.slot(id) {
            Slot::Ready(Node::Str(text)) => &**text == expected,
            Slot::OldString(bytes) => &**bytes == expected.as_bytes(),
            _ => false,
        }
    }

    /// Returns the length of a text in bytes, before it is copied; 0 for other nodes.
    pub(super) fn text_len(&self, id: NodeId) -> usize {
        match self.slot(id) {
            Slot::Ready(Node::Str(text)) => text.len(),
            Slot::OldString(bytes) => bytes.len().saturating_mul(2),
            _ => 0,
        }
    }

    /// Reads bytes, or a byte string of Python 2.
    pub(super) fn bytes(&self, id: NodeId) -> Option<&[u8]> {
        match self.slot(id) {
            Slot::Bytes(bytes) => Some(bytes),
            Slot::OldString(bytes) => Some(bytes),
            Slot::Ready(Node::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn owned_bytes(&mut self, id: NodeId) -> Result<Box<[u8]>, Error> {
        match self.bytes(id).map(<[u8]>::len) {
            Some(length) => self.charge(length)?,
            None => return Err(self.unsupported("bytes of something other than bytes")),
        }
        Ok(self.bytes(id).unwrap_or_default().into())
    }

    /// Reads a non-negative integer.
    pub(super) fn size(&self, id: NodeId) -> Option<usize> {
        match self.slot(id) {
            Slot::Ready(Node::Int(value)) => usize::try_from(*value).ok(),
            Slot::Ready(Node::Array(array)) if array.shape().is_empty() => array
                .to_i64s()?
                .pop()
                .and_then(|value| usize::try_from(value).ok()),
            _ => None,
        }
    }

    pub(super) fn is_none(&self, id: NodeId) -> bool {
        id == NONE || matches!(self.slot(id), Slot::Ready(Node::None))
    }
}

/// Reads bytes as latin-1.
pub(crate) fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

pub(super) fn record(class: &'static str, args: Vec<NodeId>) -> Slot<'static> {
    Slot::Ready(Node::Object(Object::new(class, args)))
}

fn contents(object: &mut Object) -> &mut Contents {
    object.contents.get_or_insert_default()
}
