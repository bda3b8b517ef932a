//! The loaders: one model in both formats gives the same logits, and no file makes them panic.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io::Cursor;

use kv_core::{KvCache, Registry};
use kv_model::{Fresh, LoadError, LoadOptions, Model, ReadSeek, Sequence, StepInput, gguf, hugging_face};
use proptest::prelude::*;
use workspace_tests::chain::{Tensors, safetensors_file};
use workspace_tests::gguf::{Entry, Gguf, permuted};

const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 8;
const HIDDEN: usize = 32;
const INTERMEDIATE: usize = 64;
const VOCABULARY: usize = 40;

/// The projections with a bias: none, Qwen2's, or those of a Llama with `attention_bias`.
const UNBIASED: &[&str] = &[];
const QWEN2: &[&str] = &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
const ATTENTION: &[&str] = &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];

/// A model's tensors by their Hugging Face name, filled with a fixed pattern.
fn tensors(biased: &[&str]) -> Tensors {
    let mut all = BTreeMap::new();
    let mut add = |name: String, shape: Vec<usize>| {
        let count: usize = shape.iter().product();
        let seed = name.bytes().fold(7u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let value =
            |index: usize| ((seed.wrapping_add(index as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5) * 0.6;
        all.insert(name, (shape, (0..count).map(value).collect()));
    };
    add("model.embed_tokens.weight".into(), vec![VOCABULARY, HIDDEN]);
    add("model.norm.weight".into(), vec![HIDDEN]);
    add("lm_head.weight".into(), vec![VOCABULARY, HIDDEN]);
    for layer in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        for (part, outputs, inputs) in [
            ("self_attn.q_proj", HEADS * HEAD_DIM, HIDDEN),
            ("self_attn.k_proj", KV_HEADS * HEAD_DIM, HIDDEN),
            ("self_attn.v_proj", KV_HEADS * HEAD_DIM, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HEADS * HEAD_DIM),
            ("mlp.gate_proj", INTERMEDIATE, HIDDEN),
            ("mlp.up_proj", INTERMEDIATE, HIDDEN),
            ("mlp.down_proj", HIDDEN, INTERMEDIATE),
        ] {
            add(name(&format!("{part}.weight")), vec![outputs, inputs]);
            if biased.contains(&part) {
                add(name(&format!("{part}.bias")), vec![outputs]);
            }
        }
        add(name("input_layernorm.weight"), vec![HIDDEN]);
        add(name("post_attention_layernorm.weight"), vec![HIDDEN]);
    }
    all
}

fn gguf_file(architecture: &str, tensors: &Tensors) -> Vec<u8> {
    let stored = tensors.iter().map(|(name, (shape, values))| {
        let values = match name {
            _ if architecture != "llama" => values.clone(),
            _ if name.contains("q_proj") => permuted(values, HEADS, HEAD_DIM),
            _ if name.contains("k_proj") => permuted(values, KV_HEADS, HEAD_DIM),
            _ => values.clone(),
        };
        (name.clone(), (shape.clone(), values))
    });
    let mut file = Gguf::new(stored.collect()).with("general.architecture", Entry::Text(architecture.into()));
    for (name, count) in [
        ("block_count", LAYERS),
        ("context_length", 64),
        ("embedding_length", HIDDEN),
        ("feed_forward_length", INTERMEDIATE),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
    ] {
        file = file.with(&format!("{architecture}.{name}"), Entry::Count(count as u32));
    }
    let tokens = (0..VOCABULARY - 1).map(|id| char::from(b'!' + id as u8).to_string()).chain(["!\"".into()]);
    file.with(&format!("{architecture}.rope.freq_base"), Entry::Number(5000.0))
        .with(&format!("{architecture}.attention.layer_norm_rms_epsilon"), Entry::Number(1e-5))
        .with("tokenizer.ggml.model", Entry::Text("gpt2".into()))
        .with("tokenizer.ggml.pre", Entry::Text("gpt2".into()))
        .with("tokenizer.ggml.tokens", Entry::Texts(tokens.collect()))
        .with("tokenizer.ggml.merges", Entry::Texts(vec!["! \"".into()]))
        .with("tokenizer.ggml.eos_token_id", Entry::Count(3))
        .bytes()
}

fn load_gguf(bytes: &[u8]) -> Result<Model, LoadError> {
    gguf::load(&mut Cursor::new(bytes), LoadOptions::default())
}

/// Every second tensor.
fn shard(tensors: &Tensors, remainder: usize) -> Vec<u8> {
    let kept = tensors.iter().enumerate().filter(|(index, _)| index % 2 == remainder);
    safetensors_file(&kept.map(|(_, (name, tensor))| (name.clone(), tensor.clone())).collect())
}

fn hugging_face_model(model_type: &str, tensors: &Tensors) -> Model {
    let attention_bias = tensors.contains_key("model.layers.0.self_attn.o_proj.bias");
    let config = format!(
        r#"{{"model_type": "{model_type}", "hidden_size": {HIDDEN}, "intermediate_size": {INTERMEDIATE}, "num_hidden_layers": {LAYERS},
            "num_attention_heads": {HEADS}, "num_key_value_heads": {KV_HEADS}, "max_position_embeddings": 64, "vocab_size": {VOCABULARY},
            "rms_norm_eps": 1e-5, "rope_theta": 5000.0, "attention_bias": {attention_bias}, "eos_token_id": [3]}}"#
    );
    let file = |remainder| Box::new(Cursor::new(shard(tensors, remainder))) as Box<dyn ReadSeek>;
    let shards = vec![("a".to_owned(), file(0)), ("b".to_owned(), file(1))];
    hugging_face::load(hugging_face::Directory { config: &config, shards, ..Default::default() }, LoadOptions::default()).unwrap()
}

