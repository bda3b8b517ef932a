//! The two products of attention, queries with keys and weights with values, over encoded rows.
//!
//! Both read each row once for up to [`TOGETHER`] query rows, decode it in registers and keep their sums there.

use std::marker::PhantomData;

use crate::codec::{Codec, values};
use crate::lanes::{Kernel, Lanes};

/// Query rows that share a decoded vector.
pub(crate) const TOGETHER: usize = 4;

/// `scores[r][j] = queries[r] · keys[j]`.
///
/// # Shapes
/// - queries: `[rows, dim]`
/// - keys: rows of `dim` values encoded in `row_bytes` bytes
/// - scores: `[rows, stride]`, of which the first `keys.len()` columns are written
#[inline(always)]
pub(crate) fn score_keys<L: Lanes, C: Codec>(
    lanes: L,
    queries: &[f32],
    dim: usize,
    keys: Rows<'_>,
    scores: &mut [f32],
    stride: usize,
) {
    keys.check();
    let rows = queries.len() / dim;
    let together = rows.div_ceil(rows.div_ceil(TOGETHER));
    for (queries, scores) in queries.chunks(together * dim).zip(scores.chunks_mut(together * stride)) {
        assert!(scores.len() >= (queries.len() / dim - 1) * stride + keys.rows.len(), "room for the scores");
        let keys = keys.rows;
        // As many keys at a time as there are registers for the sums, with the keys themselves and a query beside them.
        match queries.len() / dim {
            1 => lanes.run(ScoreKeys::<C, 1, 8> { queries, dim, keys, scores, stride, codec: PhantomData }),
            2 => lanes.run(ScoreKeys::<C, 2, 4> { queries, dim, keys, scores, stride, codec: PhantomData }),
            3 if L::REGISTERS == 32 => lanes.run(ScoreKeys::<C, 3, 4> { queries, dim, keys, scores, stride, codec: PhantomData }),
            3 => lanes.run(ScoreKeys::<C, 3, 2> { queries, dim, keys, scores, stride, codec: PhantomData }),
            _ if L::REGISTERS == 32 => lanes.run(ScoreKeys::<C, TOGETHER, 4> { queries, dim, keys, scores, stride, codec: PhantomData }),
            _ => lanes.run(ScoreKeys::<C, TOGETHER, 2> { queries, dim, keys, scores, stride, codec: PhantomData }),
        }
    }
}

/// `out[r] += Σ weights[r][j] · rows[j]`.
///
/// # Shapes
/// - weights: `[r, weight_stride]`, of which the first `rows.len()` columns are read
/// - rows: rows of `dim` values encoded in `row_bytes` bytes
/// - out: `[r, dim]`
#[inline(always)]
pub(crate) fn add_rows<L: Lanes, C: Codec>(
    lanes: L,
    weights: &[f32],
    weight_stride: usize,
    rows: Rows<'_>,
    dim: usize,
    out: &mut [f32],
) {
    rows.check();
    let all = out.len() / dim;
    let together = all.div_ceil(all.div_ceil(TOGETHER));
    for (weights, out) in weights.chunks(together * weight_stride).zip(out.chunks_mut(together * dim)) {
        assert!(weights.len() >= (out.len() / dim - 1) * weight_stride + rows.rows.len(), "a weight a row");
        let rows = rows.rows;
        match out.len() / dim {
            1 => lanes.run(AddRows::<C, 1> { weights, weight_stride, rows, dim, out, codec: PhantomData }),
            2 => lanes.run(AddRows::<C, 2> { weights, weight_stride, rows, dim, out, codec: PhantomData }),
            3 => lanes.run(AddRows::<C, 3> { weights, weight_stride, rows, dim, out, codec: PhantomData }),
            _ => lanes.run(AddRows::<C, TOGETHER> { weights, weight_stride, rows, dim, out, codec: PhantomData }),
        }
    }
}

/// Encoded rows, wherever they lie.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) rows: &'a [&'a [u8]],
    /// Bytes that each has.
    pub(crate) row_bytes: usize,
}

