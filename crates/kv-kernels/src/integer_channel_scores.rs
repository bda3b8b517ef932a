//! Queries times a group of keys stored channel by channel, in integers.
//!
//! As in [`channel_scores`](crate::channel_scores), the queries are first multiplied by the channels' scales. Then they
//! are rounded to [`factors`](crate::factors), again for each group. The rounding changes `q · k` by at most
//! `max |q| · max |scale| · Σ |code − centre| / 65024`.

use std::marker::PhantomData;

use crate::channel_scores::GROUP;
use crate::codec::{ChannelCodec, Channels};
use crate::column_sums::HalfSums;
use crate::factors::{Heads, Normalised, Rounded, SIXTEEN};
use crate::lanes::{IntegerDots, IntegerKernel};
use crate::products::TOGETHER;
use crate::queries::Queries;
use crate::rows::Ahead;

/// Channels that one instruction processes.
const CHANNELS: usize = 4;

/// Like [`score_groups`](crate::channel_scores::score_groups), for whole sixteens of channels and with the scaled queries rounded.
#[inline(always)]
pub(crate) fn score_group_codes<D: IntegerDots, C: ChannelCodec>(
    dots: D,
    queries: &Queries,
    groups: &[u8],
    ahead: Ahead<'_>,
    scores: &mut [f32],
    stride: usize,
    scratch: &mut Vec<f32>,
) {
    let (dim, rows) = (queries.dim, queries.rows());
    assert!(dim.is_multiple_of(SIXTEEN), "{dim} channels");
    // Room for one factor, half the size of a value, for each value of the rows.
    scratch.resize(TOGETHER * dim / 2, 0.0);
    let factors = bytemuck::cast_slice_mut(scratch);
    let together = rows.div_ceil(rows.div_ceil(TOGETHER));
    for (first, scores) in (0..rows).step_by(together).zip(scores.chunks_mut(together * stride)) {
        let (queries, factors) = (queries.normalised(dots.lanes(), first), &mut *factors);
        let ahead = if first == 0 { ahead } else { Ahead::NOTHING };
        let codec = PhantomData::<C>;
        match together.min(rows - first) {
            1 => dots.run(ScoreChannelCodes::<C, 1> { queries, groups, ahead, scores, stride, factors, codec }),
            2 => dots.run(ScoreChannelCodes::<C, 2> { queries, groups, ahead, scores, stride, factors, codec }),
            3 => dots.run(ScoreChannelCodes::<C, 3> { queries, groups, ahead, scores, stride, factors, codec }),
            _ => dots.run(ScoreChannelCodes::<C, TOGETHER> { queries, groups, ahead, scores, stride, factors, codec }),
        }
    }
}

struct ScoreChannelCodes<'a, C, const ROWS: usize> {
    /// `[ROWS, dim]`
    queries: Normalised<'a>,
    groups: &'a [u8],
    ahead: Ahead<'a>,
    scores: &'a mut [f32],
    stride: usize,
    /// Scratch for `[ROWS, dim]`.
    factors: &'a mut [i16],
    codec: PhantomData<C>,
}

impl<C: ChannelCodec, const ROWS: usize> IntegerKernel for ScoreChannelCodes<'_, C, ROWS> {
    #[inline(always)]
    fn run<D: IntegerDots>(self, dots: D) {
        let ScoreChannelCodes { queries, groups, ahead, scores, stride, factors, .. } = self;
        let dim = queries.stride;
        for (index, group) in groups.chunks_exact(Channels::group_bytes::<C>(dim, GROUP)).enumerate() {
            ahead.prefetch_all(dots.lanes(), index * GROUP..(index + 1) * GROUP);
            let channels = Channels::of(dim, group);
            channels.check::<C>(dim, GROUP);
            let heads = Heads { scales: channels.scales.as_chunks().0, minima: Some(channels.minima.as_chunks().0) };
            let rounded = queries.round_scaled(dots, &heads, C::CENTRE, factors);
            let (channels, scores) =
                (RoundedChannels::<C> { codes: channels.codes, factors, dim, codec: self.codec }, &mut scores[index * GROUP..]);
            if HalfSums::<D, ROWS, 0, 2>::FIT_REGISTERS {
                channels.score_halves::<D, ROWS, 0, 2>(dots, &rounded, scores, stride);
            } else {
                channels.score_halves::<D, ROWS, 0, 1>(dots, &rounded, scores, stride);
                channels.score_halves::<D, ROWS, 1, 1>(dots, &rounded, scores, stride);
            }
        }
    }
}

/// The codes of a group, and factors for each channel.
struct RoundedChannels<'a, C> {
    /// One row for each of `dim` channels.
    codes: &'a [u8],
    /// `[ROWS, dim]`
    factors: &'a [i16],
    dim: usize,
    codec: PhantomData<C>,
}

