//! Weights times quantized values in integers, on machines with integer dot products.
//!
//! A value is `scale · (code − zero) + minimum` in groups of 32 channels. For each group, the weights of all tokens are
//! multiplied by the tokens' scales and rounded to [`factors`](crate::factors):
//! `Σ_j w[j] · v[j] = worth · Σ_j factor[j] · (code[j] − centre) + Σ_j w[j] · (minimum[j] + (centre − zero) · scale[j])`.
//! The integer sums are exact. A scaled weight is rounded to 16 bits relative to the largest weight times the largest scale. This
//! changes an output by at most `max |w| · max |scale| · Σ |code − centre| / 65024`, which is why codes are counted from the
//! center and the rest is computed in floats.

use std::marker::PhantomData;

use crate::codec::ColumnCodec;
use crate::column_sums::{COLUMNS, HalfSums};
use crate::factors::{Normalised, Rounded, normalise};
use crate::group_heads::{GroupHeads, TOKENS};
use crate::key_block::KEYS;
use crate::lanes::{IntegerDots, IntegerKernel, Lanes};
use crate::products::TOGETHER;
use crate::rows::{Pace, RowList, Rows};

/// Like [`add_rows`](crate::products::add_rows), for at most [`KEYS`] rows and with the weights rounded.
///
/// A NaN weight is not detected here. It shows in the total of the softmax.
#[inline(always)]
pub(crate) fn add_codes<D: IntegerDots, C: ColumnCodec>(
    dots: D,
    weights: &[f32],
    weight_stride: usize,
    values: Rows<'_>,
    dim: usize,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    assert!(values.row_bytes() >= C::row_bytes(dim) && dim.is_multiple_of(C::GROUP), "rows of {} bytes", values.row_bytes());
    assert!((1..=KEYS).contains(&values.count()), "{} rows", values.count());
    assert!(2 * COLUMNS == C::GROUP && COLUMNS.is_multiple_of(D::Lanes::WIDTH), "groups of {}", C::GROUP);
    scratch.heads.gather::<C>(values, dim);
    scratch.weights.resize(TOGETHER * KEYS, 0.0);
    scratch.factors.resize(TOGETHER * KEYS, 0);
    let all = out.len() / dim;
    let together = all.div_ceil(all.div_ceil(TOGETHER));
    for (weights, out) in weights.chunks(together * weight_stride).zip(out.chunks_mut(together * dim)) {
        let scratch = &mut *scratch;
        assert!(weights.len() >= (out.len() / dim - 1) * weight_stride + values.count(), "a weight a row");
        let codec = PhantomData::<C>;
        match out.len() / dim {
            1 => dots.run(AddCodes::<C, 1> { weights, weight_stride, values, dim, out, scratch, codec }),
            2 => dots.run(AddCodes::<C, 2> { weights, weight_stride, values, dim, out, scratch, codec }),
            3 => dots.run(AddCodes::<C, 3> { weights, weight_stride, values, dim, out, scratch, codec }),
            _ => dots.run(AddCodes::<C, TOGETHER> { weights, weight_stride, values, dim, out, scratch, codec }),
        }
    }
}

/// Intermediate results.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    heads: GroupHeads,
    /// The normalized weights, and their factors for one group: `[TOGETHER, KEYS]`.
    weights: Vec<f32>,
    factors: Vec<i16>,
}

struct AddCodes<'a, C, const ROWS: usize> {
    weights: &'a [f32],
    weight_stride: usize,
    values: Rows<'a>,
    dim: usize,
    out: &'a mut [f32],
    scratch: &'a mut Scratch,
    codec: PhantomData<C>,
}

