//! Which service a request is for: by path, by host, or by the model's name alone.

use std::borrow::Cow;
use std::sync::Arc;

use coracle_base::{Code, VersionState};
use coracle_serving::{
    Coming, ComingKind, ModelTable, NoModel, Route, ServedModel, ServiceId, Sticky, VersionStatus,
};
use hyper::Method;
use hyper::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::hold;
use crate::infer::{Failure, unknown_model};
use crate::route::{self, AskedVersion, NoRoute, Route as Asked};
use crate::seldon::DEPLOYMENT;

/// Which service a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The model's name alone says it.
    All,
    /// This one.
    Service {
        id: ServiceId,
        /// The revision of this tag only.
        tag: Option<String>,
    },
}

/// Where services are found by path: `/serving/NAMESPACE/NAME/...`, and where Seldon's ingress has them.
const PREFIXES: [&str; 2] = ["/serving/", "/seldon/"];
/// What KServe appends to a service's name for its predictor.
const PREDICTOR: &str = "-predictor";

impl Scope {
    /// Returns the scope of a request, and the rest of its path.
    pub(crate) fn of<'a>(table: &ModelTable, head: &'a Parts) -> (Self, &'a str) {
        let path = head.uri.path();
        if let Some((scope, rest)) = by_path(table, path) {
            return (scope, rest);
        }
        if !table.has_namespaces() {
            return (Self::All, path);
        }
        let host = head
            .uri
            .host()
            .or_else(|| head.headers.get(HOST)?.to_str().ok());
        let scope = host.and_then(|host| by_host(table, host));
        (scope.unwrap_or(Self::All), path)
    }

    /// Returns the scope of a gRPC call, and the rest of its path; Seldon's callers name the deployment by the metadata `seldon` and `namespace`.
    pub(crate) fn of_call<'a>(table: &ModelTable, head: &'a Parts) -> (Self, &'a str) {
        let (scope, path) = Self::of(table, head);
        if scope != Self::All || !(table.has_namespaces() || table.has_flows()) {
            return (scope, path);
        }
        let id = by_metadata(table, &head.headers);
        (id.map_or(scope, |id| Self::Service { id, tag: None }), path)
    }

    /// Returns what is asked for at a path; MLflow's is the only model's, where there is one.
    pub(crate) fn find<'a>(
        &self,
        table: &ModelTable,
        method: &Method,
        path: &'a str,
    ) -> Result<Asked<'a>, NoRoute> {
        let mut found = route::find(method, path);
        if let Ok(Asked::V1Predict(named)) = &mut found
            && named.model.is_empty()
            && matches!(self, Self::All)
            && route::is_invocations(path)
        {
            let routes = table.routes().map(|(id, _)| id);
            // Graphs are found here neither before they are there nor then.
            let coming = table.all_coming();
            let coming = coming.filter(|(_, one)| one.kind != ComingKind::Graph);
            let mut all = routes.chain(coming.map(|(id, _)| id));
            if let (Some(only), None) = (all.next(), all.next()) {
                named.model = Cow::Owned(only.name.clone());
            }
        }
        found
    }

    /// Returns the model that takes a request for `name`.
    fn model<'t>(
        &self,
        table: &'t ModelTable,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<&'t Arc<ServedModel>, NoModel> {
        match self {
            Self::All => table.by_name(name).map(|route| choose(route, headers)),
            Self::Service { id, tag } => {
                let route = table.service(id).ok_or(NoModel::Unknown)?;
                let model = match tag {
                    None => Some(choose(route, headers)),
                    Some(tag) => route.tagged(tag),
                };
                // The models of Seldon's graphs have names of their own, and its paths may leave them out.
                let has_name = |model: &&Arc<ServedModel>| {
                    id.name == name || model.name() == name || name.is_empty()
                };
                model.filter(has_name).ok_or(NoModel::Unknown)
            }
        }
    }

    /// Returns the model of this name and version that takes a request.
    ///
    /// # Errors
    /// Code `NotFound`, in KServe's words where nothing has the name.
    pub(crate) fn named<'t>(
        &self,
        table: &'t ModelTable,
        name: &str,
        version: Option<&AskedVersion<'_>>,
        headers: &HeaderMap,
    ) -> Result<&'t Arc<ServedModel>, Failure> {
        let model = self.model(table, name, headers).map_err(|no_model| {
            if let Some((id, coming)) = self.coming(table, Some(name)) {
                return hold::not_there_yet(id, coming);
            }
            if version.is_none() && table.version_statuses(name).iter().any(is_coming) {
                return unavailable(format!("model '{name}' is being loaded"));
            }
            not_found(match no_model {
                NoModel::Unknown => unknown_model(name),
                NoModel::Ambiguous { namespaces } => format!(
                    "services named {name} are in the namespaces {}; ask one of them at /serving/NAMESPACE/{name}",
                    namespaces.join(", ")
                ),
            })
        })?;
        let Some(version) = version else {
            return Ok(model);
        };
        let route = self.route(table, Some(name));
        let number = match version {
            AskedVersion::Number(number) => number.as_ref(),
            AskedVersion::Label(label) => {
                let number = route.and_then(|route| route.label(label));
                number.ok_or_else(|| not_found(no_label(name, label)))?
            }
        };
        // Whose turn it is may be the one that is asked for.
        if number == model.version() {
            return Ok(model);
        }
        let found = route.and_then(|route| route.version(number));
        found.ok_or_else(|| no_version(table, name, number, &self.versions(table, name)))
    }

    /// Returns the versions that a model serves, oldest first.
    pub(crate) fn versions<'t>(&self, table: &'t ModelTable, name: &str) -> Vec<&'t str> {
        let route = self.route(table, Some(name));
        route
            .map(|route| route.served_versions())
            .unwrap_or_default()
    }

    /// Returns the models whose counters a request for `model` is told: every version where it asks for `any`.
    pub(crate) fn counted<'t>(
        &self,
        table: &'t ModelTable,
        model: &'t ServedModel,
        any: bool,
    ) -> Vec<&'t ServedModel> {
        let route = self.route(table, Some(model.name())).filter(|_| any);
        let targets = route.map(|route| route.targets()).unwrap_or_default();
        // Revisions have one version, and only one of them answers.
        if targets
            .iter()
            .any(|target| target.model.revision().is_some())
            || targets.is_empty()
        {
            return vec![model];
        }
        targets.iter().map(|target| target.model.as_ref()).collect()
    }

    /// Returns the route that a request is split by whose path is `asked`; `None` if it is for no single service.
    pub(crate) fn route<'t>(
        &self,
        table: &'t ModelTable,
        asked: Option<&str>,
    ) -> Option<&'t Arc<Route>> {
        match self {
            Self::All => table.by_name(asked?).ok(),
            Self::Service { id, .. } => table.service(id),
        }
    }

    /// Returns what is known of the service that a request is for whose path is `asked`, if nothing of it is there yet.
    pub(crate) fn coming<'t>(
        &'t self,
        table: &'t ModelTable,
        asked: Option<&str>,
    ) -> Option<(&'t ServiceId, &'t Coming)> {
        match self {
            Self::All => table.coming_by_name(asked?),
            Self::Service { id, .. } => Some((id, table.coming(id)?)),
        }
    }

    /// Returns the revision of a route that takes a request with these headers.
    pub(crate) fn choose<'t>(
        &self,
        route: &'t Route,
        headers: &HeaderMap,
    ) -> Option<&'t Arc<ServedModel>> {
        match self {
            Self::Service { tag: Some(tag), .. } => route.tagged(tag),
            _ => Some(choose(route, headers)),
        }
    }

    /// Returns the names of the models within.
    pub(crate) fn names<'a>(
        &'a self,
        table: &'a ModelTable,
    ) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::All => Box::new(table.names()),
            Self::Service { id, .. } => {
                let targets = table.service(id).map(|route| route.targets());
                let first = targets.and_then(|targets| targets.first());
                Box::new(first.map(|target| target.model.name()).into_iter())
            }
        }
    }
}

