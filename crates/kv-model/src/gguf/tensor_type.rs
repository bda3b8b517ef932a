//! ggml's numbers of encodings: which there are, and which can be decoded.

use kv_kernels::WeightFormat;

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

/// The encoding of a number, if it can be decoded.
pub(super) fn format(id: u32) -> Option<WeightFormat> {
    match id {
        0 => Some(WeightFormat::F32),
        1 => Some(WeightFormat::F16),
        2 => Some(WeightFormat::Q4_0),
        3 => Some(WeightFormat::Q4_1),
        6 => Some(WeightFormat::Q5_0),
        7 => Some(WeightFormat::Q5_1),
        8 => Some(WeightFormat::Q8_0),
        12 => Some(WeightFormat::Q4K),
        13 => Some(WeightFormat::Q5K),
        14 => Some(WeightFormat::Q6K),
        20 => Some(WeightFormat::Iq4Nl),
        30 => Some(WeightFormat::Bf16),
        _ => None,
    }
}

/// What ggml calls an encoding.
pub(super) fn name(id: u32) -> &'static str {
    NAMES.get(id as usize).copied().unwrap_or("unknown to this reader")
}

/// The names of all encodings that can be decoded.
pub(super) fn supported() -> String {
    let names: Vec<&str> = (0..NAMES.len()).filter(|id| format(*id as u32).is_some()).map(|id| NAMES[id]).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_formats_that_have_their_names() {
        for format_of_name in WeightFormat::ALL {
            let id = NAMES.iter().position(|name| name.eq_ignore_ascii_case(format_of_name.name()));
            assert_eq!(id.and_then(|id| format(id as u32)), Some(format_of_name), "{format_of_name}");
        }
    }
}
