//! What the methods of the services answer, one message for one message.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Code, VersionState};
use coracle_protocol::facts::{EXTENSIONS, IndexEntry, ModelFacts, RegionEntry, VersionEntry};
use coracle_protocol::flow::Dialect;
use coracle_protocol::grpc::inference::{
    CudaSharedMemoryStatusResponse, CudaSharedMemoryUnregisterResponse, ModelConfigResponse,
    ModelMetadataRequest, ModelReadyRequest, ModelReadyResponse, ModelStatisticsResponse,
    RegionStatus, RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveResponse,
    ServerMetadataResponse, ServerReadyResponse, SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryRegisterResponse, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryStatusResponse, SystemSharedMemoryUnregisterRequest,
    SystemSharedMemoryUnregisterResponse,
};
use coracle_protocol::grpc::service::{HealthCheckRequest, HealthCheckResponse};
use coracle_protocol::grpc::{self, InferHead, SERVICES, decode, frame};
use coracle_protocol::http_status;
use coracle_protocol::tfs::{self, Question};
use coracle_protocol::v2;
use coracle_serving::{Lease, ModelTable, ServedModel, VersionStatus};

use super::flows::{SELDON, flow_of};
use super::{Caller, failure};
use crate::codec::Codec;
use crate::connection::Handler;
use crate::experiment::{self, Chosen, Held, Sent, Turn};
use crate::infer::{self, Failure};
use crate::models::version_entry;
use crate::route::AskedVersion;
use crate::scope::Scope;
use crate::spans::InferenceSlot;

/// The name of the Open Inference Protocol's service, in paths.
pub(super) const INFERENCE: &str = "/inference.GRPCInferenceService/";
/// The names of TensorFlow Serving's services, in paths.
pub(crate) const PREDICTION: &str = "/tensorflow.serving.PredictionService/";
pub(super) const MODEL_STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";
pub(super) const MODEL_STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
pub(super) const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
pub(crate) const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
pub(super) const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Health's numbers for what it tells.
pub(super) const SERVING: i32 = 1;
pub(super) const NOT_SERVING: i32 = 2;
pub(super) const SERVICE_UNKNOWN: i32 = 3;

/// Tells whether the method at `path` streams.
pub(super) fn is_streaming(path: &str) -> bool {
    path == MODEL_STREAM_INFER || path == HEALTH_WATCH || REFLECTION.contains(&path)
}

impl Handler {
    /// Answers one message of a method that does not stream; the answer is framed.
    pub(super) async fn answer_message(
        &self,
        caller: &Caller,
        message: Bytes,
        arrived: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let path = caller.head.uri.path();
        if path == INFER {
            return self.model_infer(caller, message, arrived).await;
        }
        if path == HEALTH_CHECK {
            let request: HealthCheckRequest = decode(message)?;
            return match self.health(&request.service) {
                SERVICE_UNKNOWN => Err(failure(Code::NotFound, "unknown service")),
                status => Ok(frame(&HealthCheckResponse { status })),
            };
        }
        if let Some(method) = path.strip_prefix(PREDICTION) {
            return self.prediction(caller, method, message, arrived).await;
        }
        if let Some(method) = path.strip_prefix(SELDON) {
            // Not part of what other calls carry along.
            return Box::pin(self.seldon_message(caller, method, message, arrived)).await;
        }
        if path == MODEL_STATUS {
            let (name, version) = tfs::read_version(&message)?;
            let version = version.as_ref().map(asked_version);
            let table = self.calls.table.load();
            if let Some(entry) = self.flow_status(&table, (caller, &name), version.is_some())? {
                return Ok(tfs::model_status_message(&[entry]));
            }
            let (scope, _path) = Scope::of_call(&table, &caller.head);
            let headers = &caller.head.headers;
            let entries = self.version_entries(&scope, &table, &name, version.as_ref(), headers)?;
            return Ok(tfs::model_status_message(&entries));
        }
        match path.strip_prefix(INFERENCE) {
            Some("ModelMetadata") => {
                let of_flow = self.flow_metadata(caller, message.clone());
                if let Some(answer) = Box::pin(of_flow).await? {
                    return Ok(answer);
                }
                let model = self.asked_model(caller, message)?;
                let versions = self.served_versions(caller, model.name());
                let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
                let framed = |facts: ModelFacts<'_>| frame(&grpc::model_metadata(facts));
                self.described_to(caller, (&model, &versions), framed).await
            }
            Some("ModelConfig") => {
                let (model, lease) = self.entered_model(caller, message).await?;
                let versions = self.served_versions(caller, model.name());
                let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
                let facts = self.facts(&model, &lease, &versions);
                Ok(frame(&ModelConfigResponse {
                    config: Some(grpc::model_config(facts)),
                }))
            }
            Some("RepositoryModelLoad") => self.load(decode(message)?).await,
            Some("RepositoryModelUnload") => self.unload(decode(message)?).await,
            Some(method) => self.read_only_message(caller, method, message),
            None => Err(unknown_method(path)),
        }
    }

