//! A graph with its steps before and after, as a model of texts.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use coracle_model::{
    ColumnPlace, Description, HeldMemory, LoadError, Model, RunError, RunErrorKind, RunTime,
    Signature, TensorSpec, Wanted, have_all_left,
};
use coracle_tensor::{DType, Tensor, Values};

use crate::classes::Classifier;
use crate::dense::Dense;
use crate::entities::Entities;
use crate::padded::{Padded, Part, Sharing, Span, runs};
use crate::pooling::{normalize_all, pool, single};
use crate::settings::{Fill, Settings, Side};
use crate::steps::unsupported;
use crate::task::Task;
use crate::texts::{self, INPUT, Texts};
use crate::tokens::{Encoded, Tokens};

/// The output of a model that gives vectors.
const OUTPUT: &str = "embedding";
/// A run that nobody gave a time takes no longer than this.
const RUN_MAX: Duration = Duration::from_secs(60);
/// The same for the runs that try a model out.
const TRIAL_MAX: Duration = Duration::from_secs(30);
/// The most numbers of an answer.
const VALUES_MAX: usize = 1 << 26;
/// A short text and a longer one, which a model is tried out on.
const TRIAL_TEXTS: [&str; 2] = [
    "a",
    "The quick brown fox jumps over the lazy dog, and 42 more.",
];
/// How far a text's numbers alone and among others may lie apart, as a share of the largest: the graph adds up in another order.
const DIFFERENCE_MAX: f32 = 1e-3;

/// What runs texts through a graph.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) graph: Box<dyn Model>,
    pub(crate) tokens: Tokens,
    /// What each of the graph's inputs is for.
    pub(crate) parts: Vec<Part>,
    pub(crate) fill: Fill,
    /// How many tokens each text has, where the graph takes no other number.
    pub(crate) width: Option<usize>,
    pub(crate) task: Task,
    /// Whether each row is two texts.
    pub(crate) takes_pairs: bool,
    pub(crate) clock: Arc<dyn Clock>,
}

/// When runs give up.
#[derive(Clone, Copy)]
struct End<'c> {
    /// At this time on the runner's clock.
    until: Duration,
    /// When nobody waits for any of these any more.
    calls: &'c [Wanted],
}

/// Rows of numbers, all as wide.
#[derive(Debug, Default)]
struct Rows {
    n_columns: usize,
    values: Vec<f32>,
}

impl Rows {
    /// Multiplies the rows with one after the other, and normalises what comes of it.
    fn through(mut self, dense: &[Dense], is_normalized: bool) -> Result<Self, RunError> {
        for dense in dense {
            if dense.n_in() != self.n_columns {
                let (taken, given) = (dense.n_in(), self.n_columns);
                let message = format!("a Dense takes {taken} numbers, the graph gives {given}");
                return Err(internal(message));
            }
            let mut values = Vec::new();
            dense.apply(&self.values, &mut values);
            self = Self {
                n_columns: dense.n_out(),
                values,
            };
        }
        if is_normalized {
            normalize_all(&mut self.values, self.n_columns);
        }
        Ok(self)
    }
}

/// Returns the rows of the texts' own tokens.
fn by_token(values: &[f32], (width, n_columns): (usize, usize), spans: &[Span]) -> Rows {
    let mut rows = Rows {
        n_columns,
        values: Vec::new(),
    };
    let row = width.saturating_mul(n_columns).max(1);
    for (row, span) in values.chunks_exact(row).zip(spans) {
        let start = span.start.saturating_mul(n_columns);
        let end = start.saturating_add(span.len.saturating_mul(n_columns));
        rows.values.extend(row.get(start..end).unwrap_or_default());
    }
    rows
}

