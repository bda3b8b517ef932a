//! Dot products of 16-bit words with AVX2: two products and a sum in each of eight lanes.
//!
//! Byte products would be more per instruction, but their pairwise sums are 16-bit words, which saturate, and a factor needs two
//! bytes.

use std::arch::x86_64::*;

#[cfg(miri)]
use super::interpreted::_mm256_cvtph_ps;
use super::{Avx2, IntegerDots, IntegerKernel};

/// Enters a function that enables the instructions.
macro_rules! enter {
    ($call:expr) => {
        // SAFETY: a value of `Avx2` exists only if the machine has AVX2, FMA and F16C. The caller guarantees the validity of
        // pointers.
        unsafe { $call }
    };
}

impl IntegerDots for Avx2 {
    const QUADS: usize = 2;
    const GROUPS: usize = 2;
    const BYTE_ZERO: i32 = 0;
    const ADDS_BYTES: bool = true;
    type Lanes = Avx2;
    type Sums = __m256i;
    /// One code per word: the even low nibbles of 16 bytes (or the even ones of the first 16 bytes), the even high nibbles (or the
    /// even ones of the last 16 bytes), then the odd ones of both.
    type Codes = [__m256i; 4];
    /// One factor per word, in the order of the codes, in memory as in registers.
    type Factors = [__m256i; 4];
    /// Rows 0 and 1 interleaved, then rows 2 and 3: first the even columns, then the odd ones.
    type Columns = [[__m256i; 2]; 2];
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
    unsafe fn load_bytes(self, [a, b]: [*const u8; 2]) -> [__m256i; 4] {
        let first = enter!(_mm256_loadu2_m128i(b.cast(), a.cast()));
        let last = enter!(_mm256_loadu2_m128i(b.add(16).cast(), a.add(16).cast()));
        enter!(words_of_bytes([first, last]))
    }

    #[inline(always)]
    unsafe fn load_nibbles(self, [a, b]: [*const u8; 2]) -> [__m256i; 4] {
        enter!(words_of_nibbles(_mm256_loadu2_m128i(b.cast(), a.cast())))
    }

    fn lay_out(quad: usize, factors: &[i32; 32], to: &mut [i16]) {
        for (at, factor) in factors.iter().enumerate() {
            let (half, word, is_odd) = (at / 16, at % 16 / 2, at % 2);
            to[((2 * is_odd + half) * Self::QUADS + quad) * 8 + word] = *factor as i16;
        }
    }

    #[inline(always)]
    unsafe fn load_factors(self, from: *const i16) -> [__m256i; 4] {
        let from = from.cast::<__m256i>();
        enter!([
            _mm256_loadu_si256(from),
            _mm256_loadu_si256(from.add(1)),
            _mm256_loadu_si256(from.add(2)),
            _mm256_loadu_si256(from.add(3))
        ])
    }

    #[inline(always)]
    fn zero(self) -> __m256i {
        enter!(_mm256_setzero_si256())
    }

    #[inline(always)]
    fn dot(self, codes: [__m256i; 4], factors: [__m256i; 4]) -> __m256i {
        enter!(dot(codes, factors))
    }

    #[inline(always)]
    fn quad_sums(self, vectors: [__m256i; 4]) -> __m256i {
        enter!(quad_sums(vectors))
    }