    /// Answers one ModelInferRequest, which was there at `arrived`.
    pub(super) async fn model_infer(
        &self,
        caller: &Caller,
        message: Bytes,
        arrived: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let head = InferHead::read(&message)?;
        let version = number(&head.model_version);
        let table = self.calls.table.load();
        if table.has_flows()
            && let Some(flow) = flow_of(&table, caller, &head.model_name)?
        {
            let sent = (Codec::Grpc, Dialect::Grpc);
            let led = self.flow_message((&table, flow), caller, sent, (message, arrived));
            return Box::pin(led).await;
        }
        let model = asked_in(&table, caller, &head.model_name, version.as_ref())?;
        self.inferred((&table, caller), model, (Codec::Grpc, message, arrived))
            .await
    }

    /// Answers a message that `model` of `table` was asked, or a variant of it.
    pub(super) async fn inferred(
        &self,
        (table, caller): (&ModelTable, &Caller),
        model: &Arc<ServedModel>,
        (codec, body, arrived): (Codec, Bytes, Duration),
    ) -> Result<Vec<u8>, Failure> {
        let timeout = caller.time_left(self.shared.clock.as_ref())?;
        let chosen = match (table.has_experiments(), &caller.turn) {
            (false, _) => None,
            (true, Turn::Open) => variant_of(table, caller, model, (&codec, &body)),
            (true, Turn::Settled(held)) => held.as_ref().and_then(Held::chosen),
        };
        let model = chosen.as_ref().map_or(model, |chosen| chosen.model);
        let request = infer::Request {
            timeout,
            priority: caller.priority,
            trace: caller.trace,
            slot: caller.head.extensions.get::<InferenceSlot>().cloned(),
            recording: self.calls.recording(model, caller.recorded()),
            key: self.calls.last_good_key(model, &caller.head.headers),
            is_watched: chosen.as_ref().is_some_and(Chosen::is_watched),
            ..infer::Request::plain(codec, body, arrived)
        };
        let clock = self.shared.clock.as_ref();
        let part = chosen.map(|chosen| chosen.take_part(clock, caller.recorded(), arrived));
        let mut answered = self.calls.answer(model, request).await;
        if let Some(part) = part {
            caller.seen.borrow_mut().variant = part.end(&mut answered);
        }
        // The counter of who holds the model is one that all event loops write to.
        let status = answered
            .as_ref()
            .map_or_else(|failure| http_status(failure.code), |_| 200);
        if self.log.takes(status) {
            caller.note_model(model);
        }
        Ok(caller.note_answer(answered?))
    }

    /// Answers TensorFlow Serving's PredictionService.
    async fn prediction(
        &self,
        caller: &Caller,
        method: &str,
        message: Bytes,
        arrived: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let codec = match method {
            "Predict" => Some(Codec::PredictMessage),
            "Classify" => Some(Codec::ExamplesMessage(Question::Classify)),
            "Regress" => Some(Codec::ExamplesMessage(Question::Regress)),
            "GetModelMetadata" => None,
            method => return Err(unknown_method(&format!("{PREDICTION}{method}"))),
        };
        let (name, version) = tfs::read_version(&message)?;
        let version = version.as_ref().map(asked_version);
        let table = self.calls.table.load();
        if table.has_flows() {
            let of_flow =
                self.flow_prediction(&table, (caller, &name), method, (&message, arrived));
            if let Some(answer) = Box::pin(of_flow).await? {
                return Ok(answer);
            }
        }
        let model = asked_in(&table, caller, &name, version.as_ref())?;
        let Some(codec) = codec else {
            let described = self.described_to(caller, (model, &[]), tfs::model_metadata_message);
            return Box::pin(described).await;
        };
        self.inferred((&table, caller), model, (codec, message, arrived))
            .await
    }

