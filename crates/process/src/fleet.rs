//! All processes of a server: for each revision as many as are ordered, the surplus stopped once it has nothing to do.
//!
//! Expected flow: [`Fleet::order`](ProcessRunner::order) at every change of a revision's order; a task for each revision
//! starts, watches and stops its replicas. Guarantees: a replica that is to go takes no more requests before it is told
//! to end, and finishes those it has, for as long as requests may take; nothing of an earlier server is left running.

mod crew;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_base::Clock;
use coracle_serving::{ProcessOrder, ProcessRunner, RevisionId, RevisionLog};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::back_off::BackOffPace;
use crate::cgroup::Cgroups;
use crate::guarded::GuardCommand;
use crate::leftovers;
use crew::Crew;

/// What a fleet works with.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Where replicas have directories of their own; nobody else's.
    pub directory: PathBuf,
    /// The environment that every program gets.
    pub base_environment: BTreeMap<String, String>,
    /// How guards are started.
    pub guard: GuardCommand,
    /// Where control groups are made.
    pub cgroups: Arc<Cgroups>,
    /// Takes what programs write.
    pub log: RevisionLog,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// When programs are started again.
    pub back_off: BackOffPace,
    /// How long a replica that is to go may take to finish its requests.
    pub drain_max: Duration,
    /// What runs the tasks.
    pub runtime: Handle,
}

/// The processes of a server.
#[derive(Debug)]
pub struct Fleet {
    config: FleetConfig,
    crews: Mutex<BTreeMap<RevisionId, Station>>,
    /// Counts the replicas that were started.
    serials: Arc<AtomicU64>,
}

/// Where a revision's task takes its orders.
#[derive(Debug)]
struct Station {
    /// `None` tells it to stop everything and end.
    orders: watch::Sender<Option<ProcessOrder>>,
    task: JoinHandle<()>,
}

impl Fleet {
    /// Returns a fleet without processes; ends those that an earlier server has left behind.
    #[must_use]
    pub fn new(config: FleetConfig) -> Self {
        let n_left = leftovers::end(&config.directory);
        debug_assert!(n_left < usize::MAX, "they are counted one by one");
        // Directories of replicas that are gone; one that cannot be removed is in nobody's way.
        let _removed = std::fs::remove_dir_all(&config.directory);
        Self {
            config,
            crews: Mutex::default(),
            serials: Arc::default(),
        }
    }

    fn crews(&self) -> MutexGuard<'_, BTreeMap<RevisionId, Station>> {
        self.crews.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops all processes, and waits until they are gone.
    pub async fn stop(&self) {
        let stations: Vec<Station> = std::mem::take(&mut *self.crews()).into_values().collect();
        for station in &stations {
            station.orders.send_replace(None);
        }
        for station in stations {
            // A task that panicked has dropped its replicas, which ends them.
            drop(station.task.await);
        }
    }
}

impl ProcessRunner for Fleet {
    fn order(&self, id: &RevisionId, order: ProcessOrder) {
        let mut crews = self.crews();
        if let Some(station) = crews.get(id) {
            station.orders.send_replace(Some(order));
            return;
        }
        let (orders, changes) = watch::channel(Some(order));
        let serials = Arc::clone(&self.serials);
        let crew = Crew::new(id.clone(), self.config.clone(), changes, serials);
        let task = self.config.runtime.spawn(crew.run());
        crews.insert(id.clone(), Station { orders, task });
    }

    fn forget(&self, id: &RevisionId) {
        if let Some(station) = self.crews().remove(id) {
            station.orders.send_replace(None);
        }
    }
}
