//! The encodings of keys and values.
//!
//! The quantized formats are ggml's block layouts, so that sizes are comparable with llama.cpp's. A group of values
//! shares one `f16` scale (and minimum), stored before the group's codes. ggml fixes the group at 32 values (`q8_0`:
//! 34 bytes, `q4_0`: 18, `q4_1`: 20). Here the group size is a parameter with a default of 32. Groups of 32 are
//! decoded in registers. With other group sizes, a block of keys is decoded at a time.

use std::fmt;
use std::str::FromStr;

use crate::codec;

/// The encoding of keys or values.
///
/// The names are `f32`, `f16`, `bf16`, `fp8_e4m3`, `q8_0`, `q4_0`, `q4_1`, `kivi4` and `kivi2` (groups of 32), and
/// `q8_g64`, `q4_g16`, `q4_1_g16`, `kivi2_g64` and so on for other group sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// IEEE 754 single precision: 32 bits per value, exact.
    F32,
    /// IEEE 754 half precision: 16 bits per value, 11 significant bits, largest value 65504.
    F16,
    /// bfloat16: 16 bits per value, 8 significant bits, the range of `f32`.
    Bf16,
    /// FP8 with 4 exponent bits: 8 bits per value, 4 significant bits. Values beyond ±448 saturate at ±448
    /// (arXiv:2209.05433). It has no scale.
    Fp8E4m3,
    /// Signed 8-bit codes with one scale per group: `x ≈ d·q`, `d = max|x| / 127`.
    Q8 {
        /// Values that share a scale.
        group: usize,
    },
    /// 4-bit codes with one scale per group: `x ≈ d·(q − 8)`, `d = m / −8`, where `m` is the value of the largest
    /// magnitude.
    Q4 {
        /// Values that share a scale.
        group: usize,
    },
    /// 4-bit codes with one scale and one minimum per group: `x ≈ d·q + m`, `m = min x`, `d = (max x − m) / 15`.
    Q4_1 {
        /// Values that share a scale.
        group: usize,
    },
    /// KIVI's 4-bit codes (arXiv:2402.02750). Like `q4_1`, but keys have one scale and one minimum per *channel* and group
    /// of tokens. Values have one per token and group of channels.
    Kivi4 {
        /// Tokens (for keys) or channels (for values) that share a scale.
        group: usize,
    },
    /// KIVI's 2-bit codes: like [`Kivi4`](Format::Kivi4), with `d = (max x − m) / 3`.
    Kivi2 {
        /// Tokens (for keys) or channels (for values) that share a scale.
        group: usize,
    },
}

/// A format that does not exist or does not fit the rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The name is not that of a format.
    #[error(
        "unknown format `{name}`; known are f32, f16, bf16, fp8_e4m3, q8_0, q4_0, q4_1, kivi4, kivi2, and q8_gN, q4_gN, q4_1_gN for groups of N values (N even), kivi4_gN, kivi2_gN (N a multiple of 16)"
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// The row is not a whole number of groups.
    #[error("format `{format}` needs rows of a multiple of {group} values, and a row has {dim}{hint}")]
    Group {
        /// The format.
        format: Format,
        /// Values per group.
        group: usize,
        /// Values per row.
        dim: usize,
        /// A group size that fits, or empty.
        hint: String,
    },
    /// The format encodes the keys of several tokens together, but the cache writes tokens one by one.
    #[error(
        "format `{format}` encodes the keys of {tokens} tokens at once, and this strategy writes them one by one; \
         `quantized` keeps the newest tokens apart until there are enough"
    )]
    KeyTokens {
        /// The format.
        format: Format,
        /// Tokens whose keys are encoded together.
        tokens: usize,
    },
}

/// Bytes of a scale or a minimum, an `f16`.
const HALF_BYTES: usize = 2;
const GGML_GROUP: usize = 32;

impl Format {
    /// Bytes of an encoded row of `dim` values, including scales. For a key in a format that encodes a group of
    /// tokens together, its share of the group.
    pub fn row_bytes(self, dim: usize) -> usize {
        self.code_bytes(dim) + self.scale_bytes(dim)
    }

    /// Bytes of a row's codes, without scales and minima. Saturates.
    pub fn code_bytes(self, dim: usize) -> usize {
        match self {
            Format::F32 => dim.saturating_mul(4),
            Format::F16 | Format::Bf16 => dim.saturating_mul(2),
            Format::Fp8E4m3 | Format::Q8 { .. } => dim,
            Format::Q4 { .. } | Format::Q4_1 { .. } | Format::Kivi4 { .. } => dim / 2,
            Format::Kivi2 { .. } => dim / 4,
        }
    }

