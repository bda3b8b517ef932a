//! Queries times a group of keys that lie channel by channel, in integers.
//!
//! As in [`channel_scores`](crate::channel_scores), the queries are multiplied by the channels' scales first; then they
//! are rounded to [`factors`](crate::factors), for each group anew.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name rows and halves alike")]

use std::marker::PhantomData;

use crate::channel_scores::{GROUP, ScaledQueries, scale_queries};
use crate::codec::{ChannelCodec, Channels};
use crate::column_sums::HalfSums;
use crate::factors::{Rounded, round_to_factors};
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
    // The scaled queries, and behind them a factor for each value.
    scratch.resize(TOGETHER * (dim + row_factors(dim) / 2), 0.0);
    let (scaled, factors) = scratch.split_at_mut(TOGETHER * dim);
    let factors = bytemuck::cast_slice_mut(factors);
    let rows = queries.rows();
    let together = rows.div_ceil(rows.div_ceil(TOGETHER));
    for (queries, scores) in queries.values.chunks(together * dim).zip(scores.chunks_mut(together * stride)) {
        let (scaled, factors) = (&mut *scaled, &mut *factors);
        let codec = PhantomData::<C>;
        match queries.len() / dim {
            1 => dots.run(ScoreChannelCodes::<C, 1> { queries, dim, channels, scores, stride, scaled, factors, codec }),
            2 => dots.run(ScoreChannelCodes::<C, 2> { queries, dim, channels, scores, stride, scaled, factors, codec }),
            3 => dots.run(ScoreChannelCodes::<C, 3> { queries, dim, channels, scores, stride, scaled, factors, codec }),
            _ => dots.run(ScoreChannelCodes::<C, TOGETHER> { queries, dim, channels, scores, stride, scaled, factors, codec }),
        }
    }
}

/// Places for a query's factors: each begins at a multiple of 16.
fn row_factors(dim: usize) -> usize {
    dim.next_multiple_of(16)
}

struct ScoreChannelCodes<'a, C, const ROWS: usize> {
    queries: &'a [f32],
    dim: usize,
    channels: &'a Channels<'a>,
    scores: &'a mut [f32],
    stride: usize,
    /// Scratch for `[ROWS, dim]`.
    scaled: &'a mut [f32],
    /// Scratch for `[ROWS, row_factors(dim)]`.
    factors: &'a mut [i16],
    codec: PhantomData<C>,
}

impl<C: ChannelCodec, const ROWS: usize> IntegerKernel for ScoreChannelCodes<'_, C, ROWS> {
    #[inline(always)]
    fn run<D: IntegerDots>(mut self, dots: D) {
        self.scores.chunks_mut(self.stride).for_each(|row| row[..GROUP].fill(0.0));
        let scaled = scale_queries(dots.lanes(), self.queries, self.channels, C::CENTRE, self.scaled);
        let rounded = self.round_queries(dots, &scaled);
        if HalfSums::<D, ROWS, 0, 2>::FIT_REGISTERS {
            self.score_halves::<D, 0, 2>(dots, &rounded, &scaled);
        } else {
            self.score_halves::<D, 0, 1>(dots, &rounded, &scaled);
            self.score_halves::<D, 1, 1>(dots, &rounded, &scaled);
        }
    }
}

