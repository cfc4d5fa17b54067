//! One connection: limits on what comes in, routing, the answer, the access log.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, Code, VersionState};
use coracle_protocol::facts::{ModelFacts, VersionEntry};
use coracle_protocol::{tfs, v1, v2};
use coracle_serving::{
    ExportStatistics, HttpStatistics, MemoryBudget, ModelTable, Route as Split, ServedModel,
};
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Version};
use tokio::sync::watch;

use crate::arriving::{Arriving, ArrivingBody, Content, check_type};
use crate::body::{ReplyBody, RequestBody};
use crate::busy_poll::BusyPoll;
use crate::codec::Codec;
use crate::cors::CorsPolicy;
use crate::encoding;
use crate::experiment::{self, Chosen, Turn};
use crate::forward::{Forwarding, Pool};
use crate::gather::{BodyFault, gather};
use crate::grpc;
use crate::hold::{self, Waiting};
use crate::infer::{self, Calls};
use crate::limits::Limits;
use crate::log::{Answer, Log};
use crate::model_control::ModelControl;
use crate::patience::Patience;
use crate::payload;
use crate::request_id::RequestIds;
use crate::respond::Reply;
use crate::route::{self, AskedVersion, Named, NoRoute, Route};
use crate::scope::{self, Scope};
use crate::seldon;
use crate::server::Stage;
use crate::spans::{InferenceSlot, Tracer};
use crate::terms::Terms;
use crate::trace::{TRACEPARENT, Trace};
use crate::whole::Dates;

/// What every worker of a server shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) http: HttpStatistics,
    /// What leaves the server besides answers.
    pub(crate) exports: Arc<ExportStatistics>,
    pub(crate) version: String,
    /// False while shutting down.
    pub(crate) ready: AtomicBool,
    pub(crate) clock: Arc<dyn Clock>,
    /// Which web pages may ask.
    pub(crate) cors: CorsPolicy,
    /// Loads and unloads models on request, where that is allowed.
    pub(crate) control: Option<Arc<dyn ModelControl>>,
    /// The bound on the memory of models, for the metrics.
    pub(crate) budget: Option<Arc<MemoryBudget>>,
    /// Who waits for services that are still being loaded.
    pub(crate) waiting: Waiting,
}

/// What answers the requests of one worker's connections.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) shared: Arc<Shared>,
    pub(crate) calls: Calls,
    /// Connections to processes.
    pub(crate) pool: Pool,
    pub(crate) log: Log,
    pub(crate) ids: RequestIds,
    pub(crate) dates: Dates,
    /// Where the server is in its life.
    pub(crate) stage: watch::Receiver<Stage>,
    /// Where spans go, if traces are exported.
    pub(crate) tracer: Option<Tracer>,
    /// What keeps the event loop awake after a request, if something does.
    pub(crate) busy_poll: Option<Rc<BusyPoll>>,
}

