//! Four values at a time with NEON.

use std::arch::aarch64::*;

use super::integer_dots::NoDots;
use super::{Kernel, Lanes};
use crate::codec::f16_to_f32;

/// Exists only if NEON was detected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn detect() -> Option<Neon> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Neon(()))
    }
}

/// Enters a function that enables the instructions.
macro_rules! enter {
    ($call:expr) => {
        // SAFETY: a value of `Neon` was made by `detect`, and the caller guarantees the validity of pointers.
        unsafe { $call }
    };
}

impl Lanes for Neon {
    type F32 = float32x4_t;
    const WIDTH: usize = 4;
    const REGISTERS: usize = 32;
    type IntegerDots = NoDots<Neon>;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "neon")]
        fn run<K: Kernel>(kernel: K) -> K::Output {
            kernel.run(Neon(()))
        }
        enter!(run(kernel))
    }

    #[inline(always)]
    fn integer_dots(self) -> Option<NoDots<Neon>> {
        None
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        enter!(vdupq_n_f32(value))
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        enter!(vmulq_f32(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        enter!(vfmaq_f32(c, a, b))
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        enter!(vsubq_f32(a, b))
    }

    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        enter!(vabsq_f32(a))
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        enter!(larger(a, b))
    }

    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        enter!(vrndnq_f32(a))
    }

    #[inline(always)]
    fn times_power_of_two(self, a: float32x4_t, n: float32x4_t) -> float32x4_t {
        enter!(times_power_of_two(a, n))
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [float32x4_t; 4]) -> [f32; 4] {
        [enter!(vaddvq_f32(a)), enter!(vaddvq_f32(b)), enter!(vaddvq_f32(c)), enter!(vaddvq_f32(d))]
    }

    #[inline(always)]
    fn largest(self, vector: float32x4_t) -> f32 {
        enter!(vmaxvq_f32(vector))
    }

    #[inline(always)]
    unsafe fn load_f32(self, from: *const u8) -> float32x4_t {
        let words = enter!(from.cast::<[f32; 4]>().read_unaligned());
        enter!(vld1q_f32(words.as_ptr()))
    }

    #[inline(always)]
    unsafe fn store(self, vector: float32x4_t, to: *mut f32) {
        enter!(vst1q_f32(to, vector))
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u8) -> float32x4_t {
        let halves = enter!(from.cast::<[u16; 4]>().read_unaligned());
        enter!(widen_f16(halves))
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u8) -> float32x4_t {
        let halves = enter!(from.cast::<[u16; 4]>().read_unaligned());
        enter!(widen_bf16(halves))
    }

    #[inline(always)]
    unsafe fn load_fp8_e4m3(self, from: *const u8) -> float32x4_t {
        let bytes = enter!(from.cast::<[u8; 4]>().read());
        enter!(widen_fp8_e4m3(bytes))
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const u8) -> float32x4_t {
        let bytes = enter!(from.cast::<[u8; 4]>().read());
        enter!(widen_i8(bytes))
    }

    #[inline(always)]
    unsafe fn load_low_nibbles<const ZERO: i32>(self, from: *const u8) -> float32x4_t {
        let bytes = enter!(from.cast::<[u8; 4]>().read());
        enter!(widen_low_nibbles::<ZERO>(bytes))
    }

    #[inline(always)]
    unsafe fn load_high_nibbles<const ZERO: i32>(self, from: *const u8) -> float32x4_t {
        let bytes = enter!(from.cast::<[u8; 4]>().read());
        enter!(widen_high_nibbles::<ZERO>(bytes))
    }

    #[inline(always)]
    unsafe fn load_2bit_codes(self, from: *const u8, first: usize) -> float32x4_t {
        let word = u32::from_le_bytes(enter!(from.cast::<[u8; 4]>().read()));
        enter!(spread_2bit_codes(word >> (2 * first)))
    }

    #[inline(always)]
    unsafe fn load_bits(self, from: *const u8, first: usize) -> float32x4_t {
        let word = u32::from_le_bytes(enter!(from.cast::<[u8; 4]>().read()));
        enter!(spread_bits(word >> first))
    }

    #[inline(always)]
    unsafe fn load_fields<const MASK: i32>(self, from: *const u8, shift: usize) -> float32x4_t {
        let bytes = enter!(from.cast::<[u8; 4]>().read());
        enter!(widen_fields::<MASK>(bytes, shift))
    }

    #[inline(always)]
    unsafe fn look_up_low_nibbles(self, from: *const u8, table: &[i8; 16]) -> float32x4_t {
        let bytes = enter!(from.cast::<[u8; 4]>().read());
        enter!(widen_i8(bytes.map(|byte| table[usize::from(byte & 15)].cast_unsigned())))
    }

    #[inline(always)]
    unsafe fn look_up_high_nibbles(self, from: *const u8, table: &[i8; 16]) -> float32x4_t {
        let bytes = enter!(from.cast::<[u8; 4]>().read());
        enter!(widen_i8(bytes.map(|byte| table[usize::from(byte >> 4)].cast_unsigned())))
    }

    #[inline(always)]
    unsafe fn splat_f16(self, from: *const u8) -> float32x4_t {
        let bits = enter!(from.cast::<u16>().read_unaligned());
        self.splat(f16_to_f32(bits))
    }

    /// Does nothing: there is no stable prefetch for this architecture.
    #[inline(always)]
    fn prefetch(self, _at: *const u8) {}
}

