//! Sixteen values at a time with AVX-512.

use std::arch::x86_64::*;

use super::avx512_vnni::Avx512Vnni;
#[cfg(miri)]
use super::interpreted::{_mm_prefetch, _mm512_cvtph_ps, _mm512_max_ps, _mm512_permutexvar_ps, _mm512_roundscale_ps, _mm512_scalef_ps};
use super::{Kernel, Lanes};

/// Exists only if AVX-512 F, BW, DQ and VL were detected. With or without the integer dot products of VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(Option<Avx512Vnni>);

impl Avx512 {
    pub(crate) fn detect() -> Option<Avx512> {
        let foundation = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        let lengths = is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl");
        (foundation && lengths).then_some(Avx512(None))
    }

    /// With the integer dot products, if the machine has them.
    pub(crate) fn detect_vnni() -> Option<Avx512> {
        let lanes = Avx512::detect()?;
        Avx512Vnni::detect(lanes).map(Avx512::with)
    }

    pub(super) fn with(dots: Avx512Vnni) -> Avx512 {
        Avx512(Some(dots))
    }
}

/// Enters a function that enables the instructions.
macro_rules! enter {
    ($call:expr) => {
        // SAFETY: a value of `Avx512` was made by `detect`, and the caller guarantees the validity of pointers.
        unsafe { $call }
    };
}

impl Lanes for Avx512 {
    type F32 = __m512;
    const WIDTH: usize = 16;
    const REGISTERS: usize = 32;
    type IntegerDots = Avx512Vnni;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn run<K: Kernel>(lanes: Avx512, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        enter!(run(self, kernel))
    }

    #[inline(always)]
    fn integer_dots(self) -> Option<Avx512Vnni> {
        self.0
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        enter!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        enter!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        enter!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        enter!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        enter!(_mm512_abs_ps(a))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        enter!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        enter!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    #[inline(always)]
    fn times_power_of_two(self, a: __m512, n: __m512) -> __m512 {
        enter!(_mm512_scalef_ps(a, n))
    }

    #[inline(always)]
    fn sums(self, vectors: [__m512; 4]) -> [f32; 4] {
        enter!(sums(vectors))
    }

    #[inline(always)]
    fn largest(self, vector: __m512) -> f32 {
        enter!(_mm512_reduce_max_ps(vector))
    }

    #[inline(always)]
    unsafe fn load_f32(self, from: *const u8) -> __m512 {
        enter!(_mm512_loadu_ps(from.cast()))
    }

    #[inline(always)]
    unsafe fn store(self, vector: __m512, to: *mut f32) {
        enter!(_mm512_storeu_ps(to, vector))
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u8) -> __m512 {
        let halves = enter!(_mm256_loadu_si256(from.cast()));
        enter!(_mm512_cvtph_ps(halves))
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u8) -> __m512 {
        let halves = enter!(_mm256_loadu_si256(from.cast()));
        enter!(widen_bf16(halves))
    }

    #[inline(always)]
    unsafe fn load_fp8_e4m3(self, from: *const u8) -> __m512 {
        let bytes = enter!(_mm_loadu_si128(from.cast()));
        enter!(widen_fp8_e4m3(bytes))
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const u8) -> __m512 {
        let bytes = enter!(_mm_loadu_si128(from.cast()));
        enter!(widen_i8(bytes))
    }

    #[inline(always)]
    unsafe fn load_low_nibbles<const ZERO: i32>(self, from: *const u8) -> __m512 {
        let bytes = enter!(_mm_loadu_si128(from.cast()));
        enter!(look_up_nibbles::<0, ZERO>(bytes))
    }

    #[inline(always)]
    unsafe fn load_high_nibbles<const ZERO: i32>(self, from: *const u8) -> __m512 {
        let bytes = enter!(_mm_loadu_si128(from.cast()));
        enter!(look_up_nibbles::<4, ZERO>(bytes))
    }

    #[inline(always)]
    unsafe fn load_2bit_codes(self, from: *const u8, _first: usize) -> __m512 {
        let word = enter!(from.cast::<i32>().read_unaligned());
        enter!(spread_2bit_codes(word))
    }

    #[inline(always)]
    unsafe fn load_bits(self, from: *const u8, first: usize) -> __m512 {
        let word = enter!(from.cast::<i32>().read_unaligned());
        enter!(spread_bits(word, first))
    }

    #[inline(always)]
    unsafe fn load_fields<const MASK: i32>(self, from: *const u8, shift: usize) -> __m512 {
        let bytes = enter!(_mm_loadu_si128(from.cast()));
        enter!(widen_fields::<MASK>(bytes, shift))
    }

    #[inline(always)]
    unsafe fn look_up_low_nibbles(self, from: *const u8, table: &[i8; 16]) -> __m512 {
        let bytes = enter!(_mm_loadu_si128(from.cast()));
        enter!(look_up(bytes, table))
    }

    #[inline(always)]
    unsafe fn look_up_high_nibbles(self, from: *const u8, table: &[i8; 16]) -> __m512 {
        let bytes = enter!(_mm_loadu_si128(from.cast()));
        enter!(look_up(_mm_srli_epi16::<4>(bytes), table))
    }

    #[inline(always)]
    unsafe fn splat_f16(self, from: *const u8) -> __m512 {
        let half = enter!(from.cast::<i16>().read_unaligned());
        enter!(splat_half(half))
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        enter!(_mm_prefetch::<_MM_HINT_T1>(at.cast()))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn sums([a, b, c, d]: [__m512; 4]) -> [f32; 4] {
    super::avx2::sums([fold(a), fold(b), fold(c), fold(d)])
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn fold(vector: __m512) -> __m256 {
    _mm256_add_ps(_mm512_castps512_ps256(vector), _mm512_extractf32x8_ps::<1>(vector))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen_bf16(halves: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
}

/// Goes through `f16`, whose exponent has one bit more. The same bits represent 2⁻⁸ times the value there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn widen_fp8_e4m3(bytes: __m128i) -> __m512 {
    let bytes = _mm256_cvtepu8_epi16(bytes);
    let magnitude = _mm256_and_si256(bytes, _mm256_set1_epi16(0x7F));
    let sign = _mm256_slli_epi16::<8>(_mm256_and_si256(bytes, _mm256_set1_epi16(0x80)));
    let nan = _mm256_and_si256(_mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7F)), _mm256_set1_epi16(0x7C00));
    let halves = _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16::<7>(magnitude), sign), nan);
    _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(256.0))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen_i8(bytes: __m128i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
}

