//! The parameters of the contiguous cache.

use kv_kernels::Formats;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the contiguous cache grows and what it stores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// "concat" copies the whole cache at every step. "doubling" doubles the capacity and copies the cache when it is
    /// full. { reserve = N } allocates memory for N tokens up front and refuses more.
    pub growth: Growth,
    /// Storage format of keys and values: f32, f16, bf16, fp8_e4m3, q8_0, q4_0 or q4_1. Use { keys = …, values = … } to
    /// set them separately.
    pub format: Formats,
}

/// How memory grows when a token does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// A new buffer of exactly the right size at every step: O(n) copying per token.
    Concat,
    /// A buffer twice as large when the old one is full: amortized O(1) copying per token.
    Doubling,
    /// A fixed capacity of this many tokens, allocated up front.
    Reserve(usize),
}

impl Default for Config {
    fn default() -> Config {
        Config { growth: Growth::Doubling, format: Formats::F32 }
    }
}
