//! Faults on purpose: what happens to attempts that are struck, and `/chaos`, where people say which ones are.
//!
//! A server has no [`Chaos`] unless it was started with `--chaos`. In-process attempts meet it once they have their places, so that times, retries, breakers,
//! bulkheads and default predictions see what they would see of such a model; forwarded ones before they are sent.

use std::sync::Arc;
use std::time::Duration;

use coracle_base::Code;
use coracle_serving::{
    Chaos, ChaosDrawn, ChaosFault, ChaosStanding, ChaosTarget, ChaosThen, Lease, ModelTable,
    ServedModel,
};
use hyper::StatusCode;
use hyper::http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::arriving::Arriving;
use crate::codec::Encoded;
use crate::connection::Handler;
use crate::forward::NoAnswer;
use crate::infer::{Arrival, Calls, Failure, Request, too_late};
use crate::respond::Reply;
use crate::route::Route;

/// How long faults last, unless it is said.
const TIME: Duration = Duration::from_secs(10 * 60);
/// The longest that they may last, and that anything may wait for them.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const NAME_BYTES_MAX: usize = 256;
/// Of what is served so much is named, where a target is not.
const NAMES_SHOWN: usize = 10;

impl Calls {
    /// Answers a request that has its places, unless its attempt is struck.
    #[cold]
    pub(crate) async fn run_in_chaos(
        &self,
        chaos: &Chaos,
        (model, lease): (&Arc<ServedModel>, Lease),
        request: Request,
        arrival: Arrival,
    ) -> Result<Encoded, Failure> {
        let Some(ChaosDrawn { delay, then }) = chaos.draw(model) else {
            return self.run(model, lease, request, arrival).await;
        };
        let left = arrival.time_left(self.clock.monotonic());
        // It is taken as the model's own time.
        request.begin(self.clock.as_ref());
        tokio::time::sleep(delay.min(left)).await;
        if delay >= left {
            return Err(too_late(arrival.time).begun(true));
        }
        match then {
            ChaosThen::Run => {
                let mut result = self.run(model, lease, request, arrival).await;
                let answered = result.as_mut().ok();
                if let Some(answered) = answered.and_then(|encoded| encoded.answered.as_mut()) {
                    answered.add_elapsed(delay);
                }
                result
            }
            ChaosThen::Fail(code) => Err(Failure::new(code, struck(model.name()))),
            ChaosThen::Panic => Err(model.panic_as_told(&lease).into()),
        }
    }
}

fn struck(model: &str) -> String {
    format!("chaos: model '{model}' fails on purpose (coracle chaos list shows what is set)")
}

/// Strikes an attempt that a process is to answer, if it is to be.
#[cold]
pub(crate) async fn forward_in_chaos(
    chaos: &Chaos,
    model: &ServedModel,
    deadline: Instant,
) -> Result<(), NoAnswer> {
    let Some(ChaosDrawn { delay, then }) = chaos.draw(model) else {
        return Ok(());
    };
    let until = Instant::now() + delay;
    tokio::time::sleep_until(until.min(deadline)).await;
    match then {
        // One whose time is over finds that out by itself.
        ChaosThen::Run => Ok(()),
        then => Err(NoAnswer::Failed(failed(model, then))),
    }
}

/// Returns how an attempt ends that does not run; a panic of what is not run here is told as one.
fn failed(model: &ServedModel, then: ChaosThen) -> Failure {
    match then {
        ChaosThen::Fail(code) => Failure::new(code, struck(model.name())),
        ChaosThen::Run | ChaosThen::Panic => {
            let message = format!("{}: as by a panic", struck(model.name()));
            Failure::new(Code::Internal, message)
        }
    }
}

/// Strikes a copy for a shadow, if it is to be; returns how long it waits first. Its model is none the worse for it.
#[cold]
pub(crate) fn copy_in_chaos(
    chaos: &Chaos,
    shadow: &ServedModel,
) -> (Duration, Result<(), Failure>) {
    match chaos.draw(shadow) {
        None => (Duration::ZERO, Ok(())),
        Some(ChaosDrawn { delay, then }) => {
            let result = match then {
                ChaosThen::Run => Ok(()),
                then => Err(failed(shadow, then)),
            };
            (delay, result)
        }
    }
}

