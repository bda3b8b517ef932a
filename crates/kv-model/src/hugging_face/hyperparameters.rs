//! What `config.json` says about the network.

use kv_core::Geometry;

use crate::config::{MOST_KEY_VALUES, norm_epsilon};
use crate::hugging_face::document::Document;
use crate::hugging_face::family::Family;
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

impl Checkpoint {
    /// Reads a config; the model type is judged first, so that the config of another network is refused as that.
    pub(super) fn of(config: &Document) -> Result<Checkpoint, LoadError> {
        let family = Family::of(config)?;
        neutral::check(config)?;
        let defaults = family.defaults();
        let count = |key: &str, default: usize| config.count(key).map(|count| count.unwrap_or(default));
        // The defaults written here are those of all families.
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
        let head_dim = head_dim(config, family, hidden, heads)?;
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

fn head_dim(config: &Document, family: Family, hidden: usize, heads: usize) -> Result<usize, LoadError> {
    let head_dim = match (config.count("head_dim")?, family.defaults().head_dim) {
        (Some(head_dim), _) => head_dim,
        // Unlike the others, `Qwen3Config` computes none.
        (None, Some(_)) if config.names("head_dim") => return Err(config.wrong("head_dim", "is null; it must be a number or absent")),
        (None, Some(default)) => default,
        (None, None) if hidden.is_multiple_of(heads) => hidden / heads,
        (None, None) => {
            return Err(config.wrong("head_dim", format!("is missing, and `hidden_size` {hidden} is not a multiple of {heads} heads")));
        }
    };
    if head_dim > MOST_KEY_VALUES || !head_dim.is_multiple_of(2) {
        return Err(config.wrong("head_dim", format!("is {head_dim}, not an even number up to {MOST_KEY_VALUES}")));
    }
    Ok(head_dim)
}

/// Refuses a window in use. One that is no smaller than the context hides nothing: the query at `q` sees the keys after
/// `q - sliding_window` (`sliding_window_overlay` in masking_utils.py).
fn check_window(config: &Document, family: Family, context: usize) -> Result<(), LoadError> {
    match family.window(config)? {
        Some(window) if window < context => {
            let found = match config.value("sliding_window") {
                Some(_) => format!("is {window}"),
                None => format!("is missing, which means {window} in a {}", family.name()),
            };
            let reason = format!("{found}, below the context of {context}");
            Err(config.wrong("sliding_window", format!("{reason}; a window in use is not supported, it must be null or no smaller")))
        }
        _ => Ok(()),
    }
}