impl Runner {
    /// Runs texts in one run; the rows are vectors or logits.
    fn run(&self, texts: Vec<&Encoded>, end: End<'_>) -> Result<Rows, RunError> {
        if have_all_left(end.calls) {
            let message = "nobody waits for the answer any more";
            return Err(RunError::new(RunErrorKind::Unwanted, message));
        }
        let until = end.until;
        let left = until.saturating_sub(self.clock.monotonic());
        if left.is_zero() {
            return Err(out_of_time());
        }
        let n_texts = texts.len();
        let padded = Padded::new(texts, self.width, self.fill);
        let inputs = self.parts.iter().map(|&part| padded.tensor(part));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let outputs = [self.task.output()];
        let answers = self.graph.run_for(&inputs, &outputs, left, end.calls)?;
        let answer = answers.first();
        let answer = answer.ok_or_else(|| internal("the graph gave nothing".to_owned()))?;
        let values = reals(answer)?;
        let mismatch = || {
            internal(format!(
                "the graph gave {:?} for {n_texts} texts of {} tokens",
                answer.shape(),
                padded.width()
            ))
        };
        match (&self.task, answer.shape()) {
            (Task::Tokens { sentence, .. }, &[n, width, n_dims])
                if n == n_texts && width == padded.width() && n_dims > 0 =>
            {
                let mut rows = Rows {
                    n_columns: n_dims.saturating_mul(sentence.poolings.len()),
                    values: Vec::new(),
                };
                let size = (width, n_dims);
                pool(&values, size, &padded.spans(), sentence, &mut rows.values);
                match sentence.dense.is_empty() {
                    true => Ok(rows),
                    false => rows.through(&sentence.dense, sentence.is_normalized),
                }
            }
            (
                Task::Pooled {
                    dense,
                    is_normalized,
                    ..
                },
                &[n, n_columns],
            ) if n == n_texts => {
                let values = values.into_owned();
                let rows = Rows { n_columns, values };
                // Exporters of whole models leave nothing to do here.
                let is_done = dense.last().map(Dense::n_out) == Some(n_columns);
                let dense = if is_done { [].as_slice() } else { dense };
                rows.through(dense, *is_normalized)
            }
            (Task::Words { .. }, &[n, width, n_columns])
                if n == n_texts && width == padded.width() =>
            {
                Ok(by_token(&values, (width, n_columns), &padded.spans()))
            }
            (Task::Classes { .. }, &[n, n_columns]) if n == n_texts => Ok(Rows {
                n_columns,
                values: values.into_owned(),
            }),
            _ => Err(mismatch()),
        }
    }

    /// Runs texts in as many runs as it takes; the rows are in the texts' order.
    fn run_all(&self, texts: &[Encoded], sharing: Sharing, end: End<'_>) -> Result<Rows, RunError> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
        let places = self.places(&lengths);
        let mut all = Rows::default();
        for run in runs(&lengths, sharing) {
            let together = run.iter().filter_map(|&index| texts.get(index));
            let rows = self.run(together.collect(), end)?;
            if all.values.is_empty() {
                all.n_columns = rows.n_columns;
                let n_rows = places.last().map_or(0, |place| place.end);
                all.values = vec![0.0; n_rows.saturating_mul(rows.n_columns)];
            }
            if rows.n_columns != all.n_columns {
                let message = format!("rows of {} and {}", rows.n_columns, all.n_columns);
                return Err(internal(message));
            }
            let mut rest = rows.values.as_slice();
            for place in run.iter().filter_map(|&index| places.get(index)) {
                let start = place.start.saturating_mul(all.n_columns);
                let end = place.end.saturating_mul(all.n_columns);
                let split = rest.split_at_checked(end.saturating_sub(start));
                let (of_text, others) = split.ok_or_else(|| internal("too few rows".to_owned()))?;
                rest = others;
                if let Some(place) = all.values.get_mut(start..end) {
                    place.copy_from_slice(of_text);
                }
            }
        }
        Ok(all)
    }

    /// Returns where the rows of each text are: one for each, or one for each of its tokens.
    fn places(&self, lengths: &[usize]) -> Vec<Range<usize>> {
        let is_by_token = matches!(self.task, Task::Words { .. });
        let mut start = 0_usize;
        let places = lengths.iter().map(|&length| {
            let n_rows = if is_by_token { length } else { 1 };
            let end = start.saturating_add(n_rows);
            std::mem::replace(&mut start, end)..end
        });
        places.collect()
    }

