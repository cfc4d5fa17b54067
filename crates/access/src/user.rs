//! Users.

use serde::{Deserialize, Serialize};

/// Who calls.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name, such as `alice` or `system:serviceaccount:ml:default`.
    pub name: String,
    /// The groups, which bindings can name instead of users.
    pub groups: Vec<String>,
}

/// The name of whoever brings no credentials.
const ANONYMOUS: &str = "system:anonymous";
/// The group whose users may do everything.
pub(crate) const MASTERS: &str = "system:masters";
/// The group of everybody whose credentials were checked.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";

impl Default for User {
    fn default() -> Self {
        Self::anonymous()
    }
}

impl User {
    /// Returns nobody in particular, who may do nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    /// Returns whether it is nobody in particular.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// Returns a user with these groups, and that of everybody whose credentials were checked.
    #[must_use]
    pub fn authenticated(name: &str, groups: &[String]) -> Self {
        let mut groups = groups.to_vec();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self {
            name: name.to_owned(),
            groups,
        }
    }

    /// Returns the owner of the machine, who may do everything.
    #[must_use]
    pub fn owner() -> Self {
        Self::authenticated("coracle:owner", &[MASTERS.to_owned()])
    }

    /// Returns a service account as a user.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
        Self::authenticated(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &groups,
        )
    }

    /// Returns whether the user may do everything.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}
