//! What becomes of `None` in a table: an imputer of NaN leaves it, and an encoder behind may have it among its categories.

use std::collections::HashSet;

use coracle_pickle::{Graph, Node, NodeId};

use super::categories;
use super::fitted::Fitted;

/// The encoders that tell `None` from NaN.
const ENCODERS: [&str; 3] = [
    "sklearn.preprocessing._encoders.OneHotEncoder",
    "sklearn.preprocessing._encoders.OrdinalEncoder",
    "sklearn.preprocessing._target_encoder.TargetEncoder",
];

/// What `None` is to what reads a column; of several readers the last of these counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NoneIs {
    /// Nothing else than NaN, or nothing that is known: no encoder reads the column.
    #[default]
    Missing,
    /// No category of the encoder that reads the column.
    Unseen,
    /// What cannot be told: some encoder has it as a category, and it is not known whether that reads the column.
    Untold,
    /// A value of its own: a category, or what an imputer of `None` fills.
    Known,
}

/// Tells whether any encoder in a file has `None` among its categories.
pub(super) fn are_known(graph: &Graph) -> bool {
    graph.ids().any(|id| knows_none(graph, id))
}

fn knows_none(graph: &Graph, id: NodeId) -> bool {
    let is_encoder = |class| ENCODERS.contains(&class);
    if !graph
        .object(id)
        .is_some_and(|object| is_encoder(object.class))
    {
        return false;
    }
    let lists = graph.attr(id, "categories_").and_then(|id| graph.list(id));
    let mut lists = lists.unwrap_or_default().iter();
    lists.any(|&categories| has_none(graph, categories))
}

fn has_none(graph: &Graph, categories: NodeId) -> bool {
    let array = graph.array(categories);
    let ids = array.and_then(|array| array.objects()).unwrap_or_default();
    let is_none = |&id: &NodeId| matches!(graph.node(id), Node::None);
    ids.iter().any(is_none)
}

/// Returns what `None` is to each column of an encoder.
///
/// A NaN that it learnt behind an imputer of NaN was `None` before: a table of texts that pandas makes between them has NaN for it.
pub(super) fn of_encoder(fitted: &Fitted<'_>) -> Vec<NoneIs> {
    let graph = fitted.graph;
    let learns = fitted.text("categories").is_ok_and(|given| given == "auto");
    let knows =
        |categories| has_none(graph, categories) || learns && has_missing(fitted, categories);
    let lists = fitted
        .attr("categories_")
        .and_then(|lists| graph.list(lists));
    let lists = lists.unwrap_or_default().iter();
    let nones = lists.map(|&categories| match knows(categories) {
        true => NoneIs::Known,
        false => NoneIs::Unseen,
    });
    nones.collect()
}

fn has_missing(fitted: &Fitted<'_>, categories: NodeId) -> bool {
    let array = fitted.graph.array(categories);
    let ids = array.and_then(|array| array.objects()).unwrap_or_default();
    ids.iter().any(|&id| categories::is_missing(fitted, id))
}

/// Returns what `None` is to the `n_features` columns of an estimator that does not say it of each: what cannot be told where an
/// encoder that knows it is a part of it, however deep.
pub(super) fn beneath(fitted: &Fitted<'_>, n_features: usize) -> Vec<NoneIs> {
    match fitted.knows_none && reaches_encoder(fitted.graph, fitted.id) {
        true => vec![NoneIs::Untold; n_features],
        false => Vec::new(),
    }
}

fn reaches_encoder(graph: &Graph, from: NodeId) -> bool {
    let (mut seen, mut open) = (HashSet::from([from]), vec![from]);
    while let Some(id) = open.pop() {
        if knows_none(graph, id) {
            return true;
        }
        let mut visit = |id: NodeId| {
            if seen.insert(id) {
                open.push(id);
            }
        };
        match graph.node(id) {
            Node::List(items) | Node::Tuple(items) | Node::Set(items) => {
                items.iter().copied().for_each(&mut visit);
            }
            Node::Dict(entries) => entries.iter().for_each(|&(_, value)| visit(value)),
            Node::Array(array) => {
                let ids = array.objects().unwrap_or_default();
                ids.iter().copied().for_each(&mut visit);
            }
            Node::Object(object) => {
                let held = object.args.iter().chain(object.elements()).copied();
                let entries = object.entries().iter().map(|&(_, value)| value);
                held.chain(object.state).chain(entries).for_each(&mut visit);
            }
            _ => {}
        }
    }
    false
}

/// Puts into `all` what `None` is to some of its columns, by what else reads them, too.
pub(super) fn merge(all: &mut [NoneIs], columns: &[usize], read: &[NoneIs]) {
    for (&column, &read) in columns.iter().zip(read) {
        if let Some(known) = all.get_mut(column) {
            *known = read.max(*known);
        }
    }
}
