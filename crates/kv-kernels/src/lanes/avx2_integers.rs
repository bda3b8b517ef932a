//! Dot products of words of 16 bits with AVX2: two products and a sum in each of eight places.
//!
//! Its products of bytes would be more an instruction, but their sums of two are words, which saturate, and a factor takes two of
//! them.

use std::arch::x86_64::*;

use super::avx2::quad_sums;
use super::{Avx2, IntegerDots, IntegerKernel};

/// Enters a function that enables the instructions.
macro_rules! enter {
    ($call:expr) => {
        // SAFETY: a value of `Avx2` exists only where AVX2, FMA and F16C do, and what is read behind a pointer is promised by the
        // caller.
        unsafe { $call }
    };
}

impl IntegerDots for Avx2 {
    const QUADS: usize = 2;
    const BYTE_ZERO: i32 = 0;
    const ADDS_BYTES: bool = true;
    type Lanes = Avx2;
    type Sums = __m256i;
    /// A code a word: of 16 bytes' low nibbles (or the first 16 bytes) the even ones, of the high nibbles (or the last 16 bytes)
    /// the even ones, then the odd ones of both.
    type Codes = [__m256i; 4];
    /// A factor a word in the order of the codes, in memory as in registers.
    type Factors = [__m256i; 4];
    /// Rows 0 and 1, then 2 and 3, side by side: columns 0 to 3 and 8 to 11, then the others.
    type Columns = [[__m256i; 2]; 2];
    /// The factors of rows 0 and 1, and of 2 and 3, in all places.
    type ColumnFactors = [__m256i; 2];
    type ColumnSums = [__m256i; 2];

    #[inline(always)]
    fn run<K: IntegerKernel>(self, kernel: K) {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn run<K: IntegerKernel>(dots: Avx2, kernel: K) {
            kernel.run(dots);
        }
        enter!(run(self, kernel));
    }

