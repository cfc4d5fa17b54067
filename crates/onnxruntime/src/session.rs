//! A graph as ONNX Runtime holds it, as a model.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coracle_model::{
    Description, ExternalFile, GraphFile, HeldMemory, LoadError, LoadErrorKind, Model, RunError,
    RunErrorKind, RunTime, Signature, TensorSpec, Wanted, have_all_left, on_all_left,
};
use coracle_onnx::{
    Served, Survey, as_served, checked_input, checked_of_any_rank, map_by_map, survey,
    synthetic_inputs, with_portable_locale, with_safe_divisions, with_weights_inside,
};
use coracle_tensor::Tensor;
use ort::ErrorCode;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session, SessionInputValue, SessionOutputs};

use crate::library::Library;
use crate::messages::shortened;
use crate::outlets::{self, OutputPlace, Places};
use crate::pool::Taken;
use crate::rows;
use crate::settings::Settings;
use crate::setup::Setup;
use crate::shared_weights::SharedWeights;
use crate::source::{BYTES_PER_FILE_BYTE, Sessions, Source, memory_bytes};
use crate::tensors::{Elements, given, internal};
use crate::threads::{self, Measured};

/// Further sessions of a model that have weights of their own may take this much together: in the machine's memory, and in that of a device.
const FURTHER_SESSIONS_BYTES: usize = 64 << 20;
const FURTHER_SESSIONS_BYTES_ELSEWHERE: usize = 1 << 30;
/// The most sessions of a graph on a device, each of which has kernels and memory to work with of its own there.
const SESSIONS_MAX_ELSEWHERE: usize = 4;
/// The most sessions that share their weights: each has the threads of the engine for its runs anyhow.
const SHARING_SESSIONS_MAX: usize = 4;
/// How many times longer a graph may take to load that runs elsewhere than on the processor, with what is there: devices are woken, kernels chosen and made.
const ELSEWHERE_TIMES: u32 = 10;
/// A run that nobody gave a time takes no longer than this.
const RUN_MAX: Duration = Duration::from_secs(60);

/// A graph that ONNX Runtime runs.
///
/// The binding lets one call at a time into a session, so calls that meet take further sessions of the same graph ([`Sessions`]): of a small
/// graph they are made as they are wanted, of a large one at once and with the same weights, packed ones included.
#[derive(Debug)]
pub(crate) struct SessionModel {
    signature: Signature,
    places: Places,
    description: Description,
    rows_are_independent: bool,
    run_time: RunTime,
    memory_bytes: usize,
    /// What of that other graphs with the same weights hold, too.
    shared_memory: Vec<HeldMemory>,
    /// Whether any run ever gave an answer; a graph of which none did may be at fault itself.
    has_run: AtomicBool,
    sessions: Arc<Sessions>,
}

/// What a graph may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) load_time: Duration,
    pub(crate) n_sessions_max: usize,
}

impl Bounds {
    fn load_time_of(&self, setup: &Setup) -> Duration {
        match setup.is_elsewhere() {
            true => self.load_time.saturating_mul(ELSEWHERE_TIMES),
            false => self.load_time,
        }
    }
}

/// What the runtime is given.
enum Given<'t> {
    /// All that the graph takes, in its order.
    InOrder(Vec<SessionInputValue<'t>>),
    /// What is there of that, by name.
    Named(Vec<(&'t str, SessionInputValue<'t>)>),
}

