//! The fields of a configuration: which mean something here, and what they may hold.

use std::fmt;
use std::num::NonZero;
use std::time::Duration;

use coracle_tensor::DType;

use super::engine::Engine;
use super::text::{Fault, Field, Message, Place, Value};
use super::{TritonBatching, TritonConfig, TritonQueue, TritonTensor, TritonVersions};
use crate::document::quoted;

/// The most notes of a file; further ones are counted.
const NOTES_MAX: usize = 20;

/// Reads the fields of a file.
///
/// # Errors
/// With the position of what is at fault.
pub(super) fn read(text: &str, message: &Message) -> Result<TritonConfig, Fault> {
    let mut config = TritonConfig::default();
    let mut notes = Notes::new(text);
    let mut engine = Engine::default();
    for field in &message.fields {
        match field.name.as_str() {
            "name" => once(&mut config.name, field, string(field)?)?,
            "platform" => once(&mut config.platform, field, string(field)?)?,
            "backend" => once(&mut config.backend, field, string(field)?)?,
            "max_batch_size" => {
                let rows = number(field, 0, u32::try_from(i32::MAX).unwrap_or(u32::MAX))?;
                once(&mut config.max_batch_size, field, rows)?;
            }
            "input" => config.inputs.push(tensor(field, &mut notes)?),
            "output" => config.outputs.push(tensor(field, &mut notes)?),
            "version_policy" => {
                let versions = versions(field, &mut notes)?;
                if let Some(versions) = versions {
                    once(&mut config.versions, field, versions)?;
                }
            }
            "dynamic_batching" => {
                let (batching, queue) = batching(field, &mut notes)?;
                once(&mut config.batching, field, batching)?;
                config.queue = queue;
            }
            "response_cache" => {
                let enable = enabled(field, &mut notes)?;
                once(&mut config.response_cache, field, enable)?;
            }
            "instance_group" => {
                if let Some(more) = instances(field, &mut engine.is_on_gpu, &mut notes)? {
                    let so_far = config.instances.map_or(0, NonZero::get);
                    config.instances = NonZero::new(so_far.saturating_add(more));
                }
            }
            "default_model_filename" => {
                let name = file_name(field)?;
                once(&mut config.default_model_filename, field, name)?;
            }
            "parameters" => {
                let (key, value) = parameter(field, &mut notes)?;
                config.parameters.insert(key, value);
            }
            "optimization" => engine.read(field, &mut notes)?,
            "model_warmup" => {
                notes.add(
                    field,
                    "every model is warmed up anyhow, with rows of its own",
                );
            }
            "model_transaction_policy" => transactions(field)?,
            "ensemble_scheduling" | "sequence_batching" => {
                let name = &field.name;
                let what = format!("{name}: models are served one by one, without a state");
                return Err(Fault::new(field.position, what));
            }
            _ => notes.unknown(field, ""),
        }
    }
    config.engine = engine.settings(&config.parameters);
    config.notes = notes.finish();
    check_batches(&config, message)?;
    Ok(config)
}

/// Preferred sizes are of batches that can be.
fn check_batches(config: &TritonConfig, message: &Message) -> Result<(), Fault> {
    let (Some(batching), Some(most)) = (&config.batching, config.max_batch_size) else {
        return Ok(());
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut sizes = batching.preferred_sizes.iter();
    let Some(beyond) = sizes.find(|size| **size > most) else {
        return Ok(());
    };
    let mut fields = message.fields.iter();
    let field = fields.find(|field| field.name == "dynamic_batching");
    let what = format!("preferred_batch_size {beyond} is more than max_batch_size, {most}");
    Err(Fault::new(field.map_or(0, |field| field.position), what))
}

/// What has no meaning here.
pub(super) struct Notes<'t> {
    text: &'t str,
    notes: Vec<String>,
    n_more: usize,
}

