//! DictVectorizer: the keys of its dicts become columns.

use std::collections::HashMap;

use coracle_estimators::{Keyed, KeyedColumn};
use coracle_model::LoadError;

use super::convert::Part;
use super::fitted::Fitted;

/// The class.
pub(super) const CLASS: &str = "sklearn.feature_extraction._dict_vectorizer.DictVectorizer";

/// The keys, in the order of their first feature, with what their values become.
type Keys = Vec<(String, KeyedColumn)>;

fn keys(fitted: &Fitted<'_>) -> Result<Keys, LoadError> {
    let separator = fitted.text("separator")?;
    let mut keys: Keys = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (place, &id) in fitted.list("feature_names_")?.iter().enumerate() {
        let name = fitted.graph.string(id);
        let name = name.ok_or_else(|| fitted.malformed("'feature_names_' holds no texts"))?;
        let (key, text) = match name
            .split_once(&separator)
            .filter(|_| !separator.is_empty())
        {
            Some((key, text)) => (key.to_owned(), Some(text)),
            None => (name.clone(), None),
        };
        let at = *known.entry(key.clone()).or_insert(keys.len());
        match (keys.get_mut(at), text) {
            (None, None) => keys.push((key, KeyedColumn::Number(place))),
            (None, Some(text)) => {
                let text: Box<[u8]> = Box::from(text.as_bytes());
                let texts = [(text, place)].into_iter().collect();
                keys.push((key, KeyedColumn::Texts(texts)));
            }
            (Some((_, KeyedColumn::Texts(texts))), Some(text)) => {
                texts.insert(Box::from(text.as_bytes()), place);
            }
            (Some(_), _) => {
                let message =
                    format!("key '{key}' has both numbers and texts, which is not supported");
                return Err(fitted.unsupported(message));
            }
        }
    }
    Ok(keys)
}

/// Converts DictVectorizer.
pub(super) fn convert(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_columns = fitted.list("feature_names_")?.len();
    let columns = keys(fitted)?.into_iter().map(|(_, column)| column);
    let keyed = Keyed::try_new(columns.collect(), n_columns);
    let keyed = keyed.map_err(|error| fitted.spec(error))?;
    Ok(Part::new(
        keyed,
        vec![("columns".to_owned(), n_columns.to_string())],
    ))
}

/// Returns the keys as the names of columns.
pub(super) fn names(fitted: &Fitted<'_>) -> Result<Vec<String>, LoadError> {
    Ok(keys(fitted)?.into_iter().map(|(key, _)| key).collect())
}
