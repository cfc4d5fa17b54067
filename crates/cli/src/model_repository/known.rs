//! What is known of a model: which versions serve, which do not, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use coracle_base::Code;
use coracle_serving::{
    IdleReason, IdleVersion, LoadFailure, OnDemand, ServedModel, Sleeper, VersionSets,
};

use super::Order;
use super::fingerprint::Fingerprint;
use super::own_config::OwnConfig;

/// How many versions that have left are still told of.
const LEFT_MAX: usize = 16;

/// The versions of a model.
#[derive(Debug, Default)]
pub(super) struct KnownModel {
    pub(super) served: BTreeMap<u64, ServedVersion>,
    pub(super) failed: BTreeMap<u64, FailedVersion>,
    pub(super) loading: Option<u64>,
    /// To be loaded after the one that is being loaded.
    pub(super) waiting: BTreeSet<u64>,
    left: BTreeMap<u64, Weak<ServedModel>>,
    /// What the configuration beside the files said when it was last in order.
    pub(super) own: OwnConfig,
}

#[derive(Debug)]
pub(super) struct ServedVersion {
    pub(super) model: Arc<ServedModel>,
    /// Where it is loaded from when it is asked for, if it is.
    pub(super) on_file: Option<OnFile>,
    /// Of the files that were tried last.
    pub(super) print: Fingerprint,
}

/// What is loaded from a file when it is asked for.
#[derive(Debug)]
pub(super) struct OnFile {
    pub(super) sleeper: Arc<Sleeper>,
    pub(super) place: Arc<Mutex<PathBuf>>,
}

impl OnFile {
    /// Takes what is at `place` from now on: at once if the model is in memory or somebody wants it to be.
    pub(super) fn reload(
        &self,
        on_demand: &OnDemand,
        place: &Path,
        order: Order,
    ) -> Result<(), (Code, String)> {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place.to_path_buf();
        let reloaded = on_demand.refresh(&self.sleeper, order == Order::Request);
        reloaded.map_err(|LoadFailure { code, message, .. }| (code, message))
    }
}

/// A version that did not load.
#[derive(Clone, Debug)]
pub(super) struct FailedVersion {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) print: Fingerprint,
}

impl KnownModel {
    /// Returns what the policy is told, where the files of `found` are there.
    pub(super) fn sets(&self, found: impl Iterator<Item = u64>) -> VersionSets {
        VersionSets {
            found: found.collect(),
            served: self.served.keys().copied().collect(),
            failed: self.failed.keys().copied().collect(),
            ..VersionSets::default()
        }
    }

    /// Returns the models that serve, oldest first.
    pub(super) fn models(&self) -> Vec<Arc<ServedModel>> {
        let served = self.served.values();
        served.map(|served| Arc::clone(&served.model)).collect()
    }

    /// Takes a version out of service; requests that have it end on it.
    pub(super) fn let_go(&mut self, version: u64) {
        if let Some(served) = self.served.remove(&version) {
            self.left.insert(version, Arc::downgrade(&served.model));
        }
        while self.left.len() > LEFT_MAX {
            self.left.pop_first();
        }
    }

    /// Returns the versions that take no requests, oldest first.
    pub(super) fn idle(&self) -> Vec<IdleVersion> {
        let left = self.left.iter();
        let mut reasons: BTreeMap<u64, IdleReason> = left
            .map(|(&version, model)| (version, IdleReason::Left(Weak::clone(model))))
            .collect();
        for (&version, failed) in &self.failed {
            let reason = IdleReason::Failed {
                code: failed.code,
                message: failed.message.clone(),
            };
            reasons.insert(version, reason);
        }
        let waiting = self.waiting.iter();
        reasons.extend(waiting.map(|&version| (version, IdleReason::Waiting)));
        reasons.extend(self.loading.map(|version| (version, IdleReason::Loading)));
        reasons.retain(|version, _| !self.served.contains_key(version));
        let reasons = reasons.into_iter();
        reasons
            .map(|(version, reason)| IdleVersion { version, reason })
            .collect()
    }
}
