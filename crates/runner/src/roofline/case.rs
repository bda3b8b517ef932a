//! Keys and values of several layers in a format and a layout.

use std::fmt;
use std::ops::Range;

use kv_kernels::{Format, Formats, HeadShape, KvBlock, KvRing, Mask, Part, RowShape, Run, attend};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Where the tokens of a sequence lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A run a layer.
    Contiguous,
    /// Pages of a number of tokens, each with all layers, taken from a pool one after the other.
    Paged(usize),
    /// The same, from a pool that others have used: in no order.
    Scattered(usize),
    /// A ring a layer that has wrapped round.
    Window,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layout::Contiguous => f.write_str("contiguous"),
            Layout::Paged(tokens) => write!(f, "paged {tokens}"),
            Layout::Scattered(tokens) => write!(f, "scattered {tokens}"),
            Layout::Window => f.write_str("window"),
        }
    }
}

/// What one case reads: enough that a visit takes milliseconds.
const LEAST_BYTES: usize = 64 << 20;

/// A cache of random keys and values, and queries for it.
pub(crate) struct Case {
    shape: HeadShape,
    layers: usize,
    tokens: usize,
    format: Format,
    layout: Layout,
    storage: Storage,
    queries: Vec<f32>,
}

enum Storage {
    /// One a layer.
    Blocks(Vec<KvBlock>),
    /// Slabs of pages with all layers, and the slab and first slot of each page in the order of the tokens.
    Pages { slabs: Vec<KvBlock>, page_size: usize, pages: Vec<(usize, usize)> },
    /// One a layer.
    Rings(Vec<KvRing>),
}

/// Tokens of the slabs in which pages lie, as a pool takes them.
const SLAB_TOKENS: usize = 1024;

impl Case {
    /// Every format contiguously, and every format of single rows in pages and as a window.
    pub(crate) fn all(shape: HeadShape, layers: usize, tokens: usize) -> Vec<Case> {
        let formats: Vec<Format> = FORMATS.iter().map(|name| name.parse().expect("a known format")).collect();
        let formats = formats.into_iter().filter(|format| Formats::both(*format).check_dims(shape.key_dim, shape.value_dim).is_ok());
        let layouts = [Layout::Contiguous, Layout::Paged(16), Layout::Paged(64), Layout::Scattered(16), Layout::Window];
        let cases = formats.flat_map(|format| layouts.map(|layout| (format, layout)));
        let possible: Vec<_> = cases.filter(|(format, layout)| format.key_tokens() == 1 || *layout == Layout::Contiguous).collect();
        possible.into_par_iter().map(|(format, layout)| Case::new(shape, layers, tokens, format, layout)).collect()
    }