    /// Bytes of a row's scales and minima. For a key in a format that encodes a group of tokens together, its share of
    /// them. Saturates.
    pub fn scale_bytes(self, dim: usize) -> usize {
        let halves = match self {
            Format::F32 | Format::F16 | Format::Bf16 | Format::Fp8E4m3 => 0,
            Format::Q8 { .. } | Format::Q4 { .. } => 1,
            Format::Q4_1 { .. } | Format::Kivi4 { .. } | Format::Kivi2 { .. } => 2,
        };
        self.group().map_or(0, |group| dim.saturating_mul(halves * HALF_BYTES) / group)
    }

    /// Values that share a scale, or `None` for a format without scales.
    pub fn group(self) -> Option<usize> {
        match self {
            Format::F32 | Format::F16 | Format::Bf16 | Format::Fp8E4m3 => None,
            Format::Q8 { group } | Format::Q4 { group } | Format::Q4_1 { group } => Some(group),
            Format::Kivi4 { group } | Format::Kivi2 { group } => Some(group),
        }
    }

    /// Tokens whose keys are encoded together: 1, or the group size of a KIVI format.
    pub fn key_tokens(self) -> usize {
        match self {
            Format::Kivi4 { group } | Format::Kivi2 { group } => group,
            _ => 1,
        }
    }

    /// Whether values are integer codes with a scale.
    pub fn is_quantised(self) -> bool {
        self.group().is_some()
    }

    /// Whether decoding returns exactly the values that were encoded.
    pub fn is_exact(self) -> bool {
        self == Format::F32
    }

    /// Bound on the error of a decoded value, as a fraction of the largest magnitude in the rows encoded with it.
    ///
    /// - Floating-point formats: half a unit in the last place, for values in the format's normal range.
    /// - `q8`: half a step.
    /// - `q4`: a whole step. The code +8 does not exist, so a value whose sign is opposite to that of the largest is
    ///   clipped by up to one step.
    /// - Codes with a minimum: half a step over a range of twice the magnitude.
    ///
    /// The quantized formats add the rounding of the scale and the minimum to `f16`.
    pub fn max_relative_error(self) -> f32 {
        const F16_HALF_ULP: f32 = 1.0 / 2048.0;
        match self {
            Format::F32 => 0.0,
            Format::F16 => F16_HALF_ULP,
            Format::Bf16 => 1.0 / 256.0,
            Format::Fp8E4m3 => 1.0 / 16.0,
            Format::Q8 { .. } => 0.5 / 127.0 + F16_HALF_ULP,
            Format::Q4 { .. } => 1.0 / 8.0 + F16_HALF_ULP,
            Format::Q4_1 { .. } | Format::Kivi4 { .. } => 1.0 / 15.0 + 3.0 * F16_HALF_ULP,
            Format::Kivi2 { .. } => 1.0 / 3.0 + 3.0 * F16_HALF_ULP,
        }
    }

    /// Checks that rows of `dim` values can be encoded.
    ///
    /// # Errors
    /// [`FormatError::Group`] if `dim` is not a multiple of the group.
    pub fn check_dim(self, dim: usize) -> Result<(), FormatError> {
        match self.group() {
            Some(group) if !dim.is_multiple_of(group) => {
                let sizes = [64usize, 32, 16, 8, 4, 2].into_iter();
                let fits = sizes.filter(|size| size.is_multiple_of(self.group_unit())).find(|size| dim.is_multiple_of(*size));
                let hint = fits.map_or(String::new(), |size| format!("; try `{}`", self.with_group(size)));
                Err(FormatError::Group { format: self, group, dim, hint })
            }
            _ => Ok(()),
        }
    }

    /// Encodes values with scales along the row: one row, or, for a KIVI format, also one channel.
    ///
    /// # Panics
    /// If the length of `encoded` is not [`row_bytes`](Self::row_bytes) of `row.len()`.
    pub fn encode_row(self, row: &[f32], encoded: &mut [u8]) {
        assert_eq!(encoded.len(), self.row_bytes(row.len()), "encoded bytes of a row of {} values", row.len());
        match self {
            Format::F32 => encoded.copy_from_slice(bytemuck::cast_slice(row)),
            Format::F16 => codec::encode_f16(row, encoded),
            Format::Bf16 => codec::encode_bf16(row, encoded),
            Format::Fp8E4m3 => codec::encode_fp8_e4m3(row, encoded),
            Format::Q8 { group } => codec::encode_q8_0(group, row, encoded),
            Format::Q4 { group } => codec::encode_q4_0(group, row, encoded),
            Format::Q4_1 { group } | Format::Kivi4 { group } => codec::encode_q4_1(group, row, encoded),
            Format::Kivi2 { group } => codec::encode_q2_1(group, row, encoded),
        }
    }

