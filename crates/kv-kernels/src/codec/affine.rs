//! Codes times a scale plus a minimum: ggml's `q4_1`, and the same layout with 2-bit codes.
//!
//! Source of `q4_1`: `block_q4_1` in `ggml-common.h`, `quantize_row_q4_1_ref` and `dequantize_row_q4_1` in
//! `ggml-quants.c`. The 2-bit groups are those of KIVI (Liu et al., arXiv:2402.02750, eq. 1), with its scale and zero
//! point stored as a scale and a minimum. ggml has no such format.

use super::scaled::load_nibbles;
use super::{Codec, ColumnCodec, Columns, GGML_GROUP, HALF, IntegerCodec, KeyCodec, read_half, write_half};
use crate::lanes::{IntegerDots, Lanes};

/// Bytes of the scale and the minimum before the codes.
pub(super) const HEAD: usize = 2 * HALF;

/// `m = min x`, `d = (max x − m) / (codes − 1)`, `q = ⌊(x − m) / d + ½⌋`. Writes `d` and `m`, and returns the function
/// that encodes a value.
fn quantise(values: &[f32], largest_code: u8, head: &mut [u8]) -> impl Fn(f32) -> u8 + use<> {
    let smallest = values.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (largest - smallest) / f32::from(largest_code);
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    write_half(scale, &mut head[..HALF]);
    write_half(smallest, &mut head[HALF..]);
    move |value| (((value - smallest) * inverse + 0.5) as u8).min(largest_code)
}

/// The scale, the minimum, then the nibbles in the order of `q4_0`.
pub(crate) fn encode_q4_1(group: usize, row: &[f32], encoded: &mut [u8]) {
    for (values, bytes) in row.chunks_exact(group).zip(encoded.chunks_exact_mut(HEAD + group / 2)) {
        let (head, codes) = bytes.split_at_mut(HEAD);
        let code = quantise(values, 15, head);
        let (low, high) = values.split_at(group / 2);
        for ((low, high), byte) in low.iter().zip(high).zip(codes) {
            *byte = code(*low) | code(*high) << 4;
        }
    }
}

/// `x = d · q + m`.
pub(crate) fn decode_q4_1(group: usize, encoded: &[u8], row: &mut [f32]) {
    for (values, bytes) in row.chunks_exact_mut(group).zip(encoded.chunks_exact(HEAD + group / 2)) {
        let (scale, smallest) = (read_half(bytes), read_half(&bytes[HALF..]));
        let (low, high) = values.split_at_mut(group / 2);
        for ((low, high), code) in low.iter_mut().zip(high).zip(&bytes[HEAD..]) {
            *low = scale * f32::from(code & 15) + smallest;
            *high = scale * f32::from(code >> 4) + smallest;
        }
    }
}

/// The scale, the minimum, then four 2-bit codes per byte, the first in the lowest bits.
pub(crate) fn encode_q2_1(group: usize, row: &[f32], encoded: &mut [u8]) {
    for (values, bytes) in row.chunks_exact(group).zip(encoded.chunks_exact_mut(HEAD + group / 4)) {
        let (head, codes) = bytes.split_at_mut(HEAD);
        let code = quantise(values, 3, head);
        for (values, byte) in values.chunks_exact(4).zip(codes) {
            *byte = code(values[0]) | code(values[1]) << 2 | code(values[2]) << 4 | code(values[3]) << 6;
        }
    }
}

/// `x = d · q + m`.
pub(crate) fn decode_q2_1(group: usize, encoded: &[u8], row: &mut [f32]) {
    for (values, bytes) in row.chunks_exact_mut(group).zip(encoded.chunks_exact(HEAD + group / 4)) {
        let (scale, smallest) = (read_half(bytes), read_half(&bytes[HALF..]));
        for (index, value) in values.iter_mut().enumerate() {
            let code = bytes[HEAD + index / 4] >> (2 * (index % 4)) & 3;
            *value = scale * f32::from(code) + smallest;
        }
    }
}

