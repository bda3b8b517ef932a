//! The parameters of the paged cache.

use kv_kernels::Formats;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Size, number and format of the pool's pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Tokens per page. Small pages waste less memory in each sequence's last page. Large pages are read faster.
    pub block_size: usize,
    /// Maximum number of pages in the pool, for all sequences together. Without it, the pool has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_blocks: Option<usize>,
    /// Storage format of keys and values: f32, f16, bf16, fp8_e4m3, q8_0, q4_0 or q4_1. Use { keys = …, values = … } to
    /// set them separately.
    pub format: Formats,
}

impl Default for Config {
    fn default() -> Config {
        Config { block_size: 16, max_blocks: None, format: Formats::F32 }
    }
}
