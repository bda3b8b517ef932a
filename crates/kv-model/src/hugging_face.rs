//! Models from a Hugging Face directory: `config.json`, one or several safetensors files, `tokenizer.json`,
//! `generation_config.json`.
//!
//! Llama-style and Qwen2-style checkpoints are understood; the directory's files are handed over as bytes.

use kv_core::{Geometry, Rope};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::config::MOST_KEY_VALUES;
use crate::end_ids::{self, EndIds};
use crate::{Decoder, LoadError, Model, ModelConfig, TensorSource, TextTokenizer, Weights};

/// The contents of a model directory.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    /// `config.json`
    pub config: &'a str,
    /// `generation_config.json`, if there is one.
    pub generation_config: Option<&'a str>,
    /// `tokenizer.json`, if there is one; without it, the model runs on ids and refuses text.
    pub tokenizer: Option<&'a str>,
    /// `model.safetensors`, or every shard, with its name.
    pub shards: &'a [(String, Vec<u8>)],
}

/// The part of `config.json` that a decoder needs.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    vocab_size: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeScaling>,
    /// Where transformers 5 writes both of the above.
    rope_parameters: Option<RopeScaling>,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    eos_token_id: EndIds,
}

#[derive(Debug, Clone, Deserialize)]
struct RopeScaling {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// Builds the model in a directory.
///
/// # Errors
/// [`LoadError`] names the file, key or tensor that is missing or impossible.
pub fn load(directory: Directory<'_>) -> Result<Model, LoadError> {
    let parsed: Config =
        serde_json::from_str(directory.config).map_err(|error| LoadError::File { format: "config.json", reason: error.to_string() })?;
    let config = model_config(&parsed)?;
    config.check()?;
    let ends = end_ids::union(&parsed.eos_token_id, directory.generation_config)?;
    let tokenizer = directory.tokenizer.map_or(Ok(TextTokenizer::missing()), TextTokenizer::from_json)?.ended_by(ends);
    let shards = directory
        .shards
        .iter()
        .map(|(name, bytes)| {
            SafeTensors::deserialize(bytes).map_err(|error| LoadError::File { format: "safetensors", reason: format!("`{name}`: {error}") })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut source = Source { shards, tied: parsed.tie_word_embeddings };
    let weights = Weights::load(&config, &mut source)?;
    Ok(Model { decoder: Decoder::new(config, weights), tokenizer })
}

fn model_config(parsed: &Config) -> Result<ModelConfig, LoadError> {
    if !matches!(parsed.model_type.as_str(), "llama" | "qwen2") {
        return Err(LoadError::key("model_type", format!("is `{}`; known are llama and qwen2", parsed.model_type)));
    }
    if parsed.use_sliding_window {
        return Err(LoadError::key("use_sliding_window", "is true, and this decoder attends to everything its cache holds"));
    }
    let heads = parsed.num_attention_heads;
    if heads == 0 {
        return Err(LoadError::key("num_attention_heads", "is 0"));
    }
    let head_dim = parsed.head_dim.unwrap_or(parsed.hidden_size / heads);
    if head_dim > MOST_KEY_VALUES || !head_dim.is_multiple_of(2) {
        return Err(LoadError::key("head_dim", format!("is {head_dim}, not an even number up to {MOST_KEY_VALUES}")));
    }
    let geometry = Geometry {
        layers: parsed.num_hidden_layers,
        heads,
        kv_heads: parsed.num_key_value_heads.unwrap_or(heads),
        key_dim: head_dim,
        value_dim: head_dim,
        rope: rope(parsed, head_dim)?,
        context: parsed.max_position_embeddings,
    };
    Ok(ModelConfig {
        geometry,
        hidden: parsed.hidden_size,
        intermediate: parsed.intermediate_size,
        vocabulary: parsed.vocab_size,
        norm_epsilon: parsed.rms_norm_eps,
    })
}

fn rope(parsed: &Config, head_dim: usize) -> Result<Rope, LoadError> {
    let scaling = parsed.rope_scaling.clone().or(parsed.rope_parameters.clone());
    let theta = parsed.rope_theta.or(scaling.as_ref().and_then(|scaling| scaling.rope_theta)).unwrap_or(10_000.0);
    if !(theta.is_finite() && theta > 0.0) {
        return Err(LoadError::key("rope_theta", format!("is {theta}, not positive")));
    }
    let plain = Rope::new(theta, head_dim);
    let Some(scaling) = scaling else { return Ok(plain) };
    let required = |name: &str, value: Option<f64>| {
        value.filter(|value| *value > 0.0).ok_or_else(|| LoadError::key(format!("rope_scaling.{name}"), "is missing or not positive"))
    };
    let frequencies = plain.inverse_frequencies().iter();
    match scaling.rope_type.as_deref() {
        None | Some("default") => Ok(plain),
        Some("linear") => {
            let factor = required("factor", scaling.factor)?;
            Ok(Rope::from_inverse_frequencies(frequencies.map(|frequency| frequency / factor).collect()))
        }
        Some("llama3") => {
            let factor = required("factor", scaling.factor)?;
            let low = required("low_freq_factor", scaling.low_freq_factor)?;
            let high = required("high_freq_factor", scaling.high_freq_factor)?;
            let original = required("original_max_position_embeddings", scaling.original_max_position_embeddings)?;
            Ok(Rope::from_inverse_frequencies(frequencies.map(|frequency| llama3(*frequency, factor, low, high, original)).collect()))
        }
        Some(other) => Err(LoadError::key("rope_scaling.rope_type", format!("is `{other}`; known are default, linear and llama3"))),
    }
}

/// Llama 3.1's scaling: planes that turn less than `low` times in the original context are slowed by
/// `factor`, those that turn more than `high` times are kept, and between the two it is interpolated
/// (`_compute_llama3_parameters` in transformers' `modeling_rope_utils.py`).
fn llama3(frequency: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let turns = original * frequency / std::f64::consts::TAU;
    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
    (1.0 - kept) * frequency / factor + kept * frequency
}

struct Source<'a> {
    shards: Vec<SafeTensors<'a>>,
    tied: bool,
}

impl TensorSource for Source<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let found = self.shards.iter().find_map(|shard| shard.tensor(name).ok());
        let tensor = found.ok_or_else(|| LoadError::tensor(name, "is in none of the safetensors files"))?;
        if tensor.shape() != shape {
            return Err(LoadError::tensor(name, format!("has shape {:?}, expected {shape:?}", tensor.shape())));
        }
        let halves = |decode: fn([u8; 2]) -> f32| tensor.data().as_chunks::<2>().0.iter().map(|bytes| decode(*bytes)).collect();
        match tensor.dtype() {
            Dtype::F32 => Ok(tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            Dtype::F16 => Ok(halves(|bytes| half::f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => Ok(halves(|bytes| half::bf16::from_le_bytes(bytes).to_f32())),
            other => Err(LoadError::tensor(name, format!("has type {other:?}; known are F32, F16 and BF16"))),
        }
    }

    fn has(&self, name: &str) -> bool {
        // A tied head may be stored as well; the embedding is the one that counts.
        !(self.tied && name == "lm_head.weight") && self.shards.iter().any(|shard| shard.tensor(name).is_ok())
    }
}
