//! What a path asks for.

use coracle_api::Kind;
use percent_encoding::percent_decode_str;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/livez`, `/readyz`, `/healthz`
    Health,
    /// `/metrics`
    Metrics,
    /// `/version`
    Version,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/G`
    Group(String),
    /// `/api/v1`, `/apis/G/V`
    Resources { group: String, version: String },
    /// `/openapi/v2`
    OpenApiBefore,
    /// `/openapi/v3`
    OpenApiIndex,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/G/V`
    OpenApi { group: String, version: String },
    /// Objects of a kind.
    Objects(ObjectsTarget),
    /// A question put as an object, such as `/apis/authorization.k8s.io/v1/selfsubjectaccessreviews`
    Review(String),
}

/// Objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectsTarget {
    pub(crate) kind: &'static Kind,
    /// The version in which they are asked for, where that is an older one.
    pub(crate) older: Option<&'static str>,
    /// None for all namespaces, and for kinds without.
    pub(crate) namespace: Option<String>,
    /// None for all objects.
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

/// The groups whose objects are questions.
const REVIEW_GROUPS: [&str; 2] = ["authorization.k8s.io", "authentication.k8s.io"];

/// Returns what `path` asks for; `None` if there is nothing.
pub(crate) fn parse(path: &str) -> Option<Target> {
    let segments: Option<Vec<String>> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| Some(percent_decode_str(segment).decode_utf8().ok()?.into_owned()))
        .collect();
    let segments = segments?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    Some(match segments.as_slice() {
        ["livez" | "readyz" | "healthz", ..] => Target::Health,
        ["metrics"] => Target::Metrics,
        ["version"] => Target::Version,
        ["api"] => Target::CoreVersions,
        ["apis"] => Target::Groups,
        ["apis", group] => Target::Group((*group).to_owned()),
        ["api", "v1"] => resources("", "v1"),
        ["apis", group, version] => resources(group, version),
        ["openapi", "v2"] => Target::OpenApiBefore,
        ["openapi", "v3"] => Target::OpenApiIndex,
        ["openapi", "v3", "api", version] => Target::OpenApi {
            group: String::new(),
            version: (*version).to_owned(),
        },
        ["openapi", "v3", "apis", group, version] => Target::OpenApi {
            group: (*group).to_owned(),
            version: (*version).to_owned(),
        },
        ["apis", group, "v1", review] if REVIEW_GROUPS.contains(group) => {
            Target::Review((*review).to_owned())
        }
        ["api", version, rest @ ..] => Target::Objects(objects("", version, rest)?),
        ["apis", group, version, rest @ ..] => Target::Objects(objects(group, version, rest)?),
        _ => return None,
    })
}

fn resources(group: &str, version: &str) -> Target {
    Target::Resources {
        group: group.to_owned(),
        version: version.to_owned(),
    }
}

fn objects(group: &str, version: &str, rest: &[&str]) -> Option<ObjectsTarget> {
    let (namespace, rest) = match rest {
        // The namespaces themselves, and their own subresources.
        ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => {
            (None, rest)
        }
        ["namespaces", namespace, rest @ ..] => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
        _ => return None,
    };
    let kind = Kind::find(group, version, plural)?;
    if namespace.is_some() && !kind.namespaced
        || name.is_some() && namespace.is_none() && kind.namespaced
    {
        return None;
    }
    Some(ObjectsTarget {
        kind,
        older: kind.older.iter().copied().find(|one| *one == version),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource: subresource.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use coracle_api::kind::{CONFIG_MAP, INFERENCE_SERVICE, NAMESPACE};

    use super::*;

    fn target(kind: &'static Kind, parts: [&str; 3]) -> Option<Target> {
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(Target::Objects(ObjectsTarget {
            kind,
            older: None,
            namespace: part(parts[0]),
            name: part(parts[1]),
            subresource: part(parts[2]),
        }))
    }

    #[test]
    fn paths_name_targets() {
        let isvc = "/apis/serving.kserve.io/v1beta1";
        let cases = [
            (
                "/api/v1/namespaces".to_owned(),
                target(&NAMESPACE, ["", "", ""]),
            ),
            (
                "/api/v1/namespaces/a".to_owned(),
                target(&NAMESPACE, ["", "a", ""]),
            ),
            (
                "/api/v1/namespaces/a/status".to_owned(),
                target(&NAMESPACE, ["", "a", "status"]),
            ),
            (
                "/api/v1/namespaces/a/configmaps/b".to_owned(),
                target(&CONFIG_MAP, ["a", "b", ""]),
            ),
            (
                "/api/v1/configmaps".to_owned(),
                target(&CONFIG_MAP, ["", "", ""]),
            ),
            ("/api/v1/configmaps/b".to_owned(), None),
            (
                format!("{isvc}/inferenceservices"),
                target(&INFERENCE_SERVICE, ["", "", ""]),
            ),
            (
                format!("{isvc}/namespaces/a/inferenceservices/b/status"),
                target(&INFERENCE_SERVICE, ["a", "b", "status"]),
            ),
            (format!("{isvc}/namespaces/a/nothings"), None),
            (
                "/apis/serving.kserve.io/v1beta1/".to_owned(),
                Some(resources("serving.kserve.io", "v1beta1")),
            ),
            (
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
                Some(Target::Review("selfsubjectaccessreviews".to_owned())),
            ),
            ("/nope".to_owned(), None),
            ("/apis/%ff".to_owned(), None),
        ];
        for (path, expected) in cases {
            assert_eq!(parse(&path), expected, "{path}");
        }
    }
}