impl SessionModel {
    /// Makes a session and reads its signature.
    ///
    /// # Errors
    /// Kind `Unsupported` where the runtime refuses the graph, where the graph takes or gives what is no tensor of our datatypes,
    /// or where it does not end.
    pub(crate) fn load(
        library: &'static Library,
        file: GraphFile<'_>,
        bounds: Bounds,
    ) -> Result<Self, LoadError> {
        let survey = survey(file.bytes)?;
        let settings = Settings::read(&file.settings).map_err(unsupported)?;
        refuse_unsafe(&survey)?;
        let began = library.watchdog.now();
        let weights = file.bytes.len().saturating_add(size(&file.external));
        let (bytes, external) = gathered(file.bytes, file.external)?;
        let external_bytes = size(&external);
        let bytes = with_portable_locale(&bytes)?;
        let bytes = with_safe_divisions(&bytes)?;
        let Served { bytes, outlets } = as_served(&bytes)?;
        let (setup, mut warnings) = Setup::of(settings, bounds.n_sessions_max, library)?;
        let load_time = bounds.load_time_of(&setup);
        let until = began.saturating_add(load_time);
        let runs_max = setup.runs_max();
        let mut source = Source {
            library,
            setup,
            bytes: Vec::new(),
            external,
            shared: None,
        };
        let session_bytes = weights.saturating_mul(BYTES_PER_FILE_BYTE).max(1 << 16);
        let is_elsewhere = source.setup.is_elsewhere();
        let mut n_max = sessions_max(session_bytes, is_elsewhere).min(runs_max);
        // A device holds its own copy of what is shared.
        if n_max < runs_max && !is_elsewhere {
            let shared = SharedWeights::of(&bytes)?;
            // Where most weights are elsewhere, each session would hold them once more.
            if shared.n_bytes >= weights / 2 {
                n_max = n_max.max(SHARING_SESSIONS_MAX.min(runs_max));
                source.shared = Some(shared);
            }
        }
        let refused = |error| unsupported(format!("ONNX Runtime refuses the graph: {error}"));
        let (session, warning) = source.first_session(&bytes, until).map_err(refused)?;
        warnings.extend(warning);
        let shares_rows = rows::share_a_dimension(&session);
        let may_batch = survey.mixes_rows.is_none() && shares_rows;
        let (signature, places) =
            outlets::read(&session, outlets, (&survey, &library.environment))?;
        let is_split = n_max > 1 && source.setup.may_choose_threads();
        let n_sessions = n_max.saturating_add(usize::from(is_split));
        let pool = source.pool(session, bytes, (n_max, is_split), until);
        let pool = pool.map_err(refused)?;
        let mut model = Self {
            run_time: match source.setup.is_elsewhere() {
                true => RunTime::Elsewhere,
                false => run_time(&signature, &survey, shares_rows),
            },
            signature,
            places,
            description: described(file.description, &source, warnings),
            rows_are_independent: false,
            memory_bytes: memory_bytes(&source, session_bytes, n_sessions)
                .saturating_add(external_bytes),
            shared_memory: source.held(),
            has_run: AtomicBool::new(false),
            sessions: Arc::new(Sessions {
                pool,
                source,
                load_time,
            }),
        };
        model.try_out(survey.sized_by_values.is_some(), until)?;
        model.choose_threads(until);
        let setup = &model.sessions.source.setup;
        if is_split && !setup.has_one_thread() {
            // The one that is there is for runs that are alone; further ones are made as runs meet.
            model.sessions.pool.widen();
            setup.set_one_thread(true);
        }
        model.rows_are_independent = may_batch && rows::are_independent(&model, until);
        Ok(model)
    }

    /// Runs the graph on made-up values: that takes the first run's cost from the first request, and tells how many
    /// dimensions outputs have of which the file does not say it.
    ///
    /// Values that are made up may not suit a graph, nor may sizes and numbers of dimensions; one that runs on none of them is refused where the file leaves
    /// no size open and no value is one, and served with a warning otherwise.
    fn try_out(&mut self, has_open_values: bool, until: Duration) -> Result<(), LoadError> {
        let specs = &self.signature.inputs;
        let tries = rows::to_try_out(&self.signature);
        let outputs: Vec<usize> = (0..self.signature.outputs.len()).collect();
        let mut ran = None;
        for row in tries {
            let row = self.places.with_structured(row);
            let again = self.run_until(&row, &outputs, until);
            // The first refusal says most.
            ran = match ran {
                Some(Err(first)) if again.is_err() => Some(Err(first)),
                _ => Some(again),
            };
            if ran
                .as_ref()
                .is_some_and(|ran| ran.as_ref().map_or_else(is_final, |_| true))
            {
                break;
            }
        }
        let results = match ran {
            None => return Ok(()),
            Some(Ok(results)) => results,
            Some(Err(error))
                if is_final(&error) || !(has_open_values || specs.iter().any(has_open_sizes)) =>
            {
                let message = format!("the graph does not run on made-up values: {error}");
                return Err(unsupported(message));
            }
            Some(Err(error)) => {
                self.description.warn(format!(
                    "the graph was not tried out: it takes any sizes, or values that sizes follow from, and runs on none that were made up; {error}"
                ));
                return Ok(());
            }
        };
        // Made-up sizes are one where they are open, and some graphs leave such dimensions out of what the file declares; none adds one.
        let is_open = self.signature.inputs.iter().any(has_open_sizes);
        let is_ranked = self.signature.unranked_inputs.is_empty();
        for (spec, result) in self.signature.outputs.iter_mut().zip(results) {
            let is_longer = is_ranked && result.shape().len() > spec.shape.len();
            let may_differ = spec.shape.is_empty() || !is_open || is_longer;
            if may_differ && spec.shape.len() != result.shape().len() {
                // What has as many dimensions as came in has another number for other requests.
                let is_known = self.signature.unranked_inputs.is_empty();
                let rank = if is_known { result.shape().len() } else { 1 };
                spec.shape = vec![None; rank];
            }
        }
        Ok(())
    }

