//! A tile of attention: the queries of a few tokens against a share of the keys of one KV head.
//!
//! In plain words, for each query row `r` of the tile:
//!
//! ```text
//! for each block of up to KEYS keys:
//!     scores[j]  = q[r] · key[j]                     for the visible j, −∞ for the others
//!     largest'   = max(largest, max scores)
//!     weights[j] = exp(scores[j] − largest')
//!     out        = out · exp(largest − largest') + Σ weights[j] · value[j]
//!     total      = total · exp(largest − largest') + Σ weights[j]
//! out / total
//! ```
//!
//! What differs below: a block is filled from as many runs as it takes, so that small pages cost no more
//! softmaxes than one long run; keys in another format than `f32` are decoded once for the whole tile, into
//! scratch that stays in the first-level cache; query rows go four at a time, so that a loaded key or value
//! serves four of them. The vector width is `pulp`'s, chosen at run time.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::products::{KEYS, Strided, add_values, score_rows};
use crate::softmax::{State, soften};
use crate::{Format, HeadShape, Mask, Part, Run};

pub(crate) struct Tile<'a> {
    pub(crate) shape: HeadShape,
    pub(crate) kv_head: usize,
    /// Position of the step's first query.
    pub(crate) first_query: usize,
    pub(crate) parts: &'a [Part<'a>],
    /// The step's tokens whose queries are this tile's.
    pub(crate) tokens: Range<usize>,
    /// The keys it attends to, as indexes into all runs of all parts together.
    pub(crate) share: Range<usize>,
}

impl Tile<'_> {
    /// Query rows (tokens × the KV head's query heads) a tile aims at.
    pub(crate) const ROWS: usize = 32;

    /// Writes the tile's result, `[tokens, group, value_dim]`, to its place in the step's output.
    pub(crate) fn scatter(&self, result: &[f32], out: &mut [f32]) {
        let HeadShape { heads, value_dim, .. } = self.shape;
        let group = self.shape.group();
        for (token, rows) in self.tokens.clone().zip(result.chunks_exact(group * value_dim)) {
            let first = (token * heads + self.kv_head * group) * value_dim;
            out[first..first + rows.len()].copy_from_slice(rows);
        }
    }

    /// The tile's query rows `[tokens · group, key_dim]`, scaled.
    fn queries(&self, part: &Part<'_>) -> Vec<f32> {
        let HeadShape { heads, key_dim, .. } = self.shape;
        let group = self.shape.group();
        let scale = 1.0 / (key_dim as f32).sqrt();
        (self.tokens.clone())
            .flat_map(|token| &part.queries[(token * heads + self.kv_head * group) * key_dim..][..group * key_dim])
            .map(|query| query * scale)
            .collect()
    }
}

/// Consecutive tokens of a run whose scores lie in a block, from column `at` on.
struct Piece<'a> {
    run: &'a Run<'a>,
    tokens: Range<usize>,
    at: usize,
}

impl WithSimd for &Tile<'_> {
    type Output = State;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> State {
        let HeadShape { key_dim, value_dim, .. } = self.shape;
        let rows = self.tokens.len() * self.shape.group();
        let mut state = State::new(rows, value_dim);
        let mut scores = vec![0.0; rows * KEYS];
        let mut scratch = vec![];
        let mut pieces: Vec<Piece<'_>> = vec![];
        let mut first_key = 0;
        for part in self.parts {
            let queries = self.queries(part);
            let mut filled = 0;
            for run in &part.runs {
                let mut tokens = self.visible(part.mask, run, first_key);
                first_key += run.tokens(self.shape);
                while !tokens.is_empty() {
                    let count = tokens.len().min(KEYS - filled);
                    let piece = Piece { run, tokens: tokens.start..tokens.start + count, at: filled };
                    let keys = run.keys(self.shape, self.kv_head, piece.tokens.clone(), &mut scratch);
                    score_rows(simd, &queries, &keys, count, key_dim, &mut scores[filled..]);
                    self.mask_scores(part.mask, &piece, &mut scores);
                    pieces.push(piece);
                    filled += count;
                    tokens.start += count;
                    if filled == KEYS {
                        self.fold(simd, &pieces, filled, &mut scores, &mut scratch, &mut state);
                        pieces.clear();
                        filled = 0;
                    }
                }
            }
            if filled > 0 {
                self.fold(simd, &pieces, filled, &mut scores, &mut scratch, &mut state);
                pieces.clear();
            }
        }
        state
    }
}

