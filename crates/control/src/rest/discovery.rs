//! What clients ask before anything else: versions, groups, kinds, schemas.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use coracle_api::schema::definitions;
use coracle_api::{KINDS, Kind, Origin};
use serde_json::{Value, json};

use super::request::ApiReply;

/// The release of Kubernetes whose API this one follows.
const VERSION: (&str, &str, &str) = ("1", "33", "v1.33.0");

/// Groups with questions but no stored objects, with the kinds of their questions.
const REVIEWS: [(&str, &str, &str); 3] = [
    (
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
    ),
    (
        "authorization.k8s.io",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
    ),
    (
        "authentication.k8s.io",
        "selfsubjectreviews",
        "SelfSubjectReview",
    ),
];

/// `/version`
pub(crate) fn version(coracle_version: &str) -> Value {
    json!({
        "major": VERSION.0,
        "minor": VERSION.1,
        "gitVersion": format!("{}+coracle-{coracle_version}", VERSION.2),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH)
    })
}

/// `/api`
pub(crate) fn core_versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": []
    })
}

/// Returns the groups with their versions, preferred first.
fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    let stored = KINDS
        .iter()
        .flat_map(|kind| kind.versions().map(|version| (kind.group, version)));
    let reviews = REVIEWS.iter().map(|(group, _, _)| (*group, "v1"));
    for (group, version) in stored.chain(reviews) {
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, versions)) if versions.contains(&version) => {}
            Some((_, versions)) => versions.push(version),
            None => groups.push((group, vec![version])),
        }
    }
    groups
}

/// `/apis`
pub(crate) fn group_list() -> Value {
    let named = groups().into_iter().filter(|(name, _)| !name.is_empty());
    let groups: Vec<Value> = named
        .map(|(name, versions)| group_object(name, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/G`
pub(crate) fn group(name: &str) -> Option<Value> {
    let (name, versions) = groups()
        .into_iter()
        .find(|(group, _)| *group == name && !name.is_empty())?;
    let mut group = group_object(name, &versions);
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Some(group)
}

fn group_object(name: &str, versions: &[&str]) -> Value {
    let version =
        |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
}

const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// `/api/v1`, `/apis/G/V`
pub(crate) fn resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.is_in(group, version)) {
        resources.push(json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": kind.access.verbs(),
            "shortNames": kind.short_names,
            "categories": kind.categories
        }));
        for subresource in kind.subresources {
            let mut listed = json!({
                "name": format!("{}/{}", kind.plural, subresource.name),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": subresource.kind,
                "verbs": subresource.verbs
            });
            if subresource.group != kind.group {
                listed["group"] = subresource.group.into();
                listed["version"] = subresource.version.into();
            }
            resources.push(listed);
        }
        if kind.has_status {
            resources.push(json!({
                "name": format!("{}/status", kind.plural),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": STATUS_VERBS
            }));
        }
    }
    if version == "v1" {
        for (_, plural, kind) in REVIEWS.iter().filter(|(name, _, _)| *name == group) {
            resources.push(json!({"name": plural, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["create"]}));
        }
    }
    let group_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    (!resources.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
    })
}

/// The content type of discovery in one answer; clients compare it to the letter.
pub(crate) const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/api` and `/apis` in one answer each.
pub(crate) fn aggregated(core: bool) -> Value {
    let chosen = groups()
        .into_iter()
        .filter(|(name, _)| name.is_empty() == core);
    let items: Vec<Value> = chosen
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| json!({"version": version, "freshness": "Current", "resources": aggregated_resources(group, version)}))
                .collect();
            let metadata = match group {
                "" => json!({}),
                group => json!({"name": group}),
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resources(group: &str, version: &str) -> Vec<Value> {
    let kinds = KINDS.iter().filter(|kind| kind.is_in(group, version));
    let mut resources: Vec<Value> = kinds
        .map(|kind| {
            let response_kind = json!({"group": kind.group, "version": version, "kind": kind.kind});
            let mut resource = json!({
                "resource": kind.plural,
                "responseKind": response_kind,
                "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": kind.singular,
                "shortNames": kind.short_names,
                "categories": kind.categories,
                "verbs": kind.access.verbs()
            });
            let status = kind.has_status.then(|| {
                json!({"subresource": "status", "responseKind": response_kind, "verbs": STATUS_VERBS})
            });
            let others = kind.subresources.iter().map(|one| {
                let kind = json!({"group": one.group, "version": one.version, "kind": one.kind});
                json!({"subresource": one.name, "responseKind": kind, "verbs": one.verbs})
            });
            let subresources: Vec<Value> = status.into_iter().chain(others).collect();
            if !subresources.is_empty() {
                resource["subresources"] = subresources.into();
            }
            resource
        })
        .collect();
    for (_, plural, kind) in REVIEWS.iter().filter(|(name, _, _)| *name == group) {
        resources.push(json!({
            "resource": plural,
            "responseKind": {"group": group, "version": "v1", "kind": kind},
            "scope": "Cluster",
            "singularResource": "",
            "verbs": ["create"]
        }));
    }
    resources
}

/// Returns `api/v1` or `apis/G/V`.
fn open_api_path(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

/// Returns the hash that stands for all schemas; another one tells clients to read them again.
fn schema_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        // FNV-1a: any change must show, nothing more.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for (group, version) in group_versions() {
            let text = open_api(group, version).unwrap_or_default().to_string();
            for byte in text.bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        format!("{hash:016X}")
    })
}

fn group_versions() -> BTreeSet<(&'static str, &'static str)> {
    KINDS
        .iter()
        .flat_map(|kind| kind.versions().map(|version| (kind.group, version)))
        .collect()
}

/// The form of OpenAPI v2 that clients of Kubernetes ask for, as its servers name it in answers.
const OPEN_API_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// A document of the version before that tells of nothing: kubectl turns to it with a kind that v3 does not have, and says that there is none once it has read it.
/// In protocol buffers: `swagger`, `info` with `title` and `version`, and `paths`.
const OPEN_API_V2_EMPTY: &[u8] = b"\x0a\x032.0\x12\x16\x0a\x07Coracle\x12\x0bunversioned\x42\x00";

/// `/openapi/v2`
pub(crate) fn open_api_before(accept: &str) -> ApiReply {
    let info = json!({"title": "Coracle", "version": "unversioned"});
    let document = json!({"swagger": "2.0", "info": info, "paths": {}});
    let mut reply = ApiReply::json(200, &document);
    if accept.contains("proto-openapi") {
        reply.content_type = OPEN_API_V2;
        reply.body = OPEN_API_V2_EMPTY.to_vec();
    }
    reply
}

/// `/openapi/v3`
pub(crate) fn open_api_index() -> Value {
    let mut paths = serde_json::Map::new();
    for (group, version) in group_versions() {
        let path = open_api_path(group, version);
        let url = format!("/openapi/v3/{path}?hash={}", schema_hash());
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// `/openapi/v3/apis/G/V`
pub(crate) fn open_api(group: &str, version: &str) -> Option<Value> {
    let mut paths = serde_json::Map::new();
    for kind in KINDS.iter().filter(|kind| kind.is_in(group, version)) {
        let base = open_api_path(group, version);
        let objects = match kind.namespaced {
            true => format!("/{base}/namespaces/{{namespace}}/{}", kind.plural),
            false => format!("/{base}/{}", kind.plural),
        };
        let operation = |action: &str, with_validation: bool| {
            operation((kind, version), action, with_validation)
        };
        paths.insert(
            objects.clone(),
            json!({"get": operation("list", false), "post": operation("post", true)}),
        );
        paths.insert(
            format!("{objects}/{{name}}"),
            json!({
                "get": operation("get", false),
                "put": operation("put", true),
                "patch": operation("patch", true),
                "delete": operation("delete", false)
            }),
        );
    }
    if paths.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Coracle", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": definitions().closure(group, version)}
    }))
}

