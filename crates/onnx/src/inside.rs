//! Takes the weights that lie in other files into a graph's own.
//!
//! A runtime that is given such a file copies its weights for each session, and has no name for a part of it that sessions could share;
//! of weights inside it has ([`crate::large_weights`]).

use coracle_model::{ExternalFile, LoadError};

use crate::error::malformed;
use crate::rewrite::{push_field, push_varint};
use crate::tensor_file::{Fields, read_external};
use crate::wire::{Field, Reader};

/// The fields of a file, a graph and a tensor that lead to the weights.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const RAW: u64 = 9;
const EXTERNAL: u64 = 13;
const LOCATION: u64 = 14;

/// Tensors that are tied are named twice, and others once; a file that names its bytes more often is not to become as large as it likes.
const NAMED_MAX: usize = 2;
/// Readers of protobuf take no larger file; what else is written into one takes a part of the rest.
const FILE_BYTES_MAX: usize = (1 << 31) - (16 << 20);

/// Returns the file with the initialisers of its outermost graph that lie in other files; `None` where none does, where that would be more
/// than readers take, or where far more is asked for than these files hold.
///
/// # Errors
/// Kind `Malformed` where the bytes are no sound model, or an initialiser lies in no part of these files.
pub fn with_weights_inside(
    bytes: &[u8],
    files: &[ExternalFile],
) -> Result<Option<Vec<u8>>, LoadError> {
    let n_there = files.iter().map(|file| file.bytes.len());
    let n_there = n_there.fold(0_usize, usize::saturating_add);
    let mut n_wanted = 0_usize;
    for_each_tensor(bytes, |tensor| {
        let part = part_of(Reader::new(tensor), files)?;
        n_wanted = n_wanted.saturating_add(part.map_or(0, <[u8]>::len));
        Ok(())
    })?;
    let size = bytes.len().saturating_add(n_wanted);
    if n_wanted == 0 || n_wanted > n_there.saturating_mul(NAMED_MAX) || size > FILE_BYTES_MAX {
        return Ok(None);
    }
    // Each part gets a tag and its length; tensors and the graph have longer lengths.
    let mut copy = Vec::with_capacity(size.saturating_add(size / 64).saturating_add(64));
    let mut model = Reader::new(bytes);
    while let Some((number, field)) = model.next()? {
        match field {
            Field::Bytes(graph) if number == GRAPH => {
                push_message(&mut copy, number, |copy| push_graph(copy, graph, files))?;
            }
            field => push_field(&mut copy, number, field),
        }
    }
    Ok(Some(copy))
}

/// Looks at the initialisers of the outermost graph.
fn for_each_tensor<'b>(
    bytes: &'b [u8],
    mut look: impl FnMut(&'b [u8]) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let mut model = Reader::new(bytes);
    while let Some((number, field)) = model.next()? {
        if number != GRAPH {
            continue;
        }
        let mut graph = field.message()?;
        while let Some((number, field)) = graph.next()? {
            if number == INITIALIZER {
                look(field.bytes()?)?;
            }
        }
    }
    Ok(())
}

/// Returns where in other files a tensor lies, if it does.
fn part_of<'f>(
    mut tensor: Reader<'_>,
    files: &'f [ExternalFile],
) -> Result<Option<&'f [u8]>, LoadError> {
    let mut fields = Fields::default();
    let mut is_external = false;
    while let Some((number, field)) = tensor.next()? {
        match number {
            EXTERNAL => read_external(field.message()?, &mut fields)?,
            LOCATION => is_external = field.int()? == 1,
            _ => {}
        }
    }
    if !is_external {
        return Ok(None);
    }
    let location = fields.location.unwrap_or_default();
    let file = files.iter().find(|file| file.location == location);
    let rest = file.and_then(|file| {
        let offset = usize::try_from(fields.offset).ok()?;
        file.bytes.get(offset..)
    });
    let part = rest.and_then(|rest| match fields.length {
        Some(length) => rest.get(..usize::try_from(length).ok()?),
        None => Some(rest),
    });
    let no_part = || malformed("a tensor lies in no part of the files that were read");
    Ok(Some(part.ok_or_else(no_part)?))
}

fn push_graph(copy: &mut Vec<u8>, graph: &[u8], files: &[ExternalFile]) -> Result<(), LoadError> {
    let mut graph = Reader::new(graph);
    while let Some((number, field)) = graph.next()? {
        match field {
            Field::Bytes(tensor) if number == INITIALIZER => {
                push_message(copy, number, |copy| push_tensor(copy, tensor, files))?;
            }
            field => push_field(copy, number, field),
        }
    }
    Ok(())
}

fn push_tensor(copy: &mut Vec<u8>, tensor: &[u8], files: &[ExternalFile]) -> Result<(), LoadError> {
    let part = part_of(Reader::new(tensor), files)?;
    let mut tensor = Reader::new(tensor);
    while let Some((number, field)) = tensor.next()? {
        if part.is_none() || !matches!(number, RAW | EXTERNAL | LOCATION) {
            push_field(copy, number, field);
        }
    }
    if let Some(part) = part {
        push_field(copy, RAW, Field::Bytes(part));
    }
    Ok(())
}

