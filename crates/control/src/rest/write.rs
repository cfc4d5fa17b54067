//! Writing: create, replace, patch, delete.

use std::sync::Arc;

use coracle_access::User;
use coracle_api::{Access, Kind, Origin, kind};
use coracle_patch::{Conflict, Manager, Operation, PatchErrorKind};
use serde_json::{Value, json};

use super::admission;
use super::body::{self, essence};
use super::discovery::patch_types;
use super::path::ObjectsTarget;
use super::read::{selector, shaped};
use super::request::{ApiReply, ApiRequest};
use super::topology::Lists;
use super::{Api, timestamp};
use crate::failure::Failure;
use crate::object;
use crate::store::{Key, StoreError, Stored};

/// How often a patch is tried again when others write at the same time.
const ATTEMPTS_MAX: usize = 8;

/// What writing came to.
struct Written {
    object: Value,
    status: u16,
    warnings: Vec<String>,
}

impl Api {
    pub(crate) fn create(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
    ) -> Result<ApiReply, Failure> {
        check_access(target.kind)?;
        let mut object = body::read(request)?
            .ok_or_else(|| Failure::bad_request("the body is empty; send the object"))?;
        let kind = target.kind;
        admission::check_identity(kind, target.namespace.as_deref(), &mut object)?;
        if !object::meta_str(&object, "resourceVersion").is_empty() {
            return Err(Failure::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let prefix = object::meta_str(&object, "generateName").to_owned();
        if object::name(&object).is_empty() && !prefix.is_empty() {
            let name = format!("{prefix}{}", random_suffix());
            object::metadata_mut(&mut object).insert("name".to_owned(), name.into());
        }
        let written = self.create_object(request, kind, object, None)?;
        self.reply(request, target, written)
    }

    /// Admits and stores a new object; `applied` is the manager if it came by server-side apply.
    fn create_object(
        &self,
        request: &ApiRequest,
        kind: &Kind,
        mut object: Value,
        applied: Option<()>,
    ) -> Result<Written, Failure> {
        let managed = object::metadata_mut(&mut object).remove("managedFields");
        let mut warnings = admission::check_schema(request, kind, &mut object)?;
        admission::check_name(kind, &object)?;
        self.check_namespace(kind, &object)?;
        if kind.has_status
            && kind.origin == Origin::Custom
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        admission::set_defaults(kind, &mut object);
        admission::check_rules(&self.store, kind, None, &object)?;
        warnings.extend(admission::warning(&self.store, kind, &object));
        self.check_grant(request, kind, &object)?;
        let metadata = object::metadata_mut(&mut object);
        metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert("creationTimestamp".to_owned(), timestamp(self).into());
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "generation",
        ] {
            metadata.remove(field);
        }
        if kind.origin == Origin::Custom {
            metadata.insert("generation".to_owned(), json!(1));
        }
        match (applied, managed) {
            (Some(()), Some(managed)) => drop(metadata.insert("managedFields".to_owned(), managed)),
            _ => self.record(request, kind, "", None, &mut object),
        }
        let key = Key::new(kind, object::namespace(&object), object::name(&object));
        if request.is_dry_run()? {
            if self.store.get(&key).is_some() {
                return Err(Failure::already_exists(kind, key.name()));
            }
        } else {
            object = self
                .store
                .create(key.clone(), object)
                .map_err(|error| store_failure(kind, key.name(), error))?
                .object
                .clone();
            if *kind == kind::NAMESPACE {
                self.fill_namespace(key.name());
            }
        }
        Ok(Written {
            object,
            status: 201,
            warnings,
        })
    }

    fn check_namespace(&self, kind: &Kind, object: &Value) -> Result<(), Failure> {
        if !kind.namespaced {
            return Ok(());
        }
        let name = object::namespace(object);
        let namespace = self
            .store
            .get(&Key::new(&kind::NAMESPACE, "", name))
            .ok_or_else(|| Failure::not_found(&kind::NAMESPACE, name))?;
        if object::is_terminating(&namespace.object) {
            return Err(Failure::forbidden(format!(
                "{} \"{}\" is forbidden: unable to create new content in namespace {name} because it is being terminated",
                kind.resource(),
                object::name(object)
            )));
        }
        Ok(())
    }

    /// Gives a new namespace what every namespace has.
    fn fill_namespace(&self, namespace: &str) {
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": "default",
                "namespace": namespace,
                "uid": uuid::Uuid::new_v4().to_string(),
                "creationTimestamp": timestamp(self)
            }
        });
        // One that is there already is as good.
        drop(self.store.create(
            Key::new(&kind::SERVICE_ACCOUNT, namespace, "default"),
            account,
        ));
    }

    /// Makes the namespace `name` if there is none.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn ensure_namespace(&self, name: &str) -> Result<(), Failure> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.ensure(&kind::NAMESPACE, object)
    }

    /// Makes an object as coracle itself, if it is not there.
    pub(crate) fn ensure(&self, kind: &Kind, object: Value) -> Result<(), Failure> {
        let request = ApiRequest {
            user: User::owner(),
            user_agent: "coracle".to_owned(),
            ..ApiRequest::default()
        };
        match self.create_object(&request, kind, object, None) {
            Err(failure) if failure.reason != "AlreadyExists" => Err(failure),
            _ => Ok(()),
        }
    }

    pub(crate) fn replace(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        name: &str,
    ) -> Result<ApiReply, Failure> {
        check_access(target.kind)?;
        let subresource = check_subresource(target)?;
        let mut object = body::read(request)?
            .ok_or_else(|| Failure::bad_request("the body is empty; send the object"))?;
        admission::check_identity(target.kind, target.namespace.as_deref(), &mut object)?;
        if object::name(&object) != name {
            return Err(Failure::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                object::name(&object)
            )));
        }
        let live = self.live(target, name)?;
        if target.kind.origin == Origin::Custom
            && object::meta_str(&object, "resourceVersion").is_empty()
        {
            let cause = coracle_api::structural::Cause::invalid(
                "metadata.resourceVersion",
                &json!(0),
                "must be specified for an update",
            );
            return Err(Failure::invalid(target.kind, name, &[cause]));
        }
        let written = self.update(request, target.kind, subresource, &live, object, None)?;
        self.reply(request, target, written)
    }

    pub(crate) fn patch(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        name: &str,
    ) -> Result<ApiReply, Failure> {
        check_access(target.kind)?;
        let subresource = check_subresource(target)?;
        let patch_type = essence(&request.content_type).to_owned();
        let is_known = match patch_type.as_str() {
            "application/strategic-merge-patch+json" => target.kind.origin == Origin::BuiltIn,
            "application/json-patch+json"
            | "application/merge-patch+json"
            | "application/apply-patch+yaml" => true,
            _ => false,
        };
        if !is_known {
            return Err(Failure::unsupported_media_type(patch_types(target.kind)));
        }
        let patch = body::read(request)?
            .ok_or_else(|| Failure::bad_request("the body is empty; send the patch"))?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let result = match patch_type.as_str() {
                "application/apply-patch+yaml" => {
                    self.apply(request, target, subresource, name, patch.clone())
                }
                patch_type => {
                    self.patch_once(request, target, subresource, name, (patch_type, &patch))
                }
            };
            match result {
                // Others wrote in between; what they wrote is looked at anew, unless the client named a version.
                Err(failure)
                    if failure.reason == "Conflict"
                        && failure.message.contains("has been modified")
                        && attempts < ATTEMPTS_MAX
                        && patch.pointer("/metadata/resourceVersion").is_none() => {}
                result => return self.reply(request, target, result?),
            }
        }
    }

    fn patch_once(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        subresource: &str,
        name: &str,
        (patch_type, patch): (&str, &Value),
    ) -> Result<Written, Failure> {
        let live = self.live(target, name)?;
        admission::check_patch(target.kind, &live.object, patch)?;
        let mut object = live.object.clone();
        let patched = match patch_type {
            "application/json-patch+json" => coracle_patch::json_patch(&mut object, patch),
            "application/strategic-merge-patch+json" => {
                coracle_patch::strategic_merge(&mut object, patch, &Lists::merge_key)
            }
            _ => {
                coracle_patch::merge_patch(&mut object, patch);
                Ok(())
            }
        };
        patched.map_err(|error| match error.kind() {
            PatchErrorKind::Malformed => Failure::bad_request(error.to_string()),
            _ => Failure::unfit_patch(&error.to_string()),
        })?;
        admission::check_identity(target.kind, target.namespace.as_deref(), &mut object)?;
        if object::name(&object) != name {
            let cause = coracle_api::structural::Cause::invalid(
                "metadata.name",
                &json!(object::name(&object)),
                "field is immutable",
            );
            return Err(Failure::invalid(target.kind, name, &[cause]));
        }
        self.update(request, target.kind, subresource, &live, object, None)
    }

    fn apply(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        subresource: &str,
        name: &str,
        mut config: Value,
    ) -> Result<Written, Failure> {
        let kind = target.kind;
        if request
            .parameter("fieldManager")
            .is_none_or(|name| name.is_empty())
        {
            let cause = coracle_api::structural::Cause::required(
                "fieldManager",
                "is required for apply patch",
            );
            return Err(Failure::invalid(kind, name, &[cause]));
        }
        admission::check_identity(kind, target.namespace.as_deref(), &mut config)?;
        check_config(name, &mut config)?;
        let mut warnings = admission::check_schema(request, kind, &mut config)?;
        let live = self.store.get(&Key::new(
            kind,
            target.namespace.as_deref().unwrap_or_default(),
            name,
        ));
        let named = object::meta_str(&config, "resourceVersion");
        if !named.is_empty()
            && live
                .as_ref()
                .is_none_or(|live| live.version.to_string() != named)
        {
            return Err(Failure::modified(kind, name));
        }
        let (manager, api_version, time) =
            (request.field_manager(), kind.api_version(), timestamp(self));
        let manager = Manager {
            name: &manager,
            operation: Operation::Apply,
            api_version: &api_version,
            subresource,
            time: &time,
        };
        let live_object = live.as_deref().map(|live| &live.object);
        let force = request.flag("force");
        let object = coracle_patch::apply(live_object, &config, &manager, force, &Lists)
            .map_err(|conflicts| apply_conflict(&conflicts))?;
        let mut written = match &live {
            Some(live) => self.update(request, kind, subresource, live, object, Some(()))?,
            None if subresource.is_empty() => {
                self.create_object(request, kind, object, Some(()))?
            }
            None => return Err(Failure::not_found(kind, name)),
        };
        written.warnings.append(&mut warnings);
        Ok(written)
    }

    pub(crate) fn live(&self, target: &ObjectsTarget, name: &str) -> Result<Arc<Stored>, Failure> {
        let key = Key::new(
            target.kind,
            target.namespace.as_deref().unwrap_or_default(),
            name,
        );
        self.store
            .get(&key)
            .ok_or_else(|| Failure::not_found(target.kind, name))
    }

    /// Admits and stores a service whose number of replicas was changed through its scale.
    pub(crate) fn replace_scaled(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        live: &Stored,
        service: Value,
    ) -> Result<Arc<Stored>, Failure> {
        let (kind, name) = (target.kind, live.key.name());
        self.update(request, kind, "scale", live, service, None)?;
        self.live(target, name)
    }

    /// Admits and stores what is to replace `live`; `applied` if managed fields are up to date already.
    fn update(
        &self,
        request: &ApiRequest,
        kind: &Kind,
        subresource: &str,
        live: &Stored,
        mut object: Value,
        applied: Option<()>,
    ) -> Result<Written, Failure> {
        let name = live.key.name();
        let named = object::meta_str(&object, "resourceVersion");
        if !named.is_empty() && named != live.version.to_string() {
            return Err(Failure::modified(kind, name));
        }
        let uid = object::meta_str(&object, "uid");
        if !uid.is_empty() && uid != object::meta_str(&live.object, "uid") {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                object::meta_str(&live.object, "uid")
            );
            return Err(Failure::conflict(kind, name, &why));
        }
        let mut warnings = Vec::new();
        if subresource == "status" {
            let status = object.get("status").cloned();
            let managed = object::metadata_mut(&mut object).remove("managedFields");
            object = live.object.clone();
            object["status"] = status.unwrap_or_else(|| json!({}));
            if let Some(managed) = managed {
                object["metadata"]["managedFields"] = managed;
            }
        } else {
            warnings = admission::check_schema(request, kind, &mut object)?;
            if kind.has_status
                && let Some(fields) = object.as_object_mut()
            {
                fields.remove("status");
                if let Some(status) = live.object.get("status") {
                    fields.insert("status".to_owned(), status.clone());
                }
            }
            admission::set_defaults(kind, &mut object);
            admission::check_rules(&self.store, kind, Some(&live.object), &object)?;
            self.check_grant(request, kind, &object)?;
        }
        keep_system_metadata(&live.object, &mut object);
        if object::is_terminating(&live.object)
            && object::finalizers(&object)
                .any(|one| object::finalizers(&live.object).all(|old| old != one))
        {
            let cause = coracle_api::structural::Cause::forbidden(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted",
            );
            return Err(Failure::invalid(kind, name, &[cause]));
        }
        if kind.origin == Origin::Custom && without_meta(&live.object) != without_meta(&object) {
            object["metadata"]["generation"] = json!(object::generation(&live.object) + 1);
        }
        if applied.is_none() {
            self.record(request, kind, subresource, Some(&live.object), &mut object);
        }
        object["metadata"]["resourceVersion"] = live.version.to_string().into();
        let unchanged = object == live.object;
        let finished =
            object::is_terminating(&object) && object::finalizers(&object).next().is_none();
        if !unchanged && !request.is_dry_run()? {
            let stored = self.store.update(&live.key, live.version, object);
            let stored = stored.map_err(|error| store_failure(kind, name, error))?;
            object = stored.object.clone();
            if finished && *kind != kind::NAMESPACE {
                self.remove(kind, &stored)?;
            }
        }
        Ok(Written {
            object,
            status: 200,
            warnings,
        })
    }

    /// Notes in the object who wrote what.
    fn record(
        &self,
        request: &ApiRequest,
        kind: &Kind,
        subresource: &str,
        live: Option<&Value>,
        object: &mut Value,
    ) {
        let (manager, api_version, time) =
            (request.field_manager(), kind.api_version(), timestamp(self));
        let manager = Manager {
            name: &manager,
            operation: Operation::Update,
            api_version: &api_version,
            subresource,
            time: &time,
        };
        coracle_patch::record_update(live, object, &manager, &Lists);
    }

    pub(crate) fn delete(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        name: &str,
    ) -> Result<ApiReply, Failure> {
        check_access(target.kind)?;
        let options = body::read(request)?.unwrap_or_default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let live = self.live(target, name)?;
            match self.delete_object(request, target.kind, &live, &options) {
                Err(failure)
                    if failure.message.contains("has been modified") && attempts < ATTEMPTS_MAX => {
                }
                result => return result.map(|value| ApiReply::json(200, &value)),
            }
        }
    }

    pub(crate) fn delete_collection(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
    ) -> Result<ApiReply, Failure> {
        check_access(target.kind)?;
        let options = body::read(request)?.unwrap_or_default();
        let selector = selector(request, target)?;
        let (objects, version) = self.store.list(target.kind, target.namespace.as_deref());
        let mut items = Vec::new();
        for stored in objects
            .iter()
            .filter(|stored| selector.matches(&stored.object))
        {
            match self.delete_object(request, target.kind, stored, &options) {
                Err(failure) if failure.reason == "NotFound" => {}
                result => drop(result?),
            }
            items.push(stored.object.clone());
        }
        let list = json!({
            "kind": format!("{}List", target.kind.kind),
            "apiVersion": target.kind.api_version(),
            "metadata": {"resourceVersion": version.to_string()},
            "items": items
        });
        Ok(ApiReply::json(200, &list))
    }

    fn delete_object(
        &self,
        request: &ApiRequest,
        kind: &Kind,
        live: &Arc<Stored>,
        options: &Value,
    ) -> Result<Value, Failure> {
        let name = live.key.name();
        let uid = object::meta_str(&live.object, "uid");
        for (pointer, actual) in [
            ("/preconditions/uid", uid),
            (
                "/preconditions/resourceVersion",
                object::meta_str(&live.object, "resourceVersion"),
            ),
        ] {
            if let Some(expected) = options.pointer(pointer).and_then(Value::as_str)
                && expected != actual
            {
                return Err(Failure::conflict(
                    kind,
                    name,
                    &format!(
                        "Precondition failed: {pointer} is {expected}, the object has {actual}"
                    ),
                ));
            }
        }
        let dry_run = request.is_dry_run()?
            || options
                .get("dryRun")
                .and_then(Value::as_array)
                .is_some_and(|list| !list.is_empty());
        let waits = *kind == kind::NAMESPACE || object::finalizers(&live.object).next().is_some();
        if waits {
            if object::is_terminating(&live.object) || dry_run {
                return Ok(live.object.clone());
            }
            let mut object = live.object.clone();
            let metadata = object::metadata_mut(&mut object);
            metadata.insert("deletionTimestamp".to_owned(), timestamp(self).into());
            metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(0));
            if kind.origin == Origin::Custom {
                metadata.insert(
                    "generation".to_owned(),
                    json!(object::generation(&live.object) + 1),
                );
            }
            if *kind == kind::NAMESPACE {
                object["status"]["phase"] = json!("Terminating");
            }
            let stored = self.store.update(&live.key, live.version, object);
            let stored = stored.map_err(|error| store_failure(kind, name, error))?;
            if *kind == kind::NAMESPACE {
                self.empty_namespace(request, name)?;
            }
            return Ok(stored.object.clone());
        }
        if !dry_run {
            self.remove(kind, live)?;
        }
        Ok(json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {"name": name, "group": kind.group, "kind": kind.plural, "uid": uid}
        }))
    }

    /// Removes an object for good, then what it owned, then its namespace if that was waiting for it. Whatever cannot be removed, the rest is; the first
    /// failure is returned.
    fn remove(&self, kind: &Kind, live: &Stored) -> Result<(), Failure> {
        let removed = self.store.delete_whatever(&live.key);
        removed.map_err(|error| store_failure(kind, live.key.name(), error))?;
        let request = ApiRequest::default();
        let mut removed = Ok(());
        for owned in self.store.owned_by(object::meta_str(&live.object, "uid")) {
            let Some(kind) = owned.key.kind() else {
                continue;
            };
            let mut deleted = self.delete_object(&request, kind, &owned, &Value::Null);
            // Others may write it meanwhile.
            while let Err(failure) = &deleted
                && failure.reason == "Conflict"
                && let Some(live) = self.store.get(&owned.key)
            {
                deleted = self.delete_object(&request, kind, &live, &Value::Null);
            }
            if let Err(failure) = deleted
                // It is gone already.
                && !matches!(failure.reason, "NotFound" | "Conflict")
            {
                removed = removed.and(Err(failure));
            }
        }
        if kind.namespaced {
            self.finish_namespace(live.key.namespace());
        }
        removed
    }

    fn empty_namespace(&self, request: &ApiRequest, name: &str) -> Result<(), Failure> {
        for stored in self.store.in_namespace(name) {
            if let Some(kind) = stored.key.kind() {
                match self.delete_object(request, kind, &stored, &Value::Null) {
                    Err(failure) if failure.reason != "NotFound" => return Err(failure),
                    _ => {}
                }
            }
        }
        self.finish_namespace(name);
        Ok(())
    }

    fn finish_namespace(&self, name: &str) {
        let key = Key::new(&kind::NAMESPACE, "", name);
        if let Some(namespace) = self.store.get(&key)
            && object::is_terminating(&namespace.object)
            && self.store.in_namespace(name).is_empty()
        {
            // Another writer may have finished it.
            drop(self.store.delete(&key, namespace.version));
        }
    }

    fn reply(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        written: Written,
    ) -> Result<ApiReply, Failure> {
        let mut reply = shaped(self, request, target, written.status, &written.object)?;
        reply.warnings = written.warnings;
        Ok(reply)
    }
}

