//! The bounds on what clients may do.

use std::time::Duration;

use coracle_base::ByteCount;

/// Bounds on sizes, counts and waits; all of them are needed against slow or greedy clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request body; larger ones are answered 413.
    pub body_max: ByteCount,
    /// The most bytes of a request's head (request line and headers); more are answered 431.
    pub head_bytes_max: usize,
    /// The most headers of a request; more are answered 431.
    pub headers_max: usize,
    /// The most connections at a time; further ones are closed at once.
    pub connections_max: usize,
    /// The most requests at a time on one connection of HTTP/2.
    pub streams_max: u32,
    /// The time for a request's head to arrive, and for which a connection may be idle.
    pub idle_timeout: Duration,
    /// The time for a request's body to arrive; longer ones are answered 408.
    pub body_timeout: Duration,
    /// The time a call may wait for and take on the compute pool; longer ones are answered 504.
    pub request_timeout: Duration,
    /// The most calls to one model that wait for the compute pool; further ones are answered 429.
    pub pool_calls_max: usize,
    /// The most bytes of all calls that wait for the compute pool; what goes beyond is answered 429.
    pub pool_bytes_max: ByteCount,
    /// The most elements of one request's tensors.
    pub elements_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_max: ByteCount::new(64 << 20),
            head_bytes_max: 64 << 10,
            headers_max: 100,
            connections_max: 10_000,
            streams_max: 256,
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            pool_calls_max: 256,
            pool_bytes_max: ByteCount::new(512 << 20),
            elements_max: 64 << 20,
        }
    }
}
