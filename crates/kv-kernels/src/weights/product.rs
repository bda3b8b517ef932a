//! `y = W x`.

use rayon::prelude::*;

use super::WeightFormat;
use super::few_rows::FewRows;
use super::many_rows::multiply_many;
use crate::KernelPath;
use crate::queries::FEW_ROWS;

/// A matrix of weights in its encoded form: one row per output.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) format: WeightFormat,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    pub(super) row_bytes: usize,
    pub(super) bytes: &'a [u8],
}

/// A matrix and the place of its product.
#[derive(Debug)]
pub struct Product<'a> {
    /// The matrix.
    pub matrix: Matrix<'a>,
    /// `[rows, outputs]`
    pub out: &'a mut [f32],
}

impl<'a> Matrix<'a> {
    /// # Shapes
    /// - bytes: `[outputs, inputs]` values in the format
    ///
    /// # Panics
    /// If the bytes are not those of that many values, there are none, or a row is no whole number of blocks.
    pub fn new(format: WeightFormat, [outputs, inputs]: [usize; 2], bytes: &'a [u8]) -> Matrix<'a> {
        let row_bytes = format.bytes_of(inputs).unwrap_or_default();
        assert!(!bytes.is_empty() && row_bytes * outputs == bytes.len(), "{} bytes of {outputs} rows of {inputs} in {format}", bytes.len());
        Matrix { format, outputs, inputs, row_bytes, bytes }
    }

    /// Decodes a row, `[inputs]`.
    ///
    /// # Panics
    /// If there is no such row, or `values` has another length.
    pub fn decode_row(&self, row: usize, values: &mut [f32]) {
        self.format.decode(&self.bytes[row * self.row_bytes..][..self.row_bytes], values);
    }

    /// The rows in parts of up to `rows`.
    pub(super) fn parts(self, rows: usize) -> impl Iterator<Item = Matrix<'a>> {
        let parts = self.bytes.chunks(rows * self.row_bytes);
        parts.map(move |bytes| Matrix { outputs: bytes.len() / self.row_bytes, bytes, ..self })
    }
}

/// Multiplies rows of activations by several matrices, on all threads: `out[r][o] = Σ W[o][i] · activations[r][i]`.
///
/// Up to 16 rows, weights are decoded in registers. With more, tiles of the matrix are decoded into scratch and multiplied
/// at once. Neither activations nor weights are rounded on the way, so that a row gives the same result in a large step as on
/// its own, up to the rounding of sums. With one row, sums of codes and of minima are added at the end, so their rounding is
/// relative to those and not to the weights.
///
/// # Shapes
/// - activations: `[rows, inputs]`, with as many inputs as every matrix has
///
/// # Panics
/// If the lengths do not match.
pub fn multiply(activations: &[f32], products: &mut [Product<'_>]) {
    multiply_on(KernelPath::current(), activations, products);
}

/// [`multiply`] on a given path.
pub(super) fn multiply_on(path: KernelPath, activations: &[f32], products: &mut [Product<'_>]) {
    let Some(inputs) = products.first().map(|product| product.matrix.inputs) else { return };
    let rows = activations.len() / inputs;
    for Product { matrix, out } in products.iter() {
        assert_eq!((matrix.inputs * rows, matrix.outputs * rows), (activations.len(), out.len()), "{rows} rows of activations");
    }
    match rows {
        0 => {}
        1..=FEW_ROWS => multiply_few(path, activations, rows, products),
        _ => multiply_many(path, activations, rows, products),
    }
}

/// Up to 16 rows. `activations` are `[rows, inputs]`.
fn multiply_few(path: KernelPath, activations: &[f32], rows: usize, products: &mut [Product<'_>]) {
    let share = task_bytes(products.iter().map(|product| product.matrix.bytes.len()).sum());
    let multiply = |matrix: Matrix<'_>, out: &mut [f32]| path.run(matrix.inputs, FewRows { activations, matrix, out });
    if rows == 1 {
        let tasks = products.iter_mut().flat_map(|Product { matrix, out }| {
            let task_rows = task_rows(matrix, share);
            matrix.parts(task_rows).zip(out.chunks_mut(task_rows))
        });
        return each(tasks.collect(), |(matrix, out)| multiply(matrix, out));
    }
    // Each task's products lie together and are moved to their places afterwards.
    let mut results: Vec<Vec<f32>> = products.iter().map(|product| vec![0.0; product.out.len()]).collect();
    let tasks = products.iter().zip(&mut results).flat_map(|(Product { matrix, .. }, results)| {
        let task_rows = task_rows(matrix, share);
        matrix.parts(task_rows).zip(results.chunks_mut(rows * task_rows))
    });
    each(tasks.collect(), |(matrix, out)| multiply(matrix, out));
    for (Product { matrix, out }, results) in products.iter_mut().zip(&results) {
        let task_rows = task_rows(matrix, share);
        for (task, results) in results.chunks(rows * task_rows).enumerate() {
            let outputs = results.len() / rows;
            for (out, results) in out.chunks_exact_mut(matrix.outputs).zip(results.chunks_exact(outputs)) {
                out[task * task_rows..][..outputs].copy_from_slice(results);
            }
        }
    }
}

/// Runs tasks on all threads. Handing out a single one is not worth it.
fn each<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync) {
    match tasks.len() {
        1 => tasks.into_iter().for_each(work),
        _ => tasks.into_par_iter().with_max_len(1).for_each(&work),
    }
}

/// Bytes of weights per task, if there are `all`.
fn task_bytes(all: usize) -> usize {
    /// Handing out less is not worth it.
    const LEAST: usize = 16 << 10;
    /// So that a thread delayed by another program does not delay the others for long.
    const TASKS_PER_THREAD: usize = 4;
    all.div_ceil(TASKS_PER_THREAD * rayon::current_num_threads()).max(LEAST)
}

/// Rows of a matrix per task: a multiple of the rows that are multiplied together.
fn task_rows(matrix: &Matrix<'_>, share: usize) -> usize {
    const TOGETHER: usize = 8;
    share.div_ceil(matrix.row_bytes).next_multiple_of(TOGETHER)
}
