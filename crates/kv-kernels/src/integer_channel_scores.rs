//! Queries times a group of keys that lie channel by channel, in integers.
//!
//! As in [`channel_scores`](crate::channel_scores), the queries are multiplied by the channels' scales first; then they
//! are rounded to [`factors`](crate::factors), for each group anew.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name rows and halves alike")]

use std::marker::PhantomData;

use crate::channel_scores::{GROUP, scale_queries};
use crate::codec::{ChannelCodec, Channels};
use crate::factors::{largest_magnitude, round_to_factors};
use crate::integer_products::{COLUMNS, HalvesTogether};
use crate::lanes::{IntegerDots, IntegerKernel, Lanes};
use crate::products::TOGETHER;
use crate::queries::Queries;

/// Channels that an instruction takes together.
const CHANNELS: usize = 4;

/// As [`score_group`](crate::channel_scores::score_group), with the scaled queries rounded.
#[inline(always)]
pub(crate) fn score_group_codes<D: IntegerDots, C: ChannelCodec>(
    dots: D,
    queries: &Queries,
    channels: &Channels<'_>,
    scores: &mut [f32],
    stride: usize,
    scratch: &mut Vec<f32>,
) {
    let dim = queries.dim;
    channels.check::<C>(dim, GROUP);
    assert!(dim.is_multiple_of(D::Lanes::WIDTH) && dim.is_multiple_of(CHANNELS), "{dim} channels");
    // The scaled queries, and behind them a factor for each value, from a multiple of 16 on for each query.
    let row_factors = dim.next_multiple_of(16);
    scratch.resize(TOGETHER * (dim + row_factors / 2), 0.0);
    let (scaled, factors) = scratch.split_at_mut(TOGETHER * dim);
    let factors = bytemuck::cast_slice_mut(factors);
    let rows = queries.rows();
    let together = rows.div_ceil(rows.div_ceil(TOGETHER));
    for (queries, scores) in queries.values.chunks(together * dim).zip(scores.chunks_mut(together * stride)) {
        let (scaled, factors) = (&mut *scaled, &mut *factors);
        let codec = PhantomData::<C>;
        match queries.len() / dim {
            1 => dots.run(ScoreChannelCodes::<C, 1> { queries, dim, channels, scores, stride, scaled, factors, row_factors, codec }),
            2 => dots.run(ScoreChannelCodes::<C, 2> { queries, dim, channels, scores, stride, scaled, factors, row_factors, codec }),
            3 => dots.run(ScoreChannelCodes::<C, 3> { queries, dim, channels, scores, stride, scaled, factors, row_factors, codec }),
            _ => dots.run(ScoreChannelCodes::<C, TOGETHER> { queries, dim, channels, scores, stride, scaled, factors, row_factors, codec }),
        }
    }
}

struct ScoreChannelCodes<'a, C, const ROWS: usize> {
    queries: &'a [f32],
    dim: usize,
    channels: &'a Channels<'a>,
    scores: &'a mut [f32],
    stride: usize,
    /// Scratch for `[ROWS, dim]`.
    scaled: &'a mut [f32],
    /// Scratch for `[ROWS, row_factors]`.
    factors: &'a mut [i16],
    row_factors: usize,
    codec: PhantomData<C>,
}

impl<C: ChannelCodec, const ROWS: usize> IntegerKernel for ScoreChannelCodes<'_, C, ROWS> {
    #[inline(always)]
    fn run<D: IntegerDots>(mut self, dots: D) {
        let offsets = scale_queries::<_, ROWS>(dots.lanes(), self.queries, self.channels, self.scaled);
        let worth = self.round_queries(dots);
        if HalvesTogether::<D, ROWS>::BOTH {
            self.score_halves::<D, 0, 2>(dots, &worth, &offsets);
        } else {
            self.score_halves::<D, 0, 1>(dots, &worth, &offsets);
            self.score_halves::<D, 1, 1>(dots, &worth, &offsets);
        }
    }
}

impl<C: ChannelCodec, const ROWS: usize> ScoreChannelCodes<'_, C, ROWS> {
    /// Rounds the scaled queries, and returns what a factor of each is worth.
    #[inline(always)]
    fn round_queries<D: IntegerDots>(&mut self, dots: D) -> [f32; ROWS] {
        let mut worth = [0.0; ROWS];
        for r in 0..ROWS {
            let scaled = &self.scaled[r * self.dim..(r + 1) * self.dim];
            let factors = &mut self.factors[r * self.row_factors..(r + 1) * self.row_factors];
            worth[r] = round_to_factors(dots, scaled, largest_magnitude(dots.lanes(), scaled), factors).worth;
        }
        worth
    }

    /// Sets the scores of `COUNT` halves of the group from `FIRST` on.
    #[inline(always)]
    fn score_halves<D: IntegerDots, const FIRST: usize, const COUNT: usize>(&mut self, dots: D, worth: &[f32; ROWS], offsets: &[f32; TOGETHER]) {
        let factors = self.factors[..ROWS * self.row_factors].as_ptr();
        let mut sums = [[dots.column_sums(0); COUNT]; ROWS];
        for first in (0..self.dim).step_by(CHANNELS) {
            let rows = self.channels.codes.as_ptr().wrapping_add(first * C::row_bytes(GROUP));
            // SAFETY: `Channels::check` saw that there is a row of codes a channel.
            let codes = unsafe { C::columns(dots, rows) };
            for r in 0..ROWS {
                // SAFETY: four of the factors that were sliced.
                let factors = unsafe { dots.load_column_factors(factors.wrapping_add(r * self.row_factors), first) };
                for half in 0..COUNT {
                    sums[r][half] = dots.add_columns(sums[r][half], codes[FIRST + half], factors);
                }
            }
        }
        for r in 0..ROWS {
            for half in 0..COUNT {
                let scores = &mut self.scores[r * self.stride + (FIRST + half) * COLUMNS..][..COLUMNS];
                scores.fill(0.0);
                // SAFETY: 16 values.
                unsafe { dots.add_totals(sums[r][half], worth[r], offsets[r], scores.as_mut_ptr()) };
            }
        }
    }
}
