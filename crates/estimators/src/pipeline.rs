//! A sequence of transformers with a final estimator.

use coracle_model::{
    Accepts, ColumnKind, ColumnSpec, Estimator, KnownValue, Method, MethodSpec, RunError,
    RunErrorKind, Width,
};
use coracle_tensor::{Frame, Rows, Table, Tensor};

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
    /// [`SpecError`] if a step before the last cannot transform, or the widths or kinds of columns of neighbours differ.
    pub fn try_new(transformers: Vec<Step>, last: Step) -> Result<Self, SpecError> {
        let mut width: Option<usize> = None;
        let mut before: Option<&Step> = None;
        for step in transformers.iter().chain([&last]) {
            if let Some(before) = before.replace(step) {
                check_kinds(before, step)?;
            }
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
        Width::Scalar | Width::Outputs(..) => None,
    }
}

/// Checks that a step takes texts where the step before it gives texts, and nowhere else.
fn check_kinds(before: &Step, step: &Step) -> Result<(), SpecError> {
    let gives = before.estimator.transformed();
    let takes = step.estimator.columns();
    for column in 0..step.estimator.n_features() {
        let given = gives.and_then(|kinds| kinds.get(column)).copied();
        let taken = takes
            .and_then(|specs| specs.get(column))
            .map(|spec| spec.kind);
        let given = given.unwrap_or(ColumnKind::Numbers);
        let taken = taken.unwrap_or(ColumnKind::Numbers);
        let fits = given == taken || matches!(taken, ColumnKind::Ignored | ColumnKind::Category);
        if !fits {
            let name = |kind| match kind {
                ColumnKind::Text | ColumnKind::Category => "texts",
                ColumnKind::Json => "objects or lists",
                ColumnKind::Numbers | ColumnKind::Ignored => "numbers",
            };
            return Err(SpecError::new(format!(
                "step '{}' takes {} in column {column}, step '{}' before it gives {}",
                step.name,
                name(taken),
                before.name,
                name(given)
            )));
        }
    }
    Ok(())
}

/// Names a step in an error.
fn at_step(step: &Step, error: &RunError) -> RunError {
    RunError::new(error.kind(), format!("step '{}': {error}", step.name))
}

impl Pipeline {
    /// Sends a table through the transformers and gives the result to `finish`.
    fn through<T>(
        &self,
        table: &Table<'_>,
        finish: impl FnOnce(&Table<'_>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let mut frame: Frame;
        let mut current = table.clone();
        for step in &self.transformers {
            // The frame before is dropped only when the next one is there.
            let transformed = step.estimator.transform_table(&current);
            frame = transformed.map_err(|error| at_step(step, &error))?;
            current = frame.as_table().ok_or_else(|| {
                let message = format!("step '{}' gave a ragged table", step.name);
                RunError::new(RunErrorKind::Internal, message)
            })?;
        }
        finish(&current).map_err(|error| at_step(&self.last, &error))
    }
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

    fn class_names(&self) -> Option<Vec<String>> {
        self.last.estimator.class_names()
    }

    fn known_value(&self, column: usize) -> Option<KnownValue> {
        // Imputers and scalers before an encoder keep the columns.
        let steps = self.transformers.iter().chain([&self.last]);
        let mut alike = steps.take_while(|step| step.estimator.n_features() == self.n_features());
        alike.find_map(|step| step.estimator.known_value(column))
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        let first = self.transformers.first().unwrap_or(&self.last);
        first.estimator.columns()
    }

    fn transformed(&self) -> Option<&[ColumnKind]> {
        self.last.estimator.transformed()
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        self.through(table, |table| self.last.estimator.run_table(method, table))
    }

    fn transform_table(&self, table: &Table<'_>) -> Result<Frame, RunError> {
        self.through(table, |table| self.last.estimator.transform_table(table))
    }

    fn memory_bytes(&self) -> usize {
        let steps = self.transformers.iter().chain([&self.last]);
        steps.map(|step| step.estimator.memory_bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::Values;

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
        assert_eq!(predicted.values(), &Values::F64(vec![84.5].into()));
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
