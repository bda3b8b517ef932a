//! ggml's encodings of tensors: which there are, and which can be decoded.

/// The encodings that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
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
}

/// `enum ggml_type` in ggml.h, the retired ones included.
const NAMES: [&str; 43] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
    "NVFP4",
    "Q1_0",
    "Q2_0",
];

impl TensorType {
    pub(super) fn from_id(id: u32) -> Option<TensorType> {
        match id {
            0 => Some(TensorType::F32),
            1 => Some(TensorType::F16),
            2 => Some(TensorType::Q4_0),
            3 => Some(TensorType::Q4_1),
            8 => Some(TensorType::Q8_0),
            30 => Some(TensorType::Bf16),
            _ => None,
        }
    }

    /// What ggml calls an encoding.
    pub(super) fn name(id: u32) -> &'static str {
        NAMES.get(id as usize).copied().unwrap_or("unknown to this reader")
    }

    /// Values and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            TensorType::F32 => (1, 4),
            TensorType::F16 | TensorType::Bf16 => (1, 2),
            TensorType::Q8_0 => (32, 34),
            TensorType::Q4_0 => (32, 18),
            TensorType::Q4_1 => (32, 20),
        }
    }
}
