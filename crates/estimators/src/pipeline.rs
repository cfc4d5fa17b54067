//! A sequence of transformers with a final estimator.

use coracle_model::{Accepts, Estimator, Method, MethodSpec, RunError, RunErrorKind, Width};
use coracle_tensor::{Rows, Tensor, Values};

use crate::spec_error::SpecError;

/// A named part of a pipeline.
#[derive(Debug)]
pub struct Step {
    /// The user's name for it.
    pub name: String,
    /// The part.
    pub estimator: Box<dyn Estimator>,
}

/// An estimator that sends a table through transformers, then to its last step.
#[derive(Debug)]
pub struct Pipeline {
    transformers: Vec<Step>,
    last: Step,
}

impl Pipeline {
    /// Returns a pipeline of `transformers` before `last`.
    ///
    /// # Errors
    /// [`SpecError`] if a step before the last cannot transform, or the widths of neighbours differ.
    pub fn try_new(transformers: Vec<Step>, last: Step) -> Result<Self, SpecError> {
        let mut width: Option<usize> = None;
        for step in transformers.iter().chain([&last]) {
            let expected = step.estimator.n_features();
            if width.is_some_and(|width| width != expected) {
                return Err(SpecError::new(format!(
                    "step '{}' takes {expected} columns, the step before it gives {}",
                    step.name,
                    width.unwrap_or(0)
                )));
            }
            width = transform_width(step.estimator.as_ref());
            if width.is_none() && !std::ptr::eq(step, &last) {
                return Err(SpecError::new(format!(
                    "step '{}' does not transform",
                    step.name
                )));
            }
        }
        Ok(Self { transformers, last })
    }
}

/// Returns how many columns `estimator` transforms a table to, if it does.
fn transform_width(estimator: &dyn Estimator) -> Option<usize> {
    let mut specs = estimator.methods().iter();
    let spec = specs.find(|spec| spec.method == Method::Transform)?;
    match spec.width {
        Width::Columns(n_columns) => Some(n_columns),
        Width::Scalar => None,
    }
}

/// Runs one step and names it in the error.
fn run_step(step: &Step, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
    step.estimator.run(method, rows).map_err(|error| {
        let message = format!("step '{}': {error}", step.name);
        RunError::new(error.kind(), message)
    })
}

impl Estimator for Pipeline {
    fn n_features(&self) -> usize {
        let first = self.transformers.first().unwrap_or(&self.last);
        first.estimator.n_features()
    }

    fn accepts(&self) -> Accepts {
        let first = self.transformers.first().unwrap_or(&self.last);
        first.estimator.accepts()
    }

    fn methods(&self) -> &[MethodSpec] {
        self.last.estimator.methods()
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        let mut table: Vec<f64>;
        let mut current = rows;
        for step in &self.transformers {
            let (shape, values) = run_step(step, Method::Transform, current)?.into_parts();
            let (Values::F64(transformed), Some(&n_columns)) = (values, shape.get(1)) else {
                let message = format!("step '{}' gave no table of doubles", step.name);
                return Err(RunError::new(RunErrorKind::Internal, message));
            };
            table = transformed;
            current = Rows::try_new(&table, n_columns).ok_or_else(|| {
                RunError::new(
                    RunErrorKind::Internal,
                    "a transformed table has ragged rows",
                )
            })?;
        }
        run_step(&self.last, method, current)
    }

    fn memory_bytes(&self) -> usize {
        let steps = self.transformers.iter().chain([&self.last]);
        steps.map(|step| step.estimator.memory_bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InverseLink, LinearScorer, Regressor, Scaler, ScalerStep};

    fn scaler(n_features: usize) -> Step {
        let steps = vec![ScalerStep::Multiply(vec![2.0; n_features])];
        Step {
            name: "scale".to_owned(),
            estimator: Box::new(Scaler::try_new(n_features, steps).unwrap()),
        }
    }

    fn regressor() -> Step {
        let scorer = LinearScorer::try_new(vec![1.0, 10.0], vec![0.5], 2).unwrap();
        Step {
            name: "fit".to_owned(),
            estimator: Box::new(Regressor::new(
                Box::new(scorer),
                InverseLink::Identity,
                Width::Scalar,
            )),
        }
    }

    #[test]
    fn steps_run_in_order() {
        let pipeline = Pipeline::try_new(vec![scaler(2), scaler(2)], regressor()).unwrap();
        let rows = Rows::try_new(&[1.0, 2.0], 2).unwrap();
        let predicted = pipeline.run(Method::Predict, rows).unwrap();
        assert_eq!(predicted.values(), &Values::F64(vec![84.5]));
    }

    #[test]
    fn errors_name_the_step() {
        let pipeline = Pipeline::try_new(vec![scaler(2)], regressor()).unwrap();
        let rows = Rows::try_new(&[1.0, f64::NAN], 2).unwrap();
        let error = pipeline.run(Method::Predict, rows).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("step 'fit': row 0, column 1:"),
            "{error}"
        );
    }

    #[test]
    fn neighbours_must_fit() {
        let error = Pipeline::try_new(vec![scaler(3)], regressor()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "step 'fit' takes 2 columns, the step before it gives 3"
        );
        let error = Pipeline::try_new(vec![regressor()], regressor()).unwrap_err();
        assert_eq!(error.to_string(), "step 'fit' does not transform");
    }
}
