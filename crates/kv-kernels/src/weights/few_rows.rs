//! Products of up to 16 rows: weights are decoded in registers, each once for up to four rows of activations.

use std::marker::PhantomData;

use super::{Matrix, WeightFormat};
use crate::codec::{Bf16, Codec, F16, F32, Iq4Nl, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, decode};
use crate::lanes::{Kernel, Lanes};

/// Rows of activations that share each decoded vector.
const TOGETHER: usize = 4;

/// The product of a few rows with a share of a matrix.
pub(super) struct FewRows<'a> {
    /// `[rows, inputs]`
    pub(super) activations: &'a [f32],
    pub(super) matrix: Matrix<'a>,
    /// `[rows, outputs]`
    pub(super) out: &'a mut [f32],
}

impl Kernel for FewRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let format = self.matrix.format;
        with_weight_codec!(format, C => multiply::<L, C>(lanes, self));
    }
}

#[inline(always)]
fn multiply<L: Lanes, C: Codec>(lanes: L, FewRows { activations, matrix, out }: FewRows<'_>) {
    let Matrix { inputs, outputs, row_bytes, .. } = matrix;
    assert!(row_bytes >= C::row_bytes(inputs) && inputs.is_multiple_of(L::WIDTH), "rows of {row_bytes} bytes");
    for (activations, out) in activations.chunks(TOGETHER * inputs).zip(out.chunks_mut(TOGETHER * outputs)) {
        let rows = activations.len() / inputs;
        let codec = PhantomData::<C>;
        // The sums of one row of activations with four of the matrix, or of four with two, stay in registers.
        match rows {
            1 => lanes.run(Dots::<C, 1, 4> { activations, rows, matrix, out, codec }),
            _ => lanes.run(Dots::<C, TOGETHER, 2> { activations, rows, matrix, out, codec }),
        }
    }
}

/// Dot products of `ROWS` rows of activations with `WEIGHTS` rows of a matrix at a time. Where there are fewer, the last row
/// is taken again, and its result is dropped.
struct Dots<'a, C, const ROWS: usize, const WEIGHTS: usize> {
    activations: &'a [f32],
    rows: usize,
    matrix: Matrix<'a>,
    out: &'a mut [f32],
    codec: PhantomData<C>,
}

impl<C: Codec, const ROWS: usize, const WEIGHTS: usize> Kernel for Dots<'_, C, ROWS, WEIGHTS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Matrix { inputs, outputs, row_bytes, bytes, .. } = self.matrix;
        let mut activations = [self.activations.as_ptr(); ROWS];
        for (row, start) in activations.iter_mut().enumerate() {
            *start = self.activations[row.min(self.rows - 1) * inputs..][..inputs].as_ptr();
        }
        let mut first = 0;
        while first < outputs {
            let mut weights = [bytes.as_ptr(); WEIGHTS];
            for (row, start) in weights.iter_mut().enumerate() {
                *start = bytes[(first + row).min(outputs - 1) * row_bytes..][..row_bytes].as_ptr();
            }
            // SAFETY: rows of `inputs` values were sliced, and `multiply` checked the bytes of such a row of the matrix.
            let sums = unsafe { dots::<L, C, ROWS, WEIGHTS>(lanes, activations, weights, inputs) };
            let count = WEIGHTS.min(outputs - first);
            for (out, sums) in self.out.chunks_exact_mut(outputs).zip(sums) {
                out[first..first + count].copy_from_slice(&sums[..count]);
            }
            first += WEIGHTS;
        }
    }
}

/// # Safety
/// Every row can be read: `inputs` values of activations, and the bytes of as many weights. `inputs` is a multiple of the width.
#[inline(always)]
unsafe fn dots<L: Lanes, C: Codec, const ROWS: usize, const WEIGHTS: usize>(
    lanes: L,
    activations: [*const f32; ROWS],
    weights: [*const u8; WEIGHTS],
    inputs: usize,
) -> [[f32; WEIGHTS]; ROWS] {
    // Rows without groups are taken in pieces of the same size.
    const PIECE: usize = 32;
    let group_values = if C::GROUP == 0 { PIECE.min(inputs) } else { C::GROUP };
    let mut sums = [[lanes.splat(0.0); WEIGHTS]; ROWS];
    let mut start = 0;
    let mut group = 0;
    while start < inputs {
        let end = if C::GROUP == 0 { (start + group_values).min(inputs) } else { start + group_values };
        // One row of the matrix after the other, so that only one scale and one offset take a register.
        for w in 0..WEIGHTS {
            // SAFETY: guaranteed by the caller.
            let scale = unsafe { C::scale(lanes, weights[w], group) };
            let mut at = start;
            while at < end {
                let within = if C::GROUP == 0 { at } else { at - start };
                // SAFETY: guaranteed by the caller.
                let vector = unsafe { decode::<L, C>(lanes, weights[w], group, within, scale) };
                for r in 0..ROWS {
                    // SAFETY: guaranteed by the caller.
                    let from = unsafe { activations[r].add(at) };
                    // SAFETY: guaranteed by the caller.
                    let row = unsafe { lanes.load_f32(from.cast()) };
                    sums[r][w] = lanes.mul_add(row, vector, sums[r][w]);
                }
                at += L::WIDTH;
            }
        }
        start = end;
        group += 1;
    }
    let mut out = [[0.0; WEIGHTS]; ROWS];
    let mut index = 0;
    while index < ROWS * WEIGHTS {
        let mut four = [lanes.splat(0.0); 4];
        for (i, sum) in four.iter_mut().enumerate() {
            *sum = sums[(index + i) / WEIGHTS][(index + i) % WEIGHTS];
        }
        for (i, sum) in lanes.sums(four).into_iter().enumerate() {
            out[(index + i) / WEIGHTS][(index + i) % WEIGHTS] = sum;
        }
        index += 4;
    }
    out
}