impl Rows<'_> {
    /// What the kernels rely on when they read a row through a pointer.
    #[inline(always)]
    fn check(&self) {
        for row in self.rows {
            assert!(row.len() == self.row_bytes, "a row of {} bytes", row.len());
        }
    }
}

struct ScoreKeys<'a, C, const ROWS: usize, const KEYS: usize> {
    queries: &'a [f32],
    dim: usize,
    keys: &'a [&'a [u8]],
    scores: &'a mut [f32],
    stride: usize,
    codec: PhantomData<C>,
}

impl<C: Codec, const ROWS: usize, const KEYS: usize> Kernel for ScoreKeys<'_, C, ROWS, KEYS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let mut key = 0;
        while key + KEYS <= self.keys.len() {
            self.score::<L, KEYS>(lanes, key);
            key += KEYS;
        }
        while key < self.keys.len() {
            self.score::<L, 1>(lanes, key);
            key += 1;
        }
    }
}

impl<C: Codec, const ROWS: usize, const KEYS: usize> ScoreKeys<'_, C, ROWS, KEYS> {
    /// Scores `COUNT` keys from `first` on.
    #[inline(always)]
    fn score<L: Lanes, const COUNT: usize>(&mut self, lanes: L, first: usize) {
        let group_values = values::<L, C>();
        let queries = self.queries.as_ptr();
        let mut keys = [std::ptr::null(); COUNT];
        for (pointer, key) in keys.iter_mut().zip(&self.keys[first..first + COUNT]) {
            *pointer = key.as_ptr();
        }
        let mut sums = [[lanes.splat(0.0); COUNT]; ROWS];
        for group in 0..self.dim / group_values {
            // SAFETY: `Rows::check` saw that each key has the bytes of `dim` values.
            let mut scales = [unsafe { C::scale(lanes, keys[0], group) }; COUNT];
            for k in 1..COUNT {
                // SAFETY: as above.
                scales[k] = unsafe { C::scale(lanes, keys[k], group) };
            }
            let mut at = 0;
            while at < group_values {
                let mut vectors = [lanes.splat(0.0); COUNT];
                for k in 0..COUNT {
                    // SAFETY: as above; `at` is a multiple of the width, of which the group is a multiple.
                    vectors[k] = unsafe { C::load(lanes, keys[k], group, at, scales[k]) };
                }
                for r in 0..ROWS {
                    // SAFETY: there are `ROWS` queries of `dim` values.
                    let query = unsafe { queries.add(r * self.dim + group * group_values + at) };
                    // SAFETY: as above.
                    let query = unsafe { lanes.load_f32(query.cast()) };
                    for k in 0..COUNT {
                        sums[r][k] = lanes.mul_add(query, vectors[k], sums[r][k]);
                    }
                }
                at += L::WIDTH;
            }
        }
        let mut index = 0;
        while index < ROWS * COUNT {
            let mut four = [lanes.splat(0.0); 4];
            for (i, vector) in four.iter_mut().enumerate() {
                if index + i < ROWS * COUNT {
                    *vector = sums[(index + i) / COUNT][(index + i) % COUNT];
                }
            }
            for (i, sum) in lanes.sums(four).into_iter().enumerate() {
                if index + i < ROWS * COUNT {
                    let (r, k) = ((index + i) / COUNT, (index + i) % COUNT);
                    self.scores[r * self.stride + first + k] = sum;
                }
            }
            index += 4;
        }
    }
}

struct AddRows<'a, C, const ROWS: usize> {
    weights: &'a [f32],
    weight_stride: usize,
    rows: &'a [&'a [u8]],
    dim: usize,
    out: &'a mut [f32],
    codec: PhantomData<C>,
}

impl<C: Codec, const ROWS: usize> Kernel for AddRows<'_, C, ROWS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let vectors = self.dim / L::WIDTH;
        let mut vector = 0;
        // The sums, a weight a row, and a decoded vector with what decodes it must fit in registers.
        while L::REGISTERS >= ROWS * 5 + 6 && vector + 4 <= vectors {
            self.add::<L, 4>(lanes, vector);
            vector += 4;
        }
        while vector + 2 <= vectors {
            self.add::<L, 2>(lanes, vector);
            vector += 2;
        }
        if vector < vectors {
            self.add::<L, 1>(lanes, vector);
        }
    }
}

