//! What each kind of description makes: containers, plain values, names and instances.

use super::{Reader, wrong};
use crate::globals::Special;
use crate::graph::Contents;
use crate::json::{Json, Map, Value, ValueId};
use crate::slot::Slot;
use crate::{Error, GlobalForm, Node, NodeId, Object};

/// What the graph of a pickle holds in place of numpy's random states, whose contents nobody reads.
const RANDOM_STATE: &str = "numpy.random._pickle.__randomstate_ctor";
const RANDOM_GENERATOR: &str = "numpy.random._pickle.__generator_ctor";
const MASKED_ARRAY: &str = "numpy.ma.MaskedArray";

/// The type of a dict's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyType {
    Text,
    Int,
    Float,
    Bool,
}

impl<'a> Reader<'a> {
    /// Makes what a description describes.
    pub(super) fn describe(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        match self.text(map, "__loader__")? {
            "DictNode" => self.dict(map, map),
            "DefaultDictNode" => {
                let content = self.map(map, "content")?;
                let main = self.inner(content, "main", "DictNode")?;
                self.dict(map, main)
            }
            "ListNode" | "SetNode" | "TupleNode" => self.sequence(map),
            "JsonNode" => self.plain(map),
            "SliceNode" => self.slice(map),
            "BytesNode" | "BytearrayNode" => self.bytes(map),
            "TypeNode" => self.name(map),
            "FunctionNode" => match map.get("content").is_some() {
                // Protocol 0 names functions in a part of their own.
                true => {
                    let content = self.map(map, "content")?;
                    let (module, name) = ("module_path", "function");
                    self.global(content, module, name)
                }
                false => self.name(map),
            },
            "ObjectNode" => {
                let state = match map.get("content").map(|id| self.json.value(id)) {
                    None | Some(Value::Null) => None,
                    Some(_) => Some(self.child(self.part(map, "content")?)?),
                };
                self.instance(map, Vec::new(), state)
            }
            "ConstructorFromReduceNode" => self.constructed(map),
            "TreeNode" | "LossNode" | "SGDNode" | "QuantileForestNode" => {
                let reduce = self.map(map, "__reduce__")?;
                let args = self.inner(reduce, "args", "TupleNode")?;
                let args = self.children(self.list(args, "content")?)?;
                let state = self.child(self.part(map, "content")?)?;
                self.instance(map, args, Some(state))
            }
            "PartialNode" => self.partial(map),
            "MethodNode" => self.method(map),
            "RandomStateNode" => {
                let content = self.child(self.part(map, "content")?)?;
                Ok(record(RANDOM_STATE, vec![content], None))
            }
            "RandomGeneratorNode" => Ok(record(RANDOM_GENERATOR, Vec::new(), None)),
            "NdArrayNode" => self.array(map),
            "MaskedArrayNode" => {
                let content = self.map(map, "content")?;
                let data = self.child(self.part(content, "data")?)?;
                let mask = self.child(self.part(content, "mask")?)?;
                Ok(record(MASKED_ARRAY, vec![data, mask], None))
            }
            "DTypeNode" => self.dtype(map),
            "SparseMatrixNode" => self.sparse(map),
            _ => self.foreign(map),
        }
    }

    /// Finds the class of a description.
    pub(super) fn name(&mut self, map: &Map<'a>) -> Result<Slot<'a>, Error> {
        self.global(map, "__module__", "__class__")
    }

    fn global(
        &mut self,
        map: &Map<'a>,
        module: &'static str,
        name: &'static str,
    ) -> Result<Slot<'a>, Error> {
        let (module, name) = (self.text(map, module)?, self.text(map, name)?);
        self.names.find(module, name, map.offset)
    }

