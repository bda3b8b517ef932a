//! 5-bit codes: nibbles, and a word that holds the fifth bit of each code.
//!
//! Source: `block_q5_0` and `block_q5_1` in `ggml-common.h`, `dequantize_row_q5_0` and `dequantize_row_q5_1` in
//! `ggml-quants.c`. They are formats of weights; kvlab does not encode them.

use super::affine::{HEAD, head};
use super::scaled::load_nibbles;
use super::{Codec, GGML_GROUP, HALF, read_half, scale_at_start};
use crate::lanes::Lanes;

/// Bytes of the fifth bits: bit `i` belongs to value `i` of the group.
const FIFTH_BITS: usize = 4;
const NIBBLES: usize = GGML_GROUP / 2;
const Q5_0_BYTES: usize = HALF + FIFTH_BITS + NIBBLES;
const Q5_1_BYTES: usize = HEAD + FIFTH_BITS + NIBBLES;

/// `x = d · (q − 16)`.
pub(crate) fn decode_q5_0(encoded: &[u8], values: &mut [f32]) {
    for (values, bytes) in values.chunks_exact_mut(GGML_GROUP).zip(encoded.chunks_exact(Q5_0_BYTES)) {
        let scale = read_half(bytes);
        for (index, value) in values.iter_mut().enumerate() {
            *value = scale * (f32::from(code(&bytes[HALF..], index)) - 16.0);
        }
    }
}

/// `x = d · q + m`.
pub(crate) fn decode_q5_1(encoded: &[u8], values: &mut [f32]) {
    for (values, bytes) in values.chunks_exact_mut(GGML_GROUP).zip(encoded.chunks_exact(Q5_1_BYTES)) {
        let (scale, smallest) = (read_half(bytes), read_half(&bytes[HALF..]));
        for (index, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(code(&bytes[HEAD..], index)) + smallest;
        }
    }
}

/// Code `index` of a group whose fifth bits and nibbles are in `bytes`.
fn code(bytes: &[u8], index: usize) -> u8 {
    let fifth = bytes[index / 8] >> (index % 8) & 1;
    let byte = bytes[FIFTH_BITS + index % NIBBLES];
    let nibble = if index < NIBBLES { byte & 15 } else { byte >> 4 };
    nibble | fifth << 4
}

/// Groups of 32 5-bit codes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q5_0;

impl Codec for Q5_0 {
    const GROUP: usize = GGML_GROUP;

    fn row_bytes(dim: usize) -> usize {
        dim / GGML_GROUP * Q5_0_BYTES
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        unsafe { scale_at_start(lanes, row, group, Q5_0_BYTES) }
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let bits = unsafe { row.add(group * Q5_0_BYTES + HALF) };
        // SAFETY: guaranteed by the caller.
        unsafe { load_codes::<L, 16>(lanes, bits, at) }
    }
}

/// Groups of 32 5-bit codes with a minimum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q5_1;

impl Codec for Q5_1 {
    const GROUP: usize = GGML_GROUP;
    const HAS_OFFSET: bool = true;

    fn row_bytes(dim: usize) -> usize {
        dim / GGML_GROUP * Q5_1_BYTES
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        unsafe { head(lanes, row, group, Q5_1_BYTES) }
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let bits = unsafe { row.add(group * Q5_1_BYTES + HEAD) };
        // SAFETY: guaranteed by the caller.
        unsafe { load_codes::<L, 0>(lanes, bits, at) }
    }
}

/// Codes `at .. at + WIDTH` of a group, minus `ZERO`.
///
/// # Safety
/// The group's fifth bits and nibbles can be read at `bits`, and the codes are within one half of the group.
#[inline(always)]
unsafe fn load_codes<L: Lanes, const ZERO: i32>(lanes: L, bits: *const u8, at: usize) -> L::F32 {
    // SAFETY: guaranteed by the caller.
    let fifth = unsafe { lanes.load_bits(bits, at) };
    // SAFETY: guaranteed by the caller.
    let nibbles = unsafe { bits.add(FIFTH_BITS) };
    // SAFETY: guaranteed by the caller.
    let nibbles = unsafe { load_nibbles::<L, ZERO>(lanes, nibbles, at) };
    lanes.mul_add(fifth, lanes.splat(16.0), nibbles)
}
