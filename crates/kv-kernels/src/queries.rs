//! The queries of a tile, laid out for each way to score keys.

use std::cell::OnceCell;

use crate::lanes::{ByteDots, Lanes};

/// Query rows up to which keys and values are decoded in registers. For more it pays to decode a block once, the
/// keys transposed, into scratch that stays close.
pub(crate) const FEW_ROWS: usize = 16;

/// Scaled query rows.
#[derive(Debug)]
pub(crate) struct Queries {
    /// `[rows, dim]`
    pub(crate) values: Vec<f32>,
    pub(crate) dim: usize,
    digits: OnceCell<Digits>,
}

/// Queries as two signed digits of a byte: `query = scale · (256 · high + low)`, which keeps 16 bits of the largest
/// value of each.
///
/// A vector holds as many queries as it has quads, and of each the same 16 values; queries that fill up the last
/// vector are 0.
#[derive(Debug)]
pub(crate) struct Digits {
    /// `[vectors, dim / 16, quads, 16]`
    pub(crate) high: Vec<i8>,
    pub(crate) low: Vec<i8>,
    /// The sum of the digits of each group of [`Digits::GROUP`] values in the first place of its quad:
    /// `[vectors, dim / GROUP, quads, 4]`.
    pub(crate) sums: Vec<i32>,
    /// `[vectors, quads, 4]`
    pub(crate) scales: Vec<f32>,
}

impl Queries {
    /// # Shapes
    /// - values: `[rows, dim]`
    pub(crate) fn new(dim: usize, values: Vec<f32>) -> Queries {
        Queries { values, dim, digits: OnceCell::new() }
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// The queries' digits.
    pub(crate) fn digits<D: ByteDots>(&self) -> &Digits {
        self.digits.get_or_init(|| {
            let (rows, groups) = (self.rows().next_multiple_of(D::QUADS), self.dim / Digits::GROUP);
            let mut digits = Digits {
                high: vec![0; rows * self.dim],
                low: vec![0; rows * self.dim],
                sums: vec![0; rows * groups * 4],
                scales: vec![0.0; rows * 4],
            };
            for (row, query) in self.values.chunks_exact(self.dim).enumerate() {
                let (vector, quad) = (row / D::QUADS, row % D::QUADS);
                digits.set::<D>(vector, quad, query);
            }
            digits
        })
    }
}

impl Digits {
    /// Values whose digits are summed: a group of ggml's formats.
    pub(crate) const GROUP: usize = 32;
    /// Bytes of a quad.
    pub(crate) const QUAD: usize = 16;
    /// The largest `256 · high + low` of which both digits are signed bytes.
    pub(crate) const LARGEST: f32 = 127.0 * 256.0;

    /// Splits values, whole vectors of which `largest` is the largest in magnitude, into digits; returns what a digit is worth.
    #[inline(always)]
    pub(crate) fn split<D: ByteDots>(dots: D, values: &[f32], largest: f32, high: &mut [i8], low: &mut [i8]) -> f32 {
        let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
        let inverse = lanes.splat(if largest == 0.0 { 0.0 } else { Digits::LARGEST / largest });
        let digits = high.chunks_exact_mut(width).zip(low.chunks_exact_mut(width));
        for (values, (high, low)) in values.chunks_exact(width).zip(digits) {
            // SAFETY: a vector of values.
            let values = unsafe { lanes.load_f32(values.as_ptr().cast()) };
            // SAFETY: a place a value.
            unsafe { dots.store_digits(lanes.mul(values, inverse), high.as_mut_ptr(), low.as_mut_ptr()) };
        }
        largest / Digits::LARGEST
    }

    fn set<D: ByteDots>(&mut self, vector: usize, quad: usize, query: &[f32]) {
        /// Adding 1.5 · 2²³ rounds to the nearest whole number and leaves it in the lowest bits; the standard library's
        /// rounding is a call a value.
        const ROUND: f32 = 12_582_912.0;
        let largest = query.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let inverse = if largest == 0.0 { 0.0 } else { Digits::LARGEST / largest };
        // A query that is not finite gives scores that are not numbers.
        let scale = if query.iter().all(|value| value.is_finite()) { largest / Digits::LARGEST } else { f32::NAN };
        self.scales[(vector * D::QUADS + quad) * 4..][..4].fill(scale);
        let groups = query.len() / Digits::GROUP;
        for (group, values) in query.chunks_exact(Digits::GROUP).enumerate() {
            let place = vector * groups + group;
            let mut sum = 0;
            for (half, values) in values.chunks_exact(Digits::QUAD).enumerate() {
                let at = ((2 * place + half) * D::QUADS + quad) * Digits::QUAD;
                let digits = self.high[at..][..Digits::QUAD].iter_mut().zip(&mut self.low[at..][..Digits::QUAD]);
                for ((high, low), value) in digits.zip(values) {
                    let whole = (value * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
                    let rounded = whole.wrapping_add(128) >> 8;
                    *high = rounded as i8;
                    *low = whole.wrapping_sub(rounded << 8) as i8;
                    sum = whole.wrapping_add(sum);
                }
            }
            self.sums[(place * D::QUADS + quad) * 4] = sum;
        }
    }
}