/// What people set.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    latency: Option<String>,
    #[serde(default)]
    jitter: Option<String>,
    #[serde(default)]
    error_rate: Option<f64>,
    #[serde(default)]
    error_code: Option<String>,
    #[serde(default)]
    panic_rate: Option<f64>,
    #[serde(default)]
    load_delay: Option<String>,
    #[serde(default, rename = "for")]
    lasting: Option<String>,
    /// Whether the target may be one that is to come.
    #[serde(default)]
    allow_absent: bool,
}

impl Asked {
    fn read(body: &[u8]) -> Result<Self, String> {
        match body.is_empty() {
            true => Ok(Self::default()),
            false => serde_json::from_slice(body).map_err(|error| format!("the body: {error}")),
        }
    }

    fn target(&self) -> Result<Option<ChaosTarget>, String> {
        let Some(text) = &self.target else {
            return Ok(None);
        };
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, text.as_str()),
        };
        if name.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(format!(
                "target: write NAMESPACE/NAME of a service or a revision, or the name of a model, in at most {NAME_BYTES_MAX} bytes"
            ));
        }
        Ok(Some(ChaosTarget {
            namespace,
            name: name.to_owned(),
        }))
    }

    fn fault(&self) -> Result<ChaosFault, String> {
        let rate = |name: &str, rate: Option<f64>| match rate.unwrap_or(0.0) {
            rate if (0.0..=1.0).contains(&rate) => Ok(rate),
            rate => Err(format!("{name}: {rate} is not between 0 and 1")),
        };
        let default = ChaosFault::default();
        let error_code = match &self.error_code {
            None => default.error_code,
            Some(text) => code(text)?,
        };
        let fault = ChaosFault {
            latency: time("latency", self.latency.as_deref(), Duration::ZERO)?,
            jitter: time("jitter", self.jitter.as_deref(), Duration::ZERO)?,
            error_rate: rate("errorRate", self.error_rate)?,
            error_code,
            panic_rate: rate("panicRate", self.panic_rate)?,
            load_delay: time("loadDelay", self.load_delay.as_deref(), Duration::ZERO)?,
        };
        if fault.error_rate + fault.panic_rate > 1.0 {
            return Err("errorRate and panicRate: they are more than 1 together".to_owned());
        }
        let is_none = ChaosFault {
            error_code: default.error_code,
            ..fault
        } == default;
        match is_none {
            true => Err(
                "one of latency, jitter, errorRate, panicRate and loadDelay says what happens"
                    .to_owned(),
            ),
            false => Ok(fault),
        }
    }
}

/// Returns the code that a word names: those that a model can fail with.
fn code(text: &str) -> Result<Code, String> {
    let mut codes = Code::ALL.into_iter();
    let named = codes.find(|code| code.as_str() == text);
    named.ok_or_else(|| {
        let codes: Vec<&str> = Code::ALL.into_iter().map(Code::as_str).collect();
        format!("errorCode: '{text}' is none of {}", codes.join(", "))
    })
}

fn time(name: &str, text: Option<&str>, default: Duration) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(default) };
    let time = humantime::parse_duration(text).ok();
    time.filter(|time| *time <= TIME_MAX)
        .ok_or_else(|| format!("{name}: '{text}' is no time of at most 24h, such as 200ms"))
}

