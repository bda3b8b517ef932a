//! The online softmax of a tile's rows: fold in scores, merge with another state, finish.

use std::f32::consts::{LN_2, LOG2_E};

use crate::exponential::exp2;
use crate::key_block::{KEYS, KeyBlock};
use crate::lanes::Lanes;
use crate::tile::{Fold, Reads, Tile};

/// The softmax of every row of a tile over the keys folded in so far.
#[derive(Debug)]
pub(crate) struct State {
    value_dim: usize,
    /// The largest score, as a base-2 exponent.
    largest: Vec<f32>,
    total: Vec<f32>,
    /// `[rows, value_dim]`, not yet divided by `total`.
    out: Vec<f32>,
}

impl State {
    /// The state over no keys.
    pub(crate) fn new(rows: usize, value_dim: usize) -> State {
        State { value_dim, largest: vec![f32::NEG_INFINITY; rows], total: vec![0.0; rows], out: vec![0.0; rows * value_dim] }
    }

    /// Merges with the softmax of the same rows over other keys. Both are rescaled to the larger of the two maxima, so the
    /// result does not depend on the order (the attention states of FlashInfer, arXiv:2501.01005).
    pub(crate) fn merge(&mut self, other: &State) {
        let rows = self.out.chunks_exact_mut(self.value_dim).zip(other.out.chunks_exact(self.value_dim));
        for (row, (out, other_out)) in rows.enumerate() {
            let largest = self.largest[row].max(other.largest[row]);
            if largest == f32::NEG_INFINITY {
                continue;
            }
            let (scale, other_scale) = ((self.largest[row] - largest).exp2(), (other.largest[row] - largest).exp2());
            self.largest[row] = largest;
            self.total[row] = self.total[row] * scale + other.total[row] * other_scale;
            out.iter_mut().zip(other_out).for_each(|(out, other)| *out = *out * scale + other * other_scale);
        }
    }

    /// The attention, `[rows, value_dim]`, and the log-sum-exp of each row, `[rows]`.
    pub(crate) fn finish(mut self) -> (Vec<f32>, Vec<f32>) {
        for (out, total) in self.out.chunks_exact_mut(self.value_dim).zip(&self.total) {
            let inverse = total.recip();
            out.iter_mut().for_each(|value| *value *= inverse);
        }
        let log_sum_exp = self.largest.iter().zip(&self.total).map(|(largest, total)| LN_2 * largest + total.ln()).collect();
        (self.out, log_sum_exp)
    }

    /// Turns scores into weights and adds their sum to the total. Rescales the earlier total and output.
    #[inline(always)]
    fn soften<L: Lanes>(&mut self, lanes: L, count: usize, scores: &mut [f32]) {
        let rows = scores.chunks_exact_mut(KEYS).zip(&mut self.largest).zip(&mut self.total).zip(self.out.chunks_exact_mut(self.value_dim));
        for (((scores, largest), total), out) in rows {
            // Keys that fill up the last vector are not seen.
            let filled = count.next_multiple_of(L::WIDTH);
            scores[count..filled].fill(f32::NEG_INFINITY);
            let scores = &mut scores[..filled];
            let new_largest = largest_of(lanes, scores, *largest);
            if new_largest == f32::NEG_INFINITY {
                // The row sees no key of this block. Its weights must be 0, not exp(−∞ + ∞).
                *total += scores.iter().filter(|score| score.is_nan()).sum::<f32>();
                scores.fill(0.0);
                continue;
            }
            if new_largest != *largest {
                let shrink = (*largest - new_largest).exp2();
                *total *= shrink;
                out.iter_mut().for_each(|value| *value *= shrink);
                *largest = new_largest;
            }
            *total += exp2_and_sum(lanes, scores, new_largest);
        }
    }
}

/// Vectors processed together. With a single one, each operation would wait for the previous one.
const TOGETHER: usize = 4;

/// The largest of whole vectors of scores and `other`. NaNs are ignored.
#[inline(always)]
fn largest_of<L: Lanes>(lanes: L, scores: &[f32], other: f32) -> f32 {
    let mut largest = [lanes.splat(other); TOGETHER];
    let mut several = scores.chunks_exact(TOGETHER * L::WIDTH);
    for scores in &mut several {
        for v in 0..TOGETHER {
            largest[v] = larger(lanes, largest[v], &scores[v * L::WIDTH..(v + 1) * L::WIDTH]);
        }
    }
    for scores in several.remainder().chunks_exact(L::WIDTH) {
        largest[0] = larger(lanes, largest[0], scores);
    }
    lanes.largest(lanes.max(lanes.max(largest[0], largest[1]), lanes.max(largest[2], largest[3])))
}

/// The element-wise maximum of a vector of scores and `others`.
#[inline(always)]
fn larger<L: Lanes>(lanes: L, others: L::F32, scores: &[f32]) -> L::F32 {
    assert_eq!(scores.len(), L::WIDTH);
    // SAFETY: `WIDTH` values.
    lanes.max(unsafe { lanes.load_f32(scores.as_ptr().cast()) }, others)
}

