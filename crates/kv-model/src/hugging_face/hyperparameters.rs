//! What `config.json` says about the network.

use kv_core::Geometry;

use crate::config::{MOST_KEY_VALUES, norm_epsilon};
use crate::hugging_face::document::Document;
use crate::hugging_face::{neutral, rope};
use crate::{LoadError, ModelConfig};

/// A checkpoint's hyperparameters, and which tensors it must have beside the weights of every layer.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) family: Family,
    pub(super) config: ModelConfig,
    /// The head is the embedding, unless it is stored with other values.
    pub(super) tied: bool,
    /// The projections of a layer that have a bias.
    pub(super) biased: Vec<&'static str>,
}

/// What transformers' config class of a model type assumes where `config.json` says nothing.
struct Defaults {
    intermediate: usize,
    vocabulary: usize,
    /// The number of query heads if there is none.
    kv_heads: Option<usize>,
    context: usize,
}

/// The model types that are known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Family {
    Llama,
    Qwen2,
}

const ATTENTION_INPUTS: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
const FEED_FORWARD: [&str; 3] = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

impl Checkpoint {
    /// Reads a config; the model type is judged first, so that the config of another network is refused as that.
    pub(super) fn of(config: &Document) -> Result<Checkpoint, LoadError> {
        let family = Family::of(config)?;
        neutral::check(config)?;
        let defaults = family.defaults();
        let count = |key: &str, default: usize| config.count(key).map(|count| count.unwrap_or(default));
        // The defaults of `LlamaConfig` and `Qwen2Config` (configuration_llama.py, configuration_qwen2.py).
        let hidden = count("hidden_size", 4096)?;
        let heads = count("num_attention_heads", 32)?;
        if heads == 0 {
            return Err(config.wrong("num_attention_heads", "is 0"));
        }
        let kv_heads = match defaults.kv_heads {
            Some(default) if !config.names("num_key_value_heads") => default,
            _ => count("num_key_value_heads", heads)?,
        };
        let context = count("max_position_embeddings", defaults.context)?;
        check_window(config, family, context)?;
        let head_dim = head_dim(config, hidden, heads)?;
        let geometry = Geometry {
            layers: count("num_hidden_layers", 32)?,
            heads,
            kv_heads,
            key_dim: head_dim,
            value_dim: head_dim,
            rope: rope::rope(config, head_dim, context)?,
            context,
        };
        let parsed = ModelConfig {
            geometry,
            hidden,
            intermediate: count("intermediate_size", defaults.intermediate)?,
            vocabulary: count("vocab_size", defaults.vocabulary)?,
            norm_epsilon: norm_epsilon("rms_norm_eps", config.number("rms_norm_eps")?.unwrap_or(1e-6))?,
        };
        parsed.check()?;
        let tied = config.flag("tie_word_embeddings")?.unwrap_or(false);
        Ok(Checkpoint { family, config: parsed, tied, biased: family.biased(config)? })
    }
}

impl Family {
    fn of(config: &Document) -> Result<Family, LoadError> {
        match config.text("model_type")?.as_deref() {
            Some("llama") => Ok(Family::Llama),
            Some("qwen2") => Ok(Family::Qwen2),
            Some(other) => Err(config.wrong("model_type", format!("is `{other}`; supported: llama, qwen2"))),
            None => Err(config.wrong("model_type", "is missing; supported: llama, qwen2")),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
        }
    }

    fn defaults(self) -> Defaults {
        match self {
            Family::Llama => Defaults { intermediate: 11_008, vocabulary: 32_000, kv_heads: None, context: 2048 },
            Family::Qwen2 => Defaults { intermediate: 22_016, vocabulary: 151_936, kv_heads: Some(32), context: 32_768 },
        }
    }

    /// Qwen2 has its biases in the code (`Qwen2Attention`), Llama in two keys.
    fn biased(self, config: &Document) -> Result<Vec<&'static str>, LoadError> {
        let mut biased = vec![];
        match self {
            Family::Qwen2 => biased.extend(ATTENTION_INPUTS),
            Family::Llama => {
                if config.flag("attention_bias")?.unwrap_or(false) {
                    biased.extend(ATTENTION_INPUTS);
                    biased.push("self_attn.o_proj");
                }
                if config.flag("mlp_bias")?.unwrap_or(false) {
                    biased.extend(FEED_FORWARD);
                }
            }
        }
        Ok(biased)
    }
}

fn head_dim(config: &Document, hidden: usize, heads: usize) -> Result<usize, LoadError> {
    let head_dim = match config.count("head_dim")? {
        Some(head_dim) => head_dim,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(config.wrong("head_dim", format!("is missing, and `hidden_size` {hidden} is not a multiple of {heads} heads"))),
    };
    if head_dim > MOST_KEY_VALUES || !head_dim.is_multiple_of(2) {
        return Err(config.wrong("head_dim", format!("is {head_dim}, not an even number up to {MOST_KEY_VALUES}")));
    }
    Ok(head_dim)
}

/// A window that is no smaller than the context hides nothing. Qwen2 names one that only `use_sliding_window` turns on.
fn check_window(config: &Document, family: Family, context: usize) -> Result<(), LoadError> {
    match (family, config.count("sliding_window")?) {
        (Family::Llama, Some(window)) if window < context => {
            let reason = format!("is {window}, below the context of {context}, and this decoder attends to everything its cache holds");
            Err(config.wrong("sliding_window", reason))
        }
        _ => Ok(()),
    }
}
