//! Writes pickles by hand, one opcode at a time. Knows nothing of the reader.
#![allow(dead_code, missing_docs, unreachable_pub)]

#[derive(Clone, Debug)]
pub struct Assembler {
    bytes: Vec<u8>,
    start: usize,
}

impl Assembler {
    pub fn new(protocol: u8) -> Self {
        Self {
            bytes: vec![0x80, protocol],
            start: 2,
        }
    }

    /// Adds an opcode without arguments, by its name in `pickletools`.
    pub fn op(self, name: &str) -> Self {
        let code = match name {
            "MARK" => b'(',
            "POP" => b'0',
            "POP_MARK" => b'1',
            "DUP" => b'2',
            "NONE" => b'N',
            "REDUCE" => b'R',
            "APPEND" => b'a',
            "APPENDS" => b'e',
            "BUILD" => b'b',
            "DICT" => b'd',
            "LIST" => b'l',
            "TUPLE" => b't',
            "EMPTY_DICT" => b'}',
            "EMPTY_LIST" => b']',
            "EMPTY_TUPLE" => b')',
            "EMPTY_SET" => 0x8f,
            "ADDITEMS" => 0x90,
            "FROZENSET" => 0x91,
            "OBJ" => b'o',
            "SETITEM" => b's',
            "SETITEMS" => b'u',
            "NEWOBJ" => 0x81,
            "NEWOBJ_EX" => 0x92,
            "TUPLE1" => 0x85,
            "TUPLE2" => 0x86,
            "TUPLE3" => 0x87,
            "NEWTRUE" => 0x88,
            "NEWFALSE" => 0x89,
            "STACK_GLOBAL" => 0x93,
            "MEMOIZE" => 0x94,
            _ => panic!("no opcode {name}"),
        };
        self.raw(&[code])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn str(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).expect("a short text");
        self.raw(b"X")
            .raw(&length.to_le_bytes())
            .raw(text.as_bytes())
    }

    pub fn bytes8(self, bytes: &[u8]) -> Self {
        let length = u64::try_from(bytes.len()).expect("bytes in memory");
        self.raw(&[0x8e]).raw(&length.to_le_bytes()).raw(bytes)
    }

    pub fn int(self, value: u8) -> Self {
        self.raw(&[b'K', value])
    }

    pub fn long(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    /// Adds `numpy.dtype(code, False, True)`, without its state.
    pub fn dtype(self, code: &str) -> Self {
        self.global("numpy", "dtype")
            .str(code)
            .op("NEWFALSE")
            .op("NEWTRUE")
            .op("TUPLE3")
            .op("REDUCE")
    }

    /// Returns what was added, without the protocol.
    pub fn body(&self) -> Vec<u8> {
        self.bytes[self.start..].to_vec()
    }

    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn stop(self) -> Vec<u8> {
        self.raw(b".").bytes
    }
}
