//! Clusterings that can say where a new row belongs.

use std::sync::Arc;

use coracle_estimators::{
    CenterAnswer, Centers, Choice, ClusterNode, ClusterTree, Facet, Labels, Metric, TableFn,
};
use coracle_model::{LoadError, LoadErrorKind, Method};
use coracle_pickle::Node;
use coracle_tensor::Values;

use super::arrays::Matrix;
use super::convert::Part;
use super::fitted::Fitted;
use super::labels::{labels, labels_in};

/// Converts KMeans and MiniBatchKMeans.
pub(super) fn k_means(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let centers = fitted.matrix_of("cluster_centers_", fitted.n_features()?)?;
    let labels = numbered(fitted, centers.n_rows, false)?;
    // Up to 0.22 whole distances were compared, and not what differs between centres.
    let metric = match fitted.version.is_up_to_zero(22) {
        true => Metric::SquaredEuclidean,
        false => Metric::Euclidean,
    };
    let nearest = nearest(fitted, &centers, metric)?;
    clusters(fitted, nearest, labels, Some(&centers))
}

/// Converts BisectingKMeans, which asks down a tree of clusters.
pub(super) fn bisecting(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let centers = fitted.matrix_of("cluster_centers_", n_features)?;
    let labels = numbered(fitted, centers.n_rows, false)?;
    let tree = ClusterTree::try_new(cluster_nodes(fitted, n_features)?, n_features)
        .map_err(|error| fitted.spec(error))?;
    clusters(fitted, Arc::new(tree), labels, Some(&centers))
}

/// Reads the tree of clusters; parents come before their children.
fn cluster_nodes(fitted: &Fitted<'_>, n_features: usize) -> Result<Vec<ClusterNode>, LoadError> {
    let shift = match fitted.attr("_X_mean") {
        Some(_) => fitted.finite("_X_mean", n_features)?,
        None => vec![0.0; n_features],
    };
    let limit = fitted.graph.len();
    let mut pending = vec![fitted.require("_bisecting_tree")?];
    let mut nodes = Vec::new();
    while let Some(&id) = pending.get(nodes.len()) {
        if nodes.len() > limit {
            return Err(fitted.malformed("the tree of clusters has no end"));
        }
        let at = |name: &str| fitted.graph.attr(id, name);
        let inner =
            |name: &str| at(name).filter(|&child| !matches!(fitted.graph.node(child), Node::None));
        let (Some(left), Some(right)) = (inner("left"), inner("right")) else {
            let label = at("label").and_then(|label| fitted.graph.int(label));
            let label = label.and_then(|label| u32::try_from(label).ok());
            let label = label.ok_or_else(|| fitted.malformed("a cluster has no label"))?;
            nodes.push(ClusterNode::Leaf { label });
            continue;
        };
        let center = |child| -> Result<Vec<f64>, LoadError> {
            let center = fitted.graph.attr(child, "center");
            let center = center.and_then(|center| fitted.graph.array(center)?.to_f64s());
            let center = center.ok_or_else(|| fitted.malformed("a cluster has no centre"))?;
            Ok(center.iter().zip(&shift).map(|(c, s)| c + s).collect())
        };
        let index = pending.len();
        nodes.push(ClusterNode::Split {
            left: (center(left)?, index),
            right: (center(right)?, index.saturating_add(1)),
        });
        pending.extend([left, right]);
    }
    Ok(nodes)
}

/// Converts MeanShift and AffinityPropagation.
pub(super) fn nearest_center(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if fitted.text_or("affinity", "euclidean")? != "euclidean" {
        return Err(fitted.unknown("affinity", &fitted.text("affinity")?));
    }
    let centers = fitted.matrix("cluster_centers_")?;
    if centers.n_rows == 0 {
        return Err(fitted.unsupported("a clustering that did not converge has no centres"));
    }
    let labels = numbered(fitted, centers.n_rows, true)?;
    let nearest = nearest(fitted, &centers, Metric::SquaredEuclidean)?;
    clusters(fitted, nearest, labels, None)
}

/// Converts Birch: the nearest subcluster's cluster.
pub(super) fn birch(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let centers = fitted.matrix_of("subcluster_centers_", fitted.n_features()?)?;
    let labels = labels_in(fitted, "subcluster_labels_")?;
    // Up to 0.22 what differs between centres was compared, and not whole distances.
    let metric = match fitted.version.is_up_to_zero(22) {
        true => Metric::Euclidean,
        false => Metric::SquaredEuclidean,
    };
    let nearest = nearest(fitted, &centers, metric)?;
    clusters(fitted, nearest, labels, Some(&centers))
}

/// Converts NearestCentroid.
pub(super) fn nearest_centroid(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if fitted.version.is_from(6) {
        // From 1.6 on decisions weigh classes and variances.
        return super::discriminant::nearest_centroid(fitted);
    }
    let centers = fitted.matrix_of("centroids_", fitted.n_features()?)?;
    let name = fitted
        .text_if("metric")
        .ok_or_else(|| fitted.unsupported("a metric that is a function is not supported"))?;
    let metric = match name.as_str() {
        // Up to 1.2 it is SciPy that computes it.
        "braycurtis" if !fitted.version.is_from(3) => Some(Metric::BrayCurtisOfSums),
        name => Metric::named(name),
    };
    let metric = metric.ok_or_else(|| fitted.unknown("metric", &name))?;
    let labels = labels(fitted)?;
    let nearest = nearest(fitted, &centers, whole(metric))?;
    clusters(fitted, nearest, labels, None)
}

/// Returns the metric in which nearest centres are compared: the whole square, not what differs between centres.
pub(super) fn whole(metric: Metric) -> Metric {
    match metric {
        Metric::Euclidean => Metric::SquaredEuclidean,
        metric => metric,
    }
}

fn nearest(
    fitted: &Fitted<'_>,
    centers: &Matrix,
    metric: Metric,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let nearest = Centers::try_new(
        centers.values.clone(),
        centers.n_columns,
        metric,
        CenterAnswer::Nearest,
    );
    Ok(Arc::new(nearest.map_err(|error| fitted.spec(error))?))
}

/// Returns the labels 0, 1, 2 ...
fn numbered(fitted: &Fitted<'_>, n: usize, wide: bool) -> Result<Labels, LoadError> {
    let n = i32::try_from(n)
        .map_err(|_too_many| fitted.error(LoadErrorKind::LimitExceeded, "too many clusters"))?;
    Ok(Labels::new(match wide {
        true => Values::I64((0..i64::from(n)).collect()),
        false => Values::I32((0..n).collect()),
    }))
}

/// Puts `predict` and, where there are distances, `transform` together.
fn clusters(
    fitted: &Fitted<'_>,
    nearest: Arc<dyn TableFn>,
    labels: Labels,
    distances_to: Option<&Matrix>,
) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let n_clusters = labels.len();
    let mut facets = vec![Facet::classes(nearest, labels, Choice::Index).map_err(spec)?];
    if let Some(centers) = distances_to {
        let distances = Centers::try_new(
            centers.values.clone(),
            centers.n_columns,
            Metric::Euclidean,
            CenterAnswer::Distances,
        );
        facets.push(Facet::table(
            Method::Transform,
            Arc::new(distances.map_err(spec)?),
        ));
    }
    let mut part = fitted.faceted(facets)?;
    part.facts = vec![("clusters".to_owned(), n_clusters.to_string())];
    Ok(part)
}
