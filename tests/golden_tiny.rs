//! Compares tiny random models with transformers: the same greedy tokens and the same logits, from a Hugging Face folder
//! and from a GGUF file of the same tensors. `golden/make_tiny.py` wrote the models and what transformers computes.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod known_text;

use std::io::Cursor;

use kv_model::{LoadOptions, Model, ReadSeek, gguf, hugging_face};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;
use workspace_tests::chain::Tensors;
use workspace_tests::gguf::{Gguf, permuted};

use known_text::{KnownText, Logits};

/// What transformers computes, in f32.
#[derive(Deserialize)]
struct Expected {
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    logits: Vec<Logits>,
}

/// A model's files.
struct Tiny {
    config: &'static str,
    weights: &'static [u8],
    expected: &'static str,
}

const QWEN3: Tiny = Tiny {
    config: include_str!("golden/tiny-qwen3/config.json"),
    weights: include_bytes!("golden/tiny-qwen3/model.safetensors"),
    expected: include_str!("golden/tiny-qwen3/expected.json"),
};
const MISTRAL: Tiny = Tiny {
    config: include_str!("golden/tiny-mistral/config.json"),
    weights: include_bytes!("golden/tiny-mistral/model.safetensors"),
    expected: include_str!("golden/tiny-mistral/expected.json"),
};

impl Tiny {
    fn folder_model(&self) -> Model {
        let file: Box<dyn ReadSeek> = Box::new(Cursor::new(self.weights));
        let shards = vec![("model.safetensors".to_owned(), file)];
        let directory = hugging_face::Directory { config: self.config, shards, ..Default::default() };
        hugging_face::load(directory, LoadOptions::default()).unwrap()
    }

    fn tensors(&self) -> Tensors {
        let file = SafeTensors::deserialize(self.weights).unwrap();
        let values = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        file.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), values(view.data())))).collect()
    }

    fn config(&self) -> Value {
        serde_json::from_str(self.config).unwrap()
    }

    fn check(&self, model: &Model) {
        let expected: Expected = serde_json::from_str(self.expected).unwrap();
        let context = model.decoder.config().geometry.context;
        assert_eq!(expected.prompt.len() + expected.greedy.len(), context, "the sequence fills the context");
        let Expected { prompt, greedy, logits } = &expected;
        for id in ["naive", "contiguous"] {
            KnownText { prompt, generated: greedy, logits }.check(&model.decoder, (id, ""), 5, "tiny");
        }
    }
}

#[test]
fn qwen3_computes_what_transformers_computes() {
    QWEN3.check(&QWEN3.folder_model());
}

#[test]
fn mistral_computes_what_transformers_computes() {
    MISTRAL.check(&MISTRAL.folder_model());
}

#[test]
fn qwen3_is_the_same_from_gguf() {
    let file = Gguf::described(&QWEN3.config(), QWEN3.tensors(), "qwen3");
    QWEN3.check(&gguf::load(&mut Cursor::new(file.bytes()), LoadOptions::default()).unwrap());
}

/// llama.cpp's converter writes Mistral as a Llama, with the rows of queries and keys in another order.
#[test]
fn mistral_is_the_same_from_gguf() {
    let config = MISTRAL.config();
    let heads = |key: &str| config[key].as_u64().unwrap() as usize;
    let mut tensors = MISTRAL.tensors();
    for (name, (_, values)) in &mut tensors {
        match name {
            _ if name.contains("q_proj") => *values = permuted(values, heads("num_attention_heads"), heads("head_dim")),
            _ if name.contains("k_proj") => *values = permuted(values, heads("num_key_value_heads"), heads("head_dim")),
            _ => {}
        }
    }
    let file = Gguf::described(&config, tensors, "llama").bytes();
    MISTRAL.check(&gguf::load(&mut Cursor::new(file), LoadOptions::default()).unwrap());
}
