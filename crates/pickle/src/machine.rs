//! Pickle's stack machine, protocols 0 to 5, over an arena of slots. It executes nothing.
//!
//! This file holds the loop and the opcodes; `call` makes what `REDUCE` and its kin ask for, `numpy`
//! fills arrays and dtypes, `stack` is the stack and the memo. [`crate::assemble`] makes the graph.

mod call;
mod getter;
mod numpy;
mod stack;

use std::borrow::Cow;

use crate::cursor::Cursor;
use crate::names::Names;
use crate::opcode as op;
use crate::slot::Slot;
use crate::{ClassTable, Error, Limits, Node, NodeId, text};
pub(crate) use call::latin1;
pub(crate) use numpy::npy_array;
use stack::{Memo, Stack};

/// Derived values may take this much whatever the file's size.
const DERIVED_BYTES_FREE: usize = 1 << 20;

/// Reads one file.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    cursor: Cursor<'a>,
    limits: &'a Limits,
    pub(crate) slots: Vec<Slot<'a>>,
    pub(crate) names: Names<'a>,
    pub(crate) protocol: u8,
    pub(crate) is_joblib: bool,
    n_opcodes: u64,
    derived_bytes: usize,
    opcode_offset: usize,
}

/// The state of one pickle; a joblib file may hold a second one inside the first.
#[derive(Debug)]
struct Run {
    stack: Stack,
    memo: Memo,
    start: usize,
    protocol: u8,
    frame_end: usize,
    is_nested: bool,
}

const NONE: NodeId = NodeId(0);
const TRUE: NodeId = NodeId(1);
const FALSE: NodeId = NodeId(2);

impl<'a> Machine<'a> {
    pub(crate) fn new(bytes: &'a [u8], table: &'a ClassTable, limits: &'a Limits) -> Self {
        Self {
            cursor: Cursor::new(bytes),
            limits,
            slots: vec![
                Slot::Ready(Node::None),
                Slot::Ready(Node::Bool(true)),
                Slot::Ready(Node::Bool(false)),
            ],
            names: Names::new(table),
            protocol: 0,
            is_joblib: false,
            n_opcodes: 0,
            derived_bytes: 0,
            opcode_offset: 0,
        }
    }

    /// Reads the one pickle that the bytes must be, and returns its value.
    pub(crate) fn read_all(&mut self) -> Result<NodeId, Error> {
        let root = self.read_pickle(false)?;
        if self.cursor.remaining() > 0 {
            return Err(Error::malformed(
                "bytes after the end of the pickle",
                self.cursor.position(),
            ));
        }
        Ok(root)
    }

    /// Reads one pickle. Nested ones hold no joblib arrays, so they nest no further.
    fn read_pickle(&mut self, is_nested: bool) -> Result<NodeId, Error> {
        let mut run = Run {
            stack: Stack::new(self.limits),
            memo: Memo::new(self.limits),
            start: self.cursor.position(),
            protocol: 0,
            frame_end: 0,
            is_nested,
        };
        loop {
            self.opcode_offset = self.cursor.position();
            let opcode = self.cursor.byte("an opcode")?;
            self.n_opcodes = self.n_opcodes.saturating_add(1);
            if self.n_opcodes > self.limits.opcodes_max {
                return Err(Error::limit("the opcodes", self.limits.opcodes_max));
            }
            if opcode == op::STOP {
                break;
            }
            self.step(&mut run, opcode)?;
        }
        if !run.stack.is_finished() {
            return Err(self.malformed("STOP with other than one value on the stack"));
        }
        if run.frame_end > self.cursor.position() {
            return Err(self.malformed("STOP inside a frame"));
        }
        if !is_nested {
            self.protocol = run.protocol;
        }
        self.pop(&mut run)
    }

