//! The parameters of the quantized cache.

use kv_kernels::{Format, Formats};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is quantized, how, and how many tokens stay in full precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Storage format of sealed keys and values; at least one of the two must be quantized. q8_0, q4_0 and q4_1 have one
    /// scale per 32 values of a row. kivi4 and kivi2 have, for keys, one scale per channel and 32 tokens. q8_gN,
    /// kivi2_gN and so on set another group size. Use { keys = …, values = … } to set keys and values separately.
    /// Where two tokens are nearly tied, greedy text can depend on `--kernel-path`: the paths avx2 and avx512-vnni round
    /// queries and attention weights to 16 bits, the others do not. This is rounding, not a fault. In 6 of 66 runs with
    /// q8_0 or q4_0 the text differed, each time at a margin below 0.015 between the two largest logits.
    pub format: Formats,
    /// Number of newest tokens that stay in f32 until newer tokens replace them. With 0, every token is sealed at the end
    /// of its step. With kivi keys, up to one group of tokens more stays in f32. KIVI's paper uses 128.
    pub residual: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { format: Formats::both(Format::Q8 { group: 32 }), residual: 0 }
    }
}

impl Config {
    /// How many of a sequence's first tokens are sealed: all but the `residual` newest, rounded down to whole groups of
    /// keys that are encoded together.
    pub(crate) fn sealed_of(&self, tokens: usize) -> usize {
        let old = tokens.saturating_sub(self.residual);
        old - old % self.format.keys.key_tokens()
    }

    /// The most tokens that stay in full precision: the newest, and a group that is not full.
    pub(crate) fn tail_limit(&self) -> usize {
        self.residual.saturating_add(self.format.keys.key_tokens() - 1)
    }
}
