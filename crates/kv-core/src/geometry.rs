//! The shape of a model's attention, as far as a cache needs it.

use serde::{Deserialize, Serialize};

use crate::{ConfigError, Rope};

/// The shape of a token's keys, values and queries.
///
/// Grouped-query, multi-query and latent attention differ only in these numbers: `kv_heads < heads`,
/// `kv_heads == 1`, and `key_dim ≠ value_dim`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Decoder layers.
    pub layers: usize,
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Values per query row and per key row.
    pub key_dim: usize,
    /// Values per value row.
    pub value_dim: usize,
    /// How the model rotates keys and queries.
    pub rope: Rope,
    /// Context length of the model, in tokens.
    pub context: usize,
}

/// A geometry that no model can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// A count is zero.
    #[error("`{name}` is 0")]
    Zero {
        /// The count.
        name: &'static str,
    },
    /// The query heads cannot be divided evenly among the KV heads.
    #[error("{heads} query heads are not a multiple of {kv_heads} KV heads")]
    Heads {
        /// Query heads.
        heads: usize,
        /// KV heads.
        kv_heads: usize,
    },
    /// The cache of one sequence has more bytes than a machine can count.
    #[error("{values} values per token for a context of {context} tokens are more than any memory holds")]
    Size {
        /// Values a token adds to the cache over all layers and query heads, as far as they can be counted.
        values: usize,
        /// Positions the model was made for.
        context: usize,
    },
    /// More values are rotated than a key has.
    #[error("{rotated} values of each key are rotated, but a key has only {key_dim}")]
    Rope {
        /// Rotated values per key.
        rotated: usize,
        /// Values per key.
        key_dim: usize,
    },
}

impl Geometry {
    /// Checks the properties that every cache relies on.
    ///
    /// # Errors
    /// [`GeometryError`] names the first invalid count.
    pub fn check(&self) -> Result<(), GeometryError> {
        let counts = [
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("key_dim", self.key_dim),
            ("value_dim", self.value_dim),
            ("context", self.context),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(GeometryError::Zero { name });
        }
        let Geometry { heads, kv_heads, key_dim, .. } = *self;
        if heads % kv_heads != 0 {
            return Err(GeometryError::Heads { heads, kv_heads });
        }
        if self.rope.rotated() > key_dim {
            return Err(GeometryError::Rope { rotated: self.rope.rotated(), key_dim });
        }
        // In f32, and with as much again in reserve: what every cache's own counting stays below.
        const BYTES: usize = 2 * size_of::<f32>();
        let rows = self.layers.saturating_mul(heads);
        let values = rows.saturating_mul(key_dim.saturating_add(self.value_dim));
        if values.checked_mul(self.context).and_then(|values| values.checked_mul(BYTES)).is_none() {
            return Err(GeometryError::Size { values, context: self.context });
        }
        Ok(())
    }

    /// Checks a parameter that counts tokens to make room for.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if a sequence of this model never has so many.
    pub fn check_tokens(&self, key: &'static str, tokens: usize) -> Result<(), ConfigError> {
        if tokens <= self.context {
            return Ok(());
        }
        Err(ConfigError::value(key, tokens, format!("the model's context is {} tokens, and room for more is never used", self.context)))
    }

    /// Values that each token adds to the cache, over all layers: `layers · kv_heads · (key_dim + value_dim)`.
    pub fn values_per_token(&self) -> usize {
        self.layers * self.kv_heads * (self.key_dim + self.value_dim)
    }
}
