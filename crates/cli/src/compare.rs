//! `coracle inspect --compare-engines`: how far the answers of two engines to the same graph are apart.

use std::fmt::Write as _;
use std::path::Path;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load, load_graph_on};
use coracle_model::{GraphEngine, Model, RunError};
use coracle_onnx::MadeUp;
use coracle_tensor::{DType, Tensor, Values};
use serde_json::{Value, json};

use crate::engine_settings::EngineSettings;

/// So many rows are made up, the first half of them within 1, the others of other ranges.
const N_ROWS: usize = 64;
const SCALES: [f32; 4] = [10.0, 100.0, 0.01, 1000.0];
/// Sizes that are tried for dimensions that are open.
const OPEN_SIZES: [usize; 4] = [4, 32, 1, 128];

/// What our own kernels are called.
const OWN: &str = "Coracle's own kernels";

/// What the comparison of a graph came to.
#[derive(Debug)]
pub(crate) enum Comparison {
    /// It is no graph.
    NoGraph,
    /// Each engine, and why it does not run the graph, if so; the first that does is compared with each other that does.
    Engines {
        refusals: Vec<(&'static str, Option<String>)>,
        pairs: Vec<Pair>,
    },
}

/// The answers of two engines.
#[derive(Debug)]
pub(crate) struct Pair {
    first: &'static str,
    second: &'static str,
    differences: Vec<Difference>,
}

/// How far apart the answers to one output are.
#[derive(Debug, PartialEq)]
pub(crate) struct Difference {
    output: String,
    dtype: DType,
    /// Rows that both engines answered, with tensors of one shape and datatype.
    n_compared: usize,
    /// Rows that one engine alone refused, or answered with another shape or datatype.
    n_unlike: usize,
    /// The elements of the rows that were compared, and those of them that are not equal.
    n_elements: usize,
    n_unequal: usize,
    /// The largest distance between real numbers, and the largest in relation to their size.
    absolute: f64,
    relative: f64,
}

/// Compares our own kernels and engines, by their names, on the graph at `path`.
pub(crate) fn compare(
    path: &Path,
    engines: &[(&'static str, &dyn GraphEngine)],
    settings: &EngineSettings,
) -> Comparison {
    let ours = load(path, &LoadOptions::default(), &SystemClock::new());
    let ours = ours.map(|loaded| loaded.model);
    let mut loaded = vec![(OWN, ours.map_err(|error| error.to_string()))];
    for (name, engine) in engines {
        match load_graph_on(path, *engine, settings) {
            Ok(None) => return Comparison::NoGraph,
            Ok(Some(model)) => loaded.push((name, Ok(model))),
            Err(error) => loaded.push((name, Err(error.to_string()))),
        }
    }
    let mut running = loaded
        .iter()
        .filter_map(|(name, model)| Some((*name, model.as_ref().ok()?)));
    let first = running.next();
    let pairs = first.into_iter().flat_map(|(first, ours)| {
        let others = running.by_ref();
        let pairs = others.map(move |(second, theirs)| Pair {
            first,
            second,
            differences: differences(ours.as_ref(), theirs.as_ref()),
        });
        pairs.collect::<Vec<_>>()
    });
    let pairs = pairs.collect();
    let refusals = loaded.into_iter().map(|(name, model)| (name, model.err()));
    Comparison::Engines {
        refusals: refusals.collect(),
        pairs,
    }
}

/// Runs made-up rows on both, and compares what comes of them.
fn differences(ours: &dyn Model, theirs: &dyn Model) -> Vec<Difference> {
    let signature = ours.signature();
    let names = |model: &dyn Model| -> Vec<String> {
        let outputs = model.signature().outputs.iter();
        outputs.map(|output| output.name.clone()).collect()
    };
    let their_names = names(theirs);
    let places = names(ours);
    let places: Vec<(usize, usize)> = places
        .iter()
        .enumerate()
        .filter_map(|(own, name)| {
            let their = their_names.iter().position(|their| their == name)?;
            Some((own, their))
        })
        .collect();
    let (own, their): (Vec<usize>, Vec<usize>) = places.into_iter().unzip();
    let specs = own.iter().filter_map(|&place| signature.outputs.get(place));
    let mut differences: Vec<Difference> = specs
        .map(|spec| Difference {
            output: spec.name.clone(),
            dtype: spec.dtype,
            n_compared: 0,
            n_unlike: 0,
            n_elements: 0,
            n_unequal: 0,
            absolute: 0.0,
            relative: 0.0,
        })
        .collect();
    let runs = |open: usize, seed: usize| {
        let scale = match seed < N_ROWS / 2 {
            true => 1.0,
            false => SCALES.get(seed % SCALES.len()).copied().unwrap_or(1.0),
        };
        let row = MadeUp { open, seed, scale }.row(&signature.inputs)?;
        Some((ours.run(&row, &own), theirs.run(&row, &their)))
    };
    // The first size that one of them takes.
    let open = OPEN_SIZES
        .into_iter()
        .find(|&open| runs(open, 0).is_some_and(|(ours, theirs)| ours.is_ok() || theirs.is_ok()));
    let Some(open) = open else {
        return differences;
    };
    for (ours, theirs) in (0..N_ROWS).filter_map(|seed| runs(open, seed)) {
        note(&mut differences, ours, theirs);
    }
    differences
}

/// Takes in what both answered to one row.
fn note(
    differences: &mut [Difference],
    ours: Result<Vec<Tensor>, RunError>,
    theirs: Result<Vec<Tensor>, RunError>,
) {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            for (difference, (ours, theirs)) in differences.iter_mut().zip(ours.iter().zip(&theirs))
            {
                difference.add(ours, theirs);
            }
        }
        // What both refuse is no row.
        (Err(_), Err(_)) => {}
        _ => differences.iter_mut().for_each(|one| one.n_unlike += 1),
    }
}

impl Difference {
    fn add(&mut self, ours: &Tensor, theirs: &Tensor) {
        if ours.shape() != theirs.shape() || ours.dtype() != theirs.dtype() {
            self.n_unlike += 1;
            return;
        }
        self.n_compared += 1;
        self.n_elements += ours.values().len();
        let (Some(left), Some(right)) = (ours.values().to_f64s(), theirs.values().to_f64s()) else {
            if let (Values::Bytes(left), Values::Bytes(right)) = (ours.values(), theirs.values()) {
                let unequal = left.iter().zip(right.iter()).filter(|(l, r)| l != r);
                self.n_unequal += unequal.count();
            }
            return;
        };
        for (left, right) in left.iter().zip(right.iter()) {
            if left == right || left.is_nan() && right.is_nan() {
                continue;
            }
            self.n_unequal += 1;
            let apart = (left - right).abs();
            // A number and none, or an infinity, are as far apart as can be.
            let apart = if apart.is_nan() { f64::INFINITY } else { apart };
            self.absolute = self.absolute.max(apart);
            self.relative = self
                .relative
                .max(apart / right.abs().max(f64::MIN_POSITIVE));
        }
    }