    #[inline(always)]
    fn lanes(self) -> Avx2 {
        self
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> [__m256i; 4] {
        let halves = [0, 16].map(|at| enter!(_mm_loadu_si128(from.add(at).cast())));
        enter!(words_of_bytes(halves))
    }

    #[inline(always)]
    unsafe fn load_nibbles(self, from: *const u8) -> [__m256i; 4] {
        let bytes = enter!(_mm_loadu_si128(from.cast()));
        enter!(words_of_nibbles(bytes))
    }

    fn lay_out(quad: usize, factors: &[i32; 32], to: &mut [i16]) {
        for (at, factor) in factors.iter().enumerate() {
            let (half, word, is_odd) = (at / 16, at % 16 / 2, at % 2);
            to[((2 * is_odd + half) * Self::QUADS + quad) * 8 + word] = *factor as i16;
        }
    }

    #[inline(always)]
    unsafe fn load_factors(self, from: *const i16) -> [__m256i; 4] {
        [0, 16, 32, 48].map(|at| enter!(_mm256_loadu_si256(from.add(at).cast())))
    }

    #[inline(always)]
    unsafe fn load_sums(self, from: *const i32) -> __m256i {
        enter!(_mm256_loadu_si256(from.cast()))
    }

    #[inline(always)]
    fn zero(self) -> __m256i {
        enter!(_mm256_setzero_si256())
    }

    #[inline(always)]
    fn times(self, sums: __m256i, number: i32) -> __m256i {
        enter!(_mm256_mullo_epi32(sums, _mm256_set1_epi32(number)))
    }

    #[inline(always)]
    fn to_floats(self, sums: __m256i) -> __m256 {
        enter!(_mm256_cvtepi32_ps(sums))
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, codes: [__m256i; 4], factors: [__m256i; 4]) -> __m256 {
        enter!(dot(sums, codes, factors))
    }

    #[inline(always)]
    unsafe fn store_quad_sums(self, vectors: [__m256; 4], scales: __m256, to: *mut f32, stride: usize) {
        let sums = enter!(_mm256_mul_ps(quad_sums(vectors), scales));
        enter!(_mm_storeu_ps(to, _mm256_castps256_ps128(sums)));
        enter!(_mm_storeu_ps(to.add(stride), _mm256_extractf128_ps::<1>(sums)));
    }

    #[inline(always)]
    unsafe fn columns_of_bytes(self, rows: [*const u8; 4]) -> [[[__m256i; 2]; 2]; 2] {
        let [first, last] = [0, 16].map(|at| rows.map(|row| enter!(_mm_loadu_si128(row.add(at).cast()))));
        [enter!(columns_of_bytes(first)), enter!(columns_of_bytes(last))]
    }

    #[inline(always)]
    unsafe fn columns_of_nibbles(self, rows: [*const u8; 4]) -> [[[__m256i; 2]; 2]; 2] {
        let rows = rows.map(|row| enter!(_mm_loadu_si128(row.cast())));
        enter!(columns_of_nibbles(rows))
    }

    #[inline(always)]
    unsafe fn columns_of_2bit_codes(self, rows: [*const u8; 4]) -> [[[__m256i; 2]; 2]; 2] {
        let [a, b, c, d] = rows.map(|row| enter!(_mm_loadl_epi64(row.cast())));
        let [first, last] = [enter!(columns_of_2bit_codes(a, b)), enter!(columns_of_2bit_codes(c, d))];
        [[first[0], last[0]], [first[1], last[1]]]
    }

    #[inline(always)]
    unsafe fn store_column_factors(self, values: __m256, to: *mut i16) {
        let words = enter!(whole_words(values));
        enter!(_mm_storeu_si128(to.cast(), words));
    }

    #[inline(always)]
    unsafe fn load_column_factors(self, factors: *const i16, first: usize) -> [__m256i; 2] {
        [first, first + 2].map(|at| enter!(_mm256_set1_epi32(factors.add(at).cast::<i32>().read_unaligned())))
    }

    #[inline(always)]
    fn column_sums(self, sum: i32) -> [__m256i; 2] {
        [enter!(_mm256_set1_epi32(sum)); 2]
    }

    #[inline(always)]
    fn add_columns(self, [first, last]: [__m256i; 2], codes: [[__m256i; 2]; 2], factors: [__m256i; 2]) -> [__m256i; 2] {
        let mut sums = [first, last];
        for (codes, factors) in codes.into_iter().zip(factors) {
            for (sums, codes) in sums.iter_mut().zip(codes) {
                *sums = enter!(_mm256_add_epi32(*sums, _mm256_madd_epi16(codes, factors)));
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn add_totals(self, sums: [__m256i; 2], worth: f32, offset: f32, to: *mut f32) {
        for (half, sums) in enter!(in_order(sums)).into_iter().enumerate() {
            let to = to.wrapping_add(8 * half);
            let total = enter!(_mm256_add_ps(_mm256_loadu_ps(to), _mm256_set1_ps(offset)));
            enter!(_mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(worth), total)));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn words_of_bytes([first, last]: [__m128i; 2]) -> [__m256i; 4] {
    let (first, last) = (_mm256_broadcastsi128_si256(first), _mm256_broadcastsi128_si256(last));
    let even = |bytes| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
    [even(first), even(last), _mm256_srai_epi16::<8>(first), _mm256_srai_epi16::<8>(last)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn words_of_nibbles(bytes: __m128i) -> [__m256i; 4] {
    let (bytes, four) = (_mm256_broadcastsi128_si256(bytes), _mm256_set1_epi16(15));
    [
        _mm256_and_si256(bytes, four),
        _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), four),
        _mm256_and_si256(_mm256_srli_epi16::<8>(bytes), four),
        _mm256_srli_epi16::<12>(bytes),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot(sums: __m256i, codes: [__m256i; 4], factors: [__m256i; 4]) -> __m256 {
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| _mm256_madd_epi16(codes[at], factors[at]));
    _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(_mm256_add_epi32(sums, a), b), _mm256_add_epi32(c, d)))
}

/// Columns of four rows of 16 signed bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn columns_of_bytes(rows: [__m128i; 4]) -> [[__m256i; 2]; 2] {
    interleave(rows.map(|row| _mm256_cvtepi8_epi16(row)))
}

/// Columns of four rows of 16 bytes' low nibbles, and of their high ones.
#[inline]
#[target_feature(enable = "avx2")]
fn columns_of_nibbles(rows: [__m128i; 4]) -> [[[__m256i; 2]; 2]; 2] {
    let rows = rows.map(|row| _mm256_cvtepu8_epi16(row));
    let low = rows.map(|row| _mm256_and_si256(row, _mm256_set1_epi16(15)));
    let high = rows.map(|row| _mm256_srli_epi16::<4>(row));
    [interleave(low), interleave(high)]
}

/// Of four rows of 16 words, each two side by side: columns 0 to 3 and 8 to 11, then the others.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave([a, b, c, d]: [__m256i; 4]) -> [[__m256i; 2]; 2] {
    [
        [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)],
        [_mm256_unpacklo_epi16(c, d), _mm256_unpackhi_epi16(c, d)],
    ]
}

/// Of two rows of 32 codes, in 8 bytes each, columns 0 to 15 and 16 to 31 as [`interleave`] orders them.
#[inline]
#[target_feature(enable = "avx2")]
fn columns_of_2bit_codes(a: __m128i, b: __m128i) -> [[__m256i; 2]; 2] {
    // Place `p` holds the eight codes of word `p` of both rows.
    let words = _mm256_castsi128_si256(_mm_unpacklo_epi16(a, b));
    let code = _mm256_set1_epi32(0x0003_0003);
    let shifts = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    [_mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3)].map(|places| {
        let words = _mm256_srlv_epi32(_mm256_permutevar8x32_epi32(words, places), shifts);
        [_mm256_and_si256(words, code), _mm256_and_si256(_mm256_srli_epi32::<8>(words), code)]
    })
}

/// Columns 0 to 7 and 8 to 15 of what [`interleave`] orders.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order([first, last]: [__m256i; 2]) -> [__m256i; 2] {
    [_mm256_permute2x128_si256::<0x20>(first, last), _mm256_permute2x128_si256::<0x31>(first, last)]
}

/// Each value rounded.
#[inline]
#[target_feature(enable = "avx2")]
fn whole_words(values: __m256) -> __m128i {
    let whole = _mm256_cvtps_epi32(values);
    _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole))
}