fn not_found(message: String) -> Failure {
    Failure::new(Code::NotFound, message)
}

/// The most names of models in a message.
const NAMES_MAX: usize = 20;

/// Returns how to ask for one of several models, for a path that names none as those of servers of one model.
pub(crate) fn unnamed(table: &ModelTable) -> String {
    let mut names = table.names();
    let shown: Vec<&str> = names.by_ref().take(NAMES_MAX).collect();
    let (shown, more) = (shown.join(", "), names.count());
    let shown = match more {
        0 if shown.is_empty() => return "no model is served".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    };
    let services = match table.has_namespaces() {
        true => "; a service is asked at /serving/NAMESPACE/NAME and this path, too",
        false => "",
    };
    format!(
        "the path names no model, and more than one may be meant: {shown}; ask for one at /v1/models/NAME:predict, which takes the same bodies{services}"
    )
}

fn unavailable(message: String) -> Failure {
    Failure::new(Code::Unavailable, message)
}

fn is_coming(status: &VersionStatus) -> bool {
    matches!(status.state, VersionState::Start | VersionState::Loading)
}

fn no_label(name: &str, label: &str) -> String {
    let shown: String = label.chars().take(32).collect();
    format!("model '{name}' has no label '{shown}'")
}

/// Returns why a version takes no requests: it is not there yet, or not at all.
fn no_version(table: &ModelTable, name: &str, version: &str, served: &[&str]) -> Failure {
    let shown: String = version.chars().take(32).collect();
    let statuses = table.version_statuses(name);
    let status = statuses.iter().find(|status| status.version == version);
    match status {
        Some(status) if is_coming(status) => {
            unavailable(format!("model '{name}' version {shown} is being loaded"))
        }
        Some(VersionStatus {
            failure: Some((_, why)),
            ..
        }) => not_found(format!(
            "model '{name}' version {shown} did not load ({why}); it has {}",
            served.join(", ")
        )),
        _ => not_found(format!(
            "model '{name}' has no version '{shown}'; it has {}",
            served.join(", ")
        )),
    }
}

