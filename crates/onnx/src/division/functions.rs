//! The functions of a file: what their calls give them, and what they give for it.

use std::collections::HashMap;

use coracle_model::LoadError;

use super::read::read_version;
use super::{FUNCTION, Seen, VERSIONS_OF_FUNCTION};
use crate::wire::Reader;

/// Bodies of functions are looked through for so many bytes in all; beyond that, nothing is known of their datatypes.
const BYTES_MAX: usize = 64 << 20;

/// A function.
#[derive(Clone, Default)]
pub(super) struct Function<'a> {
    pub(super) message: &'a [u8],
    pub(super) outputs: Vec<&'a [u8]>,
    /// The version of `ai.onnx`.
    pub(super) version: i64,
    name: &'a [u8],
    domain: &'a [u8],
    inputs: Vec<&'a [u8]>,
}

/// What is known of a function for the datatypes of its inputs.
type Answers = HashMap<Vec<Option<u64>>, Vec<Option<u64>>>;

/// The functions of a file, in its order.
#[derive(Default)]
pub(super) struct Functions<'a> {
    all: Vec<Function<'a>>,
    by_name: HashMap<(&'a [u8], &'a [u8]), Vec<usize>>,
    answers: Vec<Answers>,
    /// The datatypes that calls of each had, as far as all had the same; `None` before the first.
    common: Vec<Option<Vec<Option<u64>>>>,
    n_bytes: usize,
    /// Whether nothing is looked through any more, but known.
    is_settled: bool,
}

impl<'a> Function<'a> {
    fn read(message: &'a [u8]) -> Result<Self, LoadError> {
        let mut function = Self {
            message,
            version: read_version(message, VERSIONS_OF_FUNCTION)?,
            ..Self::default()
        };
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            match number {
                1 => function.name = field.bytes()?,
                4 => function.inputs.push(field.bytes()?),
                5 => function.outputs.push(field.bytes()?),
                10 => function.domain = standard(field.bytes()?),
                _ => {}
            }
        }
        Ok(function)
    }

    /// Returns what is known of its inputs where they have these datatypes.
    pub(super) fn given(&self, datatypes: &[Option<u64>]) -> Vec<(&'a [u8], Seen)> {
        let inputs = self.inputs.iter().enumerate();
        let inputs = inputs.map(|(place, name)| {
            let datatype = datatypes.get(place).copied().flatten();
            let seen = Seen {
                datatype,
                ..Seen::NOTHING
            };
            (*name, seen)
        });
        inputs.collect()
    }
}

impl<'a> Functions<'a> {
    pub(super) fn read(file: &'a [u8]) -> Result<Self, LoadError> {
        let mut functions = Self::default();
        let mut reader = Reader::new(file);
        while let Some((number, field)) = reader.next()? {
            if number == FUNCTION {
                let function = Function::read(field.bytes()?)?;
                let name = (function.domain, function.name);
                let index = functions.all.len();
                functions.by_name.entry(name).or_default().push(index);
                functions.all.push(function);
            }
        }
        functions
            .answers
            .resize_with(functions.all.len(), Answers::new);
        functions.common.resize(functions.all.len(), None);
        Ok(functions)
    }

    /// Returns the functions of a name; overloads are several.
    pub(super) fn named(&self, domain: &'a [u8], name: &'a [u8]) -> Vec<usize> {
        let named = self.by_name.get(&(standard(domain), name));
        named.cloned().unwrap_or_default()
    }

    /// Looks nothing through from now on: all calls are known.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
    }

    /// Returns what is known of the inputs of a function for all calls.
    pub(super) fn given(&self, index: usize) -> Vec<(&'a [u8], Seen)> {
        let common = self.common.get(index).and_then(Option::as_deref);
        let function = self.all.get(index);
        function.map_or_else(Vec::new, |function| {
            function.given(common.unwrap_or_default())
        })
    }

    pub(super) fn version(&self, index: usize) -> i64 {
        self.all.get(index).map_or(0, |function| function.version)
    }

    /// Returns what a function is known to give for these datatypes.
    pub(super) fn answer(&self, index: usize, inputs: &[Option<u64>]) -> Option<Vec<Option<u64>>> {
        self.answers.get(index)?.get(inputs).cloned()
    }

    /// Notes a call; returns the function if it is to be looked through, and how deep calls may lie in it. What lies too deep, or would
    /// take too long, may give any function anything.
    pub(super) fn begin(
        &mut self,
        index: usize,
        inputs: &[Option<u64>],
        depth: usize,
    ) -> Option<(Function<'a>, usize)> {
        if self.is_settled {
            return None;
        }
        let function = self.all.get(index)?.clone();
        self.n_bytes = self.n_bytes.saturating_add(function.message.len());
        let depth = depth.checked_sub(1).filter(|_| self.n_bytes <= BYTES_MAX);
        let Some(depth) = depth else {
            self.common.fill(Some(Vec::new()));
            return None;
        };
        let common = self.common.get_mut(index)?;
        *common = Some(match common.take() {
            None => inputs.to_vec(),
            Some(before) => {
                let pairs = before.into_iter().zip(inputs);
                let same = pairs.map(|(one, other)| one.filter(|_| one == *other));
                same.collect()
            }
        });
        Some((function, depth))
    }

    /// Notes what a function gives.
    pub(super) fn end(
        &mut self,
        index: usize,
        inputs: Vec<Option<u64>>,
        outputs: Vec<Option<u64>>,
    ) {
        if let Some(answers) = self.answers.get_mut(index) {
            answers.insert(inputs, outputs);
        }
    }
}

/// Returns the domain as operators are looked up by: `ai.onnx` is the empty one.
fn standard(domain: &[u8]) -> &[u8] {
    match domain {
        b"ai.onnx" => b"",
        domain => domain,
    }
}
