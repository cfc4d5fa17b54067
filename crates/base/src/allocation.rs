//! What memory costs beyond the bytes that were asked for.

/// Returns what an allocation of `n_bytes` takes: with its header, rounded up as the common allocators do; nothing for none.
#[must_use]
pub fn allocation_bytes(n_bytes: usize) -> usize {
    /// The header of an allocation.
    const HEADER: usize = 8;
    const UNIT: usize = 16;
    const LEAST: usize = 32;
    match n_bytes {
        0 => 0,
        n => n
            .saturating_add(HEADER)
            .checked_next_multiple_of(UNIT)
            .unwrap_or(usize::MAX)
            .max(LEAST),
    }
}

/// Returns what the standard library's hash table takes for entries of type `T`, with room for `capacity` of them.
#[must_use]
pub fn hash_table_bytes<T>(capacity: usize) -> usize {
    if capacity == 0 {
        return 0;
    }
    // Powers of two, of which seven eighths are used, and a byte of control for each.
    let n_places = capacity
        .saturating_mul(8)
        .div_ceil(7)
        .checked_next_power_of_two()
        .unwrap_or(usize::MAX)
        .max(4);
    allocation_bytes(n_places.saturating_mul(size_of::<T>().saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_allocations_cost_more_than_their_bytes() {
        let sizes = [0, 1, 24, 25, 40, 41, 1_000];
        assert_eq!(sizes.map(allocation_bytes), [0, 32, 32, 48, 48, 64, 1_008]);
        assert_eq!(allocation_bytes(usize::MAX), usize::MAX);
    }

    #[test]
    fn hash_tables_have_places_that_are_never_used() {
        assert_eq!(hash_table_bytes::<u64>(0), 0);
        let table: std::collections::HashMap<u64, u64> = (0..1_000).map(|key| (key, key)).collect();
        // 2,048 places for up to 1,792 entries.
        assert_eq!(
            hash_table_bytes::<(u64, u64)>(table.capacity()),
            allocation_bytes(2_048 * 17)
        );
    }
}
