//! Plain Rust on arrays, which the compiler turns into the baseline vectors of the target.

use super::integer_dots::NoDots;
use super::{Kernel, Lanes};
use crate::codec::{f16_to_f32, fp8_e4m3_to_f32};

/// `N` values at a time: 8 for rows of whole vectors, 1 for rows of any length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Array<const N: usize>;

/// Decodes `N` stored values of `BYTES` bytes.
///
/// # Safety
/// `N · BYTES` bytes can be read.
#[inline(always)]
unsafe fn each<const N: usize, const BYTES: usize>(from: *const u8, decode: impl Fn([u8; BYTES]) -> f32) -> [f32; N] {
    // SAFETY: guaranteed by the caller; an array of arrays of bytes has an alignment of 1.
    let stored = unsafe { from.cast::<[[u8; BYTES]; N]>().read() };
    let mut values = [0.0; N];
    for (value, bytes) in values.iter_mut().zip(stored) {
        *value = decode(bytes);
    }
    values
}

/// Adding 1.5 · 2²³ rounds to the nearest integer, which is then in the lowest bits.
const ROUND: f32 = 12_582_912.0;

impl<const N: usize> Lanes for Array<N> {
    type F32 = [f32; N];
    const WIDTH: usize = N;
    const REGISTERS: usize = 16;
    type IntegerDots = NoDots<Array<N>>;

    #[inline(never)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn integer_dots(self) -> Option<NoDots<Array<N>>> {
        None
    }

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; N] {
        [value; N]
    }

    #[inline(always)]
    fn mul(self, mut a: [f32; N], b: [f32; N]) -> [f32; N] {
        for (a, b) in a.iter_mut().zip(b) {
            *a *= b;
        }
        a
    }

    /// Rounded twice, because a single rounding is a function call without the instruction.
    #[inline(always)]
    fn mul_add(self, a: [f32; N], b: [f32; N], mut c: [f32; N]) -> [f32; N] {
        for ((c, a), b) in c.iter_mut().zip(a).zip(b) {
            *c += a * b;
        }
        c
    }

    #[inline(always)]
    fn sub(self, mut a: [f32; N], b: [f32; N]) -> [f32; N] {
        for (a, b) in a.iter_mut().zip(b) {
            *a -= b;
        }
        a
    }

    #[inline(always)]
    fn abs(self, a: [f32; N]) -> [f32; N] {
        a.map(f32::abs)
    }

    #[inline(always)]
    fn max(self, mut a: [f32; N], b: [f32; N]) -> [f32; N] {
        for (a, b) in a.iter_mut().zip(b) {
            *a = if *a > b { *a } else { b };
        }
        a
    }

    #[inline(always)]
    fn round(self, mut a: [f32; N]) -> [f32; N] {
        for a in &mut a {
            *a = (*a + ROUND) - ROUND;
        }
        a
    }

    /// Sets the exponent bits, taken from the lowest bits after rounding. A saturating conversion to an integer, such as `as`,
    /// is not vectorized.
    #[inline(always)]
    fn times_power_of_two(self, mut a: [f32; N], n: [f32; N]) -> [f32; N] {
        const SMALLEST: f32 = -126.0;
        for (a, n) in a.iter_mut().zip(n) {
            let power = f32::from_bits(((n + ROUND).to_bits() << 23).wrapping_add(1.0f32.to_bits()));
            *a *= if n < SMALLEST { 0.0 } else { power };
        }
        a
    }

    #[inline(always)]
    fn sums(self, vectors: [[f32; N]; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            for value in vector {
                *sum += value;
            }
        }
        sums
    }

    #[inline(always)]
    fn largest(self, vector: [f32; N]) -> f32 {
        let mut largest = f32::NEG_INFINITY;
        for value in vector {
            largest = if value > largest { value } else { largest };
        }
        largest
    }

    #[inline(always)]
    unsafe fn load_f32(self, from: *const u8) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, f32::from_le_bytes) }
    }

    #[inline(always)]
    unsafe fn store(self, vector: [f32; N], to: *mut f32) {
        // SAFETY: guaranteed by the caller.
        unsafe { to.cast::<[f32; N]>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u8) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, |bytes| f16_to_f32(u16::from_le_bytes(bytes))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u8) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)) }
    }

    #[inline(always)]
    unsafe fn load_fp8_e4m3(self, from: *const u8) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, |[byte]| fp8_e4m3_to_f32(byte)) }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const u8) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, |[byte]| f32::from(byte.cast_signed())) }
    }

    #[inline(always)]
    unsafe fn load_low_nibbles<const ZERO: i32>(self, from: *const u8) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, |[byte]| (i32::from(byte & 15) - ZERO) as f32) }
    }

    #[inline(always)]
    unsafe fn load_high_nibbles<const ZERO: i32>(self, from: *const u8) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, |[byte]| (i32::from(byte >> 4) - ZERO) as f32) }
    }

    #[inline(always)]
    unsafe fn load_2bit_codes(self, from: *const u8, first: usize) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        let word = u32::from_le_bytes(unsafe { from.cast::<[u8; 4]>().read() });
        let mut codes = [0.0; N];
        for (lane, code) in codes.iter_mut().enumerate() {
            *code = (word >> (2 * (first + lane)) & 3) as f32;
        }
        codes
    }

    #[inline(always)]
    unsafe fn load_bits(self, from: *const u8, first: usize) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        let word = u32::from_le_bytes(unsafe { from.cast::<[u8; 4]>().read() });
        let mut bits = [0.0; N];
        for (lane, bit) in bits.iter_mut().enumerate() {
            *bit = (word >> (first + lane) & 1) as f32;
        }
        bits
    }

    #[inline(always)]
    unsafe fn load_fields<const MASK: i32>(self, from: *const u8, shift: usize) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, |[byte]| (i32::from(byte) >> shift & MASK) as f32) }
    }

    #[inline(always)]
    unsafe fn look_up_low_nibbles(self, from: *const u8, table: &[i8; 16]) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, |[byte]| f32::from(table[usize::from(byte & 15)])) }
    }

    #[inline(always)]
    unsafe fn look_up_high_nibbles(self, from: *const u8, table: &[i8; 16]) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        unsafe { each(from, |[byte]| f32::from(table[usize::from(byte >> 4)])) }
    }

    #[inline(always)]
    unsafe fn splat_f16(self, from: *const u8) -> [f32; N] {
        // SAFETY: guaranteed by the caller.
        [f16_to_f32(u16::from_le_bytes(unsafe { from.cast::<[u8; 2]>().read() })); N]
    }

    #[inline(always)]
    fn prefetch(self, _at: *const u8) {}
}
