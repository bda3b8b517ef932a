//! The parameters of the sliding window.

use kv_kernels::Formats;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which tokens are kept and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Number of recent tokens that a query sees, including its own.
    pub window: usize,
    /// Number of tokens at the start of the sequence that are never evicted (StreamingLLM uses 4).
    pub sinks: usize,
    /// Storage format of keys and values: f32, f16, bf16, fp8_e4m3, q8_0, q4_0 or q4_1. Use { keys = …, values = … } to
    /// set them separately.
    pub format: Formats,
}

impl Default for Config {
    fn default() -> Config {
        Config { window: 512, sinks: 0, format: Formats::F32 }
    }
}

impl Config {
    /// How many of a sequence's first `tokens` tokens are held besides the sinks.
    pub(crate) fn recent_of(&self, tokens: usize) -> usize {
        tokens.saturating_sub(self.sinks).min(self.window)
    }
}
