//! Queries times quantized keys in integers, on machines with integer dot products.
//!
//! A key is `scale · (code − zero) + minimum` in groups of 32, and a query is a row of factors ([`RoundedQueries`]). The
//! score of a group is `scale · (Σ factor · code − zero · Σ factor) + minimum · Σ factor`, times the query's scale. This
//! takes fewer instructions than decoding to floats and multiplying those. The sums are exact. The query is rounded to 16
//! bits relative to its largest value, which changes `q · k` by at most `max|q| · Σ|k| / 65024`.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name vectors and keys alike")]

use std::marker::PhantomData;

use crate::codec::{HALF, KeyCodec};
use crate::group_heads::TOKENS;
use crate::lanes::{IntegerDots, IntegerKernel, Lanes};
use crate::queries::{Queries, RoundedQueries};
use crate::rows::{Pace, RowList, Rows};

/// Maximum number of query vectors that share a key's codes.
const VECTORS: usize = 4;
/// Maximum number of query rows that share a key's codes.
const ROWS: usize = 8;

/// Like [`score_keys`](crate::scores::score_keys), with the queries rounded.
///
/// # Shapes
/// - scores: `[rows, stride]`, with `rows` rounded up to whole vectors of queries
#[inline(always)]
pub(crate) fn score_codes<D: IntegerDots, C: KeyCodec>(dots: D, queries: &Queries, keys: Rows<'_>, scores: &mut [f32], stride: usize) {
    let (dim, vectors) = (queries.dim, queries.rows().div_ceil(D::ROWS));
    let rows = vectors * D::ROWS;
    assert!(keys.row_bytes() >= C::row_bytes(dim) && dim.is_multiple_of(RoundedQueries::GROUP), "keys of {} bytes", keys.row_bytes());
    assert!(keys.count() <= stride && (rows - 1) * stride + keys.count() <= scores.len(), "room for the scores of {rows} rows");
    let queries = queries.rounded(dots);
    let (groups, codec) = (dim / RoundedQueries::GROUP, PhantomData::<C>);
    let passes = vectors.div_ceil(VECTORS.min(ROWS / D::ROWS));
    let together = vectors.div_ceil(passes);
    for (pass, first_vector) in (0..vectors).step_by(together).enumerate() {
        let pace = Pace::new(pass, passes, keys.count() / TOKENS, keys.ahead());
        let scores = &mut scores[first_vector * D::ROWS * stride..];
        match together.min(vectors - first_vector) {
            1 => dots.run(ScoreCodes::<C, 1> { queries, first_vector, groups, keys, pace, scores, stride, codec }),
            2 => dots.run(ScoreCodes::<C, 2> { queries, first_vector, groups, keys, pace, scores, stride, codec }),
            3 => dots.run(ScoreCodes::<C, 3> { queries, first_vector, groups, keys, pace, scores, stride, codec }),
            _ => dots.run(ScoreCodes::<C, VECTORS> { queries, first_vector, groups, keys, pace, scores, stride, codec }),
        }
    }
}

struct ScoreCodes<'a, C, const VECTORS: usize> {
    queries: &'a RoundedQueries,
    first_vector: usize,
    groups: usize,
    keys: Rows<'a>,
    pace: Pace<'a, TOKENS>,
    /// The scores, starting at the first row of the first vector.
    scores: &'a mut [f32],
    stride: usize,
    codec: PhantomData<C>,
}

/// Maximum number of query rows in a vector.
const MOST_ROWS: usize = 4;

impl<C: KeyCodec, const VECTORS: usize> IntegerKernel for ScoreCodes<'_, C, VECTORS> {
    #[inline(always)]
    fn run<D: IntegerDots>(self, dots: D) {
        let vectors = QueryVectors::<VECTORS>::new::<D>(self.queries, self.first_vector, self.groups);
        let ScoreCodes { keys, mut pace, scores: all, stride, .. } = self;
        let (fours, rest) = keys.fours();
        let whole = TOKENS * fours.len();
        let mut to = all.as_mut_ptr();
        for four in fours {
            pace.step(dots.lanes());
            let scores = vectors.score::<D, C>(dots, four);
            for v in 0..VECTORS {
                // SAFETY: `score_codes` checked that there is room for the rows of every vector.
                unsafe { dots.store_rows(scores[v], to.wrapping_add(v * D::ROWS * stride), stride) };
            }
            to = to.wrapping_add(TOKENS);
        }
        let Some(four) = rest else { return };
        let scores = vectors.score::<D, C>(dots, four);
        for v in 0..VECTORS {
            let mut last = [[0.0; TOKENS]; MOST_ROWS];
            // SAFETY: four places for each row.
            unsafe { dots.store_rows(scores[v], last.as_mut_ptr().cast(), TOKENS) };
            for (row, last) in last[..D::ROWS].iter().enumerate() {
                let scores = &mut all[(v * D::ROWS + row) * stride..][whole..keys.count()];
                scores.copy_from_slice(&last[..scores.len()]);
            }
        }
    }
}

