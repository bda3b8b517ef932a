//! Large buffers lie in the pages that were asked for, and hold what was written whatever their pages are.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kv_metrics::{BufferPages, CountingAllocator, HeapMeter, LARGE_BUFFER_BYTES, set_buffer_pages};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The sizes around the two limits, of a buffer and of a page.
const SIZES: [usize; 7] = [1000, LARGE_BUFFER_BYTES - 1, LARGE_BUFFER_BYTES, 1_600_000, 2 << 20, (2 << 20) + 1, 9_000_001];

/// KiB of anonymous memory of this process in huge pages. `None` if the system does not say.
fn huge_kib() -> Option<usize> {
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = smaps.lines().find(|line| line.starts_with("AnonHugePages:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn are_offered() -> bool {
    let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    enabled.contains("[madvise]") || enabled.contains("[always]")
}

#[test]
fn buffers_are_whole_in_any_pages() {
    let all = [BufferPages::System, BufferPages::Huge, BufferPages::Small];
    // Freed and resized under other pages than those they were allocated with.
    for (first, second) in all.into_iter().flat_map(|first| all.map(|second| (first, second))) {
        for size in SIZES {
            for other in SIZES {
                set_buffer_pages(first);
                let meter = HeapMeter::start();
                let mut buffer: Vec<u8> = Vec::with_capacity(size);
                buffer.extend((0..size).map(|index| index as u8));
                let zeros = vec![0u8; size];
                set_buffer_pages(second);
                assert!(zeros.iter().all(|byte| *byte == 0), "{first:?} {size}");
                if other < size {
                    buffer.truncate(other);
                    buffer.shrink_to_fit();
                } else {
                    buffer.reserve_exact(other - size);
                }
                assert!(buffer.iter().enumerate().all(|(index, byte)| *byte == index as u8), "{first:?} {second:?} {size} {other}");
                let expected = buffer.capacity() + size;
                assert_eq!(meter.live_bytes(), expected as i64, "{first:?} {second:?} {size} {other}");
                drop((buffer, zeros));
                assert_eq!(meter.live_bytes(), 0);
            }
        }
    }

    if !are_offered() {
        return;
    }
    set_buffer_pages(BufferPages::Huge);
    let before = huge_kib().unwrap();
    // The keys of a layer: less than a huge page.
    let buffers: Vec<Vec<u8>> = (0..8).map(|_| vec![1u8; 1_600_000]).collect();
    let huge = huge_kib().unwrap() - before;
    // The system may be out of huge pages.
    assert!(huge == 0 || huge >= 2048, "{huge} KiB");
    assert!(buffers.iter().all(|buffer| buffer.as_ptr().addr().is_multiple_of(2 << 20)));
    set_buffer_pages(BufferPages::Small);
    let before = huge_kib().unwrap();
    let small = vec![1u8; 64 << 20];
    assert!(huge_kib().unwrap() <= before + 2048, "{}", small.len());
}
