//! Sends spans to their collector, in batches, by a thread of its own.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use coracle_base::Clock;
use coracle_protocol::otlp::{Resource, Span, Value, export_request};
use coracle_serving::{ExportLoss, ExportStatistics};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Sampling, Spans, Tracer};
use crate::log::Log;
use crate::outgoing;
use crate::warning::Warnings;

/// Where spans are sent, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceConfig {
    /// The collector's URL for traces, such as `http://127.0.0.1:4318/v1/traces`.
    pub url: String,
    /// Headers that are sent along, such as credentials.
    pub headers: Vec<(String, String)>,
    /// The attribute `service.name`.
    pub service_name: String,
    /// The version of the program.
    pub version: String,
    /// Which traces are recorded.
    pub sampling: Sampling,
}

/// Requests whose spans may wait.
const QUEUE_REQUESTS: usize = 4_096;
/// So many spans are sent at once.
const BATCH_SPANS: usize = 512;
/// Spans wait so long for others at most.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// While nothing comes, the sender wakes this often.
const IDLE_LOOK: Duration = Duration::from_secs(3_600);
/// How long what waits may take to be sent once the server has stopped.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// Waits for the last spans to be sent.
#[derive(Debug)]
pub(crate) struct SpanWriter {
    thread: JoinHandle<()>,
    stop: watch::Sender<()>,
}

impl SpanWriter {
    /// Waits until every span is sent, or the time for that is over; no more are taken.
    pub(crate) fn join(self) {
        drop(self.stop);
        // One that panicked has nothing more to send.
        drop(self.thread.join());
    }
}

impl Tracer {
    /// Starts the thread that sends.
    pub(crate) fn start(
        config: TraceConfig,
        finish_max: Duration,
        exports: Arc<ExportStatistics>,
        (log, clock): (Log, Arc<dyn Clock>),
    ) -> io::Result<(Self, SpanWriter)> {
        let (queue, spans) = mpsc::channel(QUEUE_REQUESTS);
        let (stop, stopped) = watch::channel(());
        let tracer = Self {
            queue,
            sampling: config.sampling,
            exports: Arc::clone(&exports),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let sender = Sender {
            headers: headers(&config),
            resource: Resource {
                attributes: vec![
                    text("service.name", &config.service_name),
                    text("service.version", &config.version),
                    text("telemetry.sdk.name", "coracle"),
                    text("telemetry.sdk.language", "rust"),
                ],
                version: config.version,
            },
            url: config.url,
            exports,
            warnings: Warnings::new(log, clock),
        };
        let thread = std::thread::Builder::new().name("coracle-spans".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(sender.run(spans, stopped, finish_max.min(FINISH_MAX)));
        })?;
        Ok((tracer, SpanWriter { thread, stop }))
    }

    /// Puts the spans of a request into the queue, if there is room.
    pub(super) fn send(&self, spans: Spans) {
        let n_spans = count(spans.len());
        if self.queue.try_send(spans).is_err() {
            self.exports.spans.lose(ExportLoss::QueueFull, n_spans);
        }
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn text(name: &str, value: &str) -> (String, Value) {
    (name.to_owned(), Value::Text(value.to_owned()))
}

fn headers(config: &TraceConfig) -> HeaderMap {
    let named = config.headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        Some((name, HeaderValue::try_from(value.as_str()).ok()?))
    });
    let mut headers: HeaderMap = named.collect();
    let protobuf = HeaderValue::from_static("application/x-protobuf");
    headers.insert(CONTENT_TYPE, protobuf);
    headers
}

struct Sender {
    url: String,
    headers: HeaderMap,
    resource: Resource,
    exports: Arc<ExportStatistics>,
    warnings: Warnings,
}

impl Sender {
    /// Sends batches until it is told to stop; then what waits, for `finish_max` at most.
    async fn run(
        self,
        mut queue: mpsc::Receiver<Spans>,
        stop: watch::Receiver<()>,
        finish_max: Duration,
    ) {
        let client = outgoing::client();
        let mut told = stop.clone();
        let sends = async {
            while let Some(batch) = batch(&mut queue, &mut told).await {
                self.post(&client, batch).await;
            }
        };
        let too_late = async {
            stopped(&mut stop.clone()).await;
            tokio::time::sleep(finish_max).await;
        };
        tokio::select! {
            () = sends => {}
            () = too_late => {}
        }
    }

    async fn post(&self, client: &Result<reqwest::Client, String>, spans: Vec<Span>) {
        let n_spans = count(spans.len());
        let body = export_request(&self.resource, spans);
        let sent = match client {
            Ok(client) => outgoing::post(client, &self.url, &self.headers, body).await,
            Err(why) => Err(why.clone()),
        };
        match sent {
            Ok(()) => self.exports.spans.send(n_spans),
            Err(why) => {
                self.exports.spans.lose(ExportLoss::Refused, n_spans);
                self.warnings.say(&format!(
                    "spans are lost: the collector does not take them: {why}"
                ));
            }
        }
    }
}

/// Waits until the server has stopped: nothing is ever sent on this channel, it is closed.
async fn stopped(stop: &mut watch::Receiver<()>) {
    while stop.changed().await.is_ok() {}
}

/// Returns the next spans to send; `None` once there are no more.
async fn batch(
    queue: &mut mpsc::Receiver<Spans>,
    stop: &mut watch::Receiver<()>,
) -> Option<Vec<Span>> {
    let mut batch = Vec::new();
    let mut until = Instant::now() + IDLE_LOOK;
    while batch.len() < BATCH_SPANS {
        tokio::select! {
            spans = queue.recv() => {
                let Some(spans) = spans else { break };
                if batch.is_empty() {
                    until = Instant::now() + BATCH_WAIT;
                }
                batch.extend(spans);
            }
            () = stopped(stop), if !queue.is_closed() => queue.close(),
            () = tokio::time::sleep_until(until) => {
                if !batch.is_empty() {
                    break;
                }
                until = Instant::now() + IDLE_LOOK;
            }
        }
    }
    (!batch.is_empty()).then_some(batch)
}
