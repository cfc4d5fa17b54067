//! A fitted object in the graph: its attributes, read with checks, and its place for messages.

use coracle_model::{ColumnSpec, LoadError, LoadErrorKind};
use coracle_pickle::{Array, Graph, Node, NodeId, Object};

use super::Version;
use super::nones::{Knowing, NoneIs};
use super::older_columns;
use super::sparsity::Layout;

/// The deepest nesting of estimators that is followed.
const DEPTH_MAX: usize = 32;

/// An instance of a class with attributes.
#[derive(Clone, Debug)]
pub(crate) struct Fitted<'g> {
    pub(crate) graph: &'g Graph,
    pub(crate) id: NodeId,
    pub(crate) object: &'g Object,
    /// The release that wrote the file.
    pub(crate) version: &'g Version,
    /// Where this is, such as `step 'scale'`; empty at the root.
    pub(crate) place: String,
    /// What the estimator after this one takes in each column; empty where that is not known.
    pub(crate) taken: Vec<ColumnSpec>,
    /// What `None` is to what reads each column that this one gives; empty where nothing does that tells it from NaN.
    pub(crate) none_after: Vec<NoneIs>,
    /// The values of the file that hold an encoder that has `None` among its categories.
    pub(crate) knowing: Knowing,
    /// The number of its columns as what is around it tells it, for estimators whose file does not.
    pub(crate) width: Option<usize>,
    /// The number of columns that the estimator after this one takes.
    pub(crate) width_after: Option<usize>,
    /// Whether what comes after takes nothing but numbers.
    pub(crate) feeds_numbers: bool,
    /// Whether the model answers as this does: it is the model, or the last step of a pipeline that is.
    pub(crate) is_whole: bool,
    /// What kind of table it gets in Python.
    pub(crate) reads: Layout,
    depth: usize,
}

impl<'g> Fitted<'g> {
    /// Returns the object that is served: the one at `id`.
    pub(crate) fn root(
        graph: &'g Graph,
        id: NodeId,
        object: &'g Object,
        version: &'g Version,
    ) -> Self {
        Self {
            graph,
            id,
            object,
            version,
            place: String::new(),
            taken: Vec::new(),
            none_after: Vec::new(),
            knowing: Knowing::of(graph),
            width: None,
            width_after: None,
            feeds_numbers: false,
            is_whole: true,
            reads: Layout::Dense,
            depth: 0,
        }
    }

    /// Returns the object at `id` as a part of this one, at `place` within it.
    ///
    /// # Errors
    /// Kind `Malformed` if it is no object, `LimitExceeded` if it is nested too deeply.
    pub(crate) fn part(&self, id: NodeId, place: &str) -> Result<Self, LoadError> {
        let depth = self.depth.saturating_add(1);
        if depth > DEPTH_MAX {
            let message = format!("estimators are nested more than {DEPTH_MAX} deep");
            return Err(LoadError::new(LoadErrorKind::LimitExceeded, message));
        }
        let object = self
            .graph
            .object(id)
            .ok_or_else(|| self.malformed(format!("{place} is no estimator")))?;
        let place = match self.place.as_str() {
            "" => place.to_owned(),
            outer => format!("{outer}, {place}"),
        };
        Ok(Self {
            graph: self.graph,
            id,
            object,
            version: self.version,
            place,
            taken: Vec::new(),
            none_after: Vec::new(),
            knowing: self.knowing.clone(),
            width: None,
            width_after: None,
            feeds_numbers: false,
            is_whole: false,
            reads: self.reads.within(self.short_class()),
            depth,
        })
    }

    /// Returns the object in attribute `name` as a part of this one.
    pub(crate) fn part_in(&self, name: &str) -> Result<Self, LoadError> {
        self.part(self.require(name)?, name)
    }

