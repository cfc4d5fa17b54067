//! What a model is made of, for people: `coracle inspect` prints it.

use coracle_base::allocation_bytes;

/// Where a model came from and what it consists of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// The file format, such as `joblib (zlib), pickle protocol 4`.
    pub format: String,
    /// The library that wrote it, such as `scikit-learn`.
    pub library: String,
    /// That library's version as recorded in the file, if it is.
    pub library_version: Option<String>,
    /// The model itself.
    pub root: Component,
}

/// The name of a fact that whoever serves the model should know before its users do.
const WARNING: &str = "warning";

impl Description {
    /// Adds what whoever serves the model should know before its users do.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.root.facts.push((WARNING.to_owned(), warning.into()));
    }

    /// Forgets what was warned of, where it turned out otherwise.
    pub fn forget_warnings(&mut self) {
        self.root.facts.retain(|(name, _)| name != WARNING);
    }

    /// Returns what was warned of.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let facts = self.root.facts.iter();
        let warnings = facts.filter(|(name, _)| name == WARNING);
        warnings.map(|(_, warning)| warning.as_str())
    }

    /// Returns the memory held, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let version = self.library_version.as_ref().map_or(0, String::capacity);
        let texts = [self.format.capacity(), self.library.capacity(), version];
        let mut bytes = texts.map(allocation_bytes).iter().sum::<usize>() + size_of::<Self>();
        // Parts may be nested deeply.
        let mut ahead = vec![&self.root];
        while let Some(part) = ahead.pop() {
            let pairs = part.parameters.iter().chain(&part.facts);
            let pairs = pairs.map(|(name, value)| {
                size_of::<(String, String)>()
                    + allocation_bytes(name.capacity())
                    + allocation_bytes(value.capacity())
            });
            bytes += pairs.sum::<usize>() + size_of::<Component>();
            bytes += allocation_bytes(part.name.capacity());
            bytes += allocation_bytes(part.class.capacity());
            ahead.extend(&part.children);
        }
        bytes
    }
}

/// One part of a model with its parameters and its own parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Component {
    /// The name within its parent, such as a pipeline step's; empty at the root.
    pub name: String,
    /// The class, such as `RandomForestClassifier`.
    pub class: String,
    /// Constructor parameters as written in Python, in the file's order.
    pub parameters: Vec<(String, String)>,
    /// Facts learnt in training, such as `("classes", "3 (int64)")`.
    pub facts: Vec<(String, String)>,
    /// The parts.
    pub children: Vec<Component>,
}
