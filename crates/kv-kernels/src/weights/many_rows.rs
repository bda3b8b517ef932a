//! Products of many rows: tiles of the matrix are decoded into scratch that stays in the CPU cache.

use std::cell::Cell;

use rayon::prelude::*;

use super::{Matrix, Product, WeightFormat};
use crate::KernelPath;
use crate::codec::{Bf16, F16, F32, Iq4Nl, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use crate::lanes::{Kernel, Lanes};
use crate::products::decode_rows;
use crate::rows::RowsInARow;

/// Values of a tile, at most: 4 MiB in `f32`, which the last-level cache holds.
const TILE_VALUES: usize = 1 << 20;
/// Rows of a matrix that one task decodes.
const ROWS_PER_TASK: usize = 32;

thread_local! {
    /// Kept from product to product, because new memory would have to be cleared each time.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(vec![]) };
}

pub(super) fn multiply_many(path: KernelPath, activations: &[f32], rows: usize, products: &mut [Product<'_>]) {
    // Taken, not borrowed: while this thread waits for others, it may run another product.
    let mut scratch = SCRATCH.take();
    for Product { matrix, out } in products {
        let tile_rows = (TILE_VALUES / matrix.inputs).clamp(1, matrix.outputs);
        scratch.resize(scratch.len().max(tile_rows * matrix.inputs), 0.0);
        for (index, tile) in matrix.parts(tile_rows).enumerate() {
            let decoded = &mut scratch[..tile.outputs * tile.inputs];
            let tasks = decoded.par_chunks_mut(ROWS_PER_TASK * tile.inputs).zip(tile.bytes.par_chunks(ROWS_PER_TASK * tile.row_bytes));
            tasks.for_each(|(decoded, bytes)| path.run(tile.inputs, Decode { matrix: Matrix { bytes, ..tile }, decoded }));
            multiply_tile(activations, rows, decoded, tile, &mut out[index * tile_rows..], matrix.outputs);
        }
    }
    SCRATCH.set(scratch);
}

/// The products with some rows of a matrix: `out[r · stride + o] = Σ decoded[o][i] · activations[r][i]`.
fn multiply_tile(activations: &[f32], rows: usize, decoded: &[f32], tile: Matrix<'_>, out: &mut [f32], stride: usize) {
    let Matrix { inputs, outputs, .. } = tile;
    assert!(activations.len() == rows * inputs && decoded.len() == outputs * inputs, "a tile's lengths");
    assert!(rows > 0 && outputs <= stride && out.len() >= (rows - 1) * stride + outputs, "a place for every product");
    // SAFETY: the lengths of all three matrices were checked.
    unsafe {
        gemm::gemm(
            rows,
            outputs,
            inputs,
            out.as_mut_ptr(),
            1,
            stride as isize,
            false,
            activations.as_ptr(),
            1,
            inputs as isize,
            decoded.as_ptr(),
            inputs as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(rayon::current_num_threads()),
        );
    }
}

/// Decodes all rows of a matrix, `[outputs, inputs]`.
pub(super) struct Decode<'a> {
    pub(super) matrix: Matrix<'a>,
    pub(super) decoded: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Matrix { format, inputs, row_bytes, bytes, .. } = self.matrix;
        let rows = RowsInARow::new(bytes, row_bytes);
        with_weight_codec!(format, C => decode_rows::<L, C>(lanes, inputs, rows, self.decoded));
    }
}
