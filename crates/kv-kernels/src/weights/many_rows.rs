//! Products of many rows: tiles of the matrix are decoded into scratch that stays in the CPU cache.

use rayon::prelude::*;

use super::{Matrix, Product, WeightFormat};
use crate::KernelPath;
use crate::codec::{Bf16, F16, F32, Iq4Nl, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, decode_row};
use crate::lanes::{Kernel, Lanes};

/// Rows of a matrix in a tile, at most. Each tile reads all activations again.
const TILE_ROWS: usize = 512;

/// Rows of a matrix whose products go to some columns of `out`.
struct Tile<'a> {
    matrix: Matrix<'a>,
    out: Columns,
}

/// The place of a tile's products: the first, and the distance from row to row.
struct Columns {
    start: *mut f32,
    stride: usize,
}

// SAFETY: tiles have columns of their own, in an `out` that is borrowed until all are done.
unsafe impl Send for Columns {}

pub(super) fn multiply_many(path: KernelPath, activations: &[f32], rows: usize, products: &mut [Product<'_>]) {
    let threads = rayon::current_num_threads();
    let mut tiles = vec![];
    for Product { matrix, out } in products {
        let tile_rows = matrix.outputs.div_ceil(threads).next_multiple_of(16).min(TILE_ROWS);
        for (index, part) in matrix.parts(tile_rows).enumerate() {
            let start = out[index * tile_rows..].as_mut_ptr();
            tiles.push(Tile { matrix: part, out: Columns { start, stride: matrix.outputs } });
        }
    }
    tiles.into_par_iter().with_max_len(1).for_each_init(Vec::new, |scratch, Tile { matrix, out }| {
        scratch.resize(matrix.outputs * matrix.inputs, 0.0);
        path.run(matrix.inputs, Decode { matrix, decoded: scratch });
        multiply_tile(activations, rows, scratch, matrix, out);
    });
}

/// `out = activations · decodedᵀ`.
fn multiply_tile(activations: &[f32], rows: usize, decoded: &[f32], matrix: Matrix<'_>, out: Columns) {
    let (inputs, outputs) = (matrix.inputs, matrix.outputs);
    assert!(activations.len() == rows * inputs && decoded.len() == outputs * inputs && out.stride >= outputs, "a tile's lengths");
    // SAFETY: the lengths were checked, `out` has `rows` rows, and nothing else uses the tile's columns of it.
    unsafe {
        gemm::gemm(
            rows,
            outputs,
            inputs,
            out.start,
            1,
            out.stride as isize,
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
            gemm::Parallelism::None,
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
        with_weight_codec!(format, C => {
            for (row, decoded) in bytes.chunks_exact(row_bytes).zip(self.decoded.chunks_exact_mut(inputs)) {
                // SAFETY: a row has the bytes of `inputs` values, and the path chose vectors that divide them.
                unsafe { decode_row::<L, C>(lanes, row.as_ptr(), decoded) };
            }
        });
    }
}
