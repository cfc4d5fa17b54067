//! Placeholders in runtimes: `{{.Name}}` and its like stand for the metadata of the InferenceService.
//!
//! KServe runs them through Go's templates; this is the part of those that runtimes use: fields and `index`.

use serde_json::Value;

use crate::object;

/// Replaces the placeholders in every text of `value`.
pub(super) fn replace(value: &mut Value, service: &Value) -> Result<(), String> {
    match value {
        Value::String(text) if text.contains("{{") => *text = expand(text, service)?,
        Value::Array(values) => {
            for value in values {
                replace(value, service)?;
            }
        }
        Value::Object(fields) => {
            for (_, value) in fields {
                replace(value, service)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn expand(text: &str, service: &Value) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inner, after) = after
            .split_once("}}")
            .ok_or_else(|| format!("the placeholder in {text:?} has no end"))?;
        result.push_str(before);
        result.push_str(&look_up(inner.trim(), service).ok_or_else(|| {
            format!(
                "the placeholder {{{{{inner}}}}} is not known; there are .Name, .Namespace, .Labels.KEY, .Annotations.KEY, index .Labels \"KEY\" and index .Annotations \"KEY\""
            )
        })?);
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

/// Returns what an expression stands for; a label or annotation that is not there is empty, as in Go.
fn look_up(expression: &str, service: &Value) -> Option<String> {
    let text = |field: &str, key: &str| {
        let found = object::text(service, field, key).map(str::to_owned);
        let format = || match (field, key) {
            // The annotation that KServe's defaulting adds.
            ("annotations", "modelFormat") => service
                .pointer("/spec/predictor/model/modelFormat/name")?
                .as_str()
                .map(str::to_owned),
            _ => None,
        };
        found.or_else(format).unwrap_or_default()
    };
    match expression {
        ".Name" => return Some(object::name(service).to_owned()),
        ".Namespace" => return Some(object::namespace(service).to_owned()),
        _ => {}
    }
    let is_field = |key: &&str| {
        !key.is_empty()
            && key
                .chars()
                .all(|letter| letter.is_alphanumeric() || letter == '_')
    };
    for (prefix, field) in [(".Labels", "labels"), (".Annotations", "annotations")] {
        let key = expression
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('.'));
        if let Some(key) = key.filter(is_field) {
            return Some(text(field, key));
        }
        let argument = expression
            .strip_prefix("index ")
            .and_then(|rest| rest.trim_start().strip_prefix(prefix));
        let key = argument
            .and_then(|rest| rest.trim().strip_prefix('"'))
            .and_then(|rest| rest.strip_suffix('"'));
        if let Some(key) = key.filter(|key| !key.contains('"')) {
            return Some(text(field, key));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_stand_for_metadata() {
        let service = json!({
            "metadata": {"name": "iris", "namespace": "ml", "labels": {"team": "a", "a/b": "c"}},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "custom"}}}}
        });
        let cases = [
            ("--model_name={{.Name}}", Ok("--model_name=iris")),
            ("{{ .Namespace }}/{{.Labels.team}}", Ok("ml/a")),
            ("{{index .Labels \"a/b\"}}", Ok("c")),
            ("{{.Annotations.modelFormat}}", Ok("custom")),
            ("x{{.Labels.none}}y", Ok("xy")),
            ("no placeholder }}", Ok("no placeholder }}")),
            ("{{.Spec}}", Err("the placeholder {{.Spec}} is not known")),
            (
                "{{if .Name}}",
                Err("the placeholder {{if .Name}} is not known"),
            ),
            ("{{.Name", Err("has no end")),
        ];
        for (text, expected) in cases {
            let mut value = json!({"args": [text]});
            match (replace(&mut value, &service), expected) {
                (Ok(()), Ok(expected)) => assert_eq!(value["args"][0], expected),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
                (result, expected) => panic!("{text}: {result:?}, expected {expected:?}"),
            }
        }
    }
}
