//! What lies in members of its own: arrays, bytes, sparse matrices; and arrays of objects, which do not.

use std::sync::Arc;

use super::{Reader, wrong};
use crate::globals::Special;
use crate::json::{Map, Value, ValueId};
use crate::npy::read_npy;
use crate::slot::Slot;
use crate::zip::Archive;
use crate::{Array, DTypeKind, Error, Limits, Node, NodeId, NumpyDType, Object};

/// The most axes of an array of objects, as of every array of numpy.
const AXES_MAX: usize = 64;

impl<'a> Reader<'a> {
    /// Makes a numpy array or scalar.
    pub(super) fn array(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let slot = match self.text(map, "type")? {
            "numpy" => self.file(map, |bytes, limits| {
                read_npy(bytes, limits).map(|array| Node::Array(Box::new(array)))
            })?,
            "json" => self.objects(map)?,
            _ => return Err(wrong(map, "type")),
        };
        let is_scalar = match self.name(map)? {
            Slot::Unknown(number) => return Ok(Slot::Opaque(number)),
            Slot::Special(Special::NdArray) => false,
            Slot::Known(known) if known.canonical.starts_with("numpy.") => true,
            _ => return Err(wrong(map, "__class__")),
        };
        let is_sound = match self.resolved(&slot) {
            Some(Node::Array(array)) => !is_scalar || array.shape().is_empty(),
            _ => false,
        };
        is_sound.then_some(slot).ok_or_else(|| wrong(map, "file"))
    }

    pub(super) fn bytes(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        match self.name(map)? {
            Slot::Unknown(number) => return Ok(Slot::Opaque(number)),
            Slot::Special(Special::Bytes | Special::ByteArray) => {}
            _ => return Err(wrong(map, "__class__")),
        }
        let slot = self.file(map, |bytes, _limits| Ok(Node::Bytes(bytes.into())))?;
        match self.resolved(&slot) {
            Some(Node::Bytes(_)) => Ok(slot),
            _ => Err(wrong(map, "file")),
        }
    }

    /// Makes a dtype, which is stored as that of an array.
    pub(super) fn dtype(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let content = self.inner(map, "content", "NdArrayNode")?;
        let dtype = match self.text(content, "type")? {
            "json" => NumpyDType::plain(DTypeKind::Object, 8),
            _ => match self.array(content)? {
                Slot::Opaque(number) => return Ok(Slot::Opaque(number)),
                slot => match self.resolved(&slot) {
                    Some(Node::Array(array)) => array.dtype().clone(),
                    _ => return Err(wrong(map, "content")),
                },
            },
        };
        Ok(Slot::Ready(Node::DType(Box::new(dtype))))
    }

