//! Experiments: which variant takes a request, and the endpoints at `/experiments`.
//!
//! Where no route has an experiment a request costs one look at a flag of the table. Otherwise its unit is read from its head or body, the route's
//! [`RouteExperiments`] decides, and once the answer is there the exposure goes into a queue, which nothing waits for. Books and sums are
//! `serving`'s; how they stand is told by `report` and `page`.

mod page;
mod part;
mod predicted;
mod report;
mod variant;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::{Clock, Code};
use coracle_protocol::experiments::{
    Element, SentOutcome, UNIT_BYTES_MAX, grpc_input, grpc_number, grpc_unit, json_number,
    json_unit, number, read_outcomes, v1_input, v1_number, v1_unit, v2_input,
};
use coracle_serving::experiment::{
    Book, Decided, Decision, Experiments, Exposure, ExposureEnd, LineForm, NewOutcome, NotRecorded,
    ROLLOUT_BOOK, RouteExperiments, SplitTarget, Taken, UnitRef, UnitSource,
};
use coracle_serving::{ModelTable, ServedModel};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;

pub(crate) use part::{Held, Part, Pending, Turn, is_split, may_forward, renamed};
pub(crate) use variant::{is_about, may_take};

use crate::arriving::Arriving;
use crate::codec::{Codec, Encoded};
use crate::connection::{Asked, Handler};
use crate::infer::Failure;
use crate::payload;
use crate::respond::Reply;
use crate::route::{self, ExperimentRoute};
use crate::scope::{self, Scope};
use crate::shadow::Answered;

/// The header that names the experiment that a request took part in.
pub(crate) const EXPERIMENT: HeaderName = HeaderName::from_static("x-coracle-experiment");
/// The header that names the variant that answered.
pub(crate) const VARIANT: HeaderName = HeaderName::from_static("x-coracle-variant");

/// The lines of experiments' files: JSON.
pub const EXPERIMENT_LINES: LineForm = LineForm {
    write: |line| Ok(serde_json::to_vec(line)?),
    read: |line| serde_json::from_slice(line).ok(),
};

/// A request as far as experiments read it.
#[derive(Clone, Copy)]
pub(crate) struct Sent<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) codec: &'a Codec,
    pub(crate) body: &'a Bytes,
}

impl Sent<'_> {
    /// Returns the first element of an input.
    fn input(&self, name: &str) -> Option<Element> {
        match self.codec {
            Codec::Grpc => grpc_input(self.body, name),
            Codec::V2 { json_length, .. } => {
                let length = json_length.unwrap_or(self.body.len());
                v2_input(self.json()?, self.body.get(length..)?, name)
            }
            _ => v1_input(self.json()?, name),
        }
    }

    /// Returns the JSON of the body, if that is what it is.
    fn json(&self) -> Option<&[u8]> {
        match self.codec {
            Codec::V1 { .. } | Codec::Invocations { .. } | Codec::Examples(_) | Codec::Seldon => {
                Some(self.body.as_ref())
            }
            Codec::V2 { json_length, .. } => match json_length {
                Some(length) => self.body.get(..*length),
                None => Some(self.body.as_ref()),
            },
            Codec::Csv { .. } | Codec::Grpc | Codec::PredictMessage | Codec::ExamplesMessage(_) => {
                None
            }
        }
    }
}

/// The variant that takes a request, with what its exposure needs.
#[derive(Debug)]
pub(crate) struct Chosen<'a> {
    decision: Decision<'a>,
    unit: Option<String>,
    pub(crate) model: &'a Arc<ServedModel>,
}

/// What an answer says of its variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariantMark {
    /// The experiment; none if the request had no unit.
    experiment: Option<HeaderValue>,
    variant: HeaderValue,
}

impl VariantMark {
    /// Returns it as what an answer of a stream says.
    pub(crate) fn notes(&self) -> Vec<(&'static str, &str)> {
        let both = [
            ("experiment", self.experiment.as_ref()),
            ("variant", Some(&self.variant)),
        ];
        let mut notes = Vec::new();
        for (name, value) in both {
            if let Some(value) = value.and_then(|value| value.to_str().ok()) {
                notes.push((name, value));
            }
        }
        notes
    }

    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        if let Some(experiment) = &self.experiment {
            headers.insert(EXPERIMENT, experiment.clone());
        }
        headers.insert(VARIANT, self.variant.clone());
    }
}

