//! A model's columns, and the features that it makes of their categories; the same for both forms.

use std::collections::HashMap;

use coracle_estimators::{
    AboveBorder, CategoryFeatures, Combination, Indicator, Statistic, StatisticCounts,
    StatisticKind, StatisticTable,
};
use coracle_model::{ColumnKind, LoadError, LoadErrorKind};

use super::ensemble::Split;
use super::{malformed, unsupported};

/// The most columns.
const COLUMNS_MAX: usize = 1 << 20;
/// The most borders of all features, and the most parts of all combinations.
const BORDERS_MAX: usize = 1 << 24;

/// A numeric column.
#[derive(Debug)]
pub(super) struct Numeric {
    pub(super) column: usize,
    /// Whether a missing value counts as above every border.
    pub(super) missing_above: bool,
    pub(super) borders: Vec<f32>,
}

impl Numeric {
    fn split(&self, border: f32) -> Result<Split, LoadError> {
        Ok(Split {
            column: narrow(self.column)?,
            border,
            missing_above: self.missing_above,
        })
    }
}

fn narrow(column: usize) -> Result<u32, LoadError> {
    let narrow = u32::try_from(column);
    narrow.map_err(|_large| malformed(format!("there are more than {column} features")))
}

/// The columns of a model, and what it makes of them, in the order in which trees number their splits.
#[derive(Debug, Default)]
pub(super) struct Features {
    /// For each column its name and what it holds.
    columns: HashMap<usize, (String, ColumnKind)>,
    n_columns: usize,
    numerics: Vec<Numeric>,
    /// The columns of categories.
    categories: Vec<usize>,
    /// For each split on a category the number of the categorical feature, and the category's hash.
    indicators: Vec<(usize, i32)>,
    statistics: Vec<StatisticFeature>,
    tables: Vec<StatisticTable>,
    n_borders: usize,
}

/// What rows are counted together, by the numbers of features.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawCombination {
    pub(super) categories: Vec<usize>,
    pub(super) borders: Vec<(usize, f32)>,
    pub(super) indicators: Vec<(usize, i32)>,
}

/// The kinds of statistics, as both forms number or name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatisticType {
    Borders,
    Buckets,
    BinarizedTargetMean,
    FloatTargetMean,
    Counter,
    FeatureFrequency,
}

impl StatisticType {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Borders, "Borders"),
        (Self::Buckets, "Buckets"),
        (Self::BinarizedTargetMean, "BinarizedTargetMeanValue"),
        (Self::FloatTargetMean, "FloatTargetMeanValue"),
        (Self::Counter, "Counter"),
        (Self::FeatureFrequency, "FeatureFreq"),
    ];

    pub(super) fn numbered(number: u8) -> Result<Self, LoadError> {
        let known = Self::ALL.get(usize::from(number));
        let known = known.map(|&(kind, _)| kind);
        known.ok_or_else(|| unsupported(format!("statistics of type {number} are not supported")))
    }

    pub(super) fn named(name: &str) -> Result<Self, LoadError> {
        let known = Self::ALL.iter().find(|(_, known)| *known == name);
        let known = known.map(|&(kind, _)| kind);
        known.ok_or_else(|| {
            let name = crate::document::quoted(name);
            unsupported(format!("statistics of type {name} are not supported"))
        })
    }

    fn kind(self, target_border: usize) -> StatisticKind {
        match self {
            Self::Borders => StatisticKind::AboveBorder(target_border),
            Self::Buckets => StatisticKind::InClass(target_border),
            Self::BinarizedTargetMean | Self::FloatTargetMean => StatisticKind::Mean,
            Self::Counter | Self::FeatureFrequency => StatisticKind::Frequency,
        }
    }
}

