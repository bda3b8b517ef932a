//! The parameters of the paged cache.

use kv_kernels::Formats;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pages of the pool and what they store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Tokens in a page. Small pages waste less of the last one, large ones are read faster.
    pub block_size: usize,
    /// Most pages the pool may hold for all sequences together; left out, there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_blocks: Option<usize>,
    /// Storage format of keys and values: f32, f16, bf16, fp8_e4m3, q8_0, q4_0, q4_1, or { keys = …, values = … }.
    pub format: Formats,
}

impl Default for Config {
    fn default() -> Config {
        Config { block_size: 16, max_blocks: None, format: Formats::F32 }
    }
}
