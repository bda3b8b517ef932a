//! Dot products of bytes, 64 at a time, with AVX-512 VNNI.

use std::arch::x86_64::*;

#[cfg(miri)]
use super::interpreted::{_mm512_cvtph_ps, _mm512_cvtps_epi32};
use super::{Avx512, IntegerDots, IntegerKernel};

/// Exists only if AVX-512 F, BW, DQ, VL and VNNI were detected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Vnni(());

impl Avx512Vnni {
    /// On a machine that has the AVX-512 vectors.
    pub(crate) fn detect(_: Avx512) -> Option<Avx512Vnni> {
        is_x86_feature_detected!("avx512vnni").then_some(Avx512Vnni(()))
    }
}

/// Enters a function that enables the instructions.
macro_rules! enter {
    ($call:expr) => {
        // SAFETY: a value of `Avx512Vnni` was made by `detect`, and the caller guarantees the validity of pointers.
        unsafe { $call }
    };
}

/// Number of factors whose digits are stored together. A factor is `256 · high + low` with signed bytes as digits, because the
/// instruction multiplies bytes. In memory, the high digits of 16 factors come before their low digits.
const DIGITS: usize = 16;

impl IntegerDots for Avx512Vnni {
    const QUADS: usize = 4;
    const GROUPS: usize = 1;
    /// The instruction takes unsigned codes.
    const BYTE_ZERO: i32 = 128;
    /// Bytes take two loads per four rows. Codes of 4 bits or fewer take one.
    const ADDS_BYTES: bool = false;
    type Lanes = Avx512;
    type Sums = __m512i;
    type Codes = [__m512i; 2];
    /// The high digits of the first and the last 16 factors, then the low digits.
    type Factors = [[__m512i; 2]; 2];
    type Columns = __m512i;
    type ColumnSums = [__m512i; 2];

    #[inline(always)]
    fn run<K: IntegerKernel>(self, kernel: K) {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn run<K: IntegerKernel>(dots: Avx512Vnni, kernel: K) {
            kernel.run(dots);
        }
        enter!(run(self, kernel));
    }

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        Avx512::with(self)
    }

    #[inline(always)]
    unsafe fn load_bytes(self, [from, _]: [*const u8; 2]) -> [__m512i; 2] {
        let (first, last) = enter!((_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast())));
        enter!([plus_128(_mm512_broadcast_i32x4(first)), plus_128(_mm512_broadcast_i32x4(last))])
    }

    #[inline(always)]
    unsafe fn load_nibbles(self, [from, _]: [*const u8; 2]) -> [__m512i; 2] {
        let bytes = enter!(_mm_loadu_si128(from.cast()));
        enter!(nibbles(_mm512_broadcast_i32x4(bytes)))
    }

    fn lay_out(quad: usize, factors: &[i32; 32], to: &mut [i16]) {
        let (high, low) = bytemuck::cast_slice_mut::<i16, i8>(to).split_at_mut(2 * Self::QUADS * DIGITS);
        for (half, factors) in factors.chunks_exact(DIGITS).enumerate() {
            let places = (half * Self::QUADS + quad) * DIGITS..(half * Self::QUADS + quad + 1) * DIGITS;
            let digits = high[places.clone()].iter_mut().zip(&mut low[places]);
            for ((high, low), factor) in digits.zip(factors) {
                let rounded = factor.wrapping_add(128) >> 8;
                *high = rounded as i8;
                *low = factor.wrapping_sub(rounded << 8) as i8;
            }
        }
    }

    #[inline(always)]
    unsafe fn load_factors(self, from: *const i16) -> [[__m512i; 2]; 2] {
        let from = from.cast::<__m512i>();
        let high = enter!([_mm512_loadu_si512(from), _mm512_loadu_si512(from.add(1))]);
        let low = enter!([_mm512_loadu_si512(from.add(2)), _mm512_loadu_si512(from.add(3))]);
        [high, low]
    }

    #[inline(always)]
    fn zero(self) -> __m512i {
        enter!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn dot(self, codes: [__m512i; 2], [high, low]: [[__m512i; 2]; 2]) -> __m512i {
        let highs = enter!(_mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[0], high[0]), codes[1], high[1]));
        let lows = enter!(_mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[0], low[0]), codes[1], low[1]));
        enter!(join(highs, lows))
    }

    #[inline(always)]
    fn quad_sums(self, vectors: [__m512i; 4]) -> __m512i {
        enter!(quad_sums(vectors))
    }

    #[inline(always)]
    fn totals(self, vectors: [__m512i; 4]) -> [i32; 4] {
        bytemuck::cast(enter!(add_quads(quad_sums(vectors))))
    }

    #[inline(always)]
    fn to_floats(self, sums: __m512i) -> __m512 {
        enter!(_mm512_cvtepi32_ps(sums))
    }

    #[inline(always)]
    unsafe fn load_halves(self, places: [*const u8; 4], [at, _]: [usize; 2]) -> __m512 {
        let mut four = [0; 4];
        for (half, place) in four.iter_mut().zip(places) {
            *half = enter!(place.wrapping_add(at).cast::<i16>().read_unaligned());
        }
        let [a, b, c, d] = four;
        enter!(_mm512_cvtph_ps(_mm256_broadcastq_epi64(_mm_setr_epi16(a, b, c, d, 0, 0, 0, 0))))
    }

    #[inline(always)]
    unsafe fn store_rows(self, vector: __m512, to: *mut f32, stride: usize) {
        enter!(_mm_storeu_ps(to, _mm512_castps512_ps128(vector)));
        enter!(_mm_storeu_ps(to.add(stride), _mm512_extractf32x4_ps::<1>(vector)));
        enter!(_mm_storeu_ps(to.add(2 * stride), _mm512_extractf32x4_ps::<2>(vector)));
        enter!(_mm_storeu_ps(to.add(3 * stride), _mm512_extractf32x4_ps::<3>(vector)));
    }

    #[inline(always)]
    unsafe fn columns_of_bytes(self, rows: [*const u8; 4]) -> [__m512i; 2] {
        let [first, last] = [0, 16].map(|at| rows.map(|row| enter!(_mm_loadu_si128(row.add(at).cast()))));
        [first, last].map(|rows| enter!(plus_128(columns_of_bytes(join_quads(rows)))))
    }

    #[inline(always)]
    unsafe fn columns_of_nibbles(self, rows: [*const u8; 4]) -> [__m512i; 2] {
        let rows = rows.map(|row| enter!(_mm_loadu_si128(row.cast())));
        enter!(nibbles(columns_of_bytes(join_quads(rows))))
    }

    #[inline(always)]
    unsafe fn columns_of_2bit_codes(self, rows: [*const u8; 4]) -> [__m512i; 2] {
        let [a, b, c, d] = rows.map(|row| enter!(row.cast::<i64>().read_unaligned()));
        let rows = enter!(_mm512_castsi256_si512(_mm256_setr_epi64x(a, b, c, d)));
        [enter!(columns_of_2bit_codes::<0>(rows)), enter!(columns_of_2bit_codes::<1>(rows))]
    }

    #[inline(always)]
    unsafe fn store_column_factors(self, [values, _]: [__m512; 2], sums: __m512i, to: *mut i16) -> __m512i {
        let whole = enter!(_mm512_cvtps_epi32(values));
        let [high, low] = enter!(digits(whole));
        enter!(_mm_storeu_si128(to.cast(), high));
        enter!(_mm_storeu_si128(to.cast::<__m128i>().add(1), low));
        enter!(_mm512_add_epi32(sums, whole))
    }

    #[inline(always)]
    fn column_sums(self, sum: i32) -> [__m512i; 2] {
        [enter!(_mm512_setzero_si512()), enter!(_mm512_set1_epi32(sum))]
    }

    #[inline(always)]
    unsafe fn add_columns<const COUNT: usize>(
        self,
        mut sums: [[__m512i; 2]; COUNT],
        codes: __m512i,
        factors: *const i16,
        stride: usize,
        first: usize,
    ) -> [[__m512i; 2]; COUNT] {
        for (list, [highs, lows]) in sums.iter_mut().enumerate() {
            let high = factors.wrapping_add(list * stride).cast::<u8>().wrapping_add(2 * first - first % DIGITS);
            let low = high.wrapping_add(DIGITS);
            *highs = enter!(_mm512_dpbusd_epi32(*highs, codes, _mm512_set1_epi32(high.cast::<i32>().read_unaligned())));
            *lows = enter!(_mm512_dpbusd_epi32(*lows, codes, _mm512_set1_epi32(low.cast::<i32>().read_unaligned())));
        }
        sums
    }

    #[inline(always)]
    fn in_order(self, sums: [__m512i; 2]) -> [__m512i; 2] {
        sums
    }

    #[inline(always)]
    fn in_order_of_2bit_codes(self, sums: [__m512i; 2]) -> [__m512i; 2] {
        sums
    }

    #[inline(always)]
    fn column_totals(self, [highs, lows]: [__m512i; 2], worth: f32, offset: f32) -> [__m512; 2] {
        [enter!(_mm512_fmadd_ps(_mm512_cvtepi32_ps(join(highs, lows)), _mm512_set1_ps(worth), _mm512_set1_ps(offset))); 2]
    }
}