impl<C: ChannelCodec> RoundedChannels<'_, C> {
    /// Sums the scores of `COUNT` halves of the group, starting with half `FIRST`.
    #[inline(always)]
    fn score_halves<D: IntegerDots, const ROWS: usize, const FIRST: usize, const COUNT: usize>(
        &self,
        dots: D,
        rounded: &Rounded<ROWS>,
        scores: &mut [f32],
        stride: usize,
    ) {
        let factors = self.factors[..ROWS * self.dim].as_ptr();
        let mut sums = HalfSums::<D, ROWS, FIRST, COUNT>::new(dots, rounded, C::CENTRE);
        for first in (0..self.dim).step_by(CHANNELS) {
            let rows = self.codes.as_ptr().wrapping_add(first * C::row_bytes(GROUP));
            // SAFETY: `Channels::check` checked that there is one row of codes per channel.
            let codes = unsafe { C::columns(dots, rows) };
            // SAFETY: one factor per channel was stored.
            unsafe { sums.add_four(dots, codes, factors, self.dim, first) };
        }
        sums.store_in::<C>(dots, rounded, scores, stride);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::codec::{Nibbles, TwoBits, decode_channels, encode_channels};
    use crate::lanes::on_all_integer_dots;
    use crate::noise::noise;

    /// Number of keys in the groups.
    const KEYS: usize = 2 * GROUP;

    /// Scores groups of keys, and checks each score.
    #[derive(Clone, Copy)]
    struct Score<'a, C, F> {
        queries: &'a [f32],
        groups: &'a [u8],
        dim: usize,
        check: F,
        codec: PhantomData<C>,
    }

    impl<C: ChannelCodec, F: Fn(usize, usize, f32) + Copy> IntegerKernel for Score<'_, C, F> {
        #[inline(always)]
        fn run<D: IntegerDots>(self, dots: D) {
            let queries = Queries::new(self.dim, self.queries.to_vec());
            let mut scores = vec![f32::NAN; queries.rows() * KEYS];
            score_group_codes::<_, C>(dots, &queries, self.groups, Ahead::NOTHING, &mut scores, KEYS, &mut vec![]);
            scores.into_iter().enumerate().for_each(|(at, score)| (self.check)(at / KEYS, at % KEYS, score));
        }
    }

    fn stays_within_the_bound<C: ChannelCodec>(format: &str, largest_code: f32) {
        let format: Format = format.parse().expect("a format");
        // Under Miri, many channels take minutes.
        for (dim, rows) in [(32, 1), (48, 3), (80, 4), (96, 5)].into_iter().take(if cfg!(miri) { 2 } else { 4 }) {
            let (keys, queries) = (noise(KEYS * dim, 7), noise(rows * dim, 1));
            let mut encoded = vec![0; KEYS / GROUP * Channels::group_bytes::<C>(dim, GROUP)];
            // `[groups, dim, GROUP]`
            let mut decoded = vec![0.0; KEYS * dim];
            let groups = encoded.chunks_exact_mut(Channels::group_bytes::<C>(dim, GROUP)).zip(decoded.chunks_exact_mut(GROUP * dim));
            for (keys, (encoded, decoded)) in keys.chunks_exact(GROUP * dim).zip(groups) {
                encode_channels(format, &keys.chunks_exact(dim).collect::<Vec<_>>(), encoded);
                decode_channels(format, dim, encoded, decoded);
            }
            let check = |row: usize, key: usize, score: f32| {
                let query = &queries[row * dim..][..dim];
                let expected: f32 = query
                    .iter()
                    .zip(decoded[key / GROUP * GROUP * dim..].chunks_exact(GROUP))
                    .map(|(query, channel)| query * channel[key % GROUP])
                    .sum();
                // An error of half a factor per channel, times codes that are at most half the range from the center. The value of a
                // factor is a scale, at most 2 / largest_code, divided by 32512.
                let bound = 0.5 * (2.0 / largest_code / 32_512.0) * (largest_code / 2.0 + 1.0) * dim as f32 + 1e-5;
                assert!((score - expected).abs() < bound, "{format}, dim {dim}, {rows} rows: {score} instead of {expected}");
            };
            on_all_integer_dots(Score::<C, _> { queries: &queries, groups: &encoded, dim, check, codec: PhantomData });
        }
    }

    #[test]
    fn scores_of_channels_stay_within_the_bound() {
        stays_within_the_bound::<Nibbles>("kivi4", 15.0);
        stays_within_the_bound::<TwoBits>("kivi2", 3.0);
    }
}
