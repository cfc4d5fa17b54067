//! How much each feature counts in a model: XGBoost's `feature_importances_`.

use coracle_model::LoadError;

use super::unsupported;
use crate::document::{Document, Entry, parse_json, parse_ubjson, quoted, whole};
use crate::numbers::{single_sum, to_single};

/// What of a split counts.
#[derive(Clone, Copy)]
enum Measure {
    Count,
    Gain,
    Cover,
}

/// Returns the shares of `n_features` features in what the splits of the model in `bytes` add up to.
///
/// `kind` is an `importance_type`. Sums are single precision, over trees in order and within a tree from the root on,
/// right children first, as the library walks.
///
/// # Errors
/// Kind `Unsupported` for another type or model, `Malformed` where something is missing.
pub(crate) fn importances(
    bytes: &[u8],
    kind: &str,
    n_features: usize,
) -> Result<Vec<f32>, LoadError> {
    let (measure, is_mean) = match kind {
        "weight" => (Measure::Count, false),
        "gain" => (Measure::Gain, true),
        "total_gain" => (Measure::Gain, false),
        "cover" => (Measure::Cover, true),
        "total_cover" => (Measure::Cover, false),
        other => {
            let other = quoted(other);
            return Err(unsupported(format!(
                "importance_type {other} is not supported"
            )));
        }
    };
    let document = document(bytes)?;
    let root = Entry::root(&document);
    let root = root.find("Model").unwrap_or(root);
    let booster = root.field("learner")?.field("gradient_booster")?;
    let booster = booster.find("gbtree").unwrap_or(booster);
    if booster
        .find("name")
        .is_some_and(|name| name.text().ok() == Some("gblinear"))
    {
        return Err(unsupported(
            "the importance of features to gblinear is not supported",
        ));
    }
    let mut counts = vec![0_u32; n_features];
    let mut sums = vec![0.0_f32; n_features];
    for tree in booster.field("model")?.field("trees")?.items()? {
        add(&tree, measure, &mut counts, &mut sums)?;
    }
    for (sum, &count) in sums.iter_mut().zip(&counts) {
        let count = to_single(f64::from(count));
        match measure {
            Measure::Count => *sum = count,
            Measure::Gain | Measure::Cover if is_mean => *sum /= count.max(1.0),
            Measure::Gain | Measure::Cover => {}
        }
    }
    let total = single_sum(&sums);
    if total != 0.0 {
        sums.iter_mut().for_each(|sum| *sum /= total);
    }
    Ok(sums)
}

fn document(bytes: &[u8]) -> Result<Document, LoadError> {
    match super::ensemble::is_ubjson(bytes) {
        true => parse_ubjson(bytes),
        false => parse_json(bytes),
    }
}

/// Adds what the splits of a tree count.
fn add(
    tree: &Entry<'_>,
    measure: Measure,
    counts: &mut [u32],
    sums: &mut [f32],
) -> Result<(), LoadError> {
    let left = tree.field("left_children")?.numbers()?;
    let right = tree.field("right_children")?.numbers()?;
    let features = tree.field("split_indices")?.numbers()?;
    let amounts = match measure {
        Measure::Count | Measure::Gain => tree.field("loss_changes")?.numbers()?,
        Measure::Cover => tree.field("sum_hessian")?.numbers()?,
    };
    let wrong = || tree.malformed("a child or feature is out of range");
    let mut pending = vec![0_usize];
    let mut n_seen = 0_usize;
    while let Some(node) = pending.pop() {
        n_seen = n_seen.saturating_add(1);
        if n_seen > left.len() {
            return Err(tree.malformed("its nodes have no end"));
        }
        if left.get(node) == Some(&-1.0) {
            continue;
        }
        let child = |children: &[f64]| children.get(node).copied().and_then(whole);
        pending.push(child(left).ok_or_else(wrong)?);
        pending.push(child(right).ok_or_else(wrong)?);
        let feature = child(features).ok_or_else(wrong)?;
        let (Some(count), Some(sum), Some(&amount)) = (
            counts.get_mut(feature),
            sums.get_mut(feature),
            amounts.get(node),
        ) else {
            return Err(wrong());
        };
        *count = count.saturating_add(1);
        *sum += to_single(amount);
    }
    Ok(())
}
