//! What is served: models by service and by name, in a snapshot that requests read without a lock.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use coracle_base::{Code, VersionState};
use thiserror::Error;
use tokio::sync::Notify;

use crate::ServedModel;
use crate::flow::Flow;
use crate::plan::ServiceId;
use crate::route::Route;
use crate::version::{IdleReason, IdleVersion, VersionStatus};

/// Two models under one name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("two models are named '{name}'; every model needs a name of its own (--model NAME=PATH)")]
pub struct DuplicateModel {
    name: String,
}

/// Why there is no model to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoModel {
    /// Nothing has that name.
    Unknown,
    /// Services of several namespaces have it.
    Ambiguous {
        /// The namespaces.
        namespaces: Vec<String>,
    },
}

/// A service that is to be served, and of which nothing is there yet: it is being loaded, as after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coming {
    /// What answers for it once it is there.
    pub kind: ComingKind,
    /// Until when its requests wait for it, by the monotonic clock.
    pub until: Duration,
    /// Why something of it could not be loaded, if that is so.
    pub failure: Option<String>,
}

/// What a service is of which nothing is there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComingKind {
    /// It is asked for its models, at the paths that there are for that.
    Models,
    /// Programs answer for it, at any path.
    Programs,
    /// It is a graph alone, which no model's name finds.
    Graph,
}

/// The services of one name.
#[derive(Debug)]
enum Named {
    One(Arc<Route>),
    /// Of several namespaces, sorted.
    Several(Vec<String>),
}

/// All models of a server. Immutable: a change is a new table.
#[derive(Debug, Default)]
pub struct ModelTable {
    routes: BTreeMap<ServiceId, Arc<Route>>,
    flows: BTreeMap<ServiceId, Arc<Flow>>,
    by_name: HashMap<String, Named>,
    /// The names, sorted.
    names: Vec<String>,
    /// Whether there are services with namespaces, which can be asked by path and host.
    has_namespaces: bool,
    is_sticky: bool,
    has_experiments: bool,
    /// By the model's name: versions that take no requests, oldest first.
    idle: BTreeMap<String, Vec<IdleVersion>>,
    /// Whether processes answer for any of them.
    is_forwarded: bool,
    /// The services of which nothing is there yet.
    coming: BTreeMap<ServiceId, Coming>,
    /// Whether a plan says all of this.
    is_planned: bool,
}

impl ModelTable {
    /// Returns a table of `models`, each under its name alone.
    ///
    /// # Errors
    /// [`DuplicateModel`] if two have one name.
    pub fn try_new(models: impl IntoIterator<Item = ServedModel>) -> Result<Self, DuplicateModel> {
        let mut routes = BTreeMap::new();
        for model in models {
            let id = ServiceId {
                namespace: String::new(),
                name: model.name().to_owned(),
            };
            let name = model.name().to_owned();
            if routes
                .insert(id, Arc::new(Route::single(Arc::new(model))))
                .is_some()
            {
                return Err(DuplicateModel { name });
            }
        }
        Ok(Self::from_routes(routes))
    }

    /// Returns a table of services.
    #[must_use]
    pub fn from_routes(routes: BTreeMap<ServiceId, Arc<Route>>) -> Self {
        let mut by_name: HashMap<String, Named> = HashMap::new();
        let mut names = Vec::new();
        for (id, route) in &routes {
            let one = || Named::One(Arc::clone(route));
            by_name.entry(id.name.clone()).or_insert_with(one);
            names.push(id.name.clone());
        }
        names.sort();
        for same in names.chunk_by(|a, b| a == b).filter(|same| same.len() > 1) {
            let of_name = routes.keys().filter(|id| id.name == same[0]);
            let namespaces = of_name.map(|id| id.namespace.clone()).collect();
            by_name.insert(same[0].clone(), Named::Several(namespaces));
        }
        names.dedup();
        Self {
            has_namespaces: routes.keys().any(|id| !id.namespace.is_empty()),
            is_forwarded: routes.values().any(|route| route.is_forwarded()),
            is_sticky: routes
                .values()
                .any(|route| route.sticky().is_some() || route.experiments().is_some()),
            has_experiments: routes.values().any(|route| route.experiments().is_some()),
            routes,
            flows: BTreeMap::new(),
            by_name,
            names,
            idle: BTreeMap::new(),
            coming: BTreeMap::new(),
            is_planned: false,
        }
    }

