//! A decoder from a file's metadata and tensors.

use std::borrow::Cow;

use kv_core::{Geometry, Rope};

use crate::config::MOST_KEY_VALUES;
use crate::gguf::{File, decode, vocabulary};
use crate::{Decoder, LoadError, Model, ModelConfig, TensorSource, Weights};

/// Builds the model in a GGUF file.
///
/// # Errors
/// [`LoadError`] names the key or tensor that is missing or impossible.
pub fn load(bytes: &[u8]) -> Result<Model, LoadError> {
    let file = File::parse(bytes)?;
    let architecture = Architecture::of(&file)?;
    let config = config(&file, architecture)?;
    config.check()?;
    let tokenizer = vocabulary::tokenizer(&file)?;
    let mut source = Source { file: &file, architecture, geometry: &config.geometry };
    let weights = Weights::load(&config, &mut source)?;
    Ok(Model { decoder: Decoder::new(config, weights), tokenizer })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Architecture {
    /// Query and key rows are permuted for a rotation of neighbouring values.
    Llama,
    /// Rows as in the original checkpoint.
    Qwen2,
}

impl Architecture {
    fn of(file: &File<'_>) -> Result<Architecture, LoadError> {
        match file.string("general.architecture")? {
            "llama" => Ok(Architecture::Llama),
            "qwen2" => Ok(Architecture::Qwen2),
            other => Err(LoadError::key("general.architecture", format!("is `{other}`; known are llama and qwen2"))),
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
        }
    }
}

fn config(file: &File<'_>, architecture: Architecture) -> Result<ModelConfig, LoadError> {
    let key = |name: &str| format!("{}.{name}", architecture.prefix());
    let count = |name: &str| file.count(&key(name));
    let count_or = |name: &str, default: usize| if file.value(&key(name)).is_some() { count(name) } else { Ok(default) };
    let hidden = count("embedding_length")?;
    let heads = count("attention.head_count")?;
    if heads == 0 {
        return Err(LoadError::key(key("attention.head_count"), "is 0"));
    }
    let key_dim = count_or("attention.key_length", hidden / heads)?;
    let geometry = Geometry {
        layers: count("block_count")?,
        heads,
        kv_heads: count_or("attention.head_count_kv", heads)?,
        key_dim,
        value_dim: count_or("attention.value_length", hidden / heads)?,
        rope: rope(file, architecture, key_dim)?,
        context: count("context_length")?,
    };
    for (name, unsupported) in [("expert_count", "experts"), ("attention.sliding_window", "a sliding window")] {
        if count_or(name, 0)? > 0 {
            return Err(LoadError::key(key(name), format!("asks for {unsupported}, which this decoder does not have")));
        }
    }
    let embedding = file.tensor("token_embd.weight").ok_or_else(|| LoadError::tensor("token_embd.weight", "is missing"))?;
    Ok(ModelConfig {
        geometry,
        hidden,
        intermediate: count("feed_forward_length")?,
        vocabulary: embedding.shape[0],
        norm_epsilon: file.number(&key("attention.layer_norm_rms_epsilon"))?,
    })
}

fn rope(file: &File<'_>, architecture: Architecture, key_dim: usize) -> Result<Rope, LoadError> {
    let key = |name: &str| format!("{}.rope.{name}", architecture.prefix());
    let rotated = if file.value(&key("dimension_count")).is_some() { file.count(&key("dimension_count"))? } else { key_dim };
    if rotated > key_dim.min(MOST_KEY_VALUES) || rotated % 2 != 0 {
        return Err(LoadError::key(key("dimension_count"), format!("is {rotated}, not an even number up to a key's {key_dim} values")));
    }
    if architecture == Architecture::Llama && rotated != key_dim {
        return Err(LoadError::key(
            key("dimension_count"),
            format!("is {rotated}: a partial rotation of {key_dim} values is not supported here"),
        ));
    }
    let theta = if file.value(&key("freq_base")).is_some() { file.number(&key("freq_base"))? } else { 10_000.0 };
    if theta <= 0.0 {
        return Err(LoadError::key(key("freq_base"), format!("is {theta}, not positive")));
    }
    let linear = match file.value(&key("scaling.type")).map(|_| file.string(&key("scaling.type"))).transpose()? {
        None | Some("none") => 1.0,
        Some("linear") => file.number(&key("scaling.factor"))?,
        Some(other) => return Err(LoadError::key(key("scaling.type"), format!("is `{other}`; known are none and linear"))),
    };
    if linear <= 0.0 {
        return Err(LoadError::key(key("scaling.factor"), format!("is {linear}, not positive")));
    }
    let mut frequencies = Rope::new(theta, rotated).inverse_frequencies().to_vec();
    frequencies.iter_mut().for_each(|frequency| *frequency /= linear);
    if let Some(factors) = file.tensor("rope_freqs.weight") {
        // Llama 3.1's scaling, one divisor a plane.
        let factors = decode(factors);
        if factors.len() != frequencies.len() || factors.iter().any(|factor| *factor <= 0.0) {
            return Err(LoadError::tensor("rope_freqs.weight", format!("is not {} positive factors", frequencies.len())));
        }
        frequencies.iter_mut().zip(factors).for_each(|(frequency, factor)| *frequency /= f64::from(factor));
    }
    Ok(Rope::from_inverse_frequencies(frequencies))
}

/// The file's tensors under their Hugging Face names and in their layout.
struct Source<'a> {
    file: &'a File<'a>,
    architecture: Architecture,
    geometry: &'a Geometry,
}

impl TensorSource for Source<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let stored_name = gguf_name(name);
        let tensor = self.file.tensor(&stored_name).ok_or_else(|| LoadError::tensor(stored_name.as_ref(), "is missing"))?;
        if tensor.shape != shape {
            return Err(LoadError::tensor(stored_name.as_ref(), format!("has shape {:?}, expected {shape:?}", tensor.shape)));
        }
        let values = decode(tensor);
        let heads = match () {
            () if self.architecture != Architecture::Llama => None,
            () if name.contains("self_attn.q_proj.") => Some(self.geometry.heads),
            () if name.contains("self_attn.k_proj.") => Some(self.geometry.kv_heads),
            () => None,
        };
        Ok(match heads {
            Some(heads) => unpermute(&values, heads, shape),
            None => values,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.file.tensor(&gguf_name(name)).is_some()
    }
}

/// llama.cpp's converter reorders the rows of each head so that the two values of a rotation plane are
/// neighbours (`LlamaModel.permute`): row `2i + j` there is row `j · half + i` in the checkpoint.
fn unpermute(values: &[f32], heads: usize, shape: &[usize]) -> Vec<f32> {
    let row_len = shape.get(1).copied().unwrap_or(1);
    let head_rows = shape[0] / heads;
    let half = head_rows / 2;
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_rows * row_len) {
        for row in 0..head_rows {
            let stored = 2 * (row % half) + row / half;
            out.extend(&head[stored * row_len..(stored + 1) * row_len]);
        }
    }
    out
}

fn gguf_name(name: &str) -> Cow<'static, str> {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        "lm_head.weight" => return "output.weight".into(),
        "lm_head.bias" => return "output.bias".into(),
        _ => {}
    }
    let parts = [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    let mut stored = name.replacen("model.layers.", "blk.", 1);
    for (theirs, ours) in parts {
        stored = stored.replacen(theirs, ours, 1);
    }
    stored.into()
}
