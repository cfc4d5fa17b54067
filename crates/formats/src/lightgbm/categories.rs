//! `pandas_categorical`: the categories of a data frame's columns, of which trees know the codes.

use coracle_estimators::Category;
use coracle_model::LoadError;

use super::{malformed, unsupported};
use crate::document::{Document, parse_json, whole};
use crate::numbers;

/// Reads the categories of each feature from the lines after the trees; empty if there are none but codes.
///
/// The lists are those of the frame's columns of categories in order; the parameters say which these are.
///
/// # Errors
/// Kind `Unsupported` if there are other columns of categories than lists, or integers that doubles do not tell apart.
pub(super) fn read<'t>(
    lines: impl Iterator<Item = &'t str>,
    n_features: usize,
) -> Result<Vec<Option<Vec<Category>>>, LoadError> {
    let (mut columns, mut list) = (Vec::new(), None);
    for line in lines {
        if let Some(numbers) = line.strip_prefix("[categorical_feature:") {
            let numbers = numbers.trim_end_matches(']').split([',', ' ']);
            columns = numbers
                .filter_map(|number| number.trim().parse().ok())
                .collect();
        } else if let Some(text) = line.strip_prefix("pandas_categorical:") {
            list = Some(parse_json(text.trim().as_bytes())?);
        }
    }
    let lists: Vec<Option<Vec<Category>>> = match list {
        Some(Document::Array(lists)) => {
            let lists: Result<_, LoadError> = lists.iter().map(categories).collect();
            lists?
        }
        _ => return Ok(Vec::new()),
    };
    if lists.iter().all(Option::is_none) {
        return Ok(Vec::new());
    }
    let columns: Vec<usize> = columns;
    if columns.len() != lists.len() {
        return Err(unsupported(format!(
            "{} lists of pandas categories for {} categorical features: which is whose cannot be told",
            lists.len(),
            columns.len()
        )));
    }
    let mut all = vec![None; n_features];
    for (column, list) in columns.into_iter().zip(lists) {
        let place = all.get_mut(column);
        *place
            .ok_or_else(|| malformed(format!("categorical feature {column} does not exist")))? =
            list;
    }
    Ok(all)
}

/// Returns the categories of one column; `None` where they are their own codes.
fn categories(list: &Document) -> Result<Option<Vec<Category>>, LoadError> {
    let wrong = || {
        malformed("'pandas_categorical' holds something else than numbers, texts and truth values")
    };
    match list {
        Document::Numbers(numbers) => {
            let mut counted = numbers.iter().enumerate();
            if counted.all(|(code, &category)| whole(category) == Some(code)) {
                return Ok(None);
            }
            let categories = numbers.iter().map(|&number| category(number));
            categories.collect::<Result<_, LoadError>>().map(Some)
        }
        Document::Array(items) if items.is_empty() => Ok(None),
        Document::Array(items) => {
            let categories = items.iter().map(|item| match item {
                Document::Text(text) => Ok(Category::Text(text.clone())),
                Document::Bool(truth) => Ok(Category::Number(f64::from(u8::from(*truth)))),
                Document::Number(number) => category(*number),
                _ => Err(wrong()),
            });
            categories
                .collect::<Result<Vec<Category>, LoadError>>()
                .map(Some)
        }
        _ => Err(wrong()),
    }
}

fn category(number: f64) -> Result<Category, LoadError> {
    match numbers::leaves_out_integers(number) {
        true => Err(unsupported(format!(
            "'pandas_categorical' holds {number}; {}",
            numbers::EXACT_ALLOWED
        ))),
        false => Ok(Category::Number(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_doubles_do_not_tell_apart_are_refused() {
        let read = |list: &str| {
            let list = format!("pandas_categorical:[[{list}]]");
            let lines = ["[categorical_feature: 1]", list.as_str()];
            read(lines.into_iter(), 2).map_err(|error| error.to_string())
        };
        let known = [
            Category::Number(9_007_199_254_740_991.0),
            Category::Number(-3.0),
        ];
        let expected = vec![None, Some(known.to_vec())];
        assert_eq!(read("9007199254740991, -3"), Ok(expected));
        for list in [
            "9007199254740992, 9007199254740993",
            "-9007199254740993, true",
        ] {
            let message = read(list).unwrap_err();
            assert!(message.contains("below 2^53"), "{message}");
        }
    }
}
