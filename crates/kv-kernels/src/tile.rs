//! A tile of attention: the queries of a few tokens against a share of the keys of one KV head.
//!
//! For each query row `r` of the tile:
//!
//! ```text
//! for each block of up to KEYS keys:
//!     scores[j]  = q[r] · key[j]                     for the visible j, −∞ for the others
//!     largest'   = max(largest, max scores)
//!     weights[j] = 2^(scores[j] − largest')
//!     out        = out · 2^(largest − largest') + Σ weights[j] · value[j]
//!     total      = total · 2^(largest − largest') + Σ weights[j]
//! out / total
//! ```
//!
//! The queries are scaled by `log2 e / √key_dim`, so that powers of two equal powers of e of the unscaled scores.
//!
//! A block is a list of encoded rows at any addresses, so that small pages need no more softmax passes than one
//! long run. A [`Fold`] processes a block after it is scored.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use crate::key_block::{KEYS, KeyBlock, Segment};
use crate::lanes::{Kernel, Lanes};
use crate::queries::Queries;
use crate::schedule::Keys;
use crate::{HeadShape, Mask, Part, Run, read_bytes};

pub(crate) struct Tile<'a> {
    pub(crate) shape: HeadShape,
    pub(crate) kv_head: usize,
    /// Position of the step's first query.
    pub(crate) first_query: usize,
    pub(crate) parts: &'a [Part<'a>],
    /// The index of each run's first key among all keys.
    pub(crate) keys: &'a Keys,
    /// The tokens of the step whose queries are in this tile.
    pub(crate) tokens: Range<usize>,
    /// The keys that the tile attends to, as indexes into all runs of all parts.
    pub(crate) share: Range<usize>,
}

/// Processes a block of scored keys.
pub(crate) trait Fold {
    /// What of a token it reads beside the key.
    const READS: Reads;

    /// Takes `[rows, KEYS]` scores. The first `block.len()` of each row are set.
    ///
    /// Must be `#[inline(always)]`. The keys of `next` follow those of `block`.
    fn fold<L: Lanes>(&mut self, lanes: L, tile: &Tile<'_>, block: &mut KeyBlock<'_>, next: &KeyBlock<'_>, scores: &mut [f32]);
}

/// The rows of a token that a tile reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Keys,
    KeysAndValues,
}

/// Scores a tile's keys block by block.
pub(crate) struct Walk<'a, F> {
    pub(crate) tile: &'a Tile<'a>,
    pub(crate) fold: F,
}

impl<F: Fold> Kernel for Walk<'_, F> {
    type Output = F;

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) -> F {
        let tile = self.tile;
        // Whole vectors of queries are scored at a time. A vector holds at most four queries.
        let mut scores = vec![0.0; tile.rows().next_multiple_of(4) * KEYS];
        // A block is scored when the next one is full, so that the next block's rows can be prefetched.
        let (mut filling, mut full) = (KeyBlock::new(tile.shape), KeyBlock::new(tile.shape));
        let mut read = 0;
        for (part, first_keys) in tile.parts.iter().zip(&tile.keys.firsts) {
            let queries = tile.queries(part);
            let first = first_keys.partition_point(|first| *first <= tile.share.start).saturating_sub(1);
            for (run, first_key) in part.runs.iter().zip(first_keys).skip(first) {
                if *first_key >= tile.share.end {
                    break;
                }
                let mut tokens = tile.visible(part.mask, run, *first_key);
                while !tokens.is_empty() {
                    let most = tokens.len().min(KEYS - filling.len());
                    let stretch = run.stretch(tile.shape, tokens.start..tokens.start + most);
                    let count = stretch.tokens;
                    read += stretch.bytes(tile.shape, F::READS);
                    filling.push(tile.shape, tile.kv_head, stretch, first_key + tokens.start);
                    tokens.start += count;
                    if filling.len() == KEYS {
                        self.finish(lanes, part.mask, &queries, &mut full, &filling, &mut scores);
                        std::mem::swap(&mut filling, &mut full);
                    }
                }
            }
            self.finish(lanes, part.mask, &queries, &mut full, &filling, &mut scores);
            std::mem::swap(&mut filling, &mut full);
            self.finish(lanes, part.mask, &queries, &mut full, &filling, &mut scores);
        }
        read_bytes::add(read);
        self.fold
    }
}

