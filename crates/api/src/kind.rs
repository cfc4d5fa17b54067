//! The kinds of objects: their names, where they live, what can be done with them.

use crate::columns;

/// A kind of object in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version, in which objects are kept.
    pub version: &'static str,
    /// Older versions in which objects with the same fields are taken and shown, newest first.
    pub older: &'static [&'static str],
    /// The kind, such as `InferenceService`.
    pub kind: &'static str,
    /// The plural, which is the resource's name in paths.
    pub plural: &'static str,
    /// The singular.
    pub singular: &'static str,
    /// Short names for the command line.
    pub short_names: &'static [&'static str],
    /// Names under which it is listed together with others, such as `all`.
    pub categories: &'static [&'static str],
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
    /// The subresources besides the status.
    pub subresources: &'static [Subresource],
    /// The columns of printed lists between the name and the age; of events, all of them.
    pub columns: &'static [Column],
    /// The columns after the age.
    pub last_columns: &'static [Column],
}

/// A part or a side of an object that has a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The last segment of its path.
    pub name: &'static str,
    /// The group of what is sent or answered.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// What can be done with it.
    pub verbs: &'static [&'static str],
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
    /// Reading what is worked out when it is asked for; nothing is stored, so there is nothing to watch.
    Measured,
}

impl Access {
    /// Returns what can be done with objects.
    #[must_use]
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::All => &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
            Self::ReadOnly => &["get", "list", "watch"],
            Self::Measured => &["get", "list"],
        }
    }
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
    /// How many of a pod's containers are ready, of how many.
    PodReady,
    /// What a pod is doing, as kubectl says it.
    PodStatus,
    /// How often a pod's containers were started again.
    PodRestarts,
    /// The role that a binding gives.
    RoleRef,
    /// What an autoscaler scales.
    ScaleTarget,
    /// An autoscaler's metrics: the value now and the one aimed at.
    ScaleMetrics,
    /// The object that an event is about.
    Involved,
}

const BASE: Kind = Kind {
    group: "",
    version: "v1",
    older: &[],
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    has_status: false,
    schema: "",
    origin: Origin::BuiltIn,
    access: Access::All,
    subresources: &[],
    columns: &[],
    last_columns: &[],
};

/// How many replicas there are to be.
const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: &["get", "patch", "update"],
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
    subresources: &[SCALE],
    schema: "io.kserve.serving.v1beta1.InferenceService",
    origin: Origin::Custom,
    columns: columns::INFERENCE_SERVICE_COLUMNS,
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
    columns: columns::RUNTIME_COLUMNS,
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

/// Rollout: how new revisions of an InferenceService come to take its requests.
pub const ROLLOUT: Kind = Kind {
    group: "serving.coracle.dev",
    version: "v1alpha1",
    kind: "Rollout",
    plural: "rollouts",
    singular: "rollout",
    short_names: &["ro"],
    has_status: true,
    schema: "dev.coracle.serving.v1alpha1.Rollout",
    origin: Origin::Custom,
    columns: columns::ROLLOUT_COLUMNS,
    ..BASE
};

/// SeldonDeployment; served by InferenceServices that are made of it.
pub const SELDON_DEPLOYMENT: Kind = Kind {
    group: "machinelearning.seldon.io",
    version: "v1",
    older: &["v1alpha3", "v1alpha2"],
    kind: "SeldonDeployment",
    plural: "seldondeployments",
    singular: "seldondeployment",
    short_names: &["sdep"],
    categories: &["all"],
    has_status: true,
    subresources: &[SCALE],
    schema: "io.seldon.machinelearning.v1.SeldonDeployment",
    origin: Origin::Custom,
    columns: columns::SELDON_COLUMNS,
    ..BASE
};

/// Experiment: which of several models answers a unit, and which is better.
pub const EXPERIMENT: Kind = Kind {
    kind: "Experiment",
    plural: "experiments",
    singular: "experiment",
    short_names: &["exp"],
    schema: "dev.coracle.serving.v1alpha1.Experiment",
    columns: columns::EXPERIMENT_COLUMNS,
    ..ROLLOUT
};

/// Experiment of Seldon Core v2: who gets copies of a service's requests.
pub const SELDON_EXPERIMENT: Kind = Kind {
    group: "mlops.seldon.io",
    version: "v1alpha1",
    short_names: &[],
    schema: "io.seldon.mlops.v1alpha1.Experiment",
    columns: columns::SELDON_EXPERIMENT_COLUMNS,
    ..EXPERIMENT
};

