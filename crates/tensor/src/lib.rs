//! What flows through Coracle: datatypes, tensors, and views of tables.
//!
//! Knows nothing of models, files or wires. Start at [`Tensor`].

mod byte_strings;
mod dtype;
mod rows;
mod tensor;

pub use byte_strings::ByteStrings;
pub use dtype::DType;
pub use half::{bf16, f16};
pub use rows::Rows;
pub use tensor::{ShapeError, Tensor, Values};
