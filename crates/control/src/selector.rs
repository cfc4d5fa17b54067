//! Label and field selectors.

use serde_json::Value;

use crate::failure::Failure;
use crate::object;

/// What objects must have to be chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<LabelRule>,
    fields: Vec<FieldRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldRule {
    path: String,
    value: String,
    equal: bool,
}

/// The fields that every kind can be selected by.
const COMMON_FIELDS: [&str; 2] = ["metadata.name", "metadata.namespace"];

impl Selector {
    /// Reads the two parameters of a list or watch; `fields_allowed` are those of the kind beside the common ones.
    pub(crate) fn parse(
        labels: Option<&str>,
        fields: Option<&str>,
        fields_allowed: &[&str],
    ) -> Result<Self, Failure> {
        let labels = parse_labels(labels.unwrap_or_default())?;
        let fields = parse_fields(fields.unwrap_or_default())?;
        for rule in &fields {
            let path = rule.path.as_str();
            if !COMMON_FIELDS.contains(&path) && !fields_allowed.contains(&path) {
                return Err(Failure::bad_request(format!(
                    "field label not supported: {path}"
                )));
            }
        }
        Ok(Self { labels, fields })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|rule| rule.matches(object))
            && self.fields.iter().all(|rule| {
                let path: Vec<&str> = rule.path.split('.').collect();
                let actual = object::at(object, &path).and_then(Value::as_str);
                (actual.unwrap_or_default() == rule.value) == rule.equal
            })
    }
}

impl LabelRule {
    fn matches(&self, object: &Value) -> bool {
        let value = |key: &str| object::text(object, "labels", key);
        match self {
            Self::In(key, allowed) => {
                value(key).is_some_and(|value| allowed.iter().any(|one| one == value))
            }
            Self::NotIn(key, refused) => {
                value(key).is_none_or(|value| refused.iter().all(|one| one != value))
            }
            Self::Exists(key) => value(key).is_some(),
            Self::Missing(key) => value(key).is_none(),
        }
    }
}

fn parse_fields(text: &str) -> Result<Vec<FieldRule>, Failure> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let rules = parts.map(|part| {
        let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (path, value, true)
        } else {
            let message = format!("invalid selector: '{part}'; can't understand '{part}'");
            return Err(Failure::bad_request(message));
        };
        Ok(FieldRule {
            path: path.trim().to_owned(),
            value: value.trim().to_owned(),
            equal,
        })
    });
    rules.collect()
}

fn parse_labels(text: &str) -> Result<Vec<LabelRule>, Failure> {
    let parts = split_outside_parentheses(text);
    let parts = parts
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(parse_label).collect()
}

/// Splits at commas that are not within parentheses.
fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

fn parse_label(part: &str) -> Result<LabelRule, Failure> {
    let bad = || Failure::bad_request(format!("unable to parse requirement: '{part}'"));
    let key = |text: &str| {
        let text = text.trim();
        let is_key = !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        if is_key {
            Ok(text.to_owned())
        } else {
            Err(bad())
        }
    };
    if let Some((name, value)) = part.split_once("!=") {
        return Ok(LabelRule::NotIn(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(LabelRule::In(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((head, values)) = part.split_once('(') {
        let values = values.trim_end().strip_suffix(')').ok_or_else(bad)?;
        let values = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Ok(LabelRule::In(key(name)?, values)),
            (Some(name), Some("notin"), None) => Ok(LabelRule::NotIn(key(name)?, values)),
            _ => Err(bad()),
        };
    }
    match part.strip_prefix('!') {
        Some(name) => Ok(LabelRule::Missing(key(name)?)),
        None => Ok(LabelRule::Exists(key(part)?)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_choose() {
        let object = json!({"metadata": {"name": "x", "namespace": "n", "labels": {"a": "1", "app.kubernetes.io/b": "2"}}});
        let cases = [
            ("", "", true),
            ("a=1", "", true),
            ("a==1,app.kubernetes.io/b", "", true),
            ("a=2", "", false),
            ("a!=2", "", true),
            ("c!=2", "", true),
            ("a in (1, 3),c notin (x,y)", "", true),
            ("a notin (1,3)", "", false),
            ("!a", "", false),
            ("!c", "", true),
            ("", "metadata.name=x", true),
            ("", "metadata.name!=x", false),
            ("", "metadata.name==x,metadata.namespace=n", true),
        ];
        for (labels, fields, expected) in cases {
            let selector = Selector::parse(Some(labels), Some(fields), &[]).unwrap();
            assert_eq!(selector.matches(&object), expected, "{labels} {fields}");
        }
    }

    #[test]
    fn bad_selectors_are_refused() {
        for (labels, fields) in [
            ("a in 1", ""),
            ("a (1)", ""),
            ("a b", ""),
            ("a in (1", ""),
            ("", "spec.foo=1"),
            ("", "x"),
        ] {
            let result = Selector::parse(Some(labels), Some(fields), &[]);
            assert_eq!(result.unwrap_err().status, 400, "{labels} {fields}");
        }
        assert!(
            Selector::parse(
                None,
                Some("involvedObject.name=x"),
                &["involvedObject.name"]
            )
            .is_ok()
        );
    }
}
