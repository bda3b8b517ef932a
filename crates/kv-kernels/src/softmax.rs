//! The running softmax of a tile's rows: fold in scores, merge with another, finish.

use crate::exponential::exp_in_place;
use crate::key_block::{KEYS, KeyBlock};
use crate::lanes::Lanes;
use crate::tile::{Fold, Tile};

/// The softmax of every row of a tile over the keys folded in so far.
#[derive(Debug)]
pub(crate) struct State {
    value_dim: usize,
    largest: Vec<f32>,
    total: Vec<f32>,
    /// `[rows, value_dim]`, not yet divided by `total`.
    out: Vec<f32>,
}

impl State {
    /// Over no keys yet.
    pub(crate) fn new(rows: usize, value_dim: usize) -> State {
        State { value_dim, largest: vec![f32::NEG_INFINITY; rows], total: vec![0.0; rows], out: vec![0.0; rows * value_dim] }
    }

    /// Folds in the same rows' softmax over other keys. Exact in any order (the attention states of FlashInfer,
    /// arXiv:2501.01005): both are brought to the larger of the two maxima.
    pub(crate) fn merge(&mut self, other: &State) {
        let rows = self.out.chunks_exact_mut(self.value_dim).zip(other.out.chunks_exact(self.value_dim));
        for (row, (out, other_out)) in rows.enumerate() {
            let largest = self.largest[row].max(other.largest[row]);
            if largest == f32::NEG_INFINITY {
                continue;
            }
            let (scale, other_scale) = ((self.largest[row] - largest).exp(), (other.largest[row] - largest).exp());
            self.largest[row] = largest;
            self.total[row] = self.total[row] * scale + other.total[row] * other_scale;
            out.iter_mut().zip(other_out).for_each(|(out, other)| *out = *out * scale + other * other_scale);
        }
    }

    /// The attention, `[rows, value_dim]`, and the logarithm of each row's sum of exponentials, `[rows]`.
    pub(crate) fn finish(mut self) -> (Vec<f32>, Vec<f32>) {
        for (out, total) in self.out.chunks_exact_mut(self.value_dim).zip(&self.total) {
            let inverse = total.recip();
            out.iter_mut().for_each(|value| *value *= inverse);
        }
        let log_sum_exp = self.largest.iter().zip(&self.total).map(|(largest, total)| largest + total.ln()).collect();
        (self.out, log_sum_exp)
    }

    /// Turns scores into weights and adds up their sum; rescales what was added up before.
    #[inline(always)]
    fn soften(&mut self, count: usize, scores: &mut [f32]) {
        let rows = scores.chunks_exact_mut(KEYS).zip(&mut self.largest).zip(&mut self.total).zip(self.out.chunks_exact_mut(self.value_dim));
        for (((scores, largest), total), out) in rows {
            let scores = &mut scores[..count];
            let new_largest = reduce(scores, *largest, |a, b| if a > b || a.is_nan() { a } else { b });
            if new_largest == f32::NEG_INFINITY {
                // The row sees nothing of this block, and a weight must be 0, not exp(−∞ + ∞).
                scores.fill(0.0);
                continue;
            }
            scores.iter_mut().for_each(|score| *score -= new_largest);
            exp_in_place(scores);
            if new_largest != *largest {
                let mut shrink = [*largest - new_largest];
                exp_in_place(&mut shrink);
                *total *= shrink[0];
                out.iter_mut().for_each(|value| *value *= shrink[0]);
                *largest = new_largest;
            }
            *total += reduce(scores, 0.0, |a, b| a + b);
        }
    }
}

impl Fold for State {
    #[inline(always)]
    fn fold<L: Lanes>(&mut self, lanes: L, _: &Tile<'_>, block: &mut KeyBlock<'_>, next: &KeyBlock<'_>, scores: &mut [f32]) {
        self.soften(block.len(), scores);
        block.add_values(lanes, next, scores, self.value_dim, &mut self.out);
    }
}

/// Sums, key by key, the probabilities that a tile's rows give to it.
pub(crate) struct ProbabilitySums<'a> {
    /// The logarithm of each row's sum of exponentials over all keys.
    pub(crate) log_sum_exp: &'a [f32],
    /// The tile's share of the keys.
    pub(crate) sums: Vec<f32>,
}

impl Fold for ProbabilitySums<'_> {
    #[inline(always)]
    fn fold<L: Lanes>(&mut self, _: L, tile: &Tile<'_>, block: &mut KeyBlock<'_>, _: &KeyBlock<'_>, scores: &mut [f32]) {
        for (scores, log_sum_exp) in scores.chunks_exact_mut(KEYS).zip(self.log_sum_exp) {
            let scores = &mut scores[..block.len()];
            scores.iter_mut().for_each(|score| *score -= log_sum_exp);
            exp_in_place(scores);
            for segment in block.segments() {
                let sums = &mut self.sums[segment.first_key - tile.share.start..][..segment.columns.len()];
                sums.iter_mut().zip(&scores[segment.columns.clone()]).for_each(|(sum, probability)| *sum += probability);
            }
        }
    }
}

/// Reduces in eight lanes: one running value would wait for itself at every element.
#[inline(always)]
fn reduce(values: &[f32], start: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut result = rest.iter().fold(start, |result, value| combine(result, *value));
    if let [first, others @ ..] = chunks {
        let mut lanes = *first;
        for chunk in others {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = combine(*lane, *value);
            }
        }
        result = lanes.into_iter().fold(result, &combine);
    }
    result
}
