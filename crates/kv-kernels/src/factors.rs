//! Query values and weights as whole numbers of 16 bits, so that quantised rows can be multiplied by them in integers.

use crate::lanes::{IntegerDots, Lanes};

/// The largest magnitude of a factor: `256 · 127`, so that its two digits `256 · high + low` are signed bytes.
pub(crate) const LARGEST_FACTOR: f32 = 127.0 * 256.0;

/// What a row of factors stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounded {
    /// What a factor of 1 is worth.
    pub(crate) worth: f32,
    /// The sum of the factors.
    pub(crate) sum: i32,
}

/// Rounds values, whole vectors of which `largest` is the largest in magnitude, to column factors.
///
/// # Shapes
/// - values: `[rows]`
/// - factors: `[rows]`, `rows` rounded up to a multiple of 16
#[inline(always)]
pub(crate) fn round_to_factors<D: IntegerDots>(dots: D, values: &[f32], largest: f32, factors: &mut [i16]) -> Rounded {
    let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
    assert!(factors.len() >= values.len(), "room for the factors of {} values", values.len());
    let (inverse, one) = (lanes.splat(if largest == 0.0 { 0.0 } else { LARGEST_FACTOR / largest }), lanes.splat(1.0));
    // At most `LARGEST_FACTOR` each, of the few hundred there are, the sum is exact.
    let mut sum = lanes.splat(0.0);
    for (values, factors) in values.chunks_exact(width).zip(factors.chunks_exact_mut(width)) {
        // SAFETY: a vector of values.
        let values = unsafe { lanes.load_f32(values.as_ptr().cast()) };
        let values = lanes.mul(values, inverse);
        sum = lanes.mul_add(lanes.round(values), one, sum);
        // SAFETY: a place a value.
        unsafe { dots.store_column_factors(values, factors.as_mut_ptr()) };
    }
    let zero = lanes.splat(0.0);
    Rounded { worth: largest / LARGEST_FACTOR, sum: lanes.sums([sum, zero, zero, zero])[0] as i32 }
}