    /// Leaves the threads that all graphs share where a small graph is quicker on one; without, everything stays as it is.
    fn choose_threads(&mut self, until: Duration) {
        let has_run = self.has_run.load(Ordering::Relaxed);
        let is_known = has_run && self.run_time != RunTime::Any;
        let Sessions { pool, source, .. } = &*self.sessions;
        if !is_known || source.bytes.is_empty() || !source.setup.may_choose_threads() {
            return;
        }
        let Some(inputs) = synthetic_inputs(&self.signature.inputs) else {
            return;
        };
        let inputs = self.places.with_structured(inputs);
        let shared = threads::quickest(self, &inputs, until);
        let Some(shared) = shared.filter(|&shared| threads::is_small(shared)) else {
            return;
        };
        source.setup.set_one_thread(true);
        let one = source.session(until).ok().and_then(|session| {
            let before = pool.exchange(vec![session]);
            let one = threads::quickest(self, &inputs, until);
            let measured = one.map(|one| Measured { shared, one });
            if !measured.is_some_and(Measured::is_one) {
                drop(pool.exchange(before));
            }
            measured
        });
        let has_one_thread = one.is_some_and(Measured::is_one);
        source.setup.set_one_thread(has_one_thread);
        if let Some(measured) = one {
            let facts = &mut self.description.root.facts;
            facts.insert(1, ("threads".to_owned(), measured.words()));
        }
    }

    /// Tells whether nodes run elsewhere than on the processor.
    pub(crate) fn may_round(&self) -> bool {
        self.sessions.source.setup.may_round()
    }

    /// Returns the time on the watchdog's clock.
    pub(crate) fn now(&self) -> Duration {
        self.sessions.source.library.watchdog.now()
    }

    /// Runs the graph, and gives up at `until` on the watchdog's clock.
    pub(crate) fn run_until(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        until: Duration,
    ) -> Result<Vec<Tensor>, RunError> {
        self.run_until_for(inputs, outputs, until, &[])
    }