    #[inline(always)]
    fn totals(self, vectors: [__m256i; 4]) -> [i32; 4] {
        let sums = enter!(quad_sums(vectors));
        let sums = enter!(_mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums)));
        bytemuck::cast(sums)
    }

    #[inline(always)]
    fn to_floats(self, sums: __m256i) -> __m256 {
        enter!(_mm256_cvtepi32_ps(sums))
    }

    #[inline(always)]
    unsafe fn load_halves(self, [a, b, c, d]: [*const u8; 4], at: [usize; 2]) -> __m256 {
        let mut halves = [0; 8];
        for (four, at) in halves.chunks_exact_mut(4).zip(at) {
            for (half, place) in four.iter_mut().zip([a, b, c, d]) {
                *half = enter!(place.wrapping_add(at).cast::<i16>().read_unaligned());
            }
        }
        let [a, b, c, d, e, f, g, h] = halves;
        enter!(_mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h)))
    }

    #[inline(always)]
    unsafe fn store_rows(self, vector: __m256, to: *mut f32, _: usize) {
        enter!(_mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector))));
    }

    #[inline(always)]
    unsafe fn columns_of_bytes(self, rows: [*const u8; 4]) -> [[[__m256i; 2]; 2]; 2] {
        [enter!(columns_of_bytes(load_rows(rows, 0))), enter!(columns_of_bytes(load_rows(rows, 16)))]
    }

    #[inline(always)]
    unsafe fn columns_of_nibbles(self, rows: [*const u8; 4]) -> [[[__m256i; 2]; 2]; 2] {
        enter!(columns_of_nibbles(load_rows(rows, 0)))
    }

    #[inline(always)]
    unsafe fn columns_of_2bit_codes(self, rows: [*const u8; 4]) -> [[[__m256i; 2]; 2]; 2] {
        let [a, b, c, d] = rows;
        [
            enter!([columns_of_2bit_codes(a, b), columns_of_2bit_codes(c, d)]),
            enter!([columns_of_2bit_codes(a.add(4), b.add(4)), columns_of_2bit_codes(c.add(4), d.add(4))]),
        ]
    }

    #[inline(always)]
    unsafe fn store_column_factors(self, values: [__m256; 2], sums: __m256i, to: *mut i16) -> __m256i {
        let words = enter!(whole_words(values));
        enter!(_mm256_storeu_si256(to.cast(), words));
        enter!(_mm256_add_epi32(sums, _mm256_madd_epi16(words, _mm256_set1_epi16(1))))
    }

    #[inline(always)]
    fn column_sums(self, sum: i32) -> [__m256i; 2] {
        [enter!(_mm256_set1_epi32(sum)); 2]
    }

    /// One pair of rows after the other, because the columns of both pairs and all sums do not fit in registers.
    #[inline(always)]
    unsafe fn add_columns<const COUNT: usize>(
        self,
        mut sums: [[__m256i; 2]; COUNT],
        codes: [[__m256i; 2]; 2],
        factors: *const i16,
        stride: usize,
        first: usize,
    ) -> [[__m256i; 2]; COUNT] {
        for (pair, codes) in codes.into_iter().enumerate() {
            for (list, sums) in sums.iter_mut().enumerate() {
                let factors = factors.wrapping_add(list * stride + first + 2 * pair).cast::<i32>();
                let factors = enter!(_mm256_set1_epi32(factors.read_unaligned()));
                sums[0] = enter!(_mm256_add_epi32(sums[0], _mm256_madd_epi16(codes[0], factors)));
                sums[1] = enter!(_mm256_add_epi32(sums[1], _mm256_madd_epi16(codes[1], factors)));
            }
        }
        sums
    }

    #[inline(always)]
    fn in_order(self, sums: [__m256i; 2]) -> [__m256i; 2] {
        enter!(in_order(sums))
    }

    #[inline(always)]
    fn in_order_of_2bit_codes(self, sums: [__m256i; 2]) -> [__m256i; 2] {
        enter!(in_order_of_2bit_codes(sums))
    }

    #[inline(always)]
    fn column_totals(self, [first, last]: [__m256i; 2], worth: f32, offset: f32) -> [__m256; 2] {
        let (worth, offset) = enter!((_mm256_set1_ps(worth), _mm256_set1_ps(offset)));
        enter!([_mm256_fmadd_ps(_mm256_cvtepi32_ps(first), worth, offset), _mm256_fmadd_ps(_mm256_cvtepi32_ps(last), worth, offset)])
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn words_of_bytes([first, last]: [__m256i; 2]) -> [__m256i; 4] {
    let even = |bytes| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
    [even(first), even(last), _mm256_srai_epi16::<8>(first), _mm256_srai_epi16::<8>(last)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn words_of_nibbles(bytes: __m256i) -> [__m256i; 4] {
    let four = _mm256_set1_epi16(15);
    [
        _mm256_and_si256(bytes, four),
        _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), four),
        _mm256_and_si256(_mm256_srli_epi16::<8>(bytes), four),
        _mm256_srli_epi16::<12>(bytes),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot(codes: [__m256i; 4], factors: [__m256i; 4]) -> __m256i {
    let some = _mm256_add_epi32(_mm256_madd_epi16(codes[0], factors[0]), _mm256_madd_epi16(codes[1], factors[1]));
    let others = _mm256_add_epi32(_mm256_madd_epi16(codes[2], factors[2]), _mm256_madd_epi16(codes[3], factors[3]));
    _mm256_add_epi32(some, others)
}

/// The sums of quad `q` of each vector, in quad `q`.
#[inline]
#[target_feature(enable = "avx2")]
fn quad_sums([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// # Safety
/// 16 bytes can be read at offset `at` of each row.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_rows(rows: [*const u8; 4], at: usize) -> [__m128i; 4] {
    let mut loaded = [_mm_setzero_si128(); 4];
    for (loaded, row) in loaded.iter_mut().zip(rows) {
        // SAFETY: guaranteed by the caller.
        *loaded = unsafe { _mm_loadu_si128(row.wrapping_add(at).cast()) };
    }
    loaded
}

/// Columns of four rows of 16 signed bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn columns_of_bytes(rows: [__m128i; 4]) -> [[__m256i; 2]; 2] {
    let [first, last] = interleave(rows);
    let mut pairs = [[first; 2], [last; 2]];
    for [even, odd] in &mut pairs {
        (*even, *odd) = (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(*even)), _mm256_srai_epi16::<8>(*odd));
    }
    pairs
}

/// Columns of four rows of 16 bytes: of the low nibbles, and of the high nibbles.
#[inline]
#[target_feature(enable = "avx2")]
fn columns_of_nibbles(rows: [__m128i; 4]) -> [[[__m256i; 2]; 2]; 2] {
    let four = _mm256_set1_epi16(15);
    let mut halves = [[[four; 2]; 2]; 2];
    for (pair, words) in interleave(rows).into_iter().enumerate() {
        halves[0][pair] = [_mm256_and_si256(words, four), _mm256_and_si256(_mm256_srli_epi16::<8>(words), four)];
        halves[1][pair] = [_mm256_and_si256(_mm256_srli_epi16::<4>(words), four), _mm256_srli_epi16::<12>(words)];
    }
    halves
}

/// Interleaves four rows of eight words in pairs.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave([a, b, c, d]: [__m128i; 4]) -> [__m256i; 2] {
    [side_by_side(a, b), side_by_side(c, d)]
}

/// Widens the words. This costs nothing when they are loaded, whereas unpacked words would have to be joined.
#[inline]
#[target_feature(enable = "avx2")]
fn side_by_side(a: __m128i, b: __m128i) -> __m256i {
    _mm256_blend_epi16::<0b1010_1010>(_mm256_cvtepu16_epi32(a), _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(b)))
}

