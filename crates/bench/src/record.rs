//! What a load measured: latencies, throughput, failures, over time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// What kind of failure a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// A status of HTTP.
    Http(u16),
    /// A status of gRPC.
    Grpc(u16),
    /// No connection.
    Connect,
    /// A connection that broke.
    Connection,
    /// No answer in time.
    Timeout,
    /// An answer that is not understood.
    Answer,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(f, "status {status}"),
            Self::Grpc(status) => write!(f, "grpc status {status}"),
            Self::Connect => f.write_str("no connection"),
            Self::Connection => f.write_str("connection broken"),
            Self::Timeout => f.write_str("timeout"),
            Self::Answer => f.write_str("no answer of the protocol"),
        }
    }
}

/// The most characters of a message that are kept.
const MESSAGE_CHARS_MAX: usize = 400;

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self {
            kind,
            message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        }
    }

    /// Returns the server's words in a body: its `error` or `detail` if it is JSON with one, else all of it.
    pub(crate) fn message_of_body(body: &[u8]) -> String {
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let said = ["error", "detail", "message"].into_iter();
        let said = said
            .filter_map(|key| json.get(key))
            .find(|said| !said.is_null());
        match said {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::from_utf8_lossy(body).trim().to_owned(),
        }
    }
}

/// How often each kind of failure occurred, with the message of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<FailureKind, (u64, String)>);

impl Failures {
    fn add(&mut self, failure: Failure) {
        let entry = self.0.entry(failure.kind).or_insert((0, failure.message));
        entry.0 += 1;
    }

    fn merge(&mut self, other: Self) {
        for (kind, (count, message)) in other.0 {
            let entry = self.0.entry(kind).or_insert((0, message));
            entry.0 += count;
        }
    }

    /// Returns each kind with its count and first message.
    pub fn iter(&self) -> impl Iterator<Item = (FailureKind, u64, &str)> {
        let entries = self.0.iter();
        entries.map(|(kind, (count, message))| (*kind, *count, message.as_str()))
    }
}

/// The longest latency that is told apart; longer ones count as this.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// A piece of the time measured, by when requests were to be sent.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Requests that were answered.
    pub n_ok: u64,
    /// Requests that failed.
    pub n_failed: u64,
    /// Latencies in nanoseconds, to two digits.
    pub latency_ns: Histogram<u32>,
}

/// What was measured in one window of time.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How long it was.
    pub window: Duration,
    /// Requests of the window that were answered.
    pub n_ok: u64,
    /// Requests of the window that failed.
    pub n_failed: u64,
    /// Requests of the window that were never sent, because every connection was busy until its end.
    pub n_unsent: u64,
    /// Answers that came within the window.
    pub n_in_window: u64,
    /// Bytes of the answers.
    pub n_bytes: u64,
    /// Latencies of answered requests in nanoseconds, from when each was to be sent, to three digits.
    pub latency_ns: Histogram<u64>,
    /// How late requests of an open loop were handed to a connection or the queue for one, in nanoseconds: what this machine adds.
    pub lag_ns: Histogram<u32>,
    /// What failed.
    pub failures: Failures,
    /// The length of a slot; zero if none are kept.
    pub slot: Duration,
    /// The window in slots, as far as requests were sent.
    pub slots: Vec<Slot>,
}

/// Returns a histogram of nanoseconds.
fn histogram<C: hdrhistogram::Counter>(n_digits: u8) -> Histogram<C> {
    let most = u64::try_from(LATENCY_MAX.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1_000, most, n_digits).expect("bounds that are allowed")
}

