//! Query values, or weights times scales, as 16-bit integers, so that they can be multiplied with codes in integers.

use crate::codec::{HALF, f16_to_f32};
use crate::lanes::{IntegerDots, Lanes};
use crate::products::TOGETHER;

/// The largest magnitude of a factor: `256 · 127`, so that both digits of `256 · high + low` are signed bytes.
pub(crate) const LARGEST_FACTOR: f32 = 127.0 * 256.0;

/// Number of factors that are rounded together. Rows of factors are padded to a multiple of it.
pub(crate) const SIXTEEN: usize = 16;

/// Rows of numbers, each scaled so that its largest magnitude is [`LARGEST_FACTOR`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Normalised<'a> {
    /// `[rows, stride]`, padded with 0 to whole sixteens.
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    /// What a scaled number of 1 stands for in each row: `[rows]`.
    pub(crate) worth: &'a [f32],
}

/// The scales and minima by which the numbers of each row are multiplied, in half precision and whole sixteens.
pub(crate) struct Heads<'a> {
    pub(crate) scales: &'a [[u8; HALF]],
    pub(crate) minima: Option<&'a [[u8; HALF]]>,
}

/// Rows of factors: the value of a factor, their sums, and the offsets.
pub(crate) struct Rounded<const ROWS: usize> {
    /// The value of a factor of 1.
    pub(crate) worth: [f32; ROWS],
    /// The sum of a row's factors.
    pub(crate) sums: [i32; TOGETHER],
    /// The sum of a row's numbers, each times `minimum + centre · scale`.
    pub(crate) offsets: [f32; TOGETHER],
}

/// The largest magnitude for which `LARGEST_FACTOR / magnitude` overflows, rounded up. Rows that are smaller count as
/// zeros: next to a softmax weight of 1 they do not matter, and infinity times zero would give NaN.
const NEGLIGIBLE: f32 = 1e-34;

/// Scales a row so that its largest magnitude is [`LARGEST_FACTOR`], pads it with 0, and returns the divisor.
///
/// A row without a number above [`NEGLIGIBLE`] becomes zeros. The caller must check for numbers that are not finite.
#[inline(always)]
pub(crate) fn normalise<L: Lanes>(lanes: L, row: &[f32], to: &mut [f32]) -> f32 {
    let (whole, rest) = row.split_at(row.len() / L::WIDTH * L::WIDTH);
    let (to_whole, to_rest) = to.split_at_mut(whole.len());
    let mut largest = lanes.splat(0.0);
    for values in whole.chunks_exact(L::WIDTH) {
        // SAFETY: a vector of values.
        let values = unsafe { lanes.load_f32(values.as_ptr().cast()) };
        largest = lanes.max(lanes.abs(values), largest);
    }
    let largest = rest.iter().fold(lanes.largest(largest), |largest, value| largest.max(value.abs()));
    if largest <= NEGLIGIBLE {
        to.fill(0.0);
        return 0.0;
    }
    let inverse = LARGEST_FACTOR / largest;
    for (values, to) in whole.chunks_exact(L::WIDTH).zip(to_whole.chunks_exact_mut(L::WIDTH)) {
        // SAFETY: a vector of values.
        let values = unsafe { lanes.load_f32(values.as_ptr().cast()) };
        // SAFETY: `to_whole` has room for every value of `whole`.
        unsafe { lanes.store(lanes.mul(values, lanes.splat(inverse)), to.as_mut_ptr()) };
    }
    to_rest.fill(0.0);
    to_rest.iter_mut().zip(rest).for_each(|(to, value)| *to = value * inverse);
    largest / LARGEST_FACTOR
}

