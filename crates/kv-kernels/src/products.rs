//! The two products of attention, queries with keys and weights with values, over encoded rows.
//!
//! Both read each row once for up to [`TOGETHER`] query rows, decode it in registers and keep their sums there.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name rows, keys and vectors alike")]

use std::marker::PhantomData;

use crate::codec::{Channels, Codec, decode, group_of};
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
pub(crate) fn score_keys<L: Lanes, C: Codec>(lanes: L, queries: &[f32], dim: usize, keys: Rows<'_>, scores: &mut [f32], stride: usize) {
    keys.check();
    let rows = queries.len() / dim;
    let together = rows.div_ceil(rows.div_ceil(TOGETHER));
    for (queries, scores) in queries.chunks(together * dim).zip(scores.chunks_mut(together * stride)) {
        assert!(scores.len() >= (queries.len() / dim - 1) * stride + keys.rows.len(), "room for the scores");
        let Rows { rows: keys, ahead, .. } = keys;
        // As many keys at a time as there are registers for their sums.
        match queries.len() / dim {
            1 => lanes.run(ScoreKeys::<C, 1, 8> { queries, dim, keys, ahead, scores, stride, codec: PhantomData }),
            2 => lanes.run(ScoreKeys::<C, 2, 4> { queries, dim, keys, ahead, scores, stride, codec: PhantomData }),
            3 => lanes.run(ScoreKeys::<C, 3, 4> { queries, dim, keys, ahead, scores, stride, codec: PhantomData }),
            _ if L::REGISTERS == 32 => {
                lanes.run(ScoreKeys::<C, TOGETHER, 4> { queries, dim, keys, ahead, scores, stride, codec: PhantomData })
            }
            _ => lanes.run(ScoreKeys::<C, TOGETHER, 2> { queries, dim, keys, ahead, scores, stride, codec: PhantomData }),
        }
    }
}

/// `out[r] += Σ weights[r][j] · rows[j]`.
///
/// # Shapes
/// - weights: `[r, weight_stride]`, of which the first `rows.count()` columns are read
/// - rows: rows of `dim` encoded values
/// - out: `[r, out_stride]`, to whose first `dim` columns is added
#[inline(always)]
pub(crate) fn add_rows<L: Lanes, C: Codec>(
    lanes: L,
    weights: &[f32],
    weight_stride: usize,
    rows: impl RowList,
    dim: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    rows.check();
    let all = out.len() / out_stride;
    let together = all.div_ceil(all.div_ceil(TOGETHER));
    for (weights, out) in weights.chunks(together * weight_stride).zip(out.chunks_mut(together * out_stride)) {
        assert!(weights.len() >= (out.len() / out_stride - 1) * weight_stride + rows.count(), "a weight a row");
        let codec = PhantomData::<C>;
        match out.len() / out_stride {
            1 => lanes.run(AddRows::<C, _, 1> { weights, weight_stride, rows, dim, out, out_stride, codec }),
            2 => lanes.run(AddRows::<C, _, 2> { weights, weight_stride, rows, dim, out, out_stride, codec }),
            3 => lanes.run(AddRows::<C, _, 3> { weights, weight_stride, rows, dim, out, out_stride, codec }),
            _ => lanes.run(AddRows::<C, _, TOGETHER> { weights, weight_stride, rows, dim, out, out_stride, codec }),
        }
    }
}

/// Rows that are added up.
pub(crate) trait RowList: Copy {
    fn count(&self) -> usize;
    /// Panics if a row has not the bytes it should have.
    fn check(&self);
    /// The `index`th row, which must be less than the count.
    fn row(&self, index: usize) -> *const u8;
    /// Rows that will be read next.
    fn ahead(&self) -> &[&[u8]];
}

/// Encoded rows, wherever they lie.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) rows: &'a [&'a [u8]],
    /// Bytes that each has.
    pub(crate) row_bytes: usize,
    /// Rows that will be read next, each asked for from memory while one of `rows` is read.
    pub(crate) ahead: &'a [&'a [u8]],
}

/// Asks for a row from memory. Pages and rings are runs too short for the machine to notice that it should, and
/// asked for all at once, rows would keep others waiting.
#[inline(always)]
fn prefetch<L: Lanes>(lanes: L, rows: &[&[u8]], index: usize) {
    const LINE: usize = 64;
    if let Some(row) = rows.get(index) {
        for at in (0..row.len()).step_by(LINE) {
            lanes.prefetch(row.as_ptr().wrapping_add(at));
        }
    }
}

impl RowList for Rows<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.rows.len()
    }

    #[inline(always)]
    fn check(&self) {
        for row in self.rows {
            assert!(row.len() == self.row_bytes, "a row of {} bytes", row.len());
        }
    }

    #[inline(always)]
    fn row(&self, index: usize) -> *const u8 {
        self.rows[index].as_ptr()
    }

    #[inline(always)]
    fn ahead(&self) -> &[&[u8]] {
        self.ahead
    }
}

