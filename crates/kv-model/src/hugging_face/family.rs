//! The model types that are known, and in what they differ.

use crate::hugging_face::document::Document;
use crate::hugging_face::neutral::{self, FALSE};
use crate::{LoadError, relatives};

/// A model type of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

/// What transformers' config class of a model type assumes where `config.json` says nothing.
pub(super) struct Defaults {
    pub(super) intermediate: usize,
    pub(super) vocabulary: usize,
    /// The number of query heads if there is none.
    pub(super) kv_heads: Option<usize>,
    /// `hidden_size` over the query heads if there is none.
    pub(super) head_dim: Option<usize>,
    pub(super) context: usize,
}

const SUPPORTED: &str = "llama, mistral, qwen2, qwen3";

const ATTENTION_INPUTS: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
const ATTENTION_OUTPUT: &str = "self_attn.o_proj";
const FEED_FORWARD: [&str; 3] = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

impl Family {
    pub(super) fn of(config: &Document) -> Result<Family, LoadError> {
        match config.text("model_type")?.as_deref() {
            Some("llama") => Ok(Family::Llama),
            Some("mistral") => Ok(Family::Mistral),
            Some("qwen2") => Ok(Family::Qwen2),
            Some("qwen3") => Ok(Family::Qwen3),
            Some(other) => Err(config.wrong("model_type", relatives::refusal(other, SUPPORTED))),
            None => Err(config.wrong("model_type", format!("is missing; supported: {SUPPORTED}"))),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    /// From `configuration_llama.py` and so on.
    pub(super) fn defaults(self) -> Defaults {
        let qwen = Defaults { intermediate: 22_016, vocabulary: 151_936, kv_heads: Some(32), head_dim: None, context: 32_768 };
        match self {
            Family::Llama => Defaults { intermediate: 11_008, vocabulary: 32_000, kv_heads: None, head_dim: None, context: 2048 },
            Family::Mistral => Defaults { intermediate: 14_336, vocabulary: 32_000, kv_heads: Some(8), head_dim: None, context: 131_072 },
            Family::Qwen2 => qwen,
            Family::Qwen3 => Defaults { head_dim: Some(128), ..qwen },
        }
    }

    /// Whether every head's queries and keys pass through an RMSNorm before they are rotated.
    pub(super) fn norms_heads(self) -> bool {
        self == Family::Qwen3
    }

    /// The projections of a layer that have a bias. Qwen2 has its biases in the code (`Qwen2Attention`), Mistral has
    /// none, and the others ask keys.
    pub(super) fn biased(self, config: &Document) -> Result<Vec<&'static str>, LoadError> {
        let mut biased = vec![];
        match self {
            Family::Llama | Family::Qwen3 if config.flag("attention_bias")?.unwrap_or(false) => {
                biased.extend(ATTENTION_INPUTS);
                biased.push(ATTENTION_OUTPUT);
            }
            Family::Mistral => neutral::check_keys(config, &[("attention_bias", FALSE)])?,
            Family::Qwen2 => biased.extend(ATTENTION_INPUTS),
            Family::Llama | Family::Qwen3 => {}
        }
        match self {
            Family::Llama if config.flag("mlp_bias")?.unwrap_or(false) => biased.extend(FEED_FORWARD),
            Family::Mistral | Family::Qwen3 => neutral::check_keys(config, &[("mlp_bias", FALSE)])?,
            Family::Llama | Family::Qwen2 => {}
        }
        Ok(biased)
    }

    /// The sliding window that a config asks for. Qwen has one only with `use_sliding_window`, which is refused.
    pub(super) fn window(self, config: &Document) -> Result<Option<usize>, LoadError> {
        let window = config.count("sliding_window")?;
        Ok(match self {
            // No key of Llama's, but transformers' caches obey it.
            Family::Llama => window,
            // `MistralConfig`. `MistralModel` masks by the window whatever `layer_types` says.
            Family::Mistral if !config.names("sliding_window") => Some(4096),
            Family::Mistral => window,
            Family::Qwen2 | Family::Qwen3 => None,
        })
    }
}
