//! The parameters of the quantised cache.

use kv_kernels::{Format, Formats};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is quantised, how, and how much is left in full precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Format of the sealed keys and values, at least one of them quantised: q8_0, q4_0, q4_1 (a scale for 32
    /// values along a head's dimension), kivi4, kivi2 (keys: a scale a channel for 32 tokens), any of them with
    /// another group (q8_gN, kivi2_gN, …), or { keys = …, values = … } for one each.
    pub format: Formats,
    /// Newest tokens that are kept in f32 and sealed as they age; 0 seals every token at the end of its step.
    /// With kivi keys the tail is up to a group longer. KIVI's own choice is 128.
    pub residual: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { format: Formats::both(Format::Q8 { group: 32 }), residual: 0 }
    }
}

impl Config {
    /// How many of a sequence's first tokens are sealed: all but the residual newest, in whole groups of keys that
    /// are encoded together.
    pub(crate) fn sealed_of(&self, tokens: usize) -> usize {
        let old = tokens.saturating_sub(self.residual);
        old - old % self.format.keys.key_tokens()
    }
}
