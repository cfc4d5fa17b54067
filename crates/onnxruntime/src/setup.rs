//! Settings as they come to a session and to its runs.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_model::LoadError;
use ort::environment::Environment;
use ort::ep::CPU;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session};

use crate::library::Library;
use crate::messages::shortened;
use crate::providers;
use crate::session::unsupported;
use crate::settings::{Level, Provider, Settings};

/// How the sessions of a graph are made.
#[derive(Debug)]
pub(crate) struct Setup {
    settings: Settings,
    /// The threads that all graphs share.
    n_threads: usize,
    /// Whether runs are on the thread that asks, where nothing is said of threads.
    has_one_thread: AtomicBool,
}

impl Setup {
    /// Returns how sessions are made, with warnings of what is missing and may be.
    ///
    /// # Errors
    /// Kind `Unsupported` for an execution provider that the library lacks.
    pub(crate) fn of(
        mut settings: Settings,
        n_threads: usize,
        library: &Library,
    ) -> Result<(Self, Vec<String>), LoadError> {
        let present = providers::present(&settings.providers).map_err(unsupported)?;
        let (present, mut warnings) = present;
        settings.providers = Vec::new();
        for provider in present {
            let builder = Session::builder(&library.environment);
            let mut builder = builder.map_err(|error| unsupported(shortened(error.message())))?;
            match providers::bring(&provider, library, &mut builder) {
                Ok(()) => settings.providers.push(provider),
                Err(error) if provider.is_optional => warnings.push(error),
                Err(error) => return Err(unsupported(error)),
            }
        }
        let setup = Self {
            settings,
            n_threads,
            has_one_thread: AtomicBool::new(false),
        };
        Ok((setup, warnings))
    }

    /// Returns how many runs there may be at a time.
    pub(crate) fn runs_max(&self) -> usize {
        self.settings.runs_max(self.n_threads)
    }

    /// Tells whether it is left to us how many threads a run has.
    pub(crate) fn may_choose_threads(&self) -> bool {
        self.n_threads > 1 && !self.settings.has_own_threads() && !self.is_elsewhere()
    }

    /// Tells whether single precision may be multiplied in less.
    pub(crate) fn may_round(&self) -> bool {
        self.settings.may_round()
    }

    /// Tells whether nodes run elsewhere than on the processor.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.settings.is_elsewhere()
    }

    pub(crate) fn has_one_thread(&self) -> bool {
        self.has_one_thread.load(Ordering::Relaxed)
    }

    /// Has the sessions that are begun from now on run on the thread that asks, or else on those that all graphs share.
    pub(crate) fn set_one_thread(&self, has_one_thread: bool) {
        self.has_one_thread.store(has_one_thread, Ordering::Relaxed);
    }

    /// Takes the providers in exchange for others.
    pub(crate) fn exchange_providers(&mut self, providers: Vec<Provider>) -> Vec<Provider> {
        std::mem::replace(&mut self.settings.providers, providers)
    }

    /// Begins a session on its providers.
    pub(crate) fn builder(&self, environment: &Environment) -> Result<SessionBuilder, String> {
        self.builder_on(&self.settings.providers, environment)
    }

    /// Begins a session on some providers.
    pub(crate) fn builder_on(
        &self,
        providers: &[Provider],
        environment: &Environment,
    ) -> Result<SessionBuilder, String> {
        let builder = self.configured(environment);
        let mut builder = builder.map_err(|error| shortened(error.message()))?;
        for provider in providers {
            providers::register(provider, &mut builder)?;
        }
        Ok(builder)
    }

    fn configured(&self, environment: &Environment) -> ort::Result<SessionBuilder> {
        let settings = &self.settings;
        let level = match settings.level {
            Level::Disabled => GraphOptimizationLevel::Disable,
            Level::Basic => GraphOptimizationLevel::Level1,
            Level::Extended => GraphOptimizationLevel::Level2,
            Level::All => GraphOptimizationLevel::All,
        };
        let mut builder = Session::builder(environment)?
            .with_optimization_level(level)?
            .with_log_level(LogLevel::Fatal)?;
        let has_one_thread = self.has_one_thread();
        if settings.has_own_threads() || has_one_thread {
            // One is the thread that asks.
            let n_threads = match has_one_thread {
                true => 1,
                false => settings.intra_threads.map_or(self.n_threads, NonZero::get),
            };
            builder = builder
                .with_independent_thread_pool()?
                .with_intra_threads(n_threads)?
                .with_intra_op_spinning(false)?;
        }
        if settings.is_parallel {
            let n_threads = settings.inter_threads.map_or(self.n_threads, NonZero::get);
            builder = builder
                .with_parallel_execution(true)?
                .with_inter_threads(n_threads)?
                .with_inter_op_spinning(false)?;
        }
        if let Some(memory_pattern) = settings.memory_pattern {
            builder = builder.with_memory_pattern(memory_pattern)?;
        }
        if !settings.has_arena {
            let without = CPU::default().with_arena_allocator(false).build();
            without.register(&mut builder)?;
        }
        Ok(builder)
    }

    /// Returns the options of a run, which give back what it took beyond the weights: the next may need far less.
    pub(crate) fn run_options(&self) -> ort::Result<Arc<RunOptions>> {
        let mut options = RunOptions::new()?;
        if self.settings.has_arena {
            options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
        }
        Ok(Arc::new(options))
    }

    /// Says what is not as it is without settings.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let settings = &self.settings;
        let mut facts = Vec::new();
        if !settings.providers.is_empty() {
            let names = settings.providers.iter();
            let mut names: Vec<&str> = names.map(|provider| provider.kind.name()).collect();
            if names.last() != Some(&"cpu") {
                names.push("cpu");
            }
            facts.push(("providers".to_owned(), names.join(", ")));
        }
        if settings.has_own_threads() {
            let within = settings.intra_threads.map_or(self.n_threads, NonZero::get);
            let mut words = format!("{within} within an operator");
            if settings.is_parallel {
                let beside = settings.inter_threads.map_or(self.n_threads, NonZero::get);
                words.push_str(&format!(", {beside} for operators side by side"));
            }
            facts.push(("threads".to_owned(), words));
        }
        if settings.level != Level::All {
            let level = match settings.level {
                Level::Disabled => "none",
                Level::Basic => "basic",
                _ => "extended",
            };
            facts.push(("optimisations".to_owned(), level.to_owned()));
        }
        if !settings.has_arena {
            facts.push(("memory arena".to_owned(), "none".to_owned()));
        }
        facts
    }
}