impl Handler {
    /// Answers one request; never fails, since every failure is an answer. It has a span where traces are exported.
    pub(crate) async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        patience: Patience,
    ) -> Result<Response<ReplyBody>, Infallible> {
        match self.tracer.clone() {
            None => self.answer(request, patience).await,
            Some(tracer) => Box::pin(self.traced(tracer, request, patience)).await,
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
        patience: Patience,
    ) -> Result<Response<ReplyBody>, Infallible> {
        let mut started = self.shared.clock.monotonic();
        let (mut head, body) = request.into_parts();
        let request_id = self.request_id(&head);
        if grpc::is_grpc(&head.headers) && head.version == Version::HTTP_2 {
            return Ok(Box::pin(self.handle_grpc(head, body, started, request_id)).await);
        }
        if let Some(response) = self.shared.cors.preflight(&head) {
            return Ok(response);
        }
        let mut body = RequestBody::from(body);
        if self.calls.table.load().has_coming() {
            let held = self.hold(&mut head, &mut body, (&request_id, started));
            started = match Box::pin(held).await {
                Ok(taken) => taken,
                Err(answer) => return Ok(answer),
            };
        }
        let table = self.calls.table.load();
        let (scope, path) = Scope::of(&table, &head);
        let found = scope.find(&table, &head.method, path);
        let asked = found.as_ref().ok().and_then(Route::model);
        let split = scope.route(&table, asked);
        let split = split.filter(|split| experiment::may_forward(&table, split));
        // A request has one turn in the split, whoever answers it then.
        let chosen = split.and_then(|split| scope.choose(split, &head.headers));
        let place = Place {
            table: &table,
            scope: &scope,
            path,
            found: &found,
            chosen,
            turn: Cell::default(),
        };
        let is_here = |split: &Arc<Split>| experiment::is_about(split, &place);
        let is_here = split.is_some_and(is_here);
        let mut passed = chosen.filter(|model| model.is_forwarded() && !is_here);
        let may_take = |split: &Arc<Split>| experiment::may_take(split, &place, &head.method);
        let own = chosen.filter(|_| split.is_some_and(may_take));
        if own.is_some() {
            passed = None;
        }
        if let Some(model) = passed {
            let forwarding = Forwarding::plain(model, path);
            drop(place);
            drop(table);
            let passed = self.forward(forwarding, (&head, body), request_id, started);
            return Ok(Box::pin(passed).await);
        }
        let body = Arriving {
            body: ArrivingBody::Stream(body, patience),
            content: Content::AsHeadersSay,
            started,
        };
        if let Some(own) = own {
            let answered = self.answer_variant((own, place), (&head, body), request_id.clone());
            let (forwarding, body) = match Box::pin(answered).await {
                Ok(passed) => passed,
                Err(answer) => return Ok(answer),
            };
            drop(table);
            let passed = self.forward(forwarding, (&head, body.into()), request_id, started);
            return Ok(Box::pin(passed).await);
        }
        let answered = self.answer_here(&head, body, &place, request_id).await;
        Ok(self.to_http(&head, answered))
    }

    /// Answers a request that is there as a whole; `None` if a process may have to answer it, or it has to wait for its model.
    pub(crate) async fn answer_whole(
        &self,
        head: &Parts,
        (body, content): (Bytes, Content),
        (started, arrived): (Duration, Duration),
    ) -> Option<Answered> {
        let table = self.calls.table.load();
        let (scope, path) = Scope::of(&table, head);
        let found = scope.find(&table, &head.method, path);
        let asked = found.as_ref().ok().and_then(Route::model);
        let split = scope.route(&table, asked);
        let is_held = hold::awaited(&table, &scope, (&head.method, &found)).is_some();
        if is_held || split.is_some_and(|split| experiment::may_forward(&table, split)) {
            return None;
        }
        let body = Arriving {
            body: ArrivingBody::Whole(body, arrived),
            content,
            started,
        };
        let place = Place {
            table: &table,
            scope: &scope,
            path,
            found: &found,
            chosen: None,
            turn: Cell::default(),
        };
        let request_id = self.request_id(head);
        Some(self.answer_here(head, body, &place, request_id).await)
    }

    /// Answers a request in this process.
    pub(crate) async fn answer_here(
        &self,
        head: &Parts,
        body: Arriving,
        place: &Place<'_>,
        request_id: HeaderValue,
    ) -> Answered {
        let started = body.started;
        let mut seen = Seen {
            request_id: &request_id,
            trace: Trace::of(&head.headers),
            n_bytes_in: 0,
            model: None,
        };
        let reply = match place.found {
            Ok(route) => {
                let asked = Asked {
                    table: place.table,
                    scope: place.scope,
                    headers: &head.headers,
                    route,
                    chosen: place.chosen,
                    turn: Cell::new(place.turn.take()),
                };
                let reply = self.reply(&asked, head, body, &mut seen).await;
                let is_mlflows = || {
                    matches!(route, Route::V1Predict(_)) && route::is_invocations(head.uri.path())
                };
                match reply.status.is_success() || !is_mlflows() {
                    true => reply,
                    false => reply.in_words_of(v1::invocations_error),
                }
            }
            Err(no_route) => missing(no_route, head.uri.path()),
        };
        let reply = match encoding::is_worth_it(&reply) {
            true => Box::pin(self.compressed(reply, &head.headers)).await,
            false => reply,
        };
        self.count_and_log(head, &reply, &seen, started);
        let trace = seen.trace;
        Answered {
            reply,
            request_id,
            trace,
        }
    }

    /// Puts an answer in the words of HTTP.
    pub(crate) fn to_http(&self, head: &Parts, answered: Answered) -> Response<ReplyBody> {
        let puid = seldon::puid(head, &answered.request_id).cloned();
        let mut response = answered.reply.into_response(answered.request_id);
        seldon::mark(puid, &mut response);
        self.mark_trace(answered.trace.as_ref(), &mut response);
        self.shared.cors.mark(&head.headers, &mut response);
        response
    }

    /// Answers one gRPC request; its line in the log has the HTTP status of its outcome.
    async fn handle_grpc(
        self: Rc<Self>,
        head: Parts,
        body: Incoming,
        started: Duration,
        request_id: HeaderValue,
    ) -> Response<ReplyBody> {
        let path = head.uri.clone();
        let id = request_id.clone();
        let trace = Trace::of(&head.headers);
        let puid = seldon::puid(&head, &request_id).cloned();
        let (mut response, noted) = Rc::clone(&self).grpc(head, body, started, request_id).await;
        let status = noted.http_status();
        self.count_response(status);
        if self.log.takes(status) {
            self.log.answer(
                Answer {
                    method: "POST",
                    path: path.path(),
                    status,
                    elapsed: self.shared.clock.monotonic().saturating_sub(started),
                    n_bytes_in: noted.n_bytes_in,
                    n_bytes_out: response.body().len(),
                    request_id: id.to_str().unwrap_or_default(),
                    trace_id: trace.as_ref().map(Trace::id),
                },
                &self.shared.http,
                noted.model.as_deref(),
            );
        }
        self.mark_trace(trace.as_ref(), &mut response);
        seldon::mark(puid, &mut response);
        response
    }

    /// Counts an answer, and writes its line where it is to have one.
    pub(crate) fn count_and_log(
        &self,
        head: &Parts,
        reply: &Reply,
        seen: &Seen<'_>,
        started: Duration,
    ) {
        let status = reply.status.as_u16();
        self.count_response(status);
        if !self.log.takes(status) {
            return;
        }
        self.log.answer(
            Answer {
                method: head.method.as_str(),
                path: head.uri.path(),
                status,
                elapsed: self.elapsed(head, started),
                n_bytes_in: seen.n_bytes_in,
                n_bytes_out: reply.body.len(),
                request_id: seen.request_id.to_str().unwrap_or_default(),
                trace_id: seen.trace.as_ref().map(Trace::id),
            },
            &self.shared.http,
            seen.model,
        );
    }

    /// Returns how long the caller of a request has waited that was taken at `started`.
    pub(crate) fn elapsed(&self, head: &Parts, started: Duration) -> Duration {
        let since = self.shared.clock.monotonic().saturating_sub(started);
        since.saturating_add(hold::waited(head))
    }

    /// Counts an answer.
    pub(crate) fn count_response(&self, status: u16) {
        self.shared.http.respond(self.calls.worker, status);
    }

    /// Gives a request's trace back.
    pub(crate) fn mark_trace(&self, trace: Option<&Trace>, response: &mut Response<ReplyBody>) {
        if let Some(header) = trace.and_then(|trace| trace.header(self.ids.unique())) {
            response.headers_mut().insert(TRACEPARENT, header);
        }
    }

    /// Waits until the server begins to shut down.
    pub(crate) async fn draining(&self) {
        let mut stage = self.stage.clone();
        // Without a sender the server is gone, too.
        drop(stage.wait_for(|stage| *stage != Stage::Serving).await);
    }

    async fn reply<'a>(
        &self,
        asked: &Asked<'a>,
        head: &Parts,
        mut body: Arriving,
        seen: &mut Seen<'a>,
    ) -> Reply {
        if asked.table.has_flows()
            && let Some(flow) = asked.flow()
        {
            let sent = (head, body);
            let answered = self.ask_flow((asked, flow), asked.route, sent, seen);
            match Box::pin(answered).await {
                Ok(reply) => return reply,
                Err(unread) => body = unread,
            }
        }
        let method = || route::query_value(head.uri.query(), "method").map(str::to_owned);
        let (codec, model) = match asked.route {
            Route::V1Predict(Named { model, version }) => (
                Codec::of_v1(head.uri.path(), method()),
                asked.model(model, version.as_ref()),
            ),
            Route::V1Examples(question, Named { model, version }) => (
                Codec::Examples(*question),
                asked.model(model, version.as_ref()),
            ),
            Route::V1Metadata(Named { model, version }) => {
                return match asked.model(model, version.as_ref()) {
                    Ok(model) => Box::pin(self.described(asked, model, tfs::metadata)).await,
                    Err(reply) => reply,
                };
            }
            Route::V2Infer(Named { model, version }) => {
                let json_length = match body.content.json_length(head) {
                    Ok(json_length) => json_length,
                    Err(reply) => return reply,
                };
                let codec = Codec::V2 {
                    method: method(),
                    json_length,
                };
                (codec, asked.model(model, version.as_ref()))
            }
            Route::V2Model(Named { model, version }) => {
                return match asked.model(model, version.as_ref()) {
                    Ok(model) => Box::pin(self.described(asked, model, v2::model_metadata)).await,
                    Err(reply) => reply,
                };
            }
            Route::Extension(extension) => {
                return Box::pin(self.extension(asked, extension, body)).await;
            }
            Route::SeldonPredict => {
                return Box::pin(self.seldon_predict(asked, head, body, seen)).await;
            }
            Route::SeldonFeedback => {
                return Box::pin(self.seldon_feedback(asked, (head, body))).await;
            }
            Route::Seldon(route) => return Box::pin(self.seldon_told(asked, route)).await,
            Route::Experiment(route) => {
                return Box::pin(self.experiment(asked, route, (head, body))).await;
            }
            Route::Chaos | Route::SetChaos | Route::ClearChaos => {
                return Box::pin(self.chaos(asked.route, (head, body))).await;
            }
            Route::Metrics => return self.metrics(asked.table, &head.headers).await,
            _ => return self.read_only(asked),
        };
        let model = match model {
            Ok(model) => model,
            Err(reply) => return reply,
        };
        seen.model = Some(model);
        self.infer((asked, model), codec, (head, body), seen).await
    }

    /// Answers a request for an inference.
    pub(crate) async fn infer<'a>(
        &self,
        (asked, mut model): (&Asked<'a>, &'a Arc<ServedModel>),
        codec: Codec,
        (head, body): (&Parts, Arriving),
        seen: &mut Seen<'a>,
    ) -> Reply {
        let content_type = body.content.media_type(&head.headers);
        let codec = codec.of_type(content_type);
        if let Err(reply) = check_type(content_type, &codec) {
            return reply;
        }
        let terms = match Terms::of(&head.headers) {
            Ok(terms) => terms,
            Err(failure) => {
                return Reply::error_and_close(StatusCode::BAD_REQUEST, &failure.message);
            }
        };
        let (body, arrived) = match self.read_whole(&head.headers, body).await {
            Ok(read) => read,
            Err(reply) => return reply,
        };
        seen.n_bytes_in = body.len();
        let mut chosen = None;
        if asked.table.has_experiments() {
            let sent = experiment::Sent {
                headers: &head.headers,
                codec: &codec,
                body: &body,
            };
            chosen = match asked.turn.take() {
                Turn::Settled(chosen) => chosen,
                Turn::Open => experiment::choose_here((asked.table, asked.scope), model, sent),
            };
            model = chosen.as_ref().map_or(model, |chosen| chosen.model);
            seen.model = Some(model);
        }
        let caller = payload::Caller {
            headers: &head.headers,
            request_id: seen.request_id,
            n_message: 0,
        };
        let request = infer::Request {
            timeout: terms.timeout,
            priority: terms.priority,
            trace: seen.trace,
            slot: head.extensions.get::<InferenceSlot>().cloned(),
            recording: self.calls.recording(model, caller),
            key: self.calls.last_good_key(model, caller.headers),
            is_watched: chosen.as_ref().is_some_and(Chosen::is_watched),
            ..infer::Request::plain(codec, body, arrived)
        };
        let clock = self.shared.clock.as_ref();
        let part = chosen.map(|chosen| chosen.take_part(clock, caller, arrived));
        let mut result = self.calls.answer(model, request).await;
        let mark = part.map(|part| part.end(&mut result));
        let reply = match result {
            Ok(encoded) => Reply::encoded(encoded),
            Err(failure) => Reply::failure(failure.code, &failure.message),
        };
        match mark {
            None => reply,
            Some(mark) => reply.with_variant(mark),
        }
    }

    /// Answers with what a model takes and gives; one that was let go of is loaded for it.
    pub(crate) async fn described(
        &self,
        asked: &Asked<'_>,
        model: &ServedModel,
        render: fn(ModelFacts<'_>, &mut Vec<u8>),
    ) -> Reply {
        let versions = asked.scope.versions(asked.table, model.name());
        let common = match self.in_common((asked.table, asked.scope), model).await {
            Ok(common) => common,
            Err(failure) => return Reply::failure(failure.code, &failure.message),
        };
        match model.enter(self.calls.request_timeout).await {
            Ok(lease) => Reply::rendered(|out| {
                let facts = self.facts(model, &lease, &versions);
                let signature = common.as_ref().unwrap_or(facts.signature);
                render(ModelFacts { signature, ..facts }, out);
            }),
            Err(refusal) => Reply::failure(refusal.code(), &refusal.message()),
        }
    }

    /// Answers everything that needs no model in memory.
    fn read_only(&self, asked: &Asked<'_>) -> Reply {
        let ready = self.shared.ready.load(Ordering::Acquire);
        let names = || asked.scope.names(asked.table);
        match asked.route {
            Route::Alive => Reply::json(b"{\"status\":\"alive\"}".to_vec()),
            Route::Healthz | Route::V2Live => Reply::rendered(v2::health_live),
            Route::Readyz | Route::V2Ready => {
                let status = if ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                let mut body = Vec::new();
                v2::health_ready(ready, &mut body);
                Reply::with_status(status, body)
            }
            Route::V1Models => Reply::rendered(|out| v1::model_list(names(), out)),
            Route::V2Models => Reply::rendered(|out| v2::model_list(names(), out)),
            Route::V2Server => {
                Reply::rendered(|out| v2::server_metadata(&self.shared.version, out))
            }
            Route::V1Model(Named { model, version }) => {
                let (scope, headers) = (asked.scope, asked.headers);
                let entries =
                    self.version_entries(scope, asked.table, model, version.as_ref(), headers);
                match entries {
                    Ok(entries) => Reply::rendered(|out| {
                        let is_available =
                            |entry: &VersionEntry| entry.state == VersionState::Available;
                        let ready = entries.iter().any(is_available);
                        tfs::model_status(model, &entries, ready, out);
                    }),
                    Err(failure) => Reply::failure(failure.code, &failure.message),
                }
            }
            Route::V1Explain(name) => asked.with_model(name, None, |model| {
                let message = format!("model '{}' has no explainer", model.name());
                Reply::error(StatusCode::NOT_IMPLEMENTED, &message)
            }),
            Route::V2ModelReady(Named { model, version }) => {
                asked.with_model(model, version.as_ref(), |model| match model.trouble() {
                    None => Reply::rendered(|out| v2::model_ready(model.name(), ready, out)),
                    Some(why) => Reply::failure(Code::Unavailable, &why),
                })
            }
            Route::Shadow(form) => self.shadow(asked, *form),
            Route::Metrics
            | Route::V2Model(_)
            | Route::V1Predict(_)
            | Route::V1Examples(..)
            | Route::V1Metadata(_)
            | Route::V2Infer(_)
            | Route::SeldonPredict
            | Route::SeldonFeedback
            | Route::Seldon(_)
            | Route::Chaos
            | Route::SetChaos
            | Route::ClearChaos
            | Route::Experiment(_)
            | Route::Extension(_) => Reply::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "what needs more than a name came without it",
            ),
        }
    }

    /// Reads the whole body, and expands it if it is compressed; returns it and when it was there.
    pub(crate) async fn read_whole(
        &self,
        headers: &HeaderMap,
        body: Arriving,
    ) -> Result<(Bytes, Duration), Reply> {
        let encoding = encoding::of_request(headers)?;
        let read = self.read_body(body).await?;
        match encoding {
            None => Ok(read),
            Some(encoding) => {
                let expanded = Box::pin(self.expanded(encoding, read.0)).await?;
                Ok((expanded, self.shared.clock.monotonic()))
            }
        }
    }

    /// Reads the whole body within its limits of size and time; returns it and when it was there.
    pub(crate) async fn read_body(&self, body: Arriving) -> Result<(Bytes, Duration), Reply> {
        let Arriving { body, started, .. } = body;
        let limits = &self.shared.limits;
        let most = limits.body_max.as_usize();
        let too_large = || {
            let message = format!(
                "the body is larger than {} bytes ({})",
                limits.body_max.as_u64(),
                limits.body_max
            );
            Reply::error_and_close(StatusCode::PAYLOAD_TOO_LARGE, &message)
        };
        let (body, patience) = match body {
            ArrivingBody::Whole(body, _) if body.len() > most => return Err(too_large()),
            ArrivingBody::Whole(body, arrived) => return Ok((body, arrived)),
            ArrivingBody::Stream(body, patience) => (body, patience),
        };
        let declared = body.size_hint().lower();
        if declared > limits.body_max.as_u64() {
            return Err(too_large());
        }
        let length = body.size_hint().exact();
        let length = length.and_then(|length| usize::try_from(length).ok());
        let gathered = gather(body, most, |_first| length);
        match patience.wait(limits.body_timeout, gathered).await {
            Some((Ok(body), false)) => Ok((body, started)),
            Some((Ok(body), true)) => Ok((body, self.shared.clock.monotonic())),
            Some((Err(BodyFault::TooLarge), _)) => Err(too_large()),
            Some((Err(BodyFault::Broken), _)) => Err(body_cut()),
            None => Err(body_too_late(limits.body_timeout)),
        }
    }
}

