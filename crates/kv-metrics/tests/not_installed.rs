//! A program that installs no counting allocator, alone in its process.

use kv_metrics::{HeapMeter, counts_allocations};

#[test]
fn a_program_without_the_allocator_is_told_so() {
    let meter = HeapMeter::start();
    let kept = std::hint::black_box(vec![1u8; 1 << 20]);
    assert!(!counts_allocations());
    assert_eq!(meter.live_bytes(), 0, "nothing is counted");
    drop(kept);
}
