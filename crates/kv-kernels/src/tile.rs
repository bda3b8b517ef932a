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

use crate::exponential::exp_in_place;
use crate::{Format, HeadShape, Mask, Part, Run};

/// Keys that are scored before their values are added up.
const KEYS: usize = 64;
/// Query rows that share a loaded key: four rows by two keys fill half of AVX2's sixteen registers.
const TOGETHER: usize = 4;

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

/// The softmax of every row of a tile over the keys folded in so far.
#[derive(Debug)]
pub(crate) struct State {
    value_dim: usize,
    largest: Vec<f32>,
    total: Vec<f32>,
    /// `[rows, value_dim]`, not yet divided by `total`.
    out: Vec<f32>,
}

impl State {
    fn new(rows: usize, value_dim: usize) -> State {
        State { value_dim, largest: vec![f32::NEG_INFINITY; rows], total: vec![0.0; rows], out: vec![0.0; rows * value_dim] }
    }

    /// Folds in the same rows' softmax over other keys. Exact in any order (the attention states of FlashInfer,
    /// arXiv:2501.01005): both are brought to the larger of the two maxima.
    pub(crate) fn merge(&mut self, other: &State) {
        let rows = self.out.chunks_exact_mut(self.value_dim).zip(other.out.chunks_exact(self.value_dim));
        for (row, (out, other_out)) in rows.enumerate() {
            let largest = self.largest[row].max(other.largest[row]);
            if largest == f32::NEG_INFINITY {
                continue;
            }
            let (scale, other_scale) = ((self.largest[row] - largest).exp(), (other.largest[row] - largest).exp());
            self.largest[row] = largest;
            self.total[row] = self.total[row] * scale + other.total[row] * other_scale;
            out.iter_mut().zip(other_out).for_each(|(out, other)| *out = *out * scale + other * other_scale);
        }
    }

    /// The attention, `[rows, value_dim]`.
    pub(crate) fn finish(mut self) -> Vec<f32> {
        for (out, total) in self.out.chunks_exact_mut(self.value_dim).zip(&self.total) {
            let inverse = total.recip();
            out.iter_mut().for_each(|value| *value *= inverse);
        }
        self.out
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

/// Turns scores into weights and folds them into the running softmax; rescales what was added up before.
#[inline(always)]
fn soften(count: usize, scores: &mut [f32], state: &mut State) {
    let rows = scores.chunks_exact_mut(KEYS).zip(&mut state.largest).zip(&mut state.total).zip(state.out.chunks_exact_mut(state.value_dim));
    for (((scores, largest), total), out) in rows {
        let scores = &mut scores[..count];
        let new_largest = reduce(scores, *largest, |a, b| if a > b || a.is_nan() { a } else { b });
        if new_largest == f32::NEG_INFINITY {
            // The row sees nothing of this block, and a weight must be 0, not exp(−∞ + ∞).
            scores.fill(0.0);
            continue;
        }
        scores.iter_mut().for_each(|score| *score -= new_largest);
        exp_in_place(scores);
        if new_largest != *largest {
            let mut shrink = [*largest - new_largest];
            exp_in_place(&mut shrink);
            *total *= shrink[0];
            out.iter_mut().for_each(|value| *value *= shrink[0]);
            *largest = new_largest;
        }
        *total += reduce(scores, 0.0, |a, b| a + b);
    }
}

/// Reduces in eight lanes: one running value would wait for itself at every element.
#[inline(always)]
fn reduce(values: &[f32], start: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut result = rest.iter().fold(start, |result, value| combine(result, *value));
    if let [first, others @ ..] = chunks {
        let mut lanes = *first;
        for chunk in others {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = combine(*lane, *value);
            }
        }
        result = lanes.into_iter().fold(result, &combine);
    }
    result
}

/// Rows of one head, every `stride` values.
struct Strided<'a> {
    rows: &'a [f32],
    stride: usize,
}

