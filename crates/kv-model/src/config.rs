//! The hyperparameters of a Llama-family decoder.

use kv_core::{Geometry, GeometryError};

use crate::LoadError;

/// Values in a key beyond which a file is taken for damaged: tables are made for each of them.
pub(crate) const MOST_KEY_VALUES: usize = 1 << 16;

/// What the weights do not say.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The attention's shape, which the cache shares.
    pub geometry: Geometry,
    /// Values of a token between layers.
    pub hidden: usize,
    /// Values between the two halves of the feed-forward network.
    pub intermediate: usize,
    /// Token ids.
    pub vocabulary: usize,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f64,
}

impl ModelConfig {
    /// The number of weights, without an untied head, biases, and norms of queries and keys. It saturates.
    pub fn weights(&self) -> usize {
        let Geometry { layers, heads, kv_heads, key_dim, value_dim, .. } = self.geometry;
        // A config may ask for any numbers.
        let matrix = |outputs: usize| self.hidden.saturating_mul(outputs);
        let attention = heads.saturating_add(kv_heads).saturating_mul(key_dim.saturating_add(value_dim));
        let layer = matrix(attention.saturating_add(self.intermediate.saturating_mul(3)).saturating_add(2));
        layers.saturating_mul(layer).saturating_add(matrix(self.vocabulary.saturating_add(1)))
    }

    /// The least bytes of the activations while a step runs `tokens` tokens of one sequence: the hidden values twice, and
    /// both halves of the gated feed-forward network.
    pub fn step_bytes(&self, tokens: usize) -> usize {
        let values = (self.hidden.saturating_add(self.intermediate)).saturating_mul(2);
        tokens.saturating_mul(values).saturating_mul(size_of::<f32>())
    }

    /// Checks what the decoder relies on.
    ///
    /// # Errors
    /// [`GeometryError`] names the first count that is impossible.
    pub fn check(&self) -> Result<(), GeometryError> {
        let counts = [("hidden", self.hidden), ("intermediate", self.intermediate), ("vocabulary", self.vocabulary)];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => Err(GeometryError::Zero { name }),
            None => self.geometry.check(),
        }
    }
}

/// The epsilon of RMSNorm that a file's `key` gives.
pub(crate) fn norm_epsilon(key: &str, value: f64) -> Result<f64, LoadError> {
    match value {
        0.0..=1.0 => Ok(value),
        _ => Err(LoadError::key(key, format!("is {value:?}, not between 0 and 1 (most models have 1e-5 or 1e-6)"))),
    }
}