/// How a request ended that took part.
#[derive(Debug)]
pub(crate) struct Ended {
    end: ExposureEnd,
    /// What the model predicted, if that is wanted.
    predicted: Option<Box<Answered>>,
}

impl Ended {
    /// Returns how a request ended: a stand-in is no answer of the model. One that was sooner says nothing of what the model would have predicted, and who asked
    /// has not waited for it.
    fn of(result: &mut Result<Encoded, Failure>) -> Self {
        let answered = result.as_mut().ok();
        let end = match answered.as_deref() {
            None => ExposureEnd::Failed,
            Some(encoded) => match encoded.fallback {
                None => ExposureEnd::Answered,
                Some(stood_in) if stood_in.was_sooner => ExposureEnd::Answered,
                Some(_) => ExposureEnd::Failed,
            },
        };
        Self {
            end,
            predicted: answered
                .filter(|encoded| encoded.fallback.is_none_or(|stood_in| !stood_in.was_sooner))
                .and_then(|encoded| encoded.answered.take()),
        }
    }
}

/// A request that takes part, until it is known how it ends. One that is dropped before, since its caller has gone, was shown its variant all the same.
#[derive(Debug)]
pub(crate) struct TakingPart<'a> {
    chosen: Option<Chosen<'a>>,
    clock: &'a dyn Clock,
    caller: payload::Caller<'a>,
    arrived: Duration,
}

impl TakingPart<'_> {
    /// Notes how it ended; returns what the answer says of it.
    #[cold]
    #[inline(never)]
    pub(crate) fn end(mut self, result: &mut Result<Encoded, Failure>) -> Option<Box<VariantMark>> {
        let mark = self.chosen.as_ref().and_then(Chosen::mark);
        self.expose(Ended::of(result));
        mark
    }

    fn expose(&mut self, ended: Ended) {
        if let Some(chosen) = self.chosen.take() {
            chosen.expose(self.clock, (self.caller, self.arrived), ended);
        }
    }
}

impl Drop for TakingPart<'_> {
    fn drop(&mut self) {
        self.expose(Ended {
            end: ExposureEnd::Left,
            predicted: None,
        });
    }
}

/// Returns the variant that takes a request for `model`; `None` if no experiment does.
#[cold]
#[inline(never)]
pub(crate) fn choose<'a>(
    (table, scope): (&'a ModelTable, &Scope),
    model: &'a Arc<ServedModel>,
    sent: Sent<'_>,
) -> Option<Chosen<'a>> {
    // Who asks for one revision gets it.
    if let Scope::Service { tag: Some(_), .. } = scope {
        return None;
    }
    let route = scope.route(table, Some(model.name()))?;
    let experiments: &'a RouteExperiments = route.experiments()?;
    let read = |source: &UnitSource| read_unit(source, sent);
    let feature = |source: &UnitSource| read_feature(source, sent);
    let Decided::Variant(decision, unit) = experiments.decide(read, feature) else {
        let (decision, unit) = experiments.observe(&model.revision()?.name, read)?;
        return Some(Chosen {
            decision,
            unit,
            model,
        });
    };
    let target: &'a SplitTarget = decision.split.target(decision.variant);
    let model = match target {
        SplitTarget::Own => model,
        SplitTarget::Revision(revision) => revision,
        // One that is not there leaves its requests to the service itself, which is no exposure.
        SplitTarget::Service(id) => scope::choose(table.service(id)?, sent.headers),
    };
    Some(Chosen {
        decision,
        unit,
        model,
    })
}

/// Returns the variant that takes a message that this server answers. Where a process may be a variant, none does: those of a stream cannot be passed on,
/// and a variant that took part in no stream would have fewer units than the others.
pub(crate) fn choose_here<'a>(
    (table, scope): (&'a ModelTable, &Scope),
    model: &'a Arc<ServedModel>,
    sent: Sent<'_>,
) -> Option<Chosen<'a>> {
    let route = scope.route(table, Some(model.name()))?;
    if may_forward(table, route) {
        return None;
    }
    choose((table, scope), model, sent)
}

