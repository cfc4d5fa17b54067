//! The columns of printed lists, by kind.

use crate::kind::{Column, ColumnValue};

const fn column(name: &'static str, column_type: &'static str, value: ColumnValue) -> Column {
    Column {
        name,
        column_type,
        priority: 0,
        value,
    }
}

const fn wide(name: &'static str, value: ColumnValue) -> Column {
    Column {
        priority: 1,
        ..column(name, "string", value)
    }
}

const TRAFFIC: &[&str] = &["status", "components", "predictor", "traffic"];
const CONDITIONS: &[&str] = &["status", "conditions"];

const fn traffic(
    name: &'static str,
    column_type: &'static str,
    key: &'static str,
    equals: &'static str,
    show: &'static str,
) -> Column {
    column(
        name,
        column_type,
        ColumnValue::Item {
            list: TRAFFIC,
            key,
            equals,
            show,
        },
    )
}

/// KServe's columns of InferenceServices.
pub(crate) const INFERENCE_SERVICE_COLUMNS: &[Column] = &[
    column("URL", "string", ColumnValue::Path(&["status", "url"])),
    column(
        "Ready",
        "string",
        ColumnValue::Item {
            list: CONDITIONS,
            key: "type",
            equals: "Ready",
            show: "status",
        },
    ),
    traffic("Prev", "integer", "tag", "prev", "percent"),
    traffic("Latest", "integer", "latestRevision", "true", "percent"),
    traffic(
        "PrevRolledoutRevision",
        "string",
        "tag",
        "prev",
        "revisionName",
    ),
    traffic(
        "LatestReadyRevision",
        "string",
        "latestRevision",
        "true",
        "revisionName",
    ),
];

pub(crate) const RUNTIME_COLUMNS: &[Column] = &[
    column(
        "Disabled",
        "boolean",
        ColumnValue::Path(&["spec", "disabled"]),
    ),
    column(
        "ModelType",
        "string",
        ColumnValue::Path(&["spec", "supportedModelFormats", "0", "name"]),
    ),
    column(
        "Containers",
        "string",
        ColumnValue::Path(&["spec", "containers", "0", "name"]),
    ),
];

/// Kubernetes' columns of events, which begin with the time and have the name last.
pub(crate) const EVENT_COLUMNS: &[Column] = &[
    column(
        "Last Seen",
        "string",
        ColumnValue::Since(&["lastTimestamp"]),
    ),
    column("Type", "string", ColumnValue::Path(&["type"])),
    column("Reason", "string", ColumnValue::Path(&["reason"])),
    column("Object", "string", ColumnValue::Involved),
    wide(
        "Subobject",
        ColumnValue::Path(&["involvedObject", "fieldPath"]),
    ),
    wide("Source", ColumnValue::Path(&["source", "component"])),
    column("Message", "string", ColumnValue::Path(&["message"])),
    wide("First Seen", ColumnValue::Since(&["firstTimestamp"])),
    wide("Count", ColumnValue::Path(&["count"])),
    wide("Name", ColumnValue::Path(&["metadata", "name"])),
];

pub(crate) const ROLLOUT_COLUMNS: &[Column] = &[
    column(
        "Service",
        "string",
        ColumnValue::Path(&["spec", "inferenceService"]),
    ),
    column("Phase", "string", ColumnValue::Path(&["status", "phase"])),
    column("Step", "integer", ColumnValue::Path(&["status", "step"])),
    column(
        "Percent",
        "integer",
        ColumnValue::Path(&["status", "percent"]),
    ),
    column(
        "Canary",
        "string",
        ColumnValue::Path(&["status", "canaryRevision"]),
    ),
    wide("Message", ColumnValue::Path(&["status", "message"])),
];

pub(crate) const SELDON_COLUMNS: &[Column] = &[
    column("State", "string", ColumnValue::Path(&["status", "state"])),
    column(
        "URL",
        "string",
        ColumnValue::Path(&["status", "address", "url"]),
    ),
    wide("Description", ColumnValue::Path(&["status", "description"])),
];

