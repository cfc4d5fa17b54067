//! Dates among the values of a file: arrays of numpy's, Python's objects, pandas' timestamps.

use coracle_estimators::{Category, DateTime};
use coracle_pickle::{Array, Node, NodeId};

use super::fitted::Fitted;

/// Returns an array of dates as categories; `None` for other arrays. From 1.6 on no date that is missing is found there.
pub(super) fn array(fitted: &Fitted<'_>, array: &Array) -> Option<Vec<Category>> {
    let instants = array.to_instants_ns()?.into_iter();
    let category = |instant: Option<i128>| match instant {
        Some(ns) => Category::Date(DateTime::new(ns, false)),
        None if fitted.version.is_from(6) => Category::Never,
        None => Category::Missing,
    };
    Some(instants.map(category).collect())
}

/// Returns a date, a date and time or a timestamp; `None` for anything else, and for a time in a zone other than UTC of
/// Python's `datetime`.
pub(super) fn object(fitted: &Fitted<'_>, id: NodeId) -> Option<DateTime> {
    let graph = fitted.graph;
    let object = graph.object(id)?;
    match (object.class, object.args.as_slice()) {
        (
            "pandas._libs.tslibs.timestamps._unpickle_timestamp",
            &[ticks, _, zone, ref unit @ ..],
        ) => {
            // Pandas up to 1.5 counts nanoseconds; the others say what they count.
            let unit = unit.first().map_or(Some(10), |&unit| graph.int(unit))?;
            let tick_ns: i128 = match unit {
                7 => 1_000_000_000,
                8 => 1_000_000,
                9 => 1_000,
                10 => 1,
                _ => return None,
            };
            let ns = i128::from(graph.int(ticks)?).checked_mul(tick_ns)?;
            Some(DateTime::new(ns, !is_none(fitted, zone)))
        }
        ("datetime.date", &[bytes]) => match *bytes_of(fitted, bytes)? {
            [high, low, month, day] => day_of([high, low], month, day, 0),
            _ => None,
        },
        ("datetime.datetime", &[bytes]) => match *bytes_of(fitted, bytes)? {
            [
                high,
                low,
                month,
                day,
                hour,
                minute,
                second,
                ref microsecond @ ..,
            ] => {
                let &[a, b, c] = microsecond else {
                    return None;
                };
                let seconds = [(hour, 3600), (minute, 60), (second, 1)];
                let seconds =
                    seconds.map(|(count, length): (u8, u64)| u64::from(count).checked_mul(length));
                let seconds = seconds
                    .into_iter()
                    .try_fold(0_u64, |sum, part| sum.checked_add(part?))?;
                let microseconds = u64::from(u32::from_be_bytes([0, a, b, c]));
                let ns = seconds
                    .checked_mul(1_000_000)?
                    .checked_add(microseconds)?
                    .checked_mul(1_000)?;
                // The highest bit of the month tells the second of two equal hours, which compare equal.
                day_of([high, low], month & 0x7f, day, ns)
            }
            _ => None,
        },
        _ => None,
    }
}

fn day_of(year: [u8; 2], month: u8, day: u8, ns_of_day: u64) -> Option<DateTime> {
    DateTime::of_day(u16::from_be_bytes(year).into(), month, day, ns_of_day)
}

fn is_none(fitted: &Fitted<'_>, id: NodeId) -> bool {
    matches!(fitted.graph.node(id), Node::None)
}

fn bytes_of<'g>(fitted: &Fitted<'g>, id: NodeId) -> Option<&'g [u8]> {
    match fitted.graph.node(id) {
        Node::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