/// The even columns of two rows of 16 codes, then the odd ones. Codes of the first eight columns are in even lanes, the others in
/// odd lanes.
///
/// # Safety
/// Four bytes of each can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn columns_of_2bit_codes(a: *const u8, b: *const u8) -> [__m256i; 2] {
    // SAFETY: guaranteed by the caller.
    let a = unsafe { _mm_loadu_si32(a) };
    // SAFETY: guaranteed by the caller.
    let b = unsafe { _mm_loadu_si32(b) };
    // Two interleaved words of each row, in all lanes.
    let words = _mm256_broadcastq_epi64(_mm_unpacklo_epi16(a, b));
    let codes = _mm256_srlv_epi32(words, _mm256_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12));
    let code = _mm256_set1_epi16(3);
    [_mm256_and_si256(codes, code), _mm256_and_si256(_mm256_srli_epi32::<2>(codes), code)]
}

/// Columns 0 to 7 and 8 to 15, from the even and the odd columns.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order([even, odd]: [__m256i; 2]) -> [__m256i; 2] {
    let (first, last) = (_mm256_unpacklo_epi32(even, odd), _mm256_unpackhi_epi32(even, odd));
    [_mm256_permute2x128_si256::<0x20>(first, last), _mm256_permute2x128_si256::<0x31>(first, last)]
}

/// Columns 0 to 7 and 8 to 15 of [`columns_of_2bit_codes`].
#[inline]
#[target_feature(enable = "avx2")]
fn in_order_of_2bit_codes([even, odd]: [__m256i; 2]) -> [__m256i; 2] {
    let (first, last) = (_mm256_unpacklo_epi32(even, odd), _mm256_unpackhi_epi32(even, odd));
    [_mm256_unpacklo_epi64(first, last), _mm256_unpackhi_epi64(first, last)]
}

/// Rounds each value.
#[inline]
#[target_feature(enable = "avx2")]
fn whole_words([first, last]: [__m256; 2]) -> __m256i {
    let quarters = _mm256_packs_epi32(_mm256_cvtps_epi32(first), _mm256_cvtps_epi32(last));
    _mm256_permute4x64_epi64::<0b11_01_10_00>(quarters)
}
