//! Stored bits per value, to the byte: codes and scales of sealed tokens, and 32 bits of those in the tail.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kv_conformance::toy_geometry;
use kv_core::{Geometry, KvCache, Rows, Strategy};
use kv_quantized::Quantized;

/// Payload and metadata of a cache that holds so many tokens, in bytes, without what it takes when it holds none.
fn stored(config: &str, tokens: usize, step: usize) -> usize {
    let geometry = toy_geometry();
    let Geometry { layers, kv_heads, key_dim, value_dim, .. } = geometry;
    let mut cache = Quantized::new(toml::from_str(config).unwrap(), &geometry).unwrap();
    let seq = cache.open().unwrap();
    let bytes = |cache: &Quantized| cache.usage().payload_bytes + cache.usage().metadata_bytes;
    let empty = bytes(&cache);
    for start in (0..tokens).step_by(step) {
        let count = step.min(tokens - start);
        let rows = |dim: usize| {
            let values = (0..count * kv_heads * dim).map(|index| ((start + index) as f32).sin()).collect();
            Rows::new([count, kv_heads, dim], values).into_tensor()
        };
        cache.begin(seq, start..start + count).unwrap();
        (0..layers).for_each(|layer| cache.append(seq, layer, rows(key_dim), rows(value_dim)).unwrap());
        cache.commit(seq).unwrap();
    }
    bytes(&cache) - empty
}

/// Bytes of so many values of this many bits.
fn bytes(bits: f64, values: usize) -> usize {
    let bytes = bits * values as f64 / 8.0;
    assert_eq!(bytes.fract(), 0.0, "{bits} bits of {values} values are whole bytes");
    bytes as usize
}

/// ggml: a block of 32 values is 32, 16 or 16 bytes of codes with a scale of 2 bytes, and q4_1 has a minimum of 2 bytes more.
#[test]
fn formats_of_ggml_take_eight_and_a_half_four_and_a_half_and_five_bits() {
    for (format, bits) in [("q8_0", 8.5), ("q4_0", 4.5), ("q4_1", 5.0)] {
        for tokens in [1, 31, 32, 33, 500] {
            let values = tokens * toy_geometry().values_per_token();
            assert_eq!(stored(&format!("format = '{format}'"), tokens, 64), bytes(bits, values), "{format}, {tokens} tokens");
        }
    }
}

/// KIVI (arXiv:2402.02750): groups of 32 with a scale and a minimum of 2 bytes each, keys along the tokens and values along the
/// channels: 2 + 32 / 32 bits. The `residual` newest tokens, and keys of a group that is not full, are f32 here.
#[test]
fn kivi_takes_three_or_five_bits_and_its_tail_thirty_two() {
    const GROUP: usize = 32;
    let per_token = toy_geometry().values_per_token();
    for (format, bits) in [("kivi2", 3.0), ("kivi4", 5.0)] {
        for (residual, tokens) in [(0, 1), (0, 31), (0, 32), (0, 33), (128, 127), (128, 159), (128, 160), (128, 161), (128, 1000), (5, 100)]
        {
            let old = tokens - residual.min(tokens);
            let sealed = old / GROUP * GROUP;
            let expected = bytes(bits, sealed * per_token) + bytes(32.0, (tokens - sealed) * per_token);
            for step in [1, 48] {
                let config = format!("format = '{format}'\nresidual = {residual}");
                assert_eq!(stored(&config, tokens, step), expected, "{config}, {tokens} tokens in steps of {step}");
            }
        }
    }
    // At 4096 tokens, a tail of 128 to 159 tokens makes 3 bits 3.9: (3968 · 3 + 128 · 32) / 4096.
    let all = 4096 * per_token;
    let effective = 8.0 * stored("format = 'kivi2'\nresidual = 128", 4096, 512) as f64 / all as f64;
    assert_eq!(effective, 3.906_25);
}
