//! Codes times a scale: ggml's `q8_0` and `q4_0`, with groups of any size in plain Rust and of 32 in vectors.
//!
//! Source: `block_q8_0`, `block_q4_0` in `ggml-common.h`, `quantize_row_q8_0_ref`, `quantize_row_q4_0_ref` and
//! `dequantize_row_*` in `ggml-quants.c`.

use super::{Codec, ColumnCodec, Columns, GGML_GROUP, HALF, IntegerCodec, KeyCodec, read_half, scale_at_start, write_half};
use crate::lanes::{IntegerDots, Lanes};

/// `d = max|x| / 127`, `q = round(x / d)`. Stores the scale, then one signed byte per value.
pub(crate) fn encode_q8_0(group: usize, row: &[f32], encoded: &mut [u8]) {
    for (values, bytes) in row.chunks_exact(group).zip(encoded.chunks_exact_mut(HALF + group)) {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
        write_half(scale, bytes);
        for (value, code) in values.iter().zip(&mut bytes[HALF..]) {
            *code = ((value * inverse).round() as i8).cast_unsigned();
        }
    }
}

/// `x = d · q`.
pub(crate) fn decode_q8_0(group: usize, encoded: &[u8], row: &mut [f32]) {
    for (values, bytes) in row.chunks_exact_mut(group).zip(encoded.chunks_exact(HALF + group)) {
        let scale = read_half(bytes);
        for (value, code) in values.iter_mut().zip(&bytes[HALF..]) {
            *value = scale * f32::from(code.cast_signed());
        }
    }
}

/// `d = m / −8` for the value `m` of the largest magnitude, `q = ⌊x / d + 8.5⌋`. Stores the scale, then one byte per two
/// values, with the first half of the group in the low nibbles and the second half in the high nibbles.
pub(crate) fn encode_q4_0(group: usize, row: &[f32], encoded: &mut [u8]) {
    for (values, bytes) in row.chunks_exact(group).zip(encoded.chunks_exact_mut(HALF + group / 2)) {
        let largest = values.iter().fold(0.0f32, |largest, value| if value.abs() > largest.abs() { *value } else { largest });
        let scale = largest / -8.0;
        let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
        let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
        write_half(scale, bytes);
        let (low, high) = values.split_at(group / 2);
        for ((low, high), byte) in low.iter().zip(high).zip(&mut bytes[HALF..]) {
            *byte = code(*low) | code(*high) << 4;
        }
    }
}

/// `x = d · (q − 8)`.
pub(crate) fn decode_q4_0(group: usize, encoded: &[u8], row: &mut [f32]) {
    for (values, bytes) in row.chunks_exact_mut(group).zip(encoded.chunks_exact(HALF + group / 2)) {
        let scale = read_half(bytes);
        let (low, high) = values.split_at_mut(group / 2);
        for ((low, high), code) in low.iter_mut().zip(high).zip(&bytes[HALF..]) {
            *low = scale * (f32::from(code & 15) - 8.0);
            *high = scale * (f32::from(code >> 4) - 8.0);
        }
    }
}

/// Groups of 32 signed bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q8_0;

impl Codec for Q8_0 {
    const GROUP: usize = GGML_GROUP;

    fn row_bytes(dim: usize) -> usize {
        dim / GGML_GROUP * (HALF + GGML_GROUP)
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        unsafe { scale_at_start(lanes, row, group, HALF + GGML_GROUP) }
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let from = unsafe { row.add(group * (HALF + GGML_GROUP) + HALF + at) };
        // SAFETY: guaranteed by the caller.
        unsafe { lanes.load_i8(from) }
    }
}

impl IntegerCodec for Q8_0 {
    fn zero<D: IntegerDots>() -> i32 {
        D::BYTE_ZERO
    }
}

impl KeyCodec for Q8_0 {
    #[inline(always)]
    unsafe fn key_codes<D: IntegerDots>(dots: D, [a, b]: [*const u8; 2]) -> D::Codes {
        // SAFETY: guaranteed by the caller.
        unsafe { dots.load_bytes([a.wrapping_add(HALF), b.wrapping_add(HALF)]) }
    }
}

impl Columns for Q8_0 {}

impl ColumnCodec for Q8_0 {
    fn centre<D: IntegerDots>() -> i32 {
        D::BYTE_ZERO
    }

    #[inline(always)]
    unsafe fn columns<D: IntegerDots>(dots: D, rows: [*const u8; 4], group: usize) -> [D::Columns; 2] {
        let rows = rows.map(|row| row.wrapping_add(group * (HALF + GGML_GROUP) + HALF));
        // SAFETY: guaranteed by the caller.
        unsafe { dots.columns_of_bytes(rows) }
    }
}

/// Groups of 32 nibbles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q4_0;

const NIBBLE_BYTES: usize = GGML_GROUP / 2;

impl Codec for Q4_0 {
    const GROUP: usize = GGML_GROUP;

    fn row_bytes(dim: usize) -> usize {
        dim / GGML_GROUP * (HALF + NIBBLE_BYTES)
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        unsafe { scale_at_start(lanes, row, group, HALF + NIBBLE_BYTES) }
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let codes = unsafe { row.add(group * (HALF + NIBBLE_BYTES) + HALF) };
        // SAFETY: guaranteed by the caller; a vector is within one half of the group.
        unsafe { load_nibbles::<L, 8>(lanes, codes, at) }
    }
}

impl IntegerCodec for Q4_0 {
    fn zero<D: IntegerDots>() -> i32 {
        8
    }
}

impl KeyCodec for Q4_0 {
    #[inline(always)]
    unsafe fn key_codes<D: IntegerDots>(dots: D, [a, b]: [*const u8; 2]) -> D::Codes {
        // SAFETY: guaranteed by the caller.
        unsafe { dots.load_nibbles([a.wrapping_add(HALF), b.wrapping_add(HALF)]) }
    }
}

impl Columns for Q4_0 {}

impl ColumnCodec for Q4_0 {
    fn centre<D: IntegerDots>() -> i32 {
        8
    }

    #[inline(always)]
    unsafe fn columns<D: IntegerDots>(dots: D, rows: [*const u8; 4], group: usize) -> [D::Columns; 2] {
        let rows = rows.map(|row| row.wrapping_add(group * (HALF + NIBBLE_BYTES) + HALF));
        // SAFETY: guaranteed by the caller.
        unsafe { dots.columns_of_nibbles(rows) }
    }
}

/// Codes `at .. at + WIDTH` of a group of 32 nibbles, minus `ZERO`.
///
/// # Safety
/// The group's 16 bytes can be read, and the codes are within one half of the group.
#[inline(always)]
pub(super) unsafe fn load_nibbles<L: Lanes, const ZERO: i32>(lanes: L, codes: *const u8, at: usize) -> L::F32 {
    if at < NIBBLE_BYTES {
        // SAFETY: guaranteed by the caller.
        let from = unsafe { codes.add(at) };
        // SAFETY: guaranteed by the caller.
        unsafe { lanes.load_low_nibbles::<ZERO>(from) }
    } else {
        // SAFETY: guaranteed by the caller.
        let from = unsafe { codes.add(at - NIBBLE_BYTES) };
        // SAFETY: guaranteed by the caller.
        unsafe { lanes.load_high_nibbles::<ZERO>(from) }
    }
}