fn logits(model: &Model) -> Vec<f32> {
    let registry = Registry::new().with::<kv_contiguous::Contiguous>();
    let mut cache: Box<dyn KvCache> =
        registry.get("contiguous").unwrap().build(&Default::default(), &model.decoder.config().geometry).unwrap();
    let mut sequence = Sequence::open(cache.as_mut()).unwrap();
    model
        .decoder
        .step(cache.as_mut(), &mut [StepInput { sequence: &mut sequence, fresh: Fresh::Tokens(&[1, 5, 3, 30, 7]) }])
        .unwrap()
        .remove(0)
}

#[test]
fn a_model_gives_the_same_logits_from_both_formats() {
    for (architecture, biased) in [("llama", UNBIASED), ("llama", ATTENTION), ("qwen2", QWEN2)] {
        let tensors = tensors(biased);
        let from_gguf = logits(&load_gguf(&gguf_file(architecture, &tensors)).unwrap());
        let from_safetensors = logits(&hugging_face_model(architecture, &tensors));
        assert!(from_gguf.iter().any(|logit| logit.abs() > 1e-3));
        for (a, b) in from_gguf.iter().zip(&from_safetensors) {
            assert!((a - b).abs() < 1e-5, "{architecture}: {a} and {b}");
        }
    }
}

#[test]
fn the_tokenizer_of_a_file_merges_and_ends() {
    let model = load_gguf(&gguf_file("llama", &tensors(UNBIASED))).unwrap();
    assert_eq!(model.tokenizer.encode("!\"#").unwrap(), [39, 2]);
    assert!(model.tokenizer.is_end(3) && !model.tokenizer.is_end(4));
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let file = gguf_file("llama", &tensors(UNBIASED));
    for len in (0..4000).chain((4000..file.len()).step_by(997)) {
        assert!(load_gguf(&file[..len]).is_err(), "cut to {len} bytes");
    }
}

/// Every missing or wrong key and tensor is named.
#[test]
fn what_is_missing_is_named() {
    let mut tensors = tensors(UNBIASED);
    tensors.remove("model.layers.1.mlp.up_proj.weight");
    let message = load_gguf(&gguf_file("llama", &tensors)).unwrap_err().to_string();
    assert_eq!(message, "tensor `blk.1.ffn_up.weight` is missing");
    tensors.insert("model.layers.1.mlp.up_proj.weight".into(), (vec![HIDDEN, INTERMEDIATE], vec![0.0; HIDDEN * INTERMEDIATE]));
    let message = load_gguf(&gguf_file("llama", &tensors)).unwrap_err().to_string();
    assert_eq!(message, "tensor `blk.1.ffn_up.weight` has shape [32, 64], expected [64, 32]");
    let message = load_gguf(&gguf_file("gptneox", &tensors)).unwrap_err().to_string();
    assert_eq!(message, "key `general.architecture` is `gptneox`; supported: llama, qwen2, qwen3");
}

/// A header that promises 2⁶⁰ of something, after which the file ends.
#[test]
fn huge_counts_are_refused_without_allocating() {
    let file = gguf_file("llama", &tensors(UNBIASED));
    for at in [8, 16, 24] {
        let mut hostile = file.clone();
        hostile[at..at + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(load_gguf(&hostile).is_err(), "the count at byte {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Changed bytes are an error or another model, never a panic.
    #[test]
    fn changed_bytes_do_not_panic(changes in prop::collection::vec((0usize..6000, any::<u8>()), 1..8)) {
        let mut file = gguf_file("llama", &tensors(UNBIASED));
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] = byte;
        }
        let _ = load_gguf(&file);
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = load_gguf(&bytes);
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(bytes);
        let _ = load_gguf(&file);
    }
}
