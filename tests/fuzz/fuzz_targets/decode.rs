//! Feeds hostile names, bytes and values to every format. Nothing may panic or read out of bounds.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz decode` (cargo-fuzz builds it with the address sanitizer).
#![no_main]

use kv_kernels::{Format, Formats, HeadShape, KvBlock, Mask, Part, RowShape, Run, attend};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 13] =
    ["f32", "f16", "bf16", "fp8_e4m3", "q8_0", "q4_0", "q4_1", "kivi4", "kivi2", "q8_g16", "q4_g8", "q4_1_g2", "kivi2_g16"];

fuzz_target!(|input: &[u8]| {
    let _ = str::from_utf8(input).map(str::parse::<Format>);
    let [choice, size, tokens, rest @ ..] = input else { return };
    let format: Format = NAMES[usize::from(*choice) % NAMES.len()].parse().expect("a known name");
    let dim = 8 * (1 + usize::from(*size) % 16);
    if format.check_dim(dim).is_err() {
        return;
    }

    // Bytes that no encoder wrote.
    let rows = rest.len() / format.row_bytes(dim);
    let mut decoded = vec![0.0; rows * dim];
    format.decode_rows(dim, &rest[..rows * format.row_bytes(dim)], &mut decoded);

    // Values that no model computes: NaNs, infinities and subnormals, in as many slots as whole groups fill.
    let values: Vec<f32> = rest.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect();
    if values.is_empty() {
        return;
    }
    let slots = (usize::from(*tokens) % 70 + 1).next_multiple_of(format.key_tokens());
    let filled: Vec<f32> = values.iter().cycle().take(slots * dim).copied().collect();
    let mut block = KvBlock::new(RowShape { heads: 1, key_dim: dim, value_dim: dim }, Formats::both(format), slots);
    block.write(0..slots, 0..1, &filled, &filled);
    let shape = HeadShape { heads: 3, kv_heads: 1, key_dim: dim, value_dim: dim };
    let queries: Vec<f32> = values.iter().cycle().take(3 * dim).copied().collect();
    let runs = vec![Run::Block { block: &block, first_head: 0, slots: 0..slots, first_position: 0 }];
    let attention = attend(shape, slots - 1, &[Part { queries: &queries, mask: Mask::Causal, runs }]);
    assert_eq!(attention.out.len(), 3 * dim);
});
