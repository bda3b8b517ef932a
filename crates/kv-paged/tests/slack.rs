//! What a pool holds unused: free slots of last pages and free pages, to the byte, and their mean over lengths drawn at random.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kv_conformance::toy_geometry;
use kv_core::{Geometry, KvCache, Rows, Strategy};
use kv_paged::Paged;

const PAGE: usize = 16;

/// A pool of f16 pages that holds sequences of these lengths.
fn filled(lengths: &[usize]) -> Paged {
    let geometry = toy_geometry();
    let Geometry { layers, kv_heads, key_dim, value_dim, .. } = geometry;
    let mut cache = Paged::new(toml::from_str("block_size = 16\nformat = 'f16'").unwrap(), &geometry).unwrap();
    for tokens in lengths.iter().copied() {
        let seq = cache.open().unwrap();
        let rows = |dim: usize| Rows::new([tokens, kv_heads, dim], vec![0.5; tokens * kv_heads * dim]).into_tensor();
        cache.begin(seq, 0..tokens).unwrap();
        (0..layers).for_each(|layer| cache.append(seq, layer, rows(key_dim), rows(value_dim)).unwrap());
        cache.commit(seq).unwrap();
    }
    cache
}

/// Bytes of a token's keys and values in all layers.
fn token_bytes() -> usize {
    let Geometry { layers, kv_heads, key_dim, value_dim, .. } = toy_geometry();
    layers * kv_heads * (key_dim + value_dim) * 2
}

/// Pages of a pool that has given out so many: it doubles, from one page up to 1024 tokens more at a time.
fn pool_pages(taken: usize) -> usize {
    let mut pages = 0;
    while pages < taken {
        pages += pages.clamp(1, 1024 / PAGE);
    }
    pages
}

#[test]
fn slack_is_what_the_layout_says() {
    for tokens in [1, 15, 16, 17, 32, 33, 1023, 1024, 1025, 2047, 2049, 5000] {
        let usage = filled(&[tokens]).usage();
        assert_eq!(usage.payload_bytes, tokens * token_bytes(), "{tokens} tokens");
        let slots = pool_pages(tokens.div_ceil(PAGE)) * PAGE;
        assert_eq!(usage.slack_bytes, (slots - tokens) * token_bytes(), "{tokens} tokens");
    }
}

/// Of a length that is as likely to be any, the last page has (16 − 1) / 2 free slots in the mean (PagedAttention,
/// arXiv:2309.06180, section 4.3: waste is bounded by one block per sequence).
#[test]
fn the_mean_slack_of_a_sequence_is_half_a_page() {
    const SEQUENCES: usize = 400;
    // A full period of a linear congruential generator modulo 2¹⁶ (Hull and Dobell, 1962), of which the high bits are taken.
    let mut state = 12_345usize;
    let mut draw = || {
        state = (state * 25_173 + 13_849) % (1 << 16);
        1 + state / 64
    };
    let lengths: Vec<usize> = (0..SEQUENCES).map(|_| draw()).collect();
    let tokens: usize = lengths.iter().sum();
    let pages: usize = lengths.iter().map(|tokens| tokens.div_ceil(PAGE)).sum();
    let usage = filled(&lengths).usage();
    assert_eq!(usage.payload_bytes, tokens * token_bytes());
    let free_pages = pool_pages(pages) - pages;
    let in_last_pages = usage.slack_bytes - free_pages * PAGE * token_bytes();
    assert_eq!(in_last_pages, (pages * PAGE - tokens) * token_bytes(), "to the byte");
    let mean = in_last_pages as f64 / token_bytes() as f64 / SEQUENCES as f64;
    // The standard deviation of a uniform number below 16 is 4.61, so that of the mean of 400 is 0.23.
    assert!((mean - 7.5).abs() < 3.0 * 0.23, "{mean} slots per sequence");
    // Free pages are a slab at most, and a doubling pool never has more than half of its pages free.
    assert!(free_pages <= 1024 / PAGE, "{free_pages}");
}
