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
