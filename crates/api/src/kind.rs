//! The kinds of objects: their names, where they live, how lists of them are printed.

/// A kind of object in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The kind, such as `InferenceService`.
    pub kind: &'static str,
    /// The plural, which is the resource's name in paths.
    pub plural: &'static str,
    /// The singular.
    pub singular: &'static str,
    /// Short names for the command line.
    pub short_names: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether status is written on its own.
    pub has_status: bool,
    /// The name of the schema among the definitions.
    pub schema: &'static str,
    /// Where the kind comes from.
    pub origin: Origin,
    /// What clients may do.
    pub access: Access,
    /// The columns of printed lists after the name, the age excepted, which is always the last.
    pub columns: &'static [Column],
}

/// Where a kind comes from, which decides a few manners of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Kubernetes' own: strategic merge patches work, unknown selectors are known.
    BuiltIn,
    /// A custom resource: validated by its schema, no strategic merge patches.
    Custom,
}

/// What clients may do with a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    All,
    /// Reading; the objects show what the server does.
    ReadOnly,
}

/// A column of printed lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// `string`, `integer` or `date`.
    pub column_type: &'static str,
    /// 0, or 1 for columns of wide lists only.
    pub priority: u8,
    /// Where the value is.
    pub value: ColumnValue,
}

/// Where a column's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnValue {
    /// At a path of fields.
    Path(&'static [&'static str]),
    /// The field of the first item of a list whose other field has the given text.
    Item {
        /// The list.
        list: &'static [&'static str],
        /// The field to look at.
        key: &'static str,
        /// The value it must have, as text.
        equals: &'static str,
        /// The field to show.
        show: &'static str,
    },
    /// The number of entries of the map or list at a path.
    Count(&'static [&'static str]),
    /// The time since the time at a path.
    Since(&'static [&'static str]),
}

const fn column(name: &'static str, column_type: &'static str, value: ColumnValue) -> Column {
    Column {
        name,
        column_type,
        priority: 0,
        value,
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
const INFERENCE_SERVICE_COLUMNS: &[Column] = &[
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

const RUNTIME_COLUMNS: &[Column] = &[
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

const EVENT_COLUMNS: &[Column] = &[
    column("Type", "string", ColumnValue::Path(&["type"])),
    column("Reason", "string", ColumnValue::Path(&["reason"])),
    column(
        "Kind",
        "string",
        ColumnValue::Path(&["involvedObject", "kind"]),
    ),
    column(
        "Object",
        "string",
        ColumnValue::Path(&["involvedObject", "name"]),
    ),
    column("Message", "string", ColumnValue::Path(&["message"])),
];

const REVISION_COLUMNS: &[Column] = &[
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

const BASE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    namespaced: true,
    has_status: false,
    schema: "",
    origin: Origin::BuiltIn,
    access: Access::All,
    columns: &[],
};

/// InferenceService.
pub const INFERENCE_SERVICE: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1beta1",
    kind: "InferenceService",
    plural: "inferenceservices",
    singular: "inferenceservice",
    short_names: &["isvc"],
    has_status: true,
    schema: "io.kserve.serving.v1beta1.InferenceService",
    origin: Origin::Custom,
    columns: INFERENCE_SERVICE_COLUMNS,
    ..BASE
};

/// ServingRuntime.
pub const SERVING_RUNTIME: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha1",
    kind: "ServingRuntime",
    plural: "servingruntimes",
    singular: "servingruntime",
    has_status: true,
    schema: "io.kserve.serving.v1alpha1.ServingRuntime",
    origin: Origin::Custom,
    columns: RUNTIME_COLUMNS,
    ..BASE
};

/// ClusterServingRuntime.
pub const CLUSTER_SERVING_RUNTIME: Kind = Kind {
    kind: "ClusterServingRuntime",
    plural: "clusterservingruntimes",
    singular: "clusterservingruntime",
    namespaced: false,
    schema: "io.kserve.serving.v1alpha1.ClusterServingRuntime",
    ..SERVING_RUNTIME
};

/// Revision, as Knative shows it; one for each thing that an InferenceService has ever asked to serve.
pub const REVISION: Kind = Kind {
    group: "serving.knative.dev",
    version: "v1",
    kind: "Revision",
    plural: "revisions",
    singular: "revision",
    short_names: &["rev"],
    has_status: true,
    schema: "dev.knative.serving.v1.Revision",
    origin: Origin::Custom,
    access: Access::ReadOnly,
    columns: REVISION_COLUMNS,
    ..BASE
};

/// Namespace.
pub const NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    has_status: true,
    schema: "io.k8s.api.core.v1.Namespace",
    columns: &[column(
        "Status",
        "string",
        ColumnValue::Path(&["status", "phase"]),
    )],
    ..BASE
};

/// Secret.
pub const SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    schema: "io.k8s.api.core.v1.Secret",
    columns: &[
        column("Type", "string", ColumnValue::Path(&["type"])),
        column("Data", "string", ColumnValue::Count(&["data"])),
    ],
    ..BASE
};

/// ConfigMap.
pub const CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    schema: "io.k8s.api.core.v1.ConfigMap",
    columns: &[column("Data", "string", ColumnValue::Count(&["data"]))],
    ..BASE
};

/// ServiceAccount.
pub const SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    schema: "io.k8s.api.core.v1.ServiceAccount",
    columns: &[column(
        "Secrets",
        "string",
        ColumnValue::Count(&["secrets"]),
    )],
    ..BASE
};

/// Event.
pub const EVENT: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    schema: "io.k8s.api.core.v1.Event",
    columns: EVENT_COLUMNS,
    ..BASE
};

/// CustomResourceDefinition; accepted so that installing KServe's is, and otherwise without effect.
pub const CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    namespaced: false,
    has_status: true,
    schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    ..BASE
};

/// Every kind, in the order of discovery.
pub const KINDS: [Kind; 10] = [
    NAMESPACE,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    EVENT,
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    CLUSTER_SERVING_RUNTIME,
    REVISION,
    CUSTOM_RESOURCE_DEFINITION,
];

impl Kind {
    /// Returns the kind of this group, version and plural.
    #[must_use]
    pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        KINDS
            .iter()
            .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
    }

    /// Returns the kind of this `apiVersion` and `kind`.
    #[must_use]
    pub fn find_by_name(api_version: &str, name: &str) -> Option<&'static Self> {
        KINDS
            .iter()
            .find(|kind| kind.kind == name && kind.api_version() == api_version)
    }

    /// Returns `group/version`, or the version alone for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Returns `plural.group`, or the plural alone for the core group, as messages name resources.
    #[must_use]
    pub fn resource(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Returns `singular.group`, or the singular alone for the core group, as kubectl names objects.
    #[must_use]
    pub fn qualified_singular(&self) -> String {
        match self.group {
            "" => self.singular.to_owned(),
            group => format!("{}.{group}", self.singular),
        }
    }

    /// Returns `Kind.group`, or the kind alone for the core group.
    #[must_use]
    pub fn qualified_kind(&self) -> String {
        match self.group {
            "" => self.kind.to_owned(),
            group => format!("{}.{group}", self.kind),
        }
    }
}
