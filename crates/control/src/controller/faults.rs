//! What is wrong with a spec of this group's kinds, all of it at once, by its place and in Kubernetes' words.

use coracle_api::inference_service::{NAME_PATTERN, is_name};
use coracle_api::structural::Cause;
use coracle_base::Printable;
use serde_json::{Value, json};

use crate::object;

/// The largest number that a difference of means or a bound may be: that of outcomes.
pub(super) const MAGNITUDE_MAX: f64 = 1e100;
/// The longest name of a header, cookie, field, group or other thing that people name, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 253;
/// The longest name of an object whose records are files of its name.
const OBJECT_NAME_BYTES_MAX: usize = 200;

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Cause>);

impl Faults {
    /// Returns what was read; notes what could not be.
    pub(super) fn keep<T>(&mut self, read: Result<T, Cause>) -> Option<T> {
        read.map_err(|cause| self.0.push(cause)).ok()
    }

    /// Returns those that were read; notes all that could not be.
    pub(super) fn keep_all<T>(&mut self, reads: impl Iterator<Item = Result<T, Cause>>) -> Vec<T> {
        reads.filter_map(|read| self.keep(read)).collect()
    }

    /// Notes what was found to be wrong elsewhere.
    pub(super) fn extend(&mut self, causes: Option<Vec<Cause>>) {
        self.0.extend(causes.into_iter().flatten());
    }

    /// Returns the whole, if nothing is wrong with any part.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn finish<T>(self, whole: Option<T>) -> Result<T, Vec<Cause>> {
        match whole {
            Some(whole) if self.0.is_empty() => Ok(whole),
            _ => Err(self.0),
        }
    }
}

/// Returns causes as one text.
pub(super) fn text(causes: &[Cause]) -> String {
    let texts: Vec<String> = causes.iter().map(Cause::to_string).collect();
    texts.join(", ")
}

/// Returns the place of a word among those that are allowed; the first is the default.
pub(super) fn one_of<const N: usize>(
    field: &str,
    given: Option<&str>,
    allowed: [&str; N],
) -> Result<usize, Cause> {
    let Some(given) = given else { return Ok(0) };
    let place = allowed.iter().position(|word| *word == given);
    place.ok_or_else(|| {
        let allowed = allowed.map(Value::from);
        Cause::not_supported(field, &json!(given), &allowed)
    })
}

/// Returns a number, if it is as it must be.
pub(super) fn number(
    field: &str,
    number: f64,
    (is_good, must): (bool, &str),
) -> Result<f64, Cause> {
    match is_good {
        true => Ok(number),
        false => Err(Cause::invalid(
            field,
            &json!(number),
            &format!("must be {must}"),
        )),
    }
}

/// Checks the name of an InferenceService.
pub(super) fn service_name(field: &str, name: &str) -> Result<(), Cause> {
    match is_name(name) {
        true => Ok(()),
        false => Err(Cause::invalid(
            field,
            &json!(name),
            &format!("must be the name of an InferenceService, which matches '{NAME_PATTERN}'"),
        )),
    }
}

/// Checks that a text is neither empty nor too long.
pub(super) fn name_length(field: &str, name: &str, most: usize) -> Result<(), Cause> {
    let why = format!("must have 1 to {most} bytes");
    match name.len() {
        0 => Err(Cause::invalid(field, &json!(""), &why)),
        length if length > most => {
            let shown: String = name.chars().take(32).collect();
            let why = format!("{why}, and has {length}");
            Err(Cause::invalid(field, &json!(format!("{shown}...")), &why))
        }
        _ => Ok(()),
    }
}

/// Checks a name that reports and metrics show.
pub(super) fn shown_name(field: &str, name: &str, most: usize) -> Result<(), Cause> {
    name_length(field, name, most)?;
    let is_line = !name.contains(['\n', '\t']);
    match is_line && Printable(name).to_string() == name {
        true => Ok(()),
        false => Err(Cause::invalid(
            field,
            &json!(name),
            "must have no control characters, nor any that turn the direction of writing",
        )),
    }
}

/// Checks an object of which files are kept, which are named by it: its name if it is new, and what `spec_faults` finds if its spec says another thing
/// than that of `old`. Bounds may be set after something was stored that is beyond them; nothing but a mended spec is asked of that, and it may be
/// labelled, commanded and `paused` as it is.
///
/// # Errors
/// All that is wrong.
pub(super) fn check_changed(
    old: Option<&Value>,
    object: &Value,
    free: Option<&str>,
    spec_faults: impl FnOnce() -> Option<Vec<Cause>>,
) -> Result<(), Vec<Cause>> {
    let mut faults = Faults::default();
    if old.is_none() {
        let name = object::name(object);
        faults.keep(name_length("metadata.name", name, OBJECT_NAME_BYTES_MAX));
    }
    let bound = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        if let (Some(free), Some(fields)) = (free, spec.as_object_mut()) {
            fields.remove(free);
        }
        spec
    };
    if old.map(bound) != Some(bound(object)) {
        faults.extend(spec_faults());
    }
    faults.finish(Some(()))
}

/// Tells whether a text is of what names of headers and cookies are made of (`token` of RFC 9110), if it is of anything.
pub(super) fn is_of_token(text: &str) -> bool {
    let is_mark = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    text.bytes().all(is_mark)
}

/// Checks the name of a header or cookie.
pub(super) fn token(field: &str, name: &str) -> Result<(), Cause> {
    name_length(field, name, NAME_BYTES_MAX)?;
    match is_of_token(name) {
        true => Ok(()),
        false => Err(Cause::invalid(
            field,
            &json!(name),
            "must be of ASCII letters, digits and !#$%&'*+-.^_`|~, as names of headers and cookies are",
        )),
    }
}
