use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use super::product::multiply_on;
use super::{Matrix, Product, WeightFormat};
use crate::KernelPath;
use crate::codec::f32_to_f16;
use crate::noise::noise;

/// Bytes of a matrix that no encoder wrote: any codes, and scales of ordinary size.
fn matrix_bytes(format: WeightFormat, values: usize, seed: u32) -> Vec<u8> {
    if let Some(cache_format) = format.cache_format() {
        let mut bytes = vec![0; cache_format.row_bytes(values)];
        cache_format.encode_row(&noise(values, seed), &mut bytes);
        return bytes;
    }
    let (block_values, block_bytes) = format.block();
    let mut bytes: Vec<u8> = noise(values / block_values * block_bytes, seed).iter().map(|value| (value * 1e4) as i32 as u8).collect();
    for (index, block) in bytes.chunks_exact_mut(block_bytes).enumerate() {
        let scale = |k: usize| f32_to_f16(noise(1, seed + (2 * index + k) as u32)[0] / 64.0).to_le_bytes();
        match format {
            // The scale is last.
            WeightFormat::Q6K => block[block_bytes - 2..].copy_from_slice(&scale(0)),
            WeightFormat::Q5_0 | WeightFormat::Iq4Nl => block[..2].copy_from_slice(&scale(0)),
            _ => {
                block[..2].copy_from_slice(&scale(0));
                block[2..4].copy_from_slice(&scale(1));
            }
        }
    }
    bytes
}

/// The product in double precision of the weights that the reference decodes, and the sum of the terms' magnitudes.
fn reference(matrix: &Matrix<'_>, activations: &[f32]) -> Vec<(f64, f64)> {
    let mut decoded = vec![vec![0.0; matrix.inputs]; matrix.outputs];
    decoded.iter_mut().enumerate().for_each(|(row, decoded)| matrix.decode_row(row, decoded));
    let dot = |row: &[f32], weights: &[f32]| {
        let terms = || row.iter().zip(weights).map(|(a, w)| f64::from(*a) * f64::from(*w));
        (terms().sum(), terms().map(f64::abs).sum())
    };
    activations.chunks_exact(matrix.inputs).flat_map(|row| decoded.iter().map(move |weights| dot(row, weights))).collect()
}

fn check(format: WeightFormat, inputs: usize, outputs: [usize; 2], rows: usize, threads: usize) {
    let activations = noise(rows * inputs, 5);
    let bytes = outputs.map(|outputs| matrix_bytes(format, outputs * inputs, outputs as u32));
    let matrices: Vec<Matrix<'_>> =
        bytes.iter().zip(outputs).map(|(bytes, outputs)| Matrix::new(format, [outputs, inputs], bytes)).collect();
    let expected: Vec<_> = matrices.iter().map(|matrix| reference(matrix, &activations)).collect();
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for path in KernelPath::available() {
        let mut outs: Vec<Vec<f32>> = outputs.iter().map(|outputs| vec![f32::NAN; rows * outputs]).collect();
        let mut products: Vec<Product<'_>> = matrices.iter().zip(&mut outs).map(|(matrix, out)| Product { matrix: *matrix, out }).collect();
        pool.install(|| multiply_on(path, &activations, &mut products));
        for (out, expected) in outs.iter().zip(&expected) {
            for (index, (actual, (expected, magnitude))) in out.iter().zip(expected).enumerate() {
                let error = (f64::from(*actual) - expected).abs();
                assert!(
                    error <= 1e-5 * magnitude + 1e-12,
                    "{format} on {path}, {rows} rows, {inputs} inputs, {outputs:?} outputs, {threads} threads: {actual} at {index} instead of {expected}"
                );
            }
        }
    }
}

#[test]
fn products_equal_the_reference_on_every_path() {
    for format in WeightFormat::ALL {
        let (block, _) = format.block();
        for rows in [0, 1, 2, 3, 4, 15, 16, 17, 33] {
            for threads in [1, 2] {
                check(format, block * 256usize.div_ceil(block), [1, 9], rows, threads);
                check(format, block * 3, [70, 8], rows, threads);
            }
        }
    }
}

#[test]
fn rows_of_any_number_of_plain_values_are_multiplied() {
    for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16] {
        for inputs in [1, 7, 8, 9, 15, 16, 17, 31] {
            for rows in [1, 5, 17] {
                check(format, inputs, [3, 11], rows, 1);
            }
        }
    }
}

#[test]
fn a_matrix_of_several_tasks_and_tiles_is_multiplied_whole() {
    for format in [WeightFormat::F32, WeightFormat::Q4_1, WeightFormat::Q8_0] {
        for rows in [1, 6, 20] {
            check(format, 64, [2500, 1100], rows, 2);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

    /// A row gives the same result in a large step as on its own, which is what naive recompute is compared with.
    #[test]
    fn the_number_of_rows_changes_only_the_order_of_additions(
        format in proptest::sample::select(&WeightFormat::ALL), blocks in 1usize..4, outputs in 1usize..40, rows in 2usize..24,
    ) {
        let inputs = blocks * format.block().0.max(8);
        let bytes = matrix_bytes(format, outputs * inputs, 3);
        let matrix = Matrix::new(format, [outputs, inputs], &bytes);
        let activations = noise(rows * inputs, 9);
        let product = |activations: &[f32]| {
            let mut out = vec![f32::NAN; activations.len() / inputs * outputs];
            multiply_on(KernelPath::current(), activations, &mut [Product { matrix, out: &mut out }]);
            out
        };
        let together = product(&activations);
        let magnitudes = reference(&matrix, &activations);
        let alone = activations.chunks_exact(inputs).flat_map(product);
        for ((a, b), (_, magnitude)) in together.iter().zip(alone).zip(magnitudes) {
            prop_assert!(f64::from((a - b).abs()) <= 1e-6 * magnitude + 1e-12, "{format}: {a} and {b}");
        }
    }
}

/// Vectors decode to the same bits as the reference.
#[test]
fn decoding_in_registers_gives_the_bits_of_the_reference() {
    for format in WeightFormat::ALL {
        let inputs = 2 * format.block().0.max(16);
        let bytes = matrix_bytes(format, inputs, 7);
        let matrix = Matrix::new(format, [1, inputs], &bytes);
        let mut expected = vec![0.0; inputs];
        matrix.decode_row(0, &mut expected);
        for path in KernelPath::available() {
            let mut decoded = vec![f32::NAN; inputs];
            path.run(inputs, super::many_rows::Decode { matrix, decoded: &mut decoded });
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&decoded), bits(&expected), "{format} on {path}");
        }
    }
}
