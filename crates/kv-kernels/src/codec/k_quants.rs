//! ggml's K-quants: super-blocks of 256 values, whose groups have integer scales relative to the super-block's own.
//!
//! Source: `block_q4_K`, `block_q5_K` and `block_q6_K` in `ggml-common.h`, `get_scale_min_k4` and `dequantize_row_q4_K` and
//! so on in `ggml-quants.c`. They are formats of weights; kvlab does not encode them.
//!
//! The products of scales are exact: 11 bits of the half-precision scale, up to 8 of the integer scale and up to 5 of a
//! code fit in the 24 bits of an `f32`. So decoding in registers gives the same bits as decoding in steps.

use super::{Codec, HALF, read_half};
use crate::lanes::Lanes;

/// Values per super-block.
pub(crate) const SUPER_BLOCK: usize = 256;

/// Values of a group of `q4_K` and `q5_K`.
const GROUP: usize = 32;
const GROUPS: usize = SUPER_BLOCK / GROUP;
/// Bytes of the scale of scales and the scale of minima.
const HEAD: usize = 2 * HALF;
/// Bytes of eight 6-bit scales and eight 6-bit minima.
const SCALES: usize = 12;
const NIBBLES: usize = SUPER_BLOCK / 2;
/// Bytes of the fifth bits of `q5_K`: bit `g` of byte `i` belongs to value `i` of group `g`.
const FIFTH_BITS: usize = SUPER_BLOCK / 8;

pub(crate) const Q4_K_BYTES: usize = HEAD + SCALES + NIBBLES;
pub(crate) const Q5_K_BYTES: usize = HEAD + SCALES + FIFTH_BITS + NIBBLES;

/// Values of a group of `q6_K`.
const Q6_GROUP: usize = 16;
const Q6_GROUPS: usize = SUPER_BLOCK / Q6_GROUP;
/// Bytes of the upper two bits of `q6_K`.
const Q6_UPPER: usize = SUPER_BLOCK / 4;
pub(crate) const Q6_K_BYTES: usize = NIBBLES + Q6_UPPER + Q6_GROUPS + HALF;

/// `x = (d · scale) · q − dmin · minimum`.
pub(crate) fn decode_q4_k(encoded: &[u8], values: &mut [f32]) {
    for (values, block) in values.chunks_exact_mut(SUPER_BLOCK).zip(encoded.chunks_exact(Q4_K_BYTES)) {
        for (group, values) in values.chunks_exact_mut(GROUP).enumerate() {
            let (scale, minimum) = scale_and_minimum(block, group);
            for (value, byte) in values.iter_mut().zip(&block[HEAD + SCALES + group / 2 * GROUP..]) {
                *value = scale * f32::from(nibble(*byte, group)) - minimum;
            }
        }
    }
}

/// `x = (d · scale) · q − dmin · minimum`.
pub(crate) fn decode_q5_k(encoded: &[u8], values: &mut [f32]) {
    for (values, block) in values.chunks_exact_mut(SUPER_BLOCK).zip(encoded.chunks_exact(Q5_K_BYTES)) {
        let (fifth, nibbles) = block[HEAD + SCALES..].split_at(FIFTH_BITS);
        for (group, values) in values.chunks_exact_mut(GROUP).enumerate() {
            let (scale, minimum) = scale_and_minimum(block, group);
            for ((value, byte), fifth) in values.iter_mut().zip(&nibbles[group / 2 * GROUP..]).zip(fifth) {
                *value = scale * f32::from(nibble(*byte, group) | (fifth >> group & 1) << 4) - minimum;
            }
        }
    }
}

