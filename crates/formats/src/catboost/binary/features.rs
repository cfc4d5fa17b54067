//! The features of a `.cbm` file: numeric ones, categories, and statistics with the tables that follow the trees.

use coracle_estimators::StatisticCounts;
use coracle_model::{ColumnKind, LoadError};

use super::super::features::{Features, Numeric, RawCombination, StatisticFeature, StatisticType};
use super::super::flatbuffer::Table;
use super::super::{malformed, unsupported};

mod slot {
    pub(super) const CATEGORY_FEATURES: usize = 4;
    pub(super) const FLOAT_FEATURES: usize = 5;
    pub(super) const ONE_HOT_FEATURES: usize = 6;
    pub(super) const STATISTIC_FEATURES: usize = 7;
    pub(super) const TEXT_FEATURES: usize = 12;
    pub(super) const ESTIMATED_FEATURES: usize = 13;
    pub(super) const EMBEDDING_FEATURES: usize = 18;
}

/// Reads the features of `trees`; `parts` is what follows them in the file.
pub(super) fn read(trees: &Table<'_>, parts: &[u8]) -> Result<Features, LoadError> {
    if trees.vector(slot::ESTIMATED_FEATURES, 4)?.len() > 0 {
        let kind = match trees.vector(slot::TEXT_FEATURES, 4)?.len() {
            0 => "embedding",
            _ => "text",
        };
        return Err(unsupported(format!(
            "CatBoost's {kind} features are not supported"
        )));
    }
    let mut features = Features::default();
    for feature in trees.vector(slot::FLOAT_FEATURES, 4)?.tables()? {
        let column =
            features.add_column(index(&feature, 2)?, feature.text(4)?, ColumnKind::Numbers)?;
        let borders = feature.vector(3, 4)?.items::<4>();
        features.add_numeric(Numeric {
            column,
            missing_above: feature.byte(0, 0)? != 0 && feature.byte(5, 0)? == 2,
            borders: borders.map(|&border| f32::from_le_bytes(border)).collect(),
        })?;
    }
    // Which of these the trees read, if any.
    for (slot, used_at) in [
        (slot::CATEGORY_FEATURES, 3),
        (slot::TEXT_FEATURES, 3),
        (slot::EMBEDDING_FEATURES, 4),
    ] {
        for feature in trees.vector(slot, 4)?.tables()? {
            let is_category = slot == slot::CATEGORY_FEATURES;
            let kind = match is_category && feature.byte(used_at, 1)? != 0 {
                true => ColumnKind::Category,
                false => ColumnKind::Ignored,
            };
            let column = features.add_column(index(&feature, 1)?, feature.text(2)?, kind)?;
            if is_category {
                features.add_category(column);
            }
        }
    }
    for feature in trees.vector(slot::ONE_HOT_FEATURES, 4)?.tables()? {
        let hashes = feature.vector(1, 4)?.items::<4>();
        let hashes = hashes.map(|&hash| i32::from_le_bytes(hash));
        features.add_indicators(index(&feature, 0)?, hashes)?;
    }
    let statistics = trees.vector(slot::STATISTIC_FEATURES, 4)?.tables()?;
    if !statistics.is_empty() {
        add_statistics(&mut features, &statistics, parts)?;
    }
    Ok(features)
}

/// Returns an index that is not negative.
fn index(table: &Table<'_>, slot: usize) -> Result<Option<usize>, LoadError> {
    Ok(usize::try_from(table.int(slot, -1)?).ok())
}

/// Tells tables apart: what is counted together, how, and over which classes of the target.
type TableKey = (RawCombination, StatisticType, i32);