    /// Makes an instance of the class of a description.
    pub(super) fn instance(
        &mut self,
        map: &Map<'a>,
        args: Vec<NodeId>,
        state: Option<NodeId>,
    ) -> Result<Slot<'a>, Error> {
        match self.name(map)? {
            Slot::Unknown(number) => Ok(Slot::Opaque(number)),
            Slot::Known(known) if known.form != GlobalForm::Value => {
                Ok(record(known.canonical, args, state))
            }
            Slot::Known(known) => Err(Error::unsupported(
                format!("an instance of '{}'", known.canonical),
                map.offset,
            )),
            Slot::Special(special) => Err(Error::unsupported(
                format!("an instance of '{}'", special.canonical()),
                map.offset,
            )),
            _ => Err(wrong(map, "__class__")),
        }
    }

    /// Makes a dict, or an instance of a subclass, of the entries that `content` holds.
    fn dict(&mut self, map: &Map<'a>, content: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let types = self.inner(content, "key_types", "ListNode")?;
        let types = self.list(types, "content")?;
        let listed = self.map(content, "content")?;
        if types.len() != listed.entries.len() {
            return Err(Error::malformed(
                "a dict whose keys are not those of its entries",
                content.offset,
            ));
        }
        let mut entries = Vec::with_capacity(types.len());
        for (kind, (key, value)) in types.iter().zip(&listed.entries) {
            let Value::Map(kind) = self.json.value(*kind) else {
                return Err(wrong(content, "key_types"));
            };
            let value = self.child(*value)?;
            let key = match self.key_type(kind)? {
                Some(kind) => key_of(kind, key),
                None => continue,
            };
            let key = key.ok_or_else(|| wrong(content, "key_types"))?;
            entries.push((self.push(Slot::Ready(key))?, value));
        }
        match self.name(map)? {
            Slot::Unknown(number) => Ok(Slot::Opaque(number)),
            Slot::Special(Special::Dict | Special::OrderedDict | Special::DefaultDict) => {
                Ok(Slot::Ready(Node::Dict(entries)))
            }
            Slot::Known(known) if known.form.is_class() => {
                let elements = Vec::new();
                Ok(with_contents(
                    known.canonical,
                    Contents { entries, elements },
                ))
            }
            _ => Err(wrong(map, "__class__")),
        }
    }

    /// Tells the type of a key; `None` if nobody knows it.
    fn key_type(&mut self, map: &'a Map<'a>) -> Result<Option<KeyType>, Error> {
        if self.text(map, "__loader__")? != "TypeNode" {
            return Err(wrong(map, "__loader__"));
        }
        let canonical = match self.name(map)? {
            Slot::Known(known) => known.canonical,
            Slot::Unknown(_) => return Ok(None),
            Slot::Special(special) => special.canonical(),
            _ => return Err(wrong(map, "__class__")),
        };
        Ok(Some(match canonical {
            "builtins.str" | "numpy.str_" => KeyType::Text,
            "builtins.float" | "numpy.float64" | "numpy.float32" | "numpy.float16" => {
                KeyType::Float
            }
            "builtins.bool" | "numpy.bool_" => KeyType::Bool,
            "builtins.int" | "numpy.int8" | "numpy.int16" | "numpy.int32" | "numpy.int64"
            | "numpy.intc" | "numpy.longlong" | "numpy.uint8" | "numpy.uint16" | "numpy.uint32"
            | "numpy.uint64" | "numpy.uintc" | "numpy.ulonglong" => KeyType::Int,
            _ => {
                let what = format!("a dict with keys of '{canonical}'");
                return Err(Error::unsupported(what, map.offset));
            }
        }))
    }

    /// Makes a list, set or tuple, or an instance of a subclass.
    fn sequence(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let items = self.children(self.list(map, "content")?)?;
        Ok(match (self.name(map)?, self.text(map, "__loader__")?) {
            (Slot::Unknown(number), _) => Slot::Opaque(number),
            (Slot::Special(Special::List), "ListNode") => Slot::Ready(Node::List(items)),
            (Slot::Special(Special::Tuple), "TupleNode") => Slot::Ready(Node::Tuple(items)),
            (Slot::Special(Special::Set | Special::FrozenSet), "SetNode") => {
                Slot::Ready(Node::Set(items))
            }
            (Slot::Known(known), "ListNode") if known.form.is_class() => {
                let entries = Vec::new();
                let elements = items;
                with_contents(known.canonical, Contents { entries, elements })
            }
            // A named tuple.
            (Slot::Known(known), "TupleNode") if known.form.is_class() => {
                record(known.canonical, items, None)
            }
            _ => return Err(wrong(map, "__class__")),
        })
    }

    /// Makes what a constructor makes of its arguments, where that is known: a frozen set, or a record.
    fn constructed(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let content = self.inner(map, "content", "TupleNode")?;
        let args = self.list(content, "content")?;
        let slot = self.name(map)?;
        if !matches!(slot, Slot::Special(Special::FrozenSet)) {
            let args = self.children(args)?;
            return self.instance(map, args, None);
        }
        let items = match args {
            [items] => self.json.value(*items),
            _ => return Err(wrong(map, "content")),
        };
        match items {
            Value::Map(items) if self.text(items, "__loader__")? == "ListNode" => {
                let items = self.children(self.list(items, "content")?)?;
                Ok(Slot::Ready(Node::Set(items)))
            }
            _ => Err(wrong(map, "content")),
        }
    }

    /// Makes what a pickle of a partial function gives: a record of the function with its state.
    fn partial(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let content = self.map(map, "content")?;
        let mut parts = Vec::with_capacity(4);
        for key in ["func", "args", "kwds", "namespace"] {
            parts.push(self.child(self.part(content, key)?)?);
        }
        let function = parts.iter().take(1).copied().collect();
        let state = self.push(Slot::Ready(Node::Tuple(parts)))?;
        self.instance(map, function, Some(state))
    }

    /// Notes a bound method as the unknown name that it is.
    fn method(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let content = self.map(map, "content")?;
        self.child(self.part(content, "obj")?)?;
        let class = self.text(map, "__class__")?;
        let name = format!("{class}.{}", self.text(content, "func")?);
        let module = self.text(map, "__module__")?;
        opaque(self.names.find(module, &name, map.offset)?, map)
    }

    /// Refuses a kind that is not known: by its class where that is unknown too, else by the kind's own name.
    fn foreign(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let loader = self.text(map, "__loader__")?;
        match self.name(map)? {
            Slot::Unknown(number) => Ok(Slot::Opaque(number)),
            _ => Err(Error::unsupported(
                format!("the kind '{}'", loader.escape_debug()),
                map.offset,
            )),
        }
    }

    fn plain(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let text = self.text(map, "content")?;
        let json = Json::read(text, self.limits)?;
        let node = plain_node(json.value(json.root));
        let node =
            node.ok_or_else(|| Error::unsupported("a plain value of this kind", map.offset))?;
        Ok(Slot::Ready(node))
    }

    fn slice(&mut self, map: &'a Map<'a>) -> Result<Slot<'a>, Error> {
        let content = self.map(map, "content")?;
        let mut bound = |key: &'static str| {
            let value: ValueId = self.part(content, key)?;
            let node = plain_node(self.json.value(value)).ok_or_else(|| wrong(content, key))?;
            self.push(Slot::Ready(node))
        };
        let bounds = [bound("start")?, bound("stop")?, bound("step")?];
        Ok(Slot::Ready(Node::Slice(bounds)))
    }
}

