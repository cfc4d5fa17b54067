//! Safe reader of pickle, joblib, skops and numpy files into a plain object graph; executes nothing.
//!
//! [`read`] takes the bytes of a file and a [`ClassTable`] of the names that the caller knows, and gives
//! a [`Graph`]: an arena of [`Node`]s with shared identity. Names outside the reader's own closed set
//! and the table make an error that lists them. No name is ever looked up, imported or called: a
//! pickle's `REDUCE` either builds one of a few plain values (an array, a set) or records its arguments.
//!
//! Everything a file declares (lengths, shapes, counts, compressed sizes) is checked against [`Limits`]
//! and against the bytes that are really there, before memory is taken. Nothing recurses over depth
//! that a file chooses. [`read_skops`] reads the archives of skops, [`read_npy`] one `.npy` array, by the same rules.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

mod array;
mod assemble;
mod class_table;
mod container;
mod cursor;
mod dtype;
mod error;
mod globals;
mod graph;
mod json;
mod layout;
mod limits;
mod machine;
mod names;
mod npy;
mod opcode;
mod skops;
mod slot;
mod sparse;
mod text;
mod zip;

pub use array::Array;
pub use class_table::{ClassTable, GlobalForm, KnownGlobal};
pub use dtype::{DTypeKind, Field, NumpyDType};
pub use error::{Error, ErrorKind, UnknownGlobal};
pub use graph::{Container, FileInfo, Graph, Node, NodeId, Object};
pub use limits::Limits;
pub use npy::read_npy;
pub use skops::read_skops;
pub use sparse::SparseMatrix;

/// Reads a pickle or joblib file into a graph.
///
/// `bytes` is the whole file, compressed or not. `table` names the classes and functions that may
/// occur beyond the reader's own set (builtin containers, numpy arrays and scalars, scipy sparse
/// matrices, numpy's random states, joblib's array wrapper).
///
/// # Errors
/// [`ErrorKind::UnknownGlobal`] with every unknown name; [`ErrorKind::Malformed`] where the bytes are
/// no sound file; [`ErrorKind::Unsupported`] for what Python could read and this reader does not;
/// [`ErrorKind::LimitExceeded`] where `limits` forbid it.
pub fn read(bytes: &[u8], table: &ClassTable, limits: &Limits) -> Result<Graph, Error> {
    let (container, pickle) = container::inflate(bytes, limits)?;
    let mut machine = machine::Machine::new(&pickle, table, limits);
    let outcome = machine.read_all();
    machine.refuse_stray_getters(outcome.as_ref().ok().copied())?;
    if !machine.names.unknown.is_empty() {
        // An unknown name says more than whatever else may be wrong with the file.
        return Err(assemble::unknown_globals(
            &machine.slots,
            &machine.names.unknown,
            outcome.ok(),
        ));
    }
    let root = outcome?;
    let info = FileInfo {
        container,
        protocol: machine.protocol,
        joblib: machine.is_joblib,
        skops: None,
        inflated_bytes: pickle.len(),
    };
    let (nodes, root) = assemble::nodes(machine.slots, root)?;
    Ok(Graph { nodes, root, info })
}