/// Rows one after the other.
#[derive(Clone, Copy)]
pub(crate) struct RowsInARow<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) row_bytes: usize,
    pub(crate) count: usize,
}

impl RowList for RowsInARow<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn check(&self) {
        assert!(self.bytes.len() == self.count * self.row_bytes, "{} rows of {} bytes", self.count, self.row_bytes);
    }

    #[inline(always)]
    fn row(&self, index: usize) -> *const u8 {
        self.bytes.as_ptr().wrapping_add(index * self.row_bytes)
    }

    #[inline(always)]
    fn ahead(&self) -> &[&[u8]] {
        &[]
    }
}

struct ScoreKeys<'a, C, const ROWS: usize, const KEYS: usize> {
    queries: &'a [f32],
    dim: usize,
    keys: &'a [&'a [u8]],
    ahead: &'a [&'a [u8]],
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
        let group_values = group_of::<C>(self.dim);
        let queries = self.queries.as_ptr();
        let mut keys = [std::ptr::null(); COUNT];
        for (pointer, key) in keys.iter_mut().zip(&self.keys[first..first + COUNT]) {
            *pointer = key.as_ptr();
        }
        for k in 0..COUNT {
            prefetch(lanes, self.ahead, first + k);
        }
        let mut sums = [[lanes.splat(0.0); COUNT]; ROWS];
        for group in 0..self.dim / group_values {
            let mut scales = [(lanes.splat(0.0), lanes.splat(0.0)); COUNT];
            for k in 0..COUNT {
                // SAFETY: `RowList::check` saw that each key has the bytes of `dim` values.
                scales[k] = unsafe { C::scale(lanes, keys[k], group) };
            }
            let mut at = 0;
            while at < group_values {
                for k in 0..COUNT {
                    // SAFETY: as above; `at` is a multiple of the width, of which the group is a multiple.
                    let key = unsafe { decode::<L, C>(lanes, keys[k], group, at, scales[k]) };
                    for r in 0..ROWS {
                        // SAFETY: there are `ROWS` queries of `dim` values.
                        let query = unsafe { queries.add(r * self.dim + group * group_values + at) };
                        // SAFETY: as above.
                        let query = unsafe { lanes.load_f32(query.cast()) };
                        sums[r][k] = lanes.mul_add(query, key, sums[r][k]);
                    }
                }
                at += L::WIDTH;
            }
        }
        if COUNT.is_multiple_of(4) {
            for r in 0..ROWS {
                for k in (0..COUNT).step_by(4) {
                    let four = lanes.sums([sums[r][k], sums[r][k + 1], sums[r][k + 2], sums[r][k + 3]]);
                    self.scores[r * self.stride + first + k..][..4].copy_from_slice(&four);
                }
            }
            return;
        }
        for r in (0..ROWS).step_by(4 / COUNT) {
            let mut four = [lanes.splat(0.0); 4];
            for (i, sum) in four.iter_mut().enumerate() {
                if r + i / COUNT < ROWS {
                    *sum = sums[r + i / COUNT][i % COUNT];
                }
            }
            for (i, sum) in lanes.sums(four).into_iter().enumerate() {
                if r + i / COUNT < ROWS {
                    self.scores[(r + i / COUNT) * self.stride + first + i % COUNT] = sum;
                }
            }
        }
    }
}

struct AddRows<'a, C, R, const ROWS: usize> {
    weights: &'a [f32],
    weight_stride: usize,
    rows: R,
    dim: usize,
    out: &'a mut [f32],
    out_stride: usize,
    codec: PhantomData<C>,
}

impl<C: Codec, R: RowList, const ROWS: usize> Kernel for AddRows<'_, C, R, ROWS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let vectors = self.dim / L::WIDTH;
        let mut vector = 0;
        // The sums, a weight a row, and what a vector is decoded with must fit in registers.
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