    /// Returns the value of the member that a description names. Every member is read once: whoever names it again
    /// refers to the first.
    fn file(
        &mut self,
        map: &'a Map<'a>,
        read: impl FnOnce(&[u8], &Limits) -> Result<Node, Error>,
    ) -> Result<Slot<'a>, Error> {
        let name = self.text(map, "file")?;
        if let Some(node) = self.by_file.get(name) {
            return Ok(Slot::Alias(*node));
        }
        let bytes = self.archive.member(name, &mut self.allowance)?;
        let value = read(&bytes, self.limits)?;
        let node = self.push(Slot::Ready(value))?;
        self.by_file.insert(name, node);
        Ok(Slot::Alias(node))
    }

    /// Returns the value that a slot made by [`file`](Self::file) or [`objects`](Self::objects) has.
    fn resolved<'s>(&'s self, slot: &'s Slot<'a>) -> Option<&'s Node> {
        let slot = match slot {
            Slot::Alias(target) => self.slots.get(target.index())?,
            slot => slot,
        };
        match slot {
            Slot::Ready(node) => Some(node),
            _ => None,
        }
    }

    /// Makes an array of objects: lists in lists, one level for each axis.
    fn objects(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let shape = self.shape(map)?;
        let mut items: Vec<ValueId> = self.list(map, "content")?.to_vec();
        let mut n_items = 1_usize;
        for (axis, length) in shape.iter().enumerate() {
            if axis > 0 {
                items = self.level(map, &items, *length)?;
            }
            n_items = n_items
                .checked_mul(*length)
                .ok_or_else(|| wrong(map, "shape"))?;
            if items.len() != n_items {
                return Err(wrong(map, "shape"));
            }
        }
        let objects = self.children(&items)?;
        let dtype = Arc::new(NumpyDType::plain(DTypeKind::Object, 8));
        let array = Array::from_objects(shape, dtype, objects);
        let array = array.ok_or_else(|| wrong(map, "shape"))?;
        Ok(Slot::Ready(Node::Array(Box::new(array))))
    }

    /// Returns the items of lists, each of which has `length` of them.
    fn level(
        &self,
        map: &'a Map<'a>,
        lists: &[ValueId],
        length: usize,
    ) -> Result<Vec<ValueId>, Error> {
        let mut items = Vec::new();
        for list in lists {
            let Value::Map(list) = self.json.value(*list) else {
                return Err(wrong(map, "content"));
            };
            let inner = self.list(list, "content")?;
            if self.text(list, "__loader__")? != "ListNode" || inner.len() != length {
                return Err(wrong(map, "content"));
            }
            items.extend_from_slice(inner);
        }
        Ok(items)
    }

    /// Reads the shape of an array of objects: a tuple of plain integers; scalars are none.
    fn shape(&self, map: &'a Map<'a>) -> Result<Vec<usize>, Error> {
        let shape = self.inner(map, "shape", "TupleNode")?;
        let lengths = self.list(shape, "content")?;
        if lengths.is_empty() || lengths.len() > AXES_MAX {
            return Err(wrong(map, "shape"));
        }
        let length = |id: &ValueId| match self.json.value(*id) {
            Value::Map(length) => self.text(length, "content").ok()?.parse().ok(),
            _ => None,
        };
        let lengths: Option<Vec<usize>> = lengths.iter().map(length).collect();
        lengths.ok_or_else(|| wrong(map, "shape"))
    }

    /// Makes what a pickle of a sparse matrix gives: a record with its arrays.
    pub(super) fn sparse(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let (format, known) = match self.name(map)? {
            Slot::Unknown(number) => return Ok(Slot::Opaque(number)),
            Slot::Known(known) => match known.canonical.strip_prefix("scipy.sparse._") {
                Some(rest) => (rest.split('.').next().unwrap_or_default(), known),
                None => return Err(wrong(map, "__class__")),
            },
            _ => return Err(wrong(map, "__class__")),
        };
        let parts: &[&str] = match format {
            "csr" | "csc" => &["data", "indices", "indptr"],
            "coo" => &["data", "row", "col"],
            "dia" => &["data", "offsets"],
            _ => {
                let what = format!("a sparse matrix of the form '{format}'");
                return Err(Error::unsupported(what, map.offset));
            }
        };
        let name = self.text(map, "file")?;
        if let Some(node) = self.by_file.get(name) {
            return Ok(Slot::Alias(*node));
        }
        let bytes = self.archive.member(name, &mut self.allowance)?;
        let inner = Archive::read(&bytes)?;
        let stored = self.npz(&inner, "format")?;
        if stored.bytes() != format.as_bytes() {
            return Err(wrong(map, "__class__"));
        }
        let shape = self.npz(&inner, "shape")?.to_i64s();
        let shape = shape.ok_or_else(|| wrong(map, "file"))?;
        let mut lengths = Vec::with_capacity(shape.len());
        for length in shape {
            lengths.push(self.push(Slot::Ready(Node::Int(length)))?);
        }
        let mut entries = Vec::with_capacity(4);
        entries.push(self.entry("_shape", Node::Tuple(lengths))?);
        for part in parts {
            let array = self.npz(&inner, part)?;
            entries.push(self.entry(part, Node::Array(Box::new(array)))?);
        }
        let state = self.push(Slot::Ready(Node::Dict(entries)))?;
        let object = Object {
            state: Some(state),
            ..Object::new(known.canonical, Vec::new())
        };
        let node = self.push(Slot::Ready(Node::Object(object)))?;
        self.by_file.insert(name, node);
        Ok(Slot::Alias(node))
    }

    fn npz(&mut self, archive: &Archive<'_>, name: &str) -> Result<Array, Error> {
        let bytes = archive.member(&format!("{name}.npy"), &mut self.allowance)?;
        read_npy(&bytes, self.limits)
    }

    fn entry(&mut self, name: &str, value: Node) -> Result<(NodeId, NodeId), Error> {
        let name = self.push(Slot::Ready(Node::Str(name.into())))?;
        Ok((name, self.push(Slot::Ready(value))?))
    }
}
