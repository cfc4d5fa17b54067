//! How a graph is run: on which execution providers, on how many threads, and what is done to it before.
//!
//! Settings are named as Triton's backend of ONNX Runtime names its parameters, so that a model that comes from there means the same.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;

use coracle_model::{NamedProvider, named_providers};

use crate::providers::Kind;

/// The most threads of a session.
const THREADS_MAX: usize = 1024;

/// The settings that there are, beside the options of providers.
const NAMES: [&str; 7] = [
    "providers",
    "intra_op_thread_count",
    "inter_op_thread_count",
    "execution_mode",
    "graph_optimization_level",
    "enable_mem_arena",
    "enable_mem_pattern",
];

/// How a graph is run; what is not said is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Who runs the graph's nodes, the first that can; the processor runs what nobody else does.
    pub(crate) providers: Vec<Provider>,
    /// Threads within an operator, of the session's own; `None` for those that all graphs share, or one where that is quicker.
    pub(crate) intra_threads: Option<NonZero<usize>>,
    /// Threads for operators side by side, of the session's own.
    pub(crate) inter_threads: Option<NonZero<usize>>,
    /// Whether operators run side by side.
    pub(crate) is_parallel: bool,
    pub(crate) level: Level,
    /// Whether memory on the processor is kept in an arena.
    pub(crate) has_arena: bool,
    /// Whether memory is laid out once for all runs of one shape.
    pub(crate) memory_pattern: Option<bool>,
}

/// What is done to a graph before it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Level {
    Disabled,
    Basic,
    Extended,
    #[default]
    All,
}

/// An execution provider with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provider {
    pub(crate) kind: Kind,
    /// Whether the graph is served without it where it is not there.
    pub(crate) is_optional: bool,
    pub(crate) options: BTreeMap<String, String>,
}

impl Provider {
    /// Returns a provider without options, which may not be missing.
    pub(crate) fn plain(kind: Kind) -> Self {
        Self {
            kind,
            is_optional: false,
            options: BTreeMap::new(),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())
    }
}

impl Settings {
    /// Reads settings by name.
    ///
    /// `providers` is a list such as `tensorrt,cuda?,cpu`, where `?` marks one that may be missing; an option of a provider is named as
    /// `cuda.device_id`. A number of threads of 0 is as if it were not there, as Triton has it.
    ///
    /// # Errors
    /// Says which setting or value is not known, and which are.
    pub fn read(by_name: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut settings = Self {
            has_arena: true,
            ..Self::default()
        };
        if let Some(list) = by_name.get("providers") {
            settings.providers = providers(list)?;
        }
        for (name, value) in by_name {
            settings.set(name, value)?;
        }
        if settings.inter_threads.is_some() && !settings.is_parallel {
            // As in Triton: threads beside each other are for nodes that run beside each other.
            settings.inter_threads = None;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |allowed: &str| format!("{name} is '{}'; it may be {allowed}", shown(value));
        match name {
            "providers" => {}
            "intra_op_thread_count" => self.intra_threads = threads(name, value)?,
            "inter_op_thread_count" => self.inter_threads = threads(name, value)?,
            "execution_mode" => {
                self.is_parallel = match value {
                    "0" | "sequential" => false,
                    "1" | "parallel" => true,
                    _ => return Err(wrong("0 (sequential) or 1 (parallel)")),
                }
            }
            "graph_optimization_level" => {
                self.level = match value {
                    "disabled" => Level::Disabled,
                    "basic" => Level::Basic,
                    "extended" => Level::Extended,
                    "all" => Level::All,
                    _ => return Err(wrong("disabled, basic, extended or all")),
                }
            }
            "enable_mem_arena" => {
                self.has_arena = truth(value).ok_or_else(|| wrong("true or false"))?;
            }
            "enable_mem_pattern" => {
                self.memory_pattern = Some(truth(value).ok_or_else(|| wrong("true or false"))?);
            }
            other => return self.set_option(other, value),
        }
        Ok(())
    }

    /// Takes an option of a provider that is among those of the list.
    fn set_option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let (provider, option) = name.split_once('.').unwrap_or(("", ""));
        let known = Kind::named(provider).filter(|kind| *kind != Kind::Cpu);
        let Some(kind) = known.filter(|_| !option.is_empty()) else {
            return Err(format!(
                "there is no setting '{}' of ONNX Runtime; there are {}, and options of execution providers, such as cuda.device_id",
                shown(name),
                NAMES.join(", ")
            ));
        };
        if option.contains('\0') || value.contains('\0') {
            return Err(format!("{} has a NUL in it", shown(name)));
        }
        let given = self.providers.iter_mut();
        let mut given = given.filter(|provider| provider.kind == kind);
        let given = given.next().ok_or_else(|| {
            format!(
                "{} is an option of a provider that is not among 'providers'",
                shown(name)
            )
        })?;
        given.options.insert(option.to_owned(), value.to_owned());
        Ok(())
    }

