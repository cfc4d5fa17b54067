//! The arguments of trial loads.

use std::time::Duration;

use clap::Args;
use coracle_base::ByteCount;

use crate::args::{parse_duration, parse_size};

/// How models are tried before they are loaded.
#[derive(Clone, Debug, Args)]
pub(crate) struct TrialArguments {
    /// Load each model in a child process first, with bounded memory and time: one that fails there is refused, and the server goes on
    #[arg(long)]
    pub(crate) trial_load: bool,

    /// The most memory of a trial load [default: 1GiB and eight times the model's files]
    #[arg(long, value_name = "SIZE", requires = "trial_load", value_parser = parse_size)]
    pub(crate) trial_load_memory: Option<ByteCount>,

    /// How long a trial load may take
    #[arg(long, default_value = "60s", value_name = "TIME", requires = "trial_load", value_parser = parse_duration)]
    pub(crate) trial_load_time: Duration,
}