/// `x = (d · scale) · (q − 32)`.
pub(crate) fn decode_q6_k(encoded: &[u8], values: &mut [f32]) {
    for (values, block) in values.chunks_exact_mut(SUPER_BLOCK).zip(encoded.chunks_exact(Q6_K_BYTES)) {
        let (upper, scales) = block[NIBBLES..].split_at(Q6_UPPER);
        let block_scale = read_half(&scales[Q6_GROUPS..]);
        for (group, values) in values.chunks_exact_mut(Q6_GROUP).enumerate() {
            let scale = block_scale * f32::from(scales[group].cast_signed());
            let SixBits { nibbles, is_high, upper: first_upper, shift } = SixBits::of(group);
            for (index, value) in values.iter_mut().enumerate() {
                let low = nibble(block[nibbles + index], usize::from(is_high));
                let code = low | (upper[first_upper + index] >> shift & 3) << 4;
                *value = scale * (f32::from(code) - 32.0);
            }
        }
    }
}

/// The low nibble for even groups, the high one for odd groups.
fn nibble(byte: u8, group: usize) -> u8 {
    if group.is_multiple_of(2) { byte & 15 } else { byte >> 4 }
}

/// A group's scale and minimum in a block of `q4_K` or `q5_K`.
fn scale_and_minimum(block: &[u8], group: usize) -> (f32, f32) {
    let [scale, minimum] = six_bit_scales(block[HEAD..][..SCALES].try_into().expect("twelve bytes"), group);
    (read_half(block) * f32::from(scale), read_half(&block[HALF..]) * f32::from(minimum))
}

/// The 6-bit scale and minimum of a group. The first four of each are the lower six bits of bytes 0 to 3 and 4 to 7. The
/// others have their lower four bits in bytes 8 to 11 and their upper two in the remaining bits of the first eight bytes.
#[inline(always)]
fn six_bit_scales(scales: &[u8; SCALES], group: usize) -> [u8; 2] {
    if group < 4 {
        [scales[group] & 63, scales[group + 4] & 63]
    } else {
        let lower = scales[group + 4];
        [lower & 15 | (scales[group - 4] >> 6) << 4, lower >> 4 | (scales[group] >> 6) << 4]
    }
}

/// Where the codes of a group of `q6_K` are. A half of the super-block, 128 values, has 64 bytes of nibbles and 32 bytes of
/// upper bits; its quarters take the low nibbles of the first and second 32 bytes, then the high ones.
struct SixBits {
    /// Index of the first byte of nibbles.
    nibbles: usize,
    is_high: bool,
    /// Index of the first byte of upper bits.
    upper: usize,
    /// Position of the upper bits in their byte.
    shift: usize,
}

impl SixBits {
    #[inline(always)]
    fn of(group: usize) -> SixBits {
        let (half, quarter, within) = (group / 8, group % 8 / 2, group % 2 * Q6_GROUP);
        SixBits { nibbles: half * 64 + quarter % 2 * 32 + within, is_high: quarter >= 2, upper: half * 32 + within, shift: 2 * quarter }
    }
}

/// A group's scale and negated minimum in all lanes.
///
/// # Safety
/// The row holds the group, in super-blocks of `BYTES` bytes.
#[inline(always)]
unsafe fn head<L: Lanes, const BYTES: usize>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
    // SAFETY: guaranteed by the caller.
    let block = unsafe { row.add(group / GROUPS * BYTES) };
    // SAFETY: guaranteed by the caller.
    let scales = unsafe { block.add(HEAD) };
    // SAFETY: guaranteed by the caller.
    let scales = unsafe { scales.cast::<[u8; SCALES]>().read() };
    let [scale, minimum] = six_bit_scales(&scales, group % GROUPS);
    // SAFETY: guaranteed by the caller.
    let block_scale = unsafe { lanes.splat_f16(block) };
    // SAFETY: guaranteed by the caller.
    let smallest = unsafe { block.add(HALF) };
    // SAFETY: guaranteed by the caller.
    let block_minimum = unsafe { lanes.splat_f16(smallest) };
    (lanes.mul(block_scale, lanes.splat(f32::from(scale))), lanes.mul(block_minimum, lanes.splat(-f32::from(minimum))))
}