impl<C: ColumnCodec, const ROWS: usize> IntegerKernel for AddCodes<'_, C, ROWS> {
    #[inline(always)]
    fn run<D: IntegerDots>(self, dots: D) {
        let AddCodes { weights, weight_stride, values, dim, out, scratch: Scratch { heads, weights: normalised, factors }, .. } = self;
        let count = values.count();
        let mut worth = [0.0; ROWS];
        for r in 0..ROWS {
            worth[r] = normalise(dots.lanes(), &weights[r * weight_stride..][..count], &mut normalised[r * KEYS..(r + 1) * KEYS]);
        }
        let normalised = Normalised { values: normalised, stride: KEYS, worth: &worth };
        for group in 0..dim / C::GROUP {
            let rounded = normalised.round_scaled(dots, &heads.of::<C>(group, count), C::centre::<D>() - C::zero::<D>(), factors);
            let columns = GroupColumns { values, group, dim, factors, codec: self.codec };
            let out = &mut out[group * C::GROUP..];
            if HalfSums::<D, ROWS, 0, 2>::FIT_REGISTERS {
                columns.add_halves::<D, ROWS, 0, 2>(dots, &rounded, out);
            } else {
                columns.add_halves::<D, ROWS, 0, 1>(dots, &rounded, out);
                columns.add_halves::<D, ROWS, 1, 1>(dots, &rounded, out);
            }
        }
    }
}

/// The columns of a group, and one factor per row.
struct GroupColumns<'a, C> {
    values: Rows<'a>,
    group: usize,
    dim: usize,
    /// `[ROWS, KEYS]`
    factors: &'a [i16],
    codec: PhantomData<C>,
}

