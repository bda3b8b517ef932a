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
/// A vector holds as many queries as it has quads; queries that fill up the last vector are 0.
#[derive(Debug)]
pub(crate) struct RoundedQueries {
    /// `[vectors, dim / GROUP]` of what [`IntegerDots::lay_out`] lays out for all quads.
    pub(crate) factors: Vec<i16>,
    /// The sum of the factors of each group in all places of its quad: `[vectors, dim / GROUP, quads, 4]`.
    pub(crate) sums: Vec<i32>,
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
            let (rows, groups) = (self.rows().next_multiple_of(D::QUADS), self.dim / RoundedQueries::GROUP);
            let mut rounded = RoundedQueries {
                factors: vec![0; rows * self.dim],
                sums: vec![0; rows * groups * 4],
                scales: vec![0.0; rows * 4],
            };
            for (row, query) in self.values.chunks_exact(self.dim).enumerate() {
                rounded.set::<D>(row / D::QUADS, row % D::QUADS, query);
            }
            rounded
        })
    }
}

impl RoundedQueries {
    /// Values whose factors are summed: a group of ggml's formats.
    pub(crate) const GROUP: usize = 32;

    fn set<D: IntegerDots>(&mut self, vector: usize, quad: usize, query: &[f32]) {
        /// Adding 1.5 · 2²³ rounds to the nearest whole number and leaves it in the lowest bits; the standard library's
        /// rounding is a call a value.
        const ROUND: f32 = 12_582_912.0;
        let largest = query.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let inverse = if largest == 0.0 { 0.0 } else { LARGEST_FACTOR / largest };
        // A query that is not finite gives scores that are not numbers.
        let scale = if query.iter().all(|value| value.is_finite()) { largest / LARGEST_FACTOR } else { f32::NAN };
        self.scales[(vector * D::QUADS + quad) * 4..][..4].fill(scale);
        let groups = query.len() / Self::GROUP;
        let group_factors = D::QUADS * Self::GROUP;
        for (group, values) in query.chunks_exact(Self::GROUP).enumerate() {
            let place = vector * groups + group;
            let mut factors = [0; Self::GROUP];
            for (factor, value) in factors.iter_mut().zip(values) {
                *factor = (value * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
            }
            self.sums[(place * D::QUADS + quad) * 4..][..4].fill(factors.iter().fold(0, |sum, factor| factor.wrapping_add(sum)));
            D::lay_out(quad, &factors, &mut self.factors[place * group_factors..][..group_factors]);
        }
    }
}
