//! The queries of a tile, in the layout of each scoring kernel.

use std::cell::OnceCell;

use crate::factors::{Normalised, SIXTEEN, normalise};
use crate::lanes::{IntegerDots, Kernel, Lanes};

/// Up to this number of query rows, keys and values are decoded in registers. With more, it is faster to decode a
/// block once, with its keys transposed, into scratch that stays in the CPU cache.
pub(crate) const FEW_ROWS: usize = 16;

/// Scaled query rows.
#[derive(Debug)]
pub(crate) struct Queries {
    /// `[rows, dim]`
    pub(crate) values: Vec<f32>,
    pub(crate) dim: usize,
    rounded: OnceCell<RoundedQueries>,
    normalised: OnceCell<NormalisedQueries>,
}

/// Queries in the form of [`Normalised`].
#[derive(Debug)]
struct NormalisedQueries {
    values: Vec<f32>,
    worth: Vec<f32>,
}

/// Queries as factors times a scale. The factors are 16-bit integers relative to the largest value of each query.
///
/// Queries that pad the last vector are 0, and so are groups that pad the last step.
#[derive(Debug)]
pub(crate) struct RoundedQueries {
    /// `[steps, vectors]` blocks, each laid out by [`IntegerDots::lay_out`] for all quads. A step is the groups that are
    /// multiplied together.
    pub(crate) factors: Vec<i16>,
    /// The sum of the factors of each group, repeated in its quad: `[steps, vectors, quads, 4]`.
    pub(crate) sums: Vec<f32>,
    /// The value of a factor of 1: `[vectors, quads, 4]`.
    pub(crate) scales: Vec<f32>,
}

impl Queries {
    /// # Shapes
    /// - values: `[rows, dim]`
    pub(crate) fn new(dim: usize, values: Vec<f32>) -> Queries {
        Queries { values, dim, rounded: OnceCell::new(), normalised: OnceCell::new() }
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// The rounded queries.
    pub(crate) fn rounded<D: IntegerDots>(&self, dots: D) -> &RoundedQueries {
        self.rounded.get_or_init(|| {
            let vectors = self.rows().div_ceil(D::ROWS);
            let places = vectors * (self.dim / RoundedQueries::GROUP).div_ceil(D::GROUPS);
            let mut rounded = RoundedQueries {
                factors: vec![0; places * D::STEP_FACTORS],
                sums: vec![0.0; places * D::QUADS * 4],
                scales: vec![0.0; vectors * D::QUADS * 4],
            };
            let Normalised { values, stride, worth } = self.normalised(dots.lanes(), 0);
            for (row, (query, worth)) in values.chunks_exact(stride).zip(worth).enumerate() {
                rounded.set::<D>(row, &query[..self.dim], *worth);
            }
            rounded
        })
    }

    /// Query rows from `first_row` on, to be multiplied by scales. A row that is not finite gives NaN scores.
    pub(crate) fn normalised<L: Lanes>(&self, lanes: L, first_row: usize) -> Normalised<'_> {
        let stride = self.dim.next_multiple_of(SIXTEEN);
        let all = self.normalised.get_or_init(|| {
            let (values, worth) = (vec![0.0; self.rows() * stride], vec![0.0; self.rows()]);
            lanes.run(Normalise { queries: self, all: NormalisedQueries { values, worth } })
        });
        Normalised { values: &all.values[first_row * stride..], stride, worth: &all.worth[first_row..] }
    }
}

struct Normalise<'a> {
    queries: &'a Queries,
    all: NormalisedQueries,
}

impl Kernel for Normalise<'_> {
    type Output = NormalisedQueries;

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) -> NormalisedQueries {
        let dim = self.queries.dim;
        let rows = self.queries.values.chunks_exact(dim).zip(self.all.values.chunks_exact_mut(dim.next_multiple_of(SIXTEEN)));
        for ((query, values), worth) in rows.zip(&mut self.all.worth) {
            let is_finite = query.iter().all(|value| value.is_finite());
            *worth = if is_finite { normalise(lanes, query, values) } else { f32::NAN };
        }
        self.all
    }
}

impl RoundedQueries {
    /// Values whose factors are summed: a group of ggml's formats.
    pub(crate) const GROUP: usize = 32;

    /// Rounds a normalized query.
    fn set<D: IntegerDots>(&mut self, row: usize, query: &[f32], worth: f32) {
        /// Adding 1.5 · 2²³ rounds to the nearest integer, which is then in the lowest bits. The standard library's rounding is
        /// one call per value.
        const ROUND: f32 = 12_582_912.0;
        self.scales[row * D::GROUPS * 4..][..D::GROUPS * 4].fill(worth);
        let (vectors, first_quad) = (self.scales.len() / (D::QUADS * 4), row % D::ROWS * D::GROUPS);
        for (group, values) in query.chunks_exact(Self::GROUP).enumerate() {
            let (place, quad) = (group / D::GROUPS * vectors + row / D::ROWS, first_quad + group % D::GROUPS);
            let mut factors = [0; Self::GROUP];
            for (factor, value) in factors.iter_mut().zip(values) {
                *factor = (value + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
            }
            // Each is at most `LARGEST_FACTOR`, so the sum of a group is exact.
            self.sums[(place * D::QUADS + quad) * 4..][..4].fill(factors.iter().fold(0, |sum, factor| factor.wrapping_add(sum)) as f32);
            D::lay_out(quad, &factors, &mut self.factors[place * D::STEP_FACTORS..][..D::STEP_FACTORS]);
        }
    }
}
