//! Products of up to 16 rows: weights are decoded in registers, each once for up to four rows of activations.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name rows and sums alike")]

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
    let codec = PhantomData::<C>;
    for (activations, out) in activations.chunks(TOGETHER * inputs).zip(out.chunks_mut(TOGETHER * outputs)) {
        let rows = activations.len() / inputs;
        // The rows of activations times the sums of each fit in registers.
        if rows > 1 {
            lanes.run(Dots::<C, TOGETHER, 2> { activations, rows, matrix, out, codec });
        } else if const { C::GROUP == 0 } {
            lanes.run(Dots::<C, 1, 4> { activations, rows, matrix, out, codec });
        } else {
            let sums = if C::HAS_OFFSET { group_sums(lanes, C::GROUP, activations) } else { vec![] };
            lanes.run(GroupDots { activations, sums: &sums, matrix, out, codec });
        }
    }
}

/// The sum of the vectors of each group, `[groups, WIDTH]`: what an offset of the group is multiplied by.
#[inline(always)]
fn group_sums<L: Lanes>(lanes: L, group_values: usize, activations: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; activations.len() / group_values * L::WIDTH];
    for (sum, values) in sums.chunks_exact_mut(L::WIDTH).zip(activations.chunks_exact(group_values)) {
        let mut total = lanes.splat(0.0);
        for vector in values.chunks_exact(L::WIDTH) {
            // SAFETY: `WIDTH` values.
            let vector = unsafe { lanes.load_f32(vector.as_ptr().cast()) };
            total = lanes.mul_add(vector, lanes.splat(1.0), total);
        }
        // SAFETY: `WIDTH` values.
        unsafe { lanes.store(total, sum.as_mut_ptr()) };
    }
    sums
}

/// Dot products of one row of activations with a matrix in groups: codes are multiplied as they are, and a group's scale and
/// offset by the group's sums.
struct GroupDots<'a, C> {
    activations: &'a [f32],
    /// [`group_sums`], if there are offsets.
    sums: &'a [f32],
    matrix: Matrix<'a>,
    out: &'a mut [f32],
    codec: PhantomData<C>,
}

impl<C: Codec> Kernel for GroupDots<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Matrix { inputs, row_bytes, bytes, .. } = self.matrix;
        let activations = self.activations[..inputs].as_ptr();
        let sums = self.sums[..if C::HAS_OFFSET { inputs / C::GROUP * L::WIDTH } else { 0 }].as_ptr();
        for (out, weights) in self.out.iter_mut().zip(bytes.chunks_exact(row_bytes)) {
            // SAFETY: `inputs` values and as many group sums were sliced, and `multiply` checked the bytes of such a row.
            *out = unsafe { group_dot::<L, C>(lanes, activations, sums, weights.as_ptr(), inputs) };
        }
    }
}

/// # Safety
/// `inputs` activations, a vector of sums per group if there are offsets, and the bytes of `inputs` weights can be read.
#[inline(always)]
unsafe fn group_dot<L: Lanes, C: Codec>(lanes: L, activations: *const f32, sums: *const f32, weights: *const u8, inputs: usize) -> f32 {
    let mut scaled = lanes.splat(0.0);
    let mut offsets = lanes.splat(0.0);
    for group in 0..inputs / C::GROUP {
        // SAFETY: guaranteed by the caller.
        let (scale, offset) = unsafe { C::scale(lanes, weights, group) };
        // Two sums, so that they do not wait for each other.
        let mut dots = [lanes.splat(0.0); 2];
        for v in 0..C::GROUP / L::WIDTH {
            // SAFETY: guaranteed by the caller.
            let codes = unsafe { C::codes(lanes, weights, group, v * L::WIDTH) };
            // SAFETY: guaranteed by the caller.
            dots[v % 2] = unsafe { add(lanes, activations, group * C::GROUP + v * L::WIDTH, codes, dots[v % 2]) };
        }
        for dots in dots {
            scaled = lanes.mul_add(dots, scale, scaled);
        }
        if C::HAS_OFFSET {
            // SAFETY: guaranteed by the caller.
            offsets = unsafe { add(lanes, sums, group * L::WIDTH, offset, offsets) };
        }
    }
    let zero = lanes.splat(0.0);
    let [scaled, offsets, ..] = lanes.sums([scaled, offsets, zero, zero]);
    scaled + offsets
}

