//! Large buffers lie in the pages that were asked for, and hold what was written whatever their pages are.
use kv_metrics::{BufferPages, CountingAllocator, HeapMeter, LARGE_BUFFER_BYTES, ThreadMeter, set_buffer_pages};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The sizes around the two limits, of a buffer and of a page.
const SIZES: [usize; 7] = [1000, LARGE_BUFFER_BYTES - 1, LARGE_BUFFER_BYTES, 1_600_000, 2 << 20, (2 << 20) + 1, 9_000_001];

/// The flags of the mapping that an address lies in: `hg` if huge pages were asked for, `nh` if they were asked not to be.
fn flags(address: usize) -> Option<Vec<String>> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let mut is_it = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let bound = |text: &str| usize::from_str_radix(text, 16).ok();
        if let Some((start, end)) = range.and_then(|(start, end)| Some((bound(start)?, bound(end)?))) {
            is_it = (start..end).contains(&address);
        } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| is_it) {
            return Some(flags.split_whitespace().map(str::to_owned).collect());
        }
    }
    None
}

#[test]
fn buffers_are_whole_in_any_pages() {
    let all = [BufferPages::System, BufferPages::Huge, BufferPages::Small];
    // Freed and resized under other pages than those they were allocated with.
    for (first, second) in all.into_iter().flat_map(|first| all.map(|second| (first, second))) {
        for size in SIZES {
            for other in SIZES {
                set_buffer_pages(first);
                // One of them allocates as while bytes are counted; the other is not disturbed by the test's own harness.
                let (_counting, meter) = (HeapMeter::start(), ThreadMeter::start());
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

    for (pages, flag) in [(BufferPages::Huge, "hg"), (BufferPages::Small, "nh")] {
        set_buffer_pages(pages);
        // The keys of a layer: less than a huge page.
        let buffers: Vec<Vec<u8>> = (0..8).map(|_| vec![1u8; 1_600_000]).collect();
        for buffer in &buffers {
            let middle = buffer.as_ptr().addr() + buffer.len() / 2;
            // A kernel without huge pages takes no advice.
            let Some(flags) = flags(middle).filter(|_| std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists()) else {
                return;
            };
            assert!(flags.iter().any(|each| each == flag), "{pages:?}: {flags:?}");
        }
        let is_aligned = buffers.iter().all(|buffer| buffer.as_ptr().addr().is_multiple_of(2 << 20));
        assert!(is_aligned || pages == BufferPages::Small);
    }
}
