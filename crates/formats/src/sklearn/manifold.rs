//! Neighbours as lists and graphs, embeddings of new rows, and densities.

use std::sync::Arc;

use coracle_estimators::{
    CenteredSimilarities, Choice, Composed, Density, DensityKernel, Facet, Metric, NeighborAnswer,
    NeighborMap, NeighborMaps, NeighborWeights, Neighborhood, Neighbors, Projection,
    ProjectionSpec, Reach, Rule, TableFn, ZeroSum,
};
use coracle_model::{LoadError, Method};

use super::convert::Part;
use super::decomposition::kernel_components;
use super::fitted::Fitted;
use super::neighbors::{nearest, neighborhood};

fn map(
    fitted: &Fitted<'_>,
    neighbors: &Fitted<'_>,
    reach: Reach,
    map: NeighborMap,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let maps = NeighborMaps::try_new(neighborhood(neighbors, reach)?, map);
    Ok(Arc::new(maps.map_err(|error| fitted.spec(error))?))
}

/// Converts NearestNeighbors: what `kneighbors` answers.
pub(super) fn nearest_neighbors(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    fitted.faceted(lists(fitted, &neighborhood(fitted, nearest(fitted)?)?)?)
}

/// Returns what `kneighbors` answers.
fn lists(fitted: &Fitted<'_>, neighborhood: &Neighborhood) -> Result<Vec<Facet>, LoadError> {
    let of = |what| -> Result<Arc<dyn TableFn>, LoadError> {
        let nearest = neighborhood.reaching(nearest(fitted)?);
        let maps = nearest.and_then(|nearest| NeighborMaps::try_new(nearest, what));
        Ok(Arc::new(maps.map_err(|error| fitted.spec(error))?))
    };
    Ok(vec![
        Facet::table(Method::NeighborDistances, of(NeighborMap::Distances)?),
        Facet::integers(Method::NeighborIndices, of(NeighborMap::Indices)?),
    ])
}

/// Returns what `kneighbors` answers beside an estimator's other methods: of the model itself, not of parts within, and where it has so many rows.
pub(super) fn lists_beside(
    fitted: &Fitted<'_>,
    neighborhood: &Neighborhood,
) -> Result<Vec<Facet>, LoadError> {
    match fitted.place.is_empty() && fitted.count("n_neighbors")? <= neighborhood.n_rows() {
        true => lists(fitted, neighborhood),
        false => Ok(Vec::new()),
    }
}

/// Converts KNeighborsTransformer and RadiusNeighborsTransformer.
pub(super) fn graph(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let mode = fitted.text("mode")?;
    let what = match mode.as_str() {
        "distance" => NeighborMap::DistanceGraph,
        "connectivity" => NeighborMap::Graph,
        other => return Err(fitted.unknown("mode", other)),
    };
    let reach = match fitted.short_class() {
        "RadiusNeighborsTransformer" => Reach::Within(fitted.number("radius")?),
        _ => {
            // A training row is its own neighbour, at no distance.
            let own = usize::from(mode == "distance");
            Reach::Nearest(fitted.count("n_neighbors")?.saturating_add(own))
        }
    };
    let neighborhood = neighborhood(fitted, reach)?;
    let graph = NeighborMaps::try_new(neighborhood.clone(), what);
    let graph = Arc::new(graph.map_err(|error| fitted.spec(error))?);
    let mut facets = vec![Facet::table(Method::Transform, graph)];
    if !matches!(reach, Reach::Within(_)) {
        facets.extend(lists_beside(fitted, &neighborhood)?);
    }
    fitted.faceted(facets)
}

/// Converts LocallyLinearEmbedding.
pub(super) fn locally_linear(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let neighbors = fitted.part_in("nbrs_")?;
    let what = NeighborMap::Barycenter {
        embedding: fitted.matrix("embedding_")?.values,
        regularization: fitted.number("reg")?,
    };
    let embedded = map(fitted, &neighbors, nearest(fitted)?, what)?;
    fitted.faceted(vec![Facet::table(Method::Transform, embedded)])
}

