//! Eight values at a time with AVX2, FMA and F16C.

use std::arch::x86_64::*;

#[cfg(miri)]
use super::interpreted::{_mm_prefetch, _mm256_cvtph_ps};
use super::{Kernel, Lanes};

/// Exists only if AVX2, FMA and F16C were detected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Avx2> {
        let detected = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        detected.then_some(Avx2(()))
    }
}

/// Enters a function that enables the instructions.
macro_rules! enter {
    ($call:expr) => {
        // SAFETY: a value of `Avx2` was made by `detect`, and the caller guarantees the validity of pointers.
        unsafe { $call }
    };
}

impl Lanes for Avx2 {
    type F32 = __m256;
    const WIDTH: usize = 8;
    const REGISTERS: usize = 16;
    type IntegerDots = Avx2;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn run<K: Kernel>(kernel: K) -> K::Output {
            kernel.run(Avx2(()))
        }
        enter!(run(kernel))
    }

    #[inline(always)]
    fn integer_dots(self) -> Option<Avx2> {
        Some(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        enter!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        enter!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        enter!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        enter!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        enter!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        enter!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        enter!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    #[inline(always)]
    fn times_power_of_two(self, a: __m256, n: __m256) -> __m256 {
        enter!(times_power_of_two(a, n))
    }

    #[inline(always)]
    fn sums(self, vectors: [__m256; 4]) -> [f32; 4] {
        enter!(sums(vectors))
    }

    #[inline(always)]
    fn largest(self, vector: __m256) -> f32 {
        enter!(largest(vector))
    }

    #[inline(always)]
    unsafe fn load_f32(self, from: *const u8) -> __m256 {
        enter!(_mm256_loadu_ps(from.cast()))
    }

    #[inline(always)]
    unsafe fn store(self, vector: __m256, to: *mut f32) {
        enter!(_mm256_storeu_ps(to, vector))
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u8) -> __m256 {
        let halves = enter!(_mm_loadu_si128(from.cast()));
        enter!(_mm256_cvtph_ps(halves))
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u8) -> __m256 {
        let halves = enter!(_mm_loadu_si128(from.cast()));
        enter!(widen_bf16(halves))
    }

    #[inline(always)]
    unsafe fn load_fp8_e4m3(self, from: *const u8) -> __m256 {
        let bytes = enter!(_mm_loadl_epi64(from.cast()));
        enter!(widen_fp8_e4m3(bytes))
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const u8) -> __m256 {
        let bytes = enter!(_mm_loadl_epi64(from.cast()));
        enter!(widen_i8(bytes))
    }

    #[inline(always)]
    unsafe fn load_low_nibbles<const ZERO: i32>(self, from: *const u8) -> __m256 {
        let bytes = enter!(_mm_loadl_epi64(from.cast()));
        enter!(widen_low_nibbles::<ZERO>(bytes))
    }

    #[inline(always)]
    unsafe fn load_high_nibbles<const ZERO: i32>(self, from: *const u8) -> __m256 {
        let bytes = enter!(_mm_loadl_epi64(from.cast()));
        enter!(widen_high_nibbles::<ZERO>(bytes))
    }

    #[inline(always)]
    unsafe fn load_2bit_codes(self, from: *const u8, first: usize) -> __m256 {
        let word = enter!(from.cast::<i32>().read_unaligned());
        enter!(spread_2bit_codes(word, first))
    }

    #[inline(always)]
    unsafe fn load_bits(self, from: *const u8, first: usize) -> __m256 {
        let word = enter!(from.cast::<i32>().read_unaligned());
        enter!(spread_bits(word, first))
    }

    #[inline(always)]
    unsafe fn load_fields<const MASK: i32>(self, from: *const u8, shift: usize) -> __m256 {
        let bytes = enter!(_mm_loadl_epi64(from.cast()));
        enter!(widen_fields::<MASK>(bytes, shift))
    }

    #[inline(always)]
    unsafe fn look_up_low_nibbles(self, from: *const u8, table: &[i8; 16]) -> __m256 {
        let bytes = enter!(_mm_loadl_epi64(from.cast()));
        enter!(look_up(bytes, table))
    }

    #[inline(always)]
    unsafe fn look_up_high_nibbles(self, from: *const u8, table: &[i8; 16]) -> __m256 {
        let bytes = enter!(_mm_loadl_epi64(from.cast()));
        enter!(look_up(_mm_srli_epi16::<4>(bytes), table))
    }

    #[inline(always)]
    unsafe fn splat_f16(self, from: *const u8) -> __m256 {
        let half = enter!(from.cast::<i16>().read_unaligned());
        enter!(splat_half(half))
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        enter!(_mm_prefetch::<_MM_HINT_T1>(at.cast()))
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sums(vectors: [__m256; 4]) -> [f32; 4] {
    let quads = quad_sums(vectors);
    let sums = _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps::<1>(quads));
    let mut four = [0.0; 4];
    // SAFETY: room for four values.
    unsafe { _mm_storeu_ps(four.as_mut_ptr(), sums) };
    four
}

/// The sums of quad `q` of each vector, in quad `q`. Written with shuffles, because horizontal additions are slower.
#[inline]
#[target_feature(enable = "avx2")]
fn quad_sums([a, b, c, d]: [__m256; 4]) -> __m256 {
    let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    _mm256_add_ps(_mm256_shuffle_ps::<0b01_00_01_00>(ab, cd), _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd))
}

#[inline]
#[target_feature(enable = "avx2")]
fn largest(vector: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}

/// Sets the exponent bits. 0 for `n` below −126.
#[inline]
#[target_feature(enable = "avx2")]
fn times_power_of_two(a: __m256, n: __m256) -> __m256 {
    let exponent = _mm256_max_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), _mm256_setzero_si256());
    _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen_bf16(halves: __m128i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
}

