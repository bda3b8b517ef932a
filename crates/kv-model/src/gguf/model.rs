//! A decoder from a file's metadata and tensors.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::SeekFrom;

use kv_core::Geometry;
use kv_kernels::WeightFormat;

use crate::config::{MOST_KEY_VALUES, norm_epsilon};
use crate::gguf::head::read_head;
use crate::gguf::reader::TensorInfo;
use crate::gguf::{Array, File, neutral, rope, vocabulary};
use crate::{Decoder, LoadError, LoadOptions, Model, ModelConfig, ReadSeek, TensorSource, Weights, relatives};

/// Builds the model in a GGUF file.
///
/// # Errors
/// [`LoadError`] names the key or tensor that is missing or impossible.
pub fn load(file: &mut dyn ReadSeek, options: LoadOptions<'_>) -> Result<Model, LoadError> {
    let (head, file_len) = read_head(file)?;
    let Known { parsed, architecture, config, read } = Known::of(file, &head, file_len)?;
    let tokenizer = vocabulary::tokenizer(&parsed)?;
    let text_notes = vocabulary::notes(&parsed);
    let mut source = Source { bytes: file, file: &parsed, architecture, geometry: &config.geometry, read };
    let weights = Weights::load(&config, &mut source, options)?;
    source.check_unread()?;
    Ok(Model { decoder: Decoder::new(config, weights), tokenizer, text_notes })
}

/// The hyperparameters of the model in a GGUF file, and the bytes of all its tensors. No matrix is read.
///
/// # Errors
/// [`LoadError`] names the key that is missing or impossible.
pub fn describe(file: &mut dyn ReadSeek) -> Result<(ModelConfig, usize), LoadError> {
    let (head, file_len) = read_head(file)?;
    let Known { parsed, config, .. } = Known::of(file, &head, file_len)?;
    let tensors = parsed.tensor_names().filter_map(|name| parsed.tensor(name));
    Ok((config, tensors.map(|tensor| tensor.len).fold(0, usize::saturating_add)))
}

/// What the head of a file says of its network.
struct Known<'a> {
    parsed: File<'a>,
    architecture: Architecture,
    config: ModelConfig,
    /// The tensors that the hyperparameters took.
    read: BTreeSet<String>,
}

impl<'a> Known<'a> {
    fn of(file: &mut dyn ReadSeek, head: &'a [u8], file_len: u64) -> Result<Known<'a>, LoadError> {
        let (parsed, table) = File::parse_metadata(head, file_len)?;
        let architecture = Architecture::of(&parsed)?;
        neutral::check(&parsed, architecture.prefix())?;
        let parsed = parsed.with_tensors(table)?;
        let (factors, read) = match (architecture, parsed.tensor(rope::FREQUENCY_FACTORS)) {
            (Architecture::Llama, Some(factors)) => (Some(decoded(file, factors)?), BTreeSet::from([rope::FREQUENCY_FACTORS.to_owned()])),
            _ => (None, BTreeSet::new()),
        };
        let config = config(&parsed, architecture, factors)?;
        config.check()?;
        Ok(Known { parsed, architecture, config, read })
    }
}

/// The factors of the frequencies, one for each plane of a key.
fn decoded(file: &mut dyn ReadSeek, tensor: &TensorInfo) -> Result<Vec<f32>, LoadError> {
    let [planes @ 0..=MOST_KEY_VALUES] = tensor.shape[..] else {
        let reason = format!("has shape {:?}, which is not one factor for each plane of a key", tensor.shape);
        return Err(LoadError::tensor(rope::FREQUENCY_FACTORS, reason));
    };
    let mut values = vec![0.0; planes];
    let mut bytes = vec![0; tensor.len];
    read_at(file, rope::FREQUENCY_FACTORS, tensor.start, &mut bytes)?;
    tensor.format.decode(&bytes, &mut values);
    Ok(values)
}

fn read_at(file: &mut dyn ReadSeek, name: &str, start: u64, bytes: &mut [u8]) -> Result<(), LoadError> {
    let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(bytes));
    read.map_err(|source| LoadError::read(format!("the tensor `{name}`"), source))
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

fn config(file: &File<'_>, architecture: Architecture, factors: Option<Vec<f32>>) -> Result<ModelConfig, LoadError> {
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
        rope: rope::rope(file, architecture, key_dim, factors)?,
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
    bytes: &'a mut dyn ReadSeek,
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

    fn format(&self, name: &str, shape: &[usize]) -> Result<WeightFormat, LoadError> {
        let stored_name = gguf_name(name);
        let tensor = self.file.tensor(&stored_name).ok_or_else(|| LoadError::tensor(stored_name.as_ref(), "is missing"))?;
        if tensor.shape != shape {
            return Err(LoadError::tensor(stored_name.as_ref(), format!("has shape {:?}, expected {shape:?}", tensor.shape)));
        }
        Ok(tensor.format)
    }

    fn read(&mut self, name: &str, shape: &[usize], bytes: &mut [u8]) -> Result<(), LoadError> {
        let stored_name = gguf_name(name);
        let tensor = self.file.tensor(&stored_name).ok_or_else(|| LoadError::tensor(stored_name.as_ref(), "is missing"))?;
        read_at(self.bytes, &stored_name, tensor.start, bytes)?;
        let heads = match () {
            () if self.architecture != Architecture::Llama => None,
            () if name.contains("self_attn.q_proj.") => Some(self.geometry.heads),
            () if name.contains("self_attn.k_proj.") => Some(self.geometry.kv_heads),
            () => None,
        };
        if let Some(heads) = heads {
            let rows = shape[0];
            if !bytes.len().is_multiple_of(rows) {
                return Err(LoadError::tensor(
                    stored_name,
                    format!("is in {}: the rows of its heads cannot be reordered; in F32, F16 or BF16 they can", tensor.format),
                ));
            }
            unpermute(bytes, heads, rows);
        }
        self.read.insert(stored_name.into_owned());
        Ok(())
    }
}

/// llama.cpp's converter reorders the rows of each head so that the two values of a rotation plane are
/// neighbours (`LlamaModel.permute`): row `2i + j` there is row `j · half + i` in the checkpoint. Rows are moved whole, in
/// their encoding.
fn unpermute(bytes: &mut [u8], heads: usize, rows: usize) {
    let row_bytes = bytes.len() / rows;
    let head_rows = rows / heads;
    let half = head_rows / 2;
    let mut stored = vec![0; head_rows * row_bytes];
    for head in bytes.chunks_exact_mut(head_rows * row_bytes) {
        stored.copy_from_slice(head);
        for (row, bytes) in head.chunks_exact_mut(row_bytes).enumerate() {
            let from = 2 * (row % half) + row / half;
            bytes.copy_from_slice(&stored[from * row_bytes..][..row_bytes]);
        }
    }
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
