//! Which variant of an experiment a unit gets: by hashing, so that nothing has to be remembered.
//!
//! A unit (a user, a session) gets the same variant on every machine and after every restart. When weights change, units move only to
//! variants whose share grows. Experiments with different salts split independently; experiments of one exclusion group never share a unit.

use std::collections::BTreeMap;

use crate::SpecError;

/// How an experiment's units are split.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    salt: String,
    variants: Vec<Variant>,
    share: f64,
    slice: Option<Slice>,
    overrides: BTreeMap<String, usize>,
}

/// A variant with its weight; weights need not sum to anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name, which its units hang on: a renamed variant is a new one.
    pub name: String,
    /// Its weight, at least 0.
    pub weight: f64,
}

/// A part of the units of an exclusion group, which no other experiment of the group has.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The group's name.
    pub group: String,
    /// Where the part begins, from 0.
    pub begin: f64,
    /// Where it ends, at most 1.
    pub end: f64,
}

/// What a unit gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The variant's number.
    pub variant: usize,
    /// Whether it was set by hand; such units do not count in the analysis.
    pub is_override: bool,
}

impl Assignment {
    /// Returns the split of an experiment over all units.
    ///
    /// # Errors
    /// Without variants of positive weight, or if two have one name or a weight is no number of at least 0.
    pub fn try_new(salt: &str, variants: Vec<Variant>) -> Result<Self, SpecError> {
        for (index, variant) in variants.iter().enumerate() {
            if !(variant.weight >= 0.0 && variant.weight.is_finite()) {
                return Err(SpecError::new(format!(
                    "variant {:?}: weight {} is not a number of at least 0",
                    variant.name, variant.weight
                )));
            }
            if variants[..index]
                .iter()
                .any(|other| other.name == variant.name)
            {
                return Err(SpecError::new(format!(
                    "variant {:?} is there twice",
                    variant.name
                )));
            }
        }
        if !variants.iter().any(|variant| variant.weight > 0.0) {
            return Err(SpecError::new("no variant has a weight above 0".to_owned()));
        }
        Ok(Self {
            salt: salt.to_owned(),
            variants,
            share: 1.0,
            slice: None,
            overrides: BTreeMap::new(),
        })
    }

    /// Takes only this share of units into the experiment. When it grows, those who are in stay in.
    ///
    /// # Errors
    /// If it is not from 0 to 1.
    pub fn with_share(mut self, share: f64) -> Result<Self, SpecError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(SpecError::new(format!("share {share} is not from 0 to 1")));
        }
        self.share = share;
        Ok(self)
    }

    /// Takes only units of this part of an exclusion group.
    ///
    /// # Errors
    /// If the part is empty or not within 0 and 1.
    pub fn with_slice(mut self, slice: Slice) -> Result<Self, SpecError> {
        if !(slice.begin >= 0.0 && slice.begin < slice.end && slice.end <= 1.0) {
            return Err(SpecError::new(format!(
                "part {} to {} of group {:?} is not a range within 0 and 1",
                slice.begin, slice.end, slice.group
            )));
        }
        self.slice = Some(slice);
        Ok(self)
    }

    /// Gives a unit a variant by hand.
    ///
    /// # Errors
    /// If there is no such variant.
    pub fn with_override(mut self, unit: &str, variant: &str) -> Result<Self, SpecError> {
        let found = self.variants.iter().position(|known| known.name == variant);
        let Some(index) = found else {
            let names: Vec<&str> = self
                .variants
                .iter()
                .map(|known| known.name.as_str())
                .collect();
            return Err(SpecError::new(format!(
                "override of {unit:?}: there is no variant {variant:?}, only {}",
                names.join(", ")
            )));
        };
        self.overrides.insert(unit.to_owned(), index);
        Ok(self)
    }

    /// Returns the variants.
    #[must_use]
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// Returns what a unit gets; `None` if it is not in the experiment.
    #[must_use]
    pub fn assign(&self, unit: &str) -> Option<Assigned> {
        if let Some(variant) = self.overrides.get(unit) {
            return Some(Assigned {
                variant: *variant,
                is_override: true,
            });
        }
        if let Some(slice) = &self.slice {
            let place = hash_to_unit(&["group", &slice.group, unit]);
            if !(slice.begin..slice.end).contains(&place) {
                return None;
            }
        }
        if hash_to_unit(&["share", &self.salt, unit]) >= self.share {
            return None;
        }
        // Weighted rendezvous hashing: each variant draws an exponential time with its weight as rate, and the first wins
        // (Thaler and Ravishankar, 1998; weights by Schindelhauer and Schomaker, 2005).
        let weighted = self
            .variants
            .iter()
            .enumerate()
            .filter(|(_, variant)| variant.weight > 0.0);
        let times = weighted.map(|(index, variant)| {
            let draw = hash_to_unit(&["variant", &self.salt, &variant.name, unit]);
            (index, -(1.0 - draw).ln() / variant.weight)
        });
        let first = times.min_by(|left, right| left.1.total_cmp(&right.1));
        first.map(|(variant, _)| Assigned {
            variant,
            is_override: false,
        })
    }
}

