//! Dot products of 64 bytes at a time with AVX-512 VNNI.

use std::arch::x86_64::*;

use super::{Avx512, ByteDots, ByteKernel};

/// Exists only where AVX-512 F, BW, DQ, VL and VNNI were detected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Vnni(());

impl Avx512Vnni {
    /// On a machine that has the vectors.
    pub(crate) fn detect(_: Avx512) -> Option<Avx512Vnni> {
        is_x86_feature_detected!("avx512vnni").then_some(Avx512Vnni(()))
    }
}

/// Enters a function that enables the instructions.
macro_rules! enter {
    ($call:expr) => {
        // SAFETY: a value of `Avx512Vnni` was made by `detect`, and what is read behind a pointer is promised by the caller.
        unsafe { $call }
    };
}

impl ByteDots for Avx512Vnni {
    const QUADS: usize = 4;
    type Lanes = Avx512;
    type Bytes = __m512i;
    type Sums = __m512i;

    #[inline(always)]
    fn run<K: ByteKernel>(self, kernel: K) {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn run<K: ByteKernel>(dots: Avx512Vnni, kernel: K) {
            kernel.run(dots);
        }
        enter!(run(self, kernel));
    }

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        Avx512::with(self)
    }

    #[inline(always)]
    unsafe fn load_quad(self, from: *const u8) -> __m512i {
        let quad = enter!(_mm_loadu_si128(from.cast()));
        enter!(_mm512_broadcast_i32x4(quad))
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const i8) -> __m512i {
        enter!(_mm512_loadu_si512(from.cast()))
    }

    #[inline(always)]
    unsafe fn load_four(self, from: *const i8) -> __m512i {
        let four = enter!(from.cast::<i32>().read_unaligned());
        enter!(_mm512_set1_epi32(four))
    }

    #[inline(always)]
    unsafe fn load_rows_of_16_bytes(self, rows: [*const u8; 4]) -> __m512i {
        let [a, b, c, d] = rows.map(|row| enter!(_mm_loadu_si128(row.cast())));
        enter!(join_quads(a, b, c, d))
    }

    #[inline(always)]
    unsafe fn load_rows_of_8_bytes(self, rows: [*const u8; 4]) -> __m512i {
        let [a, b, c, d] = rows.map(|row| enter!(row.cast::<i64>().read_unaligned()));
        enter!(_mm512_castsi256_si512(_mm256_setr_epi64x(a, b, c, d)))
    }

    #[inline(always)]
    fn columns_of_bytes(self, rows: __m512i) -> __m512i {
        enter!(columns_of_bytes(rows))
    }

    #[inline(always)]
    fn columns_of_2bit_codes(self, rows: __m512i) -> [__m512i; 2] {
        [enter!(columns_of_2bit_codes::<0>(rows)), enter!(columns_of_2bit_codes::<1>(rows))]
    }

    #[inline(always)]
    unsafe fn load_sums(self, from: *const i32) -> __m512i {
        enter!(_mm512_loadu_si512(from.cast()))
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: __m512i) -> __m512i {
        enter!(_mm512_and_si512(bytes, _mm512_set1_epi8(15)))
    }

    /// Shifted in words, so that bits come in from the byte above.
    #[inline(always)]
    fn high_nibbles(self, bytes: __m512i) -> __m512i {
        enter!(_mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15)))
    }

    #[inline(always)]
    fn plus_128(self, bytes: __m512i) -> __m512i {
        enter!(_mm512_xor_si512(bytes, _mm512_set1_epi8(-128)))
    }

    #[inline(always)]
    fn zero(self) -> __m512i {
        enter!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn dot(self, sums: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        enter!(_mm512_dpbusd_epi32(sums, unsigned, signed))
    }

    #[inline(always)]
    fn times(self, sums: __m512i, factor: i32) -> __m512i {
        enter!(_mm512_mullo_epi32(sums, _mm512_set1_epi32(factor)))
    }

    #[inline(always)]
    fn join(self, high: __m512i, low: __m512i) -> __m512 {
        enter!(_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low)))
    }

    #[inline(always)]
    fn magnitude(self, a: __m512) -> __m512 {
        enter!(_mm512_abs_ps(a))
    }

    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        enter!(_mm512_reduce_max_ps(a))
    }

    #[inline(always)]
    unsafe fn store_digits(self, a: __m512, high: *mut i8, low: *mut i8) {
        let [highs, lows] = enter!(digits(a));
        enter!(_mm_storeu_si128(high.cast(), highs));
        enter!(_mm_storeu_si128(low.cast(), lows));
    }

    #[inline(always)]
    unsafe fn store_quad_sums(self, vectors: [__m512; 4], scales: __m512, to: *mut f32, stride: usize) {
        let sums = enter!(_mm512_mul_ps(quad_sums(vectors), scales));
        enter!(_mm_storeu_ps(to, _mm512_castps512_ps128(sums)));
        enter!(_mm_storeu_ps(to.add(stride), _mm512_extractf32x4_ps::<1>(sums)));
        enter!(_mm_storeu_ps(to.add(2 * stride), _mm512_extractf32x4_ps::<2>(sums)));
        enter!(_mm_storeu_ps(to.add(3 * stride), _mm512_extractf32x4_ps::<3>(sums)));
    }
}

/// The sums of quad `q` of each vector, in quad `q`.
#[inline]
#[target_feature(enable = "avx512f")]
fn quad_sums([a, b, c, d]: [__m512; 4]) -> __m512 {
    let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    _mm512_add_ps(_mm512_shuffle_ps::<0b01_00_01_00>(ab, cd), _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn join_quads(a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> __m512i {
    let ab = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
    let cd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(ab), cd)
}

/// Row `r` lies in quad `r`; byte `c` of all rows becomes the four bytes of place `c`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn columns_of_bytes(rows: __m512i) -> __m512i {
    // The four bytes of columns `4q ..` of every row into quad `q`, then in the quad by column.
    let fours = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), rows);
    let transpose = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_shuffle_epi8(fours, _mm512_broadcast_i32x4(transpose))
}

/// Each row is two words of the first half; of word `WORD` of all rows, the codes of column `c` become the four bytes of place `c`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn columns_of_2bit_codes<const WORD: i32>(rows: __m512i) -> __m512i {
    let words = _mm512_set4_epi32(6 + WORD, 4 + WORD, 2 + WORD, WORD);
    let words = _mm512_permutexvar_epi32(words, rows);
    // Quad `q` takes byte `q` of each word, four times.
    let bytes = _mm512_add_epi8(
        _mm512_set1_epi32(0x0C08_0400),
        _mm512_setr_epi32(
            0,
            0,
            0,
            0,
            0x0101_0101,
            0x0101_0101,
            0x0101_0101,
            0x0101_0101,
            0x0202_0202,
            0x0202_0202,
            0x0202_0202,
            0x0202_0202,
            0x0303_0303,
            0x0303_0303,
            0x0303_0303,
            0x0303_0303,
        ),
    );
    let shifts = _mm512_set4_epi32(6, 4, 2, 0);
    _mm512_and_si512(_mm512_srlv_epi32(_mm512_shuffle_epi8(words, bytes), shifts), _mm512_set1_epi8(3))
}

/// The high and the low digits of each value rounded.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn digits(a: __m512) -> [__m128i; 2] {
    let whole = _mm512_cvtps_epi32(a);
    let high = _mm512_srai_epi32::<8>(_mm512_add_epi32(whole, _mm512_set1_epi32(128)));
    // The low byte is what is left of `whole` without the carry into `high`.
    [_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(whole)]
}
