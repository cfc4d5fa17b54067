//! Watching: what is there, then every change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::path::ObjectsTarget;
use super::read;
use super::request::{ApiRequest, Shape};
use super::table;
use super::versions;
use super::{Api, now};
use crate::failure::Failure;
use crate::selector::Selector;
use crate::store::{Change, ChangeKind, Stored};

/// How long a watch lasts if the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1_800);
/// The longest a watch lasts.
const TIMEOUT_MAX: Duration = Duration::from_secs(7_200);
/// How often a quiet watch that takes bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// A watch that goes on until its time is up.
#[derive(Debug)]
pub struct Watch {
    api: Arc<Api>,
    target: ObjectsTarget,
    selector: Selector,
    shape: Shape,
    /// Changes up to this version have been sent.
    version: u64,
    bookmarks: bool,
    /// Whether the next table is the first.
    first: bool,
    pending: VecDeque<Bytes>,
    changed: watch::Receiver<u64>,
    deadline: tokio::time::Instant,
    ended: bool,
}

impl Watch {
    pub(crate) fn start(
        api: &Arc<Api>,
        request: &ApiRequest,
        target: &ObjectsTarget,
    ) -> Result<Self, Failure> {
        let selector = read::selector(request, target)?;
        let wanted = api.check_version(request)?.filter(|&version| version > 0);
        let initial = request.flag("sendInitialEvents");
        if initial && request.parameter("resourceVersionMatch").as_deref() != Some("NotOlderThan") {
            return Err(Failure::unprocessable(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        let timeout = request
            .number("timeoutSeconds")?
            .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let mut watch = Self {
            api: Arc::clone(api),
            target: target.clone(),
            selector,
            shape: request.shape()?,
            version: 0,
            bookmarks: request.flag("allowWatchBookmarks"),
            first: true,
            pending: VecDeque::new(),
            changed: api.store.subscribe(),
            deadline: tokio::time::Instant::now() + timeout.min(TIMEOUT_MAX),
            ended: false,
        };
        match wanted {
            Some(version) if !initial => watch.version = version,
            _ => watch.send_existing(initial),
        }
        Ok(watch)
    }

    fn send_existing(&mut self, with_end: bool) {
        let (objects, version) = self
            .api
            .store
            .list(self.target.kind, self.target.namespace.as_deref());
        for stored in objects {
            if self.selector.matches(&stored.object) {
                self.send("ADDED", &stored.object);
            }
        }
        self.version = version;
        if with_end && self.bookmarks {
            let annotations = json!({"k8s.io/initial-events-end": "true"});
            self.send_bookmark(Some(annotations));
        }
    }

    fn send(&mut self, event: &str, object: &Value) {
        let object = &*versions::shown(&self.target, object);
        let shown = match self.shape {
            Shape::Table => {
                let with_columns = std::mem::replace(&mut self.first, false);
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table::render(
                    self.target.kind,
                    std::iter::once(object),
                    &metadata,
                    now(&self.api),
                    with_columns,
                )
            }
            Shape::Metadata => table::metadata_only(object),
            Shape::Object | Shape::Discovery => {
                self.push(event, &object.to_string());
                return;
            }
        };
        self.push(event, &shown.to_string());
    }

    fn push(&mut self, event: &str, object: &str) {
        let line = format!("{{\"type\":\"{event}\",\"object\":{object}}}\n");
        self.pending.push_back(Bytes::from(line));
    }

    fn send_bookmark(&mut self, annotations: Option<Value>) {
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        let (kind, api_version) = match self.shape {
            Shape::Metadata => (
                "PartialObjectMetadata".to_owned(),
                "meta.k8s.io/v1".to_owned(),
            ),
            _ => (
                self.target.kind.kind.to_owned(),
                versions::api_version(&self.target),
            ),
        };
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        self.push("BOOKMARK", &object.to_string());
    }

    /// Takes over the changes since the last time.
    fn catch_up(&mut self) {
        let Ok(changes) = self.api.store.changes_after(self.version) else {
            let status = Failure::expired().to_json().to_string();
            self.push("ERROR", &status);
            self.ended = true;
            return;
        };
        for change in changes {
            self.version = change.stored.version;
            if self.concerns(&change.stored) {
                self.send_change(&change);
            }
        }
    }

    fn concerns(&self, stored: &Stored) -> bool {
        stored.key.is_of(self.target.kind)
            && self
                .target
                .namespace
                .as_deref()
                .is_none_or(|namespace| stored.key.namespace() == namespace)
    }

    fn send_change(&mut self, change: &Change) {
        let matched = change
            .previous
            .as_ref()
            .is_some_and(|previous| self.selector.matches(&previous.object));
        let matches = self.selector.matches(&change.stored.object);
        match (change.kind, matched, matches) {
            (ChangeKind::Deleted, true, _) => self.send("DELETED", &change.stored.object),
            (ChangeKind::Deleted, false, _) | (_, false, false) => {}
            (ChangeKind::Added, ..) | (ChangeKind::Modified, false, true) => {
                self.send("ADDED", &change.stored.object)
            }
            (ChangeKind::Modified, true, true) => self.send("MODIFIED", &change.stored.object),
            // It stopped matching: gone, as it was, as of now.
            (ChangeKind::Modified, true, false) => {
                if let Some(previous) = &change.previous {
                    let mut object = previous.object.clone();
                    object["metadata"]["resourceVersion"] =
                        change.stored.version.to_string().into();
                    self.send("DELETED", &object);
                }
            }
        }
    }

    /// Returns the next events, each with its line break; `None` when the watch is over.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            self.changed.mark_unchanged();
            self.catch_up();
            if !self.pending.is_empty() || self.ended {
                continue;
            }
            let bookmark_at = tokio::time::Instant::now() + BOOKMARK_EVERY;
            tokio::select! {
                changed = self.changed.changed() => self.ended = changed.is_err(),
                () = tokio::time::sleep_until(self.deadline) => self.ended = true,
                () = tokio::time::sleep_until(bookmark_at), if self.bookmarks => self.send_bookmark(None),
            }
        }
    }
}