fn record<'a>(class: &'static str, args: Vec<NodeId>, state: Option<NodeId>) -> Slot<'a> {
    let object = Object {
        state,
        ..Object::new(class, args)
    };
    Slot::Ready(Node::Object(object))
}

fn with_contents<'a>(class: &'static str, contents: Contents) -> Slot<'a> {
    let object = Object {
        contents: Some(Box::new(contents)),
        ..Object::new(class, Vec::new())
    };
    Slot::Ready(Node::Object(object))
}

/// Turns an unknown name into what it would make; a known one cannot be called.
fn opaque<'a>(slot: Slot<'a>, map: &Map<'_>) -> Result<Slot<'a>, Error> {
    match slot {
        Slot::Unknown(number) => Ok(Slot::Opaque(number)),
        _ => Err(Error::unsupported("a bound method", map.offset)),
    }
}

fn key_of(kind: KeyType, key: &str) -> Option<Node> {
    Some(match kind {
        KeyType::Text => Node::Str(key.into()),
        KeyType::Int => integer(key)?,
        KeyType::Float => Node::Float(key.parse().ok()?),
        KeyType::Bool => Node::Bool(match key {
            "true" | "True" => true,
            "false" | "False" => false,
            _ => return None,
        }),
    })
}

/// Returns a value that has no parts.
fn plain_node(value: &Value<'_>) -> Option<Node> {
    Some(match value {
        Value::Null => Node::None,
        Value::Bool(value) => Node::Bool(*value),
        Value::Int(value) => Node::Int(*value),
        Value::BigInt(digits) => integer(digits)?,
        Value::Float(value) => Node::Float(*value),
        Value::Text(text) => Node::Str(text.as_ref().into()),
        Value::List(_) | Value::Map(_) => return None,
    })
}

/// Reads an integer of at most 127 bits.
fn integer(digits: &str) -> Option<Node> {
    if let Ok(value) = digits.parse() {
        return Some(Node::Int(value));
    }
    let wide: i128 = digits.parse().ok()?;
    Some(Node::BigInt(Box::new(wide.to_le_bytes())))
}
