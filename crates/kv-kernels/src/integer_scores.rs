//! Queries times quantised keys in integers, on machines with integer dot products.
//!
//! A key is `scale · (code − zero) + minimum` in groups of 32, a query a row of factors ([`RoundedQueries`]), so that
//! a group's score is `scale · (Σ factor · code − zero · Σ factor) + minimum · Σ factor` times the query's scale: fewer
//! instructions than decoding to floats and multiplying those takes. The sums are exact; a query is rounded to 16 bits of its
//! largest value, which changes `q · k` by at most `max|q| · Σ|k| / 65024`.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name vectors and keys alike")]

use std::marker::PhantomData;

use crate::codec::{HALF, KeyCodec};
use crate::group_heads::{GroupHeads, TOKENS};
use crate::lanes::{IntegerDots, IntegerKernel, Lanes};
use crate::queries::{Queries, RoundedQueries};
use crate::rows::{Pace, RowList, Rows};

/// Vectors of queries that share a key's codes at most.
const VECTORS: usize = 4;
/// Query rows that do.
const ROWS: usize = 8;

/// As [`score_keys`](crate::scores::score_keys) for at most [`KEYS`](crate::key_block::KEYS) keys, with the queries rounded.
///
/// # Shapes
/// - scores: `[rows, stride]`, `rows` rounded up to whole vectors of queries
#[inline(always)]
pub(crate) fn score_codes<D: IntegerDots, C: KeyCodec>(
    dots: D,
    queries: &Queries,
    keys: Rows<'_>,
    scores: &mut [f32],
    stride: usize,
    heads: &mut GroupHeads,
) {
    let (dim, vectors) = (queries.dim, queries.rows().div_ceil(D::ROWS));
    let rows = vectors * D::ROWS;
    assert!(keys.row_bytes() >= C::row_bytes(dim) && dim.is_multiple_of(RoundedQueries::GROUP), "keys of {} bytes", keys.row_bytes());
    assert!(keys.count() <= stride && (rows - 1) * stride + keys.count() <= scores.len(), "room for the scores of {rows} rows");
    heads.gather::<C>(keys, dim);
    let (queries, heads) = (queries.rounded::<D>(), &*heads);
    let (groups, codec) = (dim / RoundedQueries::GROUP, PhantomData::<C>);
    let together = vectors.div_ceil(vectors.div_ceil(VECTORS.min(ROWS / D::ROWS)));
    for first_vector in (0..vectors).step_by(together) {
        let scores = &mut scores[first_vector * D::ROWS * stride..];
        match together.min(vectors - first_vector) {
            1 => dots.run(ScoreCodes::<C, 1> { queries, first_vector, groups, keys, heads, scores, stride, codec }),
            2 => dots.run(ScoreCodes::<C, 2> { queries, first_vector, groups, keys, heads, scores, stride, codec }),
            3 => dots.run(ScoreCodes::<C, 3> { queries, first_vector, groups, keys, heads, scores, stride, codec }),
            _ => dots.run(ScoreCodes::<C, VECTORS> { queries, first_vector, groups, keys, heads, scores, stride, codec }),
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
    fn run<D: IntegerDots>(mut self, dots: D) {
        let count = self.keys.count();
        for row in 0..VECTORS * D::ROWS {
            self.scores[row * self.stride..][..count].fill(0.0);
        }
        for step in 0..self.groups.div_ceil(D::GROUPS) {
            self.add_step(dots, step);
        }
    }
}

/// Query rows of a vector at most.
const MOST_ROWS: usize = 4;

impl<C: KeyCodec, const VECTORS: usize> ScoreCodes<'_, C, VECTORS> {
    /// Adds to the scores what the groups of a step contribute.
    #[inline(always)]
    fn add_step<D: IntegerDots>(&mut self, dots: D, step: usize) {
        let (fours, rest) = self.keys.fours();
        let mut pace = Pace::new(step, self.groups.div_ceil(D::GROUPS), fours.len(), TOKENS);
        let step = self.step(dots, step);
        let whole = TOKENS * fours.len();
        for (index, keys) in fours.enumerate() {
            let first = TOKENS * index;
            pace.step(dots.lanes(), &self.keys);
            let scores = step.score::<C>(dots, keys, first);
            for v in 0..VECTORS {
                let to = self.scores[v * D::ROWS * self.stride + first..].as_mut_ptr();
                // SAFETY: `score_codes` saw that there is room for every vector's rows.
                unsafe { dots.add_rows(scores[v], to, self.stride) };
            }
        }
        let Some(keys) = rest else { return };
        let scores = step.score::<C>(dots, keys, whole);
        for v in 0..VECTORS {
            let mut last = [[0.0; TOKENS]; MOST_ROWS];
            // SAFETY: four places for each row.
            unsafe { dots.add_rows(scores[v], last.as_mut_ptr().cast(), TOKENS) };
            for (row, last) in last[..D::ROWS].iter().enumerate() {
                let scores = &mut self.scores[(v * D::ROWS + row) * self.stride..][whole..self.keys.count()];
                scores.iter_mut().zip(last).for_each(|(score, last)| *score += last);
            }
        }
    }

    /// What is the same for all keys of a step.
    #[inline(always)]
    fn step<D: IntegerDots>(&self, dots: D, step: usize) -> Step<D, VECTORS> {
        let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
        let (steps, step_factors) = (self.groups.div_ceil(D::GROUPS), D::QUADS * RoundedQueries::GROUP);
        let place = |v: usize| (self.first_vector + v) * steps + step;
        let factors = std::array::from_fn(|v| {
            let factors = &self.queries.factors[place(v) * step_factors..][..step_factors];
            // SAFETY: those of all quads were sliced.
            unsafe { dots.load_factors(factors.as_ptr()) }
        });
        let sums = std::array::from_fn(|v| {
            let sums = &self.queries.sums[place(v) * width..][..width];
            // SAFETY: a vector was sliced.
            unsafe { dots.load_sums(sums.as_ptr()) }
        });
        let worth = std::array::from_fn(|v| {
            let worth = &self.queries.scales[(self.first_vector + v) * width..][..width];
            // SAFETY: a vector was sliced.
            unsafe { lanes.load_f32(worth.as_ptr().cast()) }
        });
        let first_group = step * D::GROUPS;
        // Behind the last group stands the last again, whose factors are 0 there.
        let groups = [first_group, (first_group + 1).min(self.groups - 1)];
        let heads = self.heads;
        Step {
            factors,
            sums,
            worth,
            at: groups.map(|group| group * C::row_bytes(C::GROUP)),
            scales: groups.map(|group| heads.scales(group)),
            minima: groups.map(|group| if C::HAS_OFFSET { heads.minima(group) } else { heads.scales(group) }),
        }
    }
}

/// The groups of all queries that are multiplied together.
struct Step<D: IntegerDots, const VECTORS: usize> {
    factors: [D::Factors; VECTORS],
    sums: [D::Sums; VECTORS],
    worth: [<D::Lanes as Lanes>::F32; VECTORS],
    /// Where the groups begin in a row.
    at: [usize; 2],
    scales: [*const u8; 2],
    minima: [*const u8; 2],
}

impl<D: IntegerDots, const VECTORS: usize> Step<D, VECTORS> {
    /// What the step contributes to the scores of four keys, which are `first ..`.
    #[inline(always)]
    fn score<C: KeyCodec>(&self, dots: D, keys: [*const u8; TOKENS], first: usize) -> [<D::Lanes as Lanes>::F32; VECTORS] {
        let lanes = dots.lanes();
        let mut sums = [[dots.zero(); TOKENS]; VECTORS];
        for k in 0..TOKENS {
            // SAFETY: `score_codes` saw that each key has the bytes of all groups.
            let codes = unsafe { C::key_codes(dots, [keys[k].wrapping_add(self.at[0]), keys[k].wrapping_add(self.at[1])]) };
            for v in 0..VECTORS {
                sums[v][k] = dots.dot(codes, self.factors[v]);
            }
        }
        let halves = |heads: [*const u8; 2]| [heads[0].wrapping_add(first * HALF), heads[1].wrapping_add(first * HALF)];
        // SAFETY: `GroupHeads` has the halves of whole fours of keys.
        let scales = unsafe { dots.load_four_halves(halves(self.scales)) };
        let mut scores = [lanes.splat(0.0); VECTORS];
        for v in 0..VECTORS {
            let sums = dots.quad_sums(sums[v]);
            // A code of 0 is not a value of 0.
            let sums = if C::zero::<D>() == 0 { sums } else { dots.add_times(sums, self.sums[v], -C::zero::<D>()) };
            scores[v] = lanes.mul(dots.to_floats(sums), scales);
            if C::HAS_OFFSET {
                // SAFETY: as of the scales.
                let minima = unsafe { dots.load_four_halves(halves(self.minima)) };
                scores[v] = lanes.mul_add(dots.to_floats(self.sums[v]), minima, scores[v]);
            }
            scores[v] = lanes.mul(scores[v], self.worth[v]);
        }
        scores
    }
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

    /// Scores keys twice, and checks each score.
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
            let mut heads = GroupHeads::default();
            for _ in 0..2 {
                score_codes::<_, C>(dots, &queries, keys, &mut scores, KEYS, &mut heads);
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
            // Interpreted, many keys take minutes.
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
