//! How one row (a token's key or value of one KV head) is encoded.
//!
//! The quantised formats are ggml's block layouts, so that bytes are comparable with llama.cpp's:
//! a group of values shares one `f16` scale, stored in front of the group's codes. ggml fixes the group
//! at 32 values (`q8_0`: 34 bytes, `q4_0`: 18 bytes); here the group is a parameter and 32 the default.
//! Source: `ggml-common.h` (`block_q8_0`, `block_q4_0`) and `ggml-quants.c` (`quantize_row_*_ref`).

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

/// The encoding of a row of `f32` values.
///
/// As text: `f32`, `f16`, `bf16`, `q8_0`, `q4_0` (groups of 32), or `q8_g64`, `q4_g16`, … for groups of
/// another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// IEEE 754 single precision: 32 bits a value, exact.
    F32,
    /// IEEE 754 half precision: 16 bits a value, 11 significant bits, largest value 65504.
    F16,
    /// bfloat16: 16 bits a value, 8 significant bits, the range of `f32`.
    Bf16,
    /// Signed 8-bit codes times a scale a group: `x ≈ d·q`, `d = max|x| / 127`.
    Q8 {
        /// Values that share a scale.
        group: usize,
    },
    /// 4-bit codes times a scale a group: `x ≈ d·(q − 8)`, `d = m / −8`, `m` the value largest in magnitude.
    Q4 {
        /// Values that share a scale.
        group: usize,
    },
}

/// A format that does not exist or does not fit a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The text names no format.
    #[error("unknown format `{name}`; known are f32, f16, bf16, q8_0, q4_0, and q8_gN or q4_gN for groups of N values")]
    Unknown {
        /// What was written.
        name: String,
    },
    /// The row is not a whole number of groups.
    #[error("format `{format}` needs rows of a multiple of {group} values, and a row has {dim}{hint}")]
    Group {
        /// The format.
        format: Format,
        /// Values in a group.
        group: usize,
        /// Values in a row.
        dim: usize,
        /// What would fit, or nothing.
        hint: String,
    },
}

/// Bytes of the `f16` scale in front of each quantised group.
const SCALE_BYTES: usize = 2;
const GGML_GROUP: usize = 32;

impl Format {
    /// Bytes of an encoded row of `dim` values, scales included.
    pub fn row_bytes(self, dim: usize) -> usize {
        self.code_bytes(dim) + self.scale_bytes(dim)
    }

    /// Bytes of a row's values alone.
    pub fn code_bytes(self, dim: usize) -> usize {
        match self {
            Format::F32 => 4 * dim,
            Format::F16 | Format::Bf16 => 2 * dim,
            Format::Q8 { .. } => dim,
            Format::Q4 { .. } => dim / 2,
        }
    }

    /// Bytes of a row's scales.
    pub fn scale_bytes(self, dim: usize) -> usize {
        self.group().map_or(0, |group| dim / group * SCALE_BYTES)
    }

    /// Values that share a scale, or `None` for a format without scales.
    pub fn group(self) -> Option<usize> {
        match self {
            Format::F32 | Format::F16 | Format::Bf16 => None,
            Format::Q8 { group } | Format::Q4 { group } => Some(group),
        }
    }

    /// Whether values are integer codes with a scale.
    pub fn is_quantised(self) -> bool {
        self.group().is_some()
    }

    /// Whether decoding returns the values that were encoded, to the bit.
    pub fn is_exact(self) -> bool {
        self == Format::F32
    }

    /// Bound on a decoded value's error, as a fraction of the largest magnitude in its row.
    ///
    /// Half a unit in the last place for `f16` and `bf16` (rows within the format's normal range), half a
    /// step for `q8`, a whole step for `q4` (the code +8 does not exist, so a value opposite in sign to the
    /// largest is clipped by up to a step), plus the rounding of the scale to `f16`.
    pub fn max_relative_error(self) -> f32 {
        const F16_HALF_ULP: f32 = 1.0 / 2048.0;
        match self {
            Format::F32 => 0.0,
            Format::F16 => F16_HALF_ULP,
            Format::Bf16 => 1.0 / 256.0,
            Format::Q8 { .. } => 0.5 / 127.0 + F16_HALF_ULP,
            Format::Q4 { .. } => 1.0 / 8.0 + F16_HALF_ULP,
        }
    }

