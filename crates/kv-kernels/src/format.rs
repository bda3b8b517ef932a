//! How keys and values are encoded.
//!
//! The quantised formats are ggml's block layouts, so that bytes are comparable with llama.cpp's: a group of
//! values shares one `f16` scale (and minimum), stored in front of the group's codes. ggml fixes the group at 32
//! values (`q8_0`: 34 bytes, `q4_0`: 18, `q4_1`: 20); here the group is a parameter and 32 the default, and the
//! group whose rows are decoded in registers: of another size they are decoded a block of keys at a time.

use std::fmt;
use std::str::FromStr;

use crate::codec;

/// The encoding of keys or values.
///
/// As text: `f32`, `f16`, `bf16`, `fp8_e4m3`, `q8_0`, `q4_0`, `q4_1`, `kivi4`, `kivi2` (groups of 32), or
/// `q8_g64`, `q4_g16`, `q4_1_g16`, `kivi2_g64`, … for groups of another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// IEEE 754 single precision: 32 bits a value, exact.
    F32,
    /// IEEE 754 half precision: 16 bits a value, 11 significant bits, largest value 65504.
    F16,
    /// bfloat16: 16 bits a value, 8 significant bits, the range of `f32`.
    Bf16,
    /// FP8 with 4 bits of exponent: 8 bits a value, 4 significant bits, values past ±448 become ±448
    /// (arXiv:2209.05433). It has no scale.
    Fp8E4m3,
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
    /// 4-bit codes with a scale and a minimum a group: `x ≈ d·q + m`, `m = min x`, `d = (max x − m) / 15`.
    Q4_1 {
        /// Values that share a scale.
        group: usize,
    },
    /// KIVI's 4-bit codes (arXiv:2402.02750): as `q4_1`, keys with a scale and minimum a *channel* over a group
    /// of tokens, values with one a token over a group of channels.
    Kivi4 {
        /// Tokens (for keys) or channels (for values) that share a scale.
        group: usize,
    },
    /// KIVI's 2-bit codes: as [`Kivi4`](Format::Kivi4) with `d = (max x − m) / 3`.
    Kivi2 {
        /// Tokens (for keys) or channels (for values) that share a scale.
        group: usize,
    },
}

/// A format that does not exist or does not fit a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The text names no format.
    #[error(
        "unknown format `{name}`; known are f32, f16, bf16, fp8_e4m3, q8_0, q4_0, q4_1, kivi4, kivi2, and q8_gN, q4_gN, q4_1_gN for groups of N values (N even), kivi4_gN, kivi2_gN (N a multiple of 16)"
    )]
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
    /// The keys of several tokens are encoded at once, and the cache writes them one by one.
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
    /// Bytes of an encoded row of `dim` values, scales included; of a key in a format that encodes a group of
    /// tokens at once, its share of the group.
    pub fn row_bytes(self, dim: usize) -> usize {
        self.code_bytes(dim) + self.scale_bytes(dim)
    }

    /// Bytes of a row's values alone.
    pub fn code_bytes(self, dim: usize) -> usize {
        match self {
            Format::F32 => 4 * dim,
            Format::F16 | Format::Bf16 => 2 * dim,
            Format::Fp8E4m3 | Format::Q8 { .. } => dim,
            Format::Q4 { .. } | Format::Q4_1 { .. } | Format::Kivi4 { .. } => dim / 2,
            Format::Kivi2 { .. } => dim / 4,
        }
    }

    /// Bytes of a row's scales and minima; of a key in a format that encodes a group of tokens at once, its
    /// share of them.
    pub fn scale_bytes(self, dim: usize) -> usize {
        let halves = match self {
            Format::F32 | Format::F16 | Format::Bf16 | Format::Fp8E4m3 => 0,
            Format::Q8 { .. } | Format::Q4 { .. } => 1,
            Format::Q4_1 { .. } | Format::Kivi4 { .. } | Format::Kivi2 { .. } => 2,
        };
        self.group().map_or(0, |group| dim * halves * HALF_BYTES / group)
    }

    /// Values that share a scale, or `None` for a format without scales.
    pub fn group(self) -> Option<usize> {
        match self {
            Format::F32 | Format::F16 | Format::Bf16 | Format::Fp8E4m3 => None,
            Format::Q8 { group } | Format::Q4 { group } | Format::Q4_1 { group } => Some(group),
            Format::Kivi4 { group } | Format::Kivi2 { group } => Some(group),
        }
    }

    /// Tokens whose keys are encoded together: 1, or a KIVI format's group.
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

    /// Whether decoding returns the values that were encoded, to the bit.
    pub fn is_exact(self) -> bool {
        self == Format::F32
    }

    /// Bound on a decoded value's error, as a fraction of the largest magnitude among the rows encoded with it.
    ///
    /// Half a unit in the last place for the floating-point formats (values within the format's normal range),
    /// half a step for `q8`, a whole step for `q4` (the code +8 does not exist, so a value opposite in sign to the
    /// largest is clipped by up to a step), half a step of twice the magnitude for codes with a minimum, plus the
    /// rounding of the scale and the minimum to `f16`.
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

    /// Encodes values that are scaled along themselves: one row, or for a KIVI format also one channel.
    ///
    /// # Panics
    /// If `encoded` is not [`row_bytes`](Self::row_bytes) of `row.len()` long.
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

    /// Decodes consecutive rows, `values` is `[rows, dim]`, plainly: the reference of every kernel. Any bytes
    /// decode to something.
    ///
    /// # Panics
    /// If the lengths of `encoded` and `values` do not agree.
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

    /// The smallest number of values that a group may be a multiple of: codes fill whole bytes, of KIVI's whole vectors.
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

    /// The formats by name, those with groups with ggml's, and what a name with another group starts with.
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
        // 65536 is past any head dimension.
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

    /// Every kind of format, with ggml's group and others.
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