    /// Returns it with the services of its plan of which nothing is there yet.
    #[must_use]
    pub fn with_coming(mut self, coming: BTreeMap<ServiceId, Coming>) -> Self {
        self.is_planned = true;
        for (id, one) in &coming {
            self.has_namespaces |= !id.namespace.is_empty();
            if one.kind == ComingKind::Graph {
                continue;
            }
            let named = coming
                .iter()
                .filter(|(_, one)| one.kind != ComingKind::Graph);
            let all = self.routes.keys().chain(named.map(|(id, _)| id));
            let same = all.filter(|other| other.name == id.name);
            let mut namespaces: Vec<String> = same.map(|id| id.namespace.clone()).collect();
            if namespaces.len() > 1 {
                namespaces.sort();
                let several = Named::Several(namespaces);
                self.by_name.insert(id.name.clone(), several);
                continue;
            }
            let reason = match &one.failure {
                None => IdleReason::Loading,
                Some(failure) => IdleReason::Failed {
                    code: Code::Unavailable,
                    message: failure.clone(),
                },
            };
            let version = ServedModel::VERSION_DEFAULT;
            let idle = vec![IdleVersion { version, reason }];
            self.idle.insert(id.name.clone(), idle);
        }
        self.coming = coming;
        self
    }

    /// Returns whether a plan says what is served, and what is still to come.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        self.is_planned
    }

    /// Returns whether there are services of which nothing is there yet.
    #[must_use]
    pub fn has_coming(&self) -> bool {
        !self.coming.is_empty()
    }

    /// Returns what is known of a service of which nothing is there yet.
    #[must_use]
    pub fn coming(&self, id: &ServiceId) -> Option<&Coming> {
        self.coming.get(id)
    }

    /// Returns what is known of the only service of this name, if nothing of it is there yet. Graphs are not found by a name alone.
    #[must_use]
    pub fn coming_by_name(&self, name: &str) -> Option<(&ServiceId, &Coming)> {
        if self.by_name.contains_key(name) {
            return None;
        }
        let mut all = self.all_coming();
        all.find(|(id, one)| id.name == name && one.kind != ComingKind::Graph)
    }

    /// Visits the services of which nothing is there yet in the order of their names.
    pub fn all_coming(&self) -> impl Iterator<Item = (&ServiceId, &Coming)> {
        self.coming.iter()
    }

    /// Returns whether a service has a route, or is still to come.
    #[must_use]
    pub fn is_known(&self, id: &ServiceId) -> bool {
        self.routes.contains_key(id) || self.coming.contains_key(id)
    }

    /// Returns it with flows over its services.
    #[must_use]
    pub fn with_flows(mut self, flows: BTreeMap<ServiceId, Arc<Flow>>) -> Self {
        self.has_namespaces |= flows.keys().any(|id| !id.namespace.is_empty());
        self.flows = flows;
        self
    }

    /// Returns whether there are flows.
    #[must_use]
    pub fn has_flows(&self) -> bool {
        !self.flows.is_empty()
    }

    /// Returns the flow of this name.
    #[must_use]
    pub fn flow(&self, id: &ServiceId) -> Option<&Arc<Flow>> {
        self.flows.get(id)
    }

    /// Visits the flows in the order of their names.
    pub fn flows(&self) -> impl Iterator<Item = (&ServiceId, &Arc<Flow>)> {
        self.flows.iter()
    }

    /// Returns it with what is known of versions that take no requests, by the model's name.
    #[must_use]
    pub fn with_idle(mut self, idle: BTreeMap<String, Vec<IdleVersion>>) -> Self {
        self.idle = idle;
        self
    }

    /// Returns where the versions of a model are in their lives, oldest first; of a name that no model has nothing.
    #[must_use]
    pub fn version_statuses(&self, name: &str) -> Vec<VersionStatus> {
        let route = self.by_name(name).ok();
        let available = route.into_iter().flat_map(|route| {
            let versions = route.served_versions();
            versions
                .into_iter()
                .map(|version| match route.version(version) {
                    Some(model) => model.status(),
                    None => VersionStatus {
                        version: version.to_owned(),
                        state: VersionState::Available,
                        failure: None,
                    },
                })
        });
        let idle = self.idle.get(name).into_iter().flatten();
        let mut statuses: Vec<VersionStatus> =
            available.chain(idle.map(IdleVersion::status)).collect();
        statuses.sort_by_key(|status| status.version.parse().unwrap_or(u64::MAX));
        statuses
    }

    /// Visits the names of models of which something is known, served or not.
    pub fn known_names(&self) -> impl Iterator<Item = &str> {
        let served = self.names.iter().map(String::as_str);
        let idle = self.idle.keys().map(String::as_str);
        let is_served = |name: &&str| self.by_name.contains_key(*name);
        served.chain(idle.filter(move |name| !is_served(name)))
    }

    /// Returns whether there are services with namespaces.
    #[must_use]
    pub fn has_namespaces(&self) -> bool {
        self.has_namespaces
    }

    /// Returns whether a header may choose between the revisions of any of them.
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        self.is_sticky
    }

    /// Returns whether there is an experiment on any of them.
    #[must_use]
    pub fn has_experiments(&self) -> bool {
        self.has_experiments
    }

    /// Returns whether processes answer for any of them.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        self.is_forwarded
    }

    /// Returns the route of the only service of this name.
    ///
    /// # Errors
    /// [`NoModel`] if there is none, or more than one.
    pub fn by_name(&self, name: &str) -> Result<&Arc<Route>, NoModel> {
        match self.by_name.get(name) {
            Some(Named::One(route)) => Ok(route),
            Some(Named::Several(namespaces)) => Err(NoModel::Ambiguous {
                namespaces: namespaces.clone(),
            }),
            None => Err(NoModel::Unknown),
        }
    }

    /// Returns the route of a service.
    #[must_use]
    pub fn service(&self, id: &ServiceId) -> Option<&Arc<Route>> {
        self.routes.get(id)
    }

    /// Visits the routes in the order of their services.
    pub fn routes(&self) -> impl Iterator<Item = (&ServiceId, &Arc<Route>)> {
        self.routes.iter()
    }

    /// Visits every model, the revisions of a service one after another.
    pub fn iter(&self) -> impl Iterator<Item = &ServedModel> {
        let targets = self.routes.values().flat_map(|route| route.targets());
        targets.map(|target| target.model.as_ref())
    }

    /// Visits the names, each once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// The table of now, for everyone.
