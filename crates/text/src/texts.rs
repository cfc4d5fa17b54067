//! The texts of a request: one for each row, or two.

use coracle_model::{RunError, RunErrorKind, TensorSpec};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};

/// The input of texts, and that of what each of them is paired with.
pub(crate) const INPUT: &str = "text";
pub(crate) const PAIR: &str = "text_pair";

/// Returns what a model takes.
pub(crate) fn inputs(takes_pairs: bool) -> Vec<TensorSpec> {
    let names = [INPUT, PAIR].into_iter();
    let names = names.take(if takes_pairs { 2 } else { 1 });
    let inputs = names.map(|name| TensorSpec {
        name: name.to_owned(),
        dtype: DType::Bytes,
        shape: vec![None],
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    });
    inputs.collect()
}

/// The texts of a request.
pub(crate) struct Texts<'t> {
    texts: &'t ByteStrings,
    pairs: Option<&'t ByteStrings>,
}

impl<'t> Texts<'t> {
    /// Reads what came.
    ///
    /// # Errors
    /// Kinds `ShapeMismatch`, `DTypeMismatch` and `MissingValue`, naming the input.
    pub(crate) fn read(tensors: &'t [Tensor], takes_pairs: bool) -> Result<Self, RunError> {
        let (texts, pairs) = match (tensors, takes_pairs) {
            ([texts], false) => (strings(texts, INPUT)?, None),
            ([texts, pairs], true) => (strings(texts, INPUT)?, Some(strings(pairs, PAIR)?)),
            _ => {
                let wanted = if takes_pairs { 2 } else { 1 };
                let message = format!("{} inputs, model expects {wanted}", tensors.len());
                return Err(RunError::new(RunErrorKind::Internal, message));
            }
        };
        if let Some(pairs) = pairs.filter(|pairs| pairs.len() != texts.len()) {
            let message = format!(
                "input \"{PAIR}\": {} texts, input \"{INPUT}\" has {}",
                pairs.len(),
                texts.len()
            );
            return Err(RunError::new(RunErrorKind::ShapeMismatch, message));
        }
        Ok(Self { texts, pairs })
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns the texts of row `index`.
    ///
    /// # Errors
    /// Kind `UnknownValue` for what is no text.
    pub(crate) fn get(&self, index: usize) -> Result<(&'t str, Option<&'t str>), RunError> {
        let text = utf8(self.texts, INPUT, index)?;
        let pair = self.pairs.map(|pairs| utf8(pairs, PAIR, index));
        Ok((text, pair.transpose()?))
    }
}

fn strings<'t>(tensor: &'t Tensor, name: &str) -> Result<&'t ByteStrings, RunError> {
    if tensor.shape().len() != 1 {
        let shape = tensor.shape();
        let message = format!("input \"{name}\": shape {shape:?}, model expects [-1]");
        return Err(RunError::new(RunErrorKind::ShapeMismatch, message));
    }
    let Values::Bytes(texts) = tensor.values() else {
        let message = format!(
            "input \"{name}\": datatype {}, model expects {}",
            tensor.dtype(),
            DType::Bytes
        );
        return Err(RunError::new(RunErrorKind::DTypeMismatch, message));
    };
    if let Some(missing) = texts.first_missing() {
        let message = format!("input \"{name}\": text {missing} is missing");
        return Err(RunError::new(RunErrorKind::MissingValue, message));
    }
    Ok(texts)
}

fn utf8<'t>(texts: &'t ByteStrings, name: &str, index: usize) -> Result<&'t str, RunError> {
    let bytes = texts.get(index).unwrap_or_default();
    str::from_utf8(bytes).map_err(|_error| {
        let message = format!("input \"{name}\": text {index} is not UTF-8");
        RunError::new(RunErrorKind::UnknownValue, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(texts: &[&str]) -> Tensor {
        Tensor::from_values(Values::Bytes(texts.iter().copied().collect()))
    }

    #[test]
    fn texts_come_alone_or_in_pairs() {
        let two = [tensor(&["a", "b"]), tensor(&["c", "d"])];
        let texts = Texts::read(&two, true).unwrap();
        assert_eq!((texts.len(), texts.get(1)), (2, Ok(("b", Some("d")))));
        let texts = Texts::read(&two[..1], false).unwrap();
        assert_eq!(texts.get(0), Ok(("a", None)));
        let uneven = [tensor(&["a", "b"]), tensor(&["c"])];
        let error = Texts::read(&uneven, true).err().unwrap();
        assert_eq!(error.kind(), RunErrorKind::ShapeMismatch);
        assert!(
            error.to_string().contains("\"text_pair\": 1 texts"),
            "{error}"
        );
        assert!(Texts::read(&two, false).is_err() && Texts::read(&two[..1], true).is_err());
    }
}
