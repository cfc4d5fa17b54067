//! Who a request is from, and whether they may do what it asks.

use std::time::Duration;

use coracle_access::{
    Action, Binding, Claims, Role, Subject, TokenError, User, is_allowed, rules_for,
    user_of_certificate,
};
use coracle_api::Kind;
use coracle_api::kind::{
    CLUSTER_ROLE, CLUSTER_ROLE_BINDING, HORIZONTAL_POD_AUTOSCALER, ROLE_BINDING, SERVICE_ACCOUNT,
};
use coracle_api::structural::Cause;
use serde_json::{Value, json};

use super::path::{ObjectsTarget, Target};
use super::request::{ApiReply, ApiRequest};
use super::{Answer, Api, body, now, rfc3339, timestamp};
use crate::failure::Failure;
use crate::object;
use crate::store::Key;

/// What a caller proves itself with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// The header `Authorization`; empty if there is none.
    pub authorization: &'a str,
    /// The certificate that TLS has verified.
    pub certificate: Option<&'a [u8]>,
}

/// How long tokens last if nobody says.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
/// The shortest time that tokens last.
const TOKEN_LIFETIME_MIN: u64 = 600;
/// The longest.
const TOKEN_LIFETIME_MAX: u64 = 366 * 24 * 3_600;

fn all_autoscalers() -> ObjectsTarget {
    ObjectsTarget {
        kind: &HORIZONTAL_POD_AUTOSCALER,
        older: None,
        namespace: None,
        name: None,
        subresource: None,
    }
}

impl Api {
    /// Returns whom the credentials prove; without any, the machine's owner where callers are trusted, else nobody.
    ///
    /// # Errors
    /// A failure with status 401 if they prove nothing.
    pub fn identify(&self, credentials: Credentials<'_>) -> Result<User, Failure> {
        let authorization = credentials.authorization;
        if let Some((scheme, token)) = authorization.split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
        {
            return self.user_of_token(token.trim());
        }
        if !authorization.is_empty() {
            return Err(Failure::unauthorized(
                "Unauthorized: send `Authorization: Bearer TOKEN`",
            ));
        }
        match credentials.certificate {
            Some(der) => user_of_certificate(der).ok_or_else(|| {
                Failure::unauthorized("Unauthorized: the certificate names no user")
            }),
            None if self.needs_credentials => Ok(User::anonymous()),
            None => Ok(User::owner()),
        }
    }

    fn user_of_token(&self, token: &str) -> Result<User, Failure> {
        let unauthorized =
            |error: TokenError| Failure::unauthorized(format!("Unauthorized: {error}"));
        let tokens = self
            .tokens
            .as_ref()
            .ok_or_else(|| unauthorized(TokenError::Unknown))?;
        let claims = tokens
            .keys()
            .verify(token, now(self))
            .map_err(unauthorized)?;
        if let Some(uid) = &claims.account_uid {
            let account = self.account_of(&claims.subject);
            let is_there =
                account.is_some_and(|account| object::meta_str(&account, "uid") == uid.as_str());
            if !is_there {
                return Err(Failure::unauthorized(
                    "Unauthorized: the token's service account is gone",
                ));
            }
        }
        Ok(claims.user())
    }

    fn account_of(&self, user: &str) -> Option<Value> {
        let (namespace, name) = user
            .strip_prefix("system:serviceaccount:")?
            .split_once(':')?;
        let stored = self
            .store
            .get(&Key::new(&SERVICE_ACCOUNT, namespace, name))?;
        Some(stored.object.clone())
    }

    /// Refuses what the caller may not do.
    pub(crate) fn authorize(&self, request: &ApiRequest, target: &Target) -> Result<(), Failure> {
        let user = &request.user;
        match target {
            Target::Health | Target::Version => Ok(()),
            _ if user.is_anonymous() => Err(Failure::unauthorized(
                "Unauthorized: send a bearer token or a client certificate",
            )),
            // They name revisions of every namespace.
            Target::Metrics => self.authorize(request, &Target::Objects(all_autoscalers())),
            Target::Objects(target) => {
                let action = action(request, target);
                match is_allowed(user, &action, &self.bindings()) {
                    true => Ok(()),
                    false => Err(Failure::not_allowed(user, &action)),
                }
            }
            _ => Ok(()),
        }
    }

    /// Returns the bindings that are there.
    fn bindings(&self) -> Vec<Binding> {
        let lists =
            [&ROLE_BINDING, &CLUSTER_ROLE_BINDING].map(|kind| self.store.list(kind, None).0);
        let all = lists.iter().flatten();
        all.filter_map(|stored| read_binding(&stored.object))
            .collect()
    }

