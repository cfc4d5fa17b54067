//! Arguments about what leaves the server besides answers: payloads for the record, traces. OpenTelemetry's variables of the
//! environment stand behind them.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::{Args, ValueEnum};
use coracle_base::ByteCount;
use coracle_gateway::{OutletConfig, PayloadConfig, PayloadTarget, Sampling, TraceConfig};
use coracle_serving::PayloadMode;

/// What leaves the server besides answers.
#[derive(Clone, Debug, Args)]
pub(crate) struct ObserveArguments {
    /// Record requests and answers as CloudEvents: at an http:// or https:// URL, or in files of a directory. An InferenceService's
    /// `logger` goes before it
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) log_payloads_to: Option<String>,

    /// Which payloads are recorded there
    #[arg(long, value_enum, default_value = "all", value_name = "WHICH")]
    pub(crate) log_payloads: PayloadModeArgument,

    /// Record this request header, too; may be given several times
    #[arg(long = "log-payload-header", value_name = "NAME")]
    pub(crate) log_payload_headers: Vec<String>,

    /// The most memory of payloads that wait to be recorded; beyond it they are lost and counted
    #[arg(long, default_value = "64MiB", value_name = "SIZE")]
    pub(crate) payload_memory: ByteCount,

    /// The size at which the next file of payloads is begun
    #[arg(long, default_value = "64MiB", value_name = "SIZE")]
    pub(crate) payload_file_max: ByteCount,

    /// The number of files of payloads that are kept
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) payload_files: u16,

    /// Export traces over OTLP (HTTP, protobuf) to this collector, such as http://127.0.0.1:4318; spans are sent to its /v1/traces
    /// [default: $OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
}

/// OpenTelemetry's variables of the environment, as they are set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: the collector.
    pub(crate) endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`: the URL for spans, as it is.
    pub(crate) traces_endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_HEADERS`: `name=value,...`.
    pub(crate) headers: Option<String>,
    /// `OTEL_SERVICE_NAME`.
    pub(crate) service_name: Option<String>,
    /// `OTEL_TRACES_SAMPLER`.
    pub(crate) sampler: Option<String>,
    /// `OTEL_TRACES_SAMPLER_ARG`.
    pub(crate) sampler_argument: Option<String>,
    /// `OTEL_SDK_DISABLED`.
    pub(crate) is_disabled: bool,
}

impl Telemetry {
    /// Returns where traces are exported, if they are; `flag` goes before the environment.
    ///
    /// # Errors
    /// If a variable cannot be read.
    fn traces(&self, flag: Option<&str>) -> anyhow::Result<Option<TraceConfig>> {
        let below = |endpoint: &str| format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let from_environment = || {
            let endpoint = self.endpoint.as_deref().map(below);
            let url = self.traces_endpoint.clone().or(endpoint);
            url.filter(|_| !self.is_disabled)
        };
        let Some(url) = flag.map(below).or_else(from_environment) else {
            return Ok(None);
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            bail!("the endpoint of traces '{url}': give an http:// or https:// URL");
        }
        Ok(Some(TraceConfig {
            url,
            headers: self.headers()?,
            service_name: match &self.service_name {
                Some(name) => name.clone(),
                None => "coracle".to_owned(),
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sampling: self.sampling()?,
        }))
    }

    fn headers(&self) -> anyhow::Result<Vec<(String, String)>> {
        let pairs = self.headers.iter().flat_map(|text| text.split(','));
        let pairs = pairs.map(str::trim).filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| anyhow!("OTEL_EXPORTER_OTLP_HEADERS: give name=value,..."))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        });
        pairs.collect()
    }

    fn sampling(&self) -> anyhow::Result<Sampling> {
        let name = self.sampler.as_deref().unwrap_or("parentbased_always_on");
        let (follows_parent, name) = match name.strip_prefix("parentbased_") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let ratio = match name {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => {
                let text = self.sampler_argument.as_deref().unwrap_or("1.0");
                let ratio = text.parse::<f64>().ok();
                ratio
                    .filter(|ratio| (0.0..=1.0).contains(ratio))
                    .ok_or_else(|| {
                        anyhow!("OTEL_TRACES_SAMPLER_ARG '{text}' must be a number from 0 to 1")
                    })?
            }
            _ => bail!(
                "OTEL_TRACES_SAMPLER '{name}' must be always_on, always_off or traceidratio, or one of them after parentbased_"
            ),
        };
        Ok(Sampling {
            follows_parent,
            ratio,
        })
    }
}

