//! How ONNX Runtime runs graphs: what the command line, variables and a model's own configuration say of it, put together.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use clap::Args;
use coracle_onnxruntime::Settings;

use crate::engine_args::Variables;

/// Settings by name.
pub(crate) type EngineSettings = BTreeMap<String, String>;

/// The variables that say it in the environment of a server or of a predictor.
pub(crate) const PROVIDERS: &str = "CORACLE_ONNXRUNTIME_PROVIDERS";
/// Options in the form of the command line, with `;` between them.
pub(crate) const OPTIONS: &str = "CORACLE_ONNXRUNTIME_OPTIONS";

/// Directories with the libraries that execution providers need, as in `PATH`.
pub(crate) const LIBRARIES: &str = "CORACLE_ONNXRUNTIME_LIBRARIES";

/// How graphs run on ONNX Runtime.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct EngineArguments {
    /// The execution providers of ONNX Runtime, the first that can runs a node: cuda, tensorrt, openvino, cpu; one with `?` may be
    /// missing [default: $CORACLE_ONNXRUNTIME_PROVIDERS, else what the model's config.pbtxt says, else cpu]
    #[arg(long = "onnxruntime-providers", value_name = "LIST")]
    providers: Option<String>,

    /// An option of ONNX Runtime: intra_op_thread_count, inter_op_thread_count, execution_mode, graph_optimization_level,
    /// enable_mem_arena, enable_mem_pattern, or one of a provider, as cuda.device_id; may be given several times
    #[arg(long = "onnxruntime-option", value_name = "NAME=VALUE")]
    options: Vec<String>,
}

impl EngineArguments {
    /// Returns what the command line says, before what variables say.
    ///
    /// # Errors
    /// For what ONNX Runtime's settings do not know.
    pub(crate) fn settings(&self, variables: &Variables) -> anyhow::Result<EngineSettings> {
        let of_variables = read(
            variables.onnxruntime_providers.as_deref(),
            variables.onnxruntime_options.as_deref(),
        );
        let of_variables = of_variables
            .map_err(|error| anyhow!(error))
            .with_context(|| format!("{PROVIDERS}, {OPTIONS}"))?;
        let mut settings = EngineSettings::new();
        settings.extend(self.providers.clone().map(provider_list));
        for option in &self.options {
            let option = pair(option).map_err(|error| anyhow!("--onnxruntime-option {error}"))?;
            settings.extend([option]);
        }
        let settings = over(of_variables, &settings);
        Settings::read(&settings)
            .map_err(|error| anyhow!(error))
            .context("--onnxruntime-providers, --onnxruntime-option")?;
        Ok(settings)
    }
}

/// Returns what the environment of a predictor says, before what the server says.
///
/// # Errors
/// For what ONNX Runtime's settings do not know.
pub(crate) fn of_predictor(
    server: &EngineSettings,
    environment: &BTreeMap<String, String>,
) -> Result<EngineSettings, String> {
    let value = |name: &str| environment.get(name).map(String::as_str);
    let own = read(value(PROVIDERS), value(OPTIONS));
    let settings = own.map(|own| over(server.clone(), &own));
    settings
        .and_then(|settings| Settings::read(&settings).map(|_known| settings))
        .map_err(|error| format!("{PROVIDERS}, {OPTIONS}: {error}"))
}

fn read(providers: Option<&str>, options: Option<&str>) -> Result<EngineSettings, String> {
    let mut settings = EngineSettings::new();
    settings.extend(providers.map(|list| provider_list(list.to_owned())));
    let options = options.into_iter().flat_map(|options| options.split(';'));
    for option in options.filter(|option| !option.trim().is_empty()) {
        settings.extend([pair(option)?]);
    }
    Ok(settings)
}

fn provider_list(list: String) -> (String, String) {
    ("providers".to_owned(), list)
}

fn pair(option: &str) -> Result<(String, String), String> {
    let pair = option.split_once('=');
    let pair = pair.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    pair.filter(|(name, _)| !name.is_empty() && name != "providers")
        .ok_or_else(|| format!("'{option}' is no NAME=VALUE"))
}

/// Returns settings with some said anew; options of providers are of the list that they were said with.
pub(crate) fn over(mut before: EngineSettings, more: &EngineSettings) -> EngineSettings {
    if more.contains_key("providers") {
        before.retain(|name, _| !name.contains('.'));
    }
    before.extend(more.clone());
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> EngineSettings {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn arguments(providers: Option<&str>, options: &[&str]) -> EngineArguments {
        EngineArguments {
            providers: providers.map(str::to_owned),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        }
    }

    #[test]
    fn the_command_line_goes_before_variables() {
        let variables = Variables {
            onnxruntime_providers: Some("cuda?,cpu".to_owned()),
            onnxruntime_options: Some("cuda.device_id=1; intra_op_thread_count=2;".to_owned()),
            ..Variables::default()
        };
        let of = |arguments: EngineArguments| arguments.settings(&variables).unwrap();
        let all = [
            ("cuda.device_id", "1"),
            ("intra_op_thread_count", "2"),
            ("providers", "cuda?,cpu"),
        ];
        assert_eq!(of(EngineArguments::default()), settings(&all));
        let other = [("intra_op_thread_count", "4"), ("providers", "openvino")];
        let said = arguments(Some("openvino"), &["intra_op_thread_count=4"]);
        assert_eq!(of(said), settings(&other));
    }

    #[test]
    fn what_is_not_known_is_refused_at_the_start() {
        let cases = [
            (arguments(Some("gpu"), &[]), "cpu, cuda, tensorrt, openvino"),
            (arguments(None, &["threads=1"]), "intra_op_thread_count"),
            (arguments(None, &["threads"]), "'threads' is no NAME=VALUE"),
            (arguments(None, &["providers=cpu"]), "is no NAME=VALUE"),
        ];
        for (arguments, expected) in cases {
            let error = arguments.settings(&Variables::default()).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }

    #[test]
    fn a_predictor_goes_before_the_server() {
        let server = settings(&[("providers", "cuda?"), ("cuda.device_id", "1")]);
        assert_eq!(
            of_predictor(&server, &EngineSettings::new()).unwrap(),
            server
        );
        let environment = settings(&[(OPTIONS, "execution_mode=parallel"), (PROVIDERS, "cpu")]);
        let expected = settings(&[("providers", "cpu"), ("execution_mode", "parallel")]);
        assert_eq!(of_predictor(&server, &environment).unwrap(), expected);
        let environment = settings(&[(OPTIONS, "execution_mode=both")]);
        let error = of_predictor(&server, &environment).unwrap_err();
        assert!(
            error.contains("CORACLE_ONNXRUNTIME_OPTIONS: execution_mode is 'both'"),
            "{error}"
        );
    }
}