    /// Runs two texts of different lengths alone and together; returns how wide the rows are, and what may share a run.
    ///
    /// # Errors
    /// Kind `Unsupported` if the graph does not run on them.
    fn try_out(&self) -> Result<(usize, Sharing), LoadError> {
        let end = End {
            until: self.clock.monotonic().saturating_add(TRIAL_MAX),
            calls: &[],
        };
        let refused = |error: RunError| {
            unsupported(format!(
                "the graph does not run on the texts' tokens: {error}"
            ))
        };
        let encoded = TRIAL_TEXTS.iter().enumerate();
        let encoded = encoded.map(|(index, text)| match self.takes_pairs {
            true => self.tokens.encode_pair(text, text, index),
            false => self.tokens.encode(text, index),
        });
        let encoded = encoded.collect::<Result<Vec<_>, _>>().map_err(refused)?;
        let alone = self
            .run_all(&encoded, Sharing::Alone, end)
            .map_err(refused)?;
        let n_columns = alone.n_columns;
        if n_columns == 0 {
            return Err(unsupported("the graph gives nothing for a text"));
        }
        // A graph of one text at a time, and one in which rows may depend on each other.
        let inputs = &self.graph.signature().inputs;
        let is_single = inputs
            .iter()
            .any(|input| input.shape.first() == Some(&Some(1)));
        if is_single || !self.graph.rows_are_independent() {
            return Ok((n_columns, Sharing::Alone));
        }
        // Without a mask a graph sees what is filled up, and texts that are cut to one length were not.
        let mut lengths = encoded.iter().map(|text| text.ids.len());
        let first = lengths.next();
        let is_filled =
            self.parts.contains(&Part::Mask) && lengths.any(|length| Some(length) != first);
        let is_alike = || {
            let together = self.run(encoded.iter().collect(), end);
            together.is_ok_and(|rows| alike(&rows.values, &alone.values))
        };
        let sharing = match is_filled && is_alike() {
            true => Sharing::Filled,
            false => Sharing::OneLength,
        };
        Ok((n_columns, sharing))
    }
}

/// Tells whether numbers are the same up to the order in which they were added up.
fn alike(left: &[f32], right: &[f32]) -> bool {
    let largest = right
        .iter()
        .fold(1e-6_f32, |most, value| most.max(value.abs()));
    let mut pairs = left.iter().zip(right);
    left.len() == right.len()
        && pairs.all(|(left, right)| (left - right).abs() <= DIFFERENCE_MAX * largest)
}

/// A model of texts.
#[derive(Debug)]
pub(crate) struct TextModel {
    runner: Runner,
    sharing: Sharing,
    n_columns: usize,
    classifier: Option<Classifier>,
    entities: Option<Entities>,
    is_lowercased: bool,
    prefix: String,
    signature: Signature,
    description: Description,
}

impl TextModel {
    /// Makes the model, and tries it out.
    ///
    /// # Errors
    /// Kind `Unsupported` if the graph does not run on tokens, `Malformed` where it does not fit the files.
    pub(crate) fn try_new(runner: Runner, settings: &Settings) -> Result<Self, LoadError> {
        let (n_columns, sharing) = runner.try_out()?;
        let classifier = match runner.task {
            Task::Classes { .. } => Some(Classifier::try_new(&settings.classes, n_columns)?),
            _ => None,
        };
        let entities = match runner.task {
            Task::Words { .. } => Some(Entities::try_new(&settings.classes, n_columns)?),
            _ => None,
        };
        let after = match (&classifier, &entities) {
            (Some(classifier), _) => Some(classifier.described()),
            (_, Some(entities)) => Some(entities.described()),
            _ => None,
        };
        let description = described(&runner, settings, sharing, after);
        let signature = match entities.is_some() {
            true => signature_of(
                texts::inputs(false),
                (vec![Entities::output()], vec![0], vec![0]),
            ),
            false => signature(classifier.as_ref(), n_columns, runner.takes_pairs),
        };
        Ok(Self {
            signature,
            runner,
            sharing,
            n_columns,
            classifier,
            entities,
            is_lowercased: settings.is_lowercased,
            prefix: settings.prefix.clone(),
            description,
        })
    }

