//! The queries of a tile, laid out for each way to score keys.

use std::cell::OnceCell;

use crate::factors::LARGEST_FACTOR;
use crate::lanes::IntegerDots;

/// Query rows up to which keys and values are decoded in registers. For more it pays to decode a block once, the
/// keys transposed, into scratch that stays close.
pub(crate) const FEW_ROWS: usize = 16;

/// Scaled query rows.
#[derive(Debug)]
pub(crate) struct Queries {
    /// `[rows, dim]`
    pub(crate) values: Vec<f32>,
    pub(crate) dim: usize,
    rounded: OnceCell<RoundedQueries>,
}

/// Queries as factors times a scale, which keep 16 bits of the largest value of each.
///
/// Queries that fill up the last vector are 0, and so are groups that fill up the last ones multiplied together.
#[derive(Debug)]
pub(crate) struct RoundedQueries {
    /// `[steps, vectors]` of what [`IntegerDots::lay_out`] lays out for all quads, a step being the groups multiplied together.
    pub(crate) factors: Vec<i16>,
    /// The sum of the factors of each group in all places of its quad: `[steps, vectors, quads, 4]`.
    pub(crate) sums: Vec<f32>,
    /// What a factor of 1 is worth: `[vectors, quads, 4]`.
    pub(crate) scales: Vec<f32>,
}

impl Queries {
    /// # Shapes
    /// - values: `[rows, dim]`
    pub(crate) fn new(dim: usize, values: Vec<f32>) -> Queries {
        Queries { values, dim, rounded: OnceCell::new() }
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// The queries rounded.
    pub(crate) fn rounded<D: IntegerDots>(&self) -> &RoundedQueries {
        self.rounded.get_or_init(|| {
            let vectors = self.rows().div_ceil(D::ROWS);
            let places = vectors * (self.dim / RoundedQueries::GROUP).div_ceil(D::GROUPS);
            let mut rounded = RoundedQueries {
                factors: vec![0; places * D::STEP_FACTORS],
                sums: vec![0.0; places * D::QUADS * 4],
                scales: vec![0.0; vectors * D::QUADS * 4],
            };
            for (row, query) in self.values.chunks_exact(self.dim).enumerate() {
                rounded.set::<D>(row, query);
            }
            rounded
        })
    }
}

impl RoundedQueries {
    /// Values whose factors are summed: a group of ggml's formats.
    pub(crate) const GROUP: usize = 32;

    fn set<D: IntegerDots>(&mut self, row: usize, query: &[f32]) {
        /// Adding 1.5 · 2²³ rounds to the nearest whole number and leaves it in the lowest bits; the standard library's
        /// rounding is a call a value.
        const ROUND: f32 = 12_582_912.0;
        let largest = query.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let inverse = if largest == 0.0 { 0.0 } else { LARGEST_FACTOR / largest };
        // A query that is not finite gives scores that are not numbers.
        let scale = if query.iter().all(|value| value.is_finite()) { largest / LARGEST_FACTOR } else { f32::NAN };
        self.scales[row * D::GROUPS * 4..][..D::GROUPS * 4].fill(scale);
        let (vectors, first_quad) = (self.scales.len() / (D::QUADS * 4), row % D::ROWS * D::GROUPS);
        for (group, values) in query.chunks_exact(Self::GROUP).enumerate() {
            let (place, quad) = (group / D::GROUPS * vectors + row / D::ROWS, first_quad + group % D::GROUPS);
            let mut factors = [0; Self::GROUP];
            for (factor, value) in factors.iter_mut().zip(values) {
                *factor = (value * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
            }
            // At most `LARGEST_FACTOR` each, the sum of a group's is exact.
            self.sums[(place * D::QUADS + quad) * 4..][..4].fill(factors.iter().fold(0, |sum, factor| factor.wrapping_add(sum)) as f32);
            D::lay_out(quad, &factors, &mut self.factors[place * D::STEP_FACTORS..][..D::STEP_FACTORS]);
        }
    }
}
