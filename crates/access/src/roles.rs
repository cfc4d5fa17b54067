//! What users may do: Kubernetes' user-facing cluster roles, given by bindings, for a namespace or everywhere.

use serde_json::{Value, json};

use crate::User;

/// A role. There are no others: `view`, `edit` and `admin` are for namespaces, `cluster-admin` is everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads everything but secrets and bindings.
    View,
    /// Changes everything but bindings.
    Edit,
    /// Gives others roles, too.
    Admin,
    /// Everything.
    ClusterAdmin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 4] = [Self::View, Self::Edit, Self::Admin, Self::ClusterAdmin];

    /// Returns the name of the ClusterRole.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Edit => "edit",
            Self::Admin => "admin",
            Self::ClusterAdmin => "cluster-admin",
        }
    }

    /// Returns the role of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Returns what it allows.
    #[must_use]
    pub fn rules(self) -> Vec<Rule> {
        let mut rules = VIEW.to_vec();
        match self {
            Self::View => {}
            Self::Edit => rules.extend(EDIT),
            Self::Admin => {
                rules.extend(EDIT);
                rules.extend(ADMIN);
            }
            Self::ClusterAdmin => rules = EVERYTHING.to_vec(),
        }
        rules
    }
}

/// What is allowed; `*` stands for everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// The API groups.
    pub groups: &'static [&'static str],
    /// The resources, subresources as `pods/log`.
    pub resources: &'static [&'static str],
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];
const OURS: &[&str] = &[
    "serving.kserve.io",
    "serving.knative.dev",
    "serving.coracle.dev",
    "machinelearning.seldon.io",
    "metrics.k8s.io",
    "autoscaling",
];

const VIEW: &[Rule] = &[
    Rule {
        verbs: READ,
        groups: &[""],
        resources: &[
            "configmaps",
            "events",
            "namespaces",
            "pods",
            "pods/log",
            "pods/status",
            "serviceaccounts",
        ],
    },
    Rule {
        verbs: READ,
        groups: OURS,
        resources: &["*"],
    },
];

const EDIT: &[Rule] = &[
    Rule {
        verbs: WRITE,
        groups: &[""],
        resources: &["configmaps", "events", "secrets", "serviceaccounts"],
    },
    Rule {
        verbs: &["create"],
        groups: &[""],
        resources: &["serviceaccounts/token"],
    },
    Rule {
        verbs: WRITE,
        groups: OURS,
        resources: &["*"],
    },
];

const ADMIN: &[Rule] = &[Rule {
    verbs: WRITE,
    groups: &["rbac.authorization.k8s.io"],
    resources: &["rolebindings"],
}];

const EVERYTHING: &[Rule] = &[Rule {
    verbs: &["*"],
    groups: &["*"],
    resources: &["*"],
}];

/// What everybody may do whose credentials were checked.
const EVERYBODY: &[Rule] = &[
    Rule {
        verbs: READ,
        groups: &["serving.kserve.io"],
        resources: &["clusterservingruntimes"],
    },
    Rule {
        verbs: READ,
        groups: &["rbac.authorization.k8s.io"],
        resources: &["clusterroles"],
    },
    Rule {
        verbs: &["create"],
        groups: &["authorization.k8s.io", "authentication.k8s.io"],
        resources: &[
            "selfsubjectaccessreviews",
            "selfsubjectrulesreviews",
            "selfsubjectreviews",
        ],
    },
];

impl Rule {
    fn allows(&self, action: &Action<'_>) -> bool {
        let has = |list: &[&str], value: &str| list.contains(&"*") || list.contains(&value);
        let resource = match action.subresource {
            "" => action.resource.to_owned(),
            subresource => format!("{}/{subresource}", action.resource),
        };
        has(self.verbs, action.verb)
            && has(self.groups, action.group)
            && has(self.resources, &resource)
    }

    /// Returns it as Kubernetes writes rules.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"verbs": self.verbs, "apiGroups": self.groups, "resources": self.resources})
    }
}

/// What a user wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action<'a> {
    /// The verb, such as `list`.
    pub verb: &'a str,
    /// The API group; empty for the core group.
    pub group: &'a str,
    /// The resource, such as `pods`.
    pub resource: &'a str,
    /// The subresource; empty for none.
    pub subresource: &'a str,
    /// The namespace; empty for all of them, and for what is in none.
    pub namespace: &'a str,
    /// The object's name; empty for all of them.
    pub name: &'a str,
}

/// A role that is given to subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The role.
    pub role: Role,
    /// Where it holds; `None` for everywhere.
    pub namespace: Option<String>,
    /// To whom.
    pub subjects: Vec<Subject>,
}

/// Whom a binding gives its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user.
    User(String),
    /// Everybody of a group.
    Group(String),
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => user.name == *name,
            Self::Group(name) => user.groups.contains(name),
            Self::ServiceAccount { namespace, name } => {
                user.name == format!("system:serviceaccount:{namespace}:{name}")
            }
        }
    }
}