/// Reads the unit of a request.
fn read_unit(source: &UnitSource, sent: Sent<'_>) -> Option<String> {
    let text = |value: &[u8]| {
        let text = std::str::from_utf8(value).ok()?.trim();
        let is_unit = (1..=UNIT_BYTES_MAX).contains(&text.len());
        is_unit.then(|| text.to_owned())
    };
    let json = || sent.json();
    match source {
        // Its id is known once it is answered.
        UnitSource::Request => None,
        UnitSource::Header(name) => text(sent.headers.get(name)?.as_bytes()),
        UnitSource::Cookie(name) => text(scope::cookie(sent.headers, name)?),
        UnitSource::Field(path) => match sent.codec {
            Codec::V1 { .. } => v1_unit(json()?, path),
            _ => json_unit(json()?, path),
        },
        UnitSource::Parameter(name) => match sent.codec {
            Codec::Grpc => grpc_unit(sent.body, name),
            _ => json_unit(json()?, &format!("parameters.{name}")),
        },
        UnitSource::Input(name) => sent.input(name)?.unit(),
    }
}

/// Reads a number of a request that a variant is chosen by.
fn read_feature(source: &UnitSource, sent: Sent<'_>) -> Option<f64> {
    match source {
        UnitSource::Request | UnitSource::Cookie(_) => None,
        UnitSource::Header(name) => number(sent.headers.get(name)?.to_str().ok()?),
        UnitSource::Field(path) => match sent.codec {
            Codec::V1 { .. } => v1_number(sent.json()?, path),
            _ => json_number(sent.json()?, path),
        },
        UnitSource::Parameter(name) => match sent.codec {
            Codec::Grpc => grpc_number(sent.body, name),
            _ => json_number(sent.json()?, &format!("parameters.{name}")),
        },
        UnitSource::Input(name) => sent.input(name)?.number(),
    }
}

impl<'a> Chosen<'a> {
    /// Returns it as that of a request of `caller` which was there at `arrived`.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_part(
        self,
        clock: &'a dyn Clock,
        caller: payload::Caller<'a>,
        arrived: Duration,
    ) -> TakingPart<'a> {
        TakingPart {
            chosen: Some(self),
            clock,
            caller,
            arrived,
        }
    }

    /// Returns what the answer says of it.
    fn mark(&self) -> Option<Box<VariantMark>> {
        let split = self.decision.split;
        let value = |text: &str| HeaderValue::from_str(text).ok();
        let takes_part = self.decision.by.is_some() || split.planned().winner.is_some();
        Some(Box::new(VariantMark {
            experiment: match takes_part {
                true => value(&split.planned().name),
                false => None,
            },
            variant: value(split.variant(self.decision.variant))?,
        }))
    }

    /// Tells whether what is predicted is compared.
    pub(crate) fn is_watched(&self) -> bool {
        let stage = self.decision.split.planned().stage;
        stage.is_some_and(|stage| stage.predictions)
    }

    /// Notes that the request took part, and how it ended.
    fn expose(
        self,
        clock: &dyn Clock,
        (caller, arrived): (payload::Caller<'_>, Duration),
        ended: Ended,
    ) {
        let Ended { end, predicted } = ended;
        let split = self.decision.split;
        if let Some(answered) = predicted.filter(|_| self.is_watched()) {
            let variant = split.variant(self.decision.variant);
            let trial_ms = split.planned().stage.map_or(0, |stage| stage.trial_ms);
            let by = (variant, self.unit.as_deref());
            predicted::note(split.book(), (by, trial_ms), &answered);
        }
        let elapsed = clock.monotonic().saturating_sub(arrived);
        if let Some((book, exposure)) = self.exposure(caller) {
            book.expose(Exposure {
                end,
                seconds: elapsed.as_secs_f64(),
                at: unix_ms(clock),
                ..exposure
            });
        }
    }

    /// Returns what is noted of the request but for its end, and where; `None` if nothing is.
    fn exposure(self, caller: payload::Caller<'_>) -> Option<(Arc<Book>, Exposure)> {
        let split = self.decision.split;
        let Some(by) = self.decision.by else {
            if let Some(unit) = self.unit.filter(|_| split.planned().winner.is_some()) {
                let variant = split.variant(self.decision.variant).to_owned();
                split.book().show_winner(unit, variant);
            }
            return None;
        };
        let stage = split.planned().stage;
        let is_by_unit = stage.is_some_and(|stage| stage.by_unit);
        let of_request = || split.planned().unit == UnitSource::Request;
        let unit = match self.unit {
            Some(unit) => unit,
            None if of_request() => caller.id(),
            None if is_by_unit => String::new(),
            None => return None,
        };
        // Whoever asks for no metric of outcomes has none to tell.
        if stage.is_some() && !is_by_unit && split.planned().metrics.is_empty() {
            return None;
        }
        let revision = self.model.revision();
        let exposure = Exposure {
            unit,
            request_id: caller.id(),
            variant: split.variant(self.decision.variant).to_owned(),
            revision: revision.map_or_else(
                || self.model.name().to_owned(),
                |revision| revision.name.clone(),
            ),
            end: ExposureEnd::Left,
            seconds: 0.0,
            by,
            propensity: self.decision.propensity,
            features: {
                let planned = split.planned().features.iter();
                let names = planned.map(|feature| feature.name.clone());
                names.zip(self.decision.features).collect()
            },
            at: 0,
        };
        Some((Arc::clone(split.book()), exposure))
    }
}

