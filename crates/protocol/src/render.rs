//! Values to JSON, appended to a buffer.

use coracle_tensor::{Tensor, Values};

/// The most lists of nothing that are written for a tensor without elements: its sizes may be any.
const EMPTY_LISTS_MAX: usize = 1 << 20;

/// Appends `text` as a JSON string, in quotes.
pub fn string(text: &str, out: &mut Vec<u8>) {
    // Writing a string to memory cannot fail.
    if serde_json::to_writer(&mut *out, text).is_err() {
        out.extend_from_slice(b"\"\"");
    }
}

/// Appends a number that is finite; JSON has no other, so those become `null`.
pub(crate) fn double(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

fn single(value: f32, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Appends an integer.
pub(crate) fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends items separated by commas.
pub(crate) fn separated<T>(
    items: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    mut item: impl FnMut(T, &mut Vec<u8>),
) {
    for (index, value) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(value, out);
    }
}

/// Appends the element at `index`; nothing if there is none.
pub(crate) fn element(values: &Values, index: usize, out: &mut Vec<u8>) {
    macro_rules! integer_at {
        ($items:expr) => {
            if let Some(&value) = $items.get(index) {
                integer(value, out);
            }
        };
    }
    match values {
        Values::Bool(items) => match items.get(index) {
            Some(true) => out.extend_from_slice(b"true"),
            _ => out.extend_from_slice(b"false"),
        },
        Values::U8(items) => integer_at!(items),
        Values::U16(items) => integer_at!(items),
        Values::U32(items) => integer_at!(items),
        Values::U64(items) => integer_at!(items),
        Values::I8(items) => integer_at!(items),
        Values::I16(items) => integer_at!(items),
        Values::I32(items) => integer_at!(items),
        Values::I64(items) => integer_at!(items),
        Values::F16(items) => single(
            items.get(index).map_or(f32::NAN, |value| value.to_f32()),
            out,
        ),
        Values::BF16(items) => {
            single(
                items.get(index).map_or(f32::NAN, |value| value.to_f32()),
                out,
            );
        }
        Values::F32(items) => single(items.get(index).copied().unwrap_or(f32::NAN), out),
        Values::F64(items) => double(items.get(index).copied().unwrap_or(f64::NAN), out),
        Values::Bytes(items) if items.is_missing(index) => out.extend_from_slice(b"null"),
        Values::Bytes(items) => {
            string(
                &String::from_utf8_lossy(items.get(index).unwrap_or_default()),
                out,
            );
        }
    }
}

/// Appends all elements as one flat list.
pub(crate) fn flat(values: &Values, out: &mut Vec<u8>) {
    out.push(b'[');
    separated(0..values.len(), out, |index, out| {
        element(values, index, out)
    });
    out.push(b']');
}

/// Appends all of `tensor`, in lists nested as deep as its shape.
pub(crate) fn tensor(tensor: &Tensor, out: &mut Vec<u8>) {
    block(tensor.values(), tensor.shape(), 0, out);
}

/// Appends row `row` of `tensor`: an element, or lists nested as deep as its shape; an empty list if there is no such row.
pub(crate) fn row(tensor: &Tensor, row: usize, out: &mut Vec<u8>) {
    if row >= tensor.n_rows() {
        out.extend_from_slice(b"[]");
        return;
    }
    let inner = tensor.shape().get(1..).unwrap_or_default();
    let size = n_elements(inner);
    block(tensor.values(), inner, row.saturating_mul(size), out);
}

/// Returns the product of sizes; those of a tensor without elements may be any.
fn n_elements(shape: &[usize]) -> usize {
    let sizes = shape.iter();
    sizes.fold(1, |product: usize, &size| product.saturating_mul(size))
}

/// Appends a block as [`nested`] does; one of no elements in more lists than anyone reads is one list of nothing.
fn block(values: &Values, shape: &[usize], start: usize, out: &mut Vec<u8>) {
    let lists = shape.iter().take_while(|&&size| size > 0);
    let n_lists = lists.fold(1_usize, |product, &size| product.saturating_mul(size));
    if shape.contains(&0) && n_lists > EMPTY_LISTS_MAX {
        out.extend_from_slice(b"[]");
        return;
    }
    nested(values, shape, start, out);
}

/// Appends the block of `shape` that starts at element `start`; the depth is that of a model's output.
fn nested(values: &Values, shape: &[usize], start: usize, out: &mut Vec<u8>) {
    let Some((&n_items, inner)) = shape.split_first() else {
        return element(values, start, out);
    };
    let size = n_elements(inner);
    out.push(b'[');
    separated(0..n_items, out, |index, out| {
        nested(
            values,
            inner,
            start.saturating_add(index.saturating_mul(size)),
            out,
        );
    });
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(shape: &[usize]) -> String {
        let values = Values::F32(Vec::new().into());
        let mut out = Vec::new();
        tensor(&Tensor::try_new(shape.to_vec(), values).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lists_of_nothing_are_bounded() {
        assert_eq!(written(&[0]), "[]");
        assert_eq!(written(&[2, 0]), "[[],[]]");
        assert_eq!(written(&[2, 0, 1 << 40]), "[[],[]]");
        assert_eq!(written(&[1 << 40, 0]), "[]");
        assert_eq!(written(&[1 << 30, 1 << 30, 0]), "[]");
    }

    #[test]
    fn sizes_whose_product_is_no_number_are_written() {
        assert_eq!(written(&[0, 1 << 40, 1 << 40]), "[]");
        assert_eq!(written(&[2, 0, 1 << 40, 1 << 40]), "[[],[]]");
        let values = Values::F32(Vec::new().into());
        let tensor = Tensor::try_new(vec![0, 1 << 40, 1 << 40], values).unwrap();
        let mut out = Vec::new();
        flat(tensor.values(), &mut out);
        row(&tensor, 0, &mut out);
        assert_eq!(out, b"[][]");
    }
}
