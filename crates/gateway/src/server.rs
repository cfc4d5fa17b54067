//! The server: binds, accepts, hands connections to workers, shuts down.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use coracle_base::Clock;
use coracle_serving::experiment::Experiments;
use coracle_serving::{Chaos, ComputePool, HttpStatistics, MemoryBudget, PoolLimits, SharedTable};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::alone::Occupancy;
use crate::busy_poll::BusyPoll;
use crate::connection::{Handler, Shared};
use crate::cors::CorsPolicy;
use crate::forward::{Pool, Programs};
use crate::hold::Waiting;
use crate::infer::Calls;
use crate::joint::JointCalls;
use crate::limits::Limits;
use crate::log::Log;
use crate::model_control::ModelControl;
use crate::outlets::{OutletConfig, Outlets};
use crate::request_id::RequestIds;
use crate::shadow::Shadows;
use crate::shared_memory::SharedMemory;
use crate::transport::serve_connection;
use crate::whole::Dates;

/// What a server is made with.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The bounds on clients.
    pub limits: Limits,
    /// The number of event loops.
    pub n_workers: usize,
    /// The number of calls that the compute pool runs at a time, for all workers together.
    pub n_pool_threads: usize,
    /// How long requests in flight may take once the server is told to stop.
    pub shutdown_timeout: Duration,
    /// The version of the program, for metadata and metrics.
    pub version: String,
    /// Whether clients may register shared memory for tensors.
    pub allow_shared_memory: bool,
    /// Which web pages may ask.
    pub cors: CorsPolicy,
    /// What loads and unloads models on request, where that is allowed.
    pub control: Option<Arc<dyn ModelControl>>,
    /// What leaves the server besides answers.
    pub outlets: OutletConfig,
    /// How long after a request an event loop looks for the next one without sleeping; `None` if it sleeps.
    pub busy_poll: Option<Duration>,
}

impl ServerConfig {
    fn pool_limits(&self) -> PoolLimits {
        PoolLimits {
            n_threads: self.n_pool_threads,
            calls_max: self.limits.pool_calls_max,
            bytes_max: self.limits.pool_bytes_max.as_usize(),
        }
    }

    /// Returns what every worker shares.
    fn shared(&self, clock: Arc<dyn Clock>) -> Shared {
        Shared {
            limits: self.limits,
            http: HttpStatistics::new(self.n_workers),
            exports: Arc::default(),
            version: self.version.clone(),
            ready: AtomicBool::new(true),
            clock,
            cors: self.cors.clone(),
            control: self.control.clone(),
            budget: None,
            waiting: Waiting::default(),
        }
    }
}

/// An address that could not be bound.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    address: SocketAddr,
    reason: String,
    #[source]
    source: io::Error,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Connections that were still busy when the time was up, and were cut.
    pub n_connections_cut: usize,
}

/// A server that is bound and not yet serving.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<std::net::TcpListener>,
    address: SocketAddr,
    config: ServerConfig,
    budget: Option<Arc<MemoryBudget>>,
    experiments: Option<Experiments>,
    chaos: Option<Chaos>,
}

