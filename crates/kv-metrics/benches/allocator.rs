//! What the counting allocator costs: a block is allocated and freed, in each of its modes and by the system's allocator.
//!
//! ```text
//! cargo bench -p kv-metrics
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use kv_metrics::{CountingAllocator, HeapMeter, HeapProfile};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SIZES: [usize; 2] = [64, 4096];

fn pairs(criterion: &mut Criterion, mode: &str, allocator: &impl GlobalAlloc) {
    let mut group = criterion.benchmark_group(mode);
    for size in SIZES {
        let layout = Layout::from_size_align(size, 8).expect("a small layout");
        group.bench_function(format!("{size} bytes"), |bencher| {
            bencher.iter(|| {
                // SAFETY: the layout has a size other than 0.
                let pointer = black_box(unsafe { allocator.alloc(black_box(layout)) });
                // SAFETY: it was allocated just now, with the same layout.
                unsafe { allocator.dealloc(pointer, layout) };
            });
        });
    }
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    pairs(criterion, "system", &System);
    pairs(criterion, "idle", &ALLOCATOR);
    let meter = HeapMeter::start();
    pairs(criterion, "counting", &ALLOCATOR);
    drop(meter);
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let profile = HeapProfile::start(&folder.path().join("dhat-heap.json"));
    pairs(criterion, "profiling", &ALLOCATOR);
    drop(profile);
}

criterion_group!(allocator, benches);
criterion_main!(allocator);