    /// Returns how many runs there may be at a time on `n_processors`: where each session has threads of its own, as many as have the
    /// processors to themselves, and one at least.
    pub(crate) fn runs_max(&self, n_processors: usize) -> usize {
        if !self.has_own_threads() {
            return n_processors;
        }
        let of = |threads: Option<NonZero<usize>>| threads.map_or(n_processors, NonZero::get);
        let beside = if self.is_parallel {
            of(self.inter_threads)
        } else {
            0
        };
        let threads = of(self.intra_threads).saturating_add(beside).max(1);
        n_processors.checked_div(threads).unwrap_or(0).max(1)
    }

    /// Tells whether single precision may be multiplied in less: as NVIDIA's providers do (TF32) unless that is turned off.
    pub(crate) fn may_round(&self) -> bool {
        self.providers.iter().any(|provider| match provider.kind {
            Kind::Cuda => provider.options.get("use_tf32").map(String::as_str) != Some("0"),
            Kind::TensorRt => true,
            Kind::Cpu | Kind::OpenVino => false,
        })
    }

    /// Tells whether nodes run elsewhere than on the processor.
    pub(crate) fn is_elsewhere(&self) -> bool {
        let mut providers = self.providers.iter();
        providers.any(|provider| provider.kind != Kind::Cpu)
    }

    /// Tells whether a session has threads of its own.
    pub(crate) fn has_own_threads(&self) -> bool {
        self.intra_threads.is_some() || self.is_parallel
    }
}

fn providers(list: &str) -> Result<Vec<Provider>, String> {
    let mut providers: Vec<Provider> = Vec::new();
    for NamedProvider { name, is_optional } in named_providers(list) {
        let kind = Kind::named(name).ok_or_else(|| {
            format!(
                "there is no execution provider '{}'; it may be {}",
                shown(name),
                Kind::ALL.map(Kind::name).join(", ")
            )
        })?;
        if providers.iter().any(|before| before.kind == kind) {
            return Err(format!("the execution provider {name} is named twice"));
        }
        if providers.last().is_some_and(|last| last.kind == Kind::Cpu) {
            return Err(format!(
                "the execution provider {name} comes after cpu, which runs every node; cpu is the last"
            ));
        }
        providers.push(Provider {
            kind,
            is_optional,
            options: BTreeMap::new(),
        });
    }
    Ok(providers)
}

fn threads(name: &str, value: &str) -> Result<Option<NonZero<usize>>, String> {
    let count = value.parse::<usize>().ok();
    let count = count.filter(|&count| count <= THREADS_MAX);
    let count = count.ok_or_else(|| {
        let value = shown(value);
        format!("{name} is '{value}'; it may be a number up to {THREADS_MAX}, 0 for the default")
    })?;
    Ok(NonZero::new(count))
}

fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// Returns not more of a text than a message has room for.
fn shown(text: &str) -> String {
    let letters = text.chars().take(64);
    let letters = letters.map(|letter| if letter.is_control() { '?' } else { letter });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_with_threads_of_their_own_are_few() {
        let runs = |list: &[(&str, &str)]| {
            let by_name = list
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Settings::read(&by_name.collect()).unwrap().runs_max(8)
        };
        assert_eq!(runs(&[]), 8);
        assert_eq!(runs(&[("intra_op_thread_count", "1")]), 8);
        assert_eq!(runs(&[("intra_op_thread_count", "3")]), 2);
        assert_eq!(runs(&[("intra_op_thread_count", "1024")]), 1);
        assert_eq!(runs(&[("execution_mode", "1")]), 1);
        let both = [
            ("intra_op_thread_count", "2"),
            ("inter_op_thread_count", "2"),
            ("execution_mode", "1"),
        ];
        assert_eq!(runs(&both), 2);
    }

    #[test]
    fn nvidias_providers_round_unless_that_is_turned_off() {
        for (settings, expected) in [
            (&[][..], false),
            (&[("providers", "openvino,cpu")], false),
            (&[("providers", "cuda")], true),
            (&[("providers", "cuda?"), ("cuda.use_tf32", "1")], true),
            (&[("providers", "cuda"), ("cuda.use_tf32", "0")], false),
            (&[("providers", "tensorrt")], true),
        ] {
            assert_eq!(
                read(settings).unwrap().may_round(),
                expected,
                "{settings:?}"
            );
        }
    }

    fn read(settings: &[(&str, &str)]) -> Result<Settings, String> {
        let settings = settings.iter();
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(&settings.collect())
    }

    #[test]
    fn settings_are_what_triton_calls_them() {
        let none = read(&[]).unwrap();
        assert!(none.has_arena && !none.has_own_threads() && none.level == Level::All);
        let all = read(&[
            ("intra_op_thread_count", "3"),
            ("inter_op_thread_count", "2"),
            ("execution_mode", "1"),
            ("graph_optimization_level", "extended"),
            ("enable_mem_arena", "0"),
            ("enable_mem_pattern", "False"),
        ]);
        let expected = Settings {
            providers: Vec::new(),
            intra_threads: NonZero::new(3),
            inter_threads: NonZero::new(2),
            is_parallel: true,
            level: Level::Extended,
            has_arena: false,
            memory_pattern: Some(false),
        };
        assert_eq!(all.unwrap(), expected);
        // The default, as there; and of no use without nodes side by side.
        let unsaid = read(&[
            ("intra_op_thread_count", "0"),
            ("inter_op_thread_count", "7"),
        ]);
        assert_eq!(unsaid.unwrap(), none);
    }

    #[test]
    fn providers_come_in_order_with_their_options() {
        let settings = read(&[
            ("providers", "tensorrt, cuda?, cpu"),
            ("tensorrt.trt_fp16_enable", "1"),
            ("cuda.device_id", "2"),
        ]);
        let providers = settings.unwrap().providers;
        let found: Vec<_> = providers
            .iter()
            .map(|provider| (provider.kind, provider.is_optional, provider.options.len()))
            .collect();
        let expected = [
            (Kind::TensorRt, false, 1),
            (Kind::Cuda, true, 1),
            (Kind::Cpu, false, 0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        let cases: [(&[(&str, &str)], &str); 11] = [
            (
                &[("providers", "gpu")],
                "'gpu'; it may be cpu, cuda, tensorrt, openvino",
            ),
            (&[("providers", "")], "''; it may be cpu"),
            (&[("providers", "cpu,cuda")], "cpu is the last"),
            (&[("providers", "cuda,cuda?")], "twice"),
            (&[("cuda.device_id", "0")], "not among 'providers'"),
            (
                &[("providers", "cpu"), ("cpu.x", "0")],
                "no setting 'cpu.x'",
            ),
            (
                &[("threads", "0")],
                "no setting 'threads' of ONNX Runtime; there are providers, intra_op_thread_count",
            ),
            (
                &[("intra_op_thread_count", "-1")],
                "'-1'; it may be a number up to 1024",
            ),
            (&[("intra_op_thread_count", "1025")], "up to 1024"),
            (
                &[("execution_mode", "2")],
                "'2'; it may be 0 (sequential) or 1 (parallel)",
            ),
            (
                &[("graph_optimization_level", "3")],
                "disabled, basic, extended or all",
            ),
        ];
        for (settings, expected) in cases {
            let error = read(settings).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
