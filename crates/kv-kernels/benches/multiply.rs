//! The product of encoded weights with activations, for every format, in encoded bytes read per second.
//!
//! `cargo bench -p kv-kernels --bench multiply -- q4_1` runs one format. With one row (`decode`), the matrices of a layer are
//! read as in a decode step. With 512 rows (`prefill`), they are decoded in tiles and multiplied at once.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kv_kernels::{Matrix, Product, WeightFormat, awake, multiply};

/// Rows and columns of matrices, of which there are as many as 64 MiB hold in `f32`: more than the last-level cache has.
const SHAPES: [[usize; 2]; 2] = [[1536, 576], [8192, 2048]];
const BYTES: usize = 64 << 20;

fn benches(criterion: &mut Criterion) {
    for format in WeightFormat::ALL {
        for [outputs, inputs] in SHAPES {
            // SmolLM2's rows are no multiple of a super-block.
            let Some(matrix_bytes) = format.bytes_of(inputs).map(|row| row * outputs) else { continue };
            let count = BYTES / (4 * outputs * inputs);
            for (rows, name) in [(1, "decode"), (512, "prefill")] {
                let mut group = criterion.benchmark_group(format!("{format}/{outputs}x{inputs}"));
                group.throughput(Throughput::Bytes((count * matrix_bytes) as u64));
                group.bench_function(name, |bencher| {
                    // Codes of all kinds, and scales that are ordinary numbers.
                    let bytes: Vec<u8> = (0..count * matrix_bytes).map(|index| (index * 37 % 61) as u8).collect();
                    let activations: Vec<f32> = (0..rows * inputs).map(|index| (index % 19) as f32 / 9.0 - 1.0).collect();
                    let mut out = vec![0.0; rows * outputs];
                    awake(|| {
                        bencher.iter(|| {
                            for bytes in bytes.chunks_exact(matrix_bytes) {
                                let matrix = Matrix::new(format, [outputs, inputs], bytes);
                                multiply(black_box(&activations), &mut [Product { matrix, out: &mut out }]);
                            }
                            black_box(&mut out);
                        });
                    });
                });
                group.finish();
            }
        }
    }
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2)).without_plots();
    targets = benches
}
criterion_main!(all);