/// Which payloads are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PayloadModeArgument {
    /// Requests and answers
    All,
    /// Requests
    Request,
    /// Answers
    Response,
}

impl From<PayloadModeArgument> for PayloadMode {
    fn from(argument: PayloadModeArgument) -> Self {
        match argument {
            PayloadModeArgument::All => Self::All,
            PayloadModeArgument::Request => Self::Request,
            PayloadModeArgument::Response => Self::Response,
        }
    }
}

impl ObserveArguments {
    /// Reads what they mean.
    pub(crate) fn outlets(&self, telemetry: &Telemetry) -> anyhow::Result<OutletConfig> {
        let target = self.log_payloads_to.as_deref().map(payload_target);
        Ok(OutletConfig {
            // Manifests may ask for records, too.
            payloads: Some(PayloadConfig {
                target: target.transpose()?,
                mode: self.log_payloads.into(),
                headers: self.log_payload_headers.clone(),
                memory_max: self.payload_memory,
                file_max: self.payload_file_max,
                n_files_max: usize::from(self.payload_files),
            }),
            traces: telemetry.traces(self.otlp_endpoint.as_deref())?,
        })
    }
}

fn payload_target(text: &str) -> anyhow::Result<PayloadTarget> {
    Ok(match text.split_once("://") {
        Some(("http" | "https", _)) => PayloadTarget::Url(text.to_owned()),
        Some(("file", path)) => PayloadTarget::Directory(PathBuf::from(path)),
        Some((scheme, _)) => bail!(
            "--log-payloads-to {text}: {scheme}:// is not supported; give an http:// or https:// URL, or a directory"
        ),
        None => PayloadTarget::Directory(PathBuf::from(text)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_or_a_directory() {
        let url = |text: &str| PayloadTarget::Url(text.to_owned());
        let directory = |text: &str| PayloadTarget::Directory(PathBuf::from(text));
        for (text, expected) in [
            ("http://sink/x", Some(url("http://sink/x"))),
            ("https://sink", Some(url("https://sink"))),
            ("records/payloads", Some(directory("records/payloads"))),
            ("file:///var/records", Some(directory("/var/records"))),
            ("s3://bucket/x", None),
        ] {
            assert_eq!(payload_target(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn the_environment_is_read_as_opentelemetry_has_it() {
        let none = Telemetry::default();
        assert_eq!(none.traces(None).unwrap(), None);
        let by_flag = none.traces(Some("http://c:4318/")).unwrap().unwrap();
        assert_eq!(by_flag.url, "http://c:4318/v1/traces");
        assert_eq!(by_flag.service_name, "coracle");
        assert_eq!(by_flag.sampling, Sampling::default());
        let text = |text: &str| Some(text.to_owned());
        let all = Telemetry {
            endpoint: text("http://ignored"),
            traces_endpoint: text("https://c/spans"),
            headers: text("api-key=k, x=a=b"),
            service_name: text("iris"),
            sampler: text("parentbased_traceidratio"),
            sampler_argument: text("0.25"),
            is_disabled: false,
        };
        let expected = TraceConfig {
            url: "https://c/spans".to_owned(),
            headers: vec![
                ("api-key".to_owned(), "k".to_owned()),
                ("x".to_owned(), "a=b".to_owned()),
            ],
            service_name: "iris".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sampling: Sampling {
                follows_parent: true,
                ratio: 0.25,
            },
        };
        assert_eq!(all.traces(None).unwrap(), Some(expected));
        let disabled = Telemetry {
            is_disabled: true,
            ..all.clone()
        };
        assert_eq!(disabled.traces(None).unwrap(), None);
        for (sampler, argument) in [
            ("jaeger_remote", "1"),
            ("traceidratio", "2"),
            ("traceidratio", "x"),
        ] {
            let bad = Telemetry {
                sampler: text(sampler),
                sampler_argument: text(argument),
                ..all.clone()
            };
            assert!(bad.traces(None).is_err(), "{sampler} {argument}");
        }
        let grpc = Telemetry {
            traces_endpoint: text("grpc://c:4317"),
            ..all
        };
        assert!(grpc.traces(None).is_err());
    }
}
