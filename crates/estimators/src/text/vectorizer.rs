//! CountVectorizer, TfidfVectorizer, HashingVectorizer: texts to sparse rows of counts or weights.

use std::collections::HashMap;

use coracle_base::{allocation_bytes, hash_table_bytes};
use coracle_model::{
    Accepts, ColumnKind, ColumnSpec, Estimator, Method, MethodSpec, RunError, RunErrorKind,
    tensor_of,
};
use coracle_tensor::{Cell, Frame, Rows, SparseRows, Table, Tensor};

use super::analyzer::Analyzer;
use super::expression::{OutOfSteps, Steps};
use super::hashed::HashedColumns;
use super::weights::TermWeights;
use crate::scaler::transform_spec;
use crate::spec_error::{SpecError, expect_length};
use crate::table;

/// Which column a term counts in.
#[derive(Debug)]
pub enum Terms {
    /// Its place in a vocabulary; others do not count.
    Vocabulary(HashMap<Box<str>, u32>),
    /// The column of its hash.
    Hashed(HashedColumns),
}

/// A transformer of one column of texts.
#[derive(Debug)]
pub struct Vectorizer {
    analyzer: Analyzer,
    terms: Terms,
    /// Whether a term counts once, however often it occurs.
    binary: bool,
    weights: TermWeights,
    n_columns_out: usize,
    methods: [MethodSpec; 1],
}

const TEXT: [ColumnSpec; 1] = [ColumnSpec {
    kind: ColumnKind::Text,
    accepts_missing: false,
}];

impl Vectorizer {
    /// Returns a vectorizer.
    ///
    /// # Errors
    /// [`SpecError`] if a term's place is not below the vocabulary's size, there is another number of weights than
    /// columns, or there are no columns.
    pub fn try_new(
        analyzer: Analyzer,
        terms: Terms,
        binary: bool,
        weights: TermWeights,
    ) -> Result<Self, SpecError> {
        let n_columns_out = match &terms {
            Terms::Vocabulary(places) => {
                if places.values().any(|&place| place as usize >= places.len()) {
                    return Err(SpecError::new("a term's place is outside the vocabulary"));
                }
                places.len()
            }
            Terms::Hashed(columns) => columns.n_columns() as usize,
        };
        if let Some(idf) = &weights.idf {
            expect_length("idf_", idf.len(), n_columns_out)?;
        }
        if n_columns_out == 0 || n_columns_out > i32::MAX as usize {
            return Err(SpecError::new("a vectorizer needs terms, and not too many"));
        }
        Ok(Self {
            analyzer,
            terms,
            binary,
            weights,
            n_columns_out,
            methods: [transform_spec(n_columns_out)],
        })
    }

    /// Appends the counts of one text as a row.
    fn count(
        &self,
        (text, steps): (&str, &mut Steps),
        scratch: &mut Vec<(u32, i32)>,
        rows: &mut SparseRows,
    ) -> Result<(), OutOfSteps> {
        scratch.clear();
        self.analyzer
            .each_term(text, steps, |term| match &self.terms {
                Terms::Vocabulary(places) => {
                    scratch.extend(places.get(term).map(|&place| (place, 1)));
                }
                Terms::Hashed(columns) => scratch.push(columns.place(term.as_bytes())),
            })?;
        scratch.sort_unstable_by_key(|&(column, _)| column);
        for same in scratch.chunk_by(|(a, _), (b, _)| a == b) {
            let count: i32 = same.iter().map(|&(_, sign)| sign).sum();
            let count = if self.binary { 1 } else { count };
            rows.push(same[0].0, f64::from(count));
        }
        rows.end_row();
        Ok(())
    }
}

impl Estimator for Vectorizer {
    fn n_features(&self) -> usize {
        1
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        Some(&TEXT)
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        if method != Method::Transform {
            return Err(table::no_method(method));
        }
        tensor_of(self.transform_table(table)?)
    }

    fn transform_table(&self, table: &Table<'_>) -> Result<Frame, RunError> {
        table::check_width(table.n_columns(), 1)?;
        let mut rows = table::sparse(self.n_columns_out)?;
        let mut scratch = Vec::new();
        let mut steps = Steps::default();
        for row in 0..table.n_rows() {
            let text = text_at(table, row)?;
            self.count((text, &mut steps), &mut scratch, &mut rows)
                .map_err(|OutOfSteps| too_costly(row))?;
        }
        self.weights.apply(&mut rows);
        Ok(Frame::Sparse(rows))
    }