#[derive(Debug, Default)]
pub struct SharedTable {
    current: ArcSwap<ModelTable>,
    /// Told of every new table.
    replaced: Notify,
}

impl SharedTable {
    /// Returns a cell that holds `table`.
    #[must_use]
    pub fn new(table: ModelTable) -> Self {
        Self {
            current: ArcSwap::from_pointee(table),
            replaced: Notify::new(),
        }
    }

    /// Returns the table of now; what is returned stays as it is.
    #[must_use]
    pub fn load(&self) -> TableGuard {
        TableGuard(self.current.load())
    }

    /// Replaces the table. Requests that have begun go on with the one they have.
    pub fn store(&self, table: ModelTable) {
        self.current.store(Arc::new(table));
        self.replaced.notify_waiters();
    }

    /// Waits for a table of which `holds` is true.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn until(&self, holds: impl Fn(&ModelTable) -> bool) {
        loop {
            let mut replaced = std::pin::pin!(self.replaced.notified());
            // Before the look, so that no table is missed.
            replaced.as_mut().enable();
            if holds(&self.load()) {
                return;
            }
            replaced.await;
        }
    }
}

/// A table that is being read. Taking one touches no counter that other threads touch.
#[derive(Debug)]
pub struct TableGuard(Guard<Arc<ModelTable>>);

impl TableGuard {
    /// Returns what tells this table from others, and keeps none of its models.
    pub(crate) fn mark(&self) -> Weak<ModelTable> {
        Arc::downgrade(&self.0)
    }
}

impl Deref for TableGuard {
    type Target = ModelTable;

