//! `pandas_categorical`: the categories of a data frame's columns, of which trees know the codes.

use coracle_estimators::Category;
use coracle_model::LoadError;

use super::{malformed, unsupported};
use crate::document::{Document, parse_json, whole};
use crate::numbers;

/// Reads the categories of each feature from the lines after the trees; empty if there are none.
///
/// The lists are those of the frame's columns of categories in order. By default the parameters say which these are, but for ordered ones,
/// which are numbers to LightGBM. Where there are such, or where what the file says of the values of each feature, `infos`, is not of codes
/// (of a `categorical_feature` that is no column of categories), these tell the places. Codes, too, are categories: pandas makes NaN of any
/// other number.
///
/// # Errors
/// Kind `Unsupported` if it cannot be told which column a list is of, or for integers that doubles do not tell apart.
pub(super) fn read<'t>(
    lines: impl Iterator<Item = &'t str>,
    n_features: usize,
    infos: &str,
) -> Result<Vec<Option<Vec<Category>>>, LoadError> {
    let (mut columns, mut list): (Vec<usize>, _) = (Vec::new(), None);
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
    let Some(Document::Array(documents)) = list else {
        return Ok(Vec::new());
    };
    let lists: Result<Vec<_>, LoadError> = documents.iter().map(categories).collect();
    let lists = lists?;
    let infos: Vec<&str> = match infos {
        "" => Vec::new(),
        infos => infos.split(' ').collect(),
    };
    let mut listed = columns.iter().zip(&lists).map(|(&column, list)| {
        let info = infos.get(column);
        info.is_none_or(|info| may_be_codes(info, list.len()))
    });
    if columns.len() != lists.len() || !listed.all(|may_be| may_be) {
        if lists.iter().all(Vec::is_empty) {
            // Nothing was there in training, so no tree reads the columns.
            return Ok(Vec::new());
        }
        let n_lists = lists.len();
        let placed = placed(lists, n_features, &infos, &columns);
        return placed.ok_or_else(|| {
            unsupported(format!(
                "{n_lists} lists of pandas categories for {} categorical features: which is whose cannot be told (those of ordered categories \
                 can, where no other column has nothing but integers that might be codes of them)",
                columns.len()
            ))
        });
    }
    let mut all = vec![None; n_features];
    for (column, list) in columns.into_iter().zip(lists) {
        let place = all.get_mut(column);
        *place
            .ok_or_else(|| malformed(format!("categorical feature {column} does not exist")))? =
            Some(list);
    }
    Ok(all)
}

/// Puts lists to the only features that they may be of, in order, by the values that the features had in training; `None` where a list may
/// be of several.
///
/// Where only categories that are their own codes may be of several, each of the `listed` features has a list, as by default. Where
/// `categorical_feature` said something else, such a list leaves integers, and codes, as they are, but for those beyond it.
fn placed(
    lists: Vec<Vec<Category>>,
    n_features: usize,
    infos: &[&str],
    listed: &[usize],
) -> Option<Vec<Option<Vec<Category>>>> {
    if infos.len() != n_features {
        return None;
    }
    // The first places that all lists may have, and the last ones.
    let mut features = infos.iter().enumerate();
    let mut places = Vec::with_capacity(lists.len());
    for list in &lists {
        let (feature, _) = features.find(|(_, info)| may_be_codes(info, list.len()))?;
        places.push(feature);
    }
    let mut features = infos.iter().enumerate().rev();
    let mut certain = true;
    for (list, first) in lists.iter().zip(&places).rev() {
        let (feature, _) = features.find(|(_, info)| may_be_codes(info, list.len()))?;
        // Of a list of nothing, nothing was there in training, so no tree reads the column.
        if feature != *first && !list.is_empty() {
            certain = false;
            if !are_own_codes(list) {
                return None;
            }
        }
    }
    if !certain {
        places = places_with_all_listed(&lists, infos, listed)?;
    }
    let mut all = vec![None; n_features];
    for (list, feature) in lists.into_iter().zip(places) {
        if !list.is_empty() {
            *all.get_mut(feature)? = Some(list);
        }
    }
    Some(all)
}

/// The most numbers of ways that are counted.
const MAX_WAYS: usize = 1 << 24;