impl<C: ChannelCodec, const ROWS: usize> ScoreChannelCodes<'_, C, ROWS> {
    /// Rounds the scaled queries.
    #[inline(always)]
    fn round_queries<D: IntegerDots>(&mut self, dots: D, scaled: &ScaledQueries<ROWS>) -> [Rounded; ROWS] {
        let (mut rounded, row_factors) = ([Rounded { worth: 0.0, sum: 0 }; ROWS], row_factors(self.dim));
        for r in 0..ROWS {
            let values = &self.scaled[r * self.dim..(r + 1) * self.dim];
            let factors = &mut self.factors[r * row_factors..(r + 1) * row_factors];
            rounded[r] = round_to_factors(dots, values, scaled.largest[r], factors);
        }
        rounded
    }

    /// Adds up the scores of `COUNT` halves of the group from `FIRST` on.
    #[inline(always)]
    fn score_halves<D: IntegerDots, const FIRST: usize, const COUNT: usize>(
        &mut self,
        dots: D,
        rounded: &[Rounded; ROWS],
        scaled: &ScaledQueries<ROWS>,
    ) {
        let row_factors = row_factors(self.dim);
        let factors = self.factors[..ROWS * row_factors].as_ptr();
        let mut sums = HalfSums::<D, ROWS, FIRST, COUNT>::new(dots, rounded, C::CENTRE);
        for first in (0..self.dim).step_by(CHANNELS) {
            let rows = self.channels.codes.as_ptr().wrapping_add(first * C::row_bytes(GROUP));
            // SAFETY: `Channels::check` saw that there is a row of codes a channel.
            let codes = unsafe { C::columns(dots, rows) };
            // SAFETY: a factor a channel was rounded.
            unsafe { sums.add_four(dots, codes, factors, row_factors, first) };
        }
        sums.add_to::<C>(dots, rounded, &scaled.offsets, self.scores, self.stride);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::codec::{HALF, Nibbles, TwoBits, decode_channels, encode_channels};
    use crate::lanes::on_all_integer_dots;
    use crate::noise::noise;

    /// Scores a group of keys, and checks each score.
    #[derive(Clone, Copy)]
    struct Score<'a, C, F> {
        queries: &'a [f32],
        channels: &'a Channels<'a>,
        dim: usize,
        check: F,
        codec: PhantomData<C>,
    }

    impl<C: ChannelCodec, F: Fn(usize, usize, f32) + Copy> IntegerKernel for Score<'_, C, F> {
        #[inline(always)]
        fn run<D: IntegerDots>(self, dots: D) {
            let queries = Queries::new(self.dim, self.queries.to_vec());
            let mut scores = vec![f32::NAN; queries.rows() * GROUP];
            score_group_codes::<_, C>(dots, &queries, self.channels, &mut scores, GROUP, &mut vec![]);
            scores.into_iter().enumerate().for_each(|(at, score)| (self.check)(at / GROUP, at % GROUP, score));
        }
    }

    fn stays_within_the_bound<C: ChannelCodec>(format: &str, largest_code: f32) {
        let format: Format = format.parse().expect("a format");
        for (dim, rows) in [(32, 1), (64, 3), (96, 5)] {
            let (keys, queries) = (noise(GROUP * dim, 7), noise(rows * dim, 1));
            let mut encoded = vec![0; dim * (2 * HALF + C::row_bytes(GROUP))];
            encode_channels(format, &keys.chunks_exact(dim).collect::<Vec<_>>(), &mut encoded);
            let mut decoded = vec![0.0; dim * GROUP];
            decode_channels(format, dim, &encoded, &mut decoded);
            let check = |row: usize, key: usize, score: f32| {
                let query = &queries[row * dim..][..dim];
                let expected: f32 = query.iter().zip(decoded.chunks_exact(GROUP)).map(|(query, channel)| query * channel[key]).sum();
                // Half a factor's worth a channel, times codes of half the range from the centre at most: a factor is worth a scale
                // of 2 / largest_code at most over 32512.
                let bound = 0.5 * (2.0 / largest_code / 32_512.0) * (largest_code / 2.0 + 1.0) * dim as f32 + 1e-5;
                assert!((score - expected).abs() < bound, "{format}, dim {dim}, {rows} rows: {score} instead of {expected}");
            };
            let channels = Channels::of(dim, &encoded);
            on_all_integer_dots(Score::<C, _> { queries: &queries, channels: &channels, dim, check, codec: PhantomData });
        }
    }

    #[test]
    fn scores_of_channels_stay_within_the_bound() {
        stays_within_the_bound::<Nibbles>("kivi4", 15.0);
        stays_within_the_bound::<TwoBits>("kivi2", 3.0);
    }
}
