//! `getattr`, which pickles write for a bound method: scipy's discrete distributions hold one of their own.
//!
//! It stays outside the reader's names. One use of it is let through: a name of a method of an instance of
//! an [`Inert`](GlobalForm::Inert) class, and that becomes a record of the two which nothing looks at.
//! Used in any other way, kept as a value or thrown away unused, it is refused as every unknown name is.

use super::{Machine, call};
use crate::slot::Slot;
use crate::{Error, GlobalForm, Node, NodeId};

/// What the records are called; no caller's table may hold it.
const BOUND_METHOD: &str = "builtins.getattr";

/// Says whether a name is `getattr`.
pub(super) fn is_getter(module: &str, name: &str) -> bool {
    matches!(module, "builtins" | "__builtin__") && name == "getattr"
}

impl<'a> Machine<'a> {
    /// Records the method of an inert instance that `args` names; of anything else, `getattr` is an unknown name.
    pub(super) fn call_getter(&mut self, getter: NodeId, args: NodeId) -> Result<Slot<'a>, Error> {
        if self.names_inert_method(args) {
            if let Some(Slot::Getter { is_used, .. }) = self.slots.get_mut(getter.index()) {
                *is_used = true;
            }
            let args = self.arguments(args)?;
            return Ok(call::record(BOUND_METHOD, args));
        }
        self.refuse_getter(getter.index())?;
        match self.slot(getter) {
            Slot::Unknown(number) => Ok(Slot::Opaque(*number)),
            _ => Err(self.malformed("a call of something that is no function")),
        }
    }

    fn names_inert_method(&self, args: NodeId) -> bool {
        let Slot::Ready(Node::Tuple(items)) = self.slot(args) else {
            return false;
        };
        let &[instance, name] = items.as_slice() else {
            return false;
        };
        let is_inert = match self.slot(instance) {
            Slot::Ready(Node::Object(object)) => {
                let known = object
                    .class
                    .rsplit_once('.')
                    .and_then(|(module, name)| self.names.known(module, name));
                known.is_some_and(|known| known.form == GlobalForm::Inert)
            }
            _ => false,
        };
        is_inert && self.text(name).is_some()
    }

    /// Refuses every `getattr` that was never used as is allowed, or that is kept as a value.
    pub(crate) fn refuse_stray_getters(&mut self, root: Option<NodeId>) -> Result<(), Error> {
        let getters = self.slots.iter().enumerate();
        let getters: Vec<(usize, bool)> = getters
            .filter_map(|(index, slot)| match slot {
                Slot::Getter { is_used, .. } => Some((index, *is_used)),
                _ => None,
            })
            .collect();
        if getters.is_empty() {
            return Ok(());
        }
        let reached = root.map(|root| crate::assemble::reach(&self.slots, root, None));
        for (index, is_used) in getters {
            let is_kept = reached
                .as_ref()
                .is_some_and(|reached| reached.get(index).copied().unwrap_or(true));
            if !is_used || is_kept {
                self.refuse_getter(index)?;
            }
        }
        Ok(())
    }

    fn refuse_getter(&mut self, index: usize) -> Result<(), Error> {
        if let Some(slot @ &mut Slot::Getter { offset, .. }) = self.slots.get_mut(index) {
            *slot = self.names.refuse("builtins", "getattr", offset)?;
        }
        Ok(())
    }
}
