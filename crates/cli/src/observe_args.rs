//! Arguments about what leaves the server besides answers: payloads for the record.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use coracle_base::ByteCount;
use coracle_gateway::{OutletConfig, PayloadConfig, PayloadTarget};
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
    pub(crate) fn outlets(&self) -> anyhow::Result<OutletConfig> {
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
}
