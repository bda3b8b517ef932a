//! The parameters of the contiguous cache.

use kv_kernels::Formats;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the contiguous cache grows and what it stores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// "concat" copies the whole cache at every step; "doubling" copies when it is full and then holds
    /// twice as much; { reserve = N } takes room for N tokens at once and refuses more.
    pub growth: Growth,
    /// Storage format of keys and values: f32, f16, bf16, fp8_e4m3, q8_0, q4_0, q4_1, or { keys = …, values = … }.
    pub format: Formats,
}

/// What happens when a token needs room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// A new run, exactly large enough, at every step: O(n) copied a token.
    Concat,
    /// A run twice as large when the old one is full: O(1) copied a token on average.
    Doubling,
    /// Room for this many tokens from the start, and never more.
    Reserve(usize),
}

impl Default for Config {
    fn default() -> Config {
        Config { growth: Growth::Doubling, format: Formats::F32 }
    }
}
