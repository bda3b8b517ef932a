//! How the values of an encoded row are written and read: plainly, one at a time, and as vectors.
//!
//! Each format has an `encode` and a `decode` in plain Rust, which define it, and a [`Codec`] that decodes
//! a vector of values in registers, which must give the same bits.

mod affine;
mod float;
mod scaled;

use crate::lanes::Lanes;

pub(crate) use affine::{Q2_1, Q4_1, decode_q2_1, decode_q4_1, encode_q2_1, encode_q4_1};
pub(crate) use float::{
    Bf16, F16, F32, Fp8E4m3, decode_bf16, decode_f16, decode_fp8_e4m3, encode_bf16, encode_f16, encode_fp8_e4m3, f16_to_f32,
    fp8_e4m3_to_f32,
};
pub(crate) use scaled::{Q4_0, Q8_0, decode_q4_0, decode_q8_0, encode_q4_0, encode_q8_0};

/// Decodes vectors of a row in registers.
///
/// A row is a run of groups of [`GROUP`](Codec::GROUP) values with a scale each, or of vectors without scales.
pub(crate) trait Codec: Copy {
    /// Values of a group, a multiple of every vector's width, or 0 if there are no groups.
    const GROUP: usize;
    /// What is loaded once for a group.
    type Scale<L: Lanes>: Copy;

    /// # Safety
    /// The row holds `group + 1` groups (or vectors).
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> Self::Scale<L>;

    /// Values `at .. at + WIDTH` of the group.
    ///
    /// # Safety
    /// The row holds `group + 1` groups (or vectors), and `at + WIDTH` is at most [`values`].
    unsafe fn load<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize, scale: Self::Scale<L>) -> L::F32;
}

/// Values for which a codec has one scale: a group, or a vector where there are no groups.
#[inline(always)]
pub(crate) fn values<L: Lanes, C: Codec>() -> usize {
    if C::GROUP == 0 { L::WIDTH } else { C::GROUP }
}

/// Bytes of a half-precision scale or minimum.
const HALF: usize = 2;
/// ggml's group.
const GGML_GROUP: usize = 32;

fn read_half(bytes: &[u8]) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn write_half(value: f32, bytes: &mut [u8]) {
    bytes[..HALF].copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
}
