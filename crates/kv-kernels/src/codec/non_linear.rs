//! 4-bit codes that index a table of values, denser around zero.
//!
//! Source: `block_iq4_nl` and `kvalues_iq4nl` in `ggml-common.h`, `dequantize_row_iq4_nl` in `ggml-quants.c`. It is a format
//! of weights; kvlab does not encode it.

use super::{Codec, GGML_GROUP, HALF, read_half, scale_at_start};
use crate::lanes::Lanes;

const NIBBLES: usize = GGML_GROUP / 2;
const BYTES: usize = HALF + NIBBLES;

/// The values of the codes 0 to 15, in multiples of the scale.
const TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `x = d · TABLE[q]`.
pub(crate) fn decode_iq4_nl(encoded: &[u8], values: &mut [f32]) {
    for (values, bytes) in values.chunks_exact_mut(GGML_GROUP).zip(encoded.chunks_exact(BYTES)) {
        let scale = read_half(bytes);
        let (low, high) = values.split_at_mut(NIBBLES);
        for ((low, high), code) in low.iter_mut().zip(high).zip(&bytes[HALF..]) {
            *low = scale * f32::from(TABLE[usize::from(code & 15)]);
            *high = scale * f32::from(TABLE[usize::from(code >> 4)]);
        }
    }
}

/// Groups of 32 nibbles that index [`TABLE`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Iq4Nl;

impl Codec for Iq4Nl {
    const GROUP: usize = GGML_GROUP;

    fn row_bytes(dim: usize) -> usize {
        dim / GGML_GROUP * BYTES
    }

    #[inline(always)]
    unsafe fn scale<L: Lanes>(lanes: L, row: *const u8, group: usize) -> (L::F32, L::F32) {
        // SAFETY: guaranteed by the caller.
        unsafe { scale_at_start(lanes, row, group, BYTES) }
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, group: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller.
        let codes = unsafe { row.add(group * BYTES + HALF) };
        // A vector is within one half of the group.
        if at < NIBBLES {
            // SAFETY: guaranteed by the caller.
            let from = unsafe { codes.add(at) };
            // SAFETY: guaranteed by the caller.
            unsafe { lanes.look_up_low_nibbles(from, &TABLE) }
        } else {
            // SAFETY: guaranteed by the caller.
            let from = unsafe { codes.add(at - NIBBLES) };
            // SAFETY: guaranteed by the caller.
            unsafe { lanes.look_up_high_nibbles(from, &TABLE) }
        }
    }
}
