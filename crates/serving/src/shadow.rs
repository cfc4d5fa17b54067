//! Whether a service's requests are mirrored to another one; `gateway` does it. A shadow's answers go to nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::plan::ServiceId;
use crate::route::Draw;

/// The most services that have a shadow at a time: each has a thread.
pub const SHADOWS_MAX: usize = 64;

/// Where copies of a service's requests go, and what is kept of them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ShadowSettings {
    /// The service, of the same namespace, that gets the copies.
    pub service: String,
    /// How many of 100 requests are copied.
    pub percent: u8,
    /// What is kept of the requests whose answers are farthest apart.
    pub kept: ShadowKept,
}

/// What is kept of the requests whose answers are farthest apart.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub enum ShadowKept {
    /// Nothing.
    Nothing,
    /// The two answers: what is asked may be personal, and is not shown unless somebody says so.
    #[default]
    Answers,
    /// The two answers, and the request.
    Requests,
}

/// Where the copies of a revision's requests are taken.
#[derive(Debug)]
pub struct ShadowTap {
    of: ServiceId,
    settings: ShadowSettings,
    /// The number of requests so far.
    turn: AtomicU64,
    draw: Draw,
}

impl ShadowTap {
    /// Returns the tap of the service `of`.
    #[must_use]
    pub fn new(of: ServiceId, settings: ShadowSettings) -> Self {
        Self {
            of,
            settings,
            turn: AtomicU64::new(0),
            draw: Draw::unforeseen(),
        }
    }

    /// Returns the service whose requests are copied.
    #[must_use]
    pub fn of(&self) -> &ServiceId {
        &self.of
    }

    /// Returns the service that gets the copies.
    #[must_use]
    pub fn shadow(&self) -> ServiceId {
        ServiceId {
            namespace: self.of.namespace.clone(),
            name: self.settings.service.clone(),
        }
    }

    /// Returns what is kept.
    #[must_use]
    pub fn kept(&self) -> ShadowKept {
        self.settings.kept
    }

    /// Tells whether the next request is copied: of each hundred from the first on so many are as the settings say, whichever of them, so that
    /// what is compared is like all requests, however they alternate.
    #[must_use]
    pub fn takes_next(&self) -> bool {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.draw.place(turn) < u64::from(self.settings.percent)
    }
}

/// What the comparison of a service with its shadow has come to, for the metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShadowFigures {
    /// The namespace of both services.
    pub namespace: String,
    /// The service that answers.
    pub service: String,
    /// The service that gets copies.
    pub shadow: String,
    /// How many copies ended in which way.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Of each output of labels, the share of rows in which both gave the same.
    pub agreements: Vec<(String, f64)>,
    /// Of each column of each output of numbers, the population stability index.
    pub stability_indices: Vec<(String, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(percent: u8) -> ShadowTap {
        let of = ServiceId {
            namespace: "ml".to_owned(),
            name: "iris".to_owned(),
        };
        let settings = ShadowSettings {
            service: "iris-next".to_owned(),
            percent,
            kept: ShadowKept::default(),
        };
        ShadowTap::new(of, settings)
    }

    #[test]
    fn so_many_of_a_hundred_requests_are_copied() {
        for percent in [0, 1, 7, 10, 33, 50, 99, 100] {
            let tap = tap(percent);
            for _cycle in 0..3 {
                let n_copied = (0..100).filter(|_| tap.takes_next()).count();
                assert_eq!(n_copied, usize::from(percent));
            }
        }
        // Whichever they are: of every second request, too, one in ten.
        let tap = tap(10);
        let of_every_second = (0..20_000).filter(|turn| tap.takes_next() && turn % 2 == 0);
        assert!((850..1_150).contains(&of_every_second.count()));
    }

    #[test]
    fn a_shadow_is_in_the_namespace_of_its_service() {
        assert_eq!(tap(1).shadow().to_string(), "ml/iris-next");
    }
}