/// Hashes texts to a number in `[0, 1)`: 64-bit FNV-1a over the texts, each ended by a zero byte, then the finaliser of splitmix64.
///
/// Fixed for good, since a change would reshuffle running experiments.
fn hash_to_unit(texts: &[&str]) -> f64 {
    let mut hash = FNV_OFFSET;
    for text in texts {
        hash = fnv_1a(hash, text.as_bytes());
        hash = fnv_1a(hash, &[0]);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv_1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::ratio_mismatch;

    const N_UNITS: u32 = 20_000;

    fn variants(weights: &[(&str, f64)]) -> Vec<Variant> {
        let variants = weights.iter().map(|(name, weight)| Variant {
            name: (*name).to_owned(),
            weight: *weight,
        });
        variants.collect()
    }

    fn split(salt: &str, weights: &[(&str, f64)]) -> Assignment {
        Assignment::try_new(salt, variants(weights)).unwrap()
    }

    fn units() -> impl Iterator<Item = String> {
        (0..N_UNITS).map(|index| format!("user-{index}"))
    }

    fn count(assignment: &Assignment) -> Vec<u64> {
        let mut counts = vec![0; assignment.variants().len()];
        for unit in units() {
            if let Some(assigned) = assignment.assign(&unit) {
                counts[assigned.variant] += 1;
            }
        }
        counts
    }

    /// Vectors of the function's authors.
    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv_1a(FNV_OFFSET, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(FNV_OFFSET, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv_1a(FNV_OFFSET, b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn shares_are_as_the_weights_say() {
        let cases: [&[(&str, f64)]; 3] = [
            &[("a", 1.0), ("b", 1.0)],
            &[("a", 90.0), ("b", 10.0)],
            &[("a", 0.2), ("b", 0.3), ("c", 0.5)],
        ];
        for weights in cases {
            let counts = count(&split("s", weights));
            let weights: Vec<f64> = weights.iter().map(|(_, weight)| *weight).collect();
            let mismatch = ratio_mismatch(&counts, &weights).unwrap();
            assert!(!mismatch.is_mismatch, "{counts:?}: {mismatch:?}");
        }
        assert_eq!(count(&split("s", &[("a", 1.0), ("b", 0.0)]))[1], 0);
    }

    #[test]
    fn units_move_only_to_variants_that_grow() {
        let before = split("s", &[("a", 50.0), ("b", 50.0), ("c", 10.0)]);
        let after = split("s", &[("a", 50.0), ("b", 80.0), ("c", 10.0)]);
        let mut n_moved = 0;
        for unit in units() {
            let (old, new) = (before.assign(&unit).unwrap(), after.assign(&unit).unwrap());
            if old != new {
                n_moved += 1;
                assert_eq!(new.variant, 1, "{unit}");
            }
        }
        // b goes from 5/11 to 8/14: 11.7 % of units move, and no more.
        let moved = f64::from(n_moved) / f64::from(N_UNITS);
        assert!((moved - (8.0 / 14.0 - 5.0 / 11.0)).abs() < 0.01, "{moved}");
    }

    #[test]
    fn those_who_are_in_stay_in_when_the_share_grows() {
        let weights = [("a", 1.0), ("b", 1.0)];
        let few = split("s", &weights).with_share(0.1).unwrap();
        let more = split("s", &weights).with_share(0.3).unwrap();
        let n_few: u64 = count(&few).iter().sum();
        assert!(
            (n_few as f64 / f64::from(N_UNITS) - 0.1).abs() < 0.01,
            "{n_few}"
        );
        for unit in units() {
            if let Some(assigned) = few.assign(&unit) {
                assert_eq!(more.assign(&unit), Some(assigned));
            }
        }
    }

    #[test]
    fn experiments_are_independent_and_groups_exclude() {
        let weights = [("a", 1.0), ("b", 1.0)];
        let (first, second) = (split("one", &weights), split("two", &weights));
        let agree = units()
            .filter(|unit| first.assign(unit) == second.assign(unit))
            .count();
        assert!(
            (agree as f64 / f64::from(N_UNITS) - 0.5).abs() < 0.015,
            "{agree}"
        );
        let slice = |begin, end| Slice {
            group: "checkout".to_owned(),
            begin,
            end,
        };
        let first = first.with_slice(slice(0.0, 0.5)).unwrap();
        let second = second.with_slice(slice(0.5, 1.0)).unwrap();
        for unit in units() {
            assert_ne!(
                first.assign(&unit).is_some(),
                second.assign(&unit).is_some(),
                "{unit}"
            );
        }
    }

    #[test]
    fn overrides_win_and_say_so() {
        let assignment = split("s", &[("a", 1.0), ("b", 0.0)])
            .with_share(0.0)
            .and_then(|assignment| assignment.with_override("tester", "b"))
            .unwrap();
        let assigned = assignment.assign("tester").unwrap();
        assert_eq!((assigned.variant, assigned.is_override), (1, true));
        assert_eq!(assignment.assign("somebody"), None);
    }

    #[test]
    fn splits_that_make_no_sense_are_refused() {
        let refuse = |weights: &[(&str, f64)]| {
            Assignment::try_new("s", variants(weights))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refuse(&[]), "no variant has a weight above 0");
        assert_eq!(refuse(&[("a", 0.0)]), "no variant has a weight above 0");
        assert_eq!(
            refuse(&[("a", -1.0)]),
            "variant \"a\": weight -1 is not a number of at least 0"
        );
        assert_eq!(
            refuse(&[("a", 1.0), ("a", 1.0)]),
            "variant \"a\" is there twice"
        );
        let good = || split("s", &[("a", 1.0)]);
        assert!(good().with_share(1.1).is_err());
        let error = good().with_override("u", "z").unwrap_err().to_string();
        assert_eq!(
            error,
            "override of \"u\": there is no variant \"z\", only a"
        );
        let slice = Slice {
            group: "g".to_owned(),
            begin: 0.5,
            end: 0.5,
        };
        assert!(good().with_slice(slice).is_err());
    }
}
