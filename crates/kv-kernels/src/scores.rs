//! Queries times keys, with the keys decoded in registers. Each key is read once for up to [`TOGETHER`] query rows.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name rows, keys and vectors alike")]

use std::marker::PhantomData;

use crate::codec::{Codec, decode, group_of};
use crate::lanes::{Kernel, Lanes};
use crate::products::TOGETHER;
use crate::queries::Queries;
use crate::rows::{RowList, Rows};

/// `scores[r][j] = queries[r] · keys[j]`.
///
/// # Shapes
/// - keys: rows of `queries.dim` values
/// - scores: `[rows, stride]`. The first `keys.count()` columns are set.
#[inline(always)]
pub(crate) fn score_keys<L: Lanes, C: Codec>(lanes: L, queries: &Queries, keys: Rows<'_>, scores: &mut [f32], stride: usize) {
    let (dim, rows) = (queries.dim, queries.rows());
    assert!(keys.row_bytes() >= C::row_bytes(dim) && dim.is_multiple_of(L::WIDTH), "keys of {} bytes", keys.row_bytes());
    let together = rows.div_ceil(rows.div_ceil(TOGETHER));
    for (queries, scores) in queries.values.chunks(together * dim).zip(scores.chunks_mut(together * stride)) {
        let codec = PhantomData;
        // Takes as many keys at a time as there are registers for their sums.
        match queries.len() / dim {
            1 => lanes.run(ScoreKeys::<C, 1, 8> { queries, dim, keys, scores, stride, codec }),
            2 => lanes.run(ScoreKeys::<C, 2, 4> { queries, dim, keys, scores, stride, codec }),
            3 => lanes.run(ScoreKeys::<C, 3, 4> { queries, dim, keys, scores, stride, codec }),
            _ => {
                // A constant, so that only one of the two kernels is compiled.
                if const { L::REGISTERS == 32 } {
                    lanes.run(ScoreKeys::<C, TOGETHER, 4> { queries, dim, keys, scores, stride, codec });
                } else {
                    lanes.run(ScoreKeys::<C, TOGETHER, 2> { queries, dim, keys, scores, stride, codec });
                }
            }
        }
    }
}

struct ScoreKeys<'a, C, const ROWS: usize, const KEYS: usize> {
    queries: &'a [f32],
    dim: usize,
    keys: Rows<'a>,
    scores: &'a mut [f32],
    stride: usize,
    codec: PhantomData<C>,
}

impl<C: Codec, const ROWS: usize, const KEYS: usize> Kernel for ScoreKeys<'_, C, ROWS, KEYS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let mut key = 0;
        while key + KEYS <= self.keys.count() {
            self.score::<L, KEYS>(lanes, key);
            key += KEYS;
        }
        while key < self.keys.count() {
            self.score::<L, 1>(lanes, key);
            key += 1;
        }
    }
}

impl<C: Codec, const ROWS: usize, const KEYS: usize> ScoreKeys<'_, C, ROWS, KEYS> {
    /// Scores `COUNT` keys, starting with key `first`.
    #[inline(always)]
    fn score<L: Lanes, const COUNT: usize>(&mut self, lanes: L, first: usize) {
        let group_values = group_of::<C>(self.dim);
        let queries = self.queries[..ROWS * self.dim].as_ptr();
        let keys = self.keys.several::<COUNT>(first);
        self.keys.ahead().prefetch::<L, COUNT>(lanes, first);
        let mut sums = [[lanes.splat(0.0); COUNT]; ROWS];
        for group in 0..self.dim / group_values {
            let mut scales = [(lanes.splat(0.0), lanes.splat(0.0)); COUNT];
            for k in 0..COUNT {
                // SAFETY: `score_keys` checked that each key has the bytes of `dim` values.
                scales[k] = unsafe { C::scale(lanes, keys[k], group) };
            }
            let mut at = 0;
            while at < group_values {
                for k in 0..COUNT {
                    // SAFETY: as above; `at` and the group are multiples of the width.
                    let key = unsafe { decode::<L, C>(lanes, keys[k], group, at, scales[k]) };
                    for r in 0..ROWS {
                        // SAFETY: `ROWS` queries of `dim` values were sliced.
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
        let mut scores = [[0.0; COUNT]; ROWS];
        for r in (0..ROWS).step_by(4 / COUNT) {
            let mut four = [lanes.splat(0.0); 4];
            for (i, sum) in four.iter_mut().enumerate() {
                if r + i / COUNT < ROWS {
                    *sum = sums[r + i / COUNT][i % COUNT];
                }
            }
            for (i, sum) in lanes.sums(four).into_iter().enumerate() {
                if r + i / COUNT < ROWS {
                    scores[r + i / COUNT][i % COUNT] = sum;
                }
            }
        }
        for r in 0..ROWS {
            self.scores[r * self.stride + first..][..COUNT].copy_from_slice(&scores[r]);
        }
    }
}
