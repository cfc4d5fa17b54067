//! numpy's and joblib's own forms: dtypes, arrays, scalars, and arrays that follow in the file.

use std::collections::HashMap;
use std::sync::Arc;

use super::Machine;
use crate::array::product;
use crate::dtype::{FIELD_BYTES, Field};
use crate::globals::Special;
use crate::slot::Slot;
use crate::{Array, DTypeKind, Error, Node, NodeId, NumpyDType, dtype, layout};

/// numpy allows no more axes.
const AXES_MAX: usize = 64;

/// joblib's wrappers have six parts.
const WRAPPER_PARTS_MAX: usize = 32;

/// No short form of a dtype is longer.
const CODE_BYTES_MAX: usize = 32;

/// How the items of an array lie in the file.
enum Order<'o> {
    C,
    Fortran,
    /// C order of other axes: the array's axis `i` is axis `order[i]` of the file.
    Axes(&'o [usize]),
}

impl<'a> Machine<'a> {
    /// Reads the state that `numpy.dtype` was given by its first argument, a short form such as `f8`.
    pub(super) fn call_dtype(&mut self, code: NodeId) -> Result<Slot<'a>, Error> {
        if self.text_len(code) > CODE_BYTES_MAX {
            return Err(self.unsupported("a dtype of this code"));
        }
        let code = self
            .text(code)
            .ok_or_else(|| self.malformed("a dtype without its code"))?;
        match NumpyDType::parse(&code) {
            Some(dtype) => Ok(Slot::DType {
                dtype: Arc::new(dtype),
                is_built: false,
            }),
            None => Err(self.unsupported(format!("the dtype '{}'", code.escape_debug()))),
        }
    }

    /// `state` is `(version, byte order, base, names, fields, item size, alignment, flags[, metadata])`.
    pub(super) fn build_dtype(&mut self, target: NodeId, state: NodeId) -> Result<(), Error> {
        let malformed = |problem: &str| Error::malformed(problem, self.opcode_offset);
        let &[
            _version,
            order,
            base,
            names,
            fields,
            item_size,
            _alignment,
            _flags,
            ref more @ ..,
        ] = self.tuple(state)?
        else {
            return Err(malformed("a dtype with too short a state"));
        };
        let Slot::DType { dtype, .. } = self.slot(target) else {
            return Err(malformed("a dtype state for something else"));
        };
        let mut dtype = NumpyDType::clone(dtype);
        dtype.big_endian = self.is_text(order, ">");
        if !dtype.big_endian
            && !["<", "|", "="]
                .iter()
                .any(|known| self.is_text(order, known))
        {
            return Err(malformed("a dtype of unknown byte order"));
        }
        if !self.is_none(base) {
            return Err(self.unsupported("a dtype of small arrays"));
        }
        if let (DTypeKind::DateTime, &[about]) = (dtype.kind, more) {
            dtype.tick_ns = self.tick_ns(about);
        }
        let is_flexible = matches!(
            dtype.kind,
            DTypeKind::Unicode | DTypeKind::ByteString | DTypeKind::Opaque
        );
        match self.slot(item_size) {
            Slot::Ready(Node::Int(-1)) => {}
            _ => match self.size(item_size) {
                Some(size) if is_flexible => dtype.item_size = size,
                Some(size) if size == dtype.item_size => {}
                _ => return Err(malformed("a dtype with an impossible item size")),
            },
        }
        if dtype.kind == DTypeKind::Unicode && !dtype.item_size.is_multiple_of(4) {
            return Err(malformed("a text dtype with an impossible item size"));
        }
        if !self.is_none(names) {
            if dtype.kind != DTypeKind::Opaque {
                return Err(malformed("fields for a dtype that is no record"));
            }
            dtype.fields = self.fields(names, fields, dtype.item_size)?;
            if !dtype.fields.is_empty() {
                dtype.kind = DTypeKind::Struct;
            }
        }
        let built = Slot::DType {
            dtype: Arc::new(dtype),
            is_built: true,
        };
        if let Some(slot) = self.slots.get_mut(target.index()) {
            *slot = built;
        }
        Ok(())
    }

    /// Reads the unit of dates; `about` is `(.., (unit, count, ..))`.
    fn tick_ns(&self, about: NodeId) -> Option<u64> {
        let &[_, unit] = self.tuple(about).ok()? else {
            return None;
        };
        let &[unit, count, ..] = self.tuple(unit).ok()? else {
            return None;
        };
        let unit = std::str::from_utf8(self.bytes(unit)?).ok()?;
        dtype::tick_ns(u64::try_from(self.size(count)?).ok()?, unit)
    }

    fn fields(
        &mut self,
        names: NodeId,
        fields: NodeId,
        record_size: usize,
    ) -> Result<Vec<Field>, Error> {
        let names = self.tuple(names)?;
        let Slot::Ready(Node::Dict(entries)) = self.slot(fields) else {
            return Err(self.malformed("a record dtype without its fields"));
        };
        let texts = names.iter().chain(entries.iter().map(|(key, _)| key));
        let cost = texts
            .map(|id| self.text_len(*id).saturating_add(FIELD_BYTES))
            .fold(0, usize::saturating_add);
        let entries = entries.clone();
        let names = names.to_vec();
        self.charge(cost)?;
        let mut by_name: HashMap<_, _> = entries
            .iter()
            .filter_map(|(key, value)| Some((self.text(*key)?, *value)))
            .collect();
        let mut result = Vec::with_capacity(names.len());
        let mut used = 0_usize;
        for name in names {
            let name = self
                .text(name)
                .ok_or_else(|| self.malformed("a field whose name is no text"))?;
            let description = by_name
                .remove(&name)
                .ok_or_else(|| self.malformed("a field without a description of its own"))?;
            let field = self.field(name.into_owned(), description, record_size)?;
            used = used.saturating_add(field.dtype.item_size);
            result.push(field);
        }
        // This also bounds the work on each record by the record's bytes.
        if used > record_size {
            return Err(self.unsupported("a record whose fields overlap"));
        }
        Ok(result)
    }

    /// `description` is `(dtype, offset[, title])`.
    fn field(&self, name: String, description: NodeId, record_size: usize) -> Result<Field, Error> {
        let (dtype, offset) = match self.tuple(description)? {
            [dtype, offset] | [dtype, offset, _] => (self.dtype(*dtype)?, self.size(*offset)),
            _ => return Err(self.malformed("a field that is no pair")),
        };
        if matches!(dtype.kind, DTypeKind::Struct | DTypeKind::Object) {
            return Err(self.unsupported("a record of records or objects"));
        }
        let is_inside = |offset: &usize| {
            let end = offset.checked_add(dtype.item_size);
            dtype.item_size > 0 && end.is_some_and(|end| end <= record_size)
        };
        let offset = offset
            .filter(is_inside)
            .ok_or_else(|| self.malformed("a field outside its record"))?;
        Ok(Field {
            name,
            offset,
            dtype: NumpyDType::clone(&dtype),
        })
    }

    /// Makes the empty array that a state will fill.
    pub(super) fn call_array_reconstruct(
        &self,
        class: NodeId,
        shape: NodeId,
        code: NodeId,
    ) -> Result<Slot<'a>, Error> {
        if !matches!(self.slot(class), Slot::Special(Special::NdArray)) {
            return Err(self.unsupported("an array of a class other than numpy.ndarray"));
        }
        let is_empty = matches!(self.tuple(shape)?, [length] if self.size(*length) == Some(0));
        let has_code = self.bytes(code) == Some(b"b") || self.is_text(code, "b");
        if !is_empty || !has_code {
            return Err(self.unsupported("an array made other than as numpy writes it"));
        }
        Ok(Slot::EmptyArray)
    }

    /// `state` is `(version, shape, dtype, is Fortran, bytes or list of objects)`.
    pub(super) fn build_array(&mut self, target: NodeId, state: NodeId) -> Result<(), Error> {
        let &[_version, shape, dtype, is_fortran, data] = self.tuple(state)? else {
            return Err(self.malformed("an array with other than five parts of state"));
        };
        let shape = self.shape(shape)?;
        let dtype = self.dtype(dtype)?;
        let array = match self.slot(data) {
            Slot::Ready(Node::List(objects)) => {
                // numpy writes objects in C order whatever the array's.
                let objects = objects.clone();
                self.charge(objects.len().saturating_mul(4))?;
                Array::from_objects(shape, dtype, objects)
                    .ok_or_else(|| self.malformed("an array whose objects do not fit its shape"))?
            }
            _ => {
                let is_fortran = match self.slot(is_fortran) {
                    Slot::Ready(Node::Bool(value)) => *value,
                    Slot::Ready(Node::Int(value)) => *value != 0,
                    _ => return Err(self.malformed("an array without its order")),
                };
                let order = if is_fortran { Order::Fortran } else { Order::C };
                self.array_of(data, shape, &dtype, &order)?
            }
        };
        if let Some(slot) = self.slots.get_mut(target.index()) {
            *slot = Slot::Ready(Node::Array(Box::new(array)));
        }
        Ok(())
    }

    pub(super) fn call_scalar(&mut self, dtype: NodeId, data: NodeId) -> Result<Node, Error> {
        let dtype = self.dtype(dtype)?;
        self.array_of(data, Vec::new(), &dtype, &Order::C)
            .map(|array| Node::Array(Box::new(array)))
    }

    /// Makes an array as protocol 5 writes contiguous ones.
    pub(super) fn call_from_buffer(
        &mut self,
        buffer: NodeId,
        dtype: NodeId,
        shape: NodeId,
        order: NodeId,
        rest: &[NodeId],
    ) -> Result<Node, Error> {
        let shape = self.shape(shape)?;
        let dtype = self.dtype(dtype)?;
        let axes = match rest {
            [] => None,
            [axes] if self.is_none(*axes) => None,
            [axes] => Some(self.shape(*axes)?),
            _ => return Err(self.unsupported("'_frombuffer' with more than five arguments")),
        };
        let array = match &axes {
            None if self.is_text(order, "C") => self.array_of(buffer, shape, &dtype, &Order::C)?,
            None if self.is_text(order, "F") => {
                self.array_of(buffer, shape, &dtype, &Order::Fortran)?
            }
            Some(axes) if self.is_text(order, "K") => {
                let transposed: Option<Vec<usize>> = is_permutation(axes, shape.len())
                    .then(|| axes.iter().map(|axis| shape.get(*axis).copied()).collect())
                    .flatten();
                let transposed =
                    transposed.ok_or_else(|| self.malformed("an array with impossible axes"))?;
                self.array_of(buffer, transposed, &dtype, &Order::Axes(axes))?
            }
            _ => return Err(self.unsupported("an array of this order")),
        };
        Ok(Node::Array(Box::new(array)))
    }

    /// Reads the array that follows joblib's wrapper `target` in the file, and puts it in its place.
    pub(super) fn read_joblib_array(
        &mut self,
        run: &mut super::Run,
        target: NodeId,
        state: NodeId,
    ) -> Result<(), Error> {
        if run.is_nested {
            return Err(self.malformed("a joblib array inside a nested pickle"));
        }
        if run.frame_end > self.cursor.position() {
            return Err(self.malformed("a joblib array inside a frame"));
        }
        self.is_joblib = true;
        let [subclass, shape, order, dtype] = [
            self.wrapper_part(state, "subclass")?,
            self.wrapper_part(state, "shape")?,
            self.wrapper_part(state, "order")?,
            self.wrapper_part(state, "dtype")?,
        ];
        if !matches!(self.slot(subclass), Slot::Special(Special::NdArray)) {
            return Err(self.unsupported("an array of a class other than numpy.ndarray"));
        }
        let shape = self.shape(shape)?;
        let dtype = self.dtype(dtype)?;
        let slot = if dtype.kind == DTypeKind::Object {
            let nested = self.read_pickle(true)?;
            match self.slot(nested) {
                Slot::Ready(Node::Array(array)) if array.shape() == shape => Slot::Alias(nested),
                Slot::Unknown(number) | Slot::Opaque(number) => Slot::Opaque(*number),
                _ => {
                    return Err(self.malformed("a nested pickle of something other than its array"));
                }
            }
        } else {
            let order = match self.is_text(order, "F") {
                true => Order::Fortran,
                false if self.is_text(order, "C") => Order::C,
                false => return Err(self.malformed("an array without its order")),
            };
            self.skip_alignment(state)?;
            let data = self.take_items(&shape, &dtype)?;
            self.charge_swap(&dtype)?;
            let array = self.arrange(data, shape, &dtype, &order)?;
            Slot::Ready(Node::Array(Box::new(array)))
        };
        if let Some(wrapper) = self.slots.get_mut(target.index()) {
            *wrapper = slot;
        }
        Ok(())
    }

    fn wrapper_part(&self, state: NodeId, name: &str) -> Result<NodeId, Error> {
        self.optional_wrapper_part(state, name)
            .ok_or_else(|| self.malformed(format!("a joblib array without its {name}")))
    }

    fn optional_wrapper_part(&self, state: NodeId, name: &str) -> Option<NodeId> {
        match self.slot(state) {
            Slot::Ready(Node::Dict(entries)) if entries.len() <= WRAPPER_PARTS_MAX => entries
                .iter()
                .rev()
                .find(|(key, _)| self.is_text(*key, name))
                .map(|(_, value)| *value),
            _ => None,
        }
    }

    /// Skips what joblib since 1.2 writes before an array: a count, and as many bytes.
    fn skip_alignment(&mut self, state: NodeId) -> Result<(), Error> {
        let alignment = self.optional_wrapper_part(state, "numpy_array_alignment_bytes");
        if alignment.is_some_and(|id| !self.is_none(id)) {
            let padding = self.cursor.byte("an array's padding")?;
            self.cursor
                .take(usize::from(padding), "an array's padding")?;
        }
        Ok(())
    }

    fn take_items(&mut self, shape: &[usize], dtype: &NumpyDType) -> Result<&'a [u8], Error> {
        let size = product(shape).and_then(|items| items.checked_mul(dtype.item_size));
        match size {
            Some(size) => self.cursor.take(size, "an array"),
            None => Err(self.malformed("an array larger than any memory")),
        }
    }

    fn array_of(
        &mut self,
        data: NodeId,
        shape: Vec<usize>,
        dtype: &Arc<NumpyDType>,
        order: &Order<'_>,
    ) -> Result<Array, Error> {
        let length = match self.bytes(data) {
            Some(data) => data.len(),
            None => return Err(self.malformed("an array without its bytes")),
        };
        self.charge(length)?;
        self.charge_swap(dtype)?;
        self.arrange(self.bytes(data).unwrap_or_default(), shape, dtype, order)
    }

    /// Takes account of the little-endian copy that a big-endian dtype needs.
    fn charge_swap(&mut self, dtype: &NumpyDType) -> Result<(), Error> {
        match dtype.is_swapped() {
            true => self.charge(dtype.copy_bytes()),
            false => Ok(()),
        }
    }

    /// Brings the bytes of an array to C order and little-endian.
    fn arrange(
        &self,
        data: &[u8],
        shape: Vec<usize>,
        dtype: &Arc<NumpyDType>,
        order: &Order<'_>,
    ) -> Result<Array, Error> {
        if dtype.kind == DTypeKind::Object {
            return Err(self.malformed("an array of objects made of bytes"));
        }
        arrange(data, shape, dtype, order)
            .ok_or_else(|| self.malformed("an array whose bytes do not fit its shape"))
    }

    fn dtype(&self, id: NodeId) -> Result<Arc<NumpyDType>, Error> {
        match self.slot(id) {
            Slot::DType { dtype, .. } => Ok(Arc::clone(dtype)),
            _ => Err(self.malformed("something other than a dtype")),
        }
    }

    fn shape(&self, id: NodeId) -> Result<Vec<usize>, Error> {
        let lengths = self.tuple(id)?;
        if lengths.len() > AXES_MAX {
            return Err(self.malformed("an array of more than 64 axes"));
        }
        lengths
            .iter()
            .map(|length| {
                self.size(*length)
                    .ok_or_else(|| self.malformed("an array with an impossible length"))
            })
            .collect()
    }

    fn tuple(&self, id: NodeId) -> Result<&[NodeId], Error> {
        match self.slot(id) {
            Slot::Ready(Node::Tuple(items)) => Ok(items),
            _ => Err(self.malformed("something other than a tuple")),
        }
    }
}

