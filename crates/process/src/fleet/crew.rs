//! The replicas of one revision.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_serving::{Backend, ProcessOrder, ProcessState, RevisionId, RevisionLog};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::FleetConfig;
use crate::log::{LogSink, Stream};
use crate::supervisor::{Launch, Replica};

/// How often it is looked whether a replica that is to go has finished its requests.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(10);

/// The replicas of one revision, and who attends to them.
pub(super) struct Crew {
    id: RevisionId,
    config: FleetConfig,
    orders: watch::Receiver<Option<ProcessOrder>>,
    members: Vec<Member>,
    /// Those that are to go.
    leaving: JoinSet<()>,
    changed: Arc<Notify>,
    /// Counts the fleet's replicas that were started: those of a revision that was let go of may still be leaving when
    /// it is ordered again, and what they had (directories, control groups) must not be its next ones'.
    serials: Arc<AtomicU64>,
    reported: Option<Vec<ProcessState>>,
}

struct Member {
    replica: Replica,
    directory: PathBuf,
}

/// Writes a replica's lines to the revision's log.
struct ReplicaLog {
    log: RevisionLog,
    id: RevisionId,
    index: u32,
}

impl LogSink for ReplicaLog {
    fn line(&self, _stream: Stream, text: &str) {
        self.log.write_replica(&self.id, self.index, text);
    }

    fn restarted(&self) {
        self.log.restarted(&self.id, self.index);
    }
}

impl Crew {
    pub(super) fn new(
        id: RevisionId,
        config: FleetConfig,
        orders: watch::Receiver<Option<ProcessOrder>>,
        serials: Arc<AtomicU64>,
    ) -> Self {
        Self {
            id,
            config,
            orders,
            members: Vec::new(),
            leaving: JoinSet::new(),
            changed: Arc::default(),
            serials,
            reported: None,
        }
    }

    /// Attends to the replicas until it is told to stop, or the fleet is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let order = self.orders.borrow_and_update().clone();
            let Some(order) = order else { break };
            self.muster(&order);
            self.publish(&order);
            tokio::select! {
                changed = self.orders.changed() => if changed.is_err() { break },
                () = self.changed.notified() => {}
                Some(_gone) = self.leaving.join_next() => {}
            }
        }
        // Whoever forgot the revision has stopped sending requests to it; those that have begun are finished.
        while let Some(member) = self.members.pop() {
            self.let_go(member, Vec::new());
        }
        while self.leaving.join_next().await.is_some() {}
    }

    /// Starts what is missing, and lets go of what is too much.
    fn muster(&mut self, order: &ProcessOrder) {
        let n_wanted = usize::try_from(order.replicas).unwrap_or(usize::MAX);
        while self.members.len() < n_wanted {
            let member = self.start(order);
            self.members.push(member);
        }
        if self.members.len() > n_wanted {
            let surplus = self.members.split_off(n_wanted);
            // They take no more requests before they are told to end.
            let gone = self.set_backends(order, &self.states());
            for member in surplus {
                self.let_go(member, gone.clone());
            }
        }
    }

    fn start(&mut self, order: &ProcessOrder) -> Member {
        let index = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let serial = self.serials.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("{}-{index}-{serial}", self.id.name);
        let directory = self.config.directory.join(&self.id.namespace).join(&name);
        let launch = Launch {
            name: format!("{}-{name}", self.id.namespace),
            spec: order.spec.clone(),
            base_environment: self.config.base_environment.clone(),
            directory: directory.clone(),
            models: order.models.clone(),
            log: Arc::new(ReplicaLog {
                log: self.config.log.clone(),
                id: self.id.clone(),
                index,
            }),
            guard: self.config.guard.clone(),
            cgroups: Arc::clone(&self.config.cgroups),
            clock: Arc::clone(&self.config.clock),
            back_off: self.config.back_off,
            second: Duration::from_secs(1),
        };
        let replica = Replica::start(launch, &self.config.runtime);
        let (mut states, changed) = (replica.subscribe(), Arc::clone(&self.changed));
        self.config.runtime.spawn(async move {
            while states.changed().await.is_ok() {
                changed.notify_one();
            }
            changed.notify_one();
        });
        Member { replica, directory }
    }

    fn states(&self) -> Vec<ProcessState> {
        let states = self.members.iter().map(|member| member.replica.state());
        states.collect()
    }

    /// Enters those that take requests; returns those that no longer do.
    fn set_backends(&self, order: &ProcessOrder, states: &[ProcessState]) -> Vec<Arc<Backend>> {
        order
            .backends
            .set_lost(states.iter().any(ProcessState::is_lost));
        let endpoints: Vec<_> = states.iter().filter_map(ProcessState::endpoints).collect();
        order.backends.set(&endpoints)
    }

    fn publish(&mut self, order: &ProcessOrder) {
        let states = self.states();
        let _gone = self.set_backends(order, &states);
        if self.reported.as_ref() != Some(&states) {
            self.reported = Some(states.clone());
            (order.report)(states);
        }
    }

    /// Stops a replica once it has finished its requests.
    fn let_go(&mut self, member: Member, gone: Vec<Arc<Backend>>) {
        let address = member.replica.state().address();
        let backend = gone.into_iter().find(|one| Some(one.address()) == address);
        let drain_max = self.config.drain_max;
        self.leaving.spawn_on(
            async move {
                let deadline = Instant::now() + drain_max;
                loop {
                    // At least once: a request may have been handed to it just before it was taken off the list.
                    sleep(DRAIN_LOOK_EVERY).await;
                    let in_flight = backend.as_ref().map_or(0, |backend| backend.in_flight());
                    if in_flight == 0 || Instant::now() >= deadline {
                        break;
                    }
                }
                member.replica.stopped().await;
                let _removed = std::fs::remove_dir_all(&member.directory);
            },
            &self.config.runtime,
        );
    }
}
