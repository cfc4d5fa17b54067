//! Functions that transformers hold: those of numpy and scipy that Coracle knows, with the arguments that they are given.

use coracle_estimators::Unary;
use coracle_model::LoadError;
use coracle_pickle::{Graph, Node, NodeId};

use super::fitted::Fitted;

/// The most decimals that are rounded to, or digits before the point.
const DECIMALS_MAX: i64 = 300;

/// Reads a function of one number in attribute `name`; `None` stands for the identity.
pub(super) fn known(fitted: &Fitted<'_>, name: &str) -> Result<Unary, LoadError> {
    let keywords = match name {
        "func" => "kw_args",
        _ => "inv_kw_args",
    };
    let entries = fitted.attr(keywords).and_then(|id| fitted.graph.dict(id));
    let mut arguments = arguments(fitted, entries.unwrap_or_default())?;
    let mut id = fitted.require(name)?;
    if let Some((function, given)) = of_partial(fitted, id)? {
        // What the transformer says comes last, and counts.
        arguments.splice(0..0, given);
        id = function;
    }
    let function = named(fitted, name, id)?;
    let mut changed = function;
    for (keyword, value) in arguments {
        changed = with(fitted.graph, changed, &keyword, value).ok_or_else(|| {
            let what = format!("'{keywords}' with '{keyword}' is not supported for this function");
            fitted.unsupported(what)
        })?;
    }
    Ok(changed)
}

type Arguments = Vec<(String, NodeId)>;

fn arguments(fitted: &Fitted<'_>, entries: &[(NodeId, NodeId)]) -> Result<Arguments, LoadError> {
    let named = entries.iter().map(|&(key, value)| {
        let key = fitted.graph.string(key);
        let key = key.ok_or_else(|| fitted.malformed("an argument's name is no text"))?;
        Ok((key, value))
    });
    named.collect()
}

/// Returns the function of a `functools.partial` with keywords alone, and these.
fn of_partial(fitted: &Fitted<'_>, id: NodeId) -> Result<Option<(NodeId, Arguments)>, LoadError> {
    let graph = fitted.graph;
    let Some(partial) = graph.object(id).filter(|o| o.class == "functools.partial") else {
        return Ok(None);
    };
    let state = partial.state.and_then(|state| graph.list(state));
    let Some(&[function, given, keywords, _]) = state else {
        return Err(fitted.malformed("a partial function without its state"));
    };
    if graph.list(given).is_none_or(|given| !given.is_empty()) {
        let why = "a partial function with arguments that are no keywords is not supported";
        return Err(fitted.unsupported(why));
    }
    let keywords = graph.dict(keywords).unwrap_or_default();
    Ok(Some((function, arguments(fitted, keywords)?)))
}

fn named(fitted: &Fitted<'_>, name: &str, id: NodeId) -> Result<Unary, LoadError> {
    let graph = fitted.graph;
    let (module, short) = match graph.node(id) {
        Node::None => return Ok(Unary::Identity),
        Node::Global(full) => {
            let (module, short) = full.rsplit_once('.').unwrap_or_default();
            (module.to_owned(), short.to_owned())
        }
        // Up to 1.18 numpy restored its functions so, from a module and a name.
        Node::Object(object) if object.class == "numpy.core._ufunc_reconstruct" => {
            match object.args.as_slice() {
                &[module, short] => (
                    graph.string(module).unwrap_or_default(),
                    graph.string(short).unwrap_or_default(),
                ),
                _ => Default::default(),
            }
        }
        _ => {
            let what = format!("'{name}' is no function of numpy or scipy.special");
            return Err(fitted.unsupported(what));
        }
    };
    let known = match module.as_str() {
        _ if module.starts_with("numpy") => Unary::of_numpy(&short),
        _ if module.starts_with("scipy.special") => Unary::of_scipy(&short),
        _ => None,
    };
    known.ok_or_else(|| fitted.unknown(name, &format!("{module}.{short}")))
}

/// Returns a function with another argument; none if it has no such argument, or takes other values for it.
fn with(graph: &Graph, function: Unary, keyword: &str, value: NodeId) -> Option<Unary> {
    let is_none = matches!(graph.node(value), Node::None);
    let number = graph.float(value).filter(|number| !number.is_nan());
    Some(match (function, keyword) {
        (Unary::Clip { max, .. }, "a_min" | "min") => Unary::Clip {
            min: if is_none { f64::NEG_INFINITY } else { number? },
            max,
        },
        (Unary::Clip { min, .. }, "a_max" | "max") => Unary::Clip {
            min,
            max: if is_none { f64::INFINITY } else { number? },
        },
        (Unary::Round { .. }, "decimals") => {
            let decimals = graph.int(value)?;
            let decimals = (-DECIMALS_MAX..=DECIMALS_MAX)
                .contains(&decimals)
                .then_some(decimals)?;
            Unary::Round {
                decimals: i32::try_from(decimals).ok()?,
            }
        }
        (Unary::NanToNum { .. }, "copy") => function,
        (Unary::NanToNum { posinf, neginf, .. }, "nan") => Unary::NanToNum {
            nan: graph.float(value)?,
            posinf,
            neginf,
        },
        (Unary::NanToNum { nan, neginf, .. }, "posinf") => Unary::NanToNum {
            nan,
            posinf: if is_none {
                f64::MAX
            } else {
                graph.float(value)?
            },
            neginf,
        },
        (Unary::NanToNum { nan, posinf, .. }, "neginf") => Unary::NanToNum {
            nan,
            posinf,
            neginf: if is_none {
                f64::MIN
            } else {
                graph.float(value)?
            },
        },
        _ => return None,
    })
}