    fn is_real(&self) -> bool {
        let reals = [DType::F16, DType::BF16, DType::F32, DType::F64];
        reals.contains(&self.dtype)
    }

    fn shown(&self) -> String {
        let apart = match (self.n_compared, self.n_unequal) {
            (0, _) => "runs on no made-up row of both".to_owned(),
            (rows, 0) => format!("equal on {rows} made-up rows"),
            (rows, unequal) if self.is_real() => format!(
                "at most {:.1e} apart, {:.1e} of the number ({unequal} of {} numbers on {rows} made-up rows)",
                self.absolute, self.relative, self.n_elements
            ),
            (rows, unequal) => {
                format!(
                    "{unequal} of {} differ on {rows} made-up rows",
                    self.n_elements
                )
            }
        };
        match self.n_unlike {
            0 => apart,
            unlike => format!("{apart}; {unlike} rows answered by one alone, or in another shape"),
        }
    }
}

impl Comparison {
    pub(crate) fn describe(&self, text: &mut String) -> std::fmt::Result {
        match self {
            Self::NoGraph => writeln!(text, "  engines     one: the model is no ONNX graph"),
            Self::Engines { refusals, pairs } => {
                if pairs.is_empty() {
                    writeln!(text, "  engines     not compared")?;
                }
                for pair in pairs {
                    writeln!(text, "  engines     {} beside {}", pair.first, pair.second)?;
                    for difference in &pair.differences {
                        writeln!(text, "    {:<18} {}", difference.output, difference.shown())?;
                    }
                }
                for (name, why) in refusals {
                    match why {
                        None if !pairs.is_empty() => {}
                        why => {
                            let why = why.as_deref().unwrap_or("runs it");
                            writeln!(text, "    {name}: {why}")?;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    pub(crate) fn document(&self) -> Value {
        let Self::Engines { refusals, pairs } = self else {
            return Value::Null;
        };
        let mut document = json!({});
        for (name, why) in refusals {
            let key = match *name {
                OWN => "own_refusal".to_owned(),
                name => format!("{}_refusal", name.to_lowercase().replace(' ', "")),
            };
            if pairs.is_empty() || why.is_some() {
                document[key] = json!(why);
            }
        }
        let outputs = |pair: &Pair| {
            let outputs = pair.differences.iter().map(Difference::document);
            outputs.collect::<Vec<_>>()
        };
        if let Some(pair) = pairs.first() {
            document["outputs"] = json!(outputs(pair));
        }
        let pairs = pairs.iter().map(
            |pair| json!({ "first": pair.first, "second": pair.second, "outputs": outputs(pair) }),
        );
        document["pairs"] = pairs.collect();
        document
    }
}

impl Difference {
    fn document(&self) -> Value {
        // JSON has no infinity.
        let finite = |value: f64| value.is_finite().then_some(value);
        json!({
            "name": self.output,
            "datatype": self.dtype.name(),
            "rows_compared": self.n_compared,
            "rows_unlike": self.n_unlike,
            "elements": self.n_elements,
            "unequal": self.n_unequal,
            "absolute_max": finite(self.absolute),
            "relative_max": finite(self.relative),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(dtype: DType) -> Difference {
        Difference {
            output: "y".to_owned(),
            dtype,
            n_compared: 0,
            n_unlike: 0,
            n_elements: 0,
            n_unequal: 0,
            absolute: 0.0,
            relative: 0.0,
        }
    }

    fn reals(values: &[f32]) -> Tensor {
        Tensor::from_values(Values::F32(values.iter().copied().collect()))
    }

    #[test]
    fn the_largest_distance_is_told() {
        let mut found = difference(DType::F32);
        assert_eq!(found.shown(), "runs on no made-up row of both");
        found.add(&reals(&[1.0, f32::NAN]), &reals(&[1.0, f32::NAN]));
        assert_eq!(found.shown(), "equal on 1 made-up rows");
        found.add(&reals(&[4.0, 0.0]), &reals(&[8.0, 0.0]));
        found.add(&reals(&[0.5, 2.0]), &reals(&[0.25, 1.0]));
        assert_eq!((found.absolute, found.relative), (4.0, 1.0));
        assert_eq!((found.n_unequal, found.n_elements), (3, 6));
        let document = found.document();
        assert_eq!(document["absolute_max"], 4.0);
        // A number beside none.
        found.add(&reals(&[f32::NAN]), &reals(&[1.0]));
        assert_eq!(found.absolute, f64::INFINITY);
        assert_eq!(found.document()["absolute_max"], Value::Null);
    }

    #[test]
    fn what_is_unlike_is_counted_apart() {
        let mut found = difference(DType::Bytes);
        let texts =
            |texts: &[&str]| Tensor::from_values(Values::Bytes(texts.iter().copied().collect()));
        found.add(&texts(&["a", "b"]), &texts(&["a", "c"]));
        found.add(&texts(&["a"]), &texts(&["a", "c"]));
        found.add(&texts(&["1"]), &reals(&[1.0]));
        assert_eq!(
            (found.n_compared, found.n_unequal, found.n_unlike),
            (1, 1, 2)
        );
        assert!(
            found
                .shown()
                .starts_with("1 of 2 differ on 1 made-up rows; 2 rows")
        );
        let refused = || {
            Err(RunError::new(
                coracle_model::RunErrorKind::UnknownValue,
                "no",
            ))
        };
        let mut all = [found];
        note(&mut all, refused(), refused());
        assert_eq!(all[0].n_unlike, 2);
        note(&mut all, refused(), Ok(vec![texts(&["a"])]));
        assert_eq!(all[0].n_unlike, 3);
    }
}
