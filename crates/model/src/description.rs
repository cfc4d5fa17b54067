//! What a model is made of, for people: `coracle inspect` prints it.

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