    /// Returns what a model takes and gives, or what its deployment's predictors have in common of that.
    async fn described_to(
        &self,
        caller: &Caller,
        (model, versions): (&ServedModel, &[&str]),
        framed: impl FnOnce(ModelFacts<'_>) -> Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        // Takes places of its own, of which this call may not hold one yet.
        let common = {
            let table = self.calls.table.load();
            let (scope, _path) = Scope::of_call(&table, &caller.head);
            self.in_common((&table, &scope), model).await?
        };
        let lease = self.entered(caller, model).await?;
        let facts = self.facts(model, &lease, versions);
        let signature = common.as_ref().unwrap_or(facts.signature);
        Ok(framed(ModelFacts { signature, ..facts }))
    }

    /// Answers what changes no model.
    fn read_only_message(
        &self,
        caller: &Caller,
        method: &str,
        message: Bytes,
    ) -> Result<Vec<u8>, Failure> {
        let is_ready = self.shared.ready.load(Ordering::Acquire);
        Ok(match method {
            "ServerLive" => frame(&ServerLiveResponse { live: true }),
            "ServerReady" => frame(&ServerReadyResponse { ready: is_ready }),
            "ServerMetadata" => frame(&ServerMetadataResponse {
                name: "coracle".to_owned(),
                version: self.shared.version.clone(),
                extensions: EXTENSIONS.map(str::to_owned).to_vec(),
            }),
            "ModelReady" => {
                let request: ModelReadyRequest = decode(message)?;
                let version = number(&request.version);
                let is_well = match self.is_flow_well(caller, &request.name) {
                    Some(is_well) => is_well,
                    None => {
                        let model = self.named_model(caller, &request.name, version.as_ref());
                        model.is_ok_and(|model| model.trouble().is_none())
                    }
                };
                frame(&ModelReadyResponse {
                    ready: is_ready && is_well,
                })
            }
            "ModelStatistics" => self.statistics_message(caller, message)?,
            "RepositoryIndex" => {
                let request: RepositoryIndexRequest = decode(message)?;
                frame(&grpc::repository_index(self.index(request.ready)))
            }
            "CudaSharedMemoryStatus" => frame(&CudaSharedMemoryStatusResponse {}),
            "CudaSharedMemoryUnregister" => frame(&CudaSharedMemoryUnregisterResponse {}),
            method => return self.shared_memory_message(method, message),
        })
    }

    fn shared_memory_message(&self, method: &str, message: Bytes) -> Result<Vec<u8>, Failure> {
        let memory = &self.calls.shared_memory;
        let optional = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Ok(match method {
            "SystemSharedMemoryStatus" => {
                let request: SystemSharedMemoryStatusRequest = decode(message)?;
                let regions = memory.status(optional(&request.name).as_deref())?;
                let status = |region: RegionEntry| RegionStatus {
                    name: region.name,
                    key: region.key,
                    offset: region.offset,
                    byte_size: region.byte_size,
                };
                let regions = regions.into_iter();
                frame(&SystemSharedMemoryStatusResponse {
                    regions: regions
                        .map(|region| (region.name.clone(), status(region)))
                        .collect(),
                })
            }
            "SystemSharedMemoryRegister" => {
                let request: SystemSharedMemoryRegisterRequest = decode(message)?;
                memory.register(RegionEntry {
                    name: request.name,
                    key: request.key,
                    offset: request.offset,
                    byte_size: request.byte_size,
                })?;
                frame(&SystemSharedMemoryRegisterResponse {})
            }
            "SystemSharedMemoryUnregister" => {
                let request: SystemSharedMemoryUnregisterRequest = decode(message)?;
                memory.unregister(optional(&request.name).as_deref());
                frame(&SystemSharedMemoryUnregisterResponse {})
            }
            method => return Err(unknown_method(&format!("{INFERENCE}{method}"))),
        })
    }

    fn statistics_message(&self, caller: &Caller, message: Bytes) -> Result<Vec<u8>, Failure> {
        let request: ModelMetadataRequest = decode(message.clone())?;
        if request.name.is_empty() {
            let table = self.calls.table.load();
            let models = table
                .iter()
                .map(|model| grpc::model_statistics(self.counters(model)));
            return Ok(frame(&ModelStatisticsResponse {
                model_stats: models.collect(),
            }));
        }
        let model = self.asked_model(caller, message)?;
        let table = self.calls.table.load();
        let (scope, _path) = Scope::of_call(&table, &caller.head);
        let models = scope.counted(&table, &model, request.version.is_empty());
        let counters = models.into_iter().map(|model| self.counters(model));
        Ok(frame(&ModelStatisticsResponse {
            model_stats: counters.map(grpc::model_statistics).collect(),
        }))
    }

    /// Returns the model of a request that has a name and a version and nothing else that matters.
    fn asked_model(&self, caller: &Caller, message: Bytes) -> Result<Arc<ServedModel>, Failure> {
        let request: ModelMetadataRequest = decode(message)?;
        self.named_model(caller, &request.name, number(&request.version).as_ref())
    }

    /// Returns the model of such a request, in memory.
    async fn entered_model(
        &self,
        caller: &Caller,
        message: Bytes,
    ) -> Result<(Arc<ServedModel>, Lease), Failure> {
        let model = self.asked_model(caller, message)?;
        let lease = self.entered(caller, &model).await?;
        Ok((model, lease))
    }

    /// Takes a place of `model` within the time that the caller has.
    async fn entered(&self, caller: &Caller, model: &ServedModel) -> Result<Lease, Failure> {
        let left = caller.time_left(self.shared.clock.as_ref())?;
        let time = left.unwrap_or(self.calls.request_timeout);
        Ok(model.enter(time.min(self.calls.request_timeout)).await?)
    }

    /// Returns the versions of a model that are served, oldest first.
    fn served_versions(&self, caller: &Caller, name: &str) -> Vec<String> {
        let table = self.calls.table.load();
        let (scope, _path) = Scope::of_call(&table, &caller.head);
        let versions = scope.versions(&table, name).into_iter();
        versions.map(str::to_owned).collect()
    }

    fn named_model(
        &self,
        caller: &Caller,
        name: &str,
        version: Option<&AskedVersion<'_>>,
    ) -> Result<Arc<ServedModel>, Failure> {
        let table = self.calls.table.load();
        asked_in(&table, caller, name, version).map(Arc::clone)
    }

    /// Returns what health says of a service, or of the whole server if its name is empty.
    pub(super) fn health(&self, service: &str) -> i32 {
        let is_known = service.is_empty()
            || SERVICES.contains(&service)
            || self.calls.table.load().by_name(service).is_ok();
        match (is_known, self.shared.ready.load(Ordering::Acquire)) {
            (false, _) => SERVICE_UNKNOWN,
            (true, true) => SERVING,
            (true, false) => NOT_SERVING,
        }
    }

    async fn load(&self, request: RepositoryModelLoadRequest) -> Result<Vec<u8>, Failure> {
        v2::check_load_parameters(request.parameters.keys().map(String::as_str))?;
        let name = repository_model(request.model_name, request.repository_name);
        self.load_model(name.clone()).await?;
        Ok(frame(&RepositoryModelLoadResponse {
            model_name: name,
            is_loaded: true,
        }))
    }

    async fn unload(&self, request: RepositoryModelUnloadRequest) -> Result<Vec<u8>, Failure> {
        let name = repository_model(request.model_name, request.repository_name);
        self.unload_model(name.clone()).await?;
        Ok(frame(&RepositoryModelUnloadResponse {
            model_name: name,
            is_unloaded: true,
        }))
    }

    /// Returns every version of every model, loaded or not; only those that take requests if `only_ready`.
    pub(crate) fn index(&self, only_ready: bool) -> Vec<IndexEntry> {
        let is_ready = self.shared.ready.load(Ordering::Acquire);
        let table = self.calls.table.load();
        let mut entries = Vec::new();
        for name in table.known_names() {
            let statuses = table.version_statuses(name).into_iter();
            let versions = statuses.map(|status| version_entry(status, is_ready));
            entries.extend(versions.map(|version| index_entry(name, version)));
            // Several namespaces have the name: each has its one version.
            if table.version_statuses(name).is_empty() {
                entries.push(index_entry(name, unnumbered(is_ready)));
            }
        }
        let others = self.shared.control.as_ref().map(|control| control.index());
        for other in others.into_iter().flatten() {
            let is_same =
                |entry: &IndexEntry| entry.name == other.name && entry.version == other.version;
            if !entries.iter().any(is_same) {
                entries.push(other);
            }
        }
        entries.retain(|entry| entry.state == VersionState::Available || !only_ready);
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }
}

/// Returns the variant that takes a message for `model`, if an experiment does.
#[cold]
#[inline(never)]
fn variant_of<'a>(
    table: &'a ModelTable,
    caller: &Caller,
    model: &'a Arc<ServedModel>,
    (codec, body): (&Codec, &Bytes),
) -> Option<Chosen<'a>> {
    let (scope, _path) = Scope::of_call(table, &caller.head);
    let headers = &caller.head.headers;
    let sent = Sent {
        headers,
        codec,
        body,
    };
    experiment::choose_here((table, &scope), model, sent)
}

