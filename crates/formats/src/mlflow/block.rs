//! Entries of the blocks of an `MLmodel` file, with scalars that its writer folded over several lines.

/// Returns the scalar `key` of the block `block`; `None` where there is none, or it is no scalar.
pub(super) fn entry(text: &str, block: &str, key: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| {
        let name = line.trim_end().strip_suffix(':');
        name != Some(block)
    });
    lines.next();
    let mut lines = lines
        .take_while(|line| line.starts_with(' ') || line.trim().is_empty())
        .peekable();
    let mut inner = None;
    while let Some(line) = lines.next() {
        let content = line.trim_start_matches(' ');
        let indent = line.len().saturating_sub(content.len());
        if content.is_empty() || indent > *inner.get_or_insert(indent) {
            continue;
        }
        let value = content
            .strip_prefix(key)
            .and_then(|rest| rest.strip_prefix(':'));
        let Some(value) = value else {
            continue;
        };
        let mut folded = value.trim().to_owned();
        let is_quoted = folded.starts_with(['\'', '"']);
        let continues = |next: &&str| {
            let content = next.trim_start_matches(' ');
            content.is_empty() || next.len().saturating_sub(content.len()) > indent
        };
        while is_quoted && let Some(next) = lines.next_if(continues) {
            join(&mut folded, next.trim());
        }
        return super::scalar(&folded);
    }
    None
}

/// Appends the next line of a folded scalar: a break is a space, an empty line is a break.
fn join(folded: &mut String, next: &str) {
    let is_escaped = folded.starts_with('"') && ends_escaping(folded);
    if is_escaped {
        folded.pop();
    } else if next.is_empty() {
        folded.push('\n');
        return;
    } else if !folded.ends_with('\n') {
        folded.push(' ');
    }
    folded.push_str(next);
}

/// Tells whether a text ends with a backslash that no other one escapes.
fn ends_escaping(text: &str) -> bool {
    let backslashes = text.bytes().rev().take_while(|byte| *byte == b'\\');
    backslashes.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_scalars_are_whole() {
        let text = "flavors:\n  inputs: no\nsignature:\n  inputs: '[{\"type\": \"double\",\n    \"name\": \"it''s\"}]'\n  outputs: null\n  \
                    params: \"a \\\n    \\ b\\\n    c \\\"q\\\" \\u00e9 \\\\\"\nlast: 1\n";
        let entry = |key| entry(text, "signature", key);
        assert_eq!(
            entry("inputs").as_deref(),
            Some(r#"[{"type": "double", "name": "it's"}]"#)
        );
        assert_eq!(entry("outputs"), None);
        assert_eq!(entry("params").as_deref(), Some("a  bc \"q\" \u{e9} \\"));
        assert_eq!(entry("last"), None);
        assert_eq!(
            super::entry("signature: null\n", "signature", "inputs"),
            None
        );
    }
}
