//! Several predictors of a deployment each of which is one model: what is said of the deployment is what they have in common, whichever takes the request.

use coracle_base::Code;
use coracle_model::{Signature, TensorSpec};
use coracle_serving::{ModelTable, Refusal, Route, ServedModel, ServiceId};

use crate::connection::Handler;
use crate::flow::described::listed;
use crate::infer::Failure;
use crate::scope::Scope;

/// Returns the models of a service that share its requests, with what they are called: predictors each once, in their order, or the only one.
pub(super) fn members(route: &Route) -> Vec<(&str, &ServedModel)> {
    let targets = route.targets().iter();
    let of_predictors = route.predictors().map(|predictors| {
        let taking = targets.clone().filter(|target| target.percent > 0);
        let known = taking.filter_map(|target| {
            let revision = &target.model.revision()?.name;
            let number = predictors.branch(revision)?.number;
            Some((number, predictors.key(revision)?, target.model.as_ref()))
        });
        let mut known: Vec<(i64, &str, &ServedModel)> = known.collect();
        known.sort_by_key(|(number, ..)| *number);
        known.dedup_by_key(|(number, ..)| *number);
        let members = known.into_iter().map(|(_, key, model)| (key, model));
        members.collect::<Vec<_>>()
    });
    let of_predictors = of_predictors.filter(|all| !all.is_empty());
    of_predictors.unwrap_or_else(|| {
        let first = targets.take(1);
        let first = first.map(|target| (target.model.name(), target.model.as_ref()));
        first.collect()
    })
}

