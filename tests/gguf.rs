//! GGUF files for tests, as plain as the format.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::chain::{Chain, Tensors};

/// A metadata value.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A `u32`.
    Count(u32),
    /// An `f32`.
    Number(f32),
    /// A truth value.
    Flag(bool),
    /// A string.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// An array of `i32`.
    Counts(Vec<i32>),
}

/// A file that can be changed before it is written. Its tensors are in `f32`, but for those that are encoded.
#[derive(Debug, Clone)]
pub struct Gguf {
    keys: Vec<(String, Entry)>,
    /// Tensors under their name in the file.
    pub tensors: Tensors,
    /// The type ids and bytes of the tensors of these names, instead of their values.
    encoded: BTreeMap<String, (u32, Vec<u8>)>,
    /// The type id that the file claims for every other tensor.
    pub tensor_type: u32,
}

impl Gguf {
    /// A file without keys, of tensors under their Hugging Face names.
    pub fn new(tensors: Tensors) -> Gguf {
        let tensors = tensors.into_iter().map(|(name, tensor)| (stored_name(&name), tensor)).collect();
        Gguf { keys: vec![], tensors, encoded: BTreeMap::new(), tensor_type: 0 }
    }

    /// A chain as a file of this architecture. Its queries and keys are 0, so that their order does not matter.
    pub fn of(chain: &Chain, architecture: &str) -> Gguf {
        Gguf::described(&chain.config(), chain.tensors(), architecture)
    }

    /// A file of this architecture with what a `config.json` says, and a vocabulary of single characters.
    ///
    /// # Panics
    /// If the config lacks a count or the epsilon.
    pub fn described(config: &Value, tensors: Tensors, architecture: &str) -> Gguf {
        let count = |key: &str| Entry::Count(config[key].as_u64().expect("a count") as u32);
        let number = |value: &Value| Entry::Number(value.as_f64().expect("a number") as f32);
        let vocabulary = config["vocab_size"].as_u64().expect("a count") as u32;
        let tokens = (0..vocabulary).map(|id| char::from_u32('!' as u32 + id).expect("a character").to_string());
        let mut file = Gguf::new(tensors).with("general.architecture", Entry::Text(architecture.into()));
        for (key, value) in [
            ("block_count", count("num_hidden_layers")),
            ("context_length", count("max_position_embeddings")),
            ("embedding_length", count("hidden_size")),
            ("feed_forward_length", count("intermediate_size")),
            ("attention.head_count", count("num_attention_heads")),
            ("attention.head_count_kv", count("num_key_value_heads")),
            ("attention.key_length", count("head_dim")),
            ("attention.value_length", count("head_dim")),
            ("attention.layer_norm_rms_epsilon", number(&config["rms_norm_eps"])),
        ] {
            file = file.with(&format!("{architecture}.{key}"), value);
        }
        if let Some(theta) = config.pointer("/rope_parameters/rope_theta") {
            file = file.with(&format!("{architecture}.rope.freq_base"), number(theta));
        }
        file.with("tokenizer.ggml.model", Entry::Text("gpt2".into()))
            .with("tokenizer.ggml.pre", Entry::Text("gpt2".into()))
            .with("tokenizer.ggml.tokens", Entry::Texts(tokens.collect()))
            .with("tokenizer.ggml.merges", Entry::Texts(vec![]))
    }

    /// Sets a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: Entry) -> Gguf {
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.to_owned(), value));
        self
    }

    /// Adds a tensor of zeros.
    #[must_use]
    pub fn with_zeros(mut self, name: &str, shape: &[usize]) -> Gguf {
        self.tensors.insert(name.to_owned(), (shape.to_vec(), vec![0.0; shape.iter().product()]));
        self
    }

    /// Stores a tensor in an encoding: its ggml type id, and the bytes of as many values as its shape says.
    #[must_use]
    pub fn with_encoded(mut self, name: &str, type_id: u32, bytes: Vec<u8>) -> Gguf {
        self.encoded.insert(name.to_owned(), (type_id, bytes));
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            string(&mut file, key);
            entry(&mut file, value);
        }
        let mut data = vec![];
        for (name, (shape, values)) in &self.tensors {
            string(&mut file, name);
            file.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|extent| file.extend((*extent as u64).to_le_bytes()));
            let (type_id, bytes) = match self.encoded.get(name) {
                Some((type_id, bytes)) => (*type_id, Cow::from(bytes)),
                None => (self.tensor_type, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            };
            file.extend(type_id.to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend_from_slice(&bytes);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(data);
        file
    }
}

/// The values of a matrix of queries or keys, or of its bias, in the order of a file of the architecture `llama`:
/// llama.cpp's `LlamaModel.permute`, which reshapes to (heads, 2, half, inputs) and swaps the middle axes.
pub fn permuted(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let row_len = values.len() / (heads * head_dim);
    let half = head_dim / 2;
    let mut out = vec![0.0; values.len()];
    for head in 0..heads {
        for pair in 0..2 {
            for plane in 0..half {
                let from = (head * head_dim + pair * half + plane) * row_len;
                let to = (head * head_dim + plane * 2 + pair) * row_len;
                out[to..to + row_len].copy_from_slice(&values[from..from + row_len]);
            }
        }
    }
    out
}

fn string(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

fn entry(file: &mut Vec<u8>, value: &Entry) {
    let mut tagged = |kind: u32, bytes: &[u8]| {
        file.extend(kind.to_le_bytes());
        file.extend(bytes);
    };
    match value {
        Entry::Count(count) => tagged(4, &count.to_le_bytes()),
        Entry::Number(number) => tagged(6, &number.to_le_bytes()),
        Entry::Flag(flag) => tagged(7, &[u8::from(*flag)]),
        Entry::Text(text) => {
            tagged(8, &[]);
            string(file, text);
        }
        Entry::Texts(texts) => {
            tagged(9, &8u32.to_le_bytes());
            file.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| string(file, text));
        }
        Entry::Counts(counts) => {
            tagged(9, &5u32.to_le_bytes());
            file.extend((counts.len() as u64).to_le_bytes());
            counts.iter().for_each(|count| file.extend(count.to_le_bytes()));
        }
    }
}

fn stored_name(name: &str) -> String {
    let parts = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
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
    parts.into_iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}