impl Tile<'_> {
    /// Folds a block of scored keys into the state.
    #[inline(always)]
    fn fold<S: Simd>(&self, simd: S, pieces: &[Piece<'_>], filled: usize, scores: &mut [f32], scratch: &mut Vec<f32>, state: &mut State) {
        soften(filled, scores, state);
        for Piece { run, tokens, at } in pieces {
            let values = run.values(self.shape, self.kv_head, tokens.clone(), scratch);
            add_values(simd, &scores[*at..], &values, tokens.len(), state.value_dim, &mut state.out);
        }
    }

    /// The tokens of a run that are in the tile's share and that at least one of its queries may see, as
    /// indexes into the run; `first_key` is the run's first token among all.
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

    /// Sets the scores of keys that a row may not see to −∞.
    #[inline(always)]
    fn mask_scores(&self, mask: Mask, piece: &Piece<'_>, scores: &mut [f32]) {
        let group = self.shape.group();
        let count = piece.tokens.len();
        let first_key = piece.run.first_position() + piece.tokens.start;
        for (row, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
            let scores = &mut scores[piece.at..piece.at + count];
            let query = self.first_query + self.tokens.start + row / group;
            let end = (query + 1).saturating_sub(first_key).min(count);
            let start = match mask {
                Mask::Causal => 0,
                Mask::Window(window) => (query + 1).saturating_sub(window).saturating_sub(first_key).min(end),
            };
            scores[..start].fill(f32::NEG_INFINITY);
            scores[end..].fill(f32::NEG_INFINITY);
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn keys<'s>(&'s self, shape: HeadShape, kv_head: usize, tokens: Range<usize>, scratch: &'s mut Vec<f32>) -> Strided<'s> {
        match self {
            Run::Block { block, first_head, slots, .. } => {
                let bytes = block.key_bytes(first_head + kv_head, slots.start + tokens.start..slots.start + tokens.end);
                decoded(block.formats().keys, shape.key_dim, tokens.len(), bytes, scratch)
            }
            Run::Rows { keys, .. } => strided(keys, shape.kv_heads, kv_head, shape.key_dim, tokens),
        }
    }

    #[inline(always)]
    fn values<'s>(&'s self, shape: HeadShape, kv_head: usize, tokens: Range<usize>, scratch: &'s mut Vec<f32>) -> Strided<'s> {
        match self {
            Run::Block { block, first_head, slots, .. } => {
                let bytes = block.value_bytes(first_head + kv_head, slots.start + tokens.start..slots.start + tokens.end);
                decoded(block.formats().values, shape.value_dim, tokens.len(), bytes, scratch)
            }
            Run::Rows { values, .. } => strided(values, shape.kv_heads, kv_head, shape.value_dim, tokens),
        }
    }
}

#[inline(always)]
fn decoded<'s>(format: Format, dim: usize, tokens: usize, bytes: &'s [u8], scratch: &'s mut Vec<f32>) -> Strided<'s> {
    if format.is_exact() {
        return Strided { rows: bytemuck::cast_slice(bytes), stride: dim };
    }
    scratch.resize(tokens * dim, 0.0);
    format.decode_rows(dim, bytes, scratch);
    Strided { rows: scratch, stride: dim }
}

#[inline(always)]
fn strided(rows: &[f32], kv_heads: usize, kv_head: usize, dim: usize, tokens: Range<usize>) -> Strided<'_> {
    let stride = kv_heads * dim;
    let first = tokens.start * stride + kv_head * dim;
    let end = (tokens.end - 1) * stride + (kv_head + 1) * dim;
    Strided { rows: &rows[first..end], stride }
}