/// Returns the model that takes the next request of a route with these headers.
pub(crate) fn choose<'t>(route: &'t Route, headers: &HeaderMap) -> &'t Arc<ServedModel> {
    let value = route.sticky().and_then(|sticky| match sticky {
        Sticky::Header(name) => headers.get(name).map(HeaderValue::as_bytes),
        Sticky::Cookie(name) => cookie(headers, name),
    });
    match value {
        Some(value) => route.choose_for(value),
        // Who has no such header or cookie is spread like everyone else.
        None => route.choose(),
    }
}

/// Returns the value of a cookie.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let values = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.as_bytes())
}

/// `/serving/NAMESPACE/NAME/rest`; where no service has that name, it may be `NAME-predictor` or `TAG-NAME-predictor`.
fn by_path<'p>(table: &ModelTable, path: &'p str) -> Option<(Scope, &'p str)> {
    let rest = PREFIXES
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))?;
    let (namespace, rest) = rest.split_once('/')?;
    let (name, rest) = match rest.find('/') {
        Some(end) => rest.split_at(end),
        None => (rest, "/"),
    };
    let decode = |text| percent_decode_str(text).decode_utf8().ok();
    let (namespace, name) = (decode(namespace)?, decode(name)?);
    let id = |name: &str| ServiceId {
        namespace: namespace.clone().into_owned(),
        name: name.to_owned(),
    };
    let scope = |id: ServiceId, tag: Option<&str>| Scope::Service {
        id,
        tag: tag.map(str::to_owned),
    };
    let exact = id(&name);
    let component = name
        .strip_suffix(PREDICTOR)
        .filter(|_| !table.is_known(&exact));
    let Some(component) = component else {
        return Some((scope(exact, None), rest));
    };
    // The tag has no hyphen.
    let tagged = component
        .split_once('-')
        .filter(|(tag, name)| TAGS.contains(tag) && table.is_known(&id(name)));
    let scope = match tagged {
        Some((tag, name)) => scope(id(name), Some(tag)),
        None => scope(id(component), None),
    };
    Some((scope, rest))
}