pub(crate) const EXPERIMENT_COLUMNS: &[Column] = &[
    column(
        "Service",
        "string",
        ColumnValue::Path(&["spec", "inferenceService"]),
    ),
    column("Phase", "string", ColumnValue::Path(&["status", "phase"])),
    column(
        "Verdict",
        "string",
        ColumnValue::Path(&["status", "verdict"]),
    ),
    column("Winner", "string", ColumnValue::Path(&["status", "winner"])),
    wide("Message", ColumnValue::Path(&["status", "message"])),
];

pub(crate) const SELDON_EXPERIMENT_COLUMNS: &[Column] = &[
    column("Default", "string", ColumnValue::Path(&["spec", "default"])),
    column(
        "Mirror",
        "string",
        ColumnValue::Path(&["spec", "mirror", "name"]),
    ),
    column(
        "Experiment Ready",
        "string",
        ColumnValue::Item {
            list: &["status", "conditions"],
            key: "type",
            equals: "ExperimentReady",
            show: "status",
        },
    ),
];

pub(crate) const REVISION_COLUMNS: &[Column] = &[
    column(
        "Config Name",
        "string",
        ColumnValue::Path(&["metadata", "labels", "serving.knative.dev/configuration"]),
    ),
    column(
        "Generation",
        "string",
        ColumnValue::Path(&[
            "metadata",
            "labels",
            "serving.knative.dev/configurationGeneration",
        ]),
    ),
    column(
        "Ready",
        "string",
        ColumnValue::Item {
            list: CONDITIONS,
            key: "type",
            equals: "Ready",
            show: "status",
        },
    ),
    column(
        "Reason",
        "string",
        ColumnValue::Item {
            list: CONDITIONS,
            key: "type",
            equals: "Ready",
            show: "reason",
        },
    ),
    column(
        "Actual Replicas",
        "integer",
        ColumnValue::Path(&["status", "actualReplicas"]),
    ),
    column(
        "Desired Replicas",
        "integer",
        ColumnValue::Path(&["status", "desiredReplicas"]),
    ),
];

/// Kubernetes' columns of pods.
pub(crate) const POD_COLUMNS: &[Column] = &[
    column("Ready", "string", ColumnValue::PodReady),
    column("Status", "string", ColumnValue::PodStatus),
    column("Restarts", "string", ColumnValue::PodRestarts),
];

/// Kubernetes' columns of pods, after the age.
pub(crate) const POD_LAST_COLUMNS: &[Column] = &[
    wide("IP", ColumnValue::Path(&["status", "podIP"])),
    wide("Node", ColumnValue::Path(&["spec", "nodeName"])),
    wide(
        "Nominated Node",
        ColumnValue::Path(&["status", "nominatedNodeName"]),
    ),
    wide(
        "Readiness Gates",
        ColumnValue::Path(&["spec", "readinessGates"]),
    ),
];

/// Kubernetes' columns of autoscalers.
pub(crate) const AUTOSCALER_COLUMNS: &[Column] = &[
    column("Reference", "string", ColumnValue::ScaleTarget),
    column("Targets", "string", ColumnValue::ScaleMetrics),
    column(
        "MinPods",
        "string",
        ColumnValue::Path(&["spec", "minReplicas"]),
    ),
    column(
        "MaxPods",
        "string",
        ColumnValue::Path(&["spec", "maxReplicas"]),
    ),
    column(
        "Replicas",
        "string",
        ColumnValue::Path(&["status", "currentReplicas"]),
    ),
];

/// What a binding gives to whom.
pub(crate) const BINDING_COLUMNS: &[Column] = &[column("Role", "string", ColumnValue::RoleRef)];

/// The namespace's phase.
pub(crate) const NAMESPACE_COLUMNS: &[Column] = &[column(
    "Status",
    "string",
    ColumnValue::Path(&["status", "phase"]),
)];

/// The type and size of a secret.
pub(crate) const SECRET_COLUMNS: &[Column] = &[
    column("Type", "string", ColumnValue::Path(&["type"])),
    column("Data", "string", ColumnValue::Count(&["data"])),
];

/// The size of a config map.
pub(crate) const CONFIG_MAP_COLUMNS: &[Column] =
    &[column("Data", "string", ColumnValue::Count(&["data"]))];

/// The number of an account's secrets.
pub(crate) const SERVICE_ACCOUNT_COLUMNS: &[Column] = &[column(
    "Secrets",
    "string",
    ColumnValue::Count(&["secrets"]),
)];
