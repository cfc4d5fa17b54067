//! How the numbers of a column are distributed, of a service and of its shadow. Bounded, however many come.

use coracle_policy::shadow::{Drift, Profile, kolmogorov_smirnov};

/// Numbers that the bins of a distribution are chosen by.
const FIRST_MAX: usize = 256;
const BINS: usize = 10;

/// How the numbers of a column are distributed, of both.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Those that the bins are chosen by.
    first: (Vec<f64>, Vec<f64>),
    profile: Option<Profile>,
}

impl Column {
    /// Takes the numbers of a row; those that are missing are in no distribution.
    pub(super) fn push(&mut self, ours: f64, theirs: f64) {
        if let Some(profile) = &mut self.profile {
            profile.push_reference(ours);
            profile.push(theirs);
            return;
        }
        let is_there = |number: &f64| !number.is_nan();
        self.first.0.extend(Some(ours).filter(is_there));
        self.first.1.extend(Some(theirs).filter(is_there));
        if self.first.0.len().max(self.first.1.len()) >= FIRST_MAX {
            self.profile = Some(self.profile());
            self.first = (Vec::new(), Vec::new());
        }
    }

    /// Returns the counts of both by bins that hold equal parts of the first numbers that were given; a number that many of them are has
    /// a bin of its own. Where none was given, the shadow's choose the bins.
    pub(super) fn profile(&self) -> Profile {
        self.profile.clone().unwrap_or_else(|| {
            let (ours, theirs) = (&self.first.0, &self.first.1);
            let edges = match ours.is_empty() {
                true => Profile::with_atoms(theirs, BINS).edges,
                false => Profile::with_atoms(ours, BINS).edges,
            };
            let mut profile = Profile::between(edges, ours.iter().copied());
            for number in theirs {
                profile.push(*number);
            }
            profile
        })
    }

    /// Returns how far both are apart, `None` where one of them has no numbers; of few numbers, Kolmogorov and Smirnov's distance is exact.
    pub(super) fn drift(&self) -> Option<Drift> {
        let drift = self.profile().drift()?;
        let exact = match self.profile {
            Some(_) => None,
            None => kolmogorov_smirnov(&self.first.0, &self.first.1),
        };
        Some(match exact {
            Some((distance, p_value)) => Drift {
                distance,
                p_value,
                ..drift
            },
            None => drift,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by fixtures/statistics/generate.py.
    const REFERENCE: &str = include_str!("../../../../fixtures/statistics/reference.tsv");

    /// Equal parts of scores that are mostly the least one are a single bin, in which everything is alike.
    #[test]
    fn scores_that_are_mostly_the_least_number_are_told_from_others() {
        let lines = REFERENCE
            .lines()
            .filter_map(|line| line.strip_prefix("atom_drift\t"));
        let mut n_cases = 0;
        for line in lines {
            let (arguments, answers) = line.split_once('\t').unwrap();
            let numbers = |text: &str, by| -> Vec<f64> {
                text.split(by)
                    .map(|number| number.parse().unwrap())
                    .collect()
            };
            let (arguments, answers) = (numbers(arguments, ' '), numbers(answers, '\t'));
            let (n_rows, every) = (arguments[0] as usize, arguments[1] as usize);
            let mut column = Column::default();
            for row in 0..n_rows {
                let stable = if row % every == every - 1 {
                    arguments[3]
                } else {
                    arguments[2]
                };
                column.push(stable, arguments[4]);
            }
            let drift = column.drift().unwrap();
            assert!(
                (drift.stability_index - answers[0]).abs() < 1e-12
                    && (drift.distance - answers[1]).abs() < 1e-12,
                "{line}: {drift:?}"
            );
            assert!(drift.p_value < 1e-9, "{line}: {drift:?}");
            n_cases += 1;
        }
        assert_eq!(n_cases, 3);
    }

    #[test]
    fn missing_numbers_choose_no_bins() {
        let mut column = Column::default();
        for _ in 0..1_000 {
            column.push(f64::NAN, f64::NAN);
        }
        for index in 0..FIRST_MAX {
            column.push(index as f64, f64::NAN);
        }
        assert_eq!(column.profile().edges.len(), BINS - 1);
        assert_eq!(column.drift(), None);
        // Nor are the shadow's kept without end where nothing was given.
        let mut column = Column::default();
        for index in 0..10_000 {
            column.push(f64::NAN, f64::from(index));
        }
        assert!(column.first.1.is_empty() && column.drift().is_none());
        assert_eq!(column.profile().observed.iter().sum::<u64>(), 10_000);
    }
}