impl<'t> Notes<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            notes: Vec::new(),
            n_more: 0,
        }
    }

    fn line(&self, field: &Field) -> usize {
        Place::of(self.text, field.position).line
    }

    pub(super) fn add(&mut self, field: &Field, why: impl fmt::Display) {
        if self.notes.len() >= NOTES_MAX {
            self.n_more = self.n_more.saturating_add(1);
            return;
        }
        let note = format!("line {}: {}: {why}", self.line(field), field.name);
        self.notes.push(note);
    }

    pub(super) fn unknown(&mut self, field: &Field, within: &str) {
        let within = match within {
            "" => String::new(),
            within => format!(" of {within}"),
        };
        self.add(
            field,
            format_args!("not read{within}, it changes nothing here"),
        );
    }

    fn finish(mut self) -> Vec<String> {
        if self.n_more > 0 {
            self.notes.push(format!("{} more like these", self.n_more));
        }
        self.notes
    }
}

pub(super) fn once<T>(slot: &mut Option<T>, field: &Field, value: T) -> Result<(), Fault> {
    if slot.replace(value).is_some() {
        let what = format!("{} is there twice", field.name);
        return Err(Fault::new(field.position, what));
    }
    Ok(())
}

pub(super) fn wrong(field: &Field, wanted: impl fmt::Display) -> Fault {
    let got = match &field.value {
        Value::Text(text) => quoted(text),
        Value::Word(word) => word.chars().take(64).collect(),
        Value::Message(_) => "a message".to_owned(),
    };
    let name = &field.name;
    Fault::new(
        field.position,
        format!("{name} is {got}, {wanted} is wanted"),
    )
}

pub(super) fn string(field: &Field) -> Result<String, Fault> {
    match &field.value {
        Value::Text(text) => Ok(text.clone()),
        _ => Err(wrong(field, "a string in quotes")),
    }
}

pub(super) fn message(field: &Field) -> Result<&Message, Fault> {
    match &field.value {
        Value::Message(message) => Ok(message),
        _ => Err(wrong(field, "a message in {}")),
    }
}

fn word(field: &Field) -> Option<&str> {
    match &field.value {
        Value::Word(word) => Some(word),
        _ => None,
    }
}

/// Reads a whole number, decimal, hexadecimal or octal.
pub(super) fn number<T>(field: &Field, least: T, most: T) -> Result<T, Fault>
where
    T: TryFrom<i128> + PartialOrd + Copy + fmt::Display,
{
    let parsed = word(field)
        .and_then(whole)
        .and_then(|number| T::try_from(number).ok());
    let within = parsed.filter(|number| *number >= least && *number <= most);
    within.ok_or_else(|| wrong(field, format_args!("a whole number from {least} to {most}")))
}

fn whole(word: &str) -> Option<i128> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1_i128, digits),
        None => (1, word),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
    number.checked_mul(sign)
}

fn truth(field: &Field) -> Result<bool, Fault> {
    match word(field) {
        Some("true" | "True" | "t" | "1") => Ok(true),
        Some("false" | "False" | "f" | "0") => Ok(false),
        _ => Err(wrong(field, "true or false")),
    }
}

/// The datatypes by Triton's names and numbers.
const DATATYPES: [(&str, &str, DType); 14] = [
    ("TYPE_BOOL", "1", DType::Bool),
    ("TYPE_UINT8", "2", DType::U8),
    ("TYPE_UINT16", "3", DType::U16),
    ("TYPE_UINT32", "4", DType::U32),
    ("TYPE_UINT64", "5", DType::U64),
    ("TYPE_INT8", "6", DType::I8),
    ("TYPE_INT16", "7", DType::I16),
    ("TYPE_INT32", "8", DType::I32),
    ("TYPE_INT64", "9", DType::I64),
    ("TYPE_FP16", "10", DType::F16),
    ("TYPE_FP32", "11", DType::F32),
    ("TYPE_FP64", "12", DType::F64),
    ("TYPE_STRING", "13", DType::Bytes),
    ("TYPE_BF16", "14", DType::BF16),
];

fn datatype(field: &Field) -> Result<DType, Fault> {
    let found = word(field).and_then(|word| {
        let mut all = DATATYPES.iter();
        all.find(|(name, number, _)| [*name, *number].contains(&word))
    });
    found.map(|(_, _, dtype)| *dtype).ok_or_else(|| {
        let names = DATATYPES.map(|(name, ..)| name).join(", ");
        wrong(field, format_args!("one of {names}"))
    })
}

