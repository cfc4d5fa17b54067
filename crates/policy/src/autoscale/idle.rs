//! When the last replica goes: the way from load over idleness to zero, as Knative's scaler goes it.

use std::time::Duration;

use super::spec::AutoscaleSpec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// There is no replica and none is wanted.
    Zero,
    /// Replicas are wanted and none has been ready yet.
    Activating { since: Duration },
    /// There are replicas.
    Active { since: Duration },
    /// There are replicas, and no load for a stable window.
    Idle { since: Duration },
}

/// Follows a revision from activation to zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    activity: Activity,
    /// Since when all requests go through the gateway's queue, where a request for zero replicas can be held.
    proxied_since: Option<Duration>,
}

/// How many replicas there are to be, and when there will be none if nothing asks for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) replicas: u32,
    pub(crate) zero_at: Option<Duration>,
}

impl Idle {
    pub(crate) fn new(now: Duration, initial_replicas: u32) -> Self {
        let activity = match initial_replicas {
            0 => Activity::Zero,
            _ => Activity::Activating { since: now },
        };
        Self {
            activity,
            proxied_since: None,
        }
    }

    pub(crate) fn resume(now: Duration, ready: u32) -> Self {
        let activity = match ready {
            0 => Activity::Zero,
            _ => Activity::Active { since: now },
        };
        Self {
            activity,
            proxied_since: None,
        }
    }

    /// Decides what becomes of `wanted`, which is within the bounds; `held` was decided last.
    pub(crate) fn decide(
        &mut self,
        spec: &AutoscaleSpec,
        now: Duration,
        wanted: u32,
        (ready, held): (u32, u32),
        excess_burst_capacity: i64,
    ) -> Verdict {
        self.follow(spec, now, wanted, ready);
        let is_proxied = excess_burst_capacity < 0
            || matches!(self.activity, Activity::Zero | Activity::Idle { .. });
        self.proxied_since = is_proxied.then(|| self.proxied_since.unwrap_or(now));
        let hold = |replicas| Verdict {
            replicas,
            zero_at: None,
        };
        if wanted > 0 {
            return hold(wanted);
        }
        match self.activity {
            _ if !spec.scale_to_zero => hold(1),
            Activity::Zero => hold(0),
            Activity::Activating { since } => Verdict {
                replicas: held.max(1),
                zero_at: Some(since + spec.activation_deadline),
            },
            Activity::Active { since } => Verdict {
                replicas: 1,
                zero_at: Some(since + spec.stable_window),
            },
            Activity::Idle { since } => {
                let proxied_since = self.proxied_since.unwrap_or(now);
                let zero_at = (since + spec.pod_retention_period)
                    .max(proxied_since + spec.scale_to_zero_grace_period);
                if zero_at > now {
                    return Verdict {
                        replicas: 1,
                        zero_at: Some(zero_at),
                    };
                }
                self.activity = Activity::Zero;
                hold(0)
            }
        }
    }

    /// Moves to the next activity, or over it to the one after.
    fn follow(&mut self, spec: &AutoscaleSpec, now: Duration, wanted: u32, ready: u32) {
        if self.activity == Activity::Zero && wanted > 0 {
            self.activity = Activity::Activating { since: now };
        }
        if let Activity::Activating { since } = self.activity {
            if ready > 0 {
                self.activity = Activity::Active { since: now };
            } else if wanted == 0 && now >= since + spec.activation_deadline {
                self.activity = Activity::Zero;
            }
        }
        match self.activity {
            Activity::Active { since } if wanted == 0 && now >= since + spec.stable_window => {
                self.activity = Activity::Idle { since: now };
            }
            Activity::Idle { .. } if wanted > 0 => {
                self.activity = Activity::Active { since: now };
            }
            _ => {}
        }
    }
}
