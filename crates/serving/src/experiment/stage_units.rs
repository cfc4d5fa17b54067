//! What the units of a rollout's stage met, where errors and latency are judged by unit: sums over them, of the revision that serves and of the one on trial.

use coracle_policy::experiment::{Bivariate, Moments};
use coracle_policy::rollout::{Met, UnitEvents, UnitSide};
use serde::{Deserialize, Serialize};

use super::PlannedExperiment;
use super::ledger::{Ledger, is_before};
use super::trial::{CANARY, STABLE};

/// What units met, of both revisions.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct StageUnits {
    /// Of the revision that serves.
    pub stable: SideUnits,
    /// Of the one on trial.
    pub canary: SideUnits,
}

/// What the units of a revision met.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SideUnits {
    /// Requests that failed.
    pub errors: EventSums,
    /// Those that were slow.
    pub slow: EventSums,
}

/// Sums over units of what struck them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct EventSums {
    /// Units.
    pub units: u64,
    /// Those that were struck at least once.
    pub struck: u64,
    /// Those whose first request was.
    #[serde(default)]
    pub struck_at_once: u64,
    /// Requests of units that were not struck before.
    #[serde(default)]
    pub at_risk: u64,
    /// Mean and sum of squared distances of the requests of a unit that were struck.
    pub events: (f64, f64),
    /// The same of all requests of a unit.
    pub requests: (f64, f64),
    /// The sum of products of both distances.
    pub products: f64,
    /// Mean and sum of squared distances of the share of a unit's requests that were struck.
    pub shares: (f64, f64),
}

impl From<UnitEvents> for EventSums {
    fn from(events: UnitEvents) -> Self {
        let UnitEvents {
            requests,
            shares,
            struck,
            struck_at_once,
            at_risk,
        } = events;
        let of = |moments: Moments| (moments.mean, moments.squares);
        Self {
            units: shares.units,
            struck,
            struck_at_once,
            at_risk,
            events: of(requests.first),
            requests: of(requests.second),
            products: requests.products,
            shares: of(shares),
        }
    }
}

impl From<EventSums> for UnitEvents {
    fn from(sums: EventSums) -> Self {
        let of = |(mean, squares)| Moments {
            units: sums.units,
            mean,
            squares,
        };
        Self {
            requests: Bivariate {
                first: of(sums.events),
                second: of(sums.requests),
                products: sums.products,
            },
            shares: of(sums.shares),
            struck: sums.struck,
            struck_at_once: sums.struck_at_once,
            at_risk: sums.at_risk,
        }
    }
}

impl From<SideUnits> for UnitSide {
    fn from(side: SideUnits) -> Self {
        Self {
            errors: side.errors.into(),
            slow: side.slow.into(),
        }
    }
}

impl From<UnitSide> for SideUnits {
    fn from(side: UnitSide) -> Self {
        Self {
            errors: side.errors.into(),
            slow: side.slow.into(),
        }
    }
}

/// The requests of a stage that had no unit: any of them might have been either revision's, so each is one of its own.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Loose {
    /// When the stage began, in ms since 1970.
    since_ms: u64,
    /// Requests, those that failed and those that were slow, of the revision that serves and of the one on trial.
    counts: [[u64; 3]; 2],
}

impl Loose {
    /// Takes a request of the stage that began at `since_ms`; those of another one are forgotten.
    pub(super) fn push(&mut self, since_ms: u64, variant: &str, (is_error, is_slow): (bool, bool)) {
        if self.since_ms != since_ms {
            *self = Self {
                since_ms,
                ..Self::default()
            };
        }
        let [stable, canary] = &mut self.counts;
        let counts = match variant {
            STABLE => stable,
            CANARY => canary,
            _ => return,
        };
        let [requests, errors, slow] = counts;
        *requests += 1;
        *errors += u64::from(is_error);
        *slow += u64::from(is_slow);
    }
}

impl Ledger {
    /// Returns what units met in a rollout's stage, if it is judged by that. Who was shown both revisions is left out.
    pub(super) fn stage_units(&self, planned: &PlannedExperiment) -> Option<StageUnits> {
        let stage = planned.stage.filter(|stage| stage.by_unit)?;
        let place = |name: &str| self.arms.iter().position(|arm| arm.name == name);
        let (place_stable, place_canary) = (place(STABLE), place(CANARY));
        let mut sides = (UnitSide::default(), UnitSide::default());
        for unit in self.units.values() {
            if unit.is_mixed || unit.is_override || is_before(unit, planned) {
                continue;
            }
            let variant = Some(usize::from(unit.variant));
            let side = match variant {
                variant if variant == place_stable => &mut sides.0,
                variant if variant == place_canary => &mut sides.1,
                _ => continue,
            };
            let met = |struck: u32, first: u32| Met {
                struck: u64::from(struck),
                requests: u64::from(unit.requests),
                first: u64::from(first),
            };
            side.errors.push(met(unit.errors, unit.first_error));
            side.slow.push(met(unit.slow, unit.first_slow));
        }
        if self.loose.since_ms == stage.since_ms {
            let [stable, canary] = self.loose.counts;
            for (side, [requests, errors, slow]) in [(&mut sides.0, stable), (&mut sides.1, canary)]
            {
                side.errors.push_single(errors, requests);
                side.slow.push_single(slow, requests);
            }
        }
        Some(StageUnits {
            stable: sides.0.into(),
            canary: sides.1.into(),
        })
    }
}