/// Nibbles `at .. at + WIDTH` of a group.
///
/// # Safety
/// The nibbles of a super-block can be read, and `at + WIDTH` is at most [`GROUP`].
#[inline(always)]
unsafe fn load_group<L: Lanes>(lanes: L, nibbles: *const u8, group: usize, at: usize) -> L::F32 {
    // SAFETY: guaranteed by the caller.
    let from = unsafe { nibbles.add(group / 2 * GROUP + at) };
    if group.is_multiple_of(2) {
        // SAFETY: guaranteed by the caller.
        unsafe { lanes.load_low_nibbles::<0>(from) }
    } else {
        // SAFETY: guaranteed by the caller.
        unsafe { lanes.load_high_nibbles::<0>(from) }
    }
}

/// 4-bit codes with 6-bit scales and minima.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q4K;

impl Codec for Q4K {
    const GROUP: usize = GROUP;
    const HAS_OFFSET: bool = true;

    fn row_bytes(dim: usize) -> usize {
        dim / SUPER_BLOCK * Q4_K_BYTES
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        unsafe { head::<L, Q4_K_BYTES>(lanes, row, group) }
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let nibbles = unsafe { row.add(group / GROUPS * Q4_K_BYTES + HEAD + SCALES) };
        // SAFETY: guaranteed by the caller.
        unsafe { load_group(lanes, nibbles, group % GROUPS, at) }
    }
}

/// 5-bit codes with 6-bit scales and minima.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q5K;

impl Codec for Q5K {
    const GROUP: usize = GROUP;
    const HAS_OFFSET: bool = true;

    fn row_bytes(dim: usize) -> usize {
        dim / SUPER_BLOCK * Q5_K_BYTES
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        unsafe { head::<L, Q5_K_BYTES>(lanes, row, group) }
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let fifth = unsafe { row.add(group / GROUPS * Q5_K_BYTES + HEAD + SCALES) };
        // SAFETY: guaranteed by the caller.
        let nibbles = unsafe { fifth.add(FIFTH_BITS) };
        // SAFETY: guaranteed by the caller.
        let nibbles = unsafe { load_group(lanes, nibbles, group % GROUPS, at) };
        // SAFETY: guaranteed by the caller.
        let from = unsafe { fifth.add(at) };
        // SAFETY: guaranteed by the caller.
        let fifth = unsafe { lanes.load_fields::<1>(from, group % GROUPS) };
        lanes.mul_add(fifth, lanes.splat(16.0), nibbles)
    }
}

/// 6-bit codes with 8-bit scales.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q6K;

impl Codec for Q6K {
    const GROUP: usize = Q6_GROUP;

    fn row_bytes(dim: usize) -> usize {
        dim / SUPER_BLOCK * Q6_K_BYTES
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        let scales = unsafe { row.add(group / Q6_GROUPS * Q6_K_BYTES + NIBBLES + Q6_UPPER) };
        // SAFETY: guaranteed by the caller.
        let from = unsafe { scales.add(group % Q6_GROUPS) };
        // SAFETY: guaranteed by the caller.
        let scale = unsafe { from.read() }.cast_signed();
        // SAFETY: guaranteed by the caller.
        let block_scale = unsafe { scales.add(Q6_GROUPS) };
        // SAFETY: guaranteed by the caller.
        let block_scale = unsafe { lanes.splat_f16(block_scale) };
        (lanes.mul(block_scale, lanes.splat(f32::from(scale))), lanes.splat(0.0))
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let block = unsafe { row.add(group / Q6_GROUPS * Q6_K_BYTES) };
        let SixBits { nibbles, is_high, upper, shift } = SixBits::of(group % Q6_GROUPS);
        // SAFETY: guaranteed by the caller.
        let from = unsafe { block.add(nibbles + at) };
        let low = if is_high {
            // SAFETY: guaranteed by the caller.
            unsafe { lanes.load_high_nibbles::<32>(from) }
        } else {
            // SAFETY: guaranteed by the caller.
            unsafe { lanes.load_low_nibbles::<32>(from) }
        };
        // SAFETY: guaranteed by the caller.
        let from = unsafe { block.add(NIBBLES + upper + at) };
        // SAFETY: guaranteed by the caller.
        let upper = unsafe { lanes.load_fields::<3>(from, shift) };
        lanes.mul_add(upper, lanes.splat(16.0), low)
    }
}
