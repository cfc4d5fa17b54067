//! `categories_` and `classes_` as the values that an encoder knows.

use coracle_estimators::{Categories, Category};
use coracle_model::LoadError;
use coracle_pickle::{Array, DTypeKind, Graph, Node, NodeId};

use super::dates;
use super::fitted::Fitted;
use crate::numbers;

/// Tells whether a value is pandas' NA, by the names that it has had.
pub(super) fn is_na(node: &Node) -> bool {
    let names = ["pandas._libs.missing.NA", "pandas.NA"];
    matches!(node, Node::Global(name) if names.contains(name))
}

/// Returns the categories of each column, from attribute `categories_`.
///
/// # Errors
/// Kind `Unsupported` for categories that are neither numbers, texts nor dates, or several of these; `Malformed` if there is another
/// number of lists than features.
pub(super) fn per_column(fitted: &Fitted<'_>) -> Result<Vec<Vec<Category>>, LoadError> {
    let lists = fitted.list("categories_")?;
    let columns: Result<Vec<_>, LoadError> = lists
        .iter()
        .map(|&list| {
            let array = fitted.graph.array(list);
            let array = array.ok_or_else(|| {
                fitted.malformed("'categories_' holds something else than arrays")
            })?;
            read(fitted, array)
        })
        .collect();
    let columns = columns?;
    let n_features = fitted.n_features()?;
    if columns.len() != n_features {
        let message = format!(
            "{} lists of categories for {n_features} features",
            columns.len()
        );
        return Err(fitted.malformed(message));
    }
    Ok(columns)
}

/// Returns the values of an array as categories.
///
/// # Errors
/// Kind `Unsupported` for values that are neither numbers, texts, truth values, dates nor missing, and for integers that
/// [`check_integers`] refuses.
pub(super) fn read(fitted: &Fitted<'_>, array: &Array) -> Result<Vec<Category>, LoadError> {
    let wrong = || {
        fitted.unsupported("categories that are neither numbers, texts nor dates are not supported")
    };
    check_integers(fitted, array)?;
    if let Some(ids) = array.objects() {
        return ids
            .iter()
            .map(|&id| object(fitted, id).ok_or_else(wrong))
            .collect();
    }
    if array.dtype().kind == DTypeKind::Unicode {
        let texts = array.to_strings().ok_or_else(wrong)?;
        return Ok(texts.into_iter().map(Category::Text).collect());
    }
    if let Some(dates) = dates::array(fitted, array) {
        return Ok(dates);
    }
    let numbers = array.to_f64s().ok_or_else(wrong)?;
    Ok(numbers.into_iter().map(number).collect())
}

/// Refuses categories that are integers and that tables of doubles do not tell apart.
///
/// # Errors
/// Kind `Unsupported`, naming the first.
pub(super) fn check_integers(fitted: &Fitted<'_>, array: &Array) -> Result<(), LoadError> {
    let is_exact = |integer: &i64| integer.unsigned_abs() < numbers::EXACT_END;
    let graph = fitted.graph;
    let found = match (array.dtype().kind, array.objects()) {
        (DTypeKind::Int | DTypeKind::UInt, _) => match array.to_i64s() {
            Some(integers) => integers.into_iter().find(|integer| !is_exact(integer)),
            None => Some(i64::MAX),
        },
        (_, Some(ids)) => {
            let mut integers = ids.iter().filter_map(|&id| graph.int(id));
            integers.find(|integer| !is_exact(integer))
        }
        _ => None,
    };
    match found {
        Some(integer) => Err(fitted.unsupported(format!(
            "a category is {integer} or beyond; {}",
            numbers::EXACT_ALLOWED
        ))),
        None => Ok(()),
    }
}

fn number(value: f64) -> Category {
    match value.is_nan() {
        true => Category::Missing,
        false => Category::Number(value),
    }
}

fn object(fitted: &Fitted<'_>, id: NodeId) -> Option<Category> {
    if let Some(text) = fitted.graph.string(id) {
        return Some(Category::Text(text));
    }
    if is_missing(fitted.graph, id) {
        return Some(Category::Missing);
    }
    let date = || dates::object(fitted, id).map(Category::Date);
    fitted.graph.float(id).map(number).or_else(date)
}

/// Tells whether a value is `None`, NaN or pandas' NA or NaT.
pub(super) fn is_missing(graph: &Graph, id: NodeId) -> bool {
    match graph.node(id) {
        Node::None => true,
        node @ Node::Global(_) => is_na(node),
        Node::Object(object) => object.class.starts_with("pandas._libs.tslibs.nattype."),
        _ => graph.float(id).is_some_and(f64::is_nan),
    }
}

/// Puts categories in order for look-ups.
///
/// # Errors
/// Kind `Unsupported` if they mix numbers and texts.
pub(super) fn index(fitted: &Fitted<'_>, categories: &[Category]) -> Result<Categories, LoadError> {
    Categories::try_new(categories).map_err(|error| fitted.unsupported(error.to_string()))
}