impl<F: Fold> Walk<'_, F> {
    #[inline(always)]
    fn finish<L: Lanes>(
        &mut self,
        lanes: L,
        mask: Mask,
        queries: &Queries,
        block: &mut KeyBlock<'_>,
        next: &KeyBlock<'_>,
        scores: &mut [f32],
    ) {
        if block.len() == 0 {
            return;
        }
        block.score(lanes, queries, scores);
        // A tile of a single token contains only keys that the token sees.
        if self.tile.tokens.len() > 1 {
            for segment in block.segments() {
                self.tile.mask_scores(mask, segment, scores);
            }
        }
        self.fold.fold(lanes, self.tile, block, next, scores);
        block.clear();
    }
}

impl Tile<'_> {
    /// Query rows of the tile: its tokens times the query heads per KV head.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len() * self.shape.group()
    }

    /// Writes the tile's result, `[tokens, group, width]`, to its place in the step's result, `[tokens, heads, width]`.
    pub(crate) fn scatter(&self, width: usize, result: &[f32], out: &mut [f32]) {
        let group = self.shape.group();
        for (token, rows) in self.tokens.clone().zip(result.chunks_exact(group * width)) {
            let first = (token * self.shape.heads + self.kv_head * group) * width;
            out[first..first + rows.len()].copy_from_slice(rows);
        }
    }

    /// The tile's part of one number per query, `[tokens, heads]`.
    pub(crate) fn gather(&self, all: &[f32]) -> Vec<f32> {
        let group = self.shape.group();
        self.tokens.clone().flat_map(|token| &all[token * self.shape.heads + self.kv_head * group..][..group]).copied().collect()
    }

    /// The tile's query rows, `[tokens · group, key_dim]`, scaled so that scores are base-2 exponents.
    fn queries(&self, part: &Part<'_>) -> Queries {
        let HeadShape { heads, key_dim, .. } = self.shape;
        let group = self.shape.group();
        let scale = LOG2_E / (key_dim as f32).sqrt();
        let mut rows = Vec::with_capacity(self.rows() * key_dim);
        for token in self.tokens.clone() {
            let queries = &part.queries[(token * heads + self.kv_head * group) * key_dim..][..group * key_dim];
            rows.extend(queries.iter().map(|query| query * scale));
        }
        Queries::new(key_dim, rows)
    }

    /// The tokens of a run that are in the tile's share and that at least one of its queries sees, as indexes into the
    /// run. `first_key` is the index of the run's first key among all keys.
    fn visible(&self, mask: Mask, run: &Run<'_>, first_key: usize) -> Range<usize> {
        let last_query = self.first_query + self.tokens.end - 1;
        let end = (last_query + 1).saturating_sub(run.first_position()).min(run.tokens(self.shape));
        let start = match mask {
            Mask::Causal => 0,
            Mask::Window(window) => (self.first_query + self.tokens.start + 1).saturating_sub(window).saturating_sub(run.first_position()),
        };
        let end = end.min(self.share.end.saturating_sub(first_key));
        start.max(self.share.start.saturating_sub(first_key)).min(end)..end
    }

    /// Sets the scores of keys that a row must not see to −∞.
    #[inline(always)]
    fn mask_scores(&self, mask: Mask, segment: &Segment<'_>, scores: &mut [f32]) {
        let group = self.shape.group();
        for (row, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
            let scores = &mut scores[segment.columns.clone()];
            let query = self.first_query + self.tokens.start + row / group;
            let end = (query + 1).saturating_sub(segment.first_position).min(scores.len());
            let start = match mask {
                Mask::Causal => 0,
                Mask::Window(window) => (query + 1).saturating_sub(window).saturating_sub(segment.first_position).min(end),
            };
            scores[..start].fill(f32::NEG_INFINITY);
            scores[end..].fill(f32::NEG_INFINITY);
        }
    }
}
