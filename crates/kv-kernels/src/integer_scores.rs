//! Queries times quantised keys in integers, on machines with integer dot products.
//!
//! A key is `scale · (code − zero) + minimum` in groups of 32, a query a row of factors ([`RoundedQueries`]), so that
//! a group's score is `scale · (Σ factor · code − zero · Σ factor) + minimum · Σ factor` times the query's scale: fewer
//! instructions than decoding to floats and multiplying those takes. The sums are exact; a query is rounded to 16 bits of its
//! largest value, which changes `q · k` by at most `max|q| · Σ|k| / 65024`.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name vectors and keys alike")]

use std::marker::PhantomData;

use crate::codec::{HALF, KeyCodec};
use crate::group_heads::{GroupHeads, TOGETHER};
use crate::lanes::{IntegerDots, IntegerKernel, Lanes};
use crate::queries::{Queries, RoundedQueries};
use crate::rows::{RowList, Rows};

/// Vectors of queries that share a key's codes.
const VECTORS: usize = 2;

/// As [`score_keys`](crate::scores::score_keys) for at most [`KEYS`](crate::key_block::KEYS) keys, with the queries rounded.
///
/// # Shapes
/// - scores: `[rows, stride]`, `rows` rounded up to whole vectors of quads
#[inline(always)]
pub(crate) fn score_codes<D: IntegerDots, C: KeyCodec>(
    dots: D,
    queries: &Queries,
    keys: Rows<'_>,
    scores: &mut [f32],
    stride: usize,
    heads: &mut GroupHeads,
) {
    let (dim, rows) = (queries.dim, queries.rows().next_multiple_of(D::QUADS));
    assert!(keys.row_bytes() >= C::row_bytes(dim) && dim.is_multiple_of(RoundedQueries::GROUP), "keys of {} bytes", keys.row_bytes());
    assert!(keys.count() <= stride && (rows - 1) * stride + keys.count() <= scores.len(), "room for the scores of {rows} rows");
    heads.gather::<C>(keys, dim);
    let (queries, heads) = (queries.rounded::<D>(), &*heads);
    let (vectors, groups, codec) = (rows / D::QUADS, dim / RoundedQueries::GROUP, PhantomData::<C>);
    for first_vector in (0..vectors).step_by(VECTORS) {
        let scores = &mut scores[first_vector * D::QUADS * stride..];
        if first_vector + VECTORS <= vectors {
            dots.run(ScoreCodes::<C, VECTORS> { queries, first_vector, groups, keys, heads, scores, stride, codec });
        } else {
            dots.run(ScoreCodes::<C, 1> { queries, first_vector, groups, keys, heads, scores, stride, codec });
        }
    }
}

struct ScoreCodes<'a, C, const VECTORS: usize> {
    queries: &'a RoundedQueries,
    first_vector: usize,
    groups: usize,
    keys: Rows<'a>,
    heads: &'a GroupHeads,
    /// From the first vector's first row on.
    scores: &'a mut [f32],
    stride: usize,
    codec: PhantomData<C>,
}

impl<C: KeyCodec, const VECTORS: usize> IntegerKernel for ScoreCodes<'_, C, VECTORS> {
    #[inline(always)]
    fn run<D: IntegerDots>(self, dots: D) {
        let (fours, rest) = self.keys.fours();
        let whole = TOGETHER * fours.len();
        for (index, keys) in fours.enumerate() {
            let first = TOGETHER * index;
            self.keys.prefetch(dots.lanes(), first..first + TOGETHER);
            let scores = self.score(dots, keys, first);
            for v in 0..VECTORS {
                let to = self.scores[v * D::QUADS * self.stride + first..].as_mut_ptr();
                // SAFETY: `score_codes` saw that there is room for every vector's rows.
                unsafe { dots.store_quads(scores[v], to, self.stride) };
            }
        }
        let Some(keys) = rest else { return };
        let scores = self.score(dots, keys, whole);
        for v in 0..VECTORS {
            let mut last = [[0.0; TOGETHER]; MOST_QUADS];
            // SAFETY: four places for each quad.
            unsafe { dots.store_quads(scores[v], last.as_mut_ptr().cast(), TOGETHER) };
            for (quad, last) in last[..D::QUADS].iter().enumerate() {
                let row = (v * D::QUADS + quad) * self.stride;
                let count = self.keys.count();
                self.scores[row + whole..row + count].copy_from_slice(&last[..count - whole]);
            }
        }
    }
}

/// Quads of the widest vector.
const MOST_QUADS: usize = 4;

impl<C: KeyCodec, const VECTORS: usize> ScoreCodes<'_, C, VECTORS> {
    /// The scores of four keys, which are `first ..`, a query a quad.
    #[inline(always)]
    fn score<D: IntegerDots>(&self, dots: D, keys: [*const u8; TOGETHER], first: usize) -> [<D::Lanes as Lanes>::F32; VECTORS] {
        let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
        let group_factors = D::QUADS * RoundedQueries::GROUP;
        let places = self.first_vector * self.groups..(self.first_vector + VECTORS) * self.groups;
        let factors = self.queries.factors[places.start * group_factors..places.end * group_factors].as_ptr();
        let factor_sums = self.queries.sums[places.start * width..places.end * width].as_ptr();
        let mut totals = [lanes.splat(0.0); VECTORS];
        for group in 0..self.groups {
            let mut sums = [[dots.zero(); TOGETHER]; VECTORS];
            for k in 0..TOGETHER {
                // SAFETY: `score_codes` saw that each key has the bytes of all groups.
                let codes = unsafe { C::key_codes(dots, keys[k], group) };
                for v in 0..VECTORS {
                    // SAFETY: the factors of these vectors' groups were sliced.
                    let factors = unsafe { dots.load_factors(factors.wrapping_add((v * self.groups + group) * group_factors)) };
                    sums[v][k] = dots.dot(codes, factors);
                }
            }
            // SAFETY: `GroupHeads` has the halves of whole fours of keys.
            let scales = unsafe { dots.load_four_halves(self.heads.scales(group).wrapping_add(first * HALF)) };
            for v in 0..VECTORS {
                // SAFETY: the sums of these vectors' groups were sliced.
                let factor_sums = unsafe { dots.load_sums(factor_sums.wrapping_add((v * self.groups + group) * width)) };
                let sums = dots.quad_sums(sums[v]);
                // A code of 0 is not a value of 0.
                let sums = if C::zero::<D>() == 0 { sums } else { dots.add_times(sums, factor_sums, -C::zero::<D>()) };
                totals[v] = lanes.mul_add(dots.to_floats(sums), scales, totals[v]);
                if C::HAS_OFFSET {
                    // SAFETY: as of the scales.
                    let minima = unsafe { dots.load_four_halves(self.heads.minima(group).wrapping_add(first * HALF)) };
                    totals[v] = lanes.mul_add(dots.to_floats(factor_sums), minima, totals[v]);
                }
            }
        }
        for v in 0..VECTORS {
            let worth = &self.queries.scales[(self.first_vector + v) * width..][..width];
            // SAFETY: a vector of values.
            totals[v] = lanes.mul(totals[v], unsafe { lanes.load_f32(worth.as_ptr().cast()) });
        }
        totals
    }
}
