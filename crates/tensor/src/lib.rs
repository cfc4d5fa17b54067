//! What flows through Coracle: datatypes, tensors, and views of tables.
//!
//! Knows nothing of models, files or wires. Start at [`Tensor`].

mod bounds;
mod byte_strings;
mod dtype;
mod elements;
mod frame;
mod rows;
mod sparse_rows;
mod stack;
mod table;
mod tensor;

pub use bounds::{RANK_MAX, bounded_count};
pub use byte_strings::ByteStrings;
pub use dtype::DType;
pub use elements::{Elements, Number};
pub use frame::{Frame, OwnedColumn};
pub use half::{bf16, f16};
pub use rows::Rows;
pub use sparse_rows::SparseRows;
pub use stack::{split, stack};
pub use table::{Cell, Column, Columns, Table};
pub use tensor::{ShapeError, Tensor, Values};