    /// Checks that rows of `dim` values can be encoded.
    ///
    /// # Errors
    /// [`FormatError::Group`] if `dim` is not a multiple of the group.
    pub fn check_dim(self, dim: usize) -> Result<(), FormatError> {
        match self.group() {
            Some(group) if !dim.is_multiple_of(group) => {
                let fits = [64, 32, 16, 8, 4, 2].into_iter().find(|size| dim.is_multiple_of(*size));
                let hint = fits.map_or(String::new(), |size| format!("; try `{}`", self.with_group(size)));
                Err(FormatError::Group { format: self, group, dim, hint })
            }
            _ => Ok(()),
        }
    }

    /// Encodes one row.
    ///
    /// # Panics
    /// If `encoded` is not [`row_bytes`](Self::row_bytes) of `row.len()` long.
    pub fn encode_row(self, row: &[f32], encoded: &mut [u8]) {
        assert_eq!(encoded.len(), self.row_bytes(row.len()), "encoded bytes of a row of {} values", row.len());
        match self {
            Format::F32 => encoded.copy_from_slice(bytemuck::cast_slice(row)),
            Format::F16 => encode_each(row, encoded, |value| f16::from_f32(value).to_le_bytes()),
            Format::Bf16 => encode_each(row, encoded, |value| bf16::from_f32(value).to_le_bytes()),
            Format::Q8 { group } => {
                for (values, bytes) in row.chunks_exact(group).zip(encoded.chunks_exact_mut(SCALE_BYTES + group)) {
                    encode_q8_group(values, bytes);
                }
            }
            Format::Q4 { group } => {
                for (values, bytes) in row.chunks_exact(group).zip(encoded.chunks_exact_mut(SCALE_BYTES + group / 2)) {
                    encode_q4_group(values, bytes);
                }
            }
        }
    }

