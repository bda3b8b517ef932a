//! Weights times values, with the values decoded in registers. Each value is read once for up to [`TOGETHER`] query rows,
//! whose sums also stay in registers.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name rows, keys and vectors alike")]

use std::marker::PhantomData;

use crate::codec::{Codec, decode, decode_row};
use crate::key_block::KEYS;
use crate::lanes::{Kernel, Lanes};
use crate::rows::{Pace, RowList};

/// Query rows that share each decoded vector.
pub(crate) const TOGETHER: usize = 4;

/// The distance between the weights of two query rows.
pub(crate) trait Stride: Copy {
    fn get(self) -> usize;
}

/// The stride of a block of [`KEYS`] weights. It is a constant, so that computing an address takes no instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockStride;

impl Stride for BlockStride {
    #[inline(always)]
    fn get(self) -> usize {
        KEYS
    }
}

impl Stride for usize {
    #[inline(always)]
    fn get(self) -> usize {
        self
    }
}

/// `out[r] += Σ weights[r][j] · rows[j]`.
///
/// # Shapes
/// - weights: `[r, weight_stride]`. The first `rows.count()` columns are read.
/// - rows: rows of `dim` encoded values
/// - out: `[r, out_stride]`. The first `dim` columns are added to. The last row may end with them.
#[inline(always)]
pub(crate) fn add_rows<L: Lanes, C: Codec>(
    lanes: L,
    weights: &[f32],
    weight_stride: impl Stride,
    rows: impl RowList,
    dim: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    assert!(rows.row_bytes() >= C::row_bytes(dim) && dim.is_multiple_of(L::WIDTH), "rows of {} bytes", rows.row_bytes());
    let all = out.len().div_ceil(out_stride);
    let together = all.div_ceil(all.div_ceil(TOGETHER));
    for (weights, out) in weights.chunks(together * weight_stride.get()).zip(out.chunks_mut(together * out_stride)) {
        assert!(weights.len() >= (out.len().div_ceil(out_stride) - 1) * weight_stride.get() + rows.count(), "a weight a row");
        let codec = PhantomData::<C>;
        match out.len().div_ceil(out_stride) {
            1 => lanes.run(AddRows::<C, _, _, 1> { weights, weight_stride, rows, dim, out, out_stride, codec }),
            2 => lanes.run(AddRows::<C, _, _, 2> { weights, weight_stride, rows, dim, out, out_stride, codec }),
            3 => lanes.run(AddRows::<C, _, _, 3> { weights, weight_stride, rows, dim, out, out_stride, codec }),
            _ => lanes.run(AddRows::<C, _, _, TOGETHER> { weights, weight_stride, rows, dim, out, out_stride, codec }),
        }
    }
}

struct AddRows<'a, C, S, R, const ROWS: usize> {
    weights: &'a [f32],
    weight_stride: S,
    rows: R,
    dim: usize,
    out: &'a mut [f32],
    out_stride: usize,
    codec: PhantomData<C>,
}

impl<C: Codec, S: Stride, R: RowList, const ROWS: usize> Kernel for AddRows<'_, C, S, R, ROWS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let vectors = self.dim / L::WIDTH;
        let mut vector = 0;
        // The sums, one weight per row, and the operands of decoding must fit in registers.
        let together = if L::REGISTERS >= ROWS * 5 + 6 { 4 } else { 2 };
        let (passes, rows) = (vectors.div_ceil(together), self.rows);
        let pace = |vector: usize| Pace::new(vector / together, passes, rows.count(), rows.ahead());
        while together == 4 && vector + 4 <= vectors {
            self.add::<L, 4>(lanes, vector, pace(vector));
            vector += 4;
        }
        while vector + 2 <= vectors {
            self.add::<L, 2>(lanes, vector, pace(vector));
            vector += 2;
        }
        if vector < vectors {
            self.add::<L, 1>(lanes, vector, pace(vector));
        }
    }
}

impl<C: Codec, S: Stride, R: RowList, const ROWS: usize> AddRows<'_, C, S, R, ROWS> {
    /// Sums `VECTORS` vectors of columns, starting with vector `first`, over all rows in registers.
    #[inline(always)]
    fn add<L: Lanes, const VECTORS: usize>(&mut self, lanes: L, first: usize, mut pace: Pace<'_, 1>) {
        let column = first * L::WIDTH;
        // The columns are part of one group or several whole groups, because `first` is a multiple of `VECTORS`.
        let groups = (VECTORS * L::WIDTH).checked_div(C::GROUP).unwrap_or(1).max(1);
        let first_group = column.checked_div(C::GROUP).unwrap_or(0);
        let within = column - first_group * C::GROUP;
        let in_group = VECTORS / groups;
        let mut sums = [[lanes.splat(0.0); VECTORS]; ROWS];
        for r in 0..ROWS {
            for v in 0..VECTORS {
                let out = &self.out[r * self.out_stride + column + v * L::WIDTH..][..L::WIDTH];
                // SAFETY: `WIDTH` values.
                sums[r][v] = unsafe { lanes.load_f32(out.as_ptr().cast()) };
            }
        }
        for j in 0..self.rows.count() {
            let row = self.rows.row(j);
            pace.step(lanes);
            let mut row_weights = [lanes.splat(0.0); ROWS];
            for (r, weight) in row_weights.iter_mut().enumerate() {
                // SAFETY: `add_rows` checked that there is one weight per row for each of `ROWS`.
                let value = unsafe { self.weights.get_unchecked(r * self.weight_stride.get() + j) };
                *weight = lanes.splat(*value);
            }
            for g in 0..groups {
                // SAFETY: `add_rows` checked that each row has the bytes of `dim` values.
                let scale = unsafe { C::scale(lanes, row, first_group + g) };
                for i in 0..in_group {
                    // SAFETY: as above; a vector is within one group.
                    let vector = unsafe { decode::<L, C>(lanes, row, first_group + g, within + i * L::WIDTH, scale) };
                    for r in 0..ROWS {
                        let sum = &mut sums[r][g * in_group + i];
                        *sum = lanes.mul_add(row_weights[r], vector, *sum);
                    }
                }
            }
        }
        for r in 0..ROWS {
            for v in 0..VECTORS {
                let out = &mut self.out[r * self.out_stride + column + v * L::WIDTH..][..L::WIDTH];
                // SAFETY: `WIDTH` values.
                unsafe { lanes.store(sums[r][v], out.as_mut_ptr()) };
            }
        }
    }
}

/// Decodes rows into `decoded`, `[rows, dim]`.
#[inline(always)]
pub(crate) fn decode_rows<L: Lanes, C: Codec>(lanes: L, dim: usize, rows: impl RowList, decoded: &mut [f32]) {
    assert!(rows.row_bytes() >= C::row_bytes(dim) && dim.is_multiple_of(L::WIDTH), "rows of {} bytes", rows.row_bytes());
    assert_eq!(decoded.len(), rows.count() * dim, "decoded rows");
    lanes.run(DecodeRows::<C, _> { dim, rows, decoded, codec: PhantomData });
}

struct DecodeRows<'a, C, R> {
    dim: usize,
    rows: R,
    decoded: &'a mut [f32],
    codec: PhantomData<C>,
}

impl<C: Codec, R: RowList> Kernel for DecodeRows<'_, C, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (index, decoded) in self.decoded.chunks_exact_mut(self.dim).enumerate() {
            // SAFETY: `decode_rows` checked that each row has the bytes of `dim` values.
            unsafe { decode_row::<L, C>(lanes, self.rows.row(index), decoded) };
        }
    }
}
