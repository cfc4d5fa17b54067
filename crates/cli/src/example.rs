//! A request that a model answers, to be shown to people.

use coracle_model::{KnownValue, Model, TensorSpec};
use serde_json::{Value, json};

use crate::warm_up;

/// Returns the body of a V1 request that `model` answers; `None` if none was found.
///
/// Its values are some that the model knows, where it knows only some, else zeros.
pub(crate) fn request(model: &dyn Model) -> Option<String> {
    let instances = match model.signature().keyed_inputs.is_empty() {
        true => vec![row(model)],
        // What is JSON may be empty.
        false => vec![json!({}), json!([])],
    };
    let mut bodies = instances
        .into_iter()
        .map(|instance| json!({"instances": [instance]}).to_string());
    bodies.find(|body| warm_up::run_one(model, body).is_ok())
}

/// What is longer than this is not for people to read or to copy.
const SHOWN_BYTES_MAX: usize = 1_000;

/// Says how to ask a model: with the body of a request, unless it is too long to be shown.
pub(crate) fn advice(address: impl std::fmt::Display, name: &str, body: &str) -> String {
    let url = format!("http://{address}/v1/models/{name}");
    if body.len() > SHOWN_BYTES_MAX {
        return format!(
            "try: coracle bench {url} -d 2s, which makes requests up: one has {} bytes",
            body.len()
        );
    }
    let body = body.replace('\'', "'\\''");
    format!("try: curl {url}:predict -H 'Content-Type: application/json' -d '{body}'")
}

fn row(model: &dyn Model) -> Value {
    let signature = model.signature();
    let Some(places) = &signature.columns else {
        let input = signature.inputs.first();
        let n_columns = input.and_then(TensorSpec::n_columns).unwrap_or(1);
        let cells = (0..n_columns).map(|column| cell(model, column, false));
        return cells.collect();
    };
    let read = places.iter().enumerate().filter_map(|(column, place)| {
        let input = signature.inputs.get(place.input?)?;
        Some((
            &place.name,
            cell(model, column, input.dtype.name() == "BYTES"),
        ))
    });
    let mut cells: Vec<(&String, Value)> = read.collect();
    match cells.as_mut_slice() {
        [(_, only)] if places.len() == 1 => only.take(),
        _ => Value::Object(
            cells
                .into_iter()
                .map(|(name, cell)| (name.clone(), cell))
                .collect(),
        ),
    }
}

fn cell(model: &dyn Model, column: usize, is_text: bool) -> Value {
    match (model.known_value(column), is_text) {
        (Some(KnownValue::Text(text) | KnownValue::Date(text)), _) => json!(text),
        (Some(KnownValue::Number(number)), _) => json!(number),
        (None, true) => json!("text"),
        (None, false) => json!(0.0),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use coracle_base::SystemClock;
    use coracle_formats::{LoadOptions, load};

    use super::*;

    fn example_of(example: &str) -> Option<String> {
        example_of_file(&format!("examples/{example}/model.joblib"))
    }

    fn example_of_file(file: &str) -> Option<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let loaded = load(
            &root.join(file),
            &LoadOptions::default(),
            &SystemClock::new(),
        )
        .unwrap();
        request(loaded.model.as_ref())
    }

    #[test]
    fn long_requests_are_not_shown() {
        let short = advice("127.0.0.1:8080", "m", r#"{"instances":["it's"]}"#);
        let curl = "try: curl http://127.0.0.1:8080/v1/models/m:predict -H 'Content-Type: application/json' -d ";
        assert_eq!(short, format!(r#"{curl}'{{"instances":["it'\''s"]}}'"#));
        let long = advice("127.0.0.1:8080", "m", &"0,".repeat(600));
        assert_eq!(
            long,
            "try: coracle bench http://127.0.0.1:8080/v1/models/m -d 2s, which makes requests up: one has 1200 bytes"
        );
    }

    #[test]
    fn examples_are_answered_by_their_models() {
        assert_eq!(
            example_of("iris").unwrap(),
            r#"{"instances":[[0.0,0.0,0.0,0.0]]}"#
        );
        let titanic = example_of("titanic").unwrap();
        assert!(titanic.contains("\"female\""), "{titanic}");
        let hashed = |name: &str| example_of_file(&format!("fixtures/sklearn/hashed/1.9.1/{name}"));
        assert_eq!(
            hashed("dict_logistic.joblib").unwrap(),
            r#"{"instances":[{}]}"#
        );
        assert_eq!(
            hashed("string_ridge.joblib").unwrap(),
            r#"{"instances":[[]]}"#
        );
    }
}
