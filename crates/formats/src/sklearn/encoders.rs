//! Encoders of categories: one-hot, ordinal, target, labels.

use coracle_estimators::{
    Categories, Category, LabelEncoder, OneHotColumn, OneHotEncoder, Reading, Unknown, ValueColumn,
    ValueEncoder, shown_names,
};
use coracle_model::LoadError;
use coracle_pickle::{Array, NodeId};

use super::categories;
use super::convert::Part;
use super::fitted::Fitted;
use super::{nones, older_encoders};

/// For each category of a column, its place once infrequent ones are grouped; `None` where none are.
type Grouping = Option<Vec<usize>>;

fn facts(columns: &[Vec<Category>]) -> Vec<(String, String)> {
    let total: usize = columns.iter().map(Vec::len).sum();
    vec![("categories".to_owned(), total.to_string())]
}

/// Converts a one-hot encoder.
pub(super) fn one_hot(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if older_encoders::is_of_counts(fitted)? {
        return older_encoders::one_hot(fitted);
    }
    let lists = categories::per_column(fitted)?;
    let groupings = groupings(fitted, &lists, &vec![None; lists.len()])?;
    let dropped = dropped(fitted, lists.len())?;
    let handling = fitted.text("handle_unknown")?;
    let mut columns = Vec::with_capacity(lists.len());
    for ((list, grouping), dropped) in lists.iter().zip(&groupings).zip(dropped) {
        let places = places(list.len(), grouping);
        let n_places = places
            .iter()
            .max()
            .map_or(0, |&last| last.saturating_add(1));
        // Places after the dropped one move up.
        let output = |place: usize| match dropped {
            Some(dropped) if place == dropped => None,
            Some(dropped) if place > dropped => place.checked_sub(1),
            _ => Some(place),
        };
        let infrequent = grouping.as_ref().and(n_places.checked_sub(1));
        let unknown = match handling.as_str() {
            "error" => Unknown::Refuse,
            "ignore" => Unknown::Zeros,
            // Up to 1.7 "warn" forgot the infrequent category.
            "warn" if !fitted.version.is_from(8) => Unknown::Zeros,
            "infrequent_if_exist" | "warn" => match infrequent.and_then(output) {
                Some(output) => Unknown::Output(output),
                None => Unknown::Zeros,
            },
            other => {
                let message = format!("handle_unknown '{other}' is not supported");
                return Err(fitted.unsupported(message));
            }
        };
        columns.push(OneHotColumn {
            categories: categories::index(fitted, list)?,
            width: match dropped {
                Some(dropped) if dropped < n_places => n_places.saturating_sub(1),
                _ => n_places,
            },
            outputs: places.into_iter().map(output).collect(),
            unknown,
        });
    }
    let names = shown_names(fitted.feature_names()?.as_deref(), columns.len());
    let encoder = OneHotEncoder::try_new(columns, names)
        .map_err(|error| fitted.malformed(error.to_string()))?;
    let reading = reading(fitted, 23);
    let part = Part::new(encoder.reading(reading), facts(&lists));
    Ok(part.with_nones(nones::of_encoder(fitted)))
}

/// Says what of missing values an encoder takes, which refused them up to `0.minor`.
fn reading(fitted: &Fitted<'_>, minor: u32) -> Reading {
    match fitted.version.is_up_to_zero(minor) {
        true => Reading::Present,
        false => Reading::Any,
    }
}

fn places(n_categories: usize, grouping: &Grouping) -> Vec<usize> {
    match grouping {
        Some(places) => places.clone(),
        None => (0..n_categories).collect(),
    }
}

