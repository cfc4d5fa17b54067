//! The API: from a request to an answer. Knows HTTP's words but no socket; `server` has that.

mod access;
mod admission;
mod body;
mod definitions;
mod discovery;
mod logs;
mod metrics;
mod path;
mod protobuf;
mod read;
mod request;
mod scale;
mod table;
mod topology;
mod versions;
mod watch;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

pub use access::Credentials;
use coracle_access::TokenStore;
use coracle_api::Access;
use coracle_base::Clock;
pub use logs::FollowedLog;
pub use request::{ApiReply, ApiRequest};
pub use watch::Watch;

use crate::controller::scaling::Decisions;
use crate::failure::Failure;
use crate::store::Store;
use crate::usage::UsageCell;
use path::{ObjectsTarget, Target};
use request::Shape;

/// The API over a store.
#[derive(Debug)]
pub struct Api {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// Coracle's version, for `/version`.
    version: String,
    /// Where the serving process writes what happens to revisions.
    logs: Option<PathBuf>,
    usage: Arc<UsageCell>,
    decisions: Arc<Decisions>,
    /// The keys of tokens.
    tokens: Option<TokenStore>,
    /// Whether callers without credentials are nobody; else they are the machine's owner.
    needs_credentials: bool,
}

/// What a request is answered with.
#[derive(Debug)]
pub enum Answer {
    /// One answer.
    Reply(ApiReply),
    /// Events until the watch is over.
    Watch(Box<Watch>),
    /// Lines until the client goes.
    Log(Box<FollowedLog>),
}

