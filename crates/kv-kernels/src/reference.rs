//! Plain attention in double precision, which every kernel must equal.

use crate::HeadShape;

/// Softmax attention of one query row over the rows it may see.
///
/// `out = Σ softmax(q·kᵢ / √key_dim)ᵢ · vᵢ` (Vaswani et al., arXiv:1706.03762, eq. 1).
///
/// # Shapes
/// - query: `[key_dim]`
/// - keys: rows of `key_dim`
/// - values: as many rows of `value_dim`
/// - returns: `[value_dim]`, all NaN if there are no rows
pub fn attend_one(shape: HeadShape, query: &[f32], keys: &[&[f32]], values: &[&[f32]]) -> Vec<f32> {
    let Softmax { weights, total, .. } = softmax(shape, query, keys);
    (0..shape.value_dim)
        .map(|i| (weights.iter().zip(values).map(|(weight, value)| weight * f64::from(value[i])).sum::<f64>() / total) as f32)
        .collect()
}

/// The attention probabilities of one query row over the rows it may see, and the log-sum-exp of its scores.
///
/// # Shapes
/// - query: `[key_dim]`
/// - keys: rows of `key_dim`
/// - returns: one probability per key
pub fn probabilities(shape: HeadShape, query: &[f32], keys: &[&[f32]]) -> (Vec<f32>, f32) {
    let Softmax { weights, total, largest } = softmax(shape, query, keys);
    (weights.iter().map(|weight| (weight / total) as f32).collect(), (largest + total.ln()) as f32)
}

struct Softmax {
    /// The exponentials of the scores minus the largest score.
    weights: Vec<f64>,
    total: f64,
    largest: f64,
}

fn softmax(shape: HeadShape, query: &[f32], keys: &[&[f32]]) -> Softmax {
    let scale = 1.0 / (shape.key_dim as f64).sqrt();
    let dot = |key: &&[f32]| query.iter().zip(*key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
    let scores: Vec<f64> = keys.iter().map(|key| dot(key) * scale).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total = weights.iter().sum();
    Softmax { weights, total, largest }
}
