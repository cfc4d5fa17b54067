//! What every Coracle crate may use: the closed lists of failures and of a version's states, clocks, byte counts, text that is safe to show.
//!
//! Uses nothing but the standard library and stays under 1,500 lines. Start at [`Code`].

mod allocation;
mod byte_count;
mod clock;
mod code;
mod printable;
mod version_state;

pub use allocation::{allocation_bytes, hash_table_bytes};
pub use byte_count::{ByteCount, ParseByteCountError};
pub use clock::{Clock, ManualClock, SystemClock};
pub use code::Code;
pub use printable::Printable;
pub use version_state::VersionState;
