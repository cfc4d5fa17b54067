//! The form of kubeconfigs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use coracle_access::Issued;

/// What a user proves itself with.
#[derive(Debug)]
pub(crate) enum Proof {
    /// Nothing: callers are trusted.
    None,
    /// A bearer token.
    Token(String),
    /// A client certificate.
    Certificate(Issued),
}

/// A kubeconfig for one API and one user.
#[derive(Debug)]
pub(crate) struct Kubeconfig<'a> {
    pub(crate) server: &'a str,
    /// The authority that the server's certificate is of, as PEM; `None` for one that the system knows, or no TLS.
    pub(crate) authority_pem: Option<&'a str>,
    /// The name that the server's certificate is for, if it is not the one in the URL.
    pub(crate) server_name: Option<&'a str>,
    pub(crate) user: &'a str,
    pub(crate) proof: Proof,
}

impl Kubeconfig<'_> {
    pub(crate) fn to_yaml(&self) -> String {
        let Self { server, user, .. } = self;
        let authority = self.authority_pem.map_or_else(String::new, |pem| {
            format!("\n    certificate-authority-data: {}", BASE64.encode(pem))
        });
        let server_name = self
            .server_name
            .map_or_else(String::new, |name| format!("\n    tls-server-name: {name}"));
        let proof = match &self.proof {
            Proof::None => " {}".to_owned(),
            Proof::Token(token) => format!("\n    token: {token}"),
            Proof::Certificate(issued) => format!(
                "\n    client-certificate-data: {}\n    client-key-data: {}",
                BASE64.encode(&issued.certificate_pem),
                BASE64.encode(&issued.key_pem)
            ),
        };
        let user = serde_json::Value::from(*user);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: coracle\nclusters:\n- name: coracle\n  cluster:\n    server: {server}{authority}{server_name}\ncontexts:\n- name: coracle\n  context:\n    cluster: coracle\n    namespace: default\n    user: {user}\nusers:\n- name: {user}\n  user:{proof}\n"
        )
    }
}
