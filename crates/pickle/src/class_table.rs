//! The names a file may use: exact (module, name) pairs, given by the caller.
//!
//! No prefixes, no patterns, no dotted names: a name is in the table or it is unknown.

use std::collections::HashMap;

/// A class or function that files may name, beyond the reader's own set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownGlobal {
    /// The module as files write it; old module names get their own entries.
    pub module: &'static str,
    /// The name in the module; for names of protocol 4 that is the whole qualified name.
    pub name: &'static str,
    /// What [`Object::class`](crate::Object::class) and [`Node::Global`](crate::Node::Global) hold,
    /// such as `sklearn.tree._tree.Tree`.
    pub canonical: &'static str,
    /// What a file may do with it.
    pub form: GlobalForm,
}

/// What a file may do with a known name. None of these executes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalForm {
    /// A class: making an instance gives an [`Object`](crate::Object), which a state may follow.
    Record,
    /// A class like a record's, of whose instances nothing is ever read; only of these may a file name a
    /// method, as pickles do with `getattr`. The class's canonical name is its module and name.
    Inert,
    /// A callable: calling it gives an [`Object`](crate::Object) that holds the arguments.
    Constructor,
    /// A function or type that occurs only as a value; calling it is refused.
    Value,
}

impl GlobalForm {
    /// Says whether instances of it can be made.
    pub(crate) fn is_class(self) -> bool {
        matches!(self, Self::Record | Self::Inert)
    }
}

/// The names that a reader knows beyond its own set.
#[derive(Clone, Debug, Default)]
pub struct ClassTable {
    by_name: HashMap<(&'static str, &'static str), &'static KnownGlobal>,
}

impl ClassTable {
    /// Indexes `globals`; where a pair occurs twice, the last one counts.
    #[must_use]
    pub fn new(globals: &'static [KnownGlobal]) -> Self {
        Self {
            by_name: globals
                .iter()
                .map(|global| ((global.module, global.name), global))
                .collect(),
        }
    }

    /// Makes the names of a module known under another module as well, for each pair of `(other, module)`.
    #[must_use]
    pub fn with_renames(mut self, renames: &'static [(&'static str, &'static str)]) -> Self {
        let mut old = Vec::new();
        for &(other, module) in renames {
            let within = self.by_name.iter().filter(|((of, _), _)| *of == module);
            old.extend(within.map(|((_, name), global)| ((other, *name), *global)));
        }
        self.by_name.extend(old);
        self
    }

    pub(crate) fn from_groups(groups: &'static [&'static [KnownGlobal]]) -> Self {
        Self {
            by_name: groups
                .iter()
                .flat_map(|group| group.iter())
                .map(|global| ((global.module, global.name), global))
                .collect(),
        }
    }

    /// Returns the entry with exactly this module and name.
    #[must_use]
    pub fn get(&self, module: &str, name: &str) -> Option<&'static KnownGlobal> {
        self.by_name.get(&(module, name)).copied()
    }
}