    /// Returns the tokens of the texts of a request.
    fn encode(&self, inputs: &[Tensor], until: Duration) -> Result<Vec<Encoded>, RunError> {
        let texts = Texts::read(inputs, self.runner.takes_pairs)?;
        let invalid = |kind, message: String| Err(RunError::new(kind, message));
        if texts.len().saturating_mul(self.n_columns) > VALUES_MAX {
            let message = format!(
                "{} texts, at most {} are taken; send fewer",
                texts.len(),
                VALUES_MAX.checked_div(self.n_columns).unwrap_or(0)
            );
            return invalid(RunErrorKind::TooLarge, message);
        }
        let mut all = Vec::with_capacity(texts.len());
        let mut n_tokens = 0_usize;
        for index in 0..texts.len() {
            if self.runner.clock.monotonic() >= until {
                return Err(out_of_time());
            }
            let (text, pair) = texts.get(index)?;
            let text = self.prepared(text);
            let encoded = match pair {
                None => self.runner.tokens.encode(&text, index)?,
                Some(pair) => {
                    let pair = self.in_case(Cow::Borrowed(pair));
                    self.runner.tokens.encode_pair(&text, &pair, index)?
                }
            };
            if encoded.ids.is_empty() {
                let message = format!("input \"{INPUT}\": text {index} has no tokens");
                return invalid(RunErrorKind::UnknownValue, message);
            }
            n_tokens = n_tokens.saturating_add(encoded.ids.len());
            // Entities are found in the scores of each token.
            let most = VALUES_MAX.checked_div(self.n_columns).unwrap_or(VALUES_MAX);
            if self.entities.is_some() && n_tokens > most {
                let message = format!(
                    "more than {most} tokens up to text {index}; send fewer or shorter ones"
                );
                return invalid(RunErrorKind::TooLarge, message);
            }
            all.push(encoded);
        }
        Ok(all)
    }

    /// Returns a text with what comes before it, in the case that is wanted.
    fn prepared<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let prefixed = match self.prefix.as_str() {
            "" => Cow::Borrowed(text),
            prefix => Cow::Owned(format!("{prefix}{text}")),
        };
        self.in_case(prefixed)
    }

    fn in_case<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        match self.is_lowercased {
            true => Cow::Owned(text.to_lowercase()),
            false => text,
        }
    }
}

impl Model for TextModel {
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
        let until = self.runner.clock.monotonic().saturating_add(time);
        let encoded = self.encode(inputs, until)?;
        let rows = self
            .runner
            .run_all(&encoded, self.sharing, End { until, calls })?;
        if !encoded.is_empty() && rows.n_columns != self.n_columns {
            let message = format!("rows of {}, at load of {}", rows.n_columns, self.n_columns);
            return Err(internal(message));
        }
        if let Some(entities) = &self.entities {
            let answer = entities.answer(&encoded, &rows.values, &self.runner.tokens)?;
            return only(&answer, outputs);
        }
        if let Some(classifier) = &self.classifier {
            return classifier.answer(rows.values, outputs);
        }
        let shape = vec![encoded.len(), self.n_columns];
        let vectors = Tensor::try_new(shape, Values::F32(rows.values.into()))
            .map_err(|error| internal(error.to_string()))?;
        only(&vectors, outputs)
    }

    fn run_time(&self) -> RunTime {
        match self.runner.graph.run_time() {
            RunTime::Elsewhere => RunTime::Elsewhere,
            RunTime::Short | RunTime::Unknown | RunTime::Any => RunTime::Any,
        }
    }

    fn stays_on_its_thread(&self) -> bool {
        false
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        let dense = self.runner.task.dense().iter().map(Dense::memory_bytes);
        let beside = dense.fold(self.runner.tokens.memory_bytes(), usize::saturating_add);
        self.runner.graph.memory_bytes().saturating_add(beside)
    }

    fn shared_memory(&self) -> &[HeldMemory] {
        self.runner.graph.shared_memory()
    }
}

/// Returns the only output as often as it is asked for.
fn only(answer: &Tensor, outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
    let outputs = outputs.iter().map(|&output| match output {
        0 => Ok(answer.clone()),
        output => Err(internal(format!("there is no output {output}"))),
    });
    outputs.collect()
}

