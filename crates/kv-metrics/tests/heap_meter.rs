//! The process-wide meter, alone in its process, because it would count the allocations of other tests.

use kv_metrics::{CountingAllocator, HeapMeter};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn the_process_is_counted() {
    live_bytes_and_the_peak();
    calls_and_bytes();
    lent_buffers();
    untouched_buffers();
}

#[expect(clippy::unwrap_used, reason = "a test may panic")]
fn live_bytes_and_the_peak() {
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

fn calls_and_bytes() {
    // What the test's own harness may take and free meanwhile.
    const AROUND: i64 = 64 << 10;
    let meter = HeapMeter::start();
    let first: Vec<u8> = std::hint::black_box(Vec::with_capacity(1 << 20));
    drop(first);
    assert!((meter.peak_bytes() - (1 << 20)).abs() < AROUND, "{}", meter.peak_bytes());
    meter.begin_peak();
    let (calls, bytes) = (meter.allocations(), meter.allocated_bytes());
    let mut second: Vec<u8> = std::hint::black_box(Vec::with_capacity(1 << 18));
    second.reserve_exact(std::hint::black_box(1 << 19));
    assert!((2..100).contains(&(meter.allocations() - calls)), "{}", meter.allocations() - calls);
    // A buffer that grows counts what it grows by.
    let allocated = (meter.allocated_bytes() - bytes) as i64;
    assert!((allocated - (1 << 19)).abs() < AROUND, "{allocated}");
    assert!((meter.live_bytes() - (1 << 19)).abs() < AROUND, "{}", meter.live_bytes());
    assert!(meter.peak_bytes() < 1 << 20, "{}", meter.peak_bytes());
}

fn lent_buffers() {
    const AROUND: i64 = 64 << 10;
    const MIB: i64 = 1 << 20;
    let near = |bytes: i64, expected: i64| assert!((bytes - expected).abs() < AROUND, "{bytes}, not {expected}");
    let meter = HeapMeter::start();
    let mut rows = vec![1u8; 3 << 20];
    rows.truncate(2 << 20);
    meter.lend(&rows);
    // Of the third MiB nobody was told.
    near(meter.own_bytes(), MIB);
    meter.begin_peak();
    let kept = std::hint::black_box(vec![1u8; 4 << 20]);
    drop(rows);
    near(meter.own_peak_bytes(), 5 * MIB);
    near(meter.own_bytes(), 4 * MIB);
    near(meter.live_bytes(), 4 * MIB);
    near(meter.peak_bytes(), 7 * MIB);
    // Whoever resizes a buffer makes it his own.
    let mut taken = vec![1u8; 1 << 20];
    meter.lend(&taken);
    near(meter.own_bytes(), 4 * MIB);
    taken.reserve_exact(2 << 20);
    near(meter.own_bytes(), 7 * MIB);
    drop((kept, taken));
    near(meter.own_bytes(), 0);
}

fn untouched_buffers() {
    const MIB: u64 = 1 << 20;
    let meter = HeapMeter::start();
    let touched = std::hint::black_box(vec![1u8; 8 << 20]);
    let mut reserved: Vec<u8> = Vec::with_capacity(16 << 20);
    reserved.extend(std::iter::repeat_n(1, 4 << 20));
    let Some(untouched) = meter.untouched_bytes() else { return };
    // Pages may be large, and then come several at once.
    assert!(untouched <= 12 * MIB && untouched > 9 * MIB, "{untouched}");
    drop((touched, reserved));
    assert_eq!(meter.untouched_bytes(), Some(0));
}