/// Connections that may wait for a worker.
const QUEUE_CONNECTIONS: usize = 1_024;
/// How long accepting pauses when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Takes `address`, for this server alone.
    ///
    /// # Errors
    /// [`BindError`] with what to do about it.
    pub fn bind(address: SocketAddr, config: ServerConfig) -> Result<Self, BindError> {
        let (listener, bound) = listen(address, "--port")?;
        Ok(Self {
            listeners: vec![listener],
            address: bound,
            config,
            budget: None,
            experiments: None,
            chaos: None,
        })
    }

    /// Takes a further address, with the same services; returns it with the port that the system chose if it was asked to.
    ///
    /// # Errors
    /// [`BindError`] with what to do about it.
    pub fn also_bind(&mut self, address: SocketAddr) -> Result<SocketAddr, BindError> {
        let (listener, bound) = listen(address, "--grpc-port")?;
        self.listeners.push(listener);
        Ok(bound)
    }

    /// Lets models be loaded and unloaded on request.
    pub fn set_control(&mut self, control: Arc<dyn ModelControl>) {
        self.config.control = Some(control);
    }

    /// Shows what is counted of the memory budget among the metrics.
    pub fn set_budget(&mut self, budget: Arc<MemoryBudget>) {
        self.budget = Some(budget);
    }

    /// Lets requests take part in experiments.
    pub fn set_experiments(&mut self, experiments: Experiments) {
        self.experiments = Some(experiments);
    }

    /// Lets faults be injected on purpose.
    pub fn set_chaos(&mut self, chaos: Chaos) {
        self.chaos = Some(chaos);
    }

    /// Returns the address, with the port that the system chose if it was asked to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves what `table` holds until `shutdown` is done, then finishes what is in flight.
    ///
    /// The accept loop runs on the calling thread, the workers on threads of their own.
    ///
    /// # Errors
    /// If a runtime or thread cannot be started.
    pub fn run(
        self,
        table: Arc<SharedTable>,
        log: &Log,
        clock: Arc<dyn Clock>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<ShutdownReport> {
        let shared = Arc::new(Shared {
            budget: self.budget.clone(),
            ..self.config.shared(clock)
        });
        let shared_memory = Arc::new(SharedMemory::new(self.config.allow_shared_memory));
        let (around, limits) = ((&table, &shared.clock), &self.config.limits);
        let shadows = Shadows::new(around, limits, self.chaos.clone());
        let pool = ComputePool::start(self.config.pool_limits(), Arc::clone(&shared.clock))?;
        let pool = Arc::new(pool);
        let (outlets, writers) = Outlets::start(
            self.config.outlets,
            (self.address, self.config.shutdown_timeout),
            &shared.exports,
            (log, &shared.clock),
        )?;
        let (stop, stopped) = watch::channel(Stage::Serving);
        let n_cut = Arc::new(AtomicUsize::new(0));
        let mut workers = Vec::new();
        let mut queues = Vec::new();
        let n_workers = self.config.n_workers.max(1);
        for index in 0..n_workers {
            let (queue, connections) = mpsc::channel(QUEUE_CONNECTIONS);
            let occupancy = Arc::new(Occupancy::of_one_of(n_workers));
            let worker = Worker {
                index,
                occupancy: Arc::clone(&occupancy),
                shared: Arc::clone(&shared),
                table: Arc::clone(&table),
                shared_memory: Arc::clone(&shared_memory),
                shadows: shadows.clone(),
                experiments: self.experiments.clone(),
                chaos: self.chaos.clone(),
                pool: Arc::clone(&pool),
                outlets: outlets.clone(),
                log: log.clone(),
                busy_poll: self.config.busy_poll,
                n_blocking_threads: self.config.n_pool_threads.div_ceil(n_workers).max(1),
                stage: stopped.clone(),
                n_cut: Arc::clone(&n_cut),
            };
            let thread = std::thread::Builder::new().name(format!("coracle-worker-{index}"));
            workers.push(thread.spawn(move || worker.run(connections))?);
            queues.push(Queue { queue, occupancy });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let timeout = self.config.shutdown_timeout;
        runtime.block_on(async move {
            let listeners = self.listeners.into_iter().map(TcpListener::from_std);
            let listeners: Vec<TcpListener> = listeners.collect::<io::Result<_>>()?;
            let told_to_stop = async {
                shutdown.await;
                // Before the queues close, so that workers know how long they may take.
                shared.ready.store(false, Ordering::Release);
                stop.send_replace(Stage::Draining(timeout));
            };
            tokio::select! {
                () = told_to_stop => {}
                () = accept_all(&listeners, &queues, &shared, log) => {}
            }
            Ok::<(), io::Error>(())
        })?;
        for worker in workers {
            // A worker that panicked has no connections left to finish.
            drop(worker.join());
        }
        writers.join();
        Ok(ShutdownReport {
            n_connections_cut: n_cut.load(Ordering::Acquire),
        })
    }
}

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Serving,
    /// Finishing what is in flight, for at most so long.
    Draining(Duration),
}