impl Normalised<'_> {
    /// Multiplies the numbers by their scales and rounds the products to column factors. The offsets are the sums of
    /// `numbers · (minima + centre · scales)`.
    ///
    /// The value of a factor of 1 is the largest scale times the largest number, divided by [`LARGEST_FACTOR`]. If a scale is not
    /// finite, neither is this value.
    ///
    /// # Shapes
    /// - factors: `[ROWS, stride]`
    #[inline(always)]
    pub(crate) fn round_scaled<D: IntegerDots, const ROWS: usize>(
        &self,
        dots: D,
        heads: &Heads<'_>,
        centre: i32,
        factors: &mut [i16],
    ) -> Rounded<ROWS> {
        let (lanes, width, count) = (dots.lanes(), D::Lanes::WIDTH, heads.scales.len());
        assert!(count <= self.stride && count.is_multiple_of(SIXTEEN), "{count} scales for {} numbers", self.stride);
        assert!(heads.minima.is_none_or(|minima| minima.len() == count), "as many minima as scales");
        let values = self.values[..ROWS * self.stride].as_ptr();
        let factors = factors[..ROWS * self.stride].as_mut_ptr();
        let (scales, minima) = (heads.scales.as_ptr(), heads.minima.map(<[_]>::as_ptr));
        // Magnitudes in half precision compare like their bits.
        let largest = heads.scales.iter().fold(0, |largest, half| (u16::from_le_bytes(*half) & 0x7FFF).max(largest));
        let largest = f16_to_f32(largest);
        let inverse = lanes.splat(if largest == 0.0 { 0.0 } else { largest.recip() });
        let (mut sums, mut offsets) = ([dots.zero(); TOGETHER], [lanes.splat(0.0); TOGETHER]);
        for first in (0..count).step_by(SIXTEEN) {
            let (mut scaled, mut offset) = ([lanes.splat(0.0); 2], [lanes.splat(0.0); 2]);
            for v in 0..SIXTEEN / width {
                let at = first + v * width;
                // SAFETY: whole sixteens of scales.
                let scale = unsafe { lanes.load_f16(scales.wrapping_add(at).cast()) };
                offset[v] = lanes.mul(scale, lanes.splat(centre as f32));
                if let Some(minima) = minima {
                    // SAFETY: there are as many minima as scales.
                    let minima = unsafe { lanes.load_f16(minima.wrapping_add(at).cast()) };
                    offset[v] = lanes.mul_add(scale, lanes.splat(centre as f32), minima);
                }
                scaled[v] = lanes.mul(scale, inverse);
            }
            for r in 0..ROWS {
                let mut products = [lanes.splat(0.0); 2];
                for v in 0..SIXTEEN / width {
                    // SAFETY: the numbers of a row were sliced, in whole sixteens.
                    let numbers = unsafe { lanes.load_f32(values.wrapping_add(r * self.stride + first + v * width).cast()) };
                    if minima.is_some() || centre != 0 {
                        offsets[r] = lanes.mul_add(numbers, offset[v], offsets[r]);
                    }
                    products[v] = lanes.mul(numbers, scaled[v]);
                }
                // SAFETY: the factors of a row were sliced.
                sums[r] = unsafe { dots.store_column_factors(products, sums[r], factors.wrapping_add(r * self.stride + first)) };
            }
        }
        let (mut worth, mut offsets) = ([0.0; ROWS], lanes.sums(offsets));
        for r in 0..ROWS {
            worth[r] = self.worth[r] * largest;
            offsets[r] *= self.worth[r];
        }
        Rounded { worth, sums: dots.totals(sums), offsets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelPath;
    use crate::lanes::Kernel;

    struct Normalise<'a>(&'a [f32]);

    impl Kernel for Normalise<'_> {
        type Output = (Vec<f32>, f32);

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> (Vec<f32>, f32) {
            let mut to = vec![f32::NAN; self.0.len().next_multiple_of(SIXTEEN)];
            let worth = normalise(lanes, self.0, &mut to);
            (to, worth)
        }
    }

    #[test]
    fn rows_of_any_magnitude_are_scaled_or_zero() {
        for magnitude in [0.0, f32::from_bits(1), f32::MIN_POSITIVE, 1e-37, 9e-35, 1e-34, 1.1e-34, 1e-20, 1.0, 1e20, 1e38] {
            for len in [1, 15, 16, 17, 33] {
                let row: Vec<f32> = (0..len).map(|index| magnitude * [1.0, -0.5, 0.25][index % 3]).collect();
                for path in KernelPath::available() {
                    let (scaled, worth) = path.run(SIXTEEN, Normalise(&row));
                    let is_scaled = magnitude > NEGLIGIBLE;
                    let largest = scaled.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                    let expected = if is_scaled { LARGEST_FACTOR } else { 0.0 };
                    assert!((largest - expected).abs() <= 0.01, "{magnitude:e} on {path}: {largest}");
                    for (value, scaled) in row.iter().zip(&scaled).filter(|_| is_scaled) {
                        assert!((scaled * worth - value).abs() <= 1e-6 * magnitude, "{magnitude:e} on {path}");
                    }
                    assert!(scaled[len..].iter().all(|value| *value == 0.0), "filled up with 0");
                }
            }
        }
    }
}
