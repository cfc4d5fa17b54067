//! Chains of estimators, constants, and a factor and a term per column.

use std::sync::Arc;

use coracle_model::{Accepts, RunError, Scorer};
use coracle_tensor::Rows;

use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::{TableFn, common_accepts, refuse_texts, rows_of};

/// Estimators of which each sees the table and the answers of those before it.
#[derive(Debug)]
pub struct Chain {
    n_features: usize,
    /// What later estimators see of each, and what is answered.
    links: Vec<(Arc<dyn TableFn>, Arc<dyn TableFn>)>,
    /// The output that each link is for.
    order: Vec<usize>,
}

impl Chain {
    /// Returns the chain; the link at position i answers output `order[i]`.
    ///
    /// # Errors
    /// [`SpecError`] if a link takes another number of columns than it will see, gives more than one, or
    /// `order` is no order.
    pub fn try_new(
        n_features: usize,
        links: Vec<(Arc<dyn TableFn>, Arc<dyn TableFn>)>,
        order: Vec<usize>,
    ) -> Result<Self, SpecError> {
        expect_length("order_", order.len(), links.len())?;
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if links.is_empty() || !sorted.iter().copied().eq(0..links.len()) {
            return Err(SpecError::new("the chain's order is no order"));
        }
        for (index, (feature, answer)) in links.iter().enumerate() {
            for function in [feature, answer] {
                expect_length(
                    "a link's columns",
                    function.n_features(),
                    n_features + index,
                )?;
                expect_length("a link's answer", function.n_columns(), 1)?;
                refuse_texts(function)?;
            }
        }
        Ok(Self {
            n_features,
            links,
            order,
        })
    }
}

impl TableFn for Chain {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_columns(&self) -> usize {
        self.links.len()
    }

    fn accepts(&self) -> Accepts {
        // scikit-learn checks the table before the chain.
        let all = self.links.iter().map(|(feature, _)| feature.accepts());
        common_accepts(all.chain([Accepts::FINITE]))
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let n = self.links.len();
        let mut answers = vec![0.0; rows.n_rows() * n];
        let mut table = rows.values().to_vec();
        for (index, ((feature, answer), &output)) in self.links.iter().zip(&self.order).enumerate()
        {
            let width = self.n_features + index;
            let seen = rows_of(&table, width)?;
            let answered = answer.apply(seen)?;
            for (row, value) in answers.chunks_exact_mut(n).zip(answered) {
                row[output] = value;
            }
            if index + 1 < n {
                let features = feature.apply(seen)?;
                let mut wider = Vec::with_capacity(rows.n_rows() * (width + 1));
                for (row, feature) in table.chunks_exact(width).zip(features) {
                    wider.extend_from_slice(row);
                    wider.push(feature);
                }
                table = wider;
            }
        }
        Ok(answers)
    }

    fn memory_bytes(&self) -> usize {
        self.links
            .iter()
            .map(|(feature, _)| feature.memory_bytes())
            .sum()
    }
}

/// The same numbers for every row.
#[derive(Debug)]
pub struct Constant {
    n_features: usize,
    values: Vec<f64>,
}

impl Constant {
    /// Returns the function of tables of `n_features` columns that answers `values` for each row.
    #[must_use]
    pub fn new(n_features: usize, values: Vec<f64>) -> Self {
        Self { n_features, values }
    }
}

impl Scorer for Constant {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.values.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::ANY
    }

    fn score(&self, _rows: Rows<'_>, scores: &mut [f64]) {
        for row in scores.chunks_exact_mut(self.values.len().max(1)) {
            row.copy_from_slice(&self.values);
        }
    }

    fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<f64>()
    }
}

/// Each column times a factor plus a term.
#[derive(Debug)]
pub struct ColumnAffine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl ColumnAffine {
    /// Returns `x scale + shift` per column.
    ///
    /// # Errors
    /// [`SpecError`] if the lengths differ.
    pub fn try_new(scale: Vec<f64>, shift: Vec<f64>) -> Result<Self, SpecError> {
        expect_length("shift", shift.len(), scale.len())?;
        Ok(Self { scale, shift })
    }
}

impl Scorer for ColumnAffine {
    fn n_features(&self) -> usize {
        self.scale.len()
    }

    fn n_scores(&self) -> usize {
        self.scale.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::ANY
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let factors = self.scale.iter().zip(&self.shift).cycle();
        for ((score, value), (scale, shift)) in scores.iter_mut().zip(rows.values()).zip(factors) {
            *score = value * scale + shift;
        }
    }

    fn memory_bytes(&self) -> usize {
        2 * self.scale.capacity() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinearScorer;

    #[test]
    fn later_links_see_earlier_answers() {
        let link = |weights: Vec<f64>| {
            let n_features = weights.len();
            let scorer = LinearScorer::try_new(weights, vec![0.0], n_features).unwrap();
            let scorer: Arc<dyn TableFn> = Arc::new(scorer);
            (Arc::clone(&scorer), scorer)
        };
        let links = || vec![link(vec![2.0]), link(vec![1.0, 10.0])];
        let chain = Chain::try_new(1, links(), vec![1, 0]).unwrap();
        let rows = Rows::try_new(&[1.0, 3.0], 1).unwrap();
        assert_eq!(chain.apply(rows).unwrap(), [21.0, 2.0, 63.0, 6.0]);
        assert!(Chain::try_new(1, links(), vec![1, 1]).is_err());
        assert!(Chain::try_new(2, links(), vec![0, 1]).is_err());
    }
}