impl<C: ColumnCodec> GroupColumns<'_, C> {
    /// Adds `COUNT` halves of the group, starting with half `FIRST`, to the output.
    #[inline(always)]
    fn add_halves<D: IntegerDots, const ROWS: usize, const FIRST: usize, const COUNT: usize>(
        &self,
        dots: D,
        rounded: &Rounded<ROWS>,
        out: &mut [f32],
    ) {
        let factors = self.factors[..ROWS * KEYS].as_ptr();
        let mut sums = HalfSums::<D, ROWS, FIRST, COUNT>::new(dots, rounded, C::centre::<D>());
        let (fours, rest) = self.values.fours();
        let whole = TOKENS * fours.len();
        let passes = 2 / COUNT;
        let (pass, all_passes) = (self.group * passes + FIRST, self.dim / C::GROUP * passes);
        let mut pace = Pace::<TOKENS>::new(pass, all_passes, fours.len(), self.values.ahead());
        for (index, rows) in fours.enumerate() {
            let first = TOKENS * index;
            pace.step(dots.lanes());
            // SAFETY: `add_codes` checked that each row has the bytes of all groups.
            let codes = unsafe { C::columns(dots, rows, self.group) };
            // SAFETY: one factor per token was stored, and `KEYS` is a multiple of four.
            unsafe { sums.add_four(dots, codes, factors, KEYS, first) };
        }
        if let Some(rows) = rest {
            // SAFETY: as above.
            let codes = unsafe { C::columns(dots, rows, self.group) };
            // SAFETY: as above.
            unsafe { sums.add_four(dots, codes, factors, KEYS, whole) };
        }
        sums.add_to::<C>(dots, rounded, out, self.dim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::codec::{Codec, HALF, Q2_1, Q4_0, Q4_1, Q8_0};
    use crate::lanes::on_all_integer_dots;
    use crate::noise::noise;
    use crate::rows::{Ahead, RowStart};

    const DIM: usize = 96;

    /// Adds rows twice and checks each output.
    #[derive(Clone, Copy)]
    struct Add<'a, C, F> {
        weights: &'a [f32],
        rows: &'a [RowStart<'a>],
        check: F,
        codec: PhantomData<C>,
    }

    impl<C: ColumnCodec, F: Fn(usize, usize, f32) + Copy> IntegerKernel for Add<'_, C, F> {
        #[inline(always)]
        fn run<D: IntegerDots>(self, dots: D) {
            let mut out = vec![0.5; self.weights.len() / KEYS * DIM];
            // SAFETY: the rows are of the codec's format.
            let rows = unsafe { Rows::new(self.rows, C::row_bytes(DIM), Ahead::NOTHING) };
            // A scratch that was used for other tokens before.
            let mut scratch = Scratch::default();
            for _ in 0..2 {
                add_codes::<_, C>(dots, self.weights, KEYS, rows, DIM, &mut out, &mut scratch);
            }
            for (at, out) in out.into_iter().enumerate() {
                (self.check)(at / DIM, at % DIM, out);
            }
        }
    }

    /// For a format with this largest scale for values in −1 … 1, and this mean distance of its codes from the center.
    fn stays_within_the_bound<C: ColumnCodec + Copy>(format: &str, scale: f32, code: f32) {
        let format: Format = format.parse().expect("a format");
        let most = if cfg!(miri) { 5 } else { KEYS };
        let values: Vec<f32> = noise(most * DIM, 7);
        let mut encoded = vec![0; most * C::row_bytes(DIM)];
        for (row, encoded) in values.chunks_exact(DIM).zip(encoded.chunks_exact_mut(C::row_bytes(DIM))) {
            format.encode_row(row, encoded);
        }
        let mut decoded = vec![0.0; most * DIM];
        format.decode_rows(DIM, &encoded, &mut decoded);
        let starts: Vec<_> = RowStart::each(&encoded, C::row_bytes(DIM)).collect();
        // Under Miri, many rows take minutes.
        let cases = [(1, 1), (3, 2), (4, 3), (5, 4), (63, 5), (64, 8), (65, 2), (255, 4), (256, 4)];
        for (count, rows) in cases.into_iter().take(if cfg!(miri) { 4 } else { 9 }) {
            // One weight of 1 among small ones, as in a peaked softmax.
            let weights: Vec<f32> = noise(rows * KEYS, 1)
                .into_iter()
                .enumerate()
                .map(|(i, noise)| if i % KEYS == count / 2 { 1.0 } else { 1e-3 * noise.abs() })
                .collect();
            let check = |r: usize, column: usize, out: f32| {
                let sum = (0..count).map(|j| weights[r * KEYS + j] * decoded[j * DIM + column]).sum::<f32>();
                // `count` scaled weights are rounded, with a mean error of 0.29 of a factor, times a mean code of at most `code`. The
                // value of a factor is a scale divided by 32512, and the tokens are added twice. The bound is five times that.
                let expected = 0.5 + 2.0 * sum;
                let bound = 5.0 * 2.0 * 0.29 * code * (scale / 32_512.0) * (count as f32).sqrt() + 1e-5;
                assert!((out - expected).abs() < bound, "{format}, {count} rows: {out} instead of {expected}");
            };
            on_all_integer_dots(Add::<C, _> { weights: &weights, rows: &starts[..count], check, codec: PhantomData });
        }
    }

    #[test]
    fn a_peaked_softmax_stays_within_the_bound() {
        stays_within_the_bound::<Q8_0>("q8_0", 1.0 / 127.0, 74.0);
        stays_within_the_bound::<Q4_0>("q4_0", 1.0 / 8.0, 5.0);
        stays_within_the_bound::<Q4_1>("q4_1", 2.0 / 15.0, 5.0);
        stays_within_the_bound::<Q2_1>("kivi2", 2.0 / 3.0, 2.0);
    }

    #[test]
    fn a_scale_that_is_not_finite_gives_nothing_that_is() {
        let mut encoded = vec![0; 2 * Q4_0::row_bytes(DIM)];
        encoded[..HALF].copy_from_slice(&0x7C00u16.to_le_bytes());
        let starts: Vec<_> = RowStart::each(&encoded, Q4_0::row_bytes(DIM)).collect();
        for weight in [0.0, 1.0] {
            let weights = [vec![weight; KEYS], vec![weight; KEYS]].concat();
            let check = |_: usize, column: usize, out: f32| {
                assert_eq!(out.is_finite(), column >= Q4_0::GROUP, "weight {weight}, column {column}: {out}");
            };
            on_all_integer_dots(Add::<Q4_0, _> { weights: &weights, rows: &starts, check, codec: PhantomData });
        }
    }
}