    fn deref(&self) -> &ModelTable {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use coracle_base::Code;

    use super::*;
    use crate::IdleReason;
    use crate::served_model::tests::served;

    #[test]
    fn names_are_unique() {
        let error = ModelTable::try_new([served("a", false), served("a", false)]).unwrap_err();
        assert!(error.to_string().starts_with("two models are named 'a'"));
        let table = ModelTable::try_new([served("b", false), served("a", false)]).unwrap();
        let names: Vec<&str> = table.names().collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(table.by_name("c").unwrap_err(), NoModel::Unknown);
        let model = table.by_name("a").unwrap().choose();
        assert_eq!(model.loaded().unwrap().memory_bytes(), 7);
    }

    #[test]
    fn versions_are_told_whether_or_not_they_serve() {
        let model = |version| Arc::new(served("a", false).with_version(version));
        let route = Route::versions(vec![model(2), model(10)], BTreeMap::new()).unwrap();
        let id = ServiceId {
            namespace: String::new(),
            name: "a".to_owned(),
        };
        let failed = |version| IdleVersion {
            version,
            reason: IdleReason::Failed {
                code: Code::InvalidArgument,
                message: "broken".to_owned(),
            },
        };
        let idle = [
            ("a".to_owned(), vec![failed(9)]),
            ("b".to_owned(), vec![failed(1)]),
        ];
        let table = ModelTable::from_routes([(id, Arc::new(route))].into()).with_idle(idle.into());
        let statuses = table.version_statuses("a");
        let seen: Vec<(&str, VersionState)> = statuses
            .iter()
            .map(|status| (status.version.as_str(), status.state))
            .collect();
        let expected = [
            ("2", VersionState::Available),
            ("9", VersionState::End),
            ("10", VersionState::Available),
        ];
        assert_eq!(seen, expected);
        let failure = table.version_statuses("b")[0].failure.clone();
        assert_eq!(failure, Some((Code::InvalidArgument, "broken".to_owned())));
        assert!(table.version_statuses("c").is_empty());
        let known: Vec<&str> = table.known_names().collect();
        assert_eq!((known, table.names().count()), (vec!["a", "b"], 1));
        assert_eq!(table.iter().count(), 2);
    }

    #[test]
    fn a_name_of_two_namespaces_is_ambiguous() {
        let route = || Arc::new(Route::single(Arc::new(served("a", false))));
        let id = |namespace: &str| ServiceId {
            namespace: namespace.to_owned(),
            name: "a".to_owned(),
        };
        let table = ModelTable::from_routes([(id("x"), route()), (id("y"), route())].into());
        let namespaces = vec!["x".to_owned(), "y".to_owned()];
        assert_eq!(
            table.by_name("a").unwrap_err(),
            NoModel::Ambiguous { namespaces }
        );
        assert!(table.service(&id("y")).is_some() && table.has_namespaces());
    }
    /// A name that a service of another namespace has, too, does not become its own while that one is being loaded.
    #[test]
    fn what_is_still_to_come_is_known_by_its_name() {
        let id = |namespace: &str, name: &str| ServiceId {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let route = || Arc::new(Route::single(Arc::new(served("a", false))));
        let until = |seconds| Coming {
            kind: ComingKind::Models,
            until: Duration::from_secs(seconds),
            failure: None,
        };
        let failed = Coming {
            kind: ComingKind::Programs,
            until: Duration::ZERO,
            failure: Some("gone".to_owned()),
        };
        let coming = [
            (id("y", "a"), until(1)),
            (id("x", "b"), until(2)),
            (id("x", "c"), failed.clone()),
            (
                id("x", "g"),
                Coming {
                    kind: ComingKind::Graph,
                    ..until(3)
                },
            ),
        ];
        let table = ModelTable::from_routes([(id("x", "a"), route())].into());
        let table = table.with_coming(coming.into());
        let namespaces = vec!["x".to_owned(), "y".to_owned()];
        let ambiguous = Err(NoModel::Ambiguous { namespaces });
        assert_eq!(table.by_name("a").map(drop), ambiguous);
        assert_eq!(table.coming_by_name("a"), None);
        let by_name = |name| {
            table
                .coming_by_name(name)
                .map(|(id, one)| (id.clone(), one))
        };
        assert_eq!(by_name("b"), Some((id("x", "b"), &until(2))));
        assert_eq!(by_name("c"), Some((id("x", "c"), &failed)));
        // As once it is there.
        assert_eq!(by_name("g"), None);
        assert!(table.version_statuses("g").is_empty() && table.coming(&id("x", "g")).is_some());
        assert_eq!(table.coming(&id("y", "a")), Some(&until(1)));
        assert_eq!(table.coming(&id("y", "b")), None);
        assert!(table.is_known(&id("x", "a")) && table.is_known(&id("x", "c")));
        assert!(!table.is_known(&id("z", "a")) && table.has_namespaces());
        let state = |name| table.version_statuses(name)[0].state;
        assert_eq!(state("b"), VersionState::Loading);
        assert_eq!(state("c"), VersionState::End);
        assert!(table.is_planned() && table.has_coming());
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_is_waited_for() {
        let shared = SharedTable::default();
        let waits = shared.until(ModelTable::is_planned);
        let stores = async {
            tokio::task::yield_now().await;
            shared.store(ModelTable::default());
            tokio::task::yield_now().await;
            shared.store(ModelTable::default().with_coming(BTreeMap::new()));
        };
        tokio::join!(waits, stores);
        shared.until(ModelTable::is_planned).await;
        let never = shared.until(ModelTable::has_coming);
        let waited = tokio::time::timeout(Duration::from_secs(1), never).await;
        assert!(waited.is_err());
    }
}