fn tensor(field: &Field, notes: &mut Notes<'_>) -> Result<TritonTensor, Fault> {
    let (mut name, mut dtype, mut dims) = (None, None, None);
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "name" => once(&mut name, inner, string(inner)?)?,
            "data_type" => once(&mut dtype, inner, datatype(inner)?)?,
            "dims" => {
                let size = number(inner, -1, i64::MAX)?;
                dims.get_or_insert_with(Vec::new).push(size);
            }
            "optional" if !truth(inner)? => {}
            "format" if word(inner) == Some("FORMAT_NONE") => {}
            _ => notes.unknown(inner, &field.name),
        }
    }
    let name = name.filter(|name| !name.is_empty());
    let name =
        name.ok_or_else(|| Fault::new(field.position, format!("{} has no name", field.name)))?;
    Ok(TritonTensor {
        name,
        dtype,
        dims,
        line: notes.line(field),
    })
}

fn versions(field: &Field, notes: &mut Notes<'_>) -> Result<Option<TritonVersions>, Fault> {
    let mut versions = None;
    for inner in &message(field)?.fields {
        let chosen = match inner.name.as_str() {
            "latest" => latest(inner, notes)?,
            "all" => {
                let _is_empty = message(inner)?;
                TritonVersions::All
            }
            "specific" => specific(inner, notes)?,
            _ => {
                notes.unknown(inner, &field.name);
                continue;
            }
        };
        once(&mut versions, inner, chosen).map_err(|_twice| {
            let what =
                "version_policy has several choices, one of latest, all and specific is wanted";
            Fault::new(inner.position, what)
        })?;
    }
    Ok(versions)
}

fn latest(field: &Field, notes: &mut Notes<'_>) -> Result<TritonVersions, Fault> {
    let mut n_versions = None;
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "num_versions" => once(&mut n_versions, inner, number(inner, 1, u32::MAX)?)?,
            _ => notes.unknown(inner, &field.name),
        }
    }
    let n_versions = usize::try_from(n_versions.unwrap_or(1)).ok();
    let n_versions = n_versions.and_then(NonZero::new);
    Ok(TritonVersions::Latest(
        n_versions.unwrap_or(NonZero::<usize>::MIN),
    ))
}

fn specific(field: &Field, notes: &mut Notes<'_>) -> Result<TritonVersions, Fault> {
    let mut versions = std::collections::BTreeSet::new();
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "versions" => {
                let most = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
                versions.insert(number(inner, 0, most)?);
            }
            _ => notes.unknown(inner, &field.name),
        }
    }
    if versions.is_empty() {
        let what = "specific has no versions, one at least is wanted";
        return Err(Fault::new(field.position, what));
    }
    Ok(TritonVersions::Specific(versions))
}

fn batching(field: &Field, notes: &mut Notes<'_>) -> Result<(TritonBatching, TritonQueue), Fault> {
    let mut batching = TritonBatching::default();
    let (mut delay, mut policy) = (None, None);
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "preferred_batch_size" => {
                let most = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
                batching.preferred_sizes.push(number(inner, 1, most)?);
            }
            "max_queue_delay_microseconds" => {
                once(&mut delay, inner, number(inner, 0, u64::MAX)?)?;
            }
            // Answers of a stream come in order whatever is put together.
            "preserve_ordering" => {
                let _either = truth(inner)?;
            }
            "priority_levels" => {
                let n_levels = number(inner, 0, u64::MAX)?;
                if ![0, 5].contains(&n_levels) {
                    notes.add(inner, "there are always five levels");
                }
            }
            "default_priority_level" => {
                if number(inner, 0, u64::MAX)? != 3 {
                    notes.add(inner, "requests that ask for none have level 3");
                }
            }
            "default_queue_policy" => once(&mut policy, inner, queue(inner, notes)?)?,
            _ => notes.unknown(inner, &field.name),
        }
    }
    batching.max_queue_delay = Duration::from_micros(delay.unwrap_or(0));
    Ok((batching, policy.unwrap_or_default()))
}