/// `option` is what chooses the port, for messages.
fn listen(
    address: SocketAddr,
    option: &str,
) -> Result<(std::net::TcpListener, SocketAddr), BindError> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bind().map_err(|source: io::Error| BindError {
        address,
        reason: explain(&source, address.port(), option),
        source,
    })
}

fn explain(error: &io::Error, port: u16, option: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another process listens there; find it with `ss -ltnp 'sport = :{port}'`, or choose another port with {option}"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("not permitted; ports below 1024 need privileges, choose one above with {option} ({port} was asked for)")
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has the address; list them with `ip addr`, or choose one with --host".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Accepts the connections of all listeners; ends only if all workers are gone.
async fn accept_all(listeners: &[TcpListener], queues: &[Queue], shared: &Shared, log: &Log) {
    let accepts = listeners.iter().map(|listener| {
        let accept: Pin<Box<dyn Future<Output = ()>>> =
            Box::pin(accept(listener, queues, shared, log));
        accept
    });
    let mut accepts: Vec<_> = accepts.collect();
    std::future::poll_fn(|ctx| {
        let is_over = accepts
            .iter_mut()
            .any(|accept| accept.as_mut().poll(ctx).is_ready());
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Accepts connections and hands them to the workers in turn; ends only if all workers are gone.
async fn accept(listener: &TcpListener, queues: &[Queue], shared: &Shared, log: &Log) {
    let most = u64::try_from(shared.limits.connections_max).unwrap_or(u64::MAX);
    let mut turn = 0;
    loop {
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _peer)) if shared.http.connections() < most => break stream,
                Ok(_one_too_many) => shared.http.refuse(),
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    log.warn(&format!("cannot accept connections: {error}; trying again"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        // Small answers must not wait for the acknowledgement of earlier ones.
        drop(stream.set_nodelay(true));
        let Ok(stream) = stream.into_std() else {
            continue;
        };
        shared.http.open();
        let Queue { queue, .. } = next_queue(queues, &mut turn);
        if queue.try_send(stream).is_err() {
            shared.http.close();
            shared.http.refuse();
            if queue.is_closed() {
                return;
            }
        }
    }
}

/// So many more connections than an event loop that runs others may have before it gets the next one all the same.
const MORE_CONNECTIONS_MAX: usize = 4;

/// Returns the next one; if a run keeps its event loop from its sockets, the next one after it that none does, unless that has many more.
fn next_queue<'q>(queues: &'q [Queue], turn: &mut usize) -> &'q Queue {
    let at = |step: usize| &queues[(*turn + step) % queues.len()];
    let most = at(0).occupancy.n_connections() + MORE_CONNECTIONS_MAX;
    let looks = |step: &usize| {
        let occupancy = &at(*step).occupancy;
        !occupancy.is_running() && (*step == 0 || occupancy.n_connections() <= most)
    };
    let step = (0..queues.len()).find(looks).unwrap_or(0);
    let queue = at(step);
    *turn = (*turn + step + 1) % queues.len();
    queue
}

/// The way of connections to an event loop.
struct Queue {
    queue: mpsc::Sender<TcpStreamStd>,
    occupancy: Arc<Occupancy>,
}

type TcpStreamStd = std::net::TcpStream;

/// Tells whether a failed accept says something of that one connection only.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// One event loop with its thread.
struct Worker {
    index: usize,
    occupancy: Arc<Occupancy>,
    shared: Arc<Shared>,
    table: Arc<SharedTable>,
    shared_memory: Arc<SharedMemory>,
    shadows: Shadows,
    experiments: Option<Experiments>,
    chaos: Option<Chaos>,
    pool: Arc<ComputePool>,
    outlets: Outlets,
    log: Log,
    busy_poll: Option<Duration>,
    /// For what is neither the loop's nor a call: expanding bodies, loading on request.
    n_blocking_threads: usize,
    stage: watch::Receiver<Stage>,
    n_cut: Arc<AtomicUsize>,
}

impl Worker {
    fn run(self, connections: mpsc::Receiver<TcpStreamStd>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(self.n_blocking_threads)
            .build();
        match runtime {
            Ok(runtime) => {
                LocalSet::new().block_on(&runtime, self.serve(connections));
                // Calls on the pool that outlived the shutdown must not hold the process up.
                runtime.shutdown_background();
            }
            Err(error) => self.log.warn(&format!("a worker cannot start: {error}")),
        }
    }

    async fn serve(self, mut connections: mpsc::Receiver<TcpStreamStd>) {
        let limits = self.shared.limits;
        let started = self.shared.clock.unix_time().as_nanos();
        let seed = u64::try_from(started & u128::from(u64::MAX)).unwrap_or(0);
        let (programs, asks) = Programs::new();
        let handler = Rc::new(Handler {
            shared: Arc::clone(&self.shared),
            calls: Calls {
                table: self.table,
                clock: Arc::clone(&self.shared.clock),
                elements_max: limits.elements_max,
                body_max: limits.body_max.as_usize(),
                request_timeout: limits.request_timeout,
                pool: self.pool,
                worker: self.index,
                occupancy: Arc::clone(&self.occupancy),
                joint: JointCalls::default(),
                shared_memory: self.shared_memory,
                shadows: self.shadows,
                experiments: self.experiments,
                chaos: self.chaos,
                payloads: self.outlets.payloads,
                programs: Some(programs),
                traces: self.outlets.tracer.is_some(),
            },
            pool: Pool::default(),
            log: self.log,
            dates: Dates::default(),
            ids: RequestIds::new(seed.wrapping_add((self.index as u64) << 48)),
            stage: self.stage.clone(),
            tracer: self.outlets.tracer,
            busy_poll: self
                .busy_poll
                .map(|time| BusyPoll::start(time, &self.shared.clock)),
        });
        tokio::task::spawn_local(Rc::clone(&handler).ask_programs(asks));
        let mut stage = self.stage.clone();
        loop {
            tokio::select! {
                stream = connections.recv() => match stream {
                    Some(stream) => {
                        let connection = serve_connection(stream, Rc::clone(&handler), self.stage.clone());
                        let open = self.occupancy.connection();
                        let shared = Arc::clone(&self.shared);
                        tokio::task::spawn_local(async move {
                            connection.await;
                            shared.http.close();
                            drop(open);
                        });
                    }
                    None => break,
                },
                changed = stage.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
        }
        // The accept loop is gone; what is open may finish within the time given.
        let timeout = match *self.stage.borrow() {
            Stage::Draining(timeout) => timeout,
            Stage::Serving => Duration::ZERO,
        };
        let closed = closed(&self.occupancy);
        if tokio::time::timeout(timeout, closed).await.is_err() {
            let n_cut = self.occupancy.n_connections();
            self.n_cut.fetch_add(n_cut, Ordering::AcqRel);
        }
    }
}

/// Waits until no connection is open.
async fn closed(occupancy: &Occupancy) {
    while occupancy.n_connections() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_loops_in_turn_and_round_those_that_are_at_a_run() {
        let loops = [(); 3].map(|()| Queue {
            queue: mpsc::channel(1).0,
            occupancy: Arc::new(Occupancy::of_one_of(3)),
        });
        let mut turn = 0;
        let mut next = || {
            let chosen = next_queue(&loops, &mut turn);
            loops
                .iter()
                .position(|one| std::ptr::eq(one, chosen))
                .unwrap()
        };
        assert_eq!([next(), next(), next(), next()], [0, 1, 2, 0]);
        loops[1].occupancy.set_running(true);
        assert_eq!([next(), next(), next(), next()], [2, 0, 2, 0]);
        // Another loop is not given many more for it.
        let _many = [(); 5].map(|()| loops[2].occupancy.connection());
        assert_eq!([next(), next(), next()], [0, 0, 0]);
        let _more = [(); 5].map(|()| loops[0].occupancy.connection());
        assert_eq!([next(), next(), next()], [1, 2, 0]);
        loops[1].occupancy.set_running(false);
        assert_eq!([next(), next(), next()], [1, 2, 0]);
        for one in &loops {
            one.occupancy.set_running(true);
        }
        assert_eq!([next(), next(), next()], [1, 2, 0]);
    }
}