    fn step(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        match opcode {
            op::PROTO | op::FRAME => self.step_framing(run, opcode),
            op::INT | op::LONG | op::FLOAT | op::STRING | op::UNICODE => {
                self.step_text(run, opcode)
            }
            op::BININT | op::BININT1 | op::BININT2 | op::LONG1 | op::LONG4 | op::BINFLOAT => {
                self.step_number(run, opcode)
            }
            op::BINSTRING
            | op::SHORT_BINSTRING
            | op::BINUNICODE
            | op::SHORT_BINUNICODE
            | op::BINUNICODE8
            | op::BINBYTES
            | op::SHORT_BINBYTES
            | op::BINBYTES8
            | op::BYTEARRAY8 => self.step_bytes(run, opcode),
            op::NONE => run.stack.push(NONE),
            op::NEWTRUE => run.stack.push(TRUE),
            op::NEWFALSE => run.stack.push(FALSE),
            op::MARK => run.stack.mark(),
            op::POP => match run.stack.pop() {
                Some(_) => Ok(()),
                None => self
                    .pop_to_mark(run)
                    .and_then(|items| match items.as_slice() {
                        [] => Ok(()),
                        _ => Err(self.malformed("a value below a mark")),
                    }),
            },
            op::POP_MARK => self.pop_to_mark(run).map(drop),
            op::DUP => {
                let top = self.top(run)?;
                run.stack.push(top)
            }
            op::GET | op::BINGET | op::LONG_BINGET => self.step_get(run, opcode),
            op::PUT | op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => self.step_put(run, opcode),
            op::EMPTY_LIST
            | op::EMPTY_TUPLE
            | op::EMPTY_DICT
            | op::EMPTY_SET
            | op::LIST
            | op::TUPLE
            | op::DICT
            | op::FROZENSET
            | op::TUPLE1
            | op::TUPLE2
            | op::TUPLE3 => self.step_container(run, opcode),
            op::APPEND | op::APPENDS | op::SETITEM | op::SETITEMS | op::ADDITEMS => {
                self.step_items(run, opcode)
            }
            op::GLOBAL | op::STACK_GLOBAL => self.step_global(run, opcode),
            op::REDUCE | op::NEWOBJ | op::NEWOBJ_EX | op::BUILD => self.step_object(run, opcode),
            _ => Err(self.refuse_opcode(opcode)),
        }
    }