/// Revision, as Knative shows it; one for each thing that an InferenceService has ever asked to serve.
pub const REVISION: Kind = Kind {
    group: "serving.knative.dev",
    version: "v1",
    kind: "Revision",
    plural: "revisions",
    singular: "revision",
    short_names: &["rev"],
    categories: &["all", "knative", "serving"],
    has_status: true,
    schema: "dev.knative.serving.v1.Revision",
    origin: Origin::Custom,
    access: Access::ReadOnly,
    columns: columns::REVISION_COLUMNS,
    ..BASE
};

/// Pod; one for each replica of a revision.
pub const POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    has_status: true,
    schema: "io.k8s.api.core.v1.Pod",
    access: Access::ReadOnly,
    subresources: &[Subresource {
        name: "log",
        group: "",
        version: "v1",
        kind: "Pod",
        verbs: &["get"],
    }],
    columns: columns::POD_COLUMNS,
    last_columns: columns::POD_LAST_COLUMNS,
    ..BASE
};

/// Service; there are none: what answers is the gateway, at the addresses that InferenceServices show.
pub const SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    schema: "io.k8s.api.core.v1.Service",
    access: Access::ReadOnly,
    ..BASE
};

/// What a replica uses; worked out when it is asked for.
pub const POD_METRICS: Kind = Kind {
    group: "metrics.k8s.io",
    version: "v1beta1",
    kind: "PodMetrics",
    plural: "pods",
    schema: "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
    access: Access::Measured,
    ..BASE
};

/// HorizontalPodAutoscaler; one for each revision, showing what its autoscaler does.
pub const HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    has_status: true,
    schema: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    access: Access::ReadOnly,
    columns: columns::AUTOSCALER_COLUMNS,
    ..BASE
};

/// ClusterRole; the built-in ones are all there are.
pub const CLUSTER_ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    schema: "io.k8s.api.rbac.v1.ClusterRole",
    access: Access::ReadOnly,
    ..BASE
};

/// RoleBinding: a cluster role in one namespace, to users, groups and service accounts.
pub const ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    schema: "io.k8s.api.rbac.v1.RoleBinding",
    columns: columns::BINDING_COLUMNS,
    ..BASE
};

/// ClusterRoleBinding: a cluster role everywhere.
pub const CLUSTER_ROLE_BINDING: Kind = Kind {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    schema: "io.k8s.api.rbac.v1.ClusterRoleBinding",
    ..ROLE_BINDING
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
    columns: columns::NAMESPACE_COLUMNS,
    ..BASE
};

/// Secret.
pub const SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    schema: "io.k8s.api.core.v1.Secret",
    columns: columns::SECRET_COLUMNS,
    ..BASE
};

/// ConfigMap.
pub const CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    schema: "io.k8s.api.core.v1.ConfigMap",
    columns: columns::CONFIG_MAP_COLUMNS,
    ..BASE
};

/// ServiceAccount.
pub const SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    schema: "io.k8s.api.core.v1.ServiceAccount",
    columns: columns::SERVICE_ACCOUNT_COLUMNS,
    subresources: &[Subresource {
        name: "token",
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenRequest",
        verbs: &["create"],
    }],
    ..BASE
};

/// Event.
pub const EVENT: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    schema: "io.k8s.api.core.v1.Event",
    columns: columns::EVENT_COLUMNS,
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
pub const KINDS: [Kind; 21] = [
    NAMESPACE,
    POD,
    SERVICE,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    EVENT,
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    CLUSTER_SERVING_RUNTIME,
    ROLLOUT,
    SELDON_DEPLOYMENT,
    EXPERIMENT,
    SELDON_EXPERIMENT,
    REVISION,
    CUSTOM_RESOURCE_DEFINITION,
    HORIZONTAL_POD_AUTOSCALER,
    CLUSTER_ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE_BINDING,
    POD_METRICS,
];

impl Kind {
    /// Returns the kind of this group, version (it may be an older one) and plural.
    #[must_use]
    pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        KINDS
            .iter()
            .find(|kind| kind.plural == plural && kind.is_in(group, version))
    }

    /// Returns the kind of this `apiVersion` (it may be an older one) and `kind`.
    #[must_use]
    pub fn find_by_name(api_version: &str, name: &str) -> Option<&'static Self> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        KINDS
            .iter()
            .find(|kind| kind.kind == name && kind.is_in(group, version))
    }

    /// Visits the versions in which it is served, the one in which objects are kept first.
    pub fn versions(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.version).chain(self.older.iter().copied())
    }

    /// Tells whether it is served in a version of a group.
    #[must_use]
    pub fn is_in(&self, group: &str, version: &str) -> bool {
        self.group == group && self.versions().any(|one| one == version)
    }

    /// Returns the subresource of this name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// Returns `group/version`, or the version alone for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.api_version_of(self.version)
    }

    /// Returns the same of one of its versions.
    #[must_use]
    pub fn api_version_of(&self, version: &str) -> String {
        match self.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
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
