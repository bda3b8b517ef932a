//! Floating-point formats, which encode every value on its own.

use half::{bf16, f16};

use super::Codec;
use crate::lanes::Lanes;

pub(crate) fn encode_f16(row: &[f32], encoded: &mut [u8]) {
    for (value, bytes) in row.iter().zip(encoded.as_chunks_mut().0) {
        *bytes = f32_to_f16(*value).to_le_bytes();
    }
}

pub(crate) fn decode_f16(encoded: &[u8], row: &mut [f32]) {
    for (value, bytes) in row.iter_mut().zip(encoded.as_chunks().0) {
        *value = f16_to_f32(u16::from_le_bytes(*bytes));
    }
}

/// The bits of the nearest half-precision value.
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    // `half` uses the machine's conversion instruction if there is one, and Miri does not support it.
    if cfg!(miri) { f16::from_f32_const(value).to_bits() } else { f16::from_f32(value).to_bits() }
}

pub(crate) fn encode_bf16(row: &[f32], encoded: &mut [u8]) {
    for (value, bytes) in row.iter().zip(encoded.as_chunks_mut().0) {
        *bytes = bf16::from_f32(*value).to_le_bytes();
    }
}

pub(crate) fn decode_bf16(encoded: &[u8], row: &mut [f32]) {
    for (value, bytes) in row.iter_mut().zip(encoded.as_chunks().0) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

pub(crate) fn encode_fp8_e4m3(row: &[f32], encoded: &mut [u8]) {
    for (value, byte) in row.iter().zip(encoded) {
        *byte = f32_to_fp8_e4m3(*value);
    }
}

pub(crate) fn decode_fp8_e4m3(encoded: &[u8], row: &mut [f32]) {
    for (value, byte) in row.iter_mut().zip(encoded) {
        *value = fp8_e4m3_to_f32(*byte);
    }
}

/// Converts without a branch, so that a loop over a row is vectorized (`half` makes one function call per value).
///
/// The exponent and the mantissa are moved to their places in an `f32` and rescaled by 2^112, which also normalizes
/// subnormals. Infinities and NaNs, whose rescaled exponent would be finite, are handled separately.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    const RESCALE: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = u32::from(bits & 0x7FFF) << 13;
    let finite = (f32::from_bits(magnitude) * RESCALE).to_bits();
    let special = magnitude | 0x7F80_0000;
    let value = if magnitude >= 0x0F80_0000 { special } else { finite };
    f32::from_bits(value | u32::from(bits & 0x8000) << 16)
}

/// The value of an FP8 E4M3 code: 4 exponent bits with bias 7, 3 mantissa bits, no infinities, NaN at 0x7F and 0xFF.
///
/// Source: Micikevicius et al., "FP8 Formats for Deep Learning", arXiv:2209.05433, table 1.
#[inline(always)]
pub(crate) fn fp8_e4m3_to_f32(byte: u8) -> f32 {
    const RESCALE: f32 = f32::from_bits((127 + 120) << 23);
    let magnitude = u32::from(byte & 0x7F);
    let finite = (f32::from_bits(magnitude << 20) * RESCALE).to_bits();
    let value = if magnitude == 0x7F { f32::NAN.to_bits() } else { finite };
    f32::from_bits(value | u32::from(byte & 0x80) << 24)
}

/// The nearest code, with ties to even. Larger magnitudes saturate at 448. NaN stays NaN.
fn f32_to_fp8_e4m3(value: f32) -> u8 {
    const LARGEST: f32 = 448.0;
    const SMALLEST_NORMAL: f32 = 1.0 / 64.0;
    const SUBNORMAL_STEPS: f32 = 512.0;
    let sign = ((value.to_bits() >> 24) & 0x80) as u8;
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7F;
    }
    if magnitude >= LARGEST {
        return sign | 0x7E;
    }
    if magnitude < SMALLEST_NORMAL {
        // Rounding up to 8 steps gives code 8, the smallest normal value.
        return sign | (magnitude * SUBNORMAL_STEPS).round_ties_even() as u8;
    }
    // Rounds the mantissa to its upper 3 bits. A carry correctly propagates into the exponent.
    let bits = magnitude.to_bits();
    let rounded = bits + 0x7_FFFF + (bits >> 20 & 1);
    sign | ((rounded >> 20) - ((127 - 7) << 3)) as u8
}

/// Defines a codec of values without scales.
macro_rules! plain_codec {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $load:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name;

        impl Codec for $name {
            fn row_bytes(dim: usize) -> usize {
                $bytes * dim
            }

            #[inline(always)]
            unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, _: usize, at: usize) -> L::F32 {
                // SAFETY: guaranteed by the caller.
                let from = unsafe { row.add($bytes * at) };
                // SAFETY: guaranteed by the caller.
                unsafe { lanes.$load(from) }
            }
        }
    };
}

plain_codec!(
    /// Unencoded values.
    F32, 4, load_f32
);
plain_codec!(
    /// IEEE 754 half precision.
    F16, 2, load_f16
);
plain_codec!(
    /// The upper half of an `f32`.
    Bf16, 2, load_bf16
);
plain_codec!(
    /// FP8 with 4 exponent bits.
    Fp8E4m3, 1, load_fp8_e4m3
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_decodes_as_half_decodes_it() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits).to_f32();
            let actual = f16_to_f32(bits);
            assert!(actual.to_bits() == expected.to_bits() || (actual.is_nan() && expected.is_nan()), "{bits:#06x}");
        }
    }

    #[test]
    fn every_fp8_code_is_what_the_definition_says_and_encodes_to_itself() {
        for byte in 0..=u8::MAX {
            let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
            let sign = if byte & 0x80 == 0 { 1.0f32 } else { -1.0 };
            let expected = match exponent {
                15 if mantissa == 7.0 => f32::NAN,
                0 => sign * mantissa / 8.0 * 2.0f32.powi(-6),
                _ => sign * (1.0 + mantissa / 8.0) * 2.0f32.powi(exponent - 7),
            };
            let actual = fp8_e4m3_to_f32(byte);
            assert!(actual.to_bits() == expected.to_bits() || (actual.is_nan() && expected.is_nan()), "{byte:#04x}");
            assert_eq!(f32_to_fp8_e4m3(actual), byte);
        }
    }

    #[test]
    fn fp8_rounds_to_the_nearest_code_and_ties_to_even() {
        let codes: Vec<f32> = (0..0x7F).map(fp8_e4m3_to_f32).collect();
        for (code, pair) in codes.windows(2).enumerate() {
            let middle = (pair[0] + pair[1]) / 2.0;
            let even = if code % 2 == 0 { code } else { code + 1 } as u8;
            assert_eq!(f32_to_fp8_e4m3(middle), even, "{middle} lies between codes {code} and {}", code + 1);
            assert_eq!(f32_to_fp8_e4m3(middle * 0.999), code as u8);
            assert_eq!(f32_to_fp8_e4m3(-middle * 1.001), 0x80 | (code + 1) as u8);
        }
        assert_eq!([f32_to_fp8_e4m3(1e9), f32_to_fp8_e4m3(f32::NEG_INFINITY)], [0x7E, 0xFE], "the largest");
    }
}
