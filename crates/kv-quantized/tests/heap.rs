//! Between growths and full groups a decode step allocates nothing that grows with the context.
//!
//! This file has one test, because dhat has one profiler for the whole process.

use kv_conformance::{steady_decode_bytes, toy_geometry};
use kv_core::Strategy;
use kv_quantized::Quantized;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

#[test]
fn a_steady_step_allocates_the_same_at_any_length() {
    /// Of 8 steps in 3 layers. A list of 4 bytes for every 16 tokens would take 45 times as much.
    const TOLERANCE: u64 = 1024;
    let _profiler = dhat::Profiler::builder().testing().build();
    for config in ["format = 'q8_0'", "format = 'q4_0'\nresidual = 128", "format = 'kivi4'\nresidual = 128", "format = 'kivi2'"] {
        let cache = Quantized::new(toml::from_str(config).expect("a config"), &toy_geometry()).expect("a cache");
        let [few, many] = steady_decode_bytes(cache, || dhat::HeapStats::get().total_bytes).expect("room for all tokens");
        assert!(few > 0, "`{config}`: nothing was counted");
        assert!(few.abs_diff(many) <= TOLERANCE, "`{config}`: {few} bytes at few tokens, {many} at many");
    }
}
