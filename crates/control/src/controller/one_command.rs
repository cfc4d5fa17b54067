//! Commands that people write as an annotation, which the controller removes when they are done. There is one at a time: the next one is refused until
//! then, so that none is lost under another.

use serde_json::Value;

use crate::object;

/// Tells whether the command `text` of the annotation is another one than the object had before, which was none then.
///
/// # Errors
/// Says which one is not done yet.
pub(crate) fn is_new(annotation: &str, old: Option<&Value>, text: &str) -> Result<bool, String> {
    match old.and_then(|old| object::text(old, "annotations", annotation)) {
        Some(before) if before == text => Ok(false),
        Some(before) => Err(not_done(before)),
        None => Ok(true),
    }
}

/// Checks that a patch brings no command while there is one, be it the same: who sends it wants it twice. An apply may name what is there.
///
/// # Errors
/// Says which one is not done yet.
pub(crate) fn check_patch(annotation: &str, live: &Value, patch: &Value) -> Result<(), String> {
    let Some(before) = object::text(live, "annotations", annotation) else {
        return Ok(());
    };
    let step = annotation.replace('~', "~0").replace('/', "~1");
    let annotation = format!("/metadata/annotations/{step}");
    let is_set = match patch {
        Value::Array(operations) => operations.iter().any(|one| sets(one, &annotation, live)),
        patch => patch.pointer(&annotation).is_some_and(Value::is_string),
    };
    match is_set {
        true => Err(not_done(before)),
        false => Ok(()),
    }
}

/// Tells whether an operation of a JSON patch writes the annotation: itself, or with what it is in.
fn sets(operation: &Value, annotation: &str, live: &Value) -> bool {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let Some(rest) = text("path").and_then(|path| annotation.strip_prefix(path)) else {
        return false;
    };
    let value = match text("op") {
        Some("add" | "replace") => operation.get("value"),
        Some("copy" | "move") => text("from").and_then(|from| live.pointer(from)),
        _ => return false,
    };
    rest.is_empty()
        || value
            .and_then(|value| value.pointer(rest))
            .is_some_and(Value::is_string)
}

fn not_done(before: &str) -> String {
    format!("the command before it, '{before}', is not done yet; send this one again")
}
