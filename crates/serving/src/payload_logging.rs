//! What is to be recorded of a model's requests and answers, and where; `gateway` does it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the requests and answers of a revision are recorded: KServe's `logger`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PayloadLogging {
    /// What takes them, at `http` or `https`.
    pub url: String,
    /// Which of them are recorded.
    pub mode: PayloadMode,
    /// The request headers that are recorded with them.
    #[serde(default)]
    pub metadata_headers: Vec<String>,
    /// The service's annotations that are recorded with them.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Which payloads are recorded.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub enum PayloadMode {
    /// Requests and answers.
    #[default]
    All,
    /// Requests.
    Request,
    /// Answers.
    Response,
}

impl PayloadMode {
    /// Tells whether requests are recorded.
    #[must_use]
    pub fn has_requests(self) -> bool {
        self != Self::Response
    }

    /// Tells whether answers are recorded.
    #[must_use]
    pub fn has_responses(self) -> bool {
        self != Self::Request
    }
}
