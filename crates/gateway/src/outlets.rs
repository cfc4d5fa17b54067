//! What leaves the server besides answers: payloads for the record, spans of traces.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use coracle_serving::ExportStatistics;

use crate::log::Log;
use crate::payload::{PayloadConfig, PayloadLog, PayloadWriter};
use crate::spans::{SpanWriter, TraceConfig, Tracer};

/// What leaves the server besides answers; nothing by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutletConfig {
    /// How payloads are recorded, if any may be.
    pub payloads: Option<PayloadConfig>,
    /// Where traces are exported, if they are.
    pub traces: Option<TraceConfig>,
}

/// Where things leave. Clones share their queues.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlets {
    pub(crate) payloads: Option<PayloadLog>,
    pub(crate) tracer: Option<Tracer>,
}

/// Waits for what is on its way.
#[derive(Debug, Default)]
pub(crate) struct OutletWriters {
    payloads: Option<PayloadWriter>,
    spans: Option<SpanWriter>,
}

impl Outlets {
    /// Starts what `config` asks for.
    pub(crate) fn start(
        config: OutletConfig,
        (address, finish_max): (SocketAddr, Duration),
        exports: &Arc<ExportStatistics>,
        (log, clock): (&Log, &Arc<dyn Clock>),
    ) -> io::Result<(Self, OutletWriters)> {
        let (mut outlets, mut writers) = (Self::default(), OutletWriters::default());
        if let Some(config) = config.payloads {
            let source = format!("http://{address}/");
            let around = (log.clone(), Arc::clone(clock));
            let exports = Arc::clone(exports);
            let (payloads, writer) =
                PayloadLog::start(config, (source, finish_max), exports, around)?;
            outlets.payloads = Some(payloads);
            writers.payloads = Some(writer);
        }
        if let Some(config) = config.traces {
            let around = (log.clone(), Arc::clone(clock));
            let exports = Arc::clone(exports);
            let (tracer, writer) = Tracer::start(config, finish_max, exports, around)?;
            outlets.tracer = Some(tracer);
            writers.spans = Some(writer);
        }
        Ok((outlets, writers))
    }
}

impl OutletWriters {
    /// Waits until everything has left, or the time for that is over.
    pub(crate) fn join(self) {
        if let Some(payloads) = self.payloads {
            payloads.join();
        }
        if let Some(spans) = self.spans {
            spans.join();
        }
    }
}
