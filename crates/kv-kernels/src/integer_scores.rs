//! Queries times quantised keys in integers, on machines with dot products of bytes.
//!
//! A key is `scale · (code − zero) + minimum` in groups of 32, a query two digits of a byte ([`Digits`]), so that
//! a group's score is `scale · (256 · Σ high · code + Σ low · code − zero · Σ digits) + minimum · Σ digits` times the
//! query's scale: two instructions for four queries and 16 codes, where decoding to floats takes eight products and four
//! conversions. The sums are exact; a query is rounded to 16 bits of its largest value, which changes
//! `q · k` by at most `max|q| · Σ|k| / 65024`.

use std::marker::PhantomData;

use crate::codec::QuadCodec;
use crate::lanes::{ByteDots, ByteKernel, Lanes};
use crate::queries::{Digits, Queries};
use crate::rows::{RowList, Rows};

/// Keys whose scores are added up and put in place together.
const KEYS: usize = 4;

/// As [`score_keys`](crate::scores::score_keys), with the queries rounded.
///
/// # Shapes
/// - scores: `[rows, stride]`, `rows` rounded up to whole vectors of quads
#[inline(always)]
pub(crate) fn score_codes<D: ByteDots, C: QuadCodec>(dots: D, queries: &Queries, keys: Rows<'_>, scores: &mut [f32], stride: usize) {
    let (dim, rows) = (queries.dim, queries.rows().next_multiple_of(D::QUADS));
    assert!(keys.row_bytes() >= C::row_bytes(dim) && dim.is_multiple_of(Digits::GROUP), "keys of {} bytes", keys.row_bytes());
    assert!(keys.count() <= stride && (rows - 1) * stride + keys.count() <= scores.len(), "room for the scores of {rows} rows");
    let digits = queries.digits::<D>();
    dots.run(ScoreCodes::<C> { digits, groups: dim / Digits::GROUP, keys, scores, stride, codec: PhantomData });
}

struct ScoreCodes<'a, C> {
    digits: &'a Digits,
    groups: usize,
    keys: Rows<'a>,
    scores: &'a mut [f32],
    stride: usize,
    codec: PhantomData<C>,
}

impl<C: QuadCodec> ByteKernel for ScoreCodes<'_, C> {
    #[inline(always)]
    fn run<D: ByteDots>(self, dots: D) {
        let (count, vectors) = (self.keys.count(), self.digits.scales.len() / D::Lanes::WIDTH);
        let whole = count - count % KEYS;
        for first in (0..whole).step_by(KEYS) {
            let keys = self.keys.several::<KEYS>(first);
            self.keys.prefetch(dots.lanes(), first..first + KEYS);
            for vector in 0..vectors {
                let scores = self.scores[vector * D::QUADS * self.stride + first..].as_mut_ptr();
                let four = self.score(dots, vector, &keys);
                let scales = self.scales(dots, vector);
                // SAFETY: `score_codes` saw that there is room for every vector's rows.
                unsafe { dots.store_quad_sums(four, scales, scores, self.stride) };
            }
        }
        if whole == count {
            return;
        }
        // Keys that fill up the last few are scored for nothing.
        let keys: [*const u8; KEYS] = std::array::from_fn(|k| self.keys.row((whole + k).min(count - 1)));
        for vector in 0..vectors {
            let mut sums = [[0.0; KEYS]; MOST_QUADS];
            let four = self.score(dots, vector, &keys);
            // SAFETY: four places for each quad.
            unsafe { dots.store_quad_sums(four, self.scales(dots, vector), sums.as_mut_ptr().cast(), KEYS) };
            for (quad, sums) in sums[..D::QUADS].iter().enumerate() {
                let row = (vector * D::QUADS + quad) * self.stride;
                self.scores[row + whole..row + count].copy_from_slice(&sums[..count - whole]);
            }
        }
    }
}

/// Quads of the widest vector.
const MOST_QUADS: usize = 4;

impl<C: QuadCodec> ScoreCodes<'_, C> {
    /// What a digit of each of a vector's queries is worth.
    #[inline(always)]
    fn scales<D: ByteDots>(&self, dots: D, vector: usize) -> <D::Lanes as Lanes>::F32 {
        let scales = &self.digits.scales[vector * D::Lanes::WIDTH..][..D::Lanes::WIDTH];
        // SAFETY: a vector of values.
        unsafe { dots.lanes().load_f32(scales.as_ptr().cast()) }
    }

    /// The scores of a few keys for the queries of a vector, in the worth of a digit, each still to be summed over its quad.
    #[inline(always)]
    fn score<D: ByteDots>(&self, dots: D, vector: usize, keys: &[*const u8; KEYS]) -> [<D::Lanes as Lanes>::F32; KEYS] {
        let lanes = dots.lanes();
        let width = D::Lanes::WIDTH;
        // A group's digits are two vectors, each of as many bytes as a vector of floats has.
        let bytes = size_of::<f32>() * width;
        let places = vector * self.groups..(vector + 1) * self.groups;
        let high = self.digits.high[places.start * 2 * bytes..places.end * 2 * bytes].as_ptr();
        let low = self.digits.low[places.start * 2 * bytes..places.end * 2 * bytes].as_ptr();
        let sums = &self.digits.sums[places.start * width..places.end * width];
        let mut totals = [lanes.splat(0.0); KEYS];
        for group in 0..self.groups {
            let at = [2 * group * bytes, (2 * group + 1) * bytes];
            // SAFETY: the vectors of this vector's groups were sliced.
            let high = at.map(|at| unsafe { dots.load_bytes(high.wrapping_add(at)) });
            // SAFETY: as above.
            let low = at.map(|at| unsafe { dots.load_bytes(low.wrapping_add(at)) });
            // SAFETY: as above.
            let sums = unsafe { dots.load_sums(sums.as_ptr().wrapping_add(group * width)) };
            // What each dot product begins with, because a code of 0 is not a value of 0.
            let zero = if C::ZERO == 0 { dots.zero() } else { dots.times(sums, -C::ZERO) };
            let sums = dots.join(dots.zero(), sums);
            for k in 0..KEYS {
                // SAFETY: `score_codes` saw that each key has the bytes of all groups.
                let codes = unsafe { C::quads(dots, keys[k], group) };
                let highs = dots.dot(dots.dot(dots.zero(), codes[0], high[0]), codes[1], high[1]);
                let lows = dots.dot(dots.dot(zero, codes[0], low[0]), codes[1], low[1]);
                // SAFETY: as above.
                let (scale, minimum) = unsafe { C::scale(lanes, keys[k], group) };
                totals[k] = lanes.mul_add(dots.join(highs, lows), scale, totals[k]);
                if C::HAS_OFFSET {
                    totals[k] = lanes.mul_add(sums, minimum, totals[k]);
                }
            }
        }
        totals
    }
}
