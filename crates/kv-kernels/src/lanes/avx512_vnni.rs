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
    fn join(self, high: __m512i, low: __m512i) -> __m512 {
        enter!(_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low)))
    }

    #[inline(always)]
    unsafe fn store_quad_sums(self, vectors: [__m512; 4], to: *mut f32, stride: usize) {
        let sums = enter!(quad_sums(vectors));
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
