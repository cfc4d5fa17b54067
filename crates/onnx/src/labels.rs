//! The classes of a classifier: integers or strings.

use coracle_model::LoadError;
use coracle_tensor::{ByteStrings, Values};

use crate::attributes::Attributes;
use crate::error::malformed;

/// Class labels, in the order of their indices.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Labels {
    Ints(Vec<i64>),
    Texts(Vec<Vec<u8>>),
}

impl Labels {
    /// Reads the two attributes, of which one may be there.
    pub(crate) fn read(
        attributes: &Attributes<'_, '_>,
        ints: &str,
        texts: &str,
    ) -> Result<Self, LoadError> {
        let int_labels = attributes.ints(ints)?;
        let text_labels = attributes.texts(texts)?;
        match (int_labels, text_labels) {
            ([], []) => Err(malformed(format!(
                "neither '{ints}' nor '{texts}' has labels"
            ))),
            (labels, []) => Ok(Self::Ints(labels.to_vec())),
            ([], labels) => Ok(Self::Texts(
                labels.iter().map(|&text| text.to_vec()).collect(),
            )),
            _ => Err(malformed(format!(
                "both '{ints}' and '{texts}' have labels"
            ))),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Texts(labels) => labels.len(),
        }
    }

    /// Returns the labels as the keys of a JSON object.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Ints(labels) => labels.iter().map(i64::to_string).collect(),
            Self::Texts(labels) => labels
                .iter()
                .map(|label| String::from_utf8_lossy(label).into_owned())
                .collect(),
        }
    }

    /// Returns the labels at `indices`.
    ///
    /// # Panics
    /// If an index is beyond the labels.
    pub(crate) fn pick(&self, indices: &[usize]) -> Values {
        match self {
            Self::Ints(labels) => Values::I64(indices.iter().map(|&index| labels[index]).collect()),
            Self::Texts(labels) => {
                let texts: ByteStrings = indices.iter().map(|&index| &labels[index]).collect();
                Values::Bytes(texts)
            }
        }
    }
}
