//! Feeds hostile bytes and activations to every format of weights. Nothing may panic or read out of bounds.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz weights` (cargo-fuzz builds it with the address sanitizer).
#![no_main]

use kv_kernels::{Matrix, Product, WeightFormat, multiply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [choice, size, outputs, rest @ ..] = input else { return };
    let format = WeightFormat::ALL[usize::from(*choice) % WeightFormat::ALL.len()];
    let (block_values, _) = format.block();
    // Rows of plain values may end within a vector.
    let most_blocks = if block_values == 1 { 70 } else { 5 };
    let inputs = block_values * (1 + usize::from(*size) % most_blocks);
    let outputs = 1 + usize::from(*outputs) % 20;
    let row_bytes = format.bytes_of(inputs).expect("whole blocks");

    // Bytes that no encoder wrote.
    let bytes: Vec<u8> = rest.iter().cycle().take(outputs * row_bytes).copied().collect();
    // Values that no model computes: NaNs, infinities and subnormals.
    let values: Vec<f32> = rest.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if values.is_empty() {
        return;
    }
    let mut decoded = vec![0.0; outputs * inputs];
    format.decode(&bytes, &mut decoded);
    let matrix = Matrix::new(format, [outputs, inputs], &bytes);
    // One row, rows that share decoded vectors, and rows for which the matrix is decoded first.
    for rows in [1, 4, 17] {
        let activations: Vec<f32> = values.iter().cycle().take(rows * inputs).copied().collect();
        let mut out = vec![0.0; rows * outputs];
        multiply(&activations, &mut [Product { matrix, out: &mut out }]);
    }
});
