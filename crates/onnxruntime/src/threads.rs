//! Whether a graph's runs share the threads of all graphs, or are each on the thread that asks.
//!
//! Handing parts of a small operator to other threads takes longer than computing it. Which is quicker is measured when the graph is
//! loaded, where the sizes of its inputs are known.

use std::time::Duration;

use coracle_tensor::Tensor;

use crate::session::SessionModel;

/// Graphs that take longer on all threads are left there: their rows may well use them.
const SHARED_TIME_MAX: Duration = Duration::from_micros(500);
/// The most runs that are timed, and how long they are all together.
const RUNS_MAX: usize = 32;
const RUNS_TIME_MAX: Duration = Duration::from_millis(5);

/// What was measured of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) shared: Duration,
    pub(crate) one: Duration,
}

impl Measured {
    /// Tells whether one thread is quicker.
    pub(crate) fn is_one(self) -> bool {
        self.one < self.shared
    }

    /// Says what was chosen, and why.
    pub(crate) fn words(self) -> String {
        let (one, shared) = (self.one.as_micros(), self.shared.as_micros());
        match self.is_one() {
            true => format!("one: a run took {one} us, on all threads {shared} us"),
            false => format!("all: a run took {shared} us, on one thread {one} us"),
        }
    }
}

/// Times runs on made-up inputs; `None` if one fails. The quickest is what they take when nothing else goes on.
pub(crate) fn quickest(
    model: &SessionModel,
    inputs: &[Tensor],
    until: Duration,
) -> Option<Duration> {
    let outputs: Vec<usize> = (0..coracle_model::Model::signature(model).outputs.len()).collect();
    let begun = model.now();
    let mut quickest: Option<Duration> = None;
    for _ in 0..RUNS_MAX {
        let before = model.now();
        model.run_until(inputs, &outputs, until).ok()?;
        let after = model.now();
        let took = after.saturating_sub(before);
        quickest = Some(quickest.map_or(took, |known| known.min(took)));
        if after.saturating_sub(begun) > RUNS_TIME_MAX {
            break;
        }
    }
    quickest
}

/// Tells whether it is worth a look at one thread.
pub(crate) fn is_small(shared: Duration) -> bool {
    shared <= SHARED_TIME_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quicker_one_is_taken_and_said() {
        let measured = |shared, one| Measured {
            shared: Duration::from_micros(shared),
            one: Duration::from_micros(one),
        };
        assert_eq!(
            measured(57, 43).words(),
            "one: a run took 43 us, on all threads 57 us"
        );
        assert_eq!(
            measured(40, 40).words(),
            "all: a run took 40 us, on one thread 40 us"
        );
        assert!(is_small(Duration::from_micros(500)) && !is_small(Duration::from_micros(501)));
    }
}