/// Reads how infrequent categories are grouped (1.1 and later), if they are. What is at one of `missing` is not grouped;
/// being last, it is then left out.
fn groupings(
    fitted: &Fitted<'_>,
    lists: &[Vec<Category>],
    missing: &[Option<usize>],
) -> Result<Vec<Grouping>, LoadError> {
    const NAME: &str = "_default_to_infrequent_mappings";
    if !fitted.flag_or("_infrequent_enabled", false)? {
        return Ok(vec![None; lists.len()]);
    }
    let mappings = fitted.list(NAME)?;
    if mappings.len() != lists.len() {
        return Err(fitted.malformed(format!("'{NAME}' and 'categories_' differ in length")));
    }
    let read = mappings.iter().zip(lists).zip(missing);
    let read = read.map(|((&mapping, list), missing)| {
        if categories::is_missing(fitted.graph, mapping) {
            return Ok(None);
        }
        let places = counts(fitted, mapping).map(|mut places| {
            if *missing == Some(places.len()) {
                places.push(0);
            }
            places
        });
        let places = places.filter(|places| places.len() == list.len());
        let places = places.filter(|places| places.iter().all(|&place| place < list.len()));
        match places {
            Some(places) => Ok(Some(places)),
            None => Err(fitted.malformed(format!("'{NAME}' is not a place per category"))),
        }
    });
    read.collect()
}

fn counts(fitted: &Fitted<'_>, id: NodeId) -> Option<Vec<usize>> {
    let integers = fitted.graph.array(id).and_then(Array::to_i64s)?;
    integers
        .into_iter()
        .map(|integer| usize::try_from(integer).ok())
        .collect()
}

/// Reads which place of each column is dropped. From 1.2 on `drop_idx_` counts before grouping.
fn dropped(fitted: &Fitted<'_>, n_columns: usize) -> Result<Vec<Option<usize>>, LoadError> {
    let name = match fitted.attr("_drop_idx_after_grouping") {
        Some(_) => "_drop_idx_after_grouping",
        None => "drop_idx_",
    };
    if fitted.is_none(name) {
        return Ok(vec![None; n_columns]);
    }
    let array = fitted.array(name)?;
    let wrong = || fitted.malformed(format!("'{name}' is not an index per feature"));
    let read: Option<Vec<Option<usize>>> = match array.objects() {
        Some(ids) => ids
            .iter()
            .map(|&id| match fitted.graph.int(id) {
                Some(index) => usize::try_from(index).ok().map(Some),
                None => categories::is_missing(fitted.graph, id).then_some(None),
            })
            .collect(),
        None => array.to_i64s().and_then(|indices| {
            let indices = indices.into_iter();
            indices
                .map(|index| usize::try_from(index).ok().map(Some))
                .collect()
        }),
    };
    read.filter(|read| read.len() == n_columns)
        .ok_or_else(wrong)
}

/// Converts an ordinal encoder.
pub(super) fn ordinal(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let (encoder, facts) = ordinal_encoder(fitted)?;
    Ok(Part::new(encoder, facts).with_nones(nones::of_encoder(fitted)))
}

pub(super) fn ordinal_encoder(
    fitted: &Fitted<'_>,
) -> Result<(ValueEncoder, Vec<(String, String)>), LoadError> {
    let lists = categories::per_column(fitted)?;
    let missing_places = missing_places(fitted, lists.len())?;
    let groupings = groupings(fitted, &lists, &missing_places)?;
    let unknown = match fitted.text_or("handle_unknown", "error")?.as_str() {
        "error" => None,
        "use_encoded_value" => Some(vec![fitted.number("unknown_value")?]),
        other => {
            let message = format!("handle_unknown '{other}' is not supported");
            return Err(fitted.unsupported(message));
        }
    };
    // Before 1.1 there was no choice.
    let missing_value = match fitted.attr("encoded_missing_value") {
        Some(_) => fitted.number("encoded_missing_value")?,
        None => f64::NAN,
    };
    let mut columns = Vec::with_capacity(lists.len());
    for ((list, grouping), missing) in lists.iter().zip(&groupings).zip(missing_places) {
        let places = places(list.len(), grouping).into_iter().enumerate();
        let values = places.map(|(category, place)| match missing == Some(category) {
            true => missing_value,
            false => to_f64(place),
        });
        columns.push(ValueColumn {
            categories: categories::index(fitted, list)?,
            values: values.collect(),
            width: 1,
            unknown: unknown.clone(),
        });
    }
    let names = shown_names(fitted.feature_names()?.as_deref(), columns.len());
    let encoder = ValueEncoder::try_new(columns, names)
        .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok((encoder.reading(reading(fitted, 24)), facts(&lists)))
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a place among categories, far below 2^53"
)]
fn to_f64(place: usize) -> f64 {
    place as f64
}