impl Api {
    /// Returns the API over `store`.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, version: &str) -> Self {
        Self {
            store,
            clock,
            version: version.to_owned(),
            logs: None,
            usage: Arc::default(),
            decisions: Arc::default(),
            tokens: None,
            needs_credentials: false,
        }
    }

    /// Returns the API that knows callers by tokens of these keys; trusts those without credentials unless they are needed.
    #[must_use]
    pub fn with_access(mut self, tokens: TokenStore, needs_credentials: bool) -> Self {
        self.tokens = Some(tokens);
        self.needs_credentials = needs_credentials;
        self
    }

    /// Returns the API with the logs in `logs` and what is told of the revisions' use in `usage`.
    #[must_use]
    pub fn with_replicas(mut self, logs: PathBuf, usage: Arc<UsageCell>) -> Self {
        self.logs = Some(logs);
        self.usage = usage;
        self
    }

    /// Returns the API that tells at `/metrics` what the autoscalers decide.
    #[must_use]
    pub fn with_decisions(mut self, decisions: Arc<Decisions>) -> Self {
        self.decisions = decisions;
        self
    }

    /// Answers a request. Writes wait for the disk: call this where blocking is allowed.
    #[must_use]
    pub fn answer(self: &Arc<Self>, request: &ApiRequest) -> Answer {
        let Some(target) = path::parse(&request.path) else {
            return Answer::Reply(ApiReply::text(404, "404 page not found\n"));
        };
        let answer = self
            .authorize(request, &target)
            .and_then(|()| self.answer_target(request, &target));
        match answer {
            Ok(answer) => answer,
            Err(failure) => Answer::Reply(ApiReply::failure(&failure)),
        }
    }

    fn answer_target(
        self: &Arc<Self>,
        request: &ApiRequest,
        target: &Target,
    ) -> Result<Answer, Failure> {
        if let Target::Objects(target) = target {
            return match target.older {
                None => self.answer_objects(request, target),
                Some(older) => self.answer_in_older(request, (target, older)),
            };
        }
        let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
        if let Target::Review(review) = target {
            return self.review(request, review).map(Answer::Reply);
        }
        if !is_read {
            return Err(Failure::method_not_allowed(
                "the server does not allow this method on the requested resource",
            ));
        }
        let aggregated = request.shape()? == Shape::Discovery;
        let found = match target {
            Target::Metrics => {
                return Ok(Answer::Reply(ApiReply::text(200, &self.decisions.render())));
            }
            Target::Health => return Ok(Answer::Reply(ApiReply::text(200, "ok"))),
            Target::Version => Some(discovery::version(&self.version)),
            Target::CoreVersions if aggregated => return Ok(aggregated_reply(true)),
            Target::Groups if aggregated => return Ok(aggregated_reply(false)),
            Target::CoreVersions => Some(discovery::core_versions()),
            Target::Groups => Some(discovery::group_list()),
            Target::Group(name) => discovery::group(name),
            Target::Resources { group, version } => discovery::resource_list(group, version),
            Target::OpenApiBefore => {
                return Ok(Answer::Reply(discovery::open_api_before(&request.accept)));
            }
            Target::OpenApiIndex => Some(discovery::open_api_index()),
            Target::OpenApi { group, version } => discovery::open_api(group, version),
            Target::Objects(_) | Target::Review(_) => None,
        };
        found
            .map(|value| Answer::Reply(ApiReply::json(200, &value)))
            .ok_or_else(Failure::no_resource)
    }

    fn answer_objects(
        self: &Arc<Self>,
        request: &ApiRequest,
        target: &ObjectsTarget,
    ) -> Result<Answer, Failure> {
        let subresource = target.subresource.as_deref();
        if let (Some(name), Some(subresource)) = (&target.name, subresource)
            && target.kind.subresource(subresource).is_some()
        {
            return match (subresource, request.method.as_str()) {
                ("log", "GET") => self.pod_log(request, target, name),
                ("token", "POST") => self.token_request(request, target, name),
                ("scale", _) => self.scale(request, target, name).map(Answer::Reply),
                _ => Err(Failure::method_not_allowed(
                    "the server does not allow this method on the requested resource",
                )),
            };
        }
        if request.flag("watch") && request.method == "GET" {
            if target.kind.access == Access::Measured {
                return Err(Failure::method_not_allowed(
                    "what is measured cannot be watched; list it again",
                ));
            }
            let mut target = target.clone();
            let mut request = request.clone();
            // Watching one object is watching the list for its name.
            if let Some(name) = target.name.take() {
                request
                    .query
                    .push_str(&format!("&fieldSelector=metadata.name%3D{name}"));
            }
            return Watch::start(self, &request, &target)
                .map(|watch| Answer::Watch(Box::new(watch)));
        }
        let reply = match (request.method.as_str(), &target.name) {
            ("GET" | "HEAD", Some(name)) => self.get(request, target, name),
            ("GET" | "HEAD", None) => self.list(request, target),
            ("POST", None) if target.namespace.is_some() || !target.kind.namespaced => {
                self.create(request, target)
            }
            ("PUT", Some(name)) => self.replace(request, target, name),
            ("PATCH", Some(name)) => self.patch(request, target, name),
            ("DELETE", Some(name)) => self.delete(request, target, name),
            ("DELETE", None) => self.delete_collection(request, target),
            _ => Err(Failure::method_not_allowed(
                "the server does not allow this method on the requested resource",
            )),
        };
        reply.map(Answer::Reply)
    }

    /// Returns whether callers without credentials are nobody.
    #[must_use]
    pub fn needs_credentials(&self) -> bool {
        self.needs_credentials
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

fn aggregated_reply(core: bool) -> Answer {
    let mut reply = ApiReply::json(200, &discovery::aggregated(core));
    reply.content_type = discovery::AGGREGATED;
    Answer::Reply(reply)
}

/// Returns the time since 1970.
fn now(api: &Api) -> Duration {
    api.clock.unix_time()
}

/// Returns the time as Kubernetes writes it.
fn timestamp(api: &Api) -> String {
    rfc3339(api.clock.unix_time())
}

/// Returns a time since 1970 in RFC 3339, to the second.
pub(crate) fn rfc3339(since_1970: Duration) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string()
}

#[cfg(test)]
mod tests;
