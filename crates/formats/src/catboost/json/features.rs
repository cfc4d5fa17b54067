//! The features of a JSON export: `features_info`, and the tables of `ctr_data`.

use std::collections::{HashMap, HashSet};

use coracle_estimators::StatisticCounts;
use coracle_model::{ColumnKind, LoadError};

use super::super::features::{Features, Numeric, RawCombination, StatisticFeature, StatisticType};
use super::super::unsupported;
use crate::document::{Document, Entry};
use crate::numbers::to_single;

/// Reads the features of a document.
pub(super) fn read(root: &Entry<'_>) -> Result<Features, LoadError> {
    let info = root.field("features_info")?;
    for kind in ["text_features", "embedding_features"] {
        if info.find(kind).is_some() {
            let kind = kind.replace('_', " ");
            return Err(unsupported(format!("CatBoost's {kind} are not supported")));
        }
    }
    let mut features = Features::default();
    for entry in list(&info, "float_features")? {
        let (place, name) = column(&entry)?;
        let column = features.add_column(Some(place), name, ColumnKind::Numbers)?;
        let is_true = |key: &str| {
            let value = entry.find(key);
            value.is_some_and(|value| *value.document() == Document::Bool(true))
        };
        let treatment = entry.find("nan_value_treatment");
        let above = treatment.is_some_and(|entry| entry.text().ok() == Some("AsTrue"));
        features.add_numeric(Numeric {
            column,
            missing_above: above && is_true("has_nans"),
            borders: singles(&entry.field("borders")?)?,
        })?;
    }
    let statistics = list(&info, "ctrs")?;
    let used = used_categories(&statistics)?;
    for (feature, entry) in list(&info, "categorical_features")?.iter().enumerate() {
        let hashes = match entry.find("values") {
            Some(values) => values
                .numbers()?
                .iter()
                .map(|&hash| to_hash(hash))
                .collect(),
            None => Vec::new(),
        };
        let kind = match hashes.is_empty() && !used.contains(&feature) {
            true => ColumnKind::Ignored,
            false => ColumnKind::Category,
        };
        let (place, name) = column(entry)?;
        let column = features.add_column(Some(place), name, kind)?;
        features.add_category(column);
        features.add_indicators(Some(feature), hashes)?;
    }
    let mut tables = HashMap::new();
    for entry in &statistics {
        add_statistic(&mut features, root, &mut tables, entry)?;
    }
    Ok(features)
}

/// Returns the entries of a list, none if it is not there.
fn list<'d>(info: &Entry<'d>, key: &str) -> Result<Vec<Entry<'d>>, LoadError> {
    match info.find(key) {
        Some(list) if *list.document() != Document::Null => list.items(),
        _ => Ok(Vec::new()),
    }
}

fn column(entry: &Entry<'_>) -> Result<(usize, String), LoadError> {
    let place = entry.field("flat_feature_index")?.count()?;
    Ok((place, entry.field("feature_id")?.text()?.to_owned()))
}

fn singles(entry: &Entry<'_>) -> Result<Vec<f32>, LoadError> {
    if *entry.document() == Document::Null {
        return Ok(Vec::new());
    }
    Ok(entry
        .numbers()?
        .iter()
        .map(|&number| to_single(number))
        .collect())
}

/// Returns the 32 bits of a hash, written with or without a sign.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "cut to 32 bits, whichever sign they are written with"
)]
fn to_hash(number: f64) -> i32 {
    number as i64 as i32
}

