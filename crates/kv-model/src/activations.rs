//! The values of a step between products with weights, and the elementwise operations on them.

use rayon::prelude::*;

/// Rows of values, one per token: `[rows, width]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Activations {
    values: Vec<f32>,
    width: usize,
}

/// Fewer values than this are not worth another thread.
pub(crate) const WORTH_SHARING: usize = 1 << 15;

impl Activations {
    /// # Panics
    /// If the values are no whole rows.
    pub(crate) fn new(values: Vec<f32>, width: usize) -> Activations {
        assert!(values.len().is_multiple_of(width), "{} values in rows of {width}", values.len());
        Activations { values, width }
    }

    /// Row after row.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Row after row.
    pub(crate) fn into_values(self) -> Vec<f32> {
        self.values
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Some of the rows.
    pub(crate) fn select(&self, rows: impl Iterator<Item = usize>) -> Activations {
        let values = rows.flat_map(|row| &self.values[row * self.width..][..self.width]).copied().collect();
        Activations { values, width: self.width }
    }

    /// Adds values of the same shape.
    pub(crate) fn add(&mut self, other: &Activations) {
        debug_assert_eq!((self.values.len(), self.width), (other.values.len(), other.width));
        for (value, other) in self.values.iter_mut().zip(&other.values) {
            *value += other;
        }
    }

    /// Adds a row to each row.
    pub(crate) fn add_to_rows(&mut self, row: &[f32]) {
        for values in self.values.chunks_exact_mut(self.width) {
            values.iter_mut().zip(row).for_each(|(value, added)| *value += added);
        }
    }

    /// `x · w / √(mean(x²) + ε)` for every `w.len()` values (Zhang and Sennrich, arXiv:1910.07467).
    pub(crate) fn rms_norm(mut self, weight: &[f32], epsilon: f64) -> Activations {
        let norm = |values: &mut [f32]| {
            let scale = (f64::from(sum_of_squares(values)) / values.len() as f64 + epsilon).sqrt().recip() as f32;
            values.iter_mut().zip(weight).for_each(|(value, weight)| *value *= scale * weight);
        };
        if self.values.len() < WORTH_SHARING {
            self.values.chunks_exact_mut(weight.len()).for_each(norm);
        } else {
            self.values.par_chunks_exact_mut(weight.len()).for_each(norm);
        }
        self
    }

    /// SwiGLU's gate (Shazeer, arXiv:2002.05202): `silu(x) · up`, with `silu(x) = x / (1 + e⁻ˣ)`.
    pub(crate) fn gate(mut self, up: &Activations) -> Activations {
        let gate = |(values, up): (&mut [f32], &[f32])| {
            values.iter_mut().zip(up).for_each(|(value, up)| *value = *value / (1.0 + (-*value).exp()) * up);
        };
        if self.values.len() < WORTH_SHARING {
            gate((&mut self.values, &up.values));
        } else {
            self.values.par_chunks_mut(self.width).zip(up.values.par_chunks(self.width)).for_each(gate);
        }
        self
    }
}

/// In eight sums, which the compiler keeps in vectors.
fn sum_of_squares(values: &[f32]) -> f32 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for eight in eights {
        for (sum, value) in sums.iter_mut().zip(eight) {
            *sum += value * value;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, width: usize) -> Activations {
        Activations::new((0..count * width).map(|index| (index * 37 % 101) as f32 / 20.0 - 2.5).collect(), width)
    }

    /// Few rows and many, which are shared between threads.
    const COUNTS: [usize; 3] = [1, 3, 4096];

    #[test]
    fn a_norm_is_that_of_its_definition() {
        for count in COUNTS {
            let (rows, weight) = (rows(count, 11), [0.5, 1.0, 2.0, -1.0, 1.5, 1.0, 1.0, 1.0, 3.0, 1.0, 0.25]);
            let normed = rows.clone().rms_norm(&weight, 1e-5);
            for (normed, row) in normed.values().chunks(11).zip(rows.values().chunks(11)) {
                let mean = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 11.0;
                for ((normed, value), weight) in normed.iter().zip(row).zip(weight) {
                    let expected = f64::from(*value) / (mean + 1e-5).sqrt() * f64::from(weight);
                    assert!((f64::from(*normed) - expected).abs() < 1e-6, "{count} rows: {normed} and {expected}");
                }
            }
        }
    }

    #[test]
    fn a_gate_is_that_of_its_definition() {
        for count in COUNTS {
            let (gates, up) = (rows(count, 11), Activations::new(vec![3.0; count * 11], 11));
            for (gated, value) in gates.clone().gate(&up).values().iter().zip(gates.values()) {
                let expected = 3.0 * f64::from(*value) / (1.0 + (-f64::from(*value)).exp());
                assert!((f64::from(*gated) - expected).abs() < 1e-5, "{count} rows: {gated} and {expected}");
            }
        }
        let extremes = Activations::new(vec![-1e4, 1e4, f32::MIN, f32::MAX], 4).gate(&Activations::new(vec![1.0; 4], 4));
        assert_eq!(extremes.values(), [0.0, 1e4, 0.0, f32::MAX]);
    }
}
