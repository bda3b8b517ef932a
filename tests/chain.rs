//! A model whose text is known exactly: after one token comes always the same other.
//!
//! It is a Llama of one layer. Its embedding is the identity, its attention and feed-forward network add
//! nothing, and its head maps each token to the one after it, so that a test can say what `generate` must write.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

/// Tensors under their Hugging Face names, each with its shape.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Which token follows which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    next: Vec<u32>,
}

/// One head of this many values, which every cache format divides.
const HEAD_DIM: usize = 32;

impl Chain {
    /// A chain of `vocabulary` tokens in which every token repeats itself.
    pub fn new(vocabulary: usize) -> Chain {
        Chain { next: (0..vocabulary as u32).collect() }
    }

    /// Makes each token of `ids` follow the one before it; a token that occurs twice keeps its last follower.
    #[must_use]
    pub fn then(mut self, ids: &[u32]) -> Chain {
        ids.windows(2).for_each(|pair| self.next[pair[0] as usize] = pair[1]);
        self
    }

    /// Token ids.
    pub fn vocabulary(&self) -> usize {
        self.next.len()
    }

    /// The contents of `config.json`, without `eos_token_id`.
    pub fn config(&self) -> Value {
        json!({
            "model_type": "llama",
            "hidden_size": self.vocabulary(),
            "intermediate_size": 1,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": HEAD_DIM,
            "max_position_embeddings": 512,
            "vocab_size": self.vocabulary(),
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
            "tie_word_embeddings": false,
        })
    }

    /// The weights.
    pub fn tensors(&self) -> Tensors {
        let size = self.vocabulary();
        let one_at = |columns: &dyn Fn(usize) -> usize| {
            let mut values = vec![0.0; size * size];
            (0..size).for_each(|token| values[columns(token)] = 1.0);
            values
        };
        let mut tensors = Tensors::new();
        let mut add = |name: &str, shape: &[usize], values: Vec<f32>| tensors.insert(name.to_owned(), (shape.to_vec(), values));
        add("model.embed_tokens.weight", &[size, size], one_at(&|token| token * size + token));
        add("lm_head.weight", &[size, size], one_at(&|token| self.next[token] as usize * size + token));
        add("model.norm.weight", &[size], vec![1.0; size]);
        for (part, outputs, inputs) in [
            ("self_attn.q_proj", HEAD_DIM, size),
            ("self_attn.k_proj", HEAD_DIM, size),
            ("self_attn.v_proj", HEAD_DIM, size),
            ("self_attn.o_proj", size, HEAD_DIM),
            ("mlp.gate_proj", 1, size),
            ("mlp.up_proj", 1, size),
            ("mlp.down_proj", size, 1),
        ] {
            add(&format!("model.layers.0.{part}.weight"), &[outputs, inputs], vec![0.0; outputs * inputs]);
        }
        for part in ["input_layernorm", "post_attention_layernorm"] {
            add(&format!("model.layers.0.{part}.weight"), &[size], vec![1.0; size]);
        }
        tensors
    }

    /// Writes `config.json` and `model.safetensors` into a folder.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn write(&self, folder: &Path) {
        write_json(folder, "config.json", &self.config());
        std::fs::write(folder.join("model.safetensors"), safetensors_file(&self.tensors())).expect("the folder can be written");
    }
}

/// Writes a JSON file into a folder.
///
/// # Panics
/// If the folder cannot be written.
pub fn write_json(folder: &Path, name: &str, value: &Value) {
    std::fs::write(folder.join(name), value.to_string()).expect("the folder can be written");
}

/// A safetensors file in `f32`.
///
/// # Panics
/// If a shape does not fit its values.
pub fn safetensors_file(tensors: &Tensors) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors.values().map(|(_, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, (shape, _)), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many values as the shape says"))
    });
    safetensors::serialize(views, None).expect("tensors can be serialised")
}
