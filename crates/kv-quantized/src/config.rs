//! The parameters of the quantised cache.

use kv_kernels::{Format, Formats};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is quantised, how, and how much is left in full precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Format of the sealed keys and values, at least one of them quantised: q8_0, q4_0 (a scale for 32
    /// values along a head's dimension), q8_gN, q4_gN, or { keys = …, values = … } for one each.
    pub format: Formats,
    /// Newest tokens that are kept in f32 and sealed as they age; 0 seals every token at the end of its step.
    pub residual: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { format: Formats::both(Format::Q8 { group: 32 }), residual: 0 }
    }
}
