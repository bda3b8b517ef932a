//! By how much two levels of the memory ledger may differ.
//!
//! The levels are formula, the cache's own account, exact heap bytes, and resident pages.

/// Bytes by which the formula, the cache's own account and the heap may differ: 0.1 %, or 4 KiB if that is more.
pub fn heap_margin(bytes: u64) -> u64 {
    (bytes / 1000).max(4 << 10)
}

/// Bytes by which resident pages may differ from the heap: 1 %, or 1 MiB if that is more.
pub fn resident_margin(bytes: u64) -> u64 {
    (bytes / 100).max(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_margin_holds() {
        assert_eq!((heap_margin(0), heap_margin(4 << 20), heap_margin(1 << 30)), (4096, 4194, 1_073_741));
        assert_eq!((resident_margin(0), resident_margin(1 << 30)), (1 << 20, 10_737_418));
    }
}