/// Returns the time, in ms since 1970.
fn unix_ms(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.unix_time().as_millis()).unwrap_or(u64::MAX)
}

impl Handler {
    /// Answers what is asked of experiments.
    pub(crate) async fn experiment(
        &self,
        asked: &Asked<'_>,
        route: &ExperimentRoute<'_>,
        (head, body): (&Parts, Arriving),
    ) -> Reply {
        let Some(experiments) = &self.calls.experiments else {
            let message = "there are no experiments here; they are objects of `coracle up`";
            return Reply::error(StatusCode::NOT_FOUND, message);
        };
        let namespace = match asked.scope {
            Scope::Service { id, .. } => Some(id.namespace.as_str()),
            Scope::All => route::query_value(head.uri.query(), "namespace"),
        };
        let name = match route {
            ExperimentRoute::All => {
                let mut books = experiments.books();
                books.retain(|book| namespace.is_none_or(|asked| asked == book.id().namespace));
                return told(move || {
                    let reports = books.iter().map(|book| report::report(&book.standing()));
                    let reports: Vec<serde_json::Value> = reports.collect();
                    json(&serde_json::json!({"experiments": reports}))
                })
                .await;
            }
            ExperimentRoute::Report(name)
            | ExperimentRoute::Page(name)
            | ExperimentRoute::Outcomes(name) => name,
        };
        let book = match only(experiments, namespace, name) {
            Ok(book) => book,
            Err(reply) => return reply,
        };
        if matches!(route, ExperimentRoute::Outcomes(_))
            && let Err(failure) = self.shared.cors.check_change(&head.headers)
        {
            return Reply::failure(failure.code, &failure.message);
        }
        match route {
            ExperimentRoute::Page(_) => {
                told(move || Reply::page(page::page(&book.standing()))).await
            }
            ExperimentRoute::Outcomes(_) => match self.read_whole(&head.headers, body).await {
                Ok((body, _)) => take_outcomes(experiments, &book, &body).await,
                Err(reply) => reply,
            },
            _ => told(move || json(&report::report(&book.standing()))).await,
        }
    }
}

/// Answers with what `tell` says of how experiments stand.
///
/// That goes through all their units, and waits for the thread that writes them: no event loop does.
async fn told(tell: impl FnOnce() -> Reply + Send + 'static) -> Reply {
    let told = tokio::task::spawn_blocking(tell).await;
    told.unwrap_or_else(|_panicked| {
        let message = "the experiments could not be summed up; this is a defect of the server";
        Reply::failure(Code::Internal, message)
    })
}

fn json(value: &serde_json::Value) -> Reply {
    // Keys are texts.
    Reply::json(serde_json::to_vec(value).unwrap_or_default())
}