impl<C: Codec, R: RowList, const ROWS: usize> AddRows<'_, C, R, ROWS> {
    /// Adds up `VECTORS` vectors of columns from the vector `first` on, in registers over all rows.
    #[inline(always)]
    fn add<L: Lanes, const VECTORS: usize>(&mut self, lanes: L, first: usize) {
        let column = first * L::WIDTH;
        // The columns are part of one group, or several whole ones, since `first` is a multiple of `VECTORS`.
        let groups = (VECTORS * L::WIDTH).checked_div(C::GROUP).unwrap_or(1).max(1);
        let first_group = column.checked_div(C::GROUP).unwrap_or(0);
        let within = column - first_group * C::GROUP;
        let in_group = VECTORS / groups;
        let mut sums = [[lanes.splat(0.0); VECTORS]; ROWS];
        for r in 0..ROWS {
            for v in 0..VECTORS {
                let out = &self.out[r * self.out_stride + column + v * L::WIDTH..][..L::WIDTH];
                // SAFETY: `WIDTH` values.
                sums[r][v] = unsafe { lanes.load_f32(out.as_ptr().cast()) };
            }
        }
        for j in 0..self.rows.count() {
            let row = self.rows.row(j);
            if first == 0 {
                prefetch(lanes, self.rows.ahead(), j);
            }
            let mut row_weights = [lanes.splat(0.0); ROWS];
            for (r, weight) in row_weights.iter_mut().enumerate() {
                // SAFETY: `add_rows` saw that there is a weight a row for each of `ROWS`.
                let value = unsafe { self.weights.get_unchecked(r * self.weight_stride + j) };
                *weight = lanes.splat(*value);
            }
            for g in 0..groups {
                // SAFETY: `RowList::check` saw that each row has the bytes of `dim` values.
                let scale = unsafe { C::scale(lanes, row, first_group + g) };
                for i in 0..in_group {
                    // SAFETY: as above; a vector lies in one group.
                    let vector = unsafe { decode::<L, C>(lanes, row, first_group + g, within + i * L::WIDTH, scale) };
                    for r in 0..ROWS {
                        let sum = &mut sums[r][g * in_group + i];
                        *sum = lanes.mul_add(row_weights[r], vector, *sum);
                    }
                }
            }
        }
        for r in 0..ROWS {
            for v in 0..VECTORS {
                let out = &mut self.out[r * self.out_stride + column + v * L::WIDTH..][..L::WIDTH];
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
        let group_values = group_of::<C>(self.dim);
        for (row, decoded) in self.rows.iter().zip(self.decoded.chunks_exact_mut(self.dim)) {
            for (group, decoded) in decoded.chunks_exact_mut(group_values).enumerate() {
                // SAFETY: `RowList::check` saw that each row has the bytes of `dim` values.
                let scale = unsafe { C::scale(lanes, row.as_ptr(), group) };
                for (index, decoded) in decoded.chunks_exact_mut(L::WIDTH).enumerate() {
                    // SAFETY: as above.
                    let vector = unsafe { decode::<L, C>(lanes, row.as_ptr(), group, index * L::WIDTH, scale) };
                    // SAFETY: `WIDTH` values.
                    unsafe { lanes.store(vector, decoded.as_mut_ptr()) };
                }
            }
        }
    }
}

/// `scaled[r][c] = queries[r][c] · scales[c]`, and for each row `Σ queries[r][c] · minima[c]`.
///
/// # Shapes
/// - queries, scaled: `[rows, dim]`
/// - scales, minima: a half a channel
/// - sums: `[rows]`
#[inline(always)]
pub(crate) fn scale_queries<L: Lanes>(lanes: L, queries: &[f32], channels: &Channels<'_>, scaled: &mut Vec<f32>, sums: &mut [f32]) {
    let Channels { scales, minima, .. } = *channels;
    let dim = scales.len() / 2;
    assert!(minima.len() == scales.len() && dim.is_multiple_of(L::WIDTH), "{dim} channels");
    scaled.resize(queries.len(), 0.0);
    lanes.run(ScaleQueries { queries, scales, minima, dim, scaled, sums });
}

struct ScaleQueries<'a> {
    queries: &'a [f32],
    scales: &'a [u8],
    minima: &'a [u8],
    dim: usize,
    scaled: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for ScaleQueries<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let rows = self.queries.chunks_exact(self.dim).zip(self.scaled.chunks_exact_mut(self.dim)).zip(self.sums);
        for ((queries, scaled), sum) in rows {
            let mut total = lanes.splat(0.0);
            let vectors = queries.chunks_exact(L::WIDTH).zip(scaled.chunks_exact_mut(L::WIDTH));
            let halves = self.scales.chunks_exact(2 * L::WIDTH).zip(self.minima.chunks_exact(2 * L::WIDTH));
            for ((query, scaled), (scale, minimum)) in vectors.zip(halves) {
                // SAFETY: `WIDTH` values.
                let query = unsafe { lanes.load_f32(query.as_ptr().cast()) };
                // SAFETY: `WIDTH` halves.
                let scale = unsafe { lanes.load_f16(scale.as_ptr()) };
                // SAFETY: `WIDTH` halves.
                let minimum = unsafe { lanes.load_f16(minimum.as_ptr()) };
                // SAFETY: `WIDTH` values.
                unsafe { lanes.store(lanes.mul(query, scale), scaled.as_mut_ptr()) };
                total = lanes.mul_add(query, minimum, total);
            }
            let zero = lanes.splat(0.0);
            [*sum, ..] = lanes.sums([total, zero, zero, zero]);
        }
    }
}