/// Returns the features that lists are of, in order, if there is one way alone in which each of the `listed` features has a list.
fn places_with_all_listed(
    lists: &[Vec<Category>],
    infos: &[&str],
    listed: &[usize],
) -> Option<Vec<usize>> {
    let width = lists.len().checked_add(1)?;
    if listed.len() > lists.len() || infos.len().checked_mul(width)? > MAX_WAYS {
        return None;
    }
    let mut is_listed = vec![false; infos.len()];
    for &feature in listed {
        *is_listed.get_mut(feature)? = true;
    }
    // In how many ways (none, one, more) the features so far may have so many of the lists, and the last of these its place.
    let mut ways = vec![0_u8; width];
    *ways.first_mut()? = 1;
    let mut has_list = Vec::with_capacity(infos.len());
    for (info, is_listed) in infos.iter().zip(is_listed) {
        let least = least_categories(info);
        let mut has = vec![false; width];
        let mut before = 0;
        for (n, (ways, has)) in ways.iter_mut().zip(&mut has).enumerate() {
            let list = n.checked_sub(1).and_then(|last| lists.get(last));
            let fits = list.is_some_and(|list| least.is_some_and(|least| least <= list.len()));
            let with = if fits { before } else { 0 };
            let without = if is_listed { 0 } else { *ways };
            before = *ways;
            *has = with > 0;
            *ways = 2.min(with.saturating_add(without));
        }
        has_list.push(has);
    }
    if ways.last() != Some(&1) {
        return None;
    }
    // One way alone leads to where it ends, so wherever a list can have a place on it, it has.
    let mut places = Vec::with_capacity(lists.len());
    let mut n = lists.len();
    for (feature, has) in has_list.iter().enumerate().rev() {
        if *has.get(n)? {
            places.push(feature);
            n = n.checked_sub(1)?;
        }
    }
    places.reverse();
    Some(places)
}

/// Tells whether categories are 0, 1, ... in order, so that each is its own code.
fn are_own_codes(list: &[Category]) -> bool {
    let mut code = -1.0;
    list.iter().all(|category| {
        code += 1.0;
        matches!(category, Category::Number(number) if *number == code)
    })
}

/// Tells whether a feature may hold the codes of `length` categories.
fn may_be_codes(info: &str, length: usize) -> bool {
    least_categories(info).is_some_and(|least| least <= length)
}

/// Returns of how many categories at least a feature may hold the codes, if it may: LightGBM writes the range of numbers as `[0:2]`, the
/// codes that were there as `2:0:1` with -1 for missing ones, and `none` of what it left out.
fn least_categories(info: &str) -> Option<usize> {
    let least = |text: &str| whole(text.parse().ok()?)?.checked_add(1);
    let range = info
        .strip_prefix('[')
        .and_then(|info| info.strip_suffix(']'));
    if let Some(range) = range {
        let (low, high) = range.split_once(':')?;
        return Some(least(low)?.max(least(high)?));
    }
    if info == "none" {
        return Some(0);
    }
    let mut most = 0;
    for code in info.split(':').filter(|code| *code != "-1") {
        most = most.max(least(code)?);
    }
    Some(most)
}