/// Returns the experiment of a name.
fn only(
    experiments: &Experiments,
    namespace: Option<&str>,
    name: &str,
) -> Result<Arc<Book>, Reply> {
    let mut books = experiments.find(namespace, name);
    let shown: String = name.chars().take(128).collect();
    if books.len() > 1 {
        let namespaces: Vec<String> = books
            .iter()
            .map(|book| book.id().namespace.clone())
            .collect();
        let (kind, shown) = match shown.strip_prefix(ROLLOUT_BOOK) {
            Some(rollout) => ("Rollouts", rollout),
            None => ("experiments", shown.as_str()),
        };
        let message = format!(
            "{kind} named {shown} are in the namespaces {}; name one with ?namespace=",
            namespaces.join(", ")
        );
        return Err(Reply::error(StatusCode::BAD_REQUEST, &message));
    }
    books.pop().ok_or_else(|| {
        let message = match shown.strip_prefix(ROLLOUT_BOOK) {
            Some(rollout) => format!(
                "no Rollout named {rollout} is between revisions and takes outcomes; `kubectl get rollouts -A` lists all, and says in which phase they are"
            ),
            None => format!(
                "no experiment named {shown} is in force; `kubectl get experiments -A` lists all, and says what they wait for"
            ),
        };
        Reply::error(StatusCode::NOT_FOUND, &message)
    })
}

/// Takes the outcomes of a body; answers once they are on the disk.
async fn take_outcomes(experiments: &Experiments, book: &Arc<Book>, body: &Bytes) -> Reply {
    let entries = match read_outcomes(body) {
        Ok(entries) => entries,
        Err(error) => return Reply::failure(error.code(), &error.to_string()),
    };
    let mut errors: Vec<(usize, String)> = Vec::new();
    let (mut places, mut outcomes) = (Vec::new(), Vec::new());
    for (place, entry) in entries.into_iter().enumerate() {
        match entry.map(new_outcome) {
            Ok(Some(outcome)) => {
                places.push(place);
                outcomes.push(outcome);
            }
            Ok(None) => errors.push((place, "it says not whom it is about".to_owned())),
            Err(error) => errors.push((place, error)),
        }
    }
    let results = match experiments.record(book, outcomes).await {
        Ok(results) => results,
        Err(error) => {
            let code = match error {
                NotRecorded::Busy => Code::ResourceExhausted,
                NotRecorded::Disk(_) => Code::Unavailable,
            };
            return Reply::failure(code, &error.to_string());
        }
    };
    let (mut n_accepted, mut n_duplicates, mut n_late) = (0_u64, 0_u64, 0_u64);
    for (place, result) in places.into_iter().zip(results) {
        match result {
            Ok(Taken::Counted) => n_accepted += 1,
            Ok(Taken::Duplicate) => n_duplicates += 1,
            Ok(Taken::Late) => n_late += 1,
            Err(fault) => errors.push((place, fault.to_string())),
        }
    }
    errors.sort();
    let is_refused = n_accepted + n_duplicates + n_late == 0;
    let listed = errors.iter().take(ERRORS_MAX);
    let listed: Vec<serde_json::Value> = listed
        .map(|(place, error)| serde_json::json!({"entry": place, "error": error}))
        .collect();
    let mut answer = serde_json::json!({
        "accepted": n_accepted,
        "duplicates": n_duplicates,
        "late": n_late,
        "rejected": errors.len(),
        "errors": listed,
    });
    let mut status = StatusCode::OK;
    if let (true, Some((place, error))) = (is_refused, errors.first()) {
        status = StatusCode::BAD_REQUEST;
        let message = match errors.len() {
            1 => error.clone(),
            n => format!("none of the {n} outcomes can be taken; entry {place}: {error}"),
        };
        answer["error"] = message.into();
    }
    Reply::with_status(status, serde_json::to_vec(&answer).unwrap_or_default())
}

/// The most errors that an answer lists.
const ERRORS_MAX: usize = 100;

fn new_outcome(sent: SentOutcome) -> Option<NewOutcome> {
    let about = match (sent.unit, sent.request_id) {
        (Some(unit), _) => UnitRef::Unit(unit),
        (None, Some(request)) => UnitRef::Request(request),
        (None, None) => return None,
    };
    Some(NewOutcome {
        about,
        id: sent.id,
        metrics: sent.metrics,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_loop_sums_experiments_up() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let reply = runtime.block_on(told(move || {
            sender.send(std::thread::current().id()).unwrap();
            Reply::json(b"[]".to_vec())
        }));
        assert_eq!(reply.body, b"[]".as_slice());
        assert_ne!(receiver.recv().unwrap(), std::thread::current().id());
        let reply = runtime.block_on(told(|| panic!("a defect")));
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
