//! Rotary position embedding, as data.

/// The rotation of keys and queries by position (RoFormer, arXiv:2104.09864).
///
/// Position `p` turns plane `i` by `p · inverse_frequencies[i]` radians. Planes pair value `i` with value
/// `i + planes` (the "rotate half" layout); values past `2 · planes` are not turned. Scaled variants differ
/// only in their frequencies.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    inverse_frequencies: Vec<f64>,
}

impl Rope {
    /// The plain rotation of `rotated` values with base `theta`: `theta^(−2i / rotated)` for plane `i`.
    pub fn new(theta: f64, rotated: usize) -> Rope {
        let planes = rotated / 2;
        Rope::from_inverse_frequencies((0..planes).map(|i| theta.powf(-2.0 * i as f64 / rotated as f64)).collect())
    }

    /// A rotation with these frequencies, in radians a position.
    pub fn from_inverse_frequencies(inverse_frequencies: Vec<f64>) -> Rope {
        Rope { inverse_frequencies }
    }

    /// Radians a position, one a plane.
    pub fn inverse_frequencies(&self) -> &[f64] {
        &self.inverse_frequencies
    }

    /// Values of a key that are turned.
    pub fn rotated(&self) -> usize {
        2 * self.inverse_frequencies.len()
    }

    /// Sine and cosine of each plane's angle for a row that is moved by `positions` (backwards if negative).
    pub fn turns(&self, positions: i64) -> Vec<(f32, f32)> {
        let turn = |frequency: &f64| (positions as f64 * frequency).sin_cos();
        self.inverse_frequencies.iter().map(turn).map(|(sin, cos)| (sin as f32, cos as f32)).collect()
    }
}
