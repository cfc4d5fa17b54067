//! The classes of a classifier as the user wrote them.

use coracle_tensor::{ByteStrings, DType, Tensor, Values};

/// The labels of a classifier's classes, in the order of its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    values: Values,
}

impl Labels {
    /// Wraps the labels; their datatype is the datatype of predictions.
    #[must_use]
    pub fn new(values: Values) -> Self {
        Self { values }
    }

    /// Returns the number of classes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Tells whether there are no classes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the datatype of the labels.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.values.dtype()
    }

    /// Returns the labels.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Returns the labels as texts, as Python writes them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        fn shown<T: ToString>(labels: &[T]) -> Vec<String> {
            labels.iter().map(T::to_string).collect()
        }
        match &self.values {
            Values::Bool(labels) => {
                let name = |&label: &bool| if label { "True" } else { "False" };
                labels.iter().map(name).map(str::to_owned).collect()
            }
            Values::U8(labels) => shown(labels),
            Values::U16(labels) => shown(labels),
            Values::U32(labels) => shown(labels),
            Values::U64(labels) => shown(labels),
            Values::I8(labels) => shown(labels),
            Values::I16(labels) => shown(labels),
            Values::I32(labels) => shown(labels),
            Values::I64(labels) => shown(labels),
            // `{:?}` keeps the fraction of whole numbers, as Python does.
            Values::F16(labels) => labels.iter().map(|n| format!("{:?}", n.to_f32())).collect(),
            Values::BF16(labels) => labels.iter().map(|n| format!("{:?}", n.to_f32())).collect(),
            Values::F32(labels) => labels.iter().map(|n| format!("{n:?}")).collect(),
            Values::F64(labels) => labels.iter().map(|n| format!("{n:?}")).collect(),
            Values::Bytes(labels) => {
                let texts = labels.iter().map(String::from_utf8_lossy);
                texts.map(std::borrow::Cow::into_owned).collect()
            }
        }
    }

    /// Returns the labels of several classifiers one after another; `None` if their datatypes differ.
    #[must_use]
    pub fn joined(parts: Vec<Self>) -> Option<Self> {
        let mut parts = parts.into_iter().map(|part| part.values);
        let mut joined = parts.next()?;
        for part in parts {
            append(&mut joined, part)?;
        }
        Some(Self { values: joined })
    }

    /// Returns the class number of each of `values`; `None` if one is not among the labels.
    #[must_use]
    pub fn indices_of(&self, values: &Values) -> Option<Vec<f64>> {
        let position = |found: Option<usize>| found.and_then(|at| u32::try_from(at).ok());
        let numbers = |labels: &[f64], values: &[f64]| {
            let index = |value: &f64| position(labels.iter().position(|label| label == value));
            values
                .iter()
                .map(|value| index(value).map(f64::from))
                .collect()
        };
        match (&self.values, values) {
            (Values::Bytes(labels), Values::Bytes(values)) => values
                .iter()
                .map(|value| position(labels.iter().position(|label| label == value)))
                .map(|index| index.map(f64::from))
                .collect(),
            (labels, values) => numbers(&labels.to_f64s()?, &values.to_f64s()?),
        }
    }

    /// Returns the labels of the classes at `indices`, one per row.
    ///
    /// # Panics
    /// If an index is not below [`Labels::len`].
    #[must_use]
    pub fn take(&self, indices: &[usize]) -> Tensor {
        fn pick<T: Copy>(labels: &[T], indices: &[usize]) -> Vec<T> {
            indices.iter().map(|&index| labels[index]).collect()
        }
        let values = match &self.values {
            Values::Bool(labels) => Values::Bool(pick(labels, indices)),
            Values::U8(labels) => Values::U8(pick(labels, indices).into()),
            Values::U16(labels) => Values::U16(pick(labels, indices).into()),
            Values::U32(labels) => Values::U32(pick(labels, indices).into()),
            Values::U64(labels) => Values::U64(pick(labels, indices).into()),
            Values::I8(labels) => Values::I8(pick(labels, indices).into()),
            Values::I16(labels) => Values::I16(pick(labels, indices).into()),
            Values::I32(labels) => Values::I32(pick(labels, indices).into()),
            Values::I64(labels) => Values::I64(pick(labels, indices).into()),
            Values::F16(labels) => Values::F16(pick(labels, indices).into()),
            Values::BF16(labels) => Values::BF16(pick(labels, indices).into()),
            Values::F32(labels) => Values::F32(pick(labels, indices).into()),
            Values::F64(labels) => Values::F64(pick(labels, indices).into()),
            Values::Bytes(labels) => {
                let taken = indices
                    .iter()
                    .map(|&index| labels.get(index).expect("the caller's indices are classes"));
                Values::Bytes(taken.collect::<ByteStrings>())
            }
        };
        Tensor::from_values(values)
    }
}

/// Appends values of the same datatype.
fn append(target: &mut Values, more: Values) -> Option<()> {
    match (target, more) {
        (Values::Bool(target), Values::Bool(more)) => target.extend(more),
        (Values::U8(target), Values::U8(more)) => target.extend(more),
        (Values::U16(target), Values::U16(more)) => target.extend(more),
        (Values::U32(target), Values::U32(more)) => target.extend(more),
        (Values::U64(target), Values::U64(more)) => target.extend(more),
        (Values::I8(target), Values::I8(more)) => target.extend(more),
        (Values::I16(target), Values::I16(more)) => target.extend(more),
        (Values::I32(target), Values::I32(more)) => target.extend(more),
        (Values::I64(target), Values::I64(more)) => target.extend(more),
        (Values::F32(target), Values::F32(more)) => target.extend(more),
        (Values::F64(target), Values::F64(more)) => target.extend(more),
        (Values::Bytes(target), Values::Bytes(more)) => {
            more.iter().for_each(|text| target.push(text));
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_datatype() {
        let strings = Labels::new(Values::Bytes(["no", "yes"].into_iter().collect()));
        let expected: ByteStrings = ["yes", "no", "yes"].into_iter().collect();
        assert_eq!(strings.take(&[1, 0, 1]).values(), &Values::Bytes(expected));
        assert_eq!(strings.names(), ["no", "yes"]);
        let integers = Labels::new(Values::I64(vec![-1, 7].into()));
        assert_eq!(integers.names(), ["-1", "7"]);
        assert_eq!(
            Labels::new(Values::F64(vec![0.0, 1.5].into())).names(),
            ["0.0", "1.5"]
        );
        assert_eq!(
            Labels::new(Values::Bool(vec![false, true])).names(),
            ["False", "True"]
        );
        assert_eq!(integers.take(&[1]).values(), &Values::I64(vec![7].into()));
    }

    #[test]
    fn values_are_found_among_labels_by_content() {
        let strings = Labels::new(Values::Bytes(["no", "yes"].into_iter().collect()));
        let asked = |texts: [&str; 2]| Values::Bytes(texts.into_iter().collect());
        assert_eq!(
            strings.indices_of(&asked(["yes", "no"])),
            Some(vec![1.0, 0.0])
        );
        assert_eq!(strings.indices_of(&asked(["yes", "maybe"])), None);
        let integers = Labels::new(Values::I64(vec![-1, 7].into()));
        let asked = Values::F64(vec![7.0, 7.0, -1.0].into());
        assert_eq!(integers.indices_of(&asked), Some(vec![1.0, 1.0, 0.0]));
        assert_eq!(strings.indices_of(&asked), None);
    }
}
