//! `cats`: the categories of a data frame's columns, which XGBoost keeps in files from 3.1 on.

use coracle_estimators::Category;
use coracle_model::LoadError;

use crate::document::{Document, Entry, whole};
use crate::numbers;

/// Reads the categories of each feature; empty if the file has none but codes.
///
/// # Errors
/// Kind `Malformed` where they are of another number of features, or no texts or numbers.
pub(super) fn read(
    booster: &Entry<'_>,
    n_features: usize,
) -> Result<Vec<Option<Vec<Category>>>, LoadError> {
    let model = booster.find("gbtree").unwrap_or_else(|| booster.clone());
    let cats = model.find("model").and_then(|model| model.find("cats"));
    let Some(lists) = cats.and_then(|cats| cats.find("enc")) else {
        return Ok(Vec::new());
    };
    if matches!(lists.document(), Document::Numbers(numbers) if numbers.is_empty()) {
        return Ok(Vec::new());
    }
    let items = lists.items()?;
    if items.is_empty() {
        return Ok(Vec::new());
    }
    if items.len() != n_features {
        return Err(lists.malformed(format_args!(
            "{} lists of categories for {n_features} features",
            items.len()
        )));
    }
    let all: Result<Vec<Option<Vec<Category>>>, LoadError> = items.iter().map(categories).collect();
    let all = all?;
    match all.iter().all(Option::is_none) {
        true => Ok(Vec::new()),
        false => Ok(all),
    }
}

/// Returns the categories of one feature; `None` where it has none, or they are their own codes.
fn categories(entry: &Entry<'_>) -> Result<Option<Vec<Category>>, LoadError> {
    let values = entry.field("values")?.numbers()?;
    let Some(offsets) = entry.find("offsets") else {
        let mut counted = values.iter().enumerate();
        if counted.all(|(code, &value)| whole(value) == Some(code)) {
            return Ok(None);
        }
        let categories = values
            .iter()
            .map(|&value| match numbers::leaves_out_integers(value) {
                true => Err(entry.unsupported(format_args!(
                    "a category is {value}; {}",
                    numbers::EXACT_ALLOWED
                ))),
                false => Ok(Category::Number(value)),
            });
        return categories.collect::<Result<_, LoadError>>().map(Some);
    };
    let offsets = offsets.numbers()?;
    if offsets.is_empty() {
        return Ok(None);
    }
    // The bytes of all texts, one after the other; UBJSON writes them with a sign.
    let wrong = || entry.malformed("its texts are not UTF-8");
    let bytes = values.iter().map(|&value| {
        let value = if value < 0.0 { value + 256.0 } else { value };
        whole(value)
            .and_then(|value| u8::try_from(value).ok())
            .ok_or_else(wrong)
    });
    let bytes: Vec<u8> = bytes.collect::<Result<_, LoadError>>()?;
    let bounds = offsets.windows(2).map(|pair| match pair {
        &[start, end] => {
            let text = bytes.get(whole(start)?..whole(end)?)?;
            String::from_utf8(text.to_vec()).ok()
        }
        _ => None,
    });
    let texts = bounds.map(|text| text.map(Category::Text).ok_or_else(wrong));
    texts
        .collect::<Result<Vec<Category>, LoadError>>()
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse_json;

    #[test]
    fn integers_that_doubles_do_not_tell_apart_are_refused() {
        let read = |values: &str| {
            let document = parse_json(format!("{{\"values\":{values}}}").as_bytes()).unwrap();
            categories(&Entry::root(&document)).map_err(|error| error.to_string())
        };
        let known = [
            Category::Number(9_007_199_254_740_991.0),
            Category::Number(7.0),
        ];
        assert_eq!(read("[9007199254740991, 7]"), Ok(Some(known.to_vec())));
        let message = read("[9007199254740992, 9007199254740993]").unwrap_err();
        assert!(message.contains("below 2^53"), "{message}");
    }
}