fn add_statistics(
    features: &mut Features,
    statistics: &[Table<'_>],
    parts: &[u8],
) -> Result<(), LoadError> {
    let mut keys: Vec<(TableKey, usize)> = Vec::new();
    for buffer in buffers(parts)? {
        let table = Table::root(buffer)?;
        let key = table_key(&table)?;
        let counts = counts(&table, key.1)?;
        let buckets = table.vector(1, 1)?;
        let places = buckets.bytes().as_chunks::<12>().0.iter().map(|bytes| {
            let (hash, index) = bytes.split_at(8);
            let hash = hash
                .first_chunk()
                .map_or(0, |hash| u64::from_le_bytes(*hash));
            let index = index
                .first_chunk()
                .map_or(0, |index| u32::from_le_bytes(*index));
            (hash, index)
        });
        let places: Vec<(u64, u32)> = places.filter(|&(hash, _)| hash != u64::MAX).collect();
        keys.push((key, features.add_table(&places, counts)?));
    }
    for feature in statistics {
        let lacks = || malformed("a statistic lacks what it is of");
        let of = feature.table(0)?.ok_or_else(lacks)?;
        let key = table_key(&of)?;
        let table = keys.iter().find(|(known, _)| *known == key);
        let (_, table) = table.ok_or_else(|| malformed("a statistic's table is missing"))?;
        let borders = feature.vector(1, 4)?.items::<4>();
        let (combination, kind, _) = key;
        features.add_statistic(StatisticFeature {
            combination,
            kind,
            target_border: usize::try_from(of.int(1, 0)?).map_err(|_negative| lacks())?,
            prior: [of.single(2, 0.0)?, of.single(3, 1.0)?],
            shift: of.single(4, 0.0)?,
            scale: of.single(5, 1.0)?,
            borders: borders.map(|&border| f32::from_le_bytes(border)).collect(),
            table: *table,
        })?;
    }
    Ok(())
}

/// Takes the buffers apart that follow the trees: their number, then each with its length.
fn buffers(parts: &[u8]) -> Result<Vec<&[u8]>, LoadError> {
    let short = || malformed("the tables of categories end too early");
    let (count, mut rest) = parts.split_first_chunk::<4>().ok_or_else(short)?;
    let mut buffers = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_large| short())?;
        let (buffer, after) = after.split_at_checked(length).ok_or_else(short)?;
        buffers.push(buffer);
        rest = after;
    }
    Ok(buffers)
}

/// Reads what a table is of: the base of a statistic.
fn table_key(table: &Table<'_>) -> Result<TableKey, LoadError> {
    let base = table.table(0)?;
    let base = base.ok_or_else(|| malformed("a table of categories lacks what it is of"))?;
    let wrong = || malformed("a combination names a feature below zero");
    let number = |bytes: &[u8]| {
        bytes
            .first_chunk()
            .map_or(-1, |bytes| i32::from_le_bytes(*bytes))
    };
    let feature = |bytes: &[u8]| usize::try_from(number(bytes)).map_err(|_negative| wrong());
    let mut combination = RawCombination::default();
    if let Some(parts) = base.table(0)? {
        for bytes in parts.vector(0, 4)?.items::<4>() {
            combination.categories.push(feature(bytes)?);
        }
        for bytes in parts.vector(1, 8)?.items::<8>() {
            let (of, border) = bytes.split_at(4);
            let border = border
                .first_chunk()
                .map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
            combination.borders.push((feature(of)?, border));
        }
        for bytes in parts.vector(2, 8)?.items::<8>() {
            let (of, hash) = bytes.split_at(4);
            combination.indicators.push((feature(of)?, number(hash)));
        }
    }
    let kind = StatisticType::numbered(base.byte(1, 0)?)?;
    Ok((combination, kind, base.int(2, 0)?))
}

fn counts(table: &Table<'_>, kind: StatisticType) -> Result<StatisticCounts, LoadError> {
    let blob = table.vector(2, 1)?.bytes();
    let integers = || {
        blob.as_chunks()
            .0
            .iter()
            .map(|bytes| i32::from_le_bytes(*bytes))
    };
    Ok(match kind {
        StatisticType::Borders | StatisticType::Buckets => {
            let n_classes = usize::try_from(table.int(4, 0)?).unwrap_or(0);
            if n_classes == 0 {
                return Err(malformed("a table of categories counts no classes"));
            }
            StatisticCounts::Classes {
                counts: integers().collect(),
                n_classes,
            }
        }
        StatisticType::BinarizedTargetMean | StatisticType::FloatTargetMean => {
            let pairs = blob.as_chunks::<8>().0.iter().map(|bytes| {
                let (sum, count) = bytes.split_at(4);
                let sum = sum
                    .first_chunk()
                    .map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
                let count = count
                    .first_chunk()
                    .map_or(0, |bytes| i32::from_le_bytes(*bytes));
                (sum, count)
            });
            StatisticCounts::Means(pairs.collect())
        }
        StatisticType::Counter | StatisticType::FeatureFrequency => StatisticCounts::Totals {
            counts: integers().collect(),
            denominator: table.int(3, 0)?,
        },
    })
}