/// The scale and the minimum of a group of `bytes` bytes.
///
/// # Safety
/// The row holds the group.
#[inline(always)]
pub(super) unsafe fn head<L: Lanes>(lanes: L, row: *const u8, group: usize, bytes: usize) -> (L::F32, L::F32) {
    // SAFETY: guaranteed by the caller.
    let scale = unsafe { row.add(group * bytes) };
    // SAFETY: guaranteed by the caller.
    let smallest = unsafe { row.add(group * bytes + HALF) };
    // SAFETY: guaranteed by the caller.
    let scale = unsafe { lanes.splat_f16(scale) };
    // SAFETY: guaranteed by the caller.
    (scale, unsafe { lanes.splat_f16(smallest) })
}

/// Groups of 32 nibbles with a minimum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q4_1;

const Q4_1_BYTES: usize = HEAD + GGML_GROUP / 2;

impl Codec for Q4_1 {
    const GROUP: usize = GGML_GROUP;
    const HAS_OFFSET: bool = true;

    fn row_bytes(dim: usize) -> usize {
        dim / GGML_GROUP * Q4_1_BYTES
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        unsafe { head(lanes, row, group, Q4_1_BYTES) }
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let codes = unsafe { row.add(group * Q4_1_BYTES + HEAD) };
        // SAFETY: guaranteed by the caller; a vector is within one half of the group.
        unsafe { load_nibbles::<L, 0>(lanes, codes, at) }
    }
}

impl IntegerCodec for Q4_1 {
    fn zero<D: IntegerDots>() -> i32 {
        0
    }
}

impl KeyCodec for Q4_1 {
    #[inline(always)]
    unsafe fn key_codes<D: IntegerDots>(dots: D, [a, b]: [*const u8; 2]) -> D::Codes {
        // SAFETY: guaranteed by the caller.
        unsafe { dots.load_nibbles([a.wrapping_add(HEAD), b.wrapping_add(HEAD)]) }
    }
}

impl Columns for Q4_1 {}

impl ColumnCodec for Q4_1 {
    fn centre<D: IntegerDots>() -> i32 {
        8
    }

    #[inline(always)]
    unsafe fn columns<D: IntegerDots>(dots: D, rows: [*const u8; 4], group: usize) -> [D::Columns; 2] {
        let rows = rows.map(|row| row.wrapping_add(group * Q4_1_BYTES + HEAD));
        // SAFETY: guaranteed by the caller.
        unsafe { dots.columns_of_nibbles(rows) }
    }
}

/// Groups of 32 2-bit codes with a minimum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q2_1;

const Q2_1_BYTES: usize = HEAD + GGML_GROUP / 4;
impl Codec for Q2_1 {
    const GROUP: usize = GGML_GROUP;
    const HAS_OFFSET: bool = true;

    fn row_bytes(dim: usize) -> usize {
        dim / GGML_GROUP * Q2_1_BYTES
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        unsafe { head(lanes, row, group, Q2_1_BYTES) }
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let codes = unsafe { row.add(group * Q2_1_BYTES + HEAD) };
        // SAFETY: guaranteed by the caller; a vector is within one word.
        unsafe { load_2bit_codes(lanes, codes, at) }
    }
}

impl IntegerCodec for Q2_1 {
    fn zero<D: IntegerDots>() -> i32 {
        0
    }
}

impl Columns for Q2_1 {
    #[inline(always)]
    fn in_order<D: IntegerDots>(dots: D, sums: D::ColumnSums) -> D::ColumnSums {
        dots.in_order_of_2bit_codes(sums)
    }
}

impl ColumnCodec for Q2_1 {
    fn centre<D: IntegerDots>() -> i32 {
        2
    }

    #[inline(always)]
    unsafe fn columns<D: IntegerDots>(dots: D, rows: [*const u8; 4], group: usize) -> [D::Columns; 2] {
        let rows = rows.map(|row| row.wrapping_add(group * Q2_1_BYTES + HEAD));
        // SAFETY: guaranteed by the caller.
        unsafe { dots.columns_of_2bit_codes(rows) }
    }
}

/// Codes `at .. at + WIDTH` of a row of 2-bit codes.
///
/// # Safety
/// The row holds the codes, and they are within one word of sixteen codes.
#[inline(always)]
pub(super) unsafe fn load_2bit_codes<L: Lanes>(lanes: L, codes: *const u8, at: usize) -> L::F32 {
    const WORD: usize = 16;
    // SAFETY: guaranteed by the caller.
    let word = unsafe { codes.add(at / WORD * size_of::<u32>()) };
    // SAFETY: guaranteed by the caller.
    unsafe { lanes.load_2bit_codes(word, at % WORD) }
}