/// Checks that something is served that faults of `target` would strike.
fn check_target(table: &ModelTable, target: &ChaosTarget) -> Result<(), String> {
    if table.iter().any(|model| target.strikes(model)) {
        return Ok(());
    }
    let names = table.iter().map(|model| match model.revision() {
        Some(revision) => format!("{}/{}", revision.namespace, revision.name),
        None => model.name().to_owned(),
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    let n_left_out = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    let others = match (names.is_empty(), n_left_out) {
        (true, _) => "nothing is".to_owned(),
        (false, 0) => names.join(", "),
        (false, _) => format!("{} and {n_left_out} others", names.join(", ")),
    };
    Err(format!(
        "target: no service, revision or model {target} is served ({others}); for one that is to come say allowAbsent (coracle chaos set --allow-absent)"
    ))
}

fn shown(standing: &ChaosStanding) -> Value {
    let fault = &standing.fault;
    let time = |time: Duration| humantime::format_duration(time).to_string();
    json!({
        "target": standing.target.to_string(),
        "latency": time(fault.latency),
        "jitter": time(fault.jitter),
        "errorRate": fault.error_rate,
        "errorCode": fault.error_code.as_str(),
        "panicRate": fault.panic_rate,
        "loadDelay": time(fault.load_delay),
        "left": time(Duration::from_secs(standing.left.as_secs())),
        "struck": standing.n_struck,
    })
}

impl Handler {
    /// Answers what is asked of faults on purpose, and does it.
    pub(crate) async fn chaos(&self, route: &Route<'_>, (head, body): (&Parts, Arriving)) -> Reply {
        let Some(chaos) = &self.calls.chaos else {
            let message = "this server injects no faults; start it with --chaos to let it (coracle up --chaos)";
            return Reply::error(StatusCode::FORBIDDEN, message);
        };
        let changes = !matches!(route, Route::Chaos);
        if changes && let Err(failure) = self.shared.cors.check_change(&head.headers) {
            return Reply::failure(failure.code, &failure.message);
        }
        let done = match changes {
            false => Ok(json!({})),
            true => match self.read_whole(&head.headers, body).await {
                Ok((body, _)) => self.change_chaos(chaos, route, &body),
                Err(reply) => return reply,
            },
        };
        match done {
            Ok(mut answer) => {
                let all: Vec<Value> = chaos.list().iter().map(shown).collect();
                answer["chaos"] = all.into();
                Reply::json(serde_json::to_vec(&answer).unwrap_or_default())
            }
            Err(why) => Reply::error(StatusCode::BAD_REQUEST, &why),
        }
    }

    fn change_chaos(&self, chaos: &Chaos, route: &Route<'_>, body: &[u8]) -> Result<Value, String> {
        let asked = Asked::read(body)?;
        let target = asked.target()?;
        if matches!(route, Route::ClearChaos) {
            let n_cleared = chaos.clear(target.as_ref());
            self.log
                .warn(&format!("chaos: {n_cleared} targets cleared"));
            return Ok(json!({"cleared": n_cleared}));
        }
        let target = target.ok_or("target: it is not there")?;
        let fault = asked.fault()?;
        let lasting = time("for", asked.lasting.as_deref(), TIME)?;
        if !asked.allow_absent {
            check_target(&self.calls.table.load(), &target)?;
        }
        chaos.set(target.clone(), fault, lasting)?;
        self.log.warn(&format!(
            "chaos: {target} fails on purpose for {}: latency {}, errors {}, panics {}, loads {}",
            humantime::format_duration(lasting),
            humantime::format_duration(fault.latency),
            fault.error_rate,
            fault.panic_rate,
            humantime::format_duration(fault.load_delay)
        ));
        Ok(json!({}))
    }
}

#[cfg(test)]
mod tests {
    use coracle_base::ManualClock;
    use coracle_serving::{RevisionId, RevisionLog, Route as CoracleRoute, ServiceId};

    use super::*;

    fn read(body: &Value) -> Result<(ChaosTarget, ChaosFault), String> {
        let asked = Asked::read(body.to_string().as_bytes())?;
        let target = asked.target()?.ok_or("no target")?;
        Ok((target, asked.fault()?))
    }

    /// Programs and shadows fail with the code that was asked for, and not as if there were none.
    #[tokio::test(start_paused = true)]
    async fn what_is_not_run_here_fails_with_the_code_that_is_set() {
        let model = ServedModel::unloaded("a".to_owned(), 1);
        let chaos = Chaos::new(Arc::new(ManualClock::new()), 1);
        let target = ChaosTarget {
            namespace: None,
            name: "a".to_owned(),
        };
        let latency = Duration::from_secs(5);
        for (errors, panics, expected) in [
            (1.0, 0.0, Some(Code::ResourceExhausted)),
            (0.0, 1.0, Some(Code::Internal)),
            (0.0, 0.0, None),
        ] {
            let fault = ChaosFault {
                latency,
                error_rate: errors,
                error_code: Code::ResourceExhausted,
                panic_rate: panics,
                ..ChaosFault::default()
            };
            chaos.set(target.clone(), fault, TIME).unwrap();
            let began = Instant::now();
            let forwarded = forward_in_chaos(&chaos, &model, began + TIME).await;
            assert_eq!(began.elapsed(), latency);
            let code = match forwarded {
                Ok(()) => None,
                Err(NoAnswer::Failed(failure)) => Some(failure.code),
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(code, expected);
            let (delay, copied) = copy_in_chaos(&chaos, &model);
            assert_eq!(
                (delay, copied.err().map(|failure| failure.code)),
                (latency, expected)
            );
        }
        chaos.clear(None);
        assert_eq!(copy_in_chaos(&chaos, &model).0, Duration::ZERO);
    }

    #[test]
    fn what_is_not_served_is_no_target() {
        let target = |text: &str| {
            let asked = Asked::read(json!({"target": text}).to_string().as_bytes());
            asked.unwrap().target().unwrap().unwrap()
        };
        let revision = |name: &str, model: &str| {
            let id = RevisionId {
                namespace: "ml".to_owned(),
                name: name.to_owned(),
            };
            let log = RevisionLog::none(Arc::new(ManualClock::new()));
            let served = ServedModel::unloaded(model.to_owned(), 1);
            let route =
                CoracleRoute::single(Arc::new(served.with_revision(&id, log, Box::new(|| ()))));
            let service = ServiceId {
                namespace: "ml".to_owned(),
                name: name.to_owned(),
            };
            (service, Arc::new(route))
        };
        let routes = [
            revision("iris-predictor-00002", "iris"),
            revision("graph-predictor-00001", "classifier"),
        ];
        let table = ModelTable::from_routes(routes.into());
        for there in [
            "ml/iris",
            "ml/iris-predictor-00002",
            "ml/classifier",
            "ml/graph",
        ] {
            assert_eq!(check_target(&table, &target(there)), Ok(()), "{there}");
        }
        for absent in ["ml/irs", "iris", "other/iris", "ml/iris-predictor-00003"] {
            let why = check_target(&table, &target(absent)).unwrap_err();
            let named = "(ml/graph-predictor-00001, ml/iris-predictor-00002)";
            assert!(why.contains(absent) && why.contains(named), "{why}");
        }
    }

    #[test]
    fn what_is_asked_is_read_or_refused_with_its_place() {
        let body = json!({"target": "ml/iris", "latency": "200ms", "jitter": "50ms", "errorRate": 0.5, "errorCode": "internal", "panicRate": 0.25, "loadDelay": "5s", "for": "1h"});
        let (target, fault) = read(&body).unwrap();
        assert_eq!(target.to_string(), "ml/iris");
        let expected = ChaosFault {
            latency: Duration::from_millis(200),
            jitter: Duration::from_millis(50),
            error_rate: 0.5,
            error_code: Code::Internal,
            panic_rate: 0.25,
            load_delay: Duration::from_secs(5),
        };
        assert_eq!(fault, expected);
        for (body, expected) in [
            (json!({"target": "a"}), "says what happens"),
            (
                json!({"target": "a", "errorCode": "internal"}),
                "says what happens",
            ),
            (
                json!({"target": "ml/", "latency": "1s"}),
                "target: write NAMESPACE/NAME",
            ),
            (
                json!({"target": "a", "latency": "soon"}),
                "latency: 'soon' is no time",
            ),
            (json!({"target": "a", "latency": "25h"}), "at most 24h"),
            (
                json!({"target": "a", "errorRate": 1.1}),
                "errorRate: 1.1 is not between",
            ),
            (
                json!({"target": "a", "errorRate": 0.6, "panicRate": 0.6}),
                "more than 1 together",
            ),
            (
                json!({"target": "a", "errorRate": 1, "errorCode": "teapot"}),
                "'teapot' is none of",
            ),
            (json!({"target": "a", "speed": 1}), "unknown field `speed`"),
        ] {
            let error = read(&body).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
    }
}
