//! Encoding and decoding of rows: in plain Rust, one value at a time, and in vectors.
//!
//! Each format is defined by an `encode` and a `decode` function in plain Rust. It also has a [`Codec`], which decodes a
//! vector of values in registers and must give the same bits.

mod affine;
mod channels;
mod five_bits;
mod float;
mod k_quants;
mod non_linear;
mod scaled;

use crate::lanes::{IntegerDots, Lanes};

pub(crate) use affine::{Q2_1, Q4_1, decode_q2_1, decode_q4_1, encode_q2_1, encode_q4_1};
pub(crate) use channels::{ChannelCodec, Channels, Nibbles, TwoBits, decode_channels, encode_channels};
pub(crate) use five_bits::{Q5_0, Q5_1, decode_q5_0, decode_q5_1};
pub(crate) use float::{
    Bf16, F16, F32, Fp8E4m3, decode_bf16, decode_f16, decode_fp8_e4m3, encode_bf16, encode_f16, encode_fp8_e4m3, f16_to_f32, f32_to_f16,
    fp8_e4m3_to_f32,
};
pub(crate) use k_quants::{Q4_K_BYTES, Q4K, Q5_K_BYTES, Q5K, Q6_K_BYTES, Q6K, SUPER_BLOCK, decode_q4_k, decode_q5_k, decode_q6_k};
pub(crate) use non_linear::{Iq4Nl, decode_iq4_nl};
pub(crate) use scaled::{Q4_0, Q8_0, decode_q4_0, decode_q8_0, encode_q4_0, encode_q8_0};

/// Decodes vectors of a row in registers.
///
/// A row is a run of groups of [`GROUP`](Codec::GROUP) codes, each with a scale and an offset, or a run of plain values. A
/// value is `scale · code + offset`.
pub(crate) trait Codec: Copy {
    /// Codes per group, a multiple of every vector width. 0 if there are no groups, scales and offsets.
    const GROUP: usize = 0;
    /// Whether groups have offsets.
    const HAS_OFFSET: bool = false;

    /// Bytes of a row of `dim` values.
    fn row_bytes(dim: usize) -> usize;

    /// The scale and the offset of a group, each in all lanes.
    ///
    /// # Safety
    /// The row holds `group + 1` groups.
    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, _row: *const u8, _group: usize) -> (L::F32, L::F32) {
        (lanes.splat(1.0), lanes.splat(0.0))
    }

    /// Codes `at .. at + WIDTH` of a group, or values of a row without groups.
    ///
    /// # Safety
    /// The row holds `group + 1` groups, and `at + WIDTH` is at most [`GROUP`](Codec::GROUP); or it holds
    /// `at + WIDTH` values.
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32;
}

/// A codec of groups of 32 codes of at most one byte: `scale · (code − zero) + minimum`.
pub(crate) trait IntegerCodec: Codec {
    /// The code of the value 0, or of the minimum if there are offsets.
    fn zero<D: IntegerDots>() -> i32;
}

/// Loads the codes of a row for scoring.
pub(crate) trait KeyCodec: IntegerCodec {
    /// The codes of the groups that begin at these addresses of a row.
    ///
    /// # Safety
    /// Those groups can be read.
    unsafe fn key_codes<D: IntegerDots>(dots: D, groups: [*const u8; 2]) -> D::Codes;
}

/// Loads codes column by column.
pub(crate) trait Columns {
    /// The column sums, from the first column to the last.
    #[inline(always)]
    fn in_order<D: IntegerDots>(dots: D, sums: D::ColumnSums) -> D::ColumnSums {
        dots.in_order(sums)
    }
}

/// Loads the codes of four rows for weighting. A group's bytes begin with the scale and, if there are offsets, the minimum,
/// in half precision.
pub(crate) trait ColumnCodec: IntegerCodec + Columns {
    /// The middle of all codes. The error of a rounded weight is multiplied by a code's distance from it.
    fn centre<D: IntegerDots>() -> i32;

    /// The codes of a group: of the first 16 columns and of the last 16.
    ///
    /// # Safety
    /// Each row holds `group + 1` groups.
    unsafe fn columns<D: IntegerDots>(dots: D, rows: [*const u8; 4], group: usize) -> [D::Columns; 2];
}

/// Values per group, in a row of `dim` values, that share a scale and an offset.
#[inline(always)]
pub(crate) fn group_of<C: Codec>(dim: usize) -> usize {
    if C::GROUP == 0 { dim } else { C::GROUP }
}

/// Values `at .. at + WIDTH` of a group, with its [`Codec::scale`].
///
/// # Safety
/// As for [`Codec::codes`].
#[inline(always)]
pub(crate) unsafe fn decode<L: Lanes, C: Codec>(
    lanes: L,
    row: *const u8,
    group: usize,
    at: usize,
    (scale, offset): (L::F32, L::F32),
) -> L::F32 {
    // SAFETY: guaranteed by the caller.
    let codes = unsafe { C::codes(lanes, row, group, at) };
    match (C::GROUP, C::HAS_OFFSET) {
        (0, _) => codes,
        (_, false) => lanes.mul(codes, scale),
        (_, true) => lanes.mul_add(codes, scale, offset),
    }
}

/// Decodes a row of `decoded.len()` values.
///
/// # Safety
/// The row has the bytes of that many values, which are whole vectors.
#[inline(always)]
pub(crate) unsafe fn decode_row<L: Lanes, C: Codec>(lanes: L, row: *const u8, decoded: &mut [f32]) {
    let group_values = group_of::<C>(decoded.len());
    for (group, decoded) in decoded.chunks_exact_mut(group_values).enumerate() {
        // SAFETY: guaranteed by the caller.
        let scale = unsafe { C::scale(lanes, row, group) };
        for (index, decoded) in decoded.chunks_exact_mut(L::WIDTH).enumerate() {
            // SAFETY: guaranteed by the caller.
            let vector = unsafe { decode::<L, C>(lanes, row, group, index * L::WIDTH, scale) };
            // SAFETY: `WIDTH` values.
            unsafe { lanes.store(vector, decoded.as_mut_ptr()) };
        }
    }
}

/// The scale at the beginning of a group of `bytes` bytes, and no offset.
///
/// # Safety
/// The row holds the group.
#[inline(always)]
unsafe fn scale_at_start<L: Lanes>(lanes: L, row: *const u8, group: usize, bytes: usize) -> (L::F32, L::F32) {
    // SAFETY: guaranteed by the caller.
    let from = unsafe { row.add(group * bytes) };
    // SAFETY: guaranteed by the caller.
    (unsafe { lanes.splat_f16(from) }, lanes.splat(0.0))
}

/// Bytes of a half-precision scale or minimum.
pub(crate) const HALF: usize = 2;
/// ggml's group.
const GGML_GROUP: usize = 32;

fn read_half(bytes: &[u8]) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn write_half(value: f32, bytes: &mut [u8]) {
    bytes[..HALF].copy_from_slice(&f32_to_f16(value).to_le_bytes());
}