    /// Decodes consecutive rows into `values`, `[rows, dim]`, in plain Rust: the reference for every kernel. Any bytes
    /// can be decoded.
    ///
    /// # Panics
    /// If the lengths of `encoded` and `values` do not match.
    pub fn decode_rows(self, dim: usize, encoded: &[u8], values: &mut [f32]) {
        assert_eq!(encoded.len() * dim, values.len() * self.row_bytes(dim), "encoded and decoded rows");
        match self {
            Format::F32 => bytemuck::cast_slice_mut(values).copy_from_slice(encoded),
            Format::F16 => codec::decode_f16(encoded, values),
            Format::Bf16 => codec::decode_bf16(encoded, values),
            Format::Fp8E4m3 => codec::decode_fp8_e4m3(encoded, values),
            Format::Q8 { group } => codec::decode_q8_0(group, encoded, values),
            Format::Q4 { group } => codec::decode_q4_0(group, encoded, values),
            Format::Q4_1 { group } | Format::Kivi4 { group } => codec::decode_q4_1(group, encoded, values),
            Format::Kivi2 { group } => codec::decode_q2_1(group, encoded, values),
        }
    }

    /// Group sizes must be a multiple of this: codes fill whole bytes, and KIVI's codes fill whole vectors.
    fn group_unit(self) -> usize {
        match self {
            Format::Kivi4 { .. } | Format::Kivi2 { .. } => 16,
            _ => 2,
        }
    }

    fn with_group(self, group: usize) -> Format {
        match self {
            Format::Q8 { .. } => Format::Q8 { group },
            Format::Q4 { .. } => Format::Q4 { group },
            Format::Q4_1 { .. } => Format::Q4_1 { group },
            Format::Kivi4 { .. } => Format::Kivi4 { group },
            Format::Kivi2 { .. } => Format::Kivi2 { group },
            plain => plain,
        }
    }

    /// Each format's name, the prefix of its names with other group sizes, and the format itself with ggml's group size.
    const NAMED: [(&'static str, &'static str, Format); 9] = [
        ("f32", "", Format::F32),
        ("f16", "", Format::F16),
        ("bf16", "", Format::Bf16),
        ("fp8_e4m3", "", Format::Fp8E4m3),
        ("q8_0", "q8_g", Format::Q8 { group: GGML_GROUP }),
        ("q4_0", "q4_g", Format::Q4 { group: GGML_GROUP }),
        ("q4_1", "q4_1_g", Format::Q4_1 { group: GGML_GROUP }),
        ("kivi4", "kivi4_g", Format::Kivi4 { group: GGML_GROUP }),
        ("kivi2", "kivi2_g", Format::Kivi2 { group: GGML_GROUP }),
    ];
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let like = |format: &Format| self.with_group(GGML_GROUP) == *format;
        let (name, prefix, format) = Format::NAMED.iter().find(|(_, _, format)| like(format)).expect("every format is named");
        match self.group() {
            Some(group) if self != format => write!(f, "{prefix}{group}"),
            _ => f.write_str(name),
        }
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<Format, FormatError> {
        // 65536 is larger than any head dimension.
        let with_group = |prefix: &str, format: Format| {
            let group = name.strip_prefix(prefix).filter(|_| !prefix.is_empty())?.parse::<usize>().ok()?;
            let fits = (2..=65536).contains(&group) && group.is_multiple_of(format.group_unit());
            fits.then(|| format.with_group(group))
        };
        let named = Format::NAMED.iter().find_map(
            |(known, prefix, format)| {
                if *known == name { Some(*format) } else { with_group(prefix, *format) }
            },
        );
        named.ok_or_else(|| FormatError::Unknown { name: name.to_owned() })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every kind of format, with ggml's group size and with others.
    pub(crate) const ALL: [Format; 13] = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Fp8E4m3,
        Format::Q8 { group: 32 },
        Format::Q4 { group: 32 },
        Format::Q4_1 { group: 32 },
        Format::Kivi4 { group: 32 },
        Format::Kivi2 { group: 32 },
        Format::Q8 { group: 16 },
        Format::Q4 { group: 8 },
        Format::Q4_1 { group: 4 },
        Format::Kivi2 { group: 64 },
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
