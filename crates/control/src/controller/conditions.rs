//! Conditions: what is the case, with the time since when.

use coracle_api::status::Condition;

/// What is known of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    True,
    False { reason: String, message: String },
    Unknown { reason: String, message: String },
}

impl Verdict {
    pub(crate) fn no(reason: &str, message: impl Into<String>) -> Self {
        Self::False {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn not_yet(reason: &str, message: impl Into<String>) -> Self {
        Self::Unknown {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// Returns the worse of two: what is not the case before what is not known.
    pub(crate) fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::False { .. }, _) => self.clone(),
            (_, Self::False { .. }) => other.clone(),
            (Self::Unknown { .. }, _) => self.clone(),
            _ => other.clone(),
        }
    }
}

/// Collects conditions; those that did not change keep their time.
pub(crate) struct Conditions<'a> {
    before: &'a [Condition],
    now: &'a str,
    list: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    pub(crate) fn new(before: &'a [Condition], now: &'a str) -> Self {
        Self {
            before,
            now,
            list: Vec::new(),
        }
    }

    /// Adds a condition on which being ready depends.
    pub(crate) fn add(&mut self, name: &str, verdict: &Verdict) {
        self.push(name, verdict, None);
    }

    /// Adds a condition that is for information.
    pub(crate) fn add_info(&mut self, name: &str, verdict: &Verdict) {
        self.push(name, verdict, Some("Info".to_owned()));
    }

    fn push(&mut self, name: &str, verdict: &Verdict, severity: Option<String>) {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let (status, reason, message) = match verdict {
            Verdict::True => ("True", None, None),
            Verdict::False { reason, message } => ("False", text(reason), text(message)),
            Verdict::Unknown { reason, message } => ("Unknown", text(reason), text(message)),
        };
        let before = self
            .before
            .iter()
            .find(|condition| condition.condition_type == name);
        let since = before
            .filter(|condition| condition.status == status)
            .and_then(|condition| condition.last_transition_time.clone());
        self.list.push(Condition {
            condition_type: name.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            severity,
            last_transition_time: Some(since.unwrap_or_else(|| self.now.to_owned())),
        });
    }

    /// Returns the conditions by name.
    pub(crate) fn finish(mut self) -> Vec<Condition> {
        self.list
            .sort_by(|a, b| a.condition_type.cmp(&b.condition_type));
        self.list
    }
}
