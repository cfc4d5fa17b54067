//! The columns of a ColumnTransformer of releases before 1.0, which keeps them as the user wrote them.

use coracle_model::LoadError;
use coracle_pickle::{Array, Node, NodeId};

use super::fitted::Fitted;

/// What pandas' index of columns is restored by.
const NEW_INDEX: &str = "pandas.core.indexes.base._new_Index";

/// Returns the names of the columns of the data frame that it was fitted on, if it was.
pub(super) fn names(fitted: &Fitted<'_>) -> Option<Vec<String>> {
    let graph = fitted.graph;
    let names = ["_feature_names_in", "_df_columns"];
    let id = names.iter().find(|name| !fitted.is_none(name))?;
    let id = fitted.attr(id)?;
    let id = match graph.object(id) {
        Some(object) if object.class == NEW_INDEX => {
            let &[_, state] = object.args.as_slice() else {
                return None;
            };
            graph.dict_get(state, "data")?
        }
        Some(_) => return None,
        None => id,
    };
    let array = graph.array(id)?;
    match array.objects() {
        Some(ids) => ids.iter().map(|&id| graph.string(id)).collect(),
        None => array.to_strings(),
    }
}

/// Returns the places that a column, several, a slice or a mask stands for.
///
/// # Errors
/// Kind `Unsupported` if names are asked for of a table without, `Malformed` if there are no such columns.
pub(super) fn places(
    fitted: &Fitted<'_>,
    id: NodeId,
    n_features: usize,
) -> Result<Vec<usize>, LoadError> {
    let graph = fitted.graph;
    let wrong = || fitted.malformed("'transformers_' names columns that are not there");
    let names = names(fitted);
    let one = |id: NodeId| -> Option<usize> {
        if let Some(name) = graph.str(id) {
            return names.as_ref()?.iter().position(|known| known == name);
        }
        place(graph.int(id)?, n_features)
    };
    if names.is_none() && is_named(fitted, id) {
        return Err(fitted.unsupported("the names of the columns are not in the file"));
    }
    if let Node::Slice(ends) = graph.node(id) {
        return slice(fitted, *ends, n_features, one).ok_or_else(wrong);
    }
    let found: Option<Vec<usize>> = match (graph.list(id), graph.array(id)) {
        (Some(items), _) if items.len() == n_features && flags(fitted, items).is_some() => {
            flags(fitted, items).map(super::arrays::columns_where)
        }
        (Some(items), _) => items.iter().map(|&item| one(item)).collect(),
        (None, Some(array)) => in_array(array, n_features, one),
        (None, None) => one(id).map(|place| vec![place]),
    };
    found.ok_or_else(wrong)
}

fn is_named(fitted: &Fitted<'_>, id: NodeId) -> bool {
    let graph = fitted.graph;
    let items = match graph.node(id) {
        Node::Slice(ends) => ends.as_slice(),
        _ => graph.list(id).unwrap_or_default(),
    };
    graph.str(id).is_some() || items.iter().any(|&item| graph.str(item).is_some())
}

fn place(index: i64, n_features: usize) -> Option<usize> {
    let n = i64::try_from(n_features).ok()?;
    let index = if index < 0 {
        index.checked_add(n)?
    } else {
        index
    };
    usize::try_from(index)
        .ok()
        .filter(|&index| index < n_features)
}

fn flags(fitted: &Fitted<'_>, items: &[NodeId]) -> Option<Vec<bool>> {
    let flags = items.iter().map(|&item| match fitted.graph.node(item) {
        Node::Bool(flag) => Some(*flag),
        _ => None,
    });
    flags.collect()
}

fn in_array(
    array: &Array,
    n_features: usize,
    one: impl Fn(NodeId) -> Option<usize>,
) -> Option<Vec<usize>> {
    if let Some(ids) = array.objects() {
        return ids.iter().map(|&id| one(id)).collect();
    }
    if let Some(flags) = array.to_bools().filter(|flags| flags.len() == n_features) {
        return Some(super::arrays::columns_where(flags));
    }
    let places = array.to_i64s()?.into_iter();
    places.map(|index| place(index, n_features)).collect()
}

/// Returns the places of a slice; the end of one by names is in it.
fn slice(
    fitted: &Fitted<'_>,
    [start, stop, step]: [NodeId; 3],
    n_features: usize,
    one: impl Fn(NodeId) -> Option<usize>,
) -> Option<Vec<usize>> {
    let graph = fitted.graph;
    let is_none = |id| matches!(graph.node(id), Node::None);
    let step = match is_none(step) {
        true => 1,
        false => usize::try_from(graph.int(step)?)
            .ok()
            .filter(|&step| step > 0)?,
    };
    let end = |id: NodeId, otherwise: usize, after: usize| {
        if is_none(id) {
            return Some(otherwise);
        }
        if graph.str(id).is_some() {
            return one(id)?.checked_add(after);
        }
        let index = graph.int(id)?;
        let n = i64::try_from(n_features).ok()?;
        let index = if index < 0 {
            index.checked_add(n)?
        } else {
            index
        };
        usize::try_from(index.clamp(0, n)).ok()
    };
    let (start, stop) = (end(start, 0, 0)?, end(stop, n_features, 1)?);
    Some((start..stop).step_by(step).collect())
}
