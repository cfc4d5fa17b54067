//! How much of the machine one file may use.

/// Bounds on the reading of one file. All are checked before memory is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The file's size, in bytes. Default 4 GiB.
    pub file_bytes_max: usize,
    /// The size after decompression, in bytes, whatever the ratio. Default 8 GiB.
    pub inflated_bytes_max: usize,
    /// A compressed file may inflate to this many bytes whatever its own size. Default 64 MiB.
    ///
    /// Arrays of zeros compress a thousandfold and more, so a ratio alone would refuse honest small files.
    pub inflated_bytes_free: usize,
    /// Above [`inflated_bytes_free`](Self::inflated_bytes_free), the most bytes out for one byte in. Default 200.
    pub inflation_ratio_max: usize,
    /// Opcodes executed, nested pickles included. Default 1 billion.
    pub opcodes_max: u64,
    /// Items and marks on the stack at one time. Default 16 million.
    pub stack_depth_max: usize,
    /// Entries in the memo, in one pickle. Default 64 million.
    pub memo_entries_max: usize,
    /// Nodes in the graph. Default 64 million; a node takes about 64 bytes.
    pub nodes_max: usize,
    /// Memory for values derived from others (arrays made of bytes, sets made of lists), as bytes for one
    /// byte read. Default 16.
    ///
    /// A file holds what it declares, so only copies of shared values can outgrow it; this bounds them.
    pub derived_bytes_per_byte: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes_max: gib(4),
            inflated_bytes_max: gib(8),
            inflated_bytes_free: 64 << 20,
            inflation_ratio_max: 200,
            opcodes_max: 1_000_000_000,
            stack_depth_max: 1 << 24,
            memo_entries_max: 1 << 26,
            nodes_max: 1 << 26,
            derived_bytes_per_byte: 16,
        }
    }
}

/// Returns `count` GiB, or the whole address space where that is smaller.
fn gib(count: usize) -> usize {
    count.saturating_mul(1 << 30)
}
