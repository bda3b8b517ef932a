//! Queries times a group of keys that lie channel by channel, in integers.
//!
//! As in [`channel_scores`](crate::channel_scores), the queries are multiplied by the channels' scales first; then they
//! are rounded to two digits of a byte ([`Digits`](crate::queries::Digits)), for each group anew. Four channels of a key
//! lie in one lane, so that an instruction adds 64 products.

use std::marker::PhantomData;

use crate::channel_scores::{GROUP, scale_queries};
use crate::codec::{ChannelCodec, Channels};
use crate::lanes::{ByteDots, ByteKernel, Lanes};
use crate::products::TOGETHER;
use crate::queries::{Digits, Queries};

/// Channels that an instruction takes together.
const CHANNELS: usize = 4;

/// As [`score_group`](crate::channel_scores::score_group), with the scaled queries rounded.
#[inline(always)]
pub(crate) fn score_group_codes<D: ByteDots, C: ChannelCodec>(
    dots: D,
    queries: &Queries,
    channels: &Channels<'_>,
    scores: &mut [f32],
    stride: usize,
    scratch: &mut Vec<f32>,
) {
    let dim = queries.dim;
    channels.check::<C>(dim, GROUP);
    assert!(dim.is_multiple_of(D::Lanes::WIDTH) && D::Lanes::WIDTH.is_multiple_of(CHANNELS), "{dim} channels");
    // The scaled queries, and behind them two bytes for each value.
    scratch.resize(TOGETHER * dim * 3 / 2, 0.0);
    let (scaled, digits) = scratch.split_at_mut(TOGETHER * dim);
    let digits = bytemuck::cast_slice_mut(digits);
    let rows = queries.rows();
    let together = rows.div_ceil(rows.div_ceil(TOGETHER));
    for (queries, scores) in queries.values.chunks(together * dim).zip(scores.chunks_mut(together * stride)) {
        let (scaled, digits) = (&mut *scaled, &mut *digits);
        let codec = PhantomData::<C>;
        match queries.len() / dim {
            1 => dots.run(ScoreChannelCodes::<C, 1> { queries, dim, channels, scores, stride, scaled, digits, codec }),
            2 => dots.run(ScoreChannelCodes::<C, 2> { queries, dim, channels, scores, stride, scaled, digits, codec }),
            3 => dots.run(ScoreChannelCodes::<C, 3> { queries, dim, channels, scores, stride, scaled, digits, codec }),
            _ => dots.run(ScoreChannelCodes::<C, TOGETHER> { queries, dim, channels, scores, stride, scaled, digits, codec }),
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
    /// Scratch for the high digits of `[ROWS, dim]` and for the low ones.
    digits: &'a mut [i8],
    codec: PhantomData<C>,
}

impl<C: ChannelCodec, const ROWS: usize> ByteKernel for ScoreChannelCodes<'_, C, ROWS> {
    #[inline(always)]
    fn run<D: ByteDots>(mut self, dots: D) {
        let lanes = dots.lanes();
        let offsets = scale_queries::<_, ROWS>(lanes, self.queries, self.channels, self.scaled);
        let scales = self.split_into_digits(dots);
        let (high, low) = self.digits[..2 * ROWS * self.dim].split_at(ROWS * self.dim);
        let mut highs = [[dots.zero(); 2]; ROWS];
        let mut lows = [[dots.zero(); 2]; ROWS];
        for first in (0..self.dim).step_by(CHANNELS) {
            let rows = self.channels.codes.as_ptr().wrapping_add(first * C::row_bytes(GROUP));
            // SAFETY: `Channels::check` saw that there is a row of codes a channel.
            let codes = unsafe { C::byte_codes(dots, rows) };
            for r in 0..ROWS {
                let at = r * self.dim + first;
                // SAFETY: four of the digits that were sliced.
                let high = unsafe { dots.load_four(high.as_ptr().wrapping_add(at)) };
                // SAFETY: as above.
                let low = unsafe { dots.load_four(low.as_ptr().wrapping_add(at)) };
                for half in 0..2 {
                    highs[r][half] = dots.dot(highs[r][half], codes[half], high);
                    lows[r][half] = dots.dot(lows[r][half], codes[half], low);
                }
            }
        }
        for r in 0..ROWS {
            let (scale, offset) = (lanes.splat(scales[r]), lanes.splat(offsets[r]));
            for half in 0..2 {
                let score = lanes.mul_add(dots.join(highs[r][half], lows[r][half]), scale, offset);
                let scores = &mut self.scores[r * self.stride + half * D::Lanes::WIDTH..][..D::Lanes::WIDTH];
                // SAFETY: `WIDTH` values.
                unsafe { lanes.store(score, scores.as_mut_ptr()) };
            }
        }
    }
}

impl<C, const ROWS: usize> ScoreChannelCodes<'_, C, ROWS> {
    /// Splits the scaled queries into digits, and returns what a digit of each is worth.
    #[inline(always)]
    fn split_into_digits<D: ByteDots>(&mut self, dots: D) -> [f32; ROWS] {
        let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
        let scaled = self.scaled[..ROWS * self.dim].as_ptr();
        let (high, low) = self.digits[..2 * ROWS * self.dim].split_at_mut(ROWS * self.dim);
        let mut worth = [0.0; ROWS];
        for (r, worth) in worth.iter_mut().enumerate() {
            let vectors = (r * self.dim..(r + 1) * self.dim).step_by(width);
            let mut largest = lanes.splat(0.0);
            for at in vectors {
                // SAFETY: `ROWS` times `dim` values were sliced, of which this is a vector.
                let value = unsafe { lanes.load_f32(scaled.wrapping_add(at).cast()) };
                largest = lanes.max(dots.magnitude(value), largest);
            }
            let row = r * self.dim..(r + 1) * self.dim;
            *worth = Digits::split(dots, &self.scaled[row.clone()], dots.largest(largest), &mut high[row.clone()], &mut low[row]);
        }
        worth
    }
}