/// The addresses of the [`RoundedQueries`] of the vectors that are multiplied together.
struct QueryVectors<const VECTORS: usize> {
    groups: usize,
    /// Number of vectors of all queries.
    all: usize,
    factors: *const i16,
    sums: *const f32,
    scales: *const f32,
}

impl<const VECTORS: usize> QueryVectors<VECTORS> {
    fn new<D: IntegerDots>(queries: &RoundedQueries, first: usize, groups: usize) -> Self {
        let (steps, width) = (groups.div_ceil(D::GROUPS), D::Lanes::WIDTH);
        let all = queries.scales.len() / width;
        assert!(first + VECTORS <= all && queries.sums.len() == steps * all * width, "{VECTORS} of {all} vectors");
        assert_eq!(queries.factors.len(), steps * all * D::STEP_FACTORS, "factors of {all} vectors");
        QueryVectors {
            groups,
            all,
            factors: queries.factors[first * D::STEP_FACTORS..].as_ptr(),
            sums: queries.sums[first * width..].as_ptr(),
            scales: queries.scales[first * width..].as_ptr(),
        }
    }

    /// The scores of four keys.
    #[inline(always)]
    fn score<D: IntegerDots, C: KeyCodec>(&self, dots: D, keys: [*const u8; TOKENS]) -> [<D::Lanes as Lanes>::F32; VECTORS] {
        let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
        let (mut factors, mut sums) = (self.factors, self.sums);
        let zero = lanes.splat(-C::zero::<D>() as f32);
        let mut scores = [lanes.splat(0.0); VECTORS];
        for first_group in (0..self.groups).step_by(D::GROUPS) {
            // If the number of groups is odd, the last group is repeated. The factors of the repetition are 0.
            let at = [first_group, (first_group + 1).min(self.groups - 1)].map(|group| group * C::row_bytes(C::GROUP));
            // SAFETY: `score_codes` checked that each key has the bytes of all groups.
            let codes = unsafe { codes_of::<D, C>(dots, keys, at) };
            // SAFETY: as for the codes; a group begins with its scale.
            let scales = unsafe { dots.load_halves(keys, at) };
            // The part of a score that does not depend on the code, per unit of factor.
            let mut offsets = lanes.mul(scales, zero);
            if C::HAS_OFFSET {
                // SAFETY: as for the scales, which the minima follow.
                let minima = unsafe { dots.load_halves(keys, [at[0] + HALF, at[1] + HALF]) };
                offsets = lanes.mul_add(scales, zero, minima);
            }
            for v in 0..VECTORS {
                // SAFETY: `new` checked that there are factors for all vectors and steps.
                let factors = unsafe { dots.load_factors(factors.wrapping_add(v * D::STEP_FACTORS)) };
                let mut products = [dots.zero(); TOKENS];
                for k in 0..TOKENS {
                    products[k] = dots.dot(codes[k], factors);
                }
                let products = dots.to_floats(dots.quad_sums(products));
                scores[v] = lanes.mul_add(products, scales, scores[v]);
                if C::HAS_OFFSET || C::zero::<D>() != 0 {
                    // SAFETY: as for the factors.
                    let sums = unsafe { lanes.load_f32(sums.wrapping_add(v * width).cast()) };
                    scores[v] = lanes.mul_add(sums, offsets, scores[v]);
                }
            }
            (factors, sums) = (factors.wrapping_add(self.all * D::STEP_FACTORS), sums.wrapping_add(self.all * width));
        }
        for v in 0..VECTORS {
            // SAFETY: `new` checked that there is one scale vector per query vector.
            scores[v] = lanes.mul(scores[v], unsafe { lanes.load_f32(self.scales.wrapping_add(v * width).cast()) });
        }
        scores
    }
}