/// Replaces each score of whole vectors with `2^(score − largest)` and returns the sum.
#[inline(always)]
fn exp2_and_sum<L: Lanes>(lanes: L, scores: &mut [f32], largest: f32) -> f32 {
    let largest = lanes.splat(largest);
    let mut totals = [lanes.splat(0.0); TOGETHER];
    let mut several = scores.chunks_exact_mut(TOGETHER * L::WIDTH);
    for scores in &mut several {
        for v in 0..TOGETHER {
            totals[v] = weigh(lanes, totals[v], largest, &mut scores[v * L::WIDTH..(v + 1) * L::WIDTH]);
        }
    }
    for scores in several.into_remainder().chunks_exact_mut(L::WIDTH) {
        totals[0] = weigh(lanes, totals[0], largest, scores);
    }
    lanes.sums(totals).into_iter().sum()
}

/// Replaces a vector of scores with weights and adds them to `totals`.
#[inline(always)]
fn weigh<L: Lanes>(lanes: L, totals: L::F32, largest: L::F32, scores: &mut [f32]) -> L::F32 {
    assert_eq!(scores.len(), L::WIDTH);
    // SAFETY: `WIDTH` values.
    let score = unsafe { lanes.load_f32(scores.as_ptr().cast()) };
    let weight = exp2(lanes, lanes.sub(score, largest));
    // SAFETY: as above.
    unsafe { lanes.store(weight, scores.as_mut_ptr()) };
    lanes.mul_add(weight, lanes.splat(1.0), totals)
}

impl Fold for State {
    const READS: Reads = Reads::KeysAndValues;

    #[inline(always)]
    fn fold<L: Lanes>(&mut self, lanes: L, _: &Tile<'_>, block: &mut KeyBlock<'_>, next: &KeyBlock<'_>, scores: &mut [f32]) {
        self.soften(lanes, block.len(), scores);
        block.add_values(lanes, next, scores, &mut self.out);
    }
}

/// The sum, for each key, of the probabilities that a tile's rows give it.
pub(crate) struct ProbabilitySums<'a> {
    /// The log-sum-exp of each row over all keys.
    pub(crate) log_sum_exp: &'a [f32],
    /// One sum for each key of the tile's share.
    pub(crate) sums: Vec<f32>,
}

impl Fold for ProbabilitySums<'_> {
    const READS: Reads = Reads::Keys;

    #[inline(always)]
    fn fold<L: Lanes>(&mut self, lanes: L, tile: &Tile<'_>, block: &mut KeyBlock<'_>, _: &KeyBlock<'_>, scores: &mut [f32]) {
        for (scores, log_sum_exp) in scores.chunks_exact_mut(KEYS).zip(self.log_sum_exp) {
            let filled = block.len().next_multiple_of(L::WIDTH);
            exp2_and_sum(lanes, &mut scores[..filled], LOG2_E * log_sum_exp);
            for segment in block.segments() {
                let sums = &mut self.sums[segment.first_key - tile.share.start..][..segment.columns.len()];
                sums.iter_mut().zip(&scores[segment.columns.clone()]).for_each(|(sum, probability)| *sum += probability);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::attend::attend_on;
    use crate::format::tests::ALL as FORMATS;
    use crate::noise::noise;
    use crate::{Formats, HeadShape, KernelPath, KvBlock, Mask, Part, RowShape, Run};

    /// Weights of a block far below the running maximum are so small that the inverse of the largest overflows.
    #[test]
    fn keys_far_below_the_maximum_add_nothing_on_every_path() {
        const TOKENS: usize = 256;
        const DIM: usize = 64;
        let shape = HeadShape { heads: 5, kv_heads: 1, key_dim: DIM, value_dim: DIM };
        let row = RowShape { heads: 1, key_dim: DIM, value_dim: DIM };
        for format in FORMATS.into_iter().filter(|format| Formats::both(*format).check_dims(DIM, DIM).is_ok()) {
            let blocks = [1.0, -1.0].map(|key| {
                let mut block = KvBlock::new(row, Formats::both(format), TOKENS);
                block.write(0..TOKENS, 0..1, &[key; TOKENS * DIM], &noise(TOKENS * DIM, 2));
                block
            });
            let run = |index: usize| Run::Block { block: &blocks[index], first_head: 0, slots: 0..TOKENS, first_position: index * TOKENS };
            // Scores of the two blocks differ by so many powers of e: 2⁻¹⁰¹ to 2⁻¹⁴⁴.
            for distance in [70.0, 76.0, 78.0, 80.0, 84.0, 87.0, 88.0, 92.0, 100.0] {
                let queries = [distance / 16.0; 5 * DIM];
                let part = |runs| Part { queries: &queries, mask: Mask::Causal, runs };
                for path in KernelPath::available() {
                    let near = attend_on(path, shape, 2 * TOKENS - 1, &[part(vec![run(0)])]);
                    let both = attend_on(path, shape, 2 * TOKENS - 1, &[part(vec![run(0), run(1)])]);
                    for (near, both) in near.out.iter().zip(&both.out) {
                        assert!((near - both).abs() < 1e-6, "{format} on {path}, {distance} apart: {both} instead of {near}");
                    }
                }
            }
        }
    }
}