    /// Returns the full name of the class.
    pub(crate) fn class(&self) -> &'static str {
        self.object.class
    }

    /// Returns the name of the class without its module.
    pub(crate) fn short_class(&self) -> &'static str {
        let class = self.object.class;
        class.rsplit_once('.').map_or(class, |(_, name)| name)
    }

    /// Returns an error of `kind` at this place.
    pub(crate) fn error(&self, kind: LoadErrorKind, message: impl Into<String>) -> LoadError {
        let error = LoadError::new(kind, message).at(self.short_class());
        match self.place.as_str() {
            "" => error,
            place => error.at(place),
        }
    }

    /// Returns the error of a file that contradicts itself here.
    pub(crate) fn malformed(&self, message: impl Into<String>) -> LoadError {
        self.error(LoadErrorKind::Malformed, message)
    }

    /// Returns the error of something sound that is not served.
    pub(crate) fn unsupported(&self, message: impl Into<String>) -> LoadError {
        self.error(LoadErrorKind::Unsupported, message)
    }

    /// Returns attribute `name`, if it is there.
    pub(crate) fn attr(&self, name: &str) -> Option<NodeId> {
        self.graph.attr(self.id, name)
    }

    /// Returns attribute `name`.
    pub(crate) fn require(&self, name: &str) -> Result<NodeId, LoadError> {
        self.attr(name).ok_or_else(|| {
            self.malformed(format!(
                "attribute '{name}' is missing; is the estimator fitted?"
            ))
        })
    }

    /// Tells whether attribute `name` is absent or `None`.
    pub(crate) fn is_none(&self, name: &str) -> bool {
        self.attr(name)
            .is_none_or(|id| matches!(self.graph.node(id), Node::None))
    }

    pub(crate) fn expected(&self, name: &str, what: &str) -> LoadError {
        self.malformed(format!("attribute '{name}' is not {what}"))
    }

    /// Returns a text attribute.
    pub(crate) fn text(&self, name: &str) -> Result<String, LoadError> {
        let id = self.require(name)?;
        self.graph
            .string(id)
            .ok_or_else(|| self.expected(name, "text"))
    }

    /// Returns a number.
    pub(crate) fn number(&self, name: &str) -> Result<f64, LoadError> {
        let id = self.require(name)?;
        self.graph
            .float(id)
            .ok_or_else(|| self.expected(name, "a number"))
    }

    /// Returns a count.
    pub(crate) fn count(&self, name: &str) -> Result<usize, LoadError> {
        let id = self.require(name)?;
        let count = self
            .graph
            .int(id)
            .and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.expected(name, "a count"))
    }

    /// Returns a truth value.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, LoadError> {
        let id = self.require(name)?;
        self.graph
            .bool(id)
            .ok_or_else(|| self.expected(name, "True or False"))
    }

    /// Returns a truth value that releases before its introduction do not have.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> Result<bool, LoadError> {
        match self.attr(name) {
            Some(_) => self.flag(name),
            None => Ok(default),
        }
    }

    /// Returns an array attribute.
    pub(crate) fn array(&self, name: &str) -> Result<&'g Array, LoadError> {
        let id = self.require(name)?;
        self.graph
            .array(id)
            .ok_or_else(|| self.expected(name, "an array"))
    }

    /// Returns the shape and values of an array of numbers, which may be Python objects; a plain number has shape `[]`.
    pub(crate) fn numbers(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>), LoadError> {
        let id = self.require(name)?;
        if let Some(number) = self.graph.float(id) {
            return Ok((Vec::new(), vec![number]));
        }
        let array = self.array(name)?;
        let values = match array.objects() {
            Some(ids) => ids.iter().map(|&id| self.graph.float(id)).collect(),
            None => array.to_f64s(),
        };
        let values = values.ok_or_else(|| self.expected(name, "an array of numbers"))?;
        Ok((array.shape().to_vec(), values))
    }

    /// Returns the values of a one-dimensional array of `length` finite numbers.
    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f64>, LoadError> {
        let (shape, values) = self.numbers(name)?;
        if shape != [length] {
            let message = format!("attribute '{name}' has shape {shape:?}, expected [{length}]");
            return Err(self.malformed(message));
        }
        Ok(values)
    }

    /// Returns the items of a list attribute.
    pub(crate) fn list(&self, name: &str) -> Result<&'g [NodeId], LoadError> {
        let id = self.require(name)?;
        self.graph
            .list(id)
            .ok_or_else(|| self.expected(name, "a list"))
    }

    /// Returns `feature_names_in_`, if the estimator was fitted with names.
    pub(crate) fn feature_names(&self) -> Result<Option<Vec<String>>, LoadError> {
        const NAME: &str = "feature_names_in_";
        if self.is_none(NAME) {
            let is_older = !self.version.is_from(0) && self.short_class() == "ColumnTransformer";
            return Ok(is_older.then(|| older_columns::names(self)).flatten());
        }
        let array = self.array(NAME)?;
        let names = match array.objects() {
            Some(ids) => ids.iter().map(|&id| self.graph.string(id)).collect(),
            None => array.to_strings(),
        };
        names
            .map(Some)
            .ok_or_else(|| self.expected(NAME, "an array of text"))
    }
}