    /// Checks that who makes a binding has what it gives.
    pub(crate) fn check_grant(
        &self,
        request: &ApiRequest,
        kind: &Kind,
        object: &Value,
    ) -> Result<(), Failure> {
        if *kind != ROLE_BINDING && *kind != CLUSTER_ROLE_BINDING || request.user.is_master() {
            return Ok(());
        }
        let namespace = object::namespace(object);
        let role = role_of(object).unwrap_or(Role::ClusterAdmin);
        let own = rules_for(&request.user, namespace, &self.bindings());
        if role.rules().iter().all(|rule| own.contains(rule)) {
            return Ok(());
        }
        Err(Failure::forbidden(format!(
            "{} \"{}\" is forbidden: user \"{}\" is attempting to grant the role {}, which it does not have itself",
            kind.resource(),
            object::name(object),
            request.user.name,
            role.as_str()
        )))
    }

    /// Makes the roles that are there from the start.
    ///
    /// # Errors
    /// If they cannot be stored.
    pub fn ensure_roles(&self) -> Result<(), Failure> {
        for role in Role::ALL {
            let key = Key::new(&CLUSTER_ROLE, "", role.as_str());
            let rules: Vec<Value> = role
                .rules()
                .iter()
                .map(coracle_access::Rule::to_json)
                .collect();
            let there = self.store.get(&key);
            let result = match there {
                Some(there) if there.object["rules"] == json!(rules) => continue,
                Some(there) => {
                    let mut object = there.object.clone();
                    object["rules"] = rules.into();
                    self.store.update(&key, there.version, object)
                }
                None => self.store.create(
                    key,
                    json!({
                        "apiVersion": CLUSTER_ROLE.api_version(),
                        "kind": CLUSTER_ROLE.kind,
                        "metadata": {
                            "name": role.as_str(),
                            "uid": uuid::Uuid::new_v4().to_string(),
                            "creationTimestamp": timestamp(self)
                        },
                        "rules": rules
                    }),
                ),
            };
            result.map_err(|error| Failure::internal(error.to_string()))?;
        }
        Ok(())
    }

    /// Answers a question about the caller.
    pub(crate) fn review(&self, request: &ApiRequest, review: &str) -> Result<ApiReply, Failure> {
        if request.method != "POST" {
            return Err(Failure::method_not_allowed("questions are posted"));
        }
        let mut object = body::read(request)?.unwrap_or_else(|| json!({}));
        if !object.is_object() {
            return Err(Failure::bad_request("the body is not an object"));
        }
        object["status"] = match review {
            "selfsubjectaccessreviews" => self.review_access(&request.user, &object),
            "selfsubjectrulesreviews" => self.review_rules(&request.user, &object),
            "selfsubjectreviews" => {
                json!({"userInfo": {"username": request.user.name, "groups": request.user.groups}})
            }
            _ => return Err(Failure::no_resource()),
        };
        Ok(ApiReply::json(201, &object))
    }

    fn review_access(&self, user: &User, review: &Value) -> Value {
        let Some(attributes) = review.pointer("/spec/resourceAttributes") else {
            // What is no resource can be read by everybody.
            let verb = review.pointer("/spec/nonResourceAttributes/verb");
            let allowed = user.is_master() || verb.is_some_and(|verb| verb == "get");
            return json!({"allowed": allowed});
        };
        let text = |field: &str| {
            let value = attributes.get(field).and_then(Value::as_str);
            value.unwrap_or_default()
        };
        let action = Action {
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
        };
        let allowed = is_allowed(user, &action, &self.bindings());
        let reason = match (allowed, user.is_master()) {
            (true, true) => "the owner of this machine may do everything",
            (true, false) => "a role that the user has allows it",
            (false, _) => "no role that the user has allows it",
        };
        json!({"allowed": allowed, "reason": reason})
    }

    fn review_rules(&self, user: &User, review: &Value) -> Value {
        let namespace = review.pointer("/spec/namespace").and_then(Value::as_str);
        let rules = rules_for(user, namespace.unwrap_or("default"), &self.bindings());
        let rules: Vec<Value> = rules.iter().map(coracle_access::Rule::to_json).collect();
        let verbs: &[&str] = if user.is_master() { &["*"] } else { &["get"] };
        json!({
            "incomplete": false,
            "resourceRules": rules,
            "nonResourceRules": [{"verbs": verbs, "nonResourceURLs": ["*"]}]
        })
    }

