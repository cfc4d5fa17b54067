//! What every Coracle crate may use: the closed list of failures, clocks, byte counts.
//!
//! Uses nothing but the standard library and stays under 1,500 lines. Start at [`Code`].

mod byte_count;
mod clock;
mod code;

pub use byte_count::{ByteCount, ParseByteCountError};
pub use clock::{Clock, ManualClock, SystemClock};
pub use code::Code;