/// `256 · high + low`.
#[inline]
#[target_feature(enable = "avx512f")]
fn join(high: __m512i, low: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low)
}

/// Adds 128 to signed bytes, to make them unsigned.
#[inline]
#[target_feature(enable = "avx512f")]
fn plus_128(bytes: __m512i) -> __m512i {
    _mm512_xor_si512(bytes, _mm512_set1_epi8(-128))
}

/// The low four bits of each byte, and the high four. The shift is by word, so bits of the next byte are shifted in.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn nibbles(bytes: __m512i) -> [__m512i; 2] {
    let four = _mm512_set1_epi8(15);
    [_mm512_and_si512(bytes, four), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), four)]
}

/// The sums of quad `q` of each vector, in quad `q`.
#[inline]
#[target_feature(enable = "avx512f")]
fn quad_sums([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_quads(sums: __m512i) -> __m128i {
    let pairs = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums));
    _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn join_quads([a, b, c, d]: [__m128i; 4]) -> __m512i {
    let ab = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
    let cd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(ab), cd)
}

/// Row `r` is in quad `r`. Byte `c` of the four rows becomes the four bytes of lane `c`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn columns_of_bytes(rows: __m512i) -> __m512i {
    // Moves the four bytes of columns `4q ..` of every row to quad `q`, then sorts each quad by column.
    let fours = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), rows);
    let transpose = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_shuffle_epi8(fours, _mm512_broadcast_i32x4(transpose))
}

/// Each row is two words of the first half. Of word `WORD` of all rows, the codes of column `c` become the four bytes of lane `c`.
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

/// The high and the low digits of each number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn digits(whole: __m512i) -> [__m128i; 2] {
    let high = _mm512_srai_epi32::<8>(_mm512_add_epi32(whole, _mm512_set1_epi32(128)));
    // The low byte is `whole` truncated, without the carry into `high`.
    [_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(whole)]
}
