//! Kernel approximations by sums and sketches, and the leaves of random trees as features.

use std::sync::Arc;

use coracle_estimators::{Facet, Indicators, KernelSketch, SketchPlace};
use coracle_forest::{ForestSpec, Precision, Target};
use coracle_model::{LoadError, Method};

use super::arrays::Matrix;
use super::convert::Part;
use super::fitted::Fitted;
use super::numbers::exact;
use super::older_encoders;
use super::tree::{LeafKind, accepts_missing, compile, facts, member_summary, read_tree};

fn transformer(fitted: &Fitted<'_>, sketch: KernelSketch) -> Result<Part, LoadError> {
    let sketch = sketch.checked().map_err(|error| fitted.spec(error))?;
    fitted.faceted(vec![Facet::table(Method::Transform, Arc::new(sketch))])
}

/// Converts AdditiveChi2Sampler.
pub(super) fn additive_chi2(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_steps = fitted.count("sample_steps")?;
    // Up to 1.2 the fitted interval is an attribute of its own.
    let interval = match (fitted.is_none("sample_interval"), n_steps) {
        (false, _) => fitted.number("sample_interval")?,
        (true, 1) => 0.8,
        (true, 2) => 0.5,
        (true, 3) => 0.4,
        (true, _) => return Err(fitted.malformed("'sample_interval' is missing")),
    };
    let sketch = KernelSketch::AdditiveChi2 {
        n_features: fitted.n_features()?,
        n_steps,
        interval,
    };
    transformer(fitted, sketch)
}

/// Converts PolynomialCountSketch.
pub(super) fn polynomial(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let places = fitted.matrix("indexHash_")?;
    let signs = fitted.matrix("bitHash_")?;
    let wrong = || fitted.malformed("'indexHash_' and 'bitHash_' do not fit the table");
    let constant = fitted.number("coef0")?;
    let constant = (constant > 0.0).then(|| constant.sqrt());
    let width = fitted
        .n_features()?
        .saturating_add(usize::from(constant.is_some()));
    let fits = |matrix: &Matrix| matrix.n_columns == width && matrix.n_rows == places.n_rows;
    if !fits(&places) || !fits(&signs) {
        return Err(wrong());
    }
    let sketch = |(places, signs): (&[f64], &[f64])| {
        let places = places.iter().zip(signs).map(|(&place, &sign)| {
            let place = crate::document::whole(place)?;
            Some(SketchPlace { place, sign })
        });
        places.collect::<Option<Vec<SketchPlace>>>()
    };
    let sketches: Option<Vec<_>> = places.rows().zip(signs.rows()).map(sketch).collect();
    let sketch = KernelSketch::Polynomial {
        sketches: sketches.ok_or_else(wrong)?,
        scale: fitted.number("gamma")?.sqrt(),
        constant,
        n_outputs: fitted.count("n_components")?,
    };
    transformer(fitted, sketch)
}

/// Returns the counts that have an output, for each column of an encoder of counts.
fn counted(encoder: &Fitted<'_>) -> Result<Vec<Vec<f64>>, LoadError> {
    let columns = older_encoders::outputs(encoder)?.into_iter();
    let columns = columns.map(|outputs| {
        let counts = outputs.into_iter().enumerate();
        counts.filter_map(|(count, output)| output.map(|_| exact(count)))
    });
    Ok(columns.map(Iterator::collect).collect())
}

/// Converts RandomTreesEmbedding: a one for the leaf that each tree comes to.
pub(super) fn leaves(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let members = fitted.list("estimators_")?;
    let encoder = fitted.part_in("one_hot_encoder_")?;
    let categories = match older_encoders::is_of_counts(&encoder)? {
        true => counted(&encoder)?,
        false => {
            let arrays = encoder.arrays("categories_")?.into_iter();
            arrays.map(|(_, categories)| categories).collect()
        }
    };
    if categories.len() != members.len() {
        return Err(fitted.malformed("the encoder is of another number of trees"));
    }
    let mut missing = true;
    let (mut trees, mut widths, mut summary) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (&member, leaves)) in members.iter().zip(&categories).enumerate() {
        let member = fitted.part(member, &format!("estimators_[{index}]"))?;
        missing = missing && accepts_missing(&member, 4)?;
        let leaf = LeafKind::Values { n_outputs: 1 };
        let mut tree = read_tree(&member, leaf, Target::OneScore(index), 1.0)?;
        // A leaf's value becomes its place among the encoder's categories.
        for (node, (value, spec)) in tree.values.iter_mut().zip(&tree.nodes).enumerate() {
            let place = leaves.iter().position(|&leaf| leaf == exact(node));
            *value = match (spec, place) {
                (coracle_forest::NodeSpec::Leaf, Some(place)) => exact(place),
                (coracle_forest::NodeSpec::Leaf, None) => {
                    return Err(member.malformed(format!("the encoder lacks leaf {node}")));
                }
                _ => 0.0,
            };
        }
        widths.push(leaves.len());
        trees.push(tree);
        if summary.is_empty() {
            summary.push(member_summary(&member, members.len()));
        }
    }
    let forest = compile(
        fitted,
        ForestSpec {
            n_features: fitted.n_features()?,
            n_scores: trees.len(),
            precision: Precision::Single,
            summation: Precision::Double,
            base: vec![0.0; trees.len()],
            divisor: None,
            accepts_missing: missing,
            accepts_infinite: false,
            trees,
        },
    )?;
    let facts = facts(&forest, None);
    let indicators = Indicators::try_new(Arc::new(forest), &widths);
    let indicators = Arc::new(indicators.map_err(|error| fitted.spec(error))?);
    let part = fitted.faceted(vec![Facet::table(Method::Transform, indicators)])?;
    Ok(Part {
        facts,
        children: summary,
        ..part
    })
}