    /// Runs the graph, and gives up at `until` on the watchdog's clock, or when nobody waits for any of `calls` any more.
    fn run_until_for(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        until: Duration,
        calls: &[Wanted],
    ) -> Result<Vec<Tensor>, RunError> {
        if self.places.takes_maps_only() && inputs.iter().any(|input| input.n_rows() != 1) {
            let maps: Vec<&Tensor> = inputs.iter().collect();
            return map_by_map(&maps, |maps| {
                let maps: Vec<Tensor> = maps.iter().copied().cloned().collect();
                self.run_until_for(&maps, outputs, until, calls)
            });
        }
        let specs = &self.signature.inputs;
        let wanted = self.wanted(outputs)?;
        let is_whole = wanted.len() == self.signature.outputs.len();
        let elements = match is_whole || self.places.has_structured() {
            true => Elements::Lent,
            false => Elements::Copied,
        };
        let checked = self.checked(inputs)?;
        let given = match self.places.takes_structured() {
            true => Given::Named(self.places.named(&checked)?),
            false => {
                let values = checked.iter().zip(specs);
                let values = values.map(|(input, spec)| given(input, &spec.name, elements));
                Given::InOrder(values.collect::<Result<_, _>>()?)
            }
        };
        let mut taken = self.session(until)?;
        // Others may have had their turn meanwhile.
        if have_all_left(calls) {
            return Err(unwanted());
        }
        let session = taken.session();
        let session = session.ok_or_else(|| internal("a place without a session"))?;
        let source = &self.sessions.source;
        let options = source.setup.run_options();
        let options = options.map_err(|error| self.failed(&error))?;
        let stop = Arc::clone(&options);
        let watchdog = source.library.watchdog;
        let watched = watchdog.watch(until, move || drop(stop.terminate()));
        let stop = Arc::clone(&options);
        let _stopped = on_all_left(calls, move || drop(stop.terminate()));
        let answered = match (given, elements) {
            (Given::Named(values), _) => {
                // Answers may hold what came in, which must not go before they are copied.
                let lent = values.iter().map(|(name, value)| (*name, &**value));
                let answered = session.run_with_options(lent.collect::<Vec<_>>(), &options);
                answered.map(|answered| copied(&answered, &wanted, &checked))
            }
            (Given::InOrder(values), Elements::Lent) => {
                let answered = session.run_with_options(values.as_slice(), &options);
                answered.map(|answered| copied(&answered, &wanted, &checked))
            }
            (Given::InOrder(values), Elements::Copied) => {
                bound(session, &self.places, &values, &wanted).and_then(|binding| {
                    let answered = session.run_binding_with_options(&binding, &options);
                    answered.map(|answered| copied(&answered, &wanted, &checked))
                })
            }
        };
        match answered {
            Ok(tensors) => {
                if !self.has_run.load(Ordering::Relaxed) {
                    self.has_run.store(true, Ordering::Relaxed);
                }
                tensors
            }
            Err(_ended) if watched.is_over() => Err(out_of_time()),
            Err(_ended) if have_all_left(calls) => Err(unwanted()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Returns the inputs in the datatypes that the graph takes.
    fn checked<'t>(&self, inputs: &'t [Tensor]) -> Result<Vec<Cow<'t, Tensor>>, RunError> {
        let specs = &self.signature.inputs;
        if inputs.len() != specs.len() {
            let (came, wanted) = (inputs.len(), specs.len());
            return Err(internal(format!("{came} inputs, model expects {wanted}")));
        }
        let unranked = &self.signature.unranked_inputs;
        let checked = inputs.iter().zip(specs).enumerate();
        let checked = checked.map(|(index, (input, spec))| match unranked.contains(&index) {
            true => checked_of_any_rank(input, spec),
            false => checked_input(input, spec),
        });
        let checked = checked.collect::<Result<Vec<_>, _>>()?;
        self.places.check_ranges(&checked)?;
        Ok(checked)
    }

    fn wanted(&self, outputs: &[usize]) -> Result<Vec<&OutputPlace>, RunError> {
        let places = outputs.iter().map(|&index| {
            let place = self.places.outputs.get(index);
            place.ok_or_else(|| internal(format!("there is no output {index}")))
        });
        places.collect()
    }

    /// Says what a run failed of. A graph that has run fails of what it was given, with few exceptions.
    fn failed(&self, error: &ort::Error) -> RunError {
        let message = shortened(error.message());
        let is_memory = ["allocate memory", "bad_alloc", "bad allocation"]
            .iter()
            .any(|sign| message.contains(sign));
        if !is_memory && !self.has_run.load(Ordering::Relaxed) {
            return internal(format!(
                "the graph has run on no inputs yet, and does not on these: {message}"
            ));
        }
        let kind = match error.code() {
            _ if is_memory => RunErrorKind::TooLarge,
            ErrorCode::InvalidArgument
            | ErrorCode::GenericFailure
            | ErrorCode::RuntimeException
            | ErrorCode::InvalidGraph => RunErrorKind::ShapeMismatch,
            _ => RunErrorKind::Internal,
        };
        RunError::new(
            kind,
            format!("the graph does not run on these inputs: {message}"),
        )
    }

    /// Takes a session that nobody uses, or waits for one; has a further one made if that would be better.
    fn session(&self, until: Duration) -> Result<Taken<'_, Session>, RunError> {
        let time_left = || until.saturating_sub(self.now());
        let make = || self.sessions.make_beside();
        let taken = self.sessions.pool.take(time_left, make);
        taken.ok_or_else(out_of_time)
    }
}

impl Model for SessionModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        self.run_within(inputs, outputs, RUN_MAX)
    }

    fn run_within(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
    ) -> Result<Vec<Tensor>, RunError> {
        self.run_for(inputs, outputs, time, &[])
    }

    fn run_for(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        time: Duration,
        calls: &[Wanted],
    ) -> Result<Vec<Tensor>, RunError> {
        let now = self.now();
        self.run_until_for(inputs, outputs, now.saturating_add(time), calls)
    }

    fn run_time(&self) -> RunTime {
        self.run_time
    }

    fn rows_are_independent(&self) -> bool {
        self.rows_are_independent
    }

    fn stays_on_its_thread(&self) -> bool {
        false
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn shared_memory(&self) -> &[HeldMemory] {
        &self.shared_memory
    }
}

/// Returns a file with the weights of these others in it, or with the others where they stay outside.
fn gathered(
    bytes: &[u8],
    external: Vec<ExternalFile>,
) -> Result<(Cow<'_, [u8]>, Vec<ExternalFile>), LoadError> {
    Ok(match with_weights_inside(bytes, &external)? {
        Some(bytes) => (Cow::Owned(bytes), Vec::new()),
        None => (Cow::Borrowed(bytes), external),
    })
}

fn size(files: &[ExternalFile]) -> usize {
    let sizes = files.iter().map(|file| file.bytes.len());
    sizes.fold(0, usize::saturating_add)
}