impl Handler {
    /// Returns what the predictors that share a service's requests with `model` have in common; `None` if there are no others.
    ///
    /// # Errors
    /// If they take, or give, different things, or one cannot be loaded.
    pub(crate) async fn in_common(
        &self,
        (table, scope): (&ModelTable, &Scope),
        model: &ServedModel,
    ) -> Result<Option<Signature>, Failure> {
        let (Some(branch), Some(revision)) = (model.branch(), model.revision()) else {
            return Ok(None);
        };
        if matches!(scope, Scope::Service { tag: Some(_), .. }) {
            return Ok(None);
        }
        let id = ServiceId {
            namespace: revision.namespace.clone(),
            name: branch.deployment.clone(),
        };
        match table.service(&id) {
            Some(route) if route.predictors().is_some() => {
                self.common_of(&members(route)).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns what all of these take and give of which that is known: of a program, and of a model that does not load, it is not.
    ///
    /// # Errors
    /// With code `Unimplemented` if they take, or give, different things; or if it is known of none, or one has no place for the question.
    pub(super) async fn common_of(
        &self,
        members: &[(&str, &ServedModel)],
    ) -> Result<Signature, Failure> {
        let (mut all, mut unknown) = (Vec::new(), None);
        for (key, model) in members {
            match model.enter(self.calls.request_timeout).await {
                Ok(lease) => all.push((*key, lease.model().signature().clone())),
                Err(refusal) if is_untold(&refusal) => {
                    unknown.get_or_insert(refusal);
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
        if let Some(refusal) = unknown.filter(|_| all.is_empty()) {
            return Err(refusal.into());
        }
        common(&all).map_err(|why| {
            let message = format!("the predictors have no metadata in common: {why}");
            Failure::new(Code::Unimplemented, message)
        })
    }
}

/// Tells whether what a model takes and gives is not known, whoever asks for it.
fn is_untold(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Forwarded | Refusal::Failed(_) | Refusal::SetAside(_) | Refusal::Absent(_) => true,
        Refusal::QueueFull | Refusal::BulkheadFull | Refusal::PoolFull | Refusal::Deadline => false,
    }
}

/// Returns what models with these signatures all take and give; further outputs are those that all have.
fn common(all: &[(&str, Signature)]) -> Result<Signature, String> {
    let Some(((name, first), others)) = all.split_first() else {
        return Err("there are none".to_owned());
    };
    if others.iter().all(|(_, other)| other == first) {
        return Ok(first.clone());
    }
    let (mut inputs, mut outputs) = (first.inputs.clone(), first.outputs.clone());
    for (other_name, other) in others {
        let differ = |does: &str, one: &[TensorSpec], another: &[TensorSpec]| {
            let (one, another) = (listed(one), listed(another));
            Err(format!(
                "predictor {name} {does} {one}, predictor {other_name} {does} {another}"
            ))
        };
        inputs = both(&inputs, &other.inputs);
        if inputs.len() != first.inputs.len() || inputs.len() != other.inputs.len() {
            return differ("takes", &first.inputs, &other.inputs);
        }
        outputs = both(&outputs, &other.outputs);
        let (own, others) = (defaults(first), defaults(other));
        let names = |specs: &[TensorSpec]| {
            specs
                .iter()
                .map(|spec| spec.name.clone())
                .collect::<Vec<_>>()
        };
        let is_there = |spec: &TensorSpec| outputs.iter().any(|one| one.name == spec.name);
        if names(&own) != names(&others) || !own.iter().all(is_there) {
            return differ("gives", &own, &others);
        }
    }
    let own = defaults(first);
    let is_default = |spec: &TensorSpec| own.iter().any(|one| one.name == spec.name);
    let indices = outputs.iter().enumerate();
    let default_outputs = indices.filter(|(_, spec)| is_default(spec));
    let same_columns = others
        .iter()
        .all(|(_, other)| other.columns == first.columns);
    Ok(Signature {
        inputs,
        default_outputs: default_outputs.map(|(index, _)| index).collect(),
        outputs,
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        name_rules: first.name_rules,
        columns: first.columns.clone().filter(|_| same_columns),
    })
}

fn defaults(signature: &Signature) -> Vec<TensorSpec> {
    let defaults = signature.default_outputs.iter();
    let defaults = defaults.filter_map(|index| signature.outputs.get(*index).cloned());
    defaults.collect()
}

/// Returns the tensors that are in both, of one datatype and as many dimensions; sizes that differ are any.
fn both(these: &[TensorSpec], those: &[TensorSpec]) -> Vec<TensorSpec> {
    let common = these.iter().filter_map(|this| {
        let that = those.iter().find(|that| that.name == this.name)?;
        let is_alike = this.dtype == that.dtype && this.shape.len() == that.shape.len();
        let sizes = this.shape.iter().zip(&that.shape);
        let sizes = sizes.map(|(size, other)| size.filter(|size| *other == Some(*size)));
        is_alike.then(|| TensorSpec {
            shape: sizes.collect(),
            columns: this
                .columns
                .clone()
                .filter(|_| this.columns == that.columns),
            accepts_missing: this.accepts_missing && that.accepts_missing,
            accepts_integers: this.accepts_integers && that.accepts_integers,
            ..this.clone()
        })
    });
    common.collect()
}

#[cfg(test)]
mod tests {
    use coracle_tensor::DType;

    use super::*;

    fn signature(outputs: &[(&str, DType, Option<usize>)], n_columns: usize) -> Signature {
        let spec = |name: &str, dtype, width: Option<usize>| TensorSpec {
            name: name.to_owned(),
            dtype,
            shape: std::iter::once(None).chain(width.map(Some)).collect(),
            columns: None,
            accepts_missing: false,
            accepts_integers: false,
        };
        let outputs = outputs.iter();
        Signature {
            inputs: vec![spec("X", DType::F64, Some(n_columns))],
            outputs: outputs
                .map(|(name, dtype, width)| spec(name, *dtype, *width))
                .collect(),
            default_outputs: vec![0],
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            columns: None,
        }
    }

    #[test]
    fn what_is_said_is_what_all_have() {
        let label = ("predict", DType::I64, None);
        let shares = ("predict_proba", DType::F64, Some(3));
        let score = ("decision_function", DType::F64, Some(3));
        let a = signature(&[label, score, shares], 4);
        let b = signature(&[label, shares], 4);
        let of = |all: &[&Signature]| {
            let names = ["a/iris", "b/iris", "c/iris"].into_iter();
            let all: Vec<_> = names.zip(all.iter().map(|one| (*one).clone())).collect();
            common(&all)
        };
        assert_eq!(of(&[&a, &a]), Ok(a.clone()));
        assert_eq!(of(&[&a, &b]), Ok(b.clone()));
        // More columns, or more classes, are other sizes.
        let wide = signature(&[label, ("predict_proba", DType::F64, Some(2))], 5);
        let found = of(&[&a, &b, &wide]).unwrap();
        assert_eq!(found.inputs[0].shape, [None, None]);
        assert_eq!(found.outputs[1].shape, [None, None]);
        for (other, why) in [
            (
                signature(&[("predict", DType::F64, None)], 4),
                "predictor a/iris gives predict INT64 [-1], predictor b/iris gives predict FP64 [-1]",
            ),
            (
                Signature {
                    default_outputs: vec![1],
                    ..b.clone()
                },
                "predictor b/iris gives predict_proba FP64 [-1, 3]",
            ),
            (
                Signature {
                    inputs: Vec::new(),
                    ..b.clone()
                },
                "predictor a/iris takes X FP64 [-1, 4], predictor b/iris takes",
            ),
        ] {
            let told = of(&[&a, &other]).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        assert!(of(&[]).is_err());
    }
}