/// Goes through `f16`, whose exponent has one bit more. The same bits represent 2⁻⁸ times the value there.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen_fp8_e4m3(bytes: __m128i) -> __m256 {
    let bytes = _mm_cvtepu8_epi16(bytes);
    let magnitude = _mm_and_si128(bytes, _mm_set1_epi16(0x7F));
    let sign = _mm_slli_epi16::<8>(_mm_and_si128(bytes, _mm_set1_epi16(0x80)));
    let nan = _mm_and_si128(_mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x7F)), _mm_set1_epi16(0x7C00));
    let halves = _mm_or_si128(_mm_or_si128(_mm_slli_epi16::<7>(magnitude), sign), nan);
    _mm256_mul_ps(_mm256_cvtph_ps(halves), _mm256_set1_ps(256.0))
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen_i8(bytes: __m128i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
}

/// The same vector, which the compiler must compute as it is written. It would otherwise mask and shift the bytes before it
/// widens them, which takes five instructions instead of three for a low and a high nibble. With this and the sums by group,
/// products with SmolLM2's shapes in `q4_1` took 15.4 instead of 20.3 ms on one thread (`examples/multiply.rs`, Zen 3,
/// 2026-11-25).
#[inline]
#[target_feature(enable = "avx2")]
fn as_they_are(codes: __m256i) -> __m256i {
    #[cfg(not(miri))]
    let codes = {
        let same: __m256i;
        // SAFETY: no instruction at all.
        unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) codes => same, options(pure, nomem, nostack, preserves_flags)) };
        same
    };
    codes
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen_low_nibbles<const ZERO: i32>(bytes: __m128i) -> __m256 {
    let codes = _mm256_and_si256(as_they_are(_mm256_cvtepu8_epi32(bytes)), _mm256_set1_epi32(15));
    _mm256_cvtepi32_ps(_mm256_sub_epi32(codes, _mm256_set1_epi32(ZERO)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen_high_nibbles<const ZERO: i32>(bytes: __m128i) -> __m256 {
    let codes = _mm256_srli_epi32::<4>(as_they_are(_mm256_cvtepu8_epi32(bytes)));
    _mm256_cvtepi32_ps(_mm256_sub_epi32(codes, _mm256_set1_epi32(ZERO)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn spread_2bit_codes(word: i32, first: usize) -> __m256 {
    let shifts = _mm256_add_epi32(_mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14), _mm256_set1_epi32(2 * first as i32));
    let shifted = _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts);
    // The permutation uses three bits of each index. The third one belongs to the next code.
    _mm256_permutevar8x32_ps(_mm256_setr_ps(0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0), shifted)
}

#[inline]
#[target_feature(enable = "avx2")]
fn spread_bits(word: i32, first: usize) -> __m256 {
    let shifts = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first as i32));
    let bits = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(word), shifts), _mm256_set1_epi32(1));
    _mm256_cvtepi32_ps(bits)
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen_fields<const MASK: i32>(bytes: __m128i, shift: usize) -> __m256 {
    let shifted = _mm256_srl_epi32(_mm256_cvtepu8_epi32(bytes), _mm_cvtsi32_si128(shift as i32));
    _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(MASK)))
}

/// The values at the low four bits of each byte.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up(bytes: __m128i, table: &[i8; 16]) -> __m256 {
    // SAFETY: sixteen bytes.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    widen_i8(_mm_shuffle_epi8(table, _mm_and_si128(bytes, _mm_set1_epi8(15))))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn splat_half(half: i16) -> __m256 {
    _mm256_cvtph_ps(_mm_set1_epi16(half))
}