/// Dot products of `ROWS` rows of activations with a matrix, row by row: its bytes are read in order. Where there are fewer
/// rows of activations, the last is taken again, and its result is dropped.
///
/// Each dot product is the sum of `SUMS` independent ones, so that an addition need not wait for the one before.
struct Dots<'a, C, const ROWS: usize, const SUMS: usize> {
    activations: &'a [f32],
    rows: usize,
    matrix: Matrix<'a>,
    out: &'a mut [f32],
    codec: PhantomData<C>,
}

impl<C: Codec, const ROWS: usize, const SUMS: usize> Kernel for Dots<'_, C, ROWS, SUMS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Matrix { inputs, outputs, row_bytes, bytes, .. } = self.matrix;
        let mut activations = [self.activations.as_ptr(); ROWS];
        for (row, start) in activations.iter_mut().enumerate() {
            *start = self.activations[row.min(self.rows - 1) * inputs..][..inputs].as_ptr();
        }
        for (output, weights) in bytes.chunks_exact(row_bytes).enumerate() {
            // SAFETY: rows of `inputs` values were sliced, and `multiply` checked the bytes of such a row of the matrix.
            let sums = unsafe { dots::<L, C, ROWS, SUMS>(lanes, activations, weights.as_ptr(), inputs) };
            for (out, sum) in self.out.chunks_exact_mut(outputs).zip(sums) {
                out[output] = sum;
            }
        }
    }
}

/// # Safety
/// Every row can be read: `inputs` values of activations, and the bytes of as many weights. `inputs` is a multiple of the width.
#[inline(always)]
unsafe fn dots<L: Lanes, C: Codec, const ROWS: usize, const SUMS: usize>(
    lanes: L,
    activations: [*const f32; ROWS],
    weights: *const u8,
    inputs: usize,
) -> [f32; ROWS] {
    let mut sums = [[lanes.splat(0.0); SUMS]; ROWS];
    if const { C::GROUP == 0 } {
        let mut at = 0;
        while at + SUMS * L::WIDTH <= inputs {
            for s in 0..SUMS {
                // SAFETY: guaranteed by the caller.
                let vector = unsafe { C::codes(lanes, weights, 0, at + s * L::WIDTH) };
                for r in 0..ROWS {
                    // SAFETY: guaranteed by the caller.
                    sums[r][s] = unsafe { add(lanes, activations[r], at + s * L::WIDTH, vector, sums[r][s]) };
                }
            }
            at += SUMS * L::WIDTH;
        }
        while at < inputs {
            // SAFETY: guaranteed by the caller.
            let vector = unsafe { C::codes(lanes, weights, 0, at) };
            for r in 0..ROWS {
                // SAFETY: guaranteed by the caller.
                sums[r][0] = unsafe { add(lanes, activations[r], at, vector, sums[r][0]) };
            }
            at += L::WIDTH;
        }
    } else {
        for group in 0..inputs / C::GROUP {
            // SAFETY: guaranteed by the caller.
            let scale = unsafe { C::scale(lanes, weights, group) };
            for v in 0..C::GROUP / L::WIDTH {
                // SAFETY: guaranteed by the caller.
                let vector = unsafe { decode::<L, C>(lanes, weights, group, v * L::WIDTH, scale) };
                for r in 0..ROWS {
                    let at = group * C::GROUP + v * L::WIDTH;
                    // SAFETY: guaranteed by the caller.
                    sums[r][v % SUMS] = unsafe { add(lanes, activations[r], at, vector, sums[r][v % SUMS]) };
                }
            }
        }
    }
    total(lanes, sums)
}

/// `row[at ..] · vector + sum`, lane by lane.
///
/// # Safety
/// The row has `at + WIDTH` values.
#[inline(always)]
unsafe fn add<L: Lanes>(lanes: L, row: *const f32, at: usize, vector: L::F32, sum: L::F32) -> L::F32 {
    // SAFETY: guaranteed by the caller.
    let from = unsafe { row.add(at) };
    // SAFETY: guaranteed by the caller.
    let row = unsafe { lanes.load_f32(from.cast()) };
    lanes.mul_add(row, vector, sum)
}

/// The sums of all lanes, of up to four rows.
#[inline(always)]
fn total<L: Lanes, const ROWS: usize, const SUMS: usize>(lanes: L, sums: [[L::F32; SUMS]; ROWS]) -> [f32; ROWS] {
    let mut rows = [lanes.splat(0.0); 4];
    for r in 0..ROWS {
        for s in 0..SUMS {
            rows[r] = lanes.mul_add(sums[r][s], lanes.splat(1.0), rows[r]);
        }
    }
    let four = lanes.sums(rows);
    std::array::from_fn(|r| four[r])
}