    fn step_framing(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        if opcode == op::PROTO {
            if self.opcode_offset != run.start {
                return Err(self.malformed("PROTO after the start"));
            }
            let protocol = self.cursor.byte("PROTO")?;
            if protocol > 5 {
                let what = format!("pickle protocol {protocol}");
                return Err(Error::unsupported(what, self.opcode_offset));
            }
            run.protocol = protocol;
            return Ok(());
        }
        if run.frame_end > self.opcode_offset {
            return Err(self.malformed("a frame inside a frame"));
        }
        let length = u64::from_le_bytes(self.cursor.array("FRAME")?);
        let end = usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.cursor.remaining())
            .and_then(|length| self.cursor.position().checked_add(length));
        match end {
            Some(end) => run.frame_end = end,
            None => {
                let (at, left) = (self.cursor.position(), self.cursor.remaining());
                return Err(Error::truncated("a frame", at, length, left));
            }
        }
        Ok(())
    }

    fn step_text(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        let line = self.cursor.line(op::name(opcode).unwrap_or_default())?;
        let slot = match (opcode, line) {
            (op::INT, b"01") => return run.stack.push(TRUE),
            (op::INT, b"00") => return run.stack.push(FALSE),
            (op::INT, _) => text::decimal(line).map(Slot::Ready),
            (op::LONG, _) => {
                text::decimal(line.strip_suffix(b"L").unwrap_or(line)).map(Slot::Ready)
            }
            (op::FLOAT, _) => text::float(line).map(|value| Slot::Ready(Node::Float(value))),
            (op::STRING, _) => text::quoted(line).map(|bytes| Slot::OldString(Cow::Owned(bytes))),
            _ => text::raw_unicode_escaped(line)
                .map(|text| Slot::Ready(Node::Str(text.into_boxed_str()))),
        };
        match slot {
            Some(slot) => self.push(run, slot),
            None => Err(self.malformed("a value that cannot be read")),
        }
    }

    fn step_number(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        let node = match opcode {
            op::BININT => Node::Int(i64::from(i32::from_le_bytes(self.cursor.array("BININT")?))),
            op::BININT1 => Node::Int(i64::from(self.cursor.byte("BININT1")?)),
            op::BININT2 => Node::Int(i64::from(u16::from_le_bytes(self.cursor.array("BININT2")?))),
            op::BINFLOAT => Node::Float(f64::from_be_bytes(self.cursor.array("BINFLOAT")?)),
            op::LONG1 => {
                let length = self.cursor.byte("LONG1")?;
                text::little_endian(self.cursor.take(usize::from(length), "LONG1")?)
            }
            _ => {
                let length = i32::from_le_bytes(self.cursor.array("LONG4")?);
                let length = usize::try_from(length)
                    .map_err(|_negative| self.malformed("LONG4 with a negative length"))?;
                text::little_endian(self.cursor.take(length, "LONG4")?)
            }
        };
        self.push(run, Slot::Ready(node))
    }

    fn step_bytes(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        let what = op::name(opcode).unwrap_or_default();
        let length = match opcode {
            op::SHORT_BINSTRING | op::SHORT_BINUNICODE | op::SHORT_BINBYTES => {
                u64::from(self.cursor.byte(what)?)
            }
            op::BINUNICODE | op::BINBYTES => {
                u64::from(u32::from_le_bytes(self.cursor.array(what)?))
            }
            op::BINSTRING => u64::try_from(i32::from_le_bytes(self.cursor.array(what)?))
                .map_err(|_negative| self.malformed("BINSTRING with a negative length"))?,
            _ => u64::from_le_bytes(self.cursor.array(what)?),
        };
        let bytes = self.cursor.take_declared(length, what)?;
        let slot = match opcode {
            op::BINSTRING | op::SHORT_BINSTRING => Slot::OldString(Cow::Borrowed(bytes)),
            op::BINUNICODE | op::SHORT_BINUNICODE | op::BINUNICODE8 => {
                match str::from_utf8(bytes) {
                    Ok(text) => Slot::Ready(Node::Str(text.into())),
                    Err(_) => return Err(self.malformed("text that is not UTF-8")),
                }
            }
            _ => Slot::Bytes(bytes),
        };
        self.push(run, slot)
    }

    fn step_get(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        let index = match opcode {
            op::GET => text::index(self.cursor.line("GET")?)
                .ok_or_else(|| self.malformed("GET without a number"))?,
            op::BINGET => u64::from(self.cursor.byte("BINGET")?),
            _ => u64::from(u32::from_le_bytes(self.cursor.array("LONG_BINGET")?)),
        };
        match run.memo.get(index) {
            Some(id) => run.stack.push(id),
            None => Err(self.malformed("a memo number that was not given")),
        }
    }

    fn step_put(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        let index = match opcode {
            op::PUT => text::index(self.cursor.line("PUT")?)
                .ok_or_else(|| self.malformed("PUT without a number"))?,
            op::BINPUT => u64::from(self.cursor.byte("BINPUT")?),
            op::LONG_BINPUT => u64::from(u32::from_le_bytes(self.cursor.array("LONG_BINPUT")?)),
            _ => run.memo.next_index(),
        };
        let top = self.top(run)?;
        run.memo.put(index, top)
    }

    fn step_container(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        let node = match opcode {
            op::EMPTY_LIST => Node::List(Vec::new()),
            op::EMPTY_TUPLE => Node::Tuple(Vec::new()),
            op::EMPTY_DICT => Node::Dict(Vec::new()),
            op::EMPTY_SET => Node::Set(Vec::new()),
            op::LIST => Node::List(self.pop_to_mark(run)?),
            op::TUPLE => Node::Tuple(self.pop_to_mark(run)?),
            op::FROZENSET => Node::Set(self.pop_to_mark(run)?),
            op::DICT => {
                let items = self.pop_to_mark(run)?;
                Node::Dict(self.pairs(&items)?)
            }
            _ => {
                let length = opcode.saturating_sub(op::TUPLE1).saturating_add(1);
                let mut items = Vec::with_capacity(usize::from(length));
                for _ in 0..length {
                    items.push(self.pop(run)?);
                }
                items.reverse();
                Node::Tuple(items)
            }
        };
        self.push(run, Slot::Ready(node))
    }

    fn step_items(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        let items = match opcode {
            op::APPEND => vec![self.pop(run)?],
            op::SETITEM => {
                let value = self.pop(run)?;
                vec![self.pop(run)?, value]
            }
            _ => self.pop_to_mark(run)?,
        };
        let target = self.top(run)?;
        match opcode {
            op::APPEND | op::APPENDS => self.append(target, &items),
            op::ADDITEMS => self.add_to_set(target, &items),
            _ => {
                let pairs = self.pairs(&items)?;
                self.set_entries(target, &pairs)
            }
        }
    }

    fn step_global(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        let (module, name) = if opcode == op::GLOBAL {
            let module = self.cursor.line("GLOBAL")?;
            let name = self.cursor.line("GLOBAL")?;
            match (str::from_utf8(module), str::from_utf8(name)) {
                (Ok(module), Ok(name)) => (Cow::Borrowed(module), Cow::Borrowed(name)),
                _ => return Err(self.malformed("a name that is not UTF-8")),
            }
        } else {
            let (name, module) = (self.pop(run)?, self.pop(run)?);
            self.charge(self.text_len(module).saturating_add(self.text_len(name)))?;
            match (self.text(module), self.text(name)) {
                (Some(module), Some(name)) => (
                    Cow::Owned(module.into_owned()),
                    Cow::Owned(name.into_owned()),
                ),
                _ => return Err(self.malformed("STACK_GLOBAL without two texts")),
            }
        };
        let slot = self.find_global(&module, &name)?;
        self.push(run, slot)
    }

    /// Looks a name up, exactly; a name that nobody knows is remembered and becomes an opaque node.
    fn find_global(&mut self, module: &str, name: &str) -> Result<Slot<'a>, Error> {
        if getter::is_getter(module, name) {
            let (offset, is_used) = (self.opcode_offset, false);
            return Ok(Slot::Getter { offset, is_used });
        }
        self.names.find(module, name, self.opcode_offset)
    }

    fn step_object(&mut self, run: &mut Run, opcode: u8) -> Result<(), Error> {
        let last = self.pop(run)?;
        let slot = match opcode {
            op::REDUCE => {
                let callable = self.pop(run)?;
                self.reduce(callable, last)?
            }
            op::NEWOBJ => {
                let class = self.pop(run)?;
                self.new_object(class, last)?
            }
            op::NEWOBJ_EX => {
                let (args, class) = (self.pop(run)?, self.pop(run)?);
                if !matches!(self.slot(last), Slot::Ready(Node::Dict(entries)) if entries.is_empty())
                    && !self.is_unknown(class)
                {
                    let what = "NEWOBJ_EX with keyword arguments";
                    return Err(Error::unsupported(what, self.opcode_offset));
                }
                self.new_object(class, args)?
            }
            _ => {
                let target = self.top(run)?;
                return match self.slot(target) {
                    Slot::ArrayWrapper => self.read_joblib_array(run, target, last),
                    _ => self.build(target, last),
                };
            }
        };
        self.push(run, slot)
    }

    fn refuse_opcode(&self, opcode: u8) -> Error {
        match op::name(opcode) {
            Some(name) => Error::unsupported(format!("the opcode {name}"), self.opcode_offset),
            None => Error::malformed(
                format!("the unknown opcode {opcode:#04x}"),
                self.opcode_offset,
            ),
        }
    }

    fn malformed(&self, problem: impl Into<String>) -> Error {
        Error::malformed(problem, self.opcode_offset)
    }

    fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::unsupported(what, self.opcode_offset)
    }

    fn push(&mut self, run: &mut Run, slot: Slot<'a>) -> Result<(), Error> {
        let id = self.add(slot)?;
        run.stack.push(id)
    }

    fn add(&mut self, slot: Slot<'a>) -> Result<NodeId, Error> {
        match u32::try_from(self.slots.len()) {
            Ok(number) if self.slots.len() < self.limits.nodes_max => {
                self.slots.push(slot);
                Ok(NodeId(number))
            }
            _ => Err(Error::limit("the number of nodes", self.limits.nodes_max)),
        }
    }

    fn pop(&self, run: &mut Run) -> Result<NodeId, Error> {
        run.stack
            .pop()
            .ok_or_else(|| self.malformed("too few values on the stack"))
    }

    fn top(&self, run: &Run) -> Result<NodeId, Error> {
        run.stack
            .top()
            .ok_or_else(|| self.malformed("too few values on the stack"))
    }

    fn pop_to_mark(&self, run: &mut Run) -> Result<Vec<NodeId>, Error> {
        run.stack
            .pop_to_mark()
            .ok_or_else(|| self.malformed("no mark on the stack"))
    }

    /// Returns what a node is, behind any alias.
    fn slot(&self, id: NodeId) -> &Slot<'a> {
        const LOST: &Slot<'static> = &Slot::Ready(Node::None);
        match self.slots.get(id.index()) {
            // An alias leads to an array, never to an alias.
            Some(Slot::Alias(target)) => self.slots.get(target.index()).unwrap_or(LOST),
            Some(slot) => slot,
            None => LOST,
        }
    }

    /// Takes account of memory for a value made of others, before it is taken.
    fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        self.derived_bytes = self.derived_bytes.saturating_add(bytes);
        let allowed = self
            .cursor
            .position()
            .saturating_mul(self.limits.derived_bytes_per_byte)
            .saturating_add(DERIVED_BYTES_FREE);
        if self.derived_bytes > allowed {
            return Err(Error::limit(
                "the memory for copies of shared values",
                allowed,
            ));
        }
        Ok(())
    }
}
