//! A node's attributes by name and type; what nobody has asked for in the end is an error.

use std::cell::Cell;

use coracle_model::LoadError;
use coracle_tensor::{Tensor, Values};

use crate::error::{malformed, unsupported};
use crate::file::{Attribute, NodeFile, shown};

/// The attributes of one node, and which of them have been read.
pub(crate) struct Attributes<'n, 'a> {
    all: &'n [(&'a str, Attribute<'a>)],
    used: Vec<Cell<bool>>,
}

impl<'n, 'a> Attributes<'n, 'a> {
    pub(crate) fn of(node: &'n NodeFile<'a>) -> Self {
        Self {
            all: &node.attributes,
            used: vec![Cell::new(false); node.attributes.len()],
        }
    }

    fn get(&self, name: &str) -> Option<&'n Attribute<'a>> {
        let place = self.all.iter().position(|(known, _)| *known == name)?;
        if let Some(used) = self.used.get(place) {
            used.set(true);
        }
        self.all.get(place).map(|(_, value)| value)
    }

    /// Marks an attribute as read that has no bearing on results.
    pub(crate) fn ignore(&self, name: &str) {
        self.get(name);
    }

    /// Returns an error if there is an attribute that was not read: it might have changed the results.
    pub(crate) fn check_all_used(&self) -> Result<(), LoadError> {
        let mut unread = self.all.iter().zip(&self.used);
        match unread.find(|(_, used)| !used.get()) {
            None => Ok(()),
            Some(((name, _), _)) => Err(unsupported(format!(
                "attribute '{}' is not supported",
                shown(name)
            ))),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.all.iter().any(|(known, _)| *known == name)
    }

    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(_) => Err(wrong_type(name, "an integer")),
        }
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, LoadError> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    pub(crate) fn float(&self, name: &str) -> Result<Option<f32>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Float(value)) => Ok(Some(*value)),
            Some(_) => Err(wrong_type(name, "a number")),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a [u8]>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    /// Returns a string that has to be one of those an operator knows.
    pub(crate) fn word(&self, name: &str, default: &'static str) -> Result<&'a str, LoadError> {
        match self.text(name)? {
            None => Ok(default),
            Some(text) => str::from_utf8(text).map_err(|error| {
                malformed(format!("attribute '{name}' is not UTF-8")).with_source(error)
            }),
        }
    }

    pub(crate) fn ints(&self, name: &str) -> Result<&'n [i64], LoadError> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Attribute::Ints(values)) => Ok(values),
            Some(_) => Err(wrong_type(name, "a list of integers")),
        }
    }

    pub(crate) fn floats(&self, name: &str) -> Result<&'n [f32], LoadError> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Attribute::Floats(values)) => Ok(values),
            Some(_) => Err(wrong_type(name, "a list of numbers")),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<&'n [&'a [u8]], LoadError> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Attribute::Texts(values)) => Ok(values),
            Some(_) => Err(wrong_type(name, "a list of strings")),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<Option<&'n Tensor>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Tensor(tensor)) => Ok(Some(tensor)),
            Some(_) => Err(wrong_type(name, "a tensor")),
        }
    }

    pub(crate) fn graph(&self, name: &str) -> Result<Option<&'a [u8]>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Graph(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(wrong_type(name, "a graph")),
        }
    }

    /// Returns a list of numbers that is a list of singles, or in `NAME_as_tensor` a tensor of singles or doubles; and
    /// whether it was doubles.
    pub(crate) fn reals(&self, name: &str) -> Result<(Vec<f64>, bool), LoadError> {
        let singles = self.floats(name)?;
        let tensor_name = format!("{name}_as_tensor");
        let Some(tensor) = self.tensor(&tensor_name)? else {
            return Ok((
                singles.iter().map(|&value| f64::from(value)).collect(),
                false,
            ));
        };
        if !singles.is_empty() && !tensor.values().is_empty() {
            let message = format!("attributes '{name}' and '{tensor_name}' exclude each other");
            return Err(malformed(message));
        }
        real_tensor(&tensor_name, tensor)
    }
}

/// Returns the numbers of a tensor of singles or doubles, and whether they are doubles.
pub(crate) fn real_tensor(name: &str, tensor: &Tensor) -> Result<(Vec<f64>, bool), LoadError> {
    match tensor.values() {
        Values::F32(values) => Ok((
            values.iter().map(|&value| f64::from(value)).collect(),
            false,
        )),
        Values::F64(values) => Ok((values.to_vec(), true)),
        Values::F16(values) => Ok((
            values.iter().map(|&value| f64::from(value)).collect(),
            false,
        )),
        other => Err(malformed(format!(
            "attribute '{name}' is of {}, FP32 or FP64 belongs there",
            other.dtype()
        ))),
    }
}

fn wrong_type(name: &str, expected: &str) -> LoadError {
    malformed(format!("attribute '{name}' is not {expected}"))
}