/// The codes of the groups at these offsets from the beginning of each key.
///
/// # Safety
/// Those groups can be read.
#[inline(always)]
unsafe fn codes_of<D: IntegerDots, C: KeyCodec>(
    dots: D,
    [a, b, c, d]: [*const u8; TOKENS],
    [first, last]: [usize; 2],
) -> [D::Codes; TOKENS] {
    let (a, b) = ([a.wrapping_add(first), a.wrapping_add(last)], [b.wrapping_add(first), b.wrapping_add(last)]);
    let (c, d) = ([c.wrapping_add(first), c.wrapping_add(last)], [d.wrapping_add(first), d.wrapping_add(last)]);
    // SAFETY: guaranteed by the caller.
    let a = unsafe { C::key_codes(dots, a) };
    // SAFETY: as above.
    let b = unsafe { C::key_codes(dots, b) };
    // SAFETY: as above.
    let c = unsafe { C::key_codes(dots, c) };
    // SAFETY: as above.
    let d = unsafe { C::key_codes(dots, d) };
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::codec::{Q4_0, Q4_1, Q8_0};
    use crate::key_block::KEYS;
    use crate::lanes::on_all_integer_dots;
    use crate::noise::noise;
    use crate::rows::{Ahead, RowStart};

    /// Scores keys twice and checks each score.
    #[derive(Clone, Copy)]
    struct Score<'a, C, F> {
        queries: &'a [f32],
        dim: usize,
        keys: &'a [RowStart<'a>],
        check: F,
        codec: PhantomData<C>,
    }

    impl<C: KeyCodec, F: Fn(usize, usize, f32) + Copy> IntegerKernel for Score<'_, C, F> {
        #[inline(always)]
        fn run<D: IntegerDots>(self, dots: D) {
            let queries = Queries::new(self.dim, self.queries.to_vec());
            // SAFETY: the keys are of the codec's format.
            let keys = unsafe { Rows::new(self.keys, C::row_bytes(self.dim), Ahead::NOTHING) };
            let mut scores = vec![f32::NAN; queries.rows().next_multiple_of(4) * KEYS];
            for _ in 0..2 {
                score_codes::<_, C>(dots, &queries, keys, &mut scores, KEYS);
            }
            for (row, scores) in scores.chunks_exact(KEYS).take(queries.rows()).enumerate() {
                scores[..self.keys.len()].iter().enumerate().for_each(|(key, score)| (self.check)(row, key, *score));
                assert!(scores[self.keys.len()..].iter().all(|score| score.is_nan()), "no more than there are keys");
            }
        }
    }

    fn stays_within_the_bound<C: KeyCodec>(format: &str) {
        let format: Format = format.parse().expect("a format");
        for dim in [32, 64, 96] {
            // Under Miri, many keys take minutes.
            let cases = [(1, 1), (3, 2), (4, 3), (5, 4), (63, 5), (64, 8), (255, 16)];
            for (count, rows) in cases.into_iter().take(if cfg!(miri) { 4 } else { 7 }) {
                let (keys, queries) = (noise(count * dim, 7), noise(rows * dim, 1));
                let mut encoded = vec![0; count * C::row_bytes(dim)];
                for (row, encoded) in keys.chunks_exact(dim).zip(encoded.chunks_exact_mut(C::row_bytes(dim))) {
                    format.encode_row(row, encoded);
                }
                let mut decoded = vec![0.0; count * dim];
                format.decode_rows(dim, &encoded, &mut decoded);
                let starts: Vec<_> = RowStart::each(&encoded, C::row_bytes(dim)).collect();
                let check = |row: usize, key: usize, score: f32| {
                    let (query, key) = (&queries[row * dim..][..dim], &decoded[key * dim..][..dim]);
                    let expected: f32 = query.iter().zip(key).map(|(query, key)| query * key).sum();
                    let bound = key.iter().map(|value| value.abs()).sum::<f32>() / 65_024.0 + 1e-5;
                    assert!(
                        (score - expected).abs() < bound,
                        "{format}, dim {dim}, {count} keys, {rows} rows: {score} instead of {expected}"
                    );
                };
                on_all_integer_dots(Score::<C, _> { queries: &queries, dim, keys: &starts, check, codec: PhantomData });
            }
        }
    }

    #[test]
    fn scores_stay_within_the_bound() {
        stays_within_the_bound::<Q8_0>("q8_0");
        stays_within_the_bound::<Q4_0>("q4_0");
        stays_within_the_bound::<Q4_1>("q4_1");
    }
}