/// Returns the categories of one column.
fn categories(list: &Document) -> Result<Vec<Category>, LoadError> {
    let wrong = || {
        malformed("'pandas_categorical' holds something else than numbers, texts and truth values")
    };
    match list {
        Document::Numbers(numbers) => numbers.iter().map(|&number| category(number)).collect(),
        Document::Array(items) => {
            let categories = items.iter().map(|item| match item {
                Document::Text(text) => Ok(Category::Text(text.clone())),
                Document::Bool(truth) => Ok(Category::Number(f64::from(u8::from(*truth)))),
                Document::Number(number) => category(*number),
                _ => Err(wrong()),
            });
            categories.collect()
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
            read(lines.into_iter(), 2, "").map_err(|error| error.to_string())
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

    #[test]
    fn lists_of_ordered_categories_are_put_to_the_only_columns_that_they_may_be_of() {
        let text = |text: &str| Category::Text(text.to_owned());
        let placed = |infos: &str, lists: &str| {
            let list = format!("pandas_categorical:{lists}");
            let lines = ["[categorical_feature: 2]", list.as_str()];
            read(lines.into_iter(), 4, infos).ok()
        };
        let (sizes, letters) = (
            Some(vec![text("s"), text("l")]),
            Some(vec![text("a"), text("b"), text("c")]),
        );
        let two = r#"[["s","l"],["a","b","c"]]"#;
        let expected = Some(vec![None, sizes, letters, None]);
        for infos in [
            "[-2.5:1] [0:1] -1:2:0 [0:8]",
            "[0:0.5] [1:1] 1:2 [0:3]",
            "[0:2] [0:1] 0:1:2 [-1:2]",
            "[0:1.5] none 0:1:2 [1:1e300]",
        ] {
            assert_eq!(placed(infos, two), expected, "{infos}");
        }
        for infos in [
            "[0:1] [0:1] 0:1:2 [0:8]",
            "none [0:1] 0:1:2 [0:8]",
            "[0:7] [0:1] 0:1:2 [0:2]",
            "[0:7] [0:1] 0:1:3 [0:8]",
            "[0:7] [0:1] 0:1:2",
            "[0:7] [0] 0:x:2 [0:8]",
            "",
        ] {
            assert_eq!(placed(infos, two), None, "{infos}");
        }
        // Categories that are their own codes need a place, too: any other number is NaN to pandas.
        let codes = |n: u8| Some((0..n).map(|code| Category::Number(code.into())).collect());
        let own = r#"[[0,1,2,3,4],["a","b","c"]]"#;
        let letters = Some(vec![text("a"), text("b"), text("c")]);
        let expected = Some(vec![None, codes(5), letters, None]);
        assert_eq!(placed("[0:7] [0:4] 0:1:2 [0:8]", own), expected);
        assert_eq!(placed("[0:4] [0:4] 0:1:2 [0:8]", own), None);
        let expected = Some(vec![None, codes(2), codes(3), None]);
        assert_eq!(
            placed("[0:7] [0:1] 0:1:2 [0:8]", "[[0,1],[0,1,2]]"),
            expected
        );
        // Of a column that had no value in training no place is needed.
        let expected = Some(vec![None, None, codes(3), None]);
        assert_eq!(placed("none [0:7] 0:1:2 [0:8]", "[[],[0,1,2]]"), expected);
    }

    #[test]
    fn listed_features_have_lists_where_only_those_of_own_codes_may_be_of_several() {
        let placed = |n_features: usize, infos: &str, listed: &str, lists: &str| {
            let listed = format!("[categorical_feature: {listed}]");
            let list = format!("pandas_categorical:{lists}");
            let lines = [listed.as_str(), list.as_str()];
            read(lines.into_iter(), n_features, infos).map_err(|error| error.kind())
        };
        let refused = Err(coracle_model::LoadErrorKind::Unsupported);
        let codes = |n: u8| Some((0..n).map(|code| Category::Number(code.into())).collect());
        let sizes = Some(
            ["s", "m", "l"]
                .map(|size| Category::Text(size.to_owned()))
                .to_vec(),
        );
        // A flag, categories, and ordered ones.
        let infos = "[0:1] -1:1:2:3:0 [0:2]";
        let lists = r#"[[0,1,2,3],["s","m","l"]]"#;
        let expected = Ok(vec![None, codes(4), sizes.clone()]);
        assert_eq!(placed(3, infos, "1", lists), expected);
        // None that is listed, too many that are, and one that does not exist.
        for listed in ["", "0,1,2", "3"] {
            assert_eq!(placed(3, infos, listed, lists), refused, "{listed}");
        }
        // Texts stay refused.
        let texts = r#"[["a","b","c","d"],["s","m","l"]]"#;
        assert_eq!(placed(3, infos, "1", texts), refused);
        // Two that are listed, next to each other, in place of both of which there might be flags.
        let infos = "[0:1] [0:1] 0:1:3 1:0:3 [0:2]";
        let lists = r#"[[0,1,2,3],[0,1,2,3,4],["s","m","l"]]"#;
        let expected = Ok(vec![None, None, codes(4), codes(5), sizes]);
        assert_eq!(placed(5, infos, "2,3", lists), expected);
        assert_eq!(placed(5, infos, "2", lists), refused);
        assert_eq!(placed(3, "[0:1] 0:1 [0:1]", "1", "[[0,1],[0,1]]"), refused);
    }

    #[test]
    fn without_categories_listed_columns_need_no_place() {
        for (infos, lists) in [
            ("", "[]"),
            ("[0:1]", "[]"),
            ("[0:1] 0:1:2", "[]"),
            ("", "[[],[]]"),
        ] {
            let list = format!("pandas_categorical:{lists}");
            let lines = ["[categorical_feature: 1]", list.as_str()];
            let read = read(lines.into_iter(), 2, infos).map_err(|error| error.to_string());
            assert_eq!(read, Ok(Vec::new()), "{infos} {lists}");
        }
    }

    /// An explicit `categorical_feature` need not be a column of categories.
    #[test]
    fn lists_are_not_put_to_listed_columns_whose_values_are_no_codes_of_them() {
        let sizes = ["s", "m", "l"].map(|size| Category::Text(size.to_owned()));
        let placed = |infos: &str| {
            let lines = [
                "[categorical_feature: 1]",
                r#"pandas_categorical:[["s","m","l"]]"#,
            ];
            read(lines.into_iter(), 3, infos).map_err(|error| error.kind())
        };
        let listed = Ok(vec![None, Some(sizes.to_vec()), None]);
        let other = Ok(vec![None, None, Some(sizes.to_vec())]);
        for (infos, expected) in [
            ("[-3:3.5] -1:1:0:2 [0:7]", &listed),
            ("[-3:3.5] none [0:7]", &listed),
            ("", &listed),
            ("[-3:3.5] -1:21:0:44 [0:2]", &other),
            ("[-3:3.5] -1:21:0:44 2:1:0", &other),
            (
                "[0:2] -1:21:0:44 [0:2]",
                &Err(coracle_model::LoadErrorKind::Unsupported),
            ),
        ] {
            assert_eq!(&placed(infos), expected, "{infos}");
        }
    }
}
