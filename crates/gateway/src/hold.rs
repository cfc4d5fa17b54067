//! Requests for services of which nothing is there yet, as after a restart: each waits for its own service, whatever becomes of the others.
//!
//! The table says which services those are, and until when they are waited for. What needs no model is answered at once: whether the server is alive, and
//! how a model stands.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_base::Code;
use coracle_serving::{Coming, ComingKind, ModelTable, ServiceId};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use crate::body::{ReplyBody, RequestBody};
use crate::connection::{Answered, BODY_CUT, Handler, Seen};
use crate::infer::{Failure, too_late};
use crate::respond::Reply;
use crate::route::{NoRoute, Route};
use crate::scope::Scope;
use crate::terms::{self, Terms};
use crate::trace::Trace;

/// The most requests that wait for one service: more than that would take the connections that others need.
const HELD_MAX: usize = 256;
/// How much is read of the body of a request that waits. Of whoever sends no more it is noticed that he has gone.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How many requests wait for each service.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<BTreeMap<ServiceId, usize>>);

/// The place of a request that waits.
struct WaitingPlace<'a> {
    waiting: &'a Waiting,
    id: ServiceId,
}

/// How long a request waited for its service before it was taken.
#[derive(Clone, Copy)]
struct Waited(Duration);

/// When a request is taken.
pub(crate) struct Taken {
    pub(crate) at: Duration,
    /// What is left of the time that it may take, if it has waited; its service may allow it more than is known here.
    pub(crate) left: Option<Duration>,
}