/// Returns the answer to a request whose body is shorter than it says.
pub(crate) fn body_cut() -> Reply {
    Reply::error_and_close(StatusCode::BAD_REQUEST, BODY_CUT)
}

/// What is said of a body that is shorter than it says.
pub(crate) const BODY_CUT: &str = "the body ended before its declared end";

/// Returns the answer to a request whose body did not come in time.
pub(crate) fn body_too_late(timeout: Duration) -> Reply {
    let wait = humantime::format_duration(timeout);
    let message = format!("the body did not arrive within {wait}");
    Reply::error_and_close(StatusCode::REQUEST_TIMEOUT, &message)
}

/// What is known of a request once it is answered.
pub(crate) struct Seen<'a> {
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) n_bytes_in: usize,
    /// The model that an inference was asked of.
    pub(crate) model: Option<&'a ServedModel>,
    pub(crate) trace: Option<Trace>,
}

/// Where a request leads.
pub(crate) struct Place<'a> {
    pub(crate) table: &'a ModelTable,
    pub(crate) scope: &'a Scope,
    /// The path within the scope.
    pub(crate) path: &'a str,
    pub(crate) found: &'a Result<Route<'a>, NoRoute>,
    /// The revision whose turn it is, where that is settled already.
    chosen: Option<&'a Arc<ServedModel>>,
    /// The variant of an experiment that takes it, where that is settled already.
    pub(crate) turn: Cell<Turn<Chosen<'a>>>,
}