/// A feature that is a statistic.
#[derive(Debug)]
pub(super) struct StatisticFeature {
    pub(super) combination: RawCombination,
    pub(super) kind: StatisticType,
    pub(super) target_border: usize,
    /// Numerator and denominator.
    pub(super) prior: [f32; 2],
    pub(super) shift: f32,
    pub(super) scale: f32,
    pub(super) borders: Vec<f32>,
    /// The number of the table of counts.
    pub(super) table: usize,
}

impl Features {
    /// Adds a column.
    pub(super) fn add_column(
        &mut self,
        column: Option<usize>,
        name: String,
        kind: ColumnKind,
    ) -> Result<usize, LoadError> {
        let column = column.filter(|&column| column < COLUMNS_MAX);
        let column = column.ok_or_else(|| {
            malformed(format!(
                "a feature's column is not one of 0 to {COLUMNS_MAX}"
            ))
        })?;
        self.n_columns = self.n_columns.max(column.saturating_add(1));
        if self.columns.insert(column, (name, kind)).is_some() {
            return Err(malformed(format!("two features are in column {column}")));
        }
        Ok(column)
    }

    /// Adds a numeric feature, whose column was added.
    pub(super) fn add_numeric(&mut self, numeric: Numeric) -> Result<(), LoadError> {
        self.count(numeric.borders.len())?;
        self.numerics.push(numeric);
        Ok(())
    }

    /// Adds a categorical feature, whose column was added.
    pub(super) fn add_category(&mut self, column: usize) {
        self.categories.push(column);
    }

    /// Adds splits on the categories of a feature.
    pub(super) fn add_indicators(
        &mut self,
        feature: Option<usize>,
        hashes: impl IntoIterator<Item = i32>,
    ) -> Result<(), LoadError> {
        let feature = feature.ok_or_else(|| malformed("a category is of no feature"))?;
        for hash in hashes {
            self.count(1)?;
            self.indicators.push((feature, hash));
        }
        Ok(())
    }

    /// Adds what was counted; returns its number.
    pub(super) fn add_table(
        &mut self,
        indices: &[(u64, u32)],
        counts: StatisticCounts,
    ) -> Result<usize, LoadError> {
        let table = StatisticTable::try_new(indices, counts);
        self.tables
            .push(table.map_err(|error| malformed(error.to_string()))?);
        Ok(self.tables.len().saturating_sub(1))
    }

    /// Adds a feature that is a statistic.
    pub(super) fn add_statistic(&mut self, statistic: StatisticFeature) -> Result<(), LoadError> {
        let combination = &statistic.combination;
        let parts = [
            statistic.borders.len(),
            combination.categories.len(),
            combination.borders.len(),
            combination.indicators.len(),
        ];
        self.count(parts.into_iter().fold(0, usize::saturating_add))?;
        self.statistics.push(statistic);
        Ok(())
    }

    /// Counts what a small file could name often.
    fn count(&mut self, more: usize) -> Result<(), LoadError> {
        self.n_borders = self.n_borders.saturating_add(more);
        if self.n_borders > BORDERS_MAX {
            let message = "the features have more than 2^24 borders";
            return Err(LoadError::new(LoadErrorKind::LimitExceeded, message));
        }
        Ok(())
    }

    /// Returns the number of features of a row: its columns, and what is made of categories.
    pub(super) fn width(&self) -> usize {
        let derived = self.indicators.len().saturating_add(self.statistics.len());
        self.n_columns.saturating_add(derived)
    }