/// Returns how many sessions a graph may have of which each takes `session_bytes`.
fn sessions_max(session_bytes: usize, is_elsewhere: bool) -> usize {
    let (further_bytes, most) = match is_elsewhere {
        true => (FURTHER_SESSIONS_BYTES_ELSEWHERE, SESSIONS_MAX_ELSEWHERE),
        false => (FURTHER_SESSIONS_BYTES, usize::MAX),
    };
    let further = further_bytes.checked_div(session_bytes);
    further
        .map_or(1, |further| further.saturating_add(1))
        .min(most)
}

/// Refuses what the runtime is known to read beyond its end.
fn refuse_unsafe(survey: &Survey) -> Result<(), LoadError> {
    if let Some(what) = survey.misread {
        let message = format!("{what}, of which ONNX Runtime reads what is not there");
        return Err(unsupported(message));
    }
    Ok(())
}

fn copied(
    answered: &SessionOutputs<'_>,
    wanted: &[&OutputPlace],
    inputs: &[impl AsRef<Tensor>],
) -> Result<Vec<Tensor>, RunError> {
    let tensors = wanted.iter().map(|output| {
        let name = &output.name;
        let value = answered.get(output.place());
        let value = value.ok_or_else(|| internal(format!("output \"{name}\" did not come")))?;
        output.taken(value, inputs)
    });
    tensors.collect()
}

/// Binds inputs, and the outputs that are asked for: what is not is not computed.
fn bound(
    session: &Session,
    places: &Places,
    values: &[SessionInputValue<'_>],
    wanted: &[&OutputPlace],
) -> ort::Result<IoBinding> {
    let mut binding = session.create_binding()?;
    for (input, value) in places.inputs.iter().zip(values) {
        binding.bind_input(&input.place, value)?;
    }
    let (device, kind) = (AllocationDevice::CPU, AllocatorType::Device);
    let place = MemoryInfo::new(device, 0, kind, MemoryType::CPUOutput)?;
    for output in wanted {
        binding.bind_output_to_device(output.place(), &place)?;
    }
    Ok(binding)
}

fn out_of_time() -> RunError {
    let message = "the graph did not end in the time that the call had";
    RunError::new(RunErrorKind::OutOfTime, message)
}

fn unwanted() -> RunError {
    let message = "nobody waits for the answer any more";
    RunError::new(RunErrorKind::Unwanted, message)
}

/// Tells whether no other values would do: the time or the memory is over already.
fn is_final(error: &RunError) -> bool {
    matches!(
        error.kind(),
        RunErrorKind::OutOfTime | RunErrorKind::TooLarge
    )
}

fn has_open_sizes(spec: &TensorSpec) -> bool {
    spec.shape.iter().any(Option::is_none)
}

/// Returns what is known of the time of runs: nothing where the graph loops, where what it computes is as large as a value says,
/// or where inputs are of any size beside their rows, or have any number of dimensions.
fn run_time(signature: &Signature, survey: &Survey, shares_rows: bool) -> RunTime {
    let inputs = &signature.inputs;
    let mut others = inputs.iter().flat_map(|spec| spec.shape.iter().skip(1));
    let n_open = inputs.iter().filter(|spec| has_open_sizes(spec)).count();
    let is_any = !signature.unranked_inputs.is_empty()
        || survey.control_flow.is_some()
        || survey.sized_by_values.is_some()
        || others.any(Option::is_none)
        // Only the rows of the first are counted.
        || (n_open > 1 && !shares_rows);
    match is_any {
        true => RunTime::Any,
        false => RunTime::Unknown,
    }
}

fn described(mut description: Description, source: &Source, warnings: Vec<String>) -> Description {
    let library = source.library;
    let engine = format!(
        "ONNX Runtime {} ({})",
        library.version,
        library.path.display()
    );
    let facts = &mut description.root.facts;
    let said = source.setup.facts();
    facts.splice(
        0..0,
        [("engine".to_owned(), engine)].into_iter().chain(said),
    );
    for warning in warnings.into_iter().chain(library.warning()) {
        description.warn(warning);
    }
    description
}

pub(crate) fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_holds_few_sessions_of_a_graph_and_one_of_a_large_one() {
        let mib = |n: usize| n << 20;
        assert_eq!(sessions_max(mib(1), false), 65);
        assert_eq!(sessions_max(mib(100), false), 1);
        assert_eq!(sessions_max(mib(1), true), 4);
        assert_eq!(sessions_max(mib(400), true), 3);
        assert_eq!(sessions_max(mib(14_000), true), 1);
    }
}
