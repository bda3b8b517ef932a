//! Plain-Rust replacements for instructions that Miri does not support. With them, Miri interprets the AVX-512 paths on any
//! machine, see `.ci/run`. They have no other use.

use std::arch::x86_64::*;
use std::mem::transmute;

use half::f16;

#[target_feature(enable = "avx512f")]
pub(super) fn _mm512_cvtph_ps(halves: __m256i) -> __m512 {
    vector(bytemuck::cast::<_, [u16; 16]>(halves).map(|bits| f16::from_bits(bits).to_f32_const()))
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn _mm256_cvtph_ps(halves: __m128i) -> __m256 {
    bytemuck::cast(bytemuck::cast::<_, [u16; 8]>(halves).map(|bits| f16::from_bits(bits).to_f32_const()))
}

#[target_feature(enable = "avx512f")]
pub(super) fn _mm512_cvtps_epi32(a: __m512) -> __m512i {
    let whole = values(a).map(|a| a.round_ties_even() as i32);
    // SAFETY: any 64 bytes are a vector.
    unsafe { transmute(whole) }
}

#[target_feature(enable = "avx512f")]
pub(super) fn _mm512_max_ps(a: __m512, b: __m512) -> __m512 {
    let (a, b) = (values(a), values(b));
    vector(std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] }))
}

/// Rounds to the nearest integer and ignores `_HOW`.
#[target_feature(enable = "avx512f")]
pub(super) fn _mm512_roundscale_ps<const _HOW: i32>(a: __m512) -> __m512 {
    vector(values(a).map(f32::round_ties_even))
}

/// `a · 2^⌊b⌋`
#[target_feature(enable = "avx512f")]
pub(super) fn _mm512_scalef_ps(a: __m512, b: __m512) -> __m512 {
    let (a, b) = (values(a), values(b));
    vector(std::array::from_fn(|i| (f64::from(a[i]) * f64::from(b[i].floor()).exp2()) as f32))
}

#[target_feature(enable = "avx512f")]
pub(super) fn _mm512_permutexvar_ps(places: __m512i, a: __m512) -> __m512 {
    // SAFETY: any 64 bytes are numbers.
    let places: [u32; 16] = unsafe { transmute(places) };
    let a = values(a);
    vector(places.map(|place| a[place as usize % 16]))
}

pub(super) fn _mm_prefetch<const _HINT: i32>(_: *const i8) {}

fn values(vector: __m512) -> [f32; 16] {
    // SAFETY: any 64 bytes are floats.
    unsafe { transmute(vector) }
}

fn vector(values: [f32; 16]) -> __m512 {
    // SAFETY: any 64 bytes are a vector.
    unsafe { transmute(values) }
}