impl Waiting {
    /// Returns the place of one more request; `None` if there are too many.
    fn enter(&self, id: &ServiceId) -> Option<WaitingPlace<'_>> {
        let mut waiting = self.lock();
        let n_waiting = waiting.entry(id.clone()).or_default();
        if *n_waiting >= HELD_MAX {
            return None;
        }
        *n_waiting += 1;
        Some(WaitingPlace {
            waiting: self,
            id: id.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        match waiting.get_mut(&self.id) {
            Some(n_waiting) if *n_waiting > 1 => *n_waiting -= 1,
            _ => drop(waiting.remove(&self.id)),
        }
    }
}

/// Returns how long a request waited before it was taken: that is no time of its model's, but it is of its caller's.
pub(crate) fn waited(head: &Parts) -> Duration {
    let waited = head.extensions.get::<Waited>();
    waited.map_or(Duration::ZERO, |waited| waited.0)
}

/// Returns what a request waits for, and until when.
pub(crate) fn awaited(
    table: &ModelTable,
    scope: &Scope,
    (method, found): (&Method, &Result<Route<'_>, NoRoute>),
) -> Option<(ServiceId, Coming)> {
    if !table.has_coming() {
        return None;
    }
    let owned = |(id, coming): (&ServiceId, &Coming)| (id.clone(), coming.clone());
    if let Ok(route) = found {
        return scope.coming(table, Some(route.needs()?)).map(owned);
    }
    // Programs answer at paths of their own.
    let coming = scope.coming(table, None);
    let coming = coming.filter(|(_, one)| one.kind == ComingKind::Programs);
    let (id, mut coming) = coming.map(owned)?;
    if method == Method::GET || method == Method::HEAD {
        // What only reads there may ask whether they are alive: it is told at once that they are not yet.
        coming.until = Duration::ZERO;
    }
    Some((id, coming))
}

/// Returns why a service does not answer yet.
pub(crate) fn not_there_yet(id: &ServiceId, coming: &Coming) -> Failure {
    let shown: String = id.name.chars().take(128).collect();
    let message = match &coming.failure {
        None => format!("model '{shown}' is being loaded"),
        Some(why) => format!("model '{shown}' is not loaded yet: {why}"),
    };
    Failure::new(Code::Unavailable, message)
}

impl Handler {
    /// Waits for what a request is for, where that is still being loaded; returns when it is taken, or the answer if it does not come in time. Who takes it
    /// finds in its head how long it may still take.
    pub(crate) async fn hold(
        &self,
        head: &mut Parts,
        body: &mut RequestBody,
        (request_id, started): (&HeaderValue, Duration),
    ) -> Result<Duration, Response<ReplyBody>> {
        // Whatever is wrong with them is said later.
        let terms = Terms::of(&head.headers);
        let timeout = terms.as_ref().ok().and_then(|terms| terms.timeout);
        let awaited = |table: &ModelTable| {
            let (scope, path) = Scope::of(table, head);
            let found = scope.find(table, &head.method, path);
            awaited(table, &scope, (&head.method, &found))
        };
        let held = {
            let mut held = pin!(self.wait_for(timeout, started, awaited));
            tokio::select! {
                biased;
                held = &mut held => held,
                read = body.look_ahead(BODY_BYTES_MAX) => match read {
                    Ok(_) => held.await,
                    Err(_gone) => Err(Failure::new(Code::InvalidArgument, BODY_CUT)),
                },
            }
        };
        let failure = match held {
            Ok(taken) => {
                if let (Some(left), Ok(_)) = (taken.left, terms) {
                    terms::set_timeout(&mut head.headers, left);
                }
                let waited = taken.at.saturating_sub(started);
                if !waited.is_zero() {
                    head.extensions.insert(Waited(waited));
                }
                return Ok(taken.at);
            }
            Err(failure) => failure,
        };
        let reply = Reply::failure(failure.code, &failure.message);
        let seen = Seen {
            request_id,
            n_bytes_in: 0,
            model: None,
            trace: Trace::of(&head.headers),
        };
        self.count_and_log(head, &reply, &seen, started);
        let answered = Answered {
            trace: seen.trace,
            request_id: request_id.clone(),
            reply,
        };
        Err(self.to_http(head, answered))
    }

    /// Waits until nothing is `awaited` any more; returns when a request that began at `started` is taken then: its model is not late for what it
    /// waited here.
    ///
    /// # Errors
    /// If it does not come in time, too many wait for it already, or the server shuts down.
    pub(crate) async fn wait_for(
        &self,
        timeout: Option<Duration>,
        started: Duration,
        awaited: impl Fn(&ModelTable) -> Option<(ServiceId, Coming)>,
    ) -> Result<Taken, Failure> {
        let clock = self.shared.clock.as_ref();
        let of_server = self.calls.request_timeout;
        let allowed = timeout.map_or(of_server, |timeout| timeout.min(of_server));
        let last = started.saturating_add(allowed);
        let mut now = started;
        let mut place: Option<WaitingPlace<'_>> = None;
        loop {
            let found = awaited(&self.calls.table.load());
            let Some((id, coming)) = found else {
                let left = match &place {
                    None => None,
                    Some(_) if now >= last => return Err(too_late(allowed)),
                    // The service's own time begins when it takes the request.
                    Some(place) if self.has_timeout(&place.id) => timeout,
                    Some(_) => Some(allowed),
                };
                let left = left.map(|left| left.saturating_sub(now.saturating_sub(started)));
                return Ok(Taken { at: now, left });
            };
            now = clock.monotonic();
            if now >= coming.until {
                return Err(not_there_yet(&id, &coming));
            }
            if now >= last {
                return Err(too_late(allowed));
            }
            if place.as_ref().is_none_or(|place| place.id != id) {
                let entered = self.shared.waiting.enter(&id);
                place = Some(entered.ok_or_else(|| not_there_yet(&id, &coming))?);
            }
            let is_other = |table: &ModelTable| awaited(table).is_none_or(|(_, one)| one != coming);
            let left = coming.until.min(last).saturating_sub(now);
            let changed = self.calls.table.until(is_other);
            tokio::select! {
                changed = tokio::time::timeout(left, changed) => drop(changed),
                () = self.draining() => return Err(not_there_yet(&id, &coming)),
            }
            now = clock.monotonic();
        }
    }

    /// Tells whether a service says how long its requests may take; the models of a graph may each say so.
    fn has_timeout(&self, id: &ServiceId) -> bool {
        let table = self.calls.table.load();
        if table.flow(id).is_some() {
            return true;
        }
        let targets = table.service(id).map(|route| route.targets());
        let mut targets = targets.into_iter().flatten();
        targets.any(|target| target.model.timeout().is_some())
    }
}