/// Returns whether `user` may do `action`.
#[must_use]
pub fn is_allowed(user: &User, action: &Action<'_>, bindings: &[Binding]) -> bool {
    if user.is_anonymous() {
        return false;
    }
    if user.is_master() || EVERYBODY.iter().any(|rule| rule.allows(action)) {
        return true;
    }
    let own = bindings
        .iter()
        .filter(|binding| binding.subjects.iter().any(|subject| subject.is(user)));
    let mut own = own.filter(|binding| holds(binding, action));
    own.any(|binding| binding.role.rules().iter().any(|rule| rule.allows(action)))
}

/// Returns whether a binding is about where the action is. Who has a role in a namespace may look at the namespace itself.
fn holds(binding: &Binding, action: &Action<'_>) -> bool {
    let Some(namespace) = binding.namespace.as_deref() else {
        return true;
    };
    let is_itself = action.group.is_empty()
        && action.resource == "namespaces"
        && action.verb == "get"
        && action.name == namespace;
    namespace == action.namespace || is_itself
}

/// Returns the rules that hold for `user` in a namespace.
#[must_use]
pub fn rules_for(user: &User, namespace: &str, bindings: &[Binding]) -> Vec<Rule> {
    if user.is_master() {
        return EVERYTHING.to_vec();
    }
    let mut rules = EVERYBODY.to_vec();
    for binding in bindings {
        let is_own = binding.subjects.iter().any(|subject| subject.is(user));
        let is_here = binding
            .namespace
            .as_deref()
            .is_none_or(|own| own == namespace);
        if is_own && is_here {
            rules.extend(binding.role.rules());
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(role: Role, namespace: Option<&str>, subject: Subject) -> Binding {
        Binding {
            role,
            namespace: namespace.map(str::to_owned),
            subjects: vec![subject],
        }
    }

    fn action<'a>(verb: &'a str, resource: &'a str, namespace: &'a str) -> Action<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let group = match resource {
            "inferenceservices" | "clusterservingruntimes" => "serving.kserve.io",
            "rolebindings" | "clusterrolebindings" => "rbac.authorization.k8s.io",
            _ => "",
        };
        Action {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name: "",
        }
    }

    #[test]
    fn roles_allow_what_kubernetes_roles_allow() {
        let user = User::authenticated("alice", &[]);
        let cases = [
            // Verb, resource, namespace: allowed to view, edit, admin, cluster-admin of `ml`.
            ("get", "inferenceservices", "ml", [true, true, true, true]),
            (
                "patch",
                "inferenceservices",
                "ml",
                [false, true, true, true],
            ),
            (
                "patch",
                "inferenceservices/scale",
                "ml",
                [false, true, true, true],
            ),
            ("get", "pods/log", "ml", [true; 4]),
            ("get", "secrets", "ml", [false, true, true, true]),
            (
                "create",
                "serviceaccounts/token",
                "ml",
                [false, true, true, true],
            ),
            ("create", "rolebindings", "ml", [false, false, true, true]),
            ("get", "inferenceservices", "other", [false; 4]),
            ("list", "inferenceservices", "", [false; 4]),
            ("create", "namespaces", "", [false; 4]),
            ("create", "clusterrolebindings", "", [false; 4]),
            ("list", "clusterservingruntimes", "", [true; 4]),
            ("create", "clusterservingruntimes", "", [false; 4]),
        ];
        for (verb, resource, namespace, expected) in cases {
            for (role, expected) in Role::ALL.into_iter().zip(expected) {
                let bindings = [binding(role, Some("ml"), Subject::User("alice".to_owned()))];
                let allowed = is_allowed(&user, &action(verb, resource, namespace), &bindings);
                assert_eq!(
                    allowed, expected,
                    "{role:?}: {verb} {resource} in {namespace:?}"
                );
            }
        }
    }

    #[test]
    fn bindings_name_users_groups_and_service_accounts() {
        let read = action("list", "inferenceservices", "ml");
        let everywhere = |subject| [binding(Role::View, None, subject)];
        let alice = User::authenticated("alice", &["devs".to_owned()]);
        let account = User::service_account("ml", "robot");
        let subject = Subject::ServiceAccount {
            namespace: "ml".to_owned(),
            name: "robot".to_owned(),
        };
        assert!(is_allowed(
            &alice,
            &read,
            &everywhere(Subject::Group("devs".to_owned()))
        ));
        assert!(!is_allowed(
            &alice,
            &read,
            &everywhere(Subject::User("bob".to_owned()))
        ));
        assert!(is_allowed(&account, &read, &everywhere(subject.clone())));
        assert!(!is_allowed(&alice, &read, &everywhere(subject)));
        assert!(!is_allowed(&alice, &read, &[]));
        assert!(is_allowed(
            &User::owner(),
            &action("create", "namespaces", ""),
            &[]
        ));
    }

    #[test]
    fn who_has_a_role_in_a_namespace_may_look_at_it() {
        let alice = User::authenticated("alice", &[]);
        let bindings = [binding(
            Role::View,
            Some("ml"),
            Subject::User("alice".to_owned()),
        )];
        let look = |verb, name| {
            let action = Action {
                name,
                ..action(verb, "namespaces", "")
            };
            is_allowed(&alice, &action, &bindings)
        };
        assert!(look("get", "ml"));
        assert!(!look("get", "other") && !look("delete", "ml") && !look("list", ""));
    }
}
