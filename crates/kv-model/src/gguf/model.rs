//! A decoder from a file's metadata and tensors.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kv_core::Geometry;

use crate::config::norm_epsilon;
use crate::gguf::{Array, File, decode, neutral, rope, vocabulary};
use crate::{Decoder, LoadError, Model, ModelConfig, TensorSource, Weights, relatives};

/// Builds the model in a GGUF file.
///
/// # Errors
/// [`LoadError`] names the key or tensor that is missing or impossible.
pub fn load(bytes: &[u8]) -> Result<Model, LoadError> {
    let (file, table) = File::parse_metadata(bytes)?;
    let architecture = Architecture::of(&file)?;
    neutral::check(&file, architecture.prefix())?;
    let file = file.with_tensors(table)?;
    let config = config(&file, architecture)?;
    config.check()?;
    let tokenizer = vocabulary::tokenizer(&file)?;
    let text_notes = vocabulary::notes(&file);
    let read = match architecture {
        Architecture::Llama => BTreeSet::from([rope::FREQUENCY_FACTORS.to_owned()]),
        Architecture::Qwen2 | Architecture::Qwen3 => BTreeSet::new(),
    };
    let mut source = Source { file: &file, architecture, geometry: &config.geometry, read };
    let weights = Weights::load(&config, &mut source)?;
    source.check_unread()?;
    Ok(Model { decoder: Decoder::new(config, weights), tokenizer, text_notes })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Query and key rows are permuted for a rotation of neighbouring values. llama.cpp's converter writes Mistral as
    /// this too.
    Llama,
    /// Rows as in the original checkpoint.
    Qwen2,
    /// Rows as in the original checkpoint, and norms of queries and keys.
    Qwen3,
}

const SUPPORTED: &str = "llama, qwen2, qwen3";

impl Architecture {
    fn of(file: &File<'_>) -> Result<Architecture, LoadError> {
        match file.string("general.architecture")? {
            "llama" => Ok(Architecture::Llama),
            "qwen2" => Ok(Architecture::Qwen2),
            "qwen3" => Ok(Architecture::Qwen3),
            other => Err(LoadError::key("general.architecture", relatives::refusal(other, SUPPORTED))),
        }
    }

    pub(super) fn prefix(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
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
        rope: rope::rope(file, architecture, key_dim)?,
        context: count("context_length")?,
    };
    let embedding = file.tensor("token_embd.weight").ok_or_else(|| LoadError::tensor("token_embd.weight", "is missing"))?;
    let vocabulary = embedding.shape[0];
    check_scale(file, architecture, key_dim)?;
    check_window(file, architecture, geometry.context)?;
    check_vocabulary(file, architecture, vocabulary)?;
    let epsilon = key("attention.layer_norm_rms_epsilon");
    let norm_epsilon = norm_epsilon(&epsilon, file.number(&epsilon)?)?;
    Ok(ModelConfig { geometry, hidden, intermediate: count("feed_forward_length")?, vocabulary, norm_epsilon })
}

/// Values by which llama.cpp would multiply scores must be those that this decoder divides by.
fn check_scale(file: &File<'_>, architecture: Architecture, key_dim: usize) -> Result<(), LoadError> {
    let key = format!("{}.attention.scale", architecture.prefix());
    let usual = (key_dim as f64).sqrt().recip();
    match file.value(&key).map(|_| file.number(&key)).transpose()? {
        // 0 is llama.cpp's "not set"; the file's number is an `f32`.
        Some(scale) if scale != 0.0 && (scale - usual).abs() > 1e-6 * usual => {
            Err(LoadError::key(key, format!("is {scale:?}; this decoder scales keys of {key_dim} values by {usual:?}")))
        }
        _ => Ok(()),
    }
}

/// Refuses a window in use: one that is smaller than the context, which would hide tokens. 0 is llama.cpp's "not set".
fn check_window(file: &File<'_>, architecture: Architecture, context: usize) -> Result<(), LoadError> {
    let key = format!("{}.attention.sliding_window", architecture.prefix());
    match file.value(&key).map(|_| file.count(&key)).transpose()? {
        Some(window) if window != 0 && window < context => {
            let reason = format!("is {window}, below the context of {context}");
            Err(LoadError::key(key, format!("{reason}; a window in use is not supported, it must be absent or no smaller")))
        }
        _ => Ok(()),
    }
}

/// Refuses a vocabulary of another size than the embedding's.
fn check_vocabulary(file: &File<'_>, architecture: Architecture, vocabulary: usize) -> Result<(), LoadError> {
    let key = format!("{}.vocab_size", architecture.prefix());
    let declared = file.value(&key).map(|_| file.count(&key)).transpose()?;
    const TOKENS: &str = "tokenizer.ggml.tokens";
    let listed = file.value(TOKENS).map(|_| file.array(TOKENS)).transpose()?.map(Array::len);
    for (key, count) in [(key.as_str(), declared), (TOKENS, listed)] {
        if let Some(count) = count
            && count != vocabulary
        {
            return Err(LoadError::key(key, format!("says {count} tokens, and `token_embd.weight` has {vocabulary}")));
        }
    }
    Ok(())
}

/// The file's tensors under their Hugging Face names and in their layout.
struct Source<'a> {
    file: &'a File<'a>,
    architecture: Architecture,
    geometry: &'a Geometry,
    /// Stored names of what was read.
    read: BTreeSet<String>,
}

impl Source<'_> {
    /// Refuses a tensor that was not read: a network that has it is another one. llama.cpp counts them too
    /// (`done_getting_tensors`).
    fn check_unread(&self) -> Result<(), LoadError> {
        match self.file.tensor_names().find(|name| !self.read.contains(*name)) {
            Some(name) => {
                let architecture = self.architecture.prefix();
                Err(LoadError::tensor(name, format!("is stored, and the architecture `{architecture}` has no place for it")))
            }
            None => Ok(()),
        }
    }
}

impl TensorSource for Source<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let stored_name = gguf_name(name);
        let tensor = self.file.tensor(&stored_name).ok_or_else(|| LoadError::tensor(stored_name.as_ref(), "is missing"))?;
        if tensor.shape != shape {
            return Err(LoadError::tensor(stored_name.as_ref(), format!("has shape {:?}, expected {shape:?}", tensor.shape)));
        }
        let values = decode(tensor);
        self.read.insert(stored_name.into_owned());
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
        if name.ends_with("_norm.weight") {
            return self.architecture == Architecture::Qwen3;
        }
        // llama.cpp's `load_arch_tensors`: a Llama may have any bias but the head's, the others these.
        let attention_input = ["q_proj.bias", "k_proj.bias", "v_proj.bias"].iter().any(|bias| name.ends_with(bias));
        let biased = match self.architecture {
            Architecture::Llama => name != "lm_head.bias",
            Architecture::Qwen2 => attention_input || name == "lm_head.bias",
            Architecture::Qwen3 => attention_input,
        };
        (biased || !name.ends_with(".bias")) && self.file.tensor(&gguf_name(name)).is_some()
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
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
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
