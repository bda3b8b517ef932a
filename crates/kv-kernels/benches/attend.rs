//! Attention of one query over a cache, for every format and layout, in cache bytes read per second.
//!
//! `cargo bench -p kv-kernels` runs all cases, which takes an hour. A filter selects some, for example
//! `cargo bench -p kv-kernels -- q8_0/dim64/group3/8k/contiguous`.
//! Caches of 1k tokens fit in the L2 cache and show the cost of the instructions. Those of 32k do not fit and show the
//! memory bandwidth.

use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kv_kernels::{Format, Formats, HeadShape, KvBlock, KvRing, Mask, PageTable, Part, RowShape, Run, attend};

const FORMATS: [&str; 9] = ["f32", "f16", "bf16", "fp8_e4m3", "q8_0", "q4_1", "q4_0", "kivi4", "kivi2"];
const LAYOUTS: [&str; 4] = ["contiguous", "pages16", "pages64", "window"];
const KV_HEADS: usize = 2;

fn benches(criterion: &mut Criterion) {
    for format in FORMATS {
        for dim in [64, 128] {
            for group in [1, 3, 4, 8] {
                for (tokens, name) in [(1 << 10, "1k"), (8 << 10, "8k"), (32 << 10, "32k")] {
                    for layout in LAYOUTS {
                        let format: Format = format.parse().expect("a format");
                        if format.key_tokens() > 1 && layout != "contiguous" {
                            continue;
                        }
                        let shape = HeadShape { heads: KV_HEADS * group, kv_heads: KV_HEADS, key_dim: dim, value_dim: dim };
                        let mut group = criterion.benchmark_group(format!("{format}/dim{dim}/group{group}/{name}"));
                        group.throughput(Throughput::Bytes((tokens * KV_HEADS * 2 * format.row_bytes(dim)) as u64));
                        // The cache is built only if the filter selects the benchmark.
                        group.bench_function(layout, |bencher| {
                            let cache = Cache::new(shape, format, tokens, layout);
                            let queries = ramp(shape.heads * dim);
                            // Runs on a thread of the pool, like a program that computes there. Handing over work from
                            // outside costs more than a small attention.
                            rayon::scope(|_| {
                                bencher.iter(|| {
                                    let part = Part { queries: black_box(&queries), mask: Mask::Causal, runs: cache.runs() };
                                    attend(shape, tokens - 1, &[part])
                                });
                            });
                        });
                        group.finish();
                    }
                }
            }
        }
    }
}

/// Blocks, and what of them is read.
#[derive(Debug)]
struct Cache {
    blocks: Vec<KvBlock>,
    layout: Layout,
}

#[derive(Debug)]
enum Layout {
    /// The slots of the first block, oldest first.
    Slots([Range<usize>; 2]),
    /// Pages of so many tokens, one after the other in all blocks.
    Pages { page_tokens: usize, tokens: usize },
}

const SLAB_TOKENS: usize = 256;

impl PageTable for Cache {
    fn page(&self, index: usize) -> (&KvBlock, usize) {
        let Layout::Pages { page_tokens, .. } = self.layout else { unreachable!("asked for pages only") };
        let first = index * page_tokens;
        (&self.blocks[first / SLAB_TOKENS], first % SLAB_TOKENS)
    }
}

impl Cache {
    fn new(shape: HeadShape, format: Format, tokens: usize, layout: &str) -> Cache {
        let row = RowShape { heads: shape.kv_heads, key_dim: shape.key_dim, value_dim: shape.value_dim };
        let formats = Formats::both(format);
        let keys = ramp(tokens * row.heads * row.key_dim);
        if layout == "window" {
            let mut ring = KvRing::new(row, formats, tokens);
            ring.push(tokens, &keys, &keys);
            ring.drop_oldest(tokens / 2);
            let half = &keys[..keys.len() / 2];
            ring.push(tokens / 2, half, half);
            return Cache { blocks: vec![ring.block().clone()], layout: Layout::Slots(ring.slots()) };
        }
        let (slab, layout) = match layout {
            "pages16" => (SLAB_TOKENS, Layout::Pages { page_tokens: 16, tokens }),
            "pages64" => (SLAB_TOKENS, Layout::Pages { page_tokens: 64, tokens }),
            _ => (tokens, Layout::Slots([0..tokens, 0..0])),
        };
        let blocks = (0..tokens).step_by(slab).map(|first| {
            let mut block = KvBlock::new(row, formats, slab);
            let rows = &keys[first * row.heads * row.key_dim..][..slab * row.heads * row.key_dim];
            block.write(0..slab, 0..row.heads, rows, rows);
            block
        });
        Cache { blocks: blocks.collect(), layout }
    }

    fn runs(&self) -> Vec<Run<'_>> {
        match &self.layout {
            Layout::Slots([older, newer]) => [(older, 0), (newer, older.len())]
                .map(|(slots, first_position)| Run::Block { block: &self.blocks[0], first_head: 0, slots: slots.clone(), first_position })
                .into(),
            Layout::Pages { page_tokens, tokens } => {
                vec![Run::Pages { table: self, page_tokens: *page_tokens, tokens: *tokens, first_head: 0, first_position: 0 }]
            }
        }
    }
}

/// Values in −1 … 1 that do not repeat soon.
fn ramp(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

criterion_group! {
    name = attention;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    targets = benches
}
criterion_main!(attention);
