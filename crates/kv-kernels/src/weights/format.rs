//! The encodings of weights, which are ggml's.

use std::fmt;

use crate::Format;
use crate::codec::{
    Q4_K_BYTES, Q5_K_BYTES, Q6_K_BYTES, SUPER_BLOCK, decode_iq4_nl, decode_q4_k, decode_q5_0, decode_q5_1, decode_q5_k, decode_q6_k,
};

/// The encoding of a matrix of weights.
///
/// The names are ggml's: `f32`, `f16`, `bf16`, `q8_0`, `q4_0`, `q4_1`, `q5_0`, `q5_1`, `q4_K`, `q5_K`, `q6_K`, `iq4_nl`.
/// Sources of the layouts: `ggml-common.h` and `ggml-quants.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 32 signed bytes and an `f16` scale.
    Q8_0,
    /// 32 nibbles and an `f16` scale.
    Q4_0,
    /// 32 nibbles, an `f16` scale and an `f16` minimum.
    Q4_1,
    /// 32 5-bit codes and an `f16` scale.
    Q5_0,
    /// 32 5-bit codes, an `f16` scale and an `f16` minimum.
    Q5_1,
    /// 256 nibbles in eight groups, whose 6-bit scales and minima have an `f16` scale each.
    Q4K,
    /// 256 5-bit codes, otherwise like `q4_K`.
    Q5K,
    /// 256 6-bit codes in sixteen groups, whose 8-bit scales have an `f16` scale.
    Q6K,
    /// 32 nibbles that index a table of 16 values, and an `f16` scale.
    Iq4Nl,
}

/// Evaluates an expression with the codec of a format.
macro_rules! with_weight_codec {
    ($format:expr, $codec:ident => $body:expr) => {{
        macro_rules! with {
            ($name:ident) => {{
                type $codec = $name;
                $body
            }};
        }
        match $format {
            WeightFormat::F32 => with!(F32),
            WeightFormat::F16 => with!(F16),
            WeightFormat::Bf16 => with!(Bf16),
            // Rows of blocks are whole vectors. The constant keeps kernels that never run from being compiled.
            format => {
                if const { L::WIDTH == 1 } {
                    unreachable!("a row of blocks in {format}, value by value")
                } else {
                    match format {
                        WeightFormat::Q8_0 => with!(Q8_0),
                        WeightFormat::Q4_0 => with!(Q4_0),
                        WeightFormat::Q4_1 => with!(Q4_1),
                        WeightFormat::Q5_0 => with!(Q5_0),
                        WeightFormat::Q5_1 => with!(Q5_1),
                        WeightFormat::Q4K => with!(Q4K),
                        WeightFormat::Q5K => with!(Q5K),
                        WeightFormat::Q6K => with!(Q6K),
                        WeightFormat::Iq4Nl => with!(Iq4Nl),
                        plain => unreachable!("{plain} was matched before"),
                    }
                }
            }
        }
    }};
}

impl WeightFormat {
    /// Every format.
    pub const ALL: [WeightFormat; 12] = [
        WeightFormat::F32,
        WeightFormat::F16,
        WeightFormat::Bf16,
        WeightFormat::Q8_0,
        WeightFormat::Q4_0,
        WeightFormat::Q4_1,
        WeightFormat::Q5_0,
        WeightFormat::Q5_1,
        WeightFormat::Q4K,
        WeightFormat::Q5K,
        WeightFormat::Q6K,
        WeightFormat::Iq4Nl,
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::F16 => "f16",
            WeightFormat::Bf16 => "bf16",
            WeightFormat::Q8_0 => "q8_0",
            WeightFormat::Q4_0 => "q4_0",
            WeightFormat::Q4_1 => "q4_1",
            WeightFormat::Q5_0 => "q5_0",
            WeightFormat::Q5_1 => "q5_1",
            WeightFormat::Q4K => "q4_K",
            WeightFormat::Q5K => "q5_K",
            WeightFormat::Q6K => "q6_K",
            WeightFormat::Iq4Nl => "iq4_nl",
        }
    }

    /// Values and bytes of a block. A row is a whole number of blocks.
    pub fn block(self) -> (usize, usize) {
        match self {
            WeightFormat::F32 => (1, 4),
            WeightFormat::F16 | WeightFormat::Bf16 => (1, 2),
            WeightFormat::Q8_0 => (32, 34),
            WeightFormat::Q4_0 | WeightFormat::Iq4Nl => (32, 18),
            WeightFormat::Q4_1 => (32, 20),
            WeightFormat::Q5_0 => (32, 22),
            WeightFormat::Q5_1 => (32, 24),
            WeightFormat::Q4K => (SUPER_BLOCK, Q4_K_BYTES),
            WeightFormat::Q5K => (SUPER_BLOCK, Q5_K_BYTES),
            WeightFormat::Q6K => (SUPER_BLOCK, Q6_K_BYTES),
        }
    }

    /// Bytes of `values` values, or `None` if they are no whole number of blocks or too many to count.
    pub fn bytes_of(self, values: usize) -> Option<usize> {
        let (block_values, block_bytes) = self.block();
        if values.is_multiple_of(block_values) { (values / block_values).checked_mul(block_bytes) } else { None }
    }

    /// The cache format of the same layout, which can also encode; `None` if there is none.
    pub fn cache_format(self) -> Option<Format> {
        match self {
            WeightFormat::F32 => Some(Format::F32),
            WeightFormat::F16 => Some(Format::F16),
            WeightFormat::Bf16 => Some(Format::Bf16),
            WeightFormat::Q8_0 => Some(Format::Q8 { group: 32 }),
            WeightFormat::Q4_0 => Some(Format::Q4 { group: 32 }),
            WeightFormat::Q4_1 => Some(Format::Q4_1 { group: 32 }),
            _ => None,
        }
    }

    /// Decodes whole blocks in plain Rust: the reference for every kernel. Any bytes can be decoded.
    ///
    /// # Panics
    /// If the lengths of `encoded` and `values` do not match.
    pub fn decode(self, encoded: &[u8], values: &mut [f32]) {
        assert_eq!(Some(encoded.len()), self.bytes_of(values.len()), "encoded bytes of {} values", values.len());
        match self {
            WeightFormat::Q5_0 => decode_q5_0(encoded, values),
            WeightFormat::Q5_1 => decode_q5_1(encoded, values),
            WeightFormat::Q4K => decode_q4_k(encoded, values),
            WeightFormat::Q5K => decode_q5_k(encoded, values),
            WeightFormat::Q6K => decode_q6_k(encoded, values),
            WeightFormat::Iq4Nl => decode_iq4_nl(encoded, values),
            _ => self.cache_format().expect("the others are cache formats").decode_rows(values.len(), encoded, values),
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