/// Needed because the maximum instruction returns NaN if either operand is NaN.
#[inline]
#[target_feature(enable = "neon")]
fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// Sets the exponent bits. 0 for `n` below −126.
#[inline]
#[target_feature(enable = "neon")]
fn times_power_of_two(a: float32x4_t, n: float32x4_t) -> float32x4_t {
    let exponent = vmaxq_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), vdupq_n_s32(0));
    vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
}

/// Four bytes, zero-extended.
#[inline]
#[target_feature(enable = "neon")]
fn widen_u8(bytes: [u8; 4]) -> uint32x4_t {
    let bytes = vcreate_u8(u64::from(u32::from_le_bytes(bytes)));
    vmovl_u16(vget_low_u16(vmovl_u8(bytes)))
}

/// Like `f16_to_f32`, because the intrinsic of the conversion instruction is not stable.
#[inline]
#[target_feature(enable = "neon")]
fn widen_f16(halves: [u16; 4]) -> float32x4_t {
    let bits =
        vmovl_u16(vcreate_u16(u64::from(halves[0]) | u64::from(halves[1]) << 16 | u64::from(halves[2]) << 32 | u64::from(halves[3]) << 48));
    let magnitude = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7FFF)));
    let finite = vmulq_f32(vreinterpretq_f32_u32(magnitude), vdupq_n_f32(f32::from_bits((127 + 112) << 23)));
    let special = vorrq_u32(magnitude, vdupq_n_u32(0x7F80_0000));
    let is_special = vcgeq_u32(magnitude, vdupq_n_u32(0x0F80_0000));
    let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
    vreinterpretq_f32_u32(vorrq_u32(vbslq_u32(is_special, special, vreinterpretq_u32_f32(finite)), sign))
}

#[inline]
#[target_feature(enable = "neon")]
fn widen_bf16(halves: [u16; 4]) -> float32x4_t {
    let bits = vcreate_u16(u64::from(halves[0]) | u64::from(halves[1]) << 16 | u64::from(halves[2]) << 32 | u64::from(halves[3]) << 48);
    vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(bits)))
}

/// Like `fp8_e4m3_to_f32`.
#[inline]
#[target_feature(enable = "neon")]
fn widen_fp8_e4m3(bytes: [u8; 4]) -> float32x4_t {
    let bits = widen_u8(bytes);
    let magnitude = vandq_u32(bits, vdupq_n_u32(0x7F));
    let finite = vmulq_f32(vreinterpretq_f32_u32(vshlq_n_u32::<20>(magnitude)), vdupq_n_f32(f32::from_bits((127 + 120) << 23)));
    let nan = vandq_u32(vceqq_u32(magnitude, vdupq_n_u32(0x7F)), vdupq_n_u32(0x7FC0_0000));
    let sign = vshlq_n_u32::<24>(vandq_u32(bits, vdupq_n_u32(0x80)));
    vreinterpretq_f32_u32(vorrq_u32(vorrq_u32(vreinterpretq_u32_f32(finite), nan), sign))
}

#[inline]
#[target_feature(enable = "neon")]
fn widen_i8(bytes: [u8; 4]) -> float32x4_t {
    let bytes = vcreate_s8(u64::from(u32::from_le_bytes(bytes)));
    vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
}

#[inline]
#[target_feature(enable = "neon")]
fn widen_low_nibbles<const ZERO: i32>(bytes: [u8; 4]) -> float32x4_t {
    let codes = vreinterpretq_s32_u32(vandq_u32(widen_u8(bytes), vdupq_n_u32(15)));
    vcvtq_f32_s32(vsubq_s32(codes, vdupq_n_s32(ZERO)))
}

#[inline]
#[target_feature(enable = "neon")]
fn widen_high_nibbles<const ZERO: i32>(bytes: [u8; 4]) -> float32x4_t {
    let codes = vreinterpretq_s32_u32(vshrq_n_u32::<4>(widen_u8(bytes)));
    vcvtq_f32_s32(vsubq_s32(codes, vdupq_n_s32(ZERO)))
}

/// The four lowest 2-bit codes of a word.
#[inline]
#[target_feature(enable = "neon")]
fn spread_2bit_codes(word: u32) -> float32x4_t {
    const SHIFTS: [i32; 4] = [0, -2, -4, -6];
    // SAFETY: four values of four bytes.
    let shifts = unsafe { vld1q_s32(SHIFTS.as_ptr()) };
    vcvtq_f32_u32(vandq_u32(vshlq_u32(vdupq_n_u32(word), shifts), vdupq_n_u32(3)))
}

/// The four lowest bits of a word.
#[inline]
#[target_feature(enable = "neon")]
fn spread_bits(word: u32) -> float32x4_t {
    const SHIFTS: [i32; 4] = [0, -1, -2, -3];
    // SAFETY: four values of four bytes.
    let shifts = unsafe { vld1q_s32(SHIFTS.as_ptr()) };
    vcvtq_f32_u32(vandq_u32(vshlq_u32(vdupq_n_u32(word), shifts), vdupq_n_u32(1)))
}

#[inline]
#[target_feature(enable = "neon")]
fn widen_fields<const MASK: i32>(bytes: [u8; 4], shift: usize) -> float32x4_t {
    let shifted = vshlq_u32(widen_u8(bytes), vdupq_n_s32(-(shift as i32)));
    vcvtq_f32_u32(vandq_u32(shifted, vdupq_n_u32(MASK as u32)))
}
