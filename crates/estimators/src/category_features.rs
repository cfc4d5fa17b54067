//! Categories as CatBoost turns them into numbers: hashes, indicators, and statistics of the targets that training saw.
//!
//! [`CategoryFeatures`] appends the numbers that follow from a row's categories to the row; [`WithCategories`] is an
//! estimator that reads them. A text is hashed once per row; a combination of categories is the hash of hashes.

mod city;
mod statistic;

use coracle_model::{
    Accepts, ColumnKind, ColumnSpec, Estimator, Method, MethodSpec, RunError, RunErrorKind,
};
use coracle_tensor::{Cell, Rows, Table, Tensor};

use crate::spec_error::SpecError;
use crate::table;

pub use statistic::{Statistic, StatisticCounts, StatisticKind, StatisticTable};

/// Is the category of a column the one of this hash?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indicator {
    /// The column.
    pub column: usize,
    /// The category's hash.
    pub hash: i32,
}

/// Is the number in a column above a border?
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AboveBorder {
    /// The column.
    pub column: usize,
    /// The border; the number is rounded to single precision first.
    pub border: f32,
    /// Whether a missing value counts as above.
    pub missing_above: bool,
}

/// What distinguishes the rows that are counted together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Combination {
    /// The columns whose categories are told apart.
    pub categories: Vec<usize>,
    /// Questions about numbers.
    pub borders: Vec<AboveBorder>,
    /// Questions about categories.
    pub indicators: Vec<Indicator>,
}

/// What features of categories are made from.
#[derive(Debug, Default)]
pub struct CategoryFeatures {
    /// What each column holds.
    pub columns: Vec<ColumnKind>,
    /// Features of 0 and 1.
    pub indicators: Vec<Indicator>,
    /// What statistics are counted over.
    pub combinations: Vec<Combination>,
    /// What was counted.
    pub tables: Vec<StatisticTable>,
    /// Features that are statistics; those of one combination are best kept together.
    pub statistics: Vec<Statistic>,
}

impl CategoryFeatures {
    /// Returns the number of features of a row: its columns, the indicators, the statistics.
    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.len() + self.indicators.len() + self.statistics.len()
    }

    fn check(&self) -> Result<(), SpecError> {
        if self.columns.contains(&ColumnKind::Text) || self.columns.contains(&ColumnKind::Json) {
            return Err(SpecError::new(
                "texts that are no categories make no features",
            ));
        }
        let is = |column: usize, kind| self.columns.get(column) == Some(&kind);
        let holds_categories = |column: &usize| is(*column, ColumnKind::Category);
        let fits = |indicator: &Indicator| holds_categories(&indicator.column);
        let known = |combination: &Combination| {
            let above = |border: &AboveBorder| is(border.column, ColumnKind::Numbers);
            combination.categories.iter().all(holds_categories)
                && combination.borders.iter().all(above)
                && combination.indicators.iter().all(fits)
        };
        if !self.indicators.iter().all(fits) || !self.combinations.iter().all(known) {
            let message =
                "a feature is made of a column that does not exist or holds something else";
            return Err(SpecError::new(message));
        }
        for statistic in &self.statistics {
            let table = self.tables.get(statistic.table);
            let (Some(table), true) = (table, statistic.combination < self.combinations.len())
            else {
                return Err(SpecError::new(
                    "a statistic is of a table that does not exist",
                ));
            };
            statistic.check(table)?;
        }
        Ok(())
    }

    /// Writes the features of one row; `hashes` has room for one of each column.
    fn row(
        &self,
        table: &Table<'_>,
        row: usize,
        hashes: &mut [i32],
        features: &mut [f64],
    ) -> Result<(), RunError> {
        let (own, derived) = features.split_at_mut(self.columns.len());
        for (column, (kind, (own, hash))) in self
            .columns
            .iter()
            .zip(own.iter_mut().zip(hashes.iter_mut()))
            .enumerate()
        {
            match (kind, table.cell(row, column)) {
                (ColumnKind::Ignored, _) => *own = 0.0,
                (ColumnKind::Numbers, Cell::Number(number)) => *own = number,
                (ColumnKind::Category, cell) => {
                    *own = 0.0;
                    *hash = category_hash(cell).map_err(|(kind, what)| {
                        RunError::new(kind, format!("row {row}, column {column}: {what}"))
                    })?;
                }
                (ColumnKind::Numbers | ColumnKind::Text | ColumnKind::Json, _) => {
                    let message =
                        format!("row {row}, column {column}: expected a number, got a string");
                    return Err(RunError::new(RunErrorKind::DTypeMismatch, message));
                }
            }
        }
        let (indicators, statistics) = derived.split_at_mut(self.indicators.len());
        for (feature, indicator) in indicators.iter_mut().zip(&self.indicators) {
            *feature = f64::from(u8::from(hashes[indicator.column] == indicator.hash));
        }
        let mut last = None;
        for (feature, statistic) in statistics.iter_mut().zip(&self.statistics) {
            let hash = match last {
                Some((combination, hash)) if combination == statistic.combination => hash,
                _ => combined(&self.combinations[statistic.combination], own, hashes),
            };
            last = Some((statistic.combination, hash));
            *feature = statistic.value(&self.tables[statistic.table], hash).into();
        }
        Ok(())
    }
}

