//! Default predictions that no answer of a service's models could be: told as soon as the models are known, since they would help nobody.

use std::collections::BTreeMap;

use coracle_model::Signature;

use super::Follower;
use crate::plan::{PlannedRoute, RevisionId, ServiceId};

/// Checks a default prediction against the outputs of a model; says why it is none.
pub type FitsOutputs = fn(&str, &Signature) -> Result<(), String>;

/// Returns as much of a signature as default predictions are checked against, which is known of a model that is let go of, too.
pub(super) fn outputs_of(signature: &Signature) -> Signature {
    Signature {
        name_rules: Default::default(),
        inputs: Vec::new(),
        outputs: signature.outputs.clone(),
        default_outputs: signature.default_outputs.clone(),
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        columns: None,
    }
}

impl Follower {
    /// Returns why default predictions are none, by the services that say them.
    pub(super) fn misfits(&self) -> BTreeMap<ServiceId, String> {
        let Some(fits) = self.config.fits else {
            return BTreeMap::new();
        };
        let routes = self.routes.iter();
        let misfits = routes.filter_map(|(id, (planned, _))| {
            let why = self.misfit(id, planned, fits)?;
            Some((id.clone(), why))
        });
        misfits.collect()
    }

    fn misfit(&self, id: &ServiceId, planned: &PlannedRoute, fits: FitsOutputs) -> Option<String> {
        let value = planned.fallback.as_ref()?.value.as_deref()?;
        planned.targets.iter().find_map(|target| {
            let revision = RevisionId {
                namespace: id.namespace.clone(),
                name: target.revision.clone(),
            };
            let outputs = self.slots.get(&revision)?.outputs.as_ref()?;
            let why = fits(value, outputs).err()?;
            Some(format!("revision {}: {why}", target.revision))
        })
    }
}
