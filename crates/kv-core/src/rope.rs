//! Rotary position embedding, as data.

use serde::{Deserialize, Serialize};

/// The rotation of keys and queries by position (RoFormer, arXiv:2104.09864).
///
/// Position `p` rotates plane `i` by `p · inverse_frequencies[i]` radians. A plane pairs value `i` with value
/// `i + planes` (the "rotate half" layout). Values past `2 · planes` are not rotated. Scaled variants differ
/// only in their frequencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    inverse_frequencies: Vec<f64>,
}

impl Rope {
    /// The plain rotation of `rotated` values with base `theta`: `theta^(−2i / rotated)` for plane `i`.
    pub fn new(theta: f64, rotated: usize) -> Rope {
        let planes = rotated / 2;
        Rope::from_inverse_frequencies((0..planes).map(|i| theta.powf(-2.0 * i as f64 / rotated as f64)).collect())
    }

    /// A rotation with these frequencies, in radians per position.
    pub fn from_inverse_frequencies(inverse_frequencies: Vec<f64>) -> Rope {
        Rope { inverse_frequencies }
    }

    /// Radians per position, one value per plane.
    pub fn inverse_frequencies(&self) -> &[f64] {
        &self.inverse_frequencies
    }

    /// Number of values of a key that are rotated.
    pub fn rotated(&self) -> usize {
        2 * self.inverse_frequencies.len()
    }

    /// Sine and cosine of each plane's angle for a row that is moved by `positions` (backward if negative).
    pub fn turns(&self, positions: i64) -> Vec<(f32, f32)> {
        let turn = |frequency: &f64| (positions as f64 * frequency).sin_cos();
        self.inverse_frequencies.iter().map(turn).map(|(sin, cos)| (sin as f32, cos as f32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key far out and a query at a distance behind it meet as they would at the beginning.
    #[test]
    fn turns_stay_exact_far_beyond_any_context() {
        let plain = Rope::new(10_000.0, 64);
        let slowed = |factor: f64| plain.inverse_frequencies().iter().map(|frequency| frequency / factor).collect();
        let ropes = [plain.clone(), Rope::new(500_000.0, 128), Rope::from_inverse_frequencies(slowed(8.0))];
        for (rope, context) in ropes.iter().flat_map(|rope| [(rope, 4096), (rope, 131_072)]) {
            for (position, distance) in [4, 100].into_iter().flat_map(|times| [1, 63, context - 1].map(|back| (times * context, back))) {
                let (far, near) = (rope.turns(position), rope.turns(position - distance));
                for (((sin, cos), (other_sin, other_cos)), (wanted_sin, wanted_cos)) in far.iter().zip(near).zip(rope.turns(distance)) {
                    let errors = [sin * other_cos - cos * other_sin - wanted_sin, cos * other_cos + sin * other_sin - wanted_cos];
                    assert!(errors.iter().all(|error| error.abs() < 3e-7), "{distance} before {position}: {errors:?}");
                }
            }
        }
    }
}