fn apply_conflict(conflicts: &[Conflict]) -> Failure {
    let causes = conflicts.iter().map(|conflict| {
        let message = format!("conflict with {}", conflict.manager);
        (message, conflict.field.clone())
    });
    Failure::apply_conflict(coracle_patch::conflict_message(conflicts), causes.collect())
}

/// Checks what only an apply's metadata must not have.
fn check_config(name: &str, config: &mut Value) -> Result<(), Failure> {
    let metadata = object::metadata_mut(config);
    let managed = metadata.get("managedFields").and_then(Value::as_array);
    if managed.is_some_and(|list| !list.is_empty()) {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    metadata.insert("name".to_owned(), name.into());
    Ok(())
}

fn check_access(kind: &Kind) -> Result<(), Failure> {
    match kind.access {
        Access::All => Ok(()),
        Access::ReadOnly | Access::Measured => Err(Failure::method_not_allowed(format!(
            "{} are made by the server; they can be read only",
            kind.resource()
        ))),
    }
}

fn check_subresource(target: &ObjectsTarget) -> Result<&'static str, Failure> {
    match target.subresource.as_deref() {
        None => Ok(""),
        Some("status") if target.kind.has_status => Ok("status"),
        Some(_other) => Err(Failure::no_resource()),
    }
}

/// What clients cannot change stays.
fn keep_system_metadata(live: &Value, object: &mut Value) {
    let live = live.get("metadata").cloned().unwrap_or_default();
    let metadata = object::metadata_mut(object);
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "namespace",
        "name",
        "generateName",
    ] {
        match live.get(field) {
            Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    metadata.remove("selfLink");
}

/// Returns what generations count: everything but metadata and status.
fn without_meta(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| *name != "metadata" && *name != "status")
        .collect()
}

pub(crate) fn store_failure(kind: &Kind, name: &str, error: StoreError) -> Failure {
    match error {
        StoreError::AlreadyExists => Failure::already_exists(kind, name),
        StoreError::NotFound => Failure::not_found(kind, name),
        StoreError::Conflict => Failure::modified(kind, name),
        error => Failure::internal(error.to_string()),
    }
}

/// Returns five characters for a generated name, of Kubernetes' alphabet without vowels.
fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes = uuid::Uuid::new_v4().into_bytes();
    let characters = bytes
        .iter()
        .take(5)
        .map(|&byte| ALPHABET.get(usize::from(byte) % ALPHABET.len()));
    characters.flatten().map(|&byte| char::from(byte)).collect()
}