impl Strided<'_> {
    #[inline(always)]
    fn row(&self, index: usize, dim: usize) -> &[f32] {
        &self.rows[index * self.stride..index * self.stride + dim]
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

/// `scores[r][j] = queries[r] · keys[j]`.
#[inline(always)]
fn score_rows<S: Simd>(simd: S, queries: &[f32], keys: &Strided<'_>, count: usize, dim: usize, scores: &mut [f32]) {
    for (queries, scores) in queries.chunks(TOGETHER * dim).zip(scores.chunks_mut(TOGETHER * KEYS)) {
        match queries.len() / dim {
            1 => score_together::<S, 1>(simd, queries, keys, count, dim, scores),
            2 => score_together::<S, 2>(simd, queries, keys, count, dim, scores),
            3 => score_together::<S, 3>(simd, queries, keys, count, dim, scores),
            _ => score_together::<S, TOGETHER>(simd, queries, keys, count, dim, scores),
        }
    }
}

#[inline(always)]
fn score_together<S: Simd, const ROWS: usize>(simd: S, queries: &[f32], keys: &Strided<'_>, count: usize, dim: usize, scores: &mut [f32]) {
    let queries = rows_of::<ROWS>(queries, dim, dim);
    let mut key = 0;
    while key + 2 <= count {
        let dots = dot::<S, ROWS, 2>(simd, queries, [keys.row(key, dim), keys.row(key + 1, dim)]);
        for (row, dots) in dots.into_iter().enumerate() {
            scores[row * KEYS + key..row * KEYS + key + 2].copy_from_slice(&dots);
        }
        key += 2;
    }
    if key < count {
        let dots = dot::<S, ROWS, 1>(simd, queries, [keys.row(key, dim)]);
        for (row, [dot]) in dots.into_iter().enumerate() {
            scores[row * KEYS + key] = dot;
        }
    }
}

/// The dot products of every row with every column.
#[inline(always)]
fn dot<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    simd: S,
    rows: [&[f32]; ROWS],
    columns: [&[f32]; COLUMNS],
) -> [[f32; COLUMNS]; ROWS] {
    let rows = vectors_of::<S, ROWS>(rows);
    let columns = vectors_of::<S, COLUMNS>(columns);
    let mut sums = [[simd.splat_f32s(0.0); COLUMNS]; ROWS];
    for i in 0..columns[0].0.len() {
        for c in 0..COLUMNS {
            let column = columns[c].0[i];
            for r in 0..ROWS {
                sums[r][c] = simd.mul_add_f32s(rows[r].0[i], column, sums[r][c]);
            }
        }
    }
    if !columns[0].1.is_empty() {
        for c in 0..COLUMNS {
            let column = simd.partial_load_f32s(columns[c].1);
            for r in 0..ROWS {
                sums[r][c] = simd.mul_add_f32s(simd.partial_load_f32s(rows[r].1), column, sums[r][c]);
            }
        }
    }
    let mut dots = [[0.0; COLUMNS]; ROWS];
    for r in 0..ROWS {
        for c in 0..COLUMNS {
            dots[r][c] = simd.reduce_sum_f32s(sums[r][c]);
        }
    }
    dots
}

// The two below are loops because the closure of an array's `map` is a function of its own, compiled without the
// instruction set that `pulp` chose: a call for each dot product, with its vectors passed through memory.

/// The first rows of `len` values, every `stride` values.
#[inline(always)]
fn rows_of<const ROWS: usize>(values: &[f32], stride: usize, len: usize) -> [&[f32]; ROWS] {
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = &values[index * stride..index * stride + len];
    }
    rows
}

/// Each row as whole vectors and what is left.
#[inline(always)]
fn vectors_of<S: Simd, const ROWS: usize>(rows: [&[f32]; ROWS]) -> [(&[S::f32s], &[f32]); ROWS] {
    let mut vectors: [(&[S::f32s], &[f32]); ROWS] = [(&[], &[]); ROWS];
    for (vectors, row) in vectors.iter_mut().zip(rows) {
        *vectors = S::as_simd_f32s(row);
    }
    vectors
}

/// `out[r] += Σ weights[r][j] · values[j]`.
#[inline(always)]
fn add_values<S: Simd>(simd: S, weights: &[f32], values: &Strided<'_>, count: usize, dim: usize, out: &mut [f32]) {
    for (weights, out) in weights.chunks(TOGETHER * KEYS).zip(out.chunks_mut(TOGETHER * dim)) {
        match out.len() / dim {
            1 => add_together::<S, 1>(simd, weights, values, count, dim, out),
            2 => add_together::<S, 2>(simd, weights, values, count, dim, out),
            3 => add_together::<S, 3>(simd, weights, values, count, dim, out),
            _ => add_together::<S, TOGETHER>(simd, weights, values, count, dim, out),
        }
    }
}

#[inline(always)]
fn add_together<S: Simd, const ROWS: usize>(simd: S, weights: &[f32], values: &Strided<'_>, count: usize, dim: usize, out: &mut [f32]) {
    let weights = rows_of::<ROWS>(weights, KEYS, count);
    let lanes = S::F32_LANES;
    let vectors = dim / lanes;
    let mut vector = 0;
    while vector + 2 <= vectors {
        add_columns::<S, ROWS, 2>(simd, weights, values, count, dim, vector * lanes, out);
        vector += 2;
    }
    if vector < vectors {
        add_columns::<S, ROWS, 1>(simd, weights, values, count, dim, vector * lanes, out);
    }
    for column in vectors * lanes..dim {
        for (row, weights) in weights.iter().enumerate() {
            let sum = weights.iter().enumerate().map(|(j, weight)| weight * values.row(j, dim)[column]).sum::<f32>();
            out[row * dim + column] += sum;
        }
    }
}

/// Adds up `VECTORS` vectors of columns, from `column` on, in registers over all keys.
#[inline(always)]
fn add_columns<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    weights: [&[f32]; ROWS],
    values: &Strided<'_>,
    count: usize,
    dim: usize,
    column: usize,
    out: &mut [f32],
) {
    let width = VECTORS * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (row, sums) in sums.iter_mut().enumerate() {
        let (vectors, _) = S::as_simd_f32s(&out[row * dim + column..row * dim + column + width]);
        sums.copy_from_slice(vectors);
    }
    for j in 0..count {
        let (vectors, _) = S::as_simd_f32s(&values.row(j, dim)[column..column + width]);
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let weight = simd.splat_f32s(weights[j]);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = simd.mul_add_f32s(weight, *vector, *sum);
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        let (vectors, _) = S::as_mut_simd_f32s(&mut out[row * dim + column..row * dim + column + width]);
        vectors.copy_from_slice(&sums);
    }
}
