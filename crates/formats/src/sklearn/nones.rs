//! What becomes of `None` in a table: an imputer of NaN leaves it, and an encoder behind may have it among its categories.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

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

/// The values of a file that hold an encoder that knows `None`, however deep, and these encoders themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Knowing(Arc<HashSet<NodeId>>);

impl Knowing {
    /// Finds them, in one pass over the file.
    pub(super) fn of(graph: &Graph) -> Self {
        let mut told = HashMap::new();
        let mut open: Vec<NodeId> = graph
            .ids()
            .filter(|&id| knows_none(graph, id, &mut told))
            .collect();
        if open.is_empty() {
            return Self::default();
        }
        let mut holders: Vec<(NodeId, NodeId)> = Vec::new();
        for holder in graph.ids() {
            each_held(graph, holder, |id| {
                if may_hold(graph.node(id)) {
                    holders.push((id, holder));
                }
            });
        }
        holders.sort_unstable();
        let mut knowing: HashSet<NodeId> = open.iter().copied().collect();
        while let Some(held) = open.pop() {
            let start = holders.partition_point(|&(id, _)| id < held);
            let of_held = holders.iter().skip(start).take_while(|(id, _)| *id == held);
            open.extend(
                of_held.filter_map(|&(_, holder)| knowing.insert(holder).then_some(holder)),
            );
        }
        Self(Arc::new(knowing))
    }
}

/// Tells whether an estimator is an encoder that knows `None`; `told` is what is known of lists and arrays.
fn knows_none(graph: &Graph, id: NodeId, told: &mut HashMap<(NodeId, bool), bool>) -> bool {
    let is_encoder = |class| ENCODERS.contains(&class);
    if !graph
        .object(id)
        .is_some_and(|object| is_encoder(object.class))
    {
        return false;
    }
    let learns = learns(graph, id);
    let Some(list) = graph.attr(id, "categories_") else {
        return false;
    };
    if let Some(&knows) = told.get(&(list, learns)) {
        return knows;
    }
    let mut arrays = graph.list(list).unwrap_or_default().iter();
    let knows = arrays.any(|&array| {
        let of_array = || is_known(graph, array, learns);
        *told.entry((array, learns)).or_insert_with(of_array)
    });
    told.insert((list, learns), knows);
    knows
}

/// Tells whether the categories of an encoder are those that it met.
fn learns(graph: &Graph, encoder: NodeId) -> bool {
    let given = graph.attr(encoder, "categories");
    let given = given.and_then(|id| graph.string(id));
    given.is_some_and(|given| given == "auto")
}

/// Tells whether `None` is one of `categories`, which an encoder behind an imputer of NaN has learnt or not: a NaN that it learnt was
/// `None` before, as a table of texts that pandas makes between them has NaN for it.
fn is_known(graph: &Graph, categories: NodeId, learns: bool) -> bool {
    let array = graph.array(categories);
    let ids = array.and_then(|array| array.objects()).unwrap_or_default();
    let is_it = |&id: &NodeId| {
        matches!(graph.node(id), Node::None) || learns && categories::is_missing(graph, id)
    };
    ids.iter().any(is_it)
}

/// Returns what `None` is to each column of an encoder.
pub(super) fn of_encoder(fitted: &Fitted<'_>) -> Vec<NoneIs> {
    let learns = learns(fitted.graph, fitted.id);
    let lists = fitted
        .attr("categories_")
        .and_then(|lists| fitted.graph.list(lists));
    let lists = lists.unwrap_or_default().iter();
    let nones = lists.map(
        |&categories| match is_known(fitted.graph, categories, learns) {
            true => NoneIs::Known,
            false => NoneIs::Unseen,
        },
    );
    nones.collect()
}

/// Returns what `None` is to the `n_features` columns of an estimator that does not say it of each: what cannot be told where an
/// encoder that knows it is a part of it, however deep, or may read one of the columns that it gives, `n_given` where that is known.
pub(super) fn beneath(
    fitted: &Fitted<'_>,
    n_features: usize,
    n_given: Option<usize>,
) -> Vec<NoneIs> {
    // Beyond these are the columns that others beside it give.
    let mut after = fitted.none_after.iter().take(n_given.unwrap_or(usize::MAX));
    let hands_on = keeps_objects(fitted) && after.any(|none| *none >= NoneIs::Untold);
    match hands_on || fitted.knowing.0.contains(&fitted.id) {
        true => vec![NoneIs::Untold; n_features],
        false => Vec::new(),
    }
}

/// Tells whether an estimator that does not say what `None` is to it may give `None`, where others make NaN of it, as of all in a table
/// of floats.
fn keeps_objects(fitted: &Fitted<'_>) -> bool {
    let of_its_own = [
        "FunctionTransformer",
        "StackingClassifier",
        "StackingRegressor",
    ];
    fitted.class().starts_with("sklearn.feature_selection.")
        || of_its_own.contains(&fitted.short_class())
}

fn may_hold(node: &Node) -> bool {
    matches!(
        node,
        Node::List(_)
            | Node::Tuple(_)
            | Node::Set(_)
            | Node::Dict(_)
            | Node::Array(_)
            | Node::Object(_)
    )
}

fn each_held(graph: &Graph, holder: NodeId, mut visit: impl FnMut(NodeId)) {
    match graph.node(holder) {
        Node::List(items) | Node::Tuple(items) | Node::Set(items) => {
            items.iter().copied().for_each(visit);
        }
        Node::Dict(entries) => entries.iter().for_each(|&(_, value)| visit(value)),
        Node::Array(array) => {
            let ids = array.objects().unwrap_or_default();
            ids.iter().copied().for_each(visit);
        }
        Node::Object(object) => {
            let held = object.args.iter().chain(object.elements()).copied();
            let entries = object.entries().iter().map(|&(_, value)| value);
            held.chain(object.state).chain(entries).for_each(visit);
        }
        _ => {}
    }
}

/// Puts into `all` what `None` is to some of its columns, by what else reads them, too.
pub(super) fn merge(all: &mut [NoneIs], columns: &[usize], read: &[NoneIs]) {
    for (&column, &read) in columns.iter().zip(read) {
        if let Some(known) = all.get_mut(column) {
            *known = read.max(*known);
        }
    }
}