/// Returns what the model takes and gives; `n_columns` is how long its vectors are.
fn signature(classifier: Option<&Classifier>, n_columns: usize, takes_pairs: bool) -> Signature {
    let vectors = || TensorSpec {
        name: OUTPUT.to_owned(),
        dtype: DType::F32,
        shape: vec![None, Some(n_columns)],
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let outputs = (
        classifier.map_or_else(|| vec![vectors()], Classifier::outputs),
        classifier.map_or_else(
            || vec![0],
            |classifier| classifier.default_outputs(takes_pairs),
        ),
        classifier.map_or_else(Vec::new, Classifier::keyed_outputs),
    );
    signature_of(texts::inputs(takes_pairs), outputs)
}

fn signature_of(
    inputs: Vec<TensorSpec>,
    (outputs, default_outputs, keyed_outputs): (Vec<TensorSpec>, Vec<usize>, Vec<usize>),
) -> Signature {
    let columns = inputs.iter().enumerate().map(|(place, input)| ColumnPlace {
        name: input.name.clone(),
        input: Some(place),
    });
    Signature {
        outputs,
        default_outputs,
        keyed_outputs,
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        name_rules: Default::default(),
        columns: Some(columns.collect()),
        inputs,
    }
}

/// Says of the graph what is done before and after it.
fn described(
    runner: &Runner,
    settings: &Settings,
    sharing: Sharing,
    classes: Option<String>,
) -> Description {
    let mut description = runner.graph.description().clone();
    description.format.push_str(", tokenizer.json");
    // It was tried out on texts.
    description.forget_warnings();
    let side = |side: Side| match side {
        Side::Left => "left",
        Side::Right => "right",
    };
    let limits = settings.limits;
    let length = match limits.n_tokens_max {
        Some(n) => format!("of {n} tokens, cut on the {}", side(limits.cut_side)),
        None => "of any length that the graph takes".to_owned(),
    };
    let together = match sharing {
        Sharing::Filled => "of several lengths",
        Sharing::OneLength => "of one length",
        Sharing::Alone => "alone",
    };
    let after = match (&runner.task, classes) {
        (_, Some(classes)) => ("classes", classes),
        (Task::Tokens { sentence, .. }, _) => {
            let normalized = match sentence.is_normalized {
                true => ", normalised",
                false => "",
            };
            let names = sentence.poolings.iter().map(|pooling| pooling.name());
            let names: Vec<&str> = names.collect();
            let dense = sentence.dense.iter();
            let dense = dense.map(|dense| format!(", dense of {}", dense.n_out()));
            let dense: String = dense.collect();
            let names = names.join(" and ");
            ("pooling", format!("{names}{dense}{normalized}"))
        }
        (Task::Pooled { is_normalized, .. }, _) => match is_normalized {
            true => ("pooling", "by the graph, normalised".to_owned()),
            false => ("pooling", "by the graph".to_owned()),
        },
        (Task::Classes { .. } | Task::Words { .. }, None) => ("classes", "unknown".to_owned()),
    };
    let filled = format!("token {} on the {}", runner.fill.id, side(runner.fill.side));
    let facts = [
        ("texts", length),
        ("run", together.to_owned()),
        ("filled up with", filled),
        after,
    ];
    let facts = facts.map(|(name, value)| (name.to_owned(), value));
    description.root.facts.extend(facts);
    description
}

/// Returns the elements of an output as singles.
fn reals(tensor: &Tensor) -> Result<Cow<'_, [f32]>, RunError> {
    if let Values::F32(items) = tensor.values() {
        return Ok(Cow::Borrowed(items));
    }
    let doubles = tensor.values().to_f64s();
    let doubles = doubles.ok_or_else(|| internal("the graph gave texts".to_owned()))?;
    Ok(Cow::Owned(
        doubles.iter().map(|&value| single(value)).collect(),
    ))
}

fn out_of_time() -> RunError {
    let message = "the texts were not done in the time that the call had";
    RunError::new(RunErrorKind::OutOfTime, message)
}

fn internal(message: String) -> RunError {
    RunError::new(RunErrorKind::Internal, message)
}