    /// Returns the names of all columns, unless CatBoost made them up (their numbers) or there are none.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        let name = |column: usize| self.columns.get(&column).map(|(name, _)| name.clone());
        let names: Option<Vec<String>> = (0..self.n_columns).map(name).collect();
        let is_made_up = |(column, name): (usize, &String)| *name == column.to_string();
        let is_named = |names: &Vec<String>| {
            !names.iter().any(String::is_empty) && !names.iter().enumerate().all(is_made_up)
        };
        names.filter(is_named)
    }

    /// Returns all splits in the order in which trees number them.
    pub(super) fn splits(&self) -> Result<Vec<Split>, LoadError> {
        let mut splits = Vec::new();
        for numeric in &self.numerics {
            for &border in &numeric.borders {
                splits.push(numeric.split(border)?);
            }
        }
        let mut column = self.n_columns;
        for _ in &self.indicators {
            splits.push(derived(column, 0.5)?);
            column = column.saturating_add(1);
        }
        for statistic in &self.statistics {
            for &border in &statistic.borders {
                splits.push(derived(column, border)?);
            }
            column = column.saturating_add(1);
        }
        Ok(splits)
    }

    /// Returns the split on a numeric feature.
    pub(super) fn numeric_split(&self, feature: usize, border: f32) -> Option<Split> {
        self.numerics.get(feature)?.split(border).ok()
    }

    /// Tells whether some columns hold other things than numbers.
    pub(super) fn has_others(&self) -> bool {
        let mut kinds = self.columns.values().map(|(_, kind)| *kind);
        kinds.any(|kind| kind != ColumnKind::Numbers)
    }

    /// Returns the features of categories.
    ///
    /// # Errors
    /// Kind `Malformed` where a combination is of features that do not exist.
    pub(super) fn into_category_features(self) -> Result<CategoryFeatures, LoadError> {
        let kind = |column: usize| match self.columns.get(&column) {
            Some((_, kind)) => *kind,
            None => ColumnKind::Numbers,
        };
        let mut combinations: Vec<Combination> = Vec::new();
        let mut statistics = Vec::new();
        for feature in &self.statistics {
            let combination = self.combination(&feature.combination)?;
            // CatBoost sorts statistics by what they are of.
            if combinations.last() != Some(&combination) {
                combinations.push(combination);
            }
            let [prior, prior_denominator] = feature.prior;
            statistics.push(Statistic {
                combination: combinations.len().saturating_sub(1),
                table: feature.table,
                kind: feature.kind.kind(feature.target_border),
                prior,
                prior_denominator,
                shift: feature.shift,
                scale: feature.scale,
            });
        }
        let indicators = self.indicators.iter();
        let indicators: Result<_, _> = indicators.map(|&pair| self.indicator(pair)).collect();
        Ok(CategoryFeatures {
            columns: (0..self.n_columns).map(kind).collect(),
            indicators: indicators?,
            combinations,
            tables: self.tables,
            statistics,
        })
    }

    fn indicator(&self, (feature, hash): (usize, i32)) -> Result<Indicator, LoadError> {
        let column = self.category_column(feature)?;
        Ok(Indicator { column, hash })
    }

    fn category_column(&self, feature: usize) -> Result<usize, LoadError> {
        let column = self.categories.get(feature).copied();
        column.ok_or_else(|| malformed(format!("categorical feature {feature} does not exist")))
    }

    fn combination(&self, raw: &RawCombination) -> Result<Combination, LoadError> {
        let categories = raw
            .categories
            .iter()
            .map(|&feature| self.category_column(feature));
        let borders = raw.borders.iter().map(|&(feature, border)| {
            let numeric = self.numerics.get(feature);
            let numeric = numeric
                .ok_or_else(|| malformed(format!("numeric feature {feature} does not exist")))?;
            Ok(AboveBorder {
                column: numeric.column,
                border,
                missing_above: numeric.missing_above,
            })
        });
        let indicators = raw.indicators.iter().map(|&pair| self.indicator(pair));
        Ok(Combination {
            categories: categories.collect::<Result<_, LoadError>>()?,
            borders: borders.collect::<Result<_, LoadError>>()?,
            indicators: indicators.collect::<Result<_, LoadError>>()?,
        })
    }
}

/// Returns a split on a feature that is made of categories, which is never missing.
fn derived(column: usize, border: f32) -> Result<Split, LoadError> {
    Ok(Split {
        column: narrow(column)?,
        border,
        missing_above: false,
    })
}