fn operation((kind, version): (&Kind, &str), action: &str, with_validation: bool) -> Value {
    let reference = json!({"$ref": format!("#/components/schemas/{}", kind.schema)});
    let parameters: &[&str] = match with_validation {
        true => &["dryRun", "fieldManager", "fieldValidation"],
        false => &[],
    };
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
        .collect();
    json!({
        "operationId": format!("{action}{version}{}", kind.kind),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": version, "kind": kind.kind},
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}}
    })
}

/// Returns what kinds of patches a kind takes.
pub(crate) fn patch_types(kind: &Kind) -> &'static str {
    match kind.origin {
        Origin::BuiltIn => {
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
        }
        Origin::Custom => {
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_discovered_both_ways() {
        for kind in &KINDS {
            let found = |list: &Value, field: &str| {
                list.as_array()
                    .unwrap()
                    .iter()
                    .any(|resource| resource[field] == kind.plural)
            };
            let all = aggregated(kind.group.is_empty());
            let groups = all["items"].as_array().unwrap().iter();
            let versions = groups.flat_map(|group| group["versions"].as_array().unwrap());
            let in_all: Vec<&str> = versions
                .filter(|version| found(&version["resources"], "resource"))
                .filter_map(|version| version["version"].as_str())
                .collect();
            for version in kind.versions() {
                assert!(in_all.contains(&version), "{} {version}", kind.plural);
                let list = resource_list(kind.group, version).unwrap();
                assert!(found(&list["resources"], "name"), "{}", kind.plural);
            }
        }
        assert_eq!(resource_list("serving.kserve.io", "v9"), None);
        assert_eq!(group("nope"), None);
    }

    /// kubectl asks here about kinds that no document of v3 has, such as `Model` of `mlops.seldon.io`, and shows a 404 as a failure of its own.
    #[test]
    fn the_version_before_is_there_and_empty() {
        let json = open_api_before("application/json");
        let document: Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(
            (&document["swagger"], &document["paths"]),
            (&json!("2.0"), &json!({}))
        );
        let own = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        let reply = open_api_before(own);
        // A subtype with an @ is none that clients can read.
        assert_eq!(reply.content_type, own.replace('@', "."));
        let mut fields = Vec::new();
        let mut rest = reply.body.as_slice();
        while let [tag, length, bytes @ ..] = rest {
            assert_eq!(tag & 7, 2);
            let (field, others) = bytes.split_at(usize::from(*length));
            fields.push((tag >> 3, field.to_vec()));
            rest = others;
        }
        let info = b"\x0a\x07Coracle\x12\x0bunversioned".to_vec();
        assert_eq!(fields, [(1, b"2.0".to_vec()), (2, info), (8, Vec::new())]);
    }

    #[test]
    fn patches_of_every_kind_say_that_they_validate() {
        // kubectl looks for exactly this before it sends a manifest.
        let document = open_api("serving.kserve.io", "v1beta1").unwrap();
        let path =
            "/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices/{name}";
        let patch = &document["paths"][path]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"]["kind"],
            "InferenceService"
        );
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(
            parameters
                .iter()
                .any(|parameter| parameter["name"] == "fieldValidation"
                    && parameter["in"] == "query")
        );
    }
}
