//! Runs attention a given number of times over a cache of 8192 tokens of one KV head, with four queries of 64 values. It is for
//! tools that count instructions, see tests/ports/README.md. For timings, use `cargo bench`.

use std::hint::black_box;

use kv_kernels::{Format, Formats, HeadShape, KvBlock, Mask, Part, RowShape, Run, attend};

const TOKENS: usize = 8192;
const DIM: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [format, times] = &arguments[..] else {
        return Err("usage: attend FORMAT TIMES".into());
    };
    let (format, times): (Format, usize) = (format.parse()?, times.parse()?);
    let mut block = KvBlock::new(RowShape { heads: 1, key_dim: DIM, value_dim: DIM }, Formats::both(format), TOKENS);
    let rows: Vec<f32> = (0..TOKENS * DIM).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    block.write(0..TOKENS, 0..1, &rows, &rows);
    let shape = HeadShape { heads: 4, kv_heads: 1, key_dim: DIM, value_dim: DIM };
    for _ in 0..times {
        let runs = vec![Run::Block { block: &block, first_head: 0, slots: 0..TOKENS, first_position: 0 }];
        black_box(attend(shape, TOKENS - 1, &[Part { queries: &rows[..4 * DIM], mask: Mask::Causal, runs }]));
    }
    Ok(())
}