/// Makes the array of a `.npy` file.
pub(crate) fn npy_array(
    data: &[u8],
    shape: Vec<usize>,
    dtype: &Arc<NumpyDType>,
    is_fortran: bool,
) -> Option<Array> {
    let order = if is_fortran { Order::Fortran } else { Order::C };
    arrange(data, shape, dtype, &order)
}

fn arrange(
    data: &[u8],
    shape: Vec<usize>,
    dtype: &Arc<NumpyDType>,
    order: &Order<'_>,
) -> Option<Array> {
    let expected = product(&shape)?.checked_mul(dtype.item_size)?;
    // Only a scalar may be an empty text: an array of items without size has any length.
    let is_sized = dtype.item_size > 0 || shape.is_empty();
    if data.len() != expected || !is_sized {
        return None;
    }
    let mut items = match order {
        Order::Fortran if !layout::is_order_free(&shape) => {
            let strides = layout::fortran_strides(&shape)?;
            layout::gather(data, dtype.item_size, &shape, &strides)?
        }
        Order::Axes(axes) if !layout::is_order_free(&shape) => {
            let mut stored_shape = vec![0; shape.len()];
            for (axis, length) in axes.iter().zip(&shape) {
                *stored_shape.get_mut(*axis)? = *length;
            }
            let stored = layout::c_strides(&stored_shape)?;
            let strides: Option<Vec<usize>> =
                axes.iter().map(|axis| stored.get(*axis).copied()).collect();
            layout::gather(data, dtype.item_size, &shape, &strides?)?
        }
        _ => data.to_vec(),
    };
    layout::swap_to_little_endian(&mut items, dtype);
    Array::from_bytes(shape, dtype.to_little_endian(), items.into_boxed_slice())
}

fn is_permutation(axes: &[usize], n_axes: usize) -> bool {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..n_axes)
}