    fn memory_bytes(&self) -> usize {
        let terms = match &self.terms {
            Terms::Vocabulary(places) => {
                let terms = places.keys().map(|term| allocation_bytes(term.len()));
                terms.sum::<usize>() + hash_table_bytes::<(Box<str>, u32)>(places.capacity())
            }
            Terms::Hashed(_) => 0,
        };
        terms + self.weights.memory_bytes()
    }
}

fn too_costly(row: usize) -> RunError {
    let message = format!(
        "row {row}: finding the tokens of this text takes more steps than are allowed (5 million for all texts of a request, and 64 for each byte of this one)"
    );
    RunError::new(RunErrorKind::ValueOutOfRange, message)
}

fn text_at<'t>(table: &Table<'t>, row: usize) -> Result<&'t str, RunError> {
    let (kind, what) = match table.cell(row, 0) {
        Cell::Text(Some(bytes)) => match str::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(_) => (RunErrorKind::ValueOutOfRange, "the text is not UTF-8"),
        },
        Cell::Text(None) => (
            RunErrorKind::MissingValue,
            "missing value (null); this model takes texts only",
        ),
        Cell::Number(_) => (
            RunErrorKind::DTypeMismatch,
            "expected a string, got a number",
        ),
    };
    Err(RunError::new(kind, format!("row {row}: {what}")))
}

#[cfg(test)]
mod tests {
    use coracle_tensor::{ByteStrings, Column, Columns};

    use super::*;
    use crate::text::{Accents, StopWords, TokenPattern, Unit};

    fn analyzer() -> Analyzer {
        Analyzer {
            lowercase: true,
            accents: Accents::Keep,
            unit: Unit::Words {
                pattern: TokenPattern::try_new(r"\w+").unwrap(),
                stop_words: StopWords::default(),
            },
            lengths: 1..=1,
        }
    }

    fn row(vectorizer: &Vectorizer, text: &str) -> Vec<(u32, f64)> {
        let texts: ByteStrings = [text].into_iter().collect();
        let table = Columns::try_new(vec![Column::Text(&texts)]).unwrap();
        let frame = vectorizer.transform_table(&Table::Columns(table)).unwrap();
        let Frame::Sparse(rows) = frame else {
            panic!("not sparse")
        };
        let (columns, values) = rows.row(0);
        columns
            .iter()
            .copied()
            .zip(values.iter().copied())
            .collect()
    }

    #[test]
    fn terms_count_by_vocabulary_or_hash() {
        let places = [("free", 1), ("win", 0)].map(|(term, place)| (Box::from(term), place));
        let terms = Terms::Vocabulary(places.into_iter().collect());
        let counter =
            Vectorizer::try_new(analyzer(), terms, false, TermWeights::default()).unwrap();
        assert_eq!(row(&counter, "Free win, free beer"), [(0, 1.0), (1, 2.0)]);
        let terms = Terms::Hashed(HashedColumns::try_new(7, true).unwrap());
        // "foo" hashes to -156908512, "a" to 1009084850.
        let hasher = Vectorizer::try_new(analyzer(), terms, false, TermWeights::default()).unwrap();
        let mut expected = [(156_908_512 % 7, -1.0), (1_009_084_850 % 7, 1.0)];
        expected.sort_by_key(|(column, _)| *column);
        assert_eq!(row(&hasher, "foo a"), expected);
    }

    #[test]
    fn a_text_that_costs_too_much_is_named() {
        let costly = Analyzer {
            unit: Unit::Words {
                pattern: TokenPattern::try_new(r"(?:(?:a|aa)+)+(?=b)").unwrap(),
                stop_words: StopWords::default(),
            },
            ..analyzer()
        };
        let terms = Terms::Hashed(HashedColumns::try_new(7, true).unwrap());
        let vectorizer = Vectorizer::try_new(costly, terms, false, TermWeights::default()).unwrap();
        let texts: ByteStrings = ["aab", &"a".repeat(99)].into_iter().collect();
        let table = Columns::try_new(vec![Column::Text(&texts)]).unwrap();
        let error = vectorizer
            .transform_table(&Table::Columns(table))
            .unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::ValueOutOfRange);
        let message = "row 1: finding the tokens of this text takes more steps than are allowed";
        assert!(error.to_string().starts_with(message), "{error}");
    }

    #[test]
    fn places_must_be_in_the_vocabulary() {
        let terms = Terms::Vocabulary([(Box::from("a"), 1)].into_iter().collect());
        assert!(Vectorizer::try_new(analyzer(), terms, false, TermWeights::default()).is_err());
    }
}