    /// `POST .../serviceaccounts/NAME/token`
    pub(crate) fn token_request(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        name: &str,
    ) -> Result<Answer, Failure> {
        let account = self.live(target, name)?;
        let mut asked = body::read(request)?.unwrap_or_else(|| json!({}));
        if !asked.is_object() {
            return Err(Failure::bad_request("the body is not an object"));
        }
        let seconds = asked
            .pointer("/spec/expirationSeconds")
            .and_then(Value::as_u64);
        let lifetime = match seconds {
            None => TOKEN_LIFETIME,
            Some(seconds) if seconds < TOKEN_LIFETIME_MIN => {
                let cause = Cause::invalid(
                    "spec.expirationSeconds",
                    &json!(seconds),
                    "may not specify a duration less than 10 minutes",
                );
                return Err(Failure::invalid(target.kind, name, &[cause]));
            }
            Some(seconds) => Duration::from_secs(seconds.min(TOKEN_LIFETIME_MAX)),
        };
        let user = User::service_account(account.key.namespace(), name);
        let mut claims = Claims::new(&user, now(self), lifetime);
        claims.account_uid = Some(object::meta_str(&account.object, "uid").to_owned());
        let token = self
            .tokens
            .as_ref()
            .and_then(|tokens| tokens.keys().sign(&claims));
        let token =
            token.ok_or_else(|| Failure::internal("this server has no keys to sign tokens"))?;
        asked["kind"] = json!("TokenRequest");
        asked["apiVersion"] = json!("authentication.k8s.io/v1");
        asked["metadata"] = json!({
            "name": name,
            "namespace": account.key.namespace(),
            "creationTimestamp": timestamp(self)
        });
        asked["status"] = json!({
            "token": token,
            "expirationTimestamp": rfc3339(Duration::from_secs(claims.expires_at))
        });
        Ok(Answer::Reply(ApiReply::json(201, &asked)))
    }
}

/// Returns what a request for objects wants to do.
fn action<'a>(request: &'a ApiRequest, target: &'a ObjectsTarget) -> Action<'a> {
    let verb = match (request.method.as_str(), &target.name) {
        ("GET" | "HEAD", _) if request.flag("watch") => "watch",
        ("GET" | "HEAD", Some(_)) => "get",
        ("GET" | "HEAD", None) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", Some(_)) => "delete",
        ("DELETE", None) => "deletecollection",
        _ => "",
    };
    Action {
        verb,
        group: target.kind.group,
        resource: target.kind.plural,
        subresource: target.subresource.as_deref().unwrap_or_default(),
        namespace: target.namespace.as_deref().unwrap_or_default(),
        name: target.name.as_deref().unwrap_or_default(),
    }
}

fn role_of(binding: &Value) -> Option<Role> {
    Role::find(binding.pointer("/roleRef/name")?.as_str()?)
}

fn read_binding(object: &Value) -> Option<Binding> {
    let namespace = Some(object::namespace(object)).filter(|namespace| !namespace.is_empty());
    let subjects = object.get("subjects").and_then(Value::as_array);
    let subjects = subjects.into_iter().flatten().filter_map(read_subject);
    Some(Binding {
        role: role_of(object)?,
        namespace: namespace.map(str::to_owned),
        subjects: subjects.collect(),
    })
}

fn read_subject(subject: &Value) -> Option<Subject> {
    let text = |field: &str| Some(subject.get(field)?.as_str()?.to_owned());
    match subject.get("kind")?.as_str()? {
        "User" => Some(Subject::User(text("name")?)),
        "Group" => Some(Subject::Group(text("name")?)),
        "ServiceAccount" => Some(Subject::ServiceAccount {
            namespace: text("namespace")?,
            name: text("name")?,
        }),
        _ => None,
    }
}

/// Checks the rules of bindings; `old` is the object before, if there was one.
pub(crate) fn check_binding(
    kind: &Kind,
    old: Option<&Value>,
    object: &Value,
) -> Result<(), Failure> {
    let name = object::name(object);
    let mut causes = Vec::new();
    let role = object.pointer("/roleRef/name").unwrap_or(&Value::Null);
    let role_kind = object.pointer("/roleRef/kind");
    if role_kind.is_none_or(|kind| kind != CLUSTER_ROLE.kind) || role_of(object).is_none() {
        let known = Role::ALL.map(Role::as_str).join(", ");
        let why = format!("must be a ClusterRole; there are {known}");
        causes.push(Cause::invalid("roleRef.name", role, &why));
    }
    if old.is_some_and(|old| old.get("roleRef") != object.get("roleRef")) {
        causes.push(Cause::invalid("roleRef", role, "cannot change roleRef"));
    }
    let subjects = object.get("subjects").and_then(Value::as_array);
    for (index, subject) in subjects.into_iter().flatten().enumerate() {
        if read_subject(subject).is_none() {
            causes.push(Cause::invalid(
                &format!("subjects[{index}]"),
                &subject["kind"],
                "must be a User, a Group, or a ServiceAccount with its namespace, with a name",
            ));
        }
    }
    match causes.is_empty() {
        true => Ok(()),
        false => Err(Failure::invalid(kind, name, &causes)),
    }
}

#[cfg(test)]
mod tests;
