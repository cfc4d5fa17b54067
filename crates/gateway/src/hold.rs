//! Requests for services of which nothing is there yet, as after a restart: each waits for its own service, whatever becomes of the others.
//!
//! The table says which services those are, and until when they are waited for. What needs no model is answered at once: whether the server is alive, and
//! how a model stands.

use std::time::Duration;

use coracle_base::Code;
use coracle_serving::{Coming, ComingKind, ModelTable, ServiceId};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use crate::body::ReplyBody;
use crate::connection::{Answered, Handler, Seen};
use crate::infer::{Failure, too_late};
use crate::respond::Reply;
use crate::route::{NoRoute, Route};
use crate::scope::Scope;
use crate::terms::Terms;
use crate::trace::Trace;

/// Returns what a request waits for.
pub(crate) fn awaited<'t>(
    table: &'t ModelTable,
    scope: &'t Scope,
    (method, found): (&Method, &Result<Route<'_>, NoRoute>),
) -> Option<(&'t ServiceId, &'t Coming)> {
    if !table.has_coming() {
        return None;
    }
    match found {
        Ok(route) => scope.coming(table, Some(route.needs()?)),
        // Programs answer at paths of their own; what only reads there may ask whether they are alive.
        Err(_) if method == Method::GET || method == Method::HEAD => None,
        Err(_) => {
            let coming = scope.coming(table, None);
            coming.filter(|(_, one)| one.kind == ComingKind::Programs)
        }
    }
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
    /// Waits for what a request is for, where that is still being loaded; returns when it is taken, or the answer if it does not come in time.
    pub(crate) async fn hold(
        &self,
        head: &Parts,
        request_id: &HeaderValue,
        started: Duration,
    ) -> Result<Duration, Response<ReplyBody>> {
        // Whatever is wrong with them is said later.
        let terms = Terms::of(&head.headers).unwrap_or_default();
        let awaited = |table: &ModelTable| {
            let (scope, path) = Scope::of(table, head);
            let found = scope.find(table, &head.method, path);
            let (id, coming) = awaited(table, &scope, (&head.method, &found))?;
            Some((id.clone(), coming.clone()))
        };
        let held = self.wait_for(terms.timeout, started, awaited).await;
        let failure = match held {
            Ok(taken) => return Ok(taken),
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
    pub(crate) async fn wait_for(
        &self,
        timeout: Option<Duration>,
        started: Duration,
        awaited: impl Fn(&ModelTable) -> Option<(ServiceId, Coming)>,
    ) -> Result<Duration, Failure> {
        let clock = self.shared.clock.as_ref();
        let allowed = self.calls.request_timeout;
        let allowed = timeout.map_or(allowed, |timeout| timeout.min(allowed));
        let last = started.saturating_add(allowed);
        let mut taken = started;
        loop {
            let Some((id, coming)) = awaited(&self.calls.table.load()) else {
                return Ok(taken);
            };
            let now = clock.monotonic();
            if now >= coming.until {
                return Err(not_there_yet(&id, &coming));
            }
            if now >= last {
                return Err(too_late(allowed));
            }
            let is_other = |table: &ModelTable| awaited(table).is_none_or(|(_, one)| one != coming);
            let left = coming.until.min(last).saturating_sub(now);
            let changed = self.calls.table.until(is_other);
            tokio::select! {
                changed = tokio::time::timeout(left, changed) => drop(changed),
                () = self.draining() => return Err(not_there_yet(&id, &coming)),
            }
            taken = clock.monotonic();
        }
    }
}
