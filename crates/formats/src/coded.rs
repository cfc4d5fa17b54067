//! Categories that a file of boosted trees keeps beside the codes that its trees know.

use coracle_estimators::{Categories, Category, WithCodes, shown_names};
use coracle_model::{Estimator, LoadError, LoadErrorKind};

/// Returns `estimator` on tables of the categories themselves, where the file has them; as it is where it has none.
///
/// # Errors
/// Kind `Unsupported` if the categories of a column mix numbers and texts.
pub(crate) fn with_codes(
    estimator: Box<dyn Estimator>,
    categories: &[Option<Vec<Category>>],
    names: Option<&[String]>,
    refuses_unknown: bool,
) -> Result<Box<dyn Estimator>, LoadError> {
    if categories.iter().all(Option::is_none) {
        return Ok(estimator);
    }
    let unsupported = |error: coracle_estimators::SpecError| {
        LoadError::new(LoadErrorKind::Unsupported, error.to_string())
    };
    let mut columns = Vec::with_capacity(categories.len());
    for list in categories {
        let known = list.as_ref().map(|list| Categories::try_new(list));
        columns.push(known.transpose().map_err(unsupported)?);
    }
    let names = shown_names(names, columns.len());
    let coded = WithCodes::try_new(columns, names, refuses_unknown, estimator);
    Ok(Box::new(coded.map_err(unsupported)?))
}