/// Reads how long calls wait, and how many.
fn queue(field: &Field, notes: &mut Notes<'_>) -> Result<TritonQueue, Fault> {
    let (mut timeout, mut size_max) = (None, None);
    let mut delaying = None;
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "timeout_action" => match word(inner) {
                Some("REJECT" | "0") => {}
                Some("DELAY" | "1") => delaying = Some(inner),
                _ => return Err(wrong(inner, "REJECT or DELAY")),
            },
            "default_timeout_microseconds" => {
                once(&mut timeout, inner, number(inner, 0, u64::MAX)?)?;
            }
            "max_queue_size" => {
                let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
                once(&mut size_max, inner, number(inner, 0, most)?)?;
            }
            "allow_timeout_override" => {
                if truth(inner)? {
                    notes.add(
                        inner,
                        "the timeout of a request is its deadline, beside that of the queue",
                    );
                }
            }
            _ => notes.unknown(inner, &field.name),
        }
    }
    // As there, nought is no bound.
    let mut timeout = timeout.filter(|us| *us > 0).map(Duration::from_micros);
    if let Some(action) = delaying
        && timeout.take().is_some()
    {
        notes.add(
            action,
            "calls keep their place until their callers' deadlines",
        );
    }
    Ok(TritonQueue {
        size_max: size_max.and_then(NonZero::new),
        timeout,
    })
}

fn enabled(field: &Field, notes: &mut Notes<'_>) -> Result<bool, Fault> {
    let mut enable = None;
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "enable" => once(&mut enable, inner, truth(inner)?)?,
            _ => notes.unknown(inner, &field.name),
        }
    }
    Ok(enable.unwrap_or(false))
}

/// Reads how many instances a group has on the processor; `None` for one that would be elsewhere.
fn instances(
    field: &Field,
    is_any_elsewhere: &mut bool,
    notes: &mut Notes<'_>,
) -> Result<Option<usize>, Fault> {
    let (mut count, mut is_elsewhere) = (None, false);
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "count" => {
                let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
                once(&mut count, inner, number(inner, 0, most)?)?;
            }
            "kind" => match word(inner) {
                Some("KIND_CPU" | "KIND_AUTO" | "0" | "2") => {}
                Some("KIND_GPU" | "1") => {
                    is_elsewhere = true;
                    let why =
                        "graphs run there where ONNX Runtime has CUDA, all else on the processor";
                    notes.add(inner, why);
                }
                _ => return Err(wrong(inner, "KIND_AUTO, KIND_CPU or KIND_GPU")),
            },
            "name" => drop(string(inner)?),
            _ => notes.unknown(inner, &field.name),
        }
    }
    *is_any_elsewhere |= is_elsewhere;
    // As there, none said is one.
    let count = count.filter(|count| *count > 0).unwrap_or(1);
    Ok((!is_elsewhere).then_some(count))
}

/// A name within the directory of a version.
fn file_name(field: &Field) -> Result<String, Fault> {
    let name = string(field)?;
    let is_plain = !name.is_empty() && !name.contains(['/', '\\', '\0']);
    if is_plain && !matches!(name.as_str(), "." | "..") {
        Ok(name)
    } else {
        Err(wrong(
            field,
            "the name of a file in the directory of a version",
        ))
    }
}

fn parameter(field: &Field, notes: &mut Notes<'_>) -> Result<(String, String), Fault> {
    let (mut key, mut value) = (None, None);
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "key" => once(&mut key, inner, string(inner)?)?,
            "value" => once(&mut value, inner, parameter_value(inner, notes)?)?,
            _ => notes.unknown(inner, &field.name),
        }
    }
    let key = key.ok_or_else(|| Fault::new(field.position, "parameters has no key"))?;
    Ok((key, value.unwrap_or_default()))
}

fn parameter_value(field: &Field, notes: &mut Notes<'_>) -> Result<String, Fault> {
    let mut value = None;
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "string_value" => once(&mut value, inner, string(inner)?)?,
            _ => notes.unknown(inner, &field.name),
        }
    }
    Ok(value.unwrap_or_default())
}

/// One answer for a request is what there is.
fn transactions(field: &Field) -> Result<(), Fault> {
    let mut fields = message(field)?.fields.iter();
    match fields.find(|inner| inner.name == "decoupled") {
        Some(inner) if truth(inner)? => Err(wrong(inner, "false")),
        _ => Ok(()),
    }
}
