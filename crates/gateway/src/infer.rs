//! A call: decode, run, encode; on this event loop or on the compute pool.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, Code};
use coracle_protocol::{DecodeContext, EncodeContext, RequestError};
use coracle_serving::{Inference, Lease, Placement, Refusal, ServedModel, SharedTable};
use tokio::sync::Semaphore;

use crate::codec::{Codec, Encoded};
use crate::shared_memory::SharedMemory;

/// What calls need besides the request.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) table: Arc<SharedTable>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) elements_max: usize,
    pub(crate) request_timeout: Duration,
    /// Places in the queue of the compute pool.
    pub(crate) pool: Arc<Semaphore>,
    /// The event loop, for its counters.
    pub(crate) worker: usize,
    /// The shared memory that clients have registered.
    pub(crate) shared_memory: Arc<SharedMemory>,
}

/// A request for an inference.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) codec: Codec,
    pub(crate) body: Bytes,
    /// How long the caller waits, where that is less than what the server allows.
    pub(crate) timeout: Option<Duration>,
}

/// A call that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// When a request came, and how long it may take.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: Duration,
    time: Duration,
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code(),
            message: refusal.message(),
        }
    }
}

impl Calls {
    /// Answers `request` with `model`, once it may run.
    ///
    /// # Errors
    /// With the code of the failure.
    pub(crate) async fn answer(
        &self,
        model: &Arc<ServedModel>,
        request: Request,
    ) -> Result<Encoded, Failure> {
        let arrived = self.clock.monotonic();
        let clock = self.clock.as_ref();
        let in_flight = model.statistics().start(self.worker, arrived, clock);
        let protocol = request.codec.protocol();
        let time = model.timeout().unwrap_or(self.request_timeout);
        let time = request.timeout.map_or(time, |timeout| timeout.min(time));
        let arrival = Arrival { at: arrived, time };
        let result = match model.try_enter() {
            Some(lease) => self.run(model, lease, request, arrival).await,
            None => self.wait_and_run(model, request, arrival).await,
        };
        let outcome = result
            .as_ref()
            .map(|_body| ())
            .map_err(|failure| failure.code);
        in_flight.finish(protocol, outcome, self.clock.monotonic());
        result
    }

    /// Waits until the request may run; the time that it waits is of the time that it has.
    async fn wait_and_run(
        &self,
        model: &Arc<ServedModel>,
        request: Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        let lease = model.enter(arrival.time).await?;
        self.run(model, lease, request, arrival).await
    }

    async fn run(
        &self,
        model: &Arc<ServedModel>,
        lease: Lease,
        request: Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        match model.cost().placement(request.body.len()) {
            Placement::EventLoop => self.execute(model, &lease, &request, arrival),
            Placement::ComputePool => {
                let waited = self.clock.monotonic().saturating_sub(arrival.at);
                let time_left = arrival.time.saturating_sub(waited);
                let call = self.execute_on_pool(Arc::clone(model), lease, request, arrival);
                match tokio::time::timeout(time_left, call).await {
                    Ok(result) => result,
                    Err(_elapsed) => Err(too_late(arrival.time)),
                }
            }
        }
    }

    async fn execute_on_pool(
        &self,
        model: Arc<ServedModel>,
        lease: Lease,
        request: Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        let Ok(place) = Arc::clone(&self.pool).try_acquire_owned() else {
            return Err(Failure {
                code: Code::ResourceExhausted,
                message: "too many calls are waiting; retry later".to_owned(),
            });
        };
        let calls = self.clone();
        let call = tokio::task::spawn_blocking(move || {
            let _place = place;
            calls.execute(&model, &lease, &request, arrival)
        });
        call.await.unwrap_or_else(|_panicked| {
            Err(Failure {
                code: Code::Internal,
                message: "the call failed; this is a defect of the server".to_owned(),
            })
        })
    }

    /// Decodes, runs and encodes, and measures what that costs.
    fn execute(
        &self,
        model: &ServedModel,
        lease: &Lease,
        request: &Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        let started = self.clock.monotonic();
        let signature = lease.model().signature();
        let ctx = DecodeContext {
            signature,
            default_outputs: &signature.default_outputs,
            method: request.codec.method(),
            elements_max: self.elements_max,
            regions: self.shared_memory.as_ref(),
        };
        let call = request.codec.decode(&request.body, &ctx)?;
        let decoded = self.clock.monotonic();
        let outputs = lease
            .run(&call.inputs, &call.outputs)
            .map_err(|error| Failure {
                code: error.code(),
                message: error.to_string(),
            })?;
        let run = self.clock.monotonic();
        let ctx = EncodeContext {
            model_name: model.name(),
            model_version: model.version(),
            signature,
            regions: self.shared_memory.as_ref(),
        };
        let encoded = request.codec.encode(&ctx, &call, &outputs)?;
        let ended = self.clock.monotonic();
        let elapsed = ended.saturating_sub(started);
        model.statistics().inferences().add(
            self.worker,
            Inference {
                n_rows: call.n_rows,
                queue: started.saturating_sub(arrival.at),
                decode: decoded.saturating_sub(started),
                run: run.saturating_sub(decoded),
                encode: ended.saturating_sub(run),
                ended,
            },
        );
        model.cost().record(request.body.len(), elapsed);
        model.statistics().compute(self.worker, elapsed);
        Ok(encoded)
    }
}

/// Returns the failure of a call that took longer than it may.
pub(crate) fn too_late(timeout: Duration) -> Failure {
    Failure {
        code: Code::DeadlineExceeded,
        message: format!("no answer within {}", humantime::format_duration(timeout)),
    }
}

/// Returns KServe's words for a model that is not there.
pub(crate) fn unknown_model(name: &str) -> String {
    let shown: String = name.chars().take(128).collect();
    format!("Model with name {shown} does not exist.")
}
