//! What `config.json` alone says about a model.

use kv_core::Geometry;

use crate::hugging_face::document::Document;
use crate::hugging_face::hyperparameters::Checkpoint;
use crate::{LoadError, ModelConfig};

/// A model of which only `config.json` is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The hyperparameters.
    pub config: ModelConfig,
    /// The number of weights, with biases, norms, and a head of its own if there is one. It saturates.
    pub weights: usize,
    /// The type in which the weights are stored, as torch calls it: `bfloat16`, for example.
    pub dtype: Option<String>,
}

/// Describes the model in `config` (`config.json`).
///
/// # Errors
/// [`LoadError`] names the key that is missing, or that asks for a network that cannot be loaded.
pub fn describe(config: &str) -> Result<Description, LoadError> {
    let document = Document::parse("config.json", config)?;
    let checkpoint = Checkpoint::of(&document)?;
    // transformers 5 writes the new name.
    let dtype = document.text("dtype")?.or(document.text("torch_dtype")?);
    Ok(Description { weights: checkpoint.weights(), config: checkpoint.config, dtype })
}

impl Checkpoint {
    /// The number of weights. It saturates.
    fn weights(&self) -> usize {
        let ModelConfig { hidden, intermediate, vocabulary, ref geometry, .. } = self.config;
        let Geometry { layers, heads, kv_heads, key_dim, value_dim, .. } = *geometry;
        let outputs = |projection: &str| match projection {
            "self_attn.q_proj" => heads.saturating_mul(key_dim),
            "self_attn.k_proj" => kv_heads.saturating_mul(key_dim),
            "self_attn.v_proj" => kv_heads.saturating_mul(value_dim),
            "mlp.gate_proj" | "mlp.up_proj" => intermediate,
            // Both `o_proj` and `down_proj` lead back to the hidden values.
            _ => hidden,
        };
        let biases = self.biased.iter().map(|projection| outputs(projection)).fold(0, usize::saturating_add);
        let head_norms = if self.family.norms_heads() { key_dim.saturating_mul(2) } else { 0 };
        let beside = layers.saturating_mul(biases.saturating_add(head_norms));
        let head = if self.tied { 0 } else { vocabulary.saturating_mul(hidden) };
        self.config.weights().saturating_add(beside).saturating_add(head)
    }
}