/// Converts Isomap.
pub(super) fn isomap(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let neighbors = fitted.part_in("nbrs_")?;
    let reach = match fitted.is_none("n_neighbors") {
        true => Reach::Within(fitted.number("radius")?),
        false => nearest(fitted)?,
    };
    let what = NeighborMap::Geodesic {
        distances: fitted.matrix("dist_matrix_")?.values,
    };
    let similarities = map(fitted, &neighbors, reach, what)?;
    let components = fitted.part_in("kernel_pca_")?;
    let n_rows = similarities.n_columns();
    let centered = centering(&components.part_in("_centerer")?, n_rows)?;
    let centered = Composed::try_new(similarities, Arc::new(centered)).map_err(spec)?;
    let projection = Projection::try_new(ProjectionSpec {
        n_features: n_rows,
        weights: kernel_components(&components)?.transposed().values,
        ..ProjectionSpec::default()
    });
    let embedded = Composed::try_new(Arc::new(centered), Arc::new(projection.map_err(spec)?));
    let embedded = Arc::new(embedded.map_err(spec)?);
    fitted.faceted(vec![Facet::table(Method::Transform, embedded)])
}

fn centering(fitted: &Fitted<'_>, n_rows: usize) -> Result<CenteredSimilarities, LoadError> {
    let means = fitted.finite("K_fit_rows_", n_rows)?;
    Ok(CenteredSimilarities::new(
        means,
        fitted.number("K_fit_all_")?,
    ))
}

/// Converts KernelCenterer.
pub(super) fn centerer(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_rows = fitted.flat("K_fit_rows_")?.len();
    let centered = Arc::new(centering(fitted, n_rows)?);
    fitted.faceted(vec![Facet::table(Method::Transform, centered)])
}

/// Converts LabelPropagation and LabelSpreading over neighbours.
pub(super) fn propagated_by_neighbors(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = super::labels::labels(fitted)?;
    let shares = fitted.matrix_of("label_distributions_", labels.len())?;
    let neighbors = neighborhood(&fitted.part_in("nn_fit")?, nearest(fitted)?)?;
    let answer = NeighborAnswer::Mean {
        targets: shares.values,
        n_targets: labels.len(),
    };
    let means = Neighbors::try_new(neighbors, NeighborWeights::Uniform, answer).map_err(spec)?;
    let rule = Rule::OverSum(ZeroSum::Divide);
    let probabilities = super::ensembles::after(fitted, Arc::new(means), rule)?;
    let predict = Facet::classes(Arc::clone(&probabilities), labels, Choice::FirstLargest);
    fitted.faceted(vec![
        predict.map_err(spec)?,
        Facet::table(Method::PredictProba, probabilities),
    ])
}

/// Converts KernelDensity.
pub(super) fn density(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if fitted.number_or("atol", 0.0)? != 0.0 || fitted.number_or("rtol", 0.0)? != 0.0 {
        return Err(fitted.unsupported("an approximation ('atol', 'rtol') is not supported"));
    }
    if !fitted.is_none("metric_params") {
        return Err(fitted.unsupported("'metric_params' are not supported"));
    }
    let metric = fitted.text_or("metric", "euclidean")?;
    let metric = Metric::named(&metric).ok_or_else(|| fitted.unknown("metric", &metric))?;
    let kernel = fitted.text("kernel")?;
    let kernel = DensityKernel::named(&kernel).ok_or_else(|| fitted.unknown("kernel", &kernel))?;
    // Up to 1.1 the bandwidth is the parameter itself.
    let bandwidth = match fitted.attr("bandwidth_") {
        Some(_) => fitted.number("bandwidth_")?,
        None => fitted.number("bandwidth")?,
    };
    // A tree's state begins with the data and ends with the weights.
    let tree = fitted.require("tree_")?;
    let state = fitted.graph.object(tree).and_then(|tree| tree.state);
    let state = state
        .and_then(|state| fitted.graph.list(state))
        .unwrap_or_default();
    let array = |place: Option<&coracle_pickle::NodeId>| fitted.graph.array(*place?);
    let data = array(state.first()).and_then(|data| Some((data.shape().to_vec(), data.to_f64s()?)));
    let Some(([_, n_features], data)) = data.as_ref().map(|(shape, data)| (shape.as_slice(), data))
    else {
        return Err(fitted.malformed("'tree_' holds no data"));
    };
    let weights = array(state.last()).and_then(|weights| weights.to_f64s());
    let density = Density::try_new(
        data.clone(),
        *n_features,
        &weights.unwrap_or_default(),
        metric,
        kernel,
        bandwidth,
    );
    let density = Arc::new(density.map_err(|error| fitted.spec(error))?);
    let facet = Facet::column(Method::ScoreSamples, density);
    fitted.faceted(vec![facet.map_err(|error| fitted.spec(error))?])
}
