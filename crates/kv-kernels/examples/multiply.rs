//! Times the product of encoded weights with activations: `cargo run -p kv-kernels --example multiply -- q4_1 1 2`.
//!
//! The arguments are the format, the rows of activations and the threads. The matrices are those of SmolLM2's layers, 134
//! million weights in all, as a decode step reads them. Prints the median of twenty passes, and the bytes read per second.
#![expect(clippy::print_stdout, reason = "it is what the example is for")]

use std::time::Instant;

use kv_kernels::{Matrix, Product, WeightFormat, awake, multiply};

/// Outputs and inputs of a layer's matrices, those of the same inputs together.
const CALLS: [&[[usize; 2]]; 4] = [&[[576, 576], [192, 576], [192, 576]], &[[576, 576]], &[[1536, 576], [1536, 576]], &[[576, 1536]]];
const LAYERS: usize = 38;
const PASSES: usize = 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("q4_1", String::as_str);
    let number = |at: usize, default: usize| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    let (rows, threads) = (number(1, 1), number(2, 2));
    let format = WeightFormat::ALL.into_iter().find(|format| format.name() == name).expect("a weight format");
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the first pool");

    let bytes_of = |[outputs, inputs]: [usize; 2]| outputs * format.bytes_of(inputs).expect("rows of whole blocks");
    let layer_bytes: usize = CALLS.concat().into_iter().map(bytes_of).sum();
    let weights: Vec<u8> = (0..LAYERS * layer_bytes).map(|index| (index * 37 % 61) as u8).collect();
    let activations: Vec<f32> = (0..rows * 1536).map(|index| (index % 19) as f32 / 9.0 - 1.0).collect();
    let mut outs = vec![vec![0.0; rows * 1536]; 3];
    let mut seconds: Vec<f64> = (0..PASSES)
        .map(|_| {
            let start = Instant::now();
            awake(|| {
                let mut rest = weights.as_slice();
                for call in CALLS.iter().cycle().take(LAYERS * CALLS.len()) {
                    let mut products = vec![];
                    for (shape, out) in call.iter().zip(&mut outs) {
                        let (bytes, after) = rest.split_at(bytes_of(*shape));
                        rest = after;
                        products.push(Product { matrix: Matrix::new(format, *shape, bytes), out: &mut out[..rows * shape[0]] });
                    }
                    multiply(&activations[..rows * call[0][1]], &mut products);
                }
            });
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let (fastest, median) = (seconds[0], seconds[PASSES / 2]);
    let rate = weights.len() as f64 / 1e9 / median;
    println!("{format}, {rows} rows, {threads} threads: median {:.2} ms, fastest {:.2} ms, {rate:.1} GB/s", 1e3 * median, 1e3 * fastest);
}