fn add<C: hdrhistogram::Counter>(to: &mut Histogram<C>, from: &Histogram<C>) {
    to.add(from).expect("both have the same bounds");
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Measured {
    /// Returns an empty measurement with slots of this length; zero for none.
    pub(crate) fn new(slot: Duration) -> Self {
        Self {
            window: Duration::ZERO,
            n_ok: 0,
            n_failed: 0,
            n_unsent: 0,
            n_in_window: 0,
            n_bytes: 0,
            latency_ns: histogram(3),
            lag_ns: histogram(2),
            failures: Failures::default(),
            slot,
            slots: Vec::new(),
        }
    }

    /// Counts a request that was to be sent `at` after the window's beginning and took `latency`.
    pub(crate) fn record(&mut self, at: Duration, latency: Duration, result: Result<u64, Failure>) {
        let slot = self.slot_at(at);
        let is_ok = result.is_ok();
        if let Some(slot) = slot {
            slot.n_ok += u64::from(is_ok);
            slot.n_failed += u64::from(!is_ok);
            if is_ok {
                slot.latency_ns.saturating_record(nanos(latency));
            }
        }
        match result {
            Ok(n_bytes) => {
                self.n_ok += 1;
                self.n_bytes += n_bytes;
                self.latency_ns.saturating_record(nanos(latency));
            }
            Err(failure) => {
                self.n_failed += 1;
                self.failures.add(failure);
            }
        }
    }

    /// Notes how late a request was handed on.
    pub(crate) fn record_lag(&mut self, lag: Duration) {
        self.lag_ns.saturating_record(nanos(lag));
    }

    fn slot_at(&mut self, at: Duration) -> Option<&mut Slot> {
        let index = at.as_nanos().checked_div(self.slot.as_nanos())?;
        let index = usize::try_from(index)
            .ok()
            .filter(|index| *index < SLOTS_MAX)?;
        while self.slots.len() <= index {
            self.slots.push(Slot {
                n_ok: 0,
                n_failed: 0,
                latency_ns: histogram(2),
            });
        }
        self.slots.get_mut(index)
    }

    /// Adds what another thread measured.
    pub(crate) fn merge(&mut self, other: Self) {
        self.window = self.window.max(other.window);
        self.n_ok += other.n_ok;
        self.n_failed += other.n_failed;
        self.n_unsent += other.n_unsent;
        self.n_in_window += other.n_in_window;
        self.n_bytes += other.n_bytes;
        add(&mut self.latency_ns, &other.latency_ns);
        add(&mut self.lag_ns, &other.lag_ns);
        self.failures.merge(other.failures);
        for (index, slot) in other.slots.into_iter().enumerate() {
            match self.slots.get_mut(index) {
                Some(mine) => {
                    mine.n_ok += slot.n_ok;
                    mine.n_failed += slot.n_failed;
                    add(&mut mine.latency_ns, &slot.latency_ns);
                }
                None => self.slots.push(slot),
            }
        }
    }

    /// Returns the answers per second that came within the window.
    #[must_use]
    pub fn requests_per_s(&self) -> f64 {
        if self.window.is_zero() {
            return 0.0;
        }
        self.n_in_window as f64 / self.window.as_secs_f64()
    }

    /// Returns the latency that `percent` of the answered requests kept, in microseconds; 0 if none was answered.
    #[must_use]
    pub fn latency_us(&self, percent: f64) -> f64 {
        self.latency_ns.value_at_quantile(percent / 100.0) as f64 / 1e3
    }

    /// Returns the mean latency of the answered requests in microseconds.
    #[must_use]
    pub fn latency_mean_us(&self) -> f64 {
        self.latency_ns.mean() / 1e3
    }

    /// Returns the share of requests that failed or were never sent.
    #[must_use]
    pub fn share_failed(&self) -> f64 {
        let n_lost = self.n_failed + self.n_unsent;
        n_lost as f64 / (self.n_ok + n_lost).max(1) as f64
    }
}

/// The most slots of a window.
pub(crate) const SLOTS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_latencies_to_three_digits() {
        let mut measured = Measured::new(Duration::ZERO);
        for micros in 1..=10_000_u64 {
            measured.record(Duration::ZERO, Duration::from_micros(micros), Ok(1));
        }
        for (percent, expected) in [
            (50.0, 5_000.0),
            (90.0, 9_000.0),
            (99.0, 9_900.0),
            (99.9, 9_990.0),
            (100.0, 10_000.0),
        ] {
            let found = measured.latency_us(percent);
            assert!((found / expected - 1.0).abs() < 1e-3, "p{percent}: {found}");
        }
        assert!((measured.latency_mean_us() / 5_000.5 - 1.0).abs() < 1e-3);
        assert_eq!((measured.n_ok, measured.n_bytes), (10_000, 10_000));
    }

    #[test]
    fn threads_add_up_and_the_first_message_stays() {
        let slot = Duration::from_millis(100);
        let (mut one, mut two) = (Measured::new(slot), Measured::new(slot));
        let failure = |message| Failure::new(FailureKind::Http(503), message);
        one.record(
            Duration::ZERO,
            Duration::from_millis(1),
            Err(failure("full")),
        );
        two.record(
            Duration::from_millis(150),
            Duration::from_millis(1),
            Err(failure("again")),
        );
        two.record(Duration::from_millis(199), Duration::from_millis(2), Ok(5));
        one.merge(two);
        let failures: Vec<_> = one.failures.iter().collect();
        assert_eq!(failures, [(FailureKind::Http(503), 2, "full")]);
        let slots: Vec<_> = one
            .slots
            .iter()
            .map(|slot| (slot.n_ok, slot.n_failed))
            .collect();
        assert_eq!(slots, [(0, 1), (1, 1)]);
        assert!((one.share_failed() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_words_of_a_server_are_found() {
        let cases = [
            (r#"{"error": "no such model"}"#, "no such model"),
            (r#"{"detail":[{"loc":["body"]}]}"#, r#"[{"loc":["body"]}]"#),
            ("  plain\n", "plain"),
        ];
        for (body, message) in cases {
            assert_eq!(Failure::message_of_body(body.as_bytes()), message);
        }
    }
}