/// Appends a message that `write` appends the contents of: they may be large, and are written once.
fn push_message(
    copy: &mut Vec<u8>,
    number: u64,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    push_varint(copy, number.wrapping_shl(3) | 2);
    let place = copy.len();
    write(copy)?;
    let mut length = Vec::new();
    let n_bytes = copy.len().saturating_sub(place);
    push_varint(&mut length, u64::try_from(n_bytes).unwrap_or(u64::MAX));
    copy.splice(place..place, length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coracle_model::LoadErrorKind;

    use super::*;
    use crate::rewrite::push;

    fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, content) in fields {
            push(&mut bytes, *number, content);
        }
        bytes
    }

    /// A tensor of `w.bin`, from an offset on.
    fn outside(name: &str, place: &[(&str, &str)]) -> Vec<u8> {
        let mut tensor = vec![1 << 3, 2, 2 << 3, 1];
        push(&mut tensor, 8, name.as_bytes());
        for (key, value) in place {
            let entry = message(&[(1, key.as_bytes()), (2, value.as_bytes())]);
            push(&mut tensor, EXTERNAL, &entry);
        }
        tensor.extend([0x70, 1]);
        tensor
    }

    fn inside(name: &str, raw: &[u8]) -> Vec<u8> {
        let mut tensor = vec![1 << 3, 2, 2 << 3, 1];
        push(&mut tensor, 8, name.as_bytes());
        push(&mut tensor, RAW, raw);
        tensor
    }

    fn file(tensors: &[Vec<u8>]) -> Vec<u8> {
        let mut graph = message(&[(2, b"a graph")]);
        for tensor in tensors {
            push(&mut graph, INITIALIZER, tensor);
        }
        push(&mut graph, 11, b"\x0a\x01x");
        let mut bytes = vec![1 << 3, 8];
        push(&mut bytes, GRAPH, &graph);
        push(&mut bytes, 8, &[2 << 3, 17]);
        bytes
    }

    fn files(bytes: &[u8]) -> Vec<ExternalFile> {
        vec![ExternalFile {
            location: "w.bin".to_owned(),
            bytes: Arc::from(bytes),
        }]
    }

    #[test]
    fn tensors_of_other_files_are_in_the_one_and_all_else_is_as_it_was() {
        let weights: Vec<u8> = (0..200).collect();
        let large = vec![7; 300];
        let plain = inside("b", &large);
        let location = ("location", "w.bin");
        let tensors = [
            outside("a", &[location, ("offset", "2"), ("length", "8")]),
            plain.clone(),
            outside("c", &[location, ("offset", "10")]),
        ];
        let bytes = with_weights_inside(&file(&tensors), &files(&weights));
        let expected = [
            inside("a", &weights[2..10]),
            plain,
            inside("c", &weights[10..]),
        ];
        assert_eq!(bytes.unwrap().unwrap(), file(&expected));
    }

    #[test]
    fn what_is_inside_is_left_and_what_is_nowhere_is_an_error() {
        let weights = [1; 16];
        assert_eq!(
            with_weights_inside(&file(&[inside("a", &weights[..8])]), &[]).unwrap(),
            None
        );
        let of = |place: &[(&str, &str)]| {
            let graph = file(&["a", "b", "c"].map(|name| outside(name, place)));
            with_weights_inside(&graph, &files(&weights))
        };
        let location = ("location", "w.bin");
        // Each asks for all there is: three times as much as there is.
        assert_eq!(of(&[location]).unwrap(), None);
        assert!(of(&[location, ("length", "8")]).unwrap().is_some());
        for place in [
            &[location, ("offset", "17")][..],
            &[location, ("offset", "9"), ("length", "8")],
            &[
                location,
                ("offset", "18446744073709551615"),
                ("length", "1"),
            ],
            &[("location", "other.bin")],
            &[],
        ] {
            let error = of(place).unwrap_err();
            assert_eq!(error.kind(), LoadErrorKind::Malformed, "{place:?}");
        }
    }

    #[test]
    fn damaged_files_are_errors_or_files() {
        let location = ("location", "w.bin");
        let tensors = [
            outside("a", &[location, ("offset", "2"), ("length", "8")]),
            inside("b", &[1; 8]),
            outside("c", &[location, ("offset", "10")]),
        ];
        let (sound, files) = (file(&tensors), files(&[3; 40]));
        let longest = sound.len() + 2 * 40 + 64;
        let check = |bytes: &[u8]| {
            if let Ok(Some(copy)) = with_weights_inside(bytes, &files) {
                assert!(copy.len() <= longest, "{} bytes", copy.len());
            }
        };
        for place in 0..sound.len() {
            check(&sound[..place]);
            for bit in 0..8 {
                let mut damaged = sound.clone();
                damaged[place] ^= 1 << bit;
                check(&damaged);
            }
        }
    }
}
