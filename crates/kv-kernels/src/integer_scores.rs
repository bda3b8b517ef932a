//! Queries times quantised keys in integers, on machines with integer dot products.
//!
//! A key is `scale · (code − zero) + minimum` in groups of 32, a query a row of factors ([`RoundedQueries`]), so that
//! a group's score is `scale · (Σ factor · code − zero · Σ factor) + minimum · Σ factor` times the query's scale: fewer
//! instructions than decoding to floats and multiplying those takes. The sums are exact; a query is rounded to 16 bits of its
//! largest value, which changes `q · k` by at most `max|q| · Σ|k| / 65024`.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name vectors and keys alike")]

use std::marker::PhantomData;

use crate::codec::KeyCodec;
use crate::lanes::{IntegerDots, IntegerKernel, Lanes};
use crate::queries::{Queries, RoundedQueries};
use crate::rows::{RowList, Rows};

/// Keys whose scores are added up and put in place together.
const KEYS: usize = 4;
/// Vectors of queries that share a key's codes.
const VECTORS: usize = 2;

/// As [`score_keys`](crate::scores::score_keys), with the queries rounded.
///
/// # Shapes
/// - scores: `[rows, stride]`, `rows` rounded up to whole vectors of quads
#[inline(always)]
pub(crate) fn score_codes<D: IntegerDots, C: KeyCodec>(dots: D, queries: &Queries, keys: Rows<'_>, scores: &mut [f32], stride: usize) {
    let (dim, rows) = (queries.dim, queries.rows().next_multiple_of(D::QUADS));
    assert!(keys.row_bytes() >= C::row_bytes(dim) && dim.is_multiple_of(RoundedQueries::GROUP), "keys of {} bytes", keys.row_bytes());
    assert!(keys.count() <= stride && (rows - 1) * stride + keys.count() <= scores.len(), "room for the scores of {rows} rows");
    let (queries, groups) = (queries.rounded::<D>(), dim / RoundedQueries::GROUP);
    let (vectors, codec) = (rows / D::QUADS, PhantomData::<C>);
    for first_vector in (0..vectors).step_by(VECTORS) {
        let scores = &mut scores[first_vector * D::QUADS * stride..];
        if first_vector + VECTORS <= vectors {
            dots.run(ScoreCodes::<C, VECTORS> { queries, first_vector, groups, keys, scores, stride, codec });
        } else {
            dots.run(ScoreCodes::<C, 1> { queries, first_vector, groups, keys, scores, stride, codec });
        }
    }
}

struct ScoreCodes<'a, C, const VECTORS: usize> {
    queries: &'a RoundedQueries,
    first_vector: usize,
    groups: usize,
    keys: Rows<'a>,
    /// From the first vector's first row on.
    scores: &'a mut [f32],
    stride: usize,
    codec: PhantomData<C>,
}

impl<C: KeyCodec, const VECTORS: usize> IntegerKernel for ScoreCodes<'_, C, VECTORS> {
    #[inline(always)]
    fn run<D: IntegerDots>(self, dots: D) {
        let lanes = dots.lanes();
        let count = self.keys.count();
        let whole = count - count % KEYS;
        let mut scales = [lanes.splat(0.0); VECTORS];
        for v in 0..VECTORS {
            let scales_of_vector = &self.queries.scales[(self.first_vector + v) * D::Lanes::WIDTH..][..D::Lanes::WIDTH];
            // SAFETY: a vector of values.
            scales[v] = unsafe { lanes.load_f32(scales_of_vector.as_ptr().cast()) };
        }
        for first in (0..whole).step_by(KEYS) {
            let keys = self.keys.several::<KEYS>(first);
            self.keys.prefetch(lanes, first..first + KEYS);
            let totals = self.score(dots, &keys);
            for v in 0..VECTORS {
                let scores = self.scores[v * D::QUADS * self.stride + first..].as_mut_ptr();
                // SAFETY: `score_codes` saw that there is room for every vector's rows.
                unsafe { dots.store_quad_sums(totals[v], scales[v], scores, self.stride) };
            }
        }
        if whole == count {
            return;
        }
        // Keys that fill up the last few are scored for nothing.
        let keys: [*const u8; KEYS] = std::array::from_fn(|k| self.keys.row((whole + k).min(count - 1)));
        let totals = self.score(dots, &keys);
        for v in 0..VECTORS {
            let mut sums = [[0.0; KEYS]; MOST_QUADS];
            // SAFETY: four places for each quad.
            unsafe { dots.store_quad_sums(totals[v], scales[v], sums.as_mut_ptr().cast(), KEYS) };
            for (quad, sums) in sums[..D::QUADS].iter().enumerate() {
                let row = (v * D::QUADS + quad) * self.stride;
                self.scores[row + whole..row + count].copy_from_slice(&sums[..count - whole]);
            }
        }
    }
}

/// Quads of the widest vector.
const MOST_QUADS: usize = 4;

/// For each vector of queries and each key a vector of sums.
type Totals<D, const VECTORS: usize> = [[<<D as IntegerDots>::Lanes as Lanes>::F32; KEYS]; VECTORS];

impl<C: KeyCodec, const VECTORS: usize> ScoreCodes<'_, C, VECTORS> {
    /// The scores of a few keys, in the worth of a factor, each still to be summed over its quad.
    #[inline(always)]
    fn score<D: IntegerDots>(&self, dots: D, keys: &[*const u8; KEYS]) -> Totals<D, VECTORS> {
        let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
        let places = self.first_vector * self.groups..(self.first_vector + VECTORS) * self.groups;
        let group_factors = D::QUADS * RoundedQueries::GROUP;
        let factors = self.queries.factors[places.start * group_factors..places.end * group_factors].as_ptr();
        let sums = self.queries.sums[places.start * width..places.end * width].as_ptr();
        let mut totals = [[lanes.splat(0.0); KEYS]; VECTORS];
        for group in 0..self.groups {
            // What each dot product begins with, because a code of 0 is not a value of 0.
            let mut zeros = [dots.zero(); VECTORS];
            let mut floats = [lanes.splat(0.0); VECTORS];
            for v in 0..VECTORS {
                // SAFETY: the sums of these vectors' groups were sliced.
                let sums = unsafe { dots.load_sums(sums.wrapping_add((v * self.groups + group) * width)) };
                if C::zero::<D>() != 0 {
                    zeros[v] = dots.times(sums, -C::zero::<D>());
                }
                floats[v] = dots.to_floats(sums);
            }
            for k in 0..KEYS {
                // SAFETY: `score_codes` saw that each key has the bytes of all groups.
                let codes = unsafe { C::key_codes(dots, keys[k], group) };
                // SAFETY: as above.
                let (scale, minimum) = unsafe { C::scale(lanes, keys[k], group) };
                for v in 0..VECTORS {
                    // SAFETY: the factors of these vectors' groups were sliced.
                    let factors = unsafe { dots.load_factors(factors.wrapping_add((v * self.groups + group) * group_factors)) };
                    totals[v][k] = lanes.mul_add(dots.dot(zeros[v], codes, factors), scale, totals[v][k]);
                    if C::HAS_OFFSET {
                        totals[v][k] = lanes.mul_add(floats[v], minimum, totals[v][k]);
                    }
                }
            }
        }
        totals
    }
}
