//! A request that cannot be decoded, and the body that tells the caller.

use std::fmt;

use coracle_base::Code;

/// A request at fault; the message says what was wrong, where, and what was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    code: Code,
    message: String,
}

/// The most characters of a caller's text that a message repeats.
const QUOTED_CHARS_MAX: usize = 64;

impl RequestError {
    /// Returns an error of `code`; `message` says what was wrong, where, and what was allowed.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: Code::InvalidArgument,
            message: message.into(),
        }
    }

    pub(crate) fn unimplemented(message: impl Into<String>) -> Self {
        Self {
            code: Code::Unimplemented,
            message: message.into(),
        }
    }

    /// Explains an error of the JSON reader in `body`.
    pub(crate) fn from_json(body: &[u8], error: &serde_json::Error) -> Self {
        if let Some(error) = Self::of_no_number(body, error, "send null for a missing value") {
            return error;
        }
        let message = error.to_string();
        Self::invalid(if error.is_data() {
            message
        } else {
            format!("the body is not valid JSON: {message}")
        })
    }

    /// Explains an error of the JSON reader in `body` if that has what is no number there, and says what to do instead.
    pub(crate) fn of_no_number(
        body: &[u8],
        error: &serde_json::Error,
        instead: &str,
    ) -> Option<Self> {
        let is_one = error.is_syntax() && names_a_non_number(body, error);
        is_one.then(|| {
            Self::invalid(format!(
                "JSON has no NaN or Infinity; {instead} (line {} column {})",
                error.line(),
                error.column()
            ))
        })
    }

    /// Returns the failure in Coracle's closed list.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RequestError {}

/// Tells whether the reader stumbled over `NaN`, `Infinity` or `-Infinity`, which Python writes.
fn names_a_non_number(body: &[u8], error: &serde_json::Error) -> bool {
    let line_start: usize = body
        .split(|&byte| byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(|line| line.len().saturating_add(1))
        .sum();
    // The reader stops on the first or second character of the word.
    let position = line_start.saturating_add(error.column());
    (position.saturating_sub(3)..=position).any(|start| {
        let rest = body.get(start..).unwrap_or_default();
        rest.starts_with(b"NaN") || rest.starts_with(b"Infinity")
    })
}

/// Returns a caller's text in quotes, shortened.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("\"{}{more}\"", shown.escape_debug())
}

/// Returns the body of an error answer: `{"error": "..."}`.
#[must_use]
pub fn error_body(message: &str) -> Vec<u8> {
    let mut body = b"{\"error\":".to_vec();
    crate::render::string(message, &mut body);
    body.push(b'}');
    body
}