/// Reads which category of each column is NaN; `None` (Python's) is a category like others.
fn missing_places(fitted: &Fitted<'_>, n_columns: usize) -> Result<Vec<Option<usize>>, LoadError> {
    const NAME: &str = "_missing_indices";
    let mut places = vec![None; n_columns];
    if !fitted.version.is_from(0) {
        return Ok(places);
    }
    let entries = fitted.graph.dict(fitted.require(NAME)?);
    let wrong = || fitted.malformed(format!("'{NAME}' is not a dict of columns"));
    for &(column, category) in entries.ok_or_else(wrong)? {
        let read = |id| {
            fitted
                .graph
                .int(id)
                .and_then(|index| usize::try_from(index).ok())
        };
        let (Some(column), Some(category)) = (read(column), read(category)) else {
            return Err(wrong());
        };
        *places.get_mut(column).ok_or_else(wrong)? = Some(category);
    }
    Ok(places)
}

/// Converts a target encoder.
pub(super) fn target(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let lists = categories::per_column(fitted)?;
    let (_, means) = fitted.numbers("target_mean_")?;
    let width = match fitted.text("target_type_")?.as_str() {
        "multiclass" => means.len(),
        "binary" | "continuous" => 1,
        other => return Err(fitted.unsupported(format!("target_type_ '{other}' is not supported"))),
    };
    let encodings: Option<Vec<Vec<f64>>> = fitted
        .list("encodings_")?
        .iter()
        .map(|&id| fitted.graph.array(id).and_then(Array::to_f64s))
        .collect();
    let encodings = encodings
        .ok_or_else(|| fitted.malformed("'encodings_' holds something else than numbers"))?;
    let expected = lists.len().saturating_mul(width);
    if width == 0 || means.len() != width || encodings.len() != expected {
        let message = format!("{} encodings, expected {expected}", encodings.len());
        return Err(fitted.malformed(message));
    }
    let mut columns = Vec::with_capacity(lists.len());
    for (list, encodings) in lists.iter().zip(encodings.chunks_exact(width)) {
        let mut values = Vec::new();
        for category in 0..list.len() {
            for encoding in encodings {
                let value = encoding.get(category);
                values.push(*value.ok_or_else(|| {
                    fitted.malformed("'encodings_' has fewer values than categories")
                })?);
            }
        }
        columns.push(ValueColumn {
            categories: categories::index(fitted, list)?,
            values,
            width,
            unknown: Some(means.clone()),
        });
    }
    let names = shown_names(fitted.feature_names()?.as_deref(), columns.len());
    let encoder = ValueEncoder::try_new(columns, names)
        .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part::new(encoder, facts(&lists)).with_nones(nones::of_encoder(fitted)))
}

fn classes(fitted: &Fitted<'_>) -> Result<Categories, LoadError> {
    let classes = categories::read(fitted, fitted.array("classes_")?)?;
    categories::index(fitted, &classes)
}

/// Converts a label encoder.
pub(super) fn label(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let classes = classes(fitted)?;
    let facts = vec![("classes".to_owned(), classes.len().to_string())];
    Ok(Part::new(LabelEncoder::new(classes), facts))
}

/// Converts a label binarizer.
pub(super) fn label_binarizer(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let y_type = fitted.text("y_type_")?;
    if !["binary", "multiclass"].contains(&y_type.as_str()) {
        let message = format!("labels of type '{y_type}' are not supported");
        return Err(fitted.unsupported(message));
    }
    let (negative, positive) = (fitted.number("neg_label")?, fitted.number("pos_label")?);
    let classes = classes(fitted)?;
    let n_classes = classes.len();
    let (width, first) = match n_classes {
        // One class is never positive; of two, the second is.
        1 | 2 => (1, 1),
        n_classes => (n_classes, 0),
    };
    let mut values = Vec::new();
    for class in 0..n_classes {
        let outputs = (0..width).map(|output| output.saturating_add(first));
        values.extend(outputs.map(|output| if output == class { positive } else { negative }));
    }
    let facts = vec![("classes".to_owned(), n_classes.to_string())];
    let column = ValueColumn {
        categories: classes,
        values,
        width,
        unknown: Some(vec![negative; width]),
    };
    let encoder = ValueEncoder::try_new(vec![column], shown_names(None, 1))
        .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part::new(encoder, facts))
}
