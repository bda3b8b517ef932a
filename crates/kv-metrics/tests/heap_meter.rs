//! The process-wide meter, alone in its process, because it would count the allocations of other tests.

use kv_metrics::{CountingAllocator, HeapMeter};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn counts_what_is_live_and_the_peak() {
    const MIB: i64 = 1 << 20;
    let meter = HeapMeter::start();
    let mut kept: Vec<u8> = Vec::with_capacity(MIB as usize);
    drop(std::hint::black_box(vec![0u8; 2 * MIB as usize]));
    kept.reserve_exact(3 * MIB as usize);
    std::hint::black_box(&kept);
    let on_another_thread = std::thread::spawn(|| std::hint::black_box(vec![0u8; MIB as usize])).join().unwrap();
    let (live, peak) = (meter.live_bytes(), meter.peak_bytes());
    assert!((live - 4 * MIB).abs() < MIB / 8, "{live} bytes live");
    assert!((peak - 4 * MIB).abs() < MIB / 8, "{peak} bytes at the peak");
    drop((meter, kept, on_another_thread));
    let again = HeapMeter::start();
    assert!(again.live_bytes().abs() < MIB / 8, "a new meter starts at zero");
}