/// An answer before it is put in the words of HTTP.
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    pub(crate) request_id: HeaderValue,
    pub(crate) trace: Option<Trace>,
}

/// What a request asks for, and of what.
pub(crate) struct Asked<'a> {
    pub(crate) table: &'a ModelTable,
    pub(crate) scope: &'a Scope,
    pub(crate) headers: &'a HeaderMap,
    route: &'a Route<'a>,
    /// The revision whose turn it is, where that is settled already.
    pub(crate) chosen: Option<&'a Arc<ServedModel>>,
    /// The variant of an experiment that takes it, where that is settled already.
    pub(crate) turn: Cell<Turn<Chosen<'a>>>,
}

impl<'a> Asked<'a> {
    fn with_model(
        &self,
        name: &str,
        version: Option<&AskedVersion<'_>>,
        answer: impl FnOnce(&ServedModel) -> Reply,
    ) -> Reply {
        self.model(name, version)
            .map_or_else(|reply| reply, |model| answer(model))
    }

    /// Returns the model that takes this request.
    pub(crate) fn model(
        &self,
        name: &str,
        version: Option<&AskedVersion<'_>>,
    ) -> Result<&'a Arc<ServedModel>, Reply> {
        let chosen = self.chosen.filter(|model| {
            let is_own = |asked: &AskedVersion<'_>| match asked {
                AskedVersion::Number(number) => number == model.version(),
                AskedVersion::Label(_) => false,
            };
            model.name() == name && version.is_none_or(is_own)
        });
        if let Some(model) = chosen {
            return Ok(model);
        }
        let named = self.scope.named(self.table, name, version, self.headers);
        named.map_err(
            |failure| match name.is_empty() && *self.scope == Scope::All {
                true => Reply::failure(failure.code, &scope::unnamed(self.table)),
                false => Reply::failure(failure.code, &failure.message),
            },
        )
    }
}

fn missing(no_route: &NoRoute, path: &str) -> Reply {
    let shown: String = path.chars().take(128).collect();
    match no_route {
        NoRoute::Path if matches!(path.split('/').nth(1), Some("api" | "apis" | "openapi")) => {
            Reply::kubernetes_elsewhere()
        }
        NoRoute::Path => {
            let message = format!(
                "nothing is at {shown}; there are /v1/models, /v1/models/M, /v1/models/M:predict, /v2, /v2/models/M, /v2/models/M/infer, /healthz, /readyz and /metrics"
            );
            Reply::error(StatusCode::NOT_FOUND, &message)
        }
        NoRoute::Method { allow } => {
            Reply::not_allowed(allow, &format!("{shown} takes {allow} only"))
        }
    }
}