/// The permutation uses only four bits of each index, so the other nibble need not be cleared.
#[inline]
#[target_feature(enable = "avx512f")]
fn look_up_nibbles<const SHIFT: u32, const ZERO: i32>(bytes: __m128i) -> __m512 {
    let codes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let table = _mm512_cvtepi32_ps(_mm512_sub_epi32(codes, _mm512_set1_epi32(ZERO)));
    _mm512_permutexvar_ps(_mm512_srli_epi32::<SHIFT>(_mm512_cvtepu8_epi32(bytes)), table)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn spread_2bit_codes(word: i32) -> __m512 {
    let shifts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let table = _mm512_setr_ps(0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0);
    _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_set1_epi32(word), shifts), table)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn spread_bits(word: i32, first: usize) -> __m512 {
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let shifts = _mm512_add_epi32(lanes, _mm512_set1_epi32(first as i32));
    let bits = _mm512_and_si512(_mm512_srlv_epi32(_mm512_set1_epi32(word), shifts), _mm512_set1_epi32(1));
    _mm512_cvtepi32_ps(bits)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen_fields<const MASK: i32>(bytes: __m128i, shift: usize) -> __m512 {
    let shifted = _mm512_srl_epi32(_mm512_cvtepu8_epi32(bytes), _mm_cvtsi32_si128(shift as i32));
    _mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(MASK)))
}

/// The values at the low four bits of each byte.
#[inline]
#[target_feature(enable = "avx512f")]
fn look_up(bytes: __m128i, table: &[i8; 16]) -> __m512 {
    // SAFETY: sixteen bytes.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    widen_i8(_mm_shuffle_epi8(table, _mm_and_si128(bytes, _mm_set1_epi8(15))))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn splat_half(half: i16) -> __m512 {
    _mm512_cvtph_ps(_mm256_set1_epi16(half))
}