/// Returns the numbers of the categorical features that statistics are of.
fn used_categories(statistics: &[Entry<'_>]) -> Result<HashSet<usize>, LoadError> {
    let mut used = HashSet::new();
    for entry in statistics {
        let combination = combination(&entry.field("elements")?)?;
        used.extend(combination.categories);
        used.extend(combination.indicators.iter().map(|&(feature, _)| feature));
    }
    Ok(used)
}

fn combination(elements: &Entry<'_>) -> Result<RawCombination, LoadError> {
    let mut combination = RawCombination::default();
    for element in elements.items()? {
        let category = || element.field("cat_feature_index")?.count();
        match element.field("combination_element")?.text()? {
            "cat_feature_value" => combination.categories.push(category()?),
            "float_feature" => {
                let border = to_single(element.field("border")?.number()?);
                let feature = element.field("float_feature_index")?.count()?;
                combination.borders.push((feature, border));
            }
            "cat_feature_exact_value" => {
                let hash = to_hash(element.field("value")?.number()?);
                combination.indicators.push((category()?, hash));
            }
            other => {
                let other = crate::document::quoted(other);
                return Err(
                    element.unsupported(format_args!("combinations of {other} are not supported"))
                );
            }
        }
    }
    Ok(combination)
}

fn add_statistic(
    features: &mut Features,
    root: &Entry<'_>,
    tables: &mut HashMap<String, usize>,
    entry: &Entry<'_>,
) -> Result<(), LoadError> {
    let kind = StatisticType::named(entry.field("ctr_type")?.text()?)?;
    let identifier = entry.field("identifier")?.text()?;
    let table = match tables.get(identifier) {
        Some(table) => *table,
        None => {
            let data = root.find("ctr_data").and_then(|data| data.find(identifier));
            let data = data.ok_or_else(|| {
                entry.malformed("the table of its categories is missing from 'ctr_data'; export the model with its training pool")
            })?;
            let (indices, counts) = table(&data, kind)?;
            let number = features.add_table(&indices, counts)?;
            tables.insert(identifier.to_owned(), number);
            number
        }
    };
    let number = |key: &str| Ok::<f32, LoadError>(to_single(entry.field(key)?.number()?));
    features.add_statistic(StatisticFeature {
        combination: combination(&entry.field("elements")?)?,
        kind,
        target_border: entry.field("target_border_idx")?.count()?,
        prior: [number("prior_numerator")?, number("prior_denomerator")?],
        shift: number("shift")?,
        scale: number("scale")?,
        borders: singles(&entry.field("borders")?)?,
        table,
    })
}

/// Hashes with their places, and what was counted.
type Counted = (Vec<(u64, u32)>, StatisticCounts);

/// Reads a table: for each combination its hash, as text, and its counts.
fn table(data: &Entry<'_>, kind: StatisticType) -> Result<Counted, LoadError> {
    let stride = data.field("hash_stride")?.count()?;
    let map = data.field("hash_map")?;
    let wrong = || map.malformed("is not a list of hashes with their counts");
    let Document::Array(items) = map.document() else {
        return Err(wrong());
    };
    let n_counts = stride.checked_sub(1).filter(|&n| n > 0).ok_or_else(wrong)?;
    let mut indices = Vec::new();
    let mut counts: Vec<f64> = Vec::new();
    for (index, row) in items.chunks(stride).enumerate() {
        let Some((Document::Text(hash), row)) = row.split_first() else {
            return Err(wrong());
        };
        let hash: u64 = hash.parse().map_err(|_error| wrong())?;
        if row.len() != n_counts {
            return Err(wrong());
        }
        for count in row {
            match count {
                Document::Number(count) => counts.push(*count),
                _ => return Err(wrong()),
            }
        }
        if hash != u64::MAX {
            indices.push((hash, u32::try_from(index).map_err(|_large| wrong())?));
        }
    }
    let counts = match kind {
        StatisticType::Borders | StatisticType::Buckets => StatisticCounts::Classes {
            counts: counts.into_iter().map(to_hash).collect(),
            n_classes: n_counts,
        },
        StatisticType::BinarizedTargetMean | StatisticType::FloatTargetMean => {
            if n_counts != 2 {
                return Err(wrong());
            }
            let pairs = counts.as_chunks::<2>().0.iter();
            StatisticCounts::Means(
                pairs
                    .map(|&[sum, n]| (to_single(sum), to_hash(n)))
                    .collect(),
            )
        }
        _ if n_counts != 1 => return Err(wrong()),
        StatisticType::Counter | StatisticType::FeatureFrequency => StatisticCounts::Totals {
            counts: counts.into_iter().map(to_hash).collect(),
            denominator: to_hash(data.field("counter_denominator")?.number()?),
        },
    };
    Ok((indices, counts))
}
