//! A regressor: the scores of a kernel, through the inverse of its link.

use coracle_model::{Accepts, Estimator, Method, MethodSpec, RunError, Scorer, Width};
use coracle_tensor::{DType, Rows, Table, Tensor};

use crate::table;

/// The function from raw scores to predicted values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InverseLink {
    /// The scores are the values.
    Identity,
    /// The exponential of the scores (Poisson and gamma losses).
    Exponential,
}

/// A regressor over the scores of any kernel.
#[derive(Debug)]
pub struct Regressor {
    scorer: Box<dyn Scorer>,
    inverse_link: InverseLink,
    methods: [MethodSpec; 1],
}

impl Regressor {
    /// Returns a regressor; `width` is `Scalar` where the estimator was fitted on one target.
    ///
    /// # Panics
    /// If `width` contradicts the scorer, which is a defect of the caller.
    #[must_use]
    pub fn new(scorer: Box<dyn Scorer>, inverse_link: InverseLink, width: Width) -> Self {
        let n_values = match width {
            Width::Scalar => 1,
            Width::Columns(n_columns) => n_columns,
            Width::Outputs(n_outputs, width) => n_outputs * width,
        };
        assert_eq!(n_values, scorer.n_scores(), "width and scorer disagree");
        let method = MethodSpec {
            method: Method::Predict,
            dtype: DType::F64,
            width,
        };
        Self {
            scorer,
            inverse_link,
            methods: [method],
        }
    }
}

impl Estimator for Regressor {
    fn n_features(&self) -> usize {
        self.scorer.n_features()
    }

    fn accepts(&self) -> Accepts {
        self.scorer.accepts()
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        table::check(rows, self.n_features(), self.accepts())?;
        self.answer(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        table::with_numbers(table, self.n_features(), self.accepts(), |table| {
            self.answer(method, table)
        })
    }

    fn memory_bytes(&self) -> usize {
        self.scorer.memory_bytes()
    }
}

impl Regressor {
    /// Runs a method on a table that was checked.
    fn answer(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        let [spec] = &self.methods;
        if method != spec.method {
            return Err(table::no_method(method));
        }
        let mut values = table::scores(self.scorer.as_ref(), table);
        if self.inverse_link == InverseLink::Exponential {
            for value in &mut values {
                *value = value.exp();
            }
        }
        match spec.width {
            Width::Scalar => Ok(table::column(values)),
            Width::Columns(n_columns) => table::matrix(values, table.n_rows(), n_columns),
            Width::Outputs(..) => Err(table::internal("a regressor gives no tables")),
        }
    }
}