    /// Decodes consecutive rows; `values` is `[rows, dim]`.
    ///
    /// # Panics
    /// If the lengths of `encoded` and `values` do not agree.
    #[inline(always)]
    pub fn decode_rows(self, dim: usize, encoded: &[u8], values: &mut [f32]) {
        assert_eq!(encoded.len() * dim, values.len() * self.row_bytes(dim), "encoded and decoded rows");
        match self {
            Format::F32 => values.copy_from_slice(bytemuck::cast_slice(encoded)),
            Format::F16 => {
                for (value, bytes) in values.iter_mut().zip(encoded.as_chunks::<2>().0) {
                    *value = f16_to_f32(u16::from_le_bytes(*bytes));
                }
            }
            Format::Bf16 => {
                for (value, bytes) in values.iter_mut().zip(encoded.as_chunks::<2>().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
            Format::Q8 { group } => {
                for (values, bytes) in values.chunks_exact_mut(group).zip(encoded.chunks_exact(SCALE_BYTES + group)) {
                    let scale = scale_of(bytes);
                    for (value, code) in values.iter_mut().zip(&bytes[SCALE_BYTES..]) {
                        *value = scale * f32::from(code.cast_signed());
                    }
                }
            }
            Format::Q4 { group } => {
                let half_group = group / 2;
                for (values, bytes) in values.chunks_exact_mut(group).zip(encoded.chunks_exact(SCALE_BYTES + half_group)) {
                    let scale = scale_of(bytes);
                    let (low, high) = values.split_at_mut(half_group);
                    for ((low, high), code) in low.iter_mut().zip(high).zip(&bytes[SCALE_BYTES..]) {
                        *low = scale * (f32::from(code & 0x0F) - 8.0);
                        *high = scale * (f32::from(code >> 4) - 8.0);
                    }
                }
            }
        }
    }

    fn with_group(self, group: usize) -> Format {
        match self {
            Format::Q8 { .. } => Format::Q8 { group },
            Format::Q4 { .. } => Format::Q4 { group },
            other => other,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::F32 => f.write_str("f32"),
            Format::F16 => f.write_str("f16"),
            Format::Bf16 => f.write_str("bf16"),
            Format::Q8 { group: GGML_GROUP } => f.write_str("q8_0"),
            Format::Q4 { group: GGML_GROUP } => f.write_str("q4_0"),
            Format::Q8 { group } => write!(f, "q8_g{group}"),
            Format::Q4 { group } => write!(f, "q4_g{group}"),
        }
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<Format, FormatError> {
        let group_after = |prefix: &str| {
            let group = name.strip_prefix(prefix)?.parse().ok()?;
            // An odd group has no whole number of bytes in 4 bits, and 65536 is past any head dimension.
            (2..=65536).contains(&group).then_some(group).filter(|group| group % 2 == 0)
        };
        match name {
            "f32" => Ok(Format::F32),
            "f16" => Ok(Format::F16),
            "bf16" => Ok(Format::Bf16),
            "q8_0" => Ok(Format::Q8 { group: GGML_GROUP }),
            "q4_0" => Ok(Format::Q4 { group: GGML_GROUP }),
            _ => (group_after("q8_g").map(|group| Format::Q8 { group }))
                .or_else(|| group_after("q4_g").map(|group| Format::Q4 { group }))
                .ok_or_else(|| FormatError::Unknown { name: name.to_owned() }),
        }
    }
}

fn encode_each(row: &[f32], encoded: &mut [u8], encode: impl Fn(f32) -> [u8; 2]) {
    for (value, bytes) in row.iter().zip(encoded.as_chunks_mut::<2>().0) {
        *bytes = encode(*value);
    }
}

fn encode_q8_group(values: &[f32], bytes: &mut [u8]) {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    bytes[..SCALE_BYTES].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (value, code) in values.iter().zip(&mut bytes[SCALE_BYTES..]) {
        *code = ((value * inverse).round() as i8).cast_unsigned();
    }
}

fn encode_q4_group(values: &[f32], bytes: &mut [u8]) {
    let largest = values.iter().fold(0.0f32, |largest, value| if value.abs() > largest.abs() { *value } else { largest });
    let scale = largest / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    bytes[..SCALE_BYTES].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    let (low, high) = values.split_at(values.len() / 2);
    for ((low, high), byte) in low.iter().zip(high).zip(&mut bytes[SCALE_BYTES..]) {
        *byte = code(*low) | code(*high) << 4;
    }
}

#[inline(always)]
fn scale_of(group: &[u8]) -> f32 {
    f16_to_f32(u16::from_le_bytes([group[0], group[1]]))
}

/// Converts without a branch, so that the loop over a row is vectorised (`half` calls a function a value).
///
/// The exponent and mantissa are moved to their place in an `f32` and rescaled by 2^112, which also
/// normalises subnormals; infinities and NaNs, whose rescaled exponent would be finite, are set apart.
#[inline(always)]
fn f16_to_f32(bits: u16) -> f32 {
    const RESCALE: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = u32::from(bits & 0x7FFF) << 13;
    let finite = (f32::from_bits(magnitude) * RESCALE).to_bits();
    let special = magnitude | 0x7F80_0000;
    let value = if magnitude >= 0x0F80_0000 { special } else { finite };
    f32::from_bits(value | u32::from(bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Format; 7] = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Q8 { group: 32 },
        Format::Q4 { group: 32 },
        Format::Q8 { group: 16 },
        Format::Q4 { group: 8 },
    ];

    fn round_trip(format: Format, row: &[f32]) -> Vec<f32> {
        let mut encoded = vec![0; format.row_bytes(row.len())];
        let mut decoded = vec![f32::NAN; row.len()];
        format.encode_row(row, &mut encoded);
        format.decode_rows(row.len(), &encoded, &mut decoded);
        decoded
    }

    #[test]
    fn names_round_trip() {
        for format in ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        for unknown in ["int8", "q8_g", "q4_g3", "q8_g0", "F32", ""] {
            assert!(unknown.parse::<Format>().is_err(), "{unknown}");
        }
    }

    #[test]
    fn ggml_sizes() {
        assert_eq!(Format::Q8 { group: 32 }.row_bytes(32), 34);
        assert_eq!(Format::Q4 { group: 32 }.row_bytes(32), 18);
        assert_eq!(Format::Q8 { group: 32 }.row_bytes(64) * 8, 64 * 17 / 2, "8.5 bits a value");
    }

    #[test]
    fn a_row_that_is_no_multiple_of_the_group_is_refused_with_what_fits() {
        let error = Format::Q8 { group: 32 }.check_dim(80).unwrap_err();
        assert!(error.to_string().ends_with("a row has 80; try `q8_g16`"), "{error}");
        assert_eq!(Format::Q8 { group: 16 }.check_dim(80), Ok(()));
    }

    #[test]
    fn every_f16_decodes_as_half_decodes_it() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits).to_f32();
            let actual = f16_to_f32(bits);
            assert!(actual.to_bits() == expected.to_bits() || (actual.is_nan() && expected.is_nan()), "{bits:#06x}");
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero() {
        for format in ALL {
            assert_eq!(round_trip(format, &[0.0; 64]), [0.0; 64], "{format}");
        }
    }

    proptest! {
        #[test]
        fn errors_stay_within_the_documented_bound(row in proptest::collection::vec(-100.0f32..100.0, 64)) {
            for format in ALL {
                let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                for (value, decoded) in row.iter().zip(round_trip(format, &row)) {
                    let bound = format.max_relative_error() * largest * 1.0001;
                    prop_assert!((value - decoded).abs() <= bound, "{format}: {value} became {decoded}");
                }
            }
        }
    }
}