    fn new(shape: HeadShape, layers: usize, tokens: usize, format: Format, layout: Layout) -> Case {
        let formats = Formats::both(format);
        let tokens = tokens.next_multiple_of(format.key_tokens());
        let row = RowShape { heads: shape.kv_heads, key_dim: shape.key_dim, value_dim: shape.value_dim };
        let layers = LEAST_BYTES.div_ceil(layer_bytes(shape, tokens, format)).clamp(1, layers);
        let mut random = Random(ChaCha8Rng::seed_from_u64(1));
        // Values that differ from layer to layer would take longer to draw than to measure.
        let keys = random.values(tokens * row.heads * row.key_dim);
        let values = random.values(tokens * row.heads * row.value_dim);
        let rows = |tokens: Range<usize>| {
            let of = |dim: usize| tokens.start * row.heads * dim..tokens.end * row.heads * dim;
            (&keys[of(row.key_dim)], &values[of(row.value_dim)])
        };
        let storage = match layout {
            Layout::Contiguous => Storage::Blocks(
                (0..layers)
                    .map(|_| {
                        let mut block = KvBlock::new(row, formats, tokens);
                        block.write(0..tokens, 0..row.heads, &keys, &values);
                        block
                    })
                    .collect(),
            ),
            Layout::Paged(page_size) | Layout::Scattered(page_size) => {
                let slab_shape = RowShape { heads: layers * row.heads, ..row };
                let slab_count = tokens.div_ceil(SLAB_TOKENS);
                let mut slabs: Vec<KvBlock> = (0..slab_count).map(|_| KvBlock::new(slab_shape, formats, SLAB_TOKENS)).collect();
                let slots = (0..slab_count).flat_map(|slab| (0..SLAB_TOKENS).step_by(page_size).map(move |slot| (slab, slot)));
                let mut pages: Vec<(usize, usize)> = slots.take(tokens.div_ceil(page_size)).collect();
                if layout == Layout::Scattered(page_size) {
                    random.shuffle(&mut pages);
                }
                for ((slab, slot), first) in pages.iter().zip((0..tokens).step_by(page_size)) {
                    let held = first..(first + page_size).min(tokens);
                    let (keys, values) = rows(held.clone());
                    for layer in 0..layers {
                        slabs[*slab].write(*slot..slot + held.len(), layer * row.heads..(layer + 1) * row.heads, keys, values);
                    }
                }
                Storage::Pages { slabs, page_size, pages }
            }
            Layout::Window => Storage::Rings(
                (0..layers)
                    .map(|_| {
                        let mut ring = KvRing::new(row, formats, tokens);
                        ring.push(tokens, &keys, &values);
                        ring.drop_oldest(tokens / 2);
                        let (keys, values) = rows(0..tokens / 2);
                        ring.push(tokens / 2, keys, values);
                        ring
                    })
                    .collect(),
            ),
        };
        let queries = random.values(shape.heads * shape.key_dim);
        Case { shape, layers, tokens, format, layout, storage, queries }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn format(&self) -> String {
        self.format.to_string()
    }

    /// Encoded bytes that attention reads in a layer.
    pub(crate) fn layer_bytes(&self) -> usize {
        layer_bytes(self.shape, self.tokens, self.format)
    }

    /// One token's attention in every layer; how many layers there are.
    pub(crate) fn attend_all_layers(&mut self) -> usize {
        for layer in 0..self.layers {
            let part = Part { queries: &self.queries, mask: Mask::Causal, runs: self.runs(layer) };
            // The query is the newest token's: it sees all.
            let attention = attend(self.shape, self.tokens - 1, &[part]);
            std::hint::black_box(attention);
        }
        self.layers
    }

    fn runs(&self, layer: usize) -> Vec<Run<'_>> {
        match &self.storage {
            Storage::Blocks(blocks) => vec![Run::Block { block: &blocks[layer], first_head: 0, slots: 0..self.tokens, first_position: 0 }],
            Storage::Pages { slabs, page_size, pages } => {
                let runs = pages.iter().zip((0..self.tokens).step_by(*page_size)).map(|((slab, slot), first_position)| Run::Block {
                    block: &slabs[*slab],
                    first_head: layer * self.shape.kv_heads,
                    slots: *slot..slot + page_size.min(&(self.tokens - first_position)),
                    first_position,
                });
                runs.collect()
            }
            Storage::Rings(rings) => {
                let [older, newer] = rings[layer].slots();
                let block = rings[layer].block();
                let newer_position = older.len();
                vec![
                    Run::Block { block, first_head: 0, slots: older, first_position: 0 },
                    Run::Block { block, first_head: 0, slots: newer, first_position: newer_position },
                ]
            }
        }
    }
}

/// What is measured: every format of ggml's group, and KIVI's.
const FORMATS: [&str; 9] = ["f32", "f16", "bf16", "fp8_e4m3", "q8_0", "q4_1", "q4_0", "kivi4", "kivi2"];

fn layer_bytes(shape: HeadShape, tokens: usize, format: Format) -> usize {
    tokens * shape.kv_heads * (format.row_bytes(shape.key_dim) + format.row_bytes(shape.value_dim))
}

struct Random(ChaCha8Rng);

impl Random {
    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.0.random_range(-1.0..1.0)).collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.0.random_range(0..=last));
        }
    }
}