/// Returns the model of a table that takes a request.
fn asked_in<'a>(
    table: &'a ModelTable,
    caller: &'a Caller,
    name: &str,
    version: Option<&AskedVersion<'_>>,
) -> Result<&'a Arc<ServedModel>, Failure> {
    let chosen = caller.chosen.as_ref().filter(|model| {
        let is_own = |asked: &AskedVersion<'_>| match asked {
            AskedVersion::Number(number) => number == model.version(),
            AskedVersion::Label(_) => false,
        };
        model.name() == name && version.is_none_or(is_own)
    });
    if let Some(chosen) = chosen {
        return Ok(chosen);
    }
    let (scope, _path) = Scope::of_call(table, &caller.head);
    scope.named(table, name, version, &caller.head.headers)
}

/// Returns how a request of V2 asks for a version: an empty one asks for none.
fn number(version: &str) -> Option<AskedVersion<'_>> {
    (!version.is_empty()).then_some(AskedVersion::Number(version.into()))
}

fn asked_version(version: &tfs::AskedVersion) -> AskedVersion<'_> {
    match version {
        tfs::AskedVersion::Number(number) => AskedVersion::Number(number.into()),
        tfs::AskedVersion::Label(label) => AskedVersion::Label(label.into()),
    }
}

fn unnumbered(is_ready: bool) -> VersionEntry {
    let status = VersionStatus {
        version: ServedModel::VERSION_DEFAULT.to_string(),
        state: VersionState::Available,
        failure: None,
    };
    version_entry(status, is_ready)
}

fn index_entry(name: &str, version: VersionEntry) -> IndexEntry {
    let reason = match (version.state, version.failure) {
        (_, Some((_, message))) => message,
        (VersionState::End, None) => "unloaded".to_owned(),
        (_, None) => String::new(),
    };
    IndexEntry {
        name: name.to_owned(),
        version: version.version,
        state: version.state,
        reason,
    }
}

/// Returns the model's name: KServe's clients send it where Triton's send the repository's.
fn repository_model(model_name: String, repository_name: String) -> String {
    if model_name.is_empty() {
        repository_name
    } else {
        model_name
    }
}

pub(super) fn unknown_method(path: &str) -> Failure {
    let shown: String = path.chars().take(128).collect();
    let message = format!(
        "method {shown} is not there; services are {}",
        SERVICES.join(", ")
    );
    failure(Code::Unimplemented, &message)
}