/// Returns the hash of a category: a text, or the digits of an integer.
fn category_hash(cell: Cell<'_>) -> Result<i32, (RunErrorKind, &'static str)> {
    let hash = match cell {
        Cell::Text(Some(text)) => city::city_hash(text),
        #[expect(clippy::cast_possible_truncation, reason = "a whole number in range")]
        Cell::Number(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
            city::city_hash((number as i64).to_string().as_bytes())
        }
        Cell::Number(number) if !number.is_nan() => {
            let what = "categories are strings or integers, got a number that is neither";
            return Err((RunErrorKind::DTypeMismatch, what));
        }
        Cell::Text(None) | Cell::Number(_) => {
            let what = "missing value; CatBoost takes strings and integers as categories";
            return Err((RunErrorKind::MissingValue, what));
        }
    };
    #[expect(clippy::cast_possible_truncation, reason = "CatBoost keeps 32 bits")]
    Ok(hash as i32)
}

/// Returns the hash of a row's combination.
fn combined(combination: &Combination, numbers: &[f64], hashes: &[i32]) -> u64 {
    const MULTIPLIER: u64 = 0x4906_ba49_4954_cb65;
    let join = |a: u64, b: u64| {
        let b = MULTIPLIER.wrapping_mul(b);
        MULTIPLIER.wrapping_mul(a.wrapping_add(b))
    };
    let mut hash = 0;
    for &column in &combination.categories {
        hash = join(hash, i64::from(hashes[column]).cast_unsigned());
    }
    for question in &combination.borders {
        let number = numbers[question.column];
        #[expect(clippy::cast_possible_truncation, reason = "CatBoost compares singles")]
        let above = match number.is_nan() {
            true => question.missing_above,
            false => number as f32 > question.border,
        };
        hash = join(hash, above.into());
    }
    for question in &combination.indicators {
        hash = join(hash, (hashes[question.column] == question.hash).into());
    }
    hash
}

/// An estimator of rows of numbers, reading what follows from categories beside the numbers.
#[derive(Debug)]
pub struct WithCategories {
    features: CategoryFeatures,
    specs: Vec<ColumnSpec>,
    estimator: Box<dyn Estimator>,
}

impl WithCategories {
    /// Returns `estimator`, given the features of each row.
    ///
    /// # Errors
    /// [`SpecError`] if a feature is made of what is not there, or the estimator reads another number of features.
    pub fn try_new(
        features: CategoryFeatures,
        estimator: Box<dyn Estimator>,
    ) -> Result<Self, SpecError> {
        features.check()?;
        if features.width() != estimator.n_features() {
            return Err(SpecError::new(format!(
                "{} features for an estimator of {}",
                features.width(),
                estimator.n_features()
            )));
        }
        let missing = estimator.accepts().missing;
        let specs = features.columns.iter().map(|&kind| ColumnSpec {
            kind,
            accepts_missing: missing && kind == ColumnKind::Numbers,
        });
        Ok(Self {
            specs: specs.collect(),
            features,
            estimator,
        })
    }
}

impl Estimator for WithCategories {
    fn n_features(&self) -> usize {
        self.specs.len()
    }

    fn accepts(&self) -> Accepts {
        self.estimator.accepts()
    }

    fn methods(&self) -> &[MethodSpec] {
        self.estimator.methods()
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        Some(&self.specs)
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        table::check_width(table.n_columns(), self.n_features())?;
        let width = self.features.width();
        let mut values = vec![0.0; table.n_rows() * width];
        let mut hashes = vec![0; self.specs.len()];
        for (row, features) in values.chunks_exact_mut(width).enumerate() {
            self.features.row(table, row, &mut hashes, features)?;
        }
        let rows = Rows::try_new(&values, width);
        let rows = rows.ok_or_else(|| RunError::new(RunErrorKind::Internal, "no rows"))?;
        self.estimator.run(method, rows)
    }

    fn memory_bytes(&self) -> usize {
        let tables: usize = self
            .features
            .tables
            .iter()
            .map(StatisticTable::memory_bytes)
            .sum();
        tables + self.estimator.memory_bytes()
    }
}

#[cfg(test)]
mod tests;
