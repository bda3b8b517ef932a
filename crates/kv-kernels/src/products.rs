//! The two products of attention, queries with keys and weights with values, on whichever vectors there are.

use pulp::Simd;

/// Keys that are scored before their values are added up.
pub(crate) const KEYS: usize = 64;
/// Query rows that share a loaded key: four rows by two keys fill half of AVX2's sixteen registers.
const TOGETHER: usize = 4;

/// Rows of one head, every `stride` values.
pub(crate) struct Strided<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) stride: usize,
}

impl Strided<'_> {
    #[inline(always)]
    fn row(&self, index: usize, dim: usize) -> &[f32] {
        &self.rows[index * self.stride..index * self.stride + dim]
    }
}

/// `scores[r][j] = queries[r] · keys[j]`.
#[inline(always)]
pub(crate) fn score_rows<S: Simd>(simd: S, queries: &[f32], keys: &Strided<'_>, count: usize, dim: usize, scores: &mut [f32]) {
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
pub(crate) fn add_values<S: Simd>(simd: S, weights: &[f32], values: &Strided<'_>, count: usize, dim: usize, out: &mut [f32]) {
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