/// The tags that KServe gives.
const TAGS: [&str; 2] = ["prev", "latest"];

/// `NAME.NAMESPACE.*`, `NAME-predictor.NAMESPACE.*`, `TAG-NAME-predictor.NAMESPACE.*` or `NAME-NAMESPACE.*`.
fn by_host(table: &ModelTable, host: &str) -> Option<Scope> {
    let (first, rest) = host.split_once('.')?;
    let namespace = rest.split(['.', ':']).next()?;
    let service = |name: &str, namespace: &str| {
        let id = ServiceId {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        table.is_known(&id).then_some(id)
    };
    let scope = |id: ServiceId, tag: Option<&str>| Scope::Service {
        id,
        tag: tag.map(str::to_owned),
    };
    if let Some(id) = table
        .has_flows()
        .then(|| flow(table, first, namespace))
        .flatten()
    {
        return Some(scope(id, None));
    }
    let component = first.strip_suffix(PREDICTOR);
    if let Some(id) = service(first, namespace).or_else(|| service(component?, namespace)) {
        return Some(scope(id, None));
    }
    if let Some((tag, name)) = component.and_then(|name| name.split_once('-'))
        && let Some(id) = service(name, namespace)
        && has_tag(table, &id, tag)
    {
        return Some(scope(id, Some(tag)));
    }
    let mut splits = first.match_indices('-');
    splits.find_map(|(at, _)| {
        let (name, namespace) = (first.get(..at)?, first.get(at + 1..)?);
        service(name, namespace).map(|id| scope(id, None))
    })
}

/// Returns the deployment that Seldon's metadata name; the namespace may be left out where only one has the name.
fn by_metadata(table: &ModelTable, headers: &HeaderMap) -> Option<ServiceId> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let name = text(DEPLOYMENT)?;
    if let Some(namespace) = text("namespace") {
        return Some(ServiceId {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
    }
    let routes = table.routes().map(|(id, _)| id);
    let flows = table.flows().map(|(id, _)| id);
    let coming = table.all_coming().map(|(id, _)| id);
    let all = routes.chain(flows).chain(coming);
    let mut ids = all.filter(|id| id.name == name);
    let first = ids.next()?;
    // No further than to another one of the name.
    ids.all(|id| id == first).then(|| first.clone())
}

/// Returns the flow of a name, if there is one.
fn flow(table: &ModelTable, name: &str, namespace: &str) -> Option<ServiceId> {
    let id = ServiceId {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    table.flow(&id).map(|_| id)
}

/// Tells whether a service has a tag; of one of which nothing is there yet it is believed.
fn has_tag(table: &ModelTable, id: &ServiceId, tag: &str) -> bool {
    match table.service(id) {
        Some(route) => route.tagged(tag).is_some(),
        None => TAGS.contains(&tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, tag: Option<&str>) -> Scope {
        Scope::Service {
            id: ServiceId {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            tag: tag.map(str::to_owned),
        }
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; id=x y"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        assert_eq!(cookie(&headers, "id"), Some(b"x y".as_slice()));
        assert_eq!(cookie(&headers, "b"), Some(b"2".as_slice()));
        assert_eq!(cookie(&headers, "i"), None);
    }

    #[test]
    fn paths_name_services() {
        let cases = [
            (
                "/serving/ml/iris/v1/models/iris:predict",
                Some((service("ml", "iris", None), "/v1/models/iris:predict")),
            ),
            ("/serving/ml/iris", Some((service("ml", "iris", None), "/"))),
            (
                "/serving/ml/iris-predictor/v2",
                Some((service("ml", "iris", None), "/v2")),
            ),
            (
                "/seldon/ml/iris/api/v1.0/predictions",
                Some((service("ml", "iris", None), "/api/v1.0/predictions")),
            ),
            ("/serving/ml", None),
            ("/v1/models", None),
        ];
        for (path, expected) in cases {
            assert_eq!(by_path(&ModelTable::default(), path), expected, "{path}");
        }
    }
}