impl<C: Codec, const ROWS: usize> AddRows<'_, C, ROWS> {
    /// Adds up `VECTORS` vectors of columns from the vector `first` on, in registers over all rows.
    #[inline(always)]
    fn add<L: Lanes, const VECTORS: usize>(&mut self, lanes: L, first: usize) {
        let group_values = values::<L, C>();
        let width = VECTORS * L::WIDTH;
        let column = first * L::WIDTH;
        // The columns are part of one group, or several whole ones, since `first` is a multiple of `VECTORS`.
        let groups = (width / group_values).max(1);
        let in_group = VECTORS / groups;
        let within = column % group_values;
        let mut sums = [[lanes.splat(0.0); VECTORS]; ROWS];
        for r in 0..ROWS {
            for v in 0..VECTORS {
                let out = &self.out[r * self.dim + column + v * L::WIDTH..][..L::WIDTH];
                // SAFETY: `WIDTH` values.
                sums[r][v] = unsafe { lanes.load_f32(out.as_ptr().cast()) };
            }
        }
        let weights = self.weights.as_ptr();
        for (j, row) in self.rows.iter().enumerate() {
            let row = row.as_ptr();
            let mut row_weights = [lanes.splat(0.0); ROWS];
            for (r, weight) in row_weights.iter_mut().enumerate() {
                // SAFETY: `add_rows` saw that there is a weight a row for each of `ROWS`.
                let value = unsafe { *weights.add(r * self.weight_stride + j) };
                *weight = lanes.splat(value);
            }
            for g in 0..groups {
                let group = column / group_values + g;
                // SAFETY: `Rows::check` saw that each row has the bytes of `dim` values.
                let scale = unsafe { C::scale(lanes, row, group) };
                for i in 0..in_group {
                    let at = within + i * L::WIDTH;
                    // SAFETY: as above; `at` is a multiple of the width, of which the group is a multiple.
                    let vector = unsafe { C::load(lanes, row, group, at, scale) };
                    for r in 0..ROWS {
                        let sum = &mut sums[r][g * in_group + i];
                        *sum = lanes.mul_add(row_weights[r], vector, *sum);
                    }
                }
            }
        }
        for r in 0..ROWS {
            for v in 0..VECTORS {
                let out = &mut self.out[r * self.dim + column + v * L::WIDTH..][..L::WIDTH];
                // SAFETY: `WIDTH` values.
                unsafe { lanes.store(sums[r][v], out.as_mut_ptr()) };
            }
        }
    }
}

/// Decodes rows into `decoded`, which becomes `[rows, dim]`.
#[inline(always)]
pub(crate) fn decode_rows<L: Lanes, C: Codec>(lanes: L, dim: usize, rows: Rows<'_>, decoded: &mut Vec<f32>) {
    rows.check();
    decoded.resize(rows.rows.len() * dim, 0.0);
    lanes.run(DecodeRows::<C> { dim, rows: rows.rows, decoded, codec: PhantomData });
}

struct DecodeRows<'a, C> {
    dim: usize,
    rows: &'a [&'a [u8]],
    decoded: &'a mut [f32],
    codec: PhantomData<C>,
}

impl<C: Codec> Kernel for DecodeRows<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let group_values = values::<L, C>();
        for (row, decoded) in self.rows.iter().zip(self.decoded.chunks_exact_mut(self.dim)) {
            for (group, decoded) in decoded.chunks_exact_mut(group_values).enumerate() {
                // SAFETY: `Rows::check` saw that each row has the bytes of `dim` values.
                let scale = unsafe { C::scale(lanes, row.as_ptr(), group) };
                for (index, decoded) in decoded.chunks_exact_mut(L::WIDTH).enumerate() {
                    // SAFETY: as above.
                    let vector = unsafe { C::load(lanes, row.as_ptr(), group, index * L::WIDTH, scale) };
                    // SAFETY: `WIDTH` values.
                    unsafe { lanes.store(vector, decoded.as_mut_ptr()) };
                }
            }
        }
    }
}
