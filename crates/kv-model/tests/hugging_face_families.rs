//! What Mistral and Qwen3 have of their own, and models that are refused by their type.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;

use kv_model::{LoadError, LoadOptions, Model, ReadSeek, hugging_face};
use serde_json::{Value, json};
use workspace_tests::chain::{Chain, Tensors, safetensors_file};

const VOCABULARY: usize = 24;

fn chain() -> Chain {
    Chain::new(VOCABULARY).then(&[1, 2, 3])
}

/// The chain's config with these values. Unlike in the tests of keys, null stays.
fn config(changes: Value) -> Value {
    let mut config = chain().config();
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

fn without(mut config: Value, keys: &[&str]) -> Value {
    config.as_object_mut().unwrap().retain(|key, _| !keys.contains(&key.as_str()));
    config
}

fn load(config: &Value, tensors: &Tensors) -> Result<Model, LoadError> {
    let file: Box<dyn ReadSeek> = Box::new(Cursor::new(safetensors_file(tensors)));
    let config = config.to_string();
    let directory = hugging_face::Directory { config: &config, shards: vec![("model.safetensors".into(), file)], ..Default::default() };
    hugging_face::load(directory, LoadOptions::default())
}

fn with_config(changes: Value) -> Result<Model, LoadError> {
    load(&config(changes), &chain().tensors())
}

fn refusal(result: Result<Model, LoadError>) -> String {
    result.unwrap_err().to_string()
}

/// The chain with heads of another number and size.
fn with_heads(mut tensors: Tensors, heads: usize, head_dim: usize) -> Tensors {
    let values = heads * head_dim;
    for (name, (shape, stored)) in &mut tensors {
        *shape = match name.rsplit('.').nth(1) {
            Some("q_proj" | "k_proj" | "v_proj") => vec![values, VOCABULARY],
            Some("o_proj") => vec![VOCABULARY, values],
            Some("q_norm" | "k_norm") => vec![head_dim],
            _ => continue,
        };
        stored.resize(shape.iter().product(), 0.0);
    }
    tensors
}

#[test]
fn a_relative_is_refused_with_what_the_decoder_lacks() {
    for (name, lacks) in [
        ("mixtral", "a router over experts"),
        ("qwen2_moe", "a router over experts"),
        ("qwen3_moe", "a router over experts"),
        ("gemma", "GELU"),
        ("gemma2", "soft-capped logits"),
        ("gemma3_text", "sliding window"),
        ("phi", "LayerNorm"),
        ("phi3", "LongRoPE"),
        ("phimoe", "LayerNorm"),
        ("ministral", "sliding window"),
        ("ministral3", "YaRN"),
    ] {
        let message = refusal(with_config(json!({ "model_type": name })));
        assert!(message.starts_with(&format!("key `model_type` is `{name}`, for which this decoder lacks ")), "{message}");
        assert!(message.contains(lacks) && message.ends_with("; supported: llama, mistral, qwen2, qwen3"), "{message}");
    }
}

/// The chain's tensors with what a Qwen3 has beside them.
fn qwen3_tensors() -> Tensors {
    let mut tensors = chain().tensors();
    for part in ["q_norm", "k_norm"] {
        tensors.insert(format!("model.layers.0.self_attn.{part}.weight"), (vec![32], vec![1.0; 32]));
    }
    tensors
}

#[test]
fn qwen3_has_norms_of_queries_and_keys() {
    let qwen3 = config(json!({ "model_type": "qwen3" }));
    assert!(load(&qwen3, &qwen3_tensors()).is_ok());
    for part in ["q_norm", "k_norm"] {
        let mut tensors = qwen3_tensors();
        let name = format!("model.layers.0.self_attn.{part}.weight");
        tensors.remove(&name);
        assert!(refusal(load(&qwen3, &tensors)).starts_with(&format!("tensor `{name}` is in none")), "{part}");
    }
    for other in ["llama", "mistral"] {
        let message = refusal(load(&config(json!({ "model_type": other, "sliding_window": 512 })), &qwen3_tensors()));
        assert!(message.ends_with(&format!("k_norm.weight` is stored, and a {other} has no such tensor")), "{message}");
    }
}

#[test]
fn biases_of_qwen3_and_mistral_are_those_of_transformers() {
    let qwen3 = config(json!({ "model_type": "qwen3", "attention_bias": true }));
    let mut tensors = qwen3_tensors();
    assert!(refusal(load(&qwen3, &tensors)).starts_with("tensor `model.layers.0.self_attn.q_proj.bias` is in none"));
    for (part, len) in [("q_proj", 32), ("k_proj", 32), ("v_proj", 32), ("o_proj", VOCABULARY)] {
        tensors.insert(format!("model.layers.0.self_attn.{part}.bias"), (vec![len], vec![0.0; len]));
    }
    assert!(load(&qwen3, &tensors).is_ok());
    let message = refusal(load(&config(json!({ "model_type": "qwen3" })), &tensors));
    assert!(message.ends_with("is stored, and a qwen3 has no such tensor unless `attention_bias` is true"), "{message}");
    for (name, key) in [("qwen3", "mlp_bias"), ("mistral", "mlp_bias"), ("mistral", "attention_bias")] {
        let message = refusal(with_config(json!({ "model_type": name, "sliding_window": 512, key: true })));
        assert!(message.starts_with(&format!("key `{key}` is true, which this decoder cannot do")), "{name}: {message}");
    }
}

#[test]
fn a_window_is_refused_if_it_is_in_use() {
    let mistral = |window: Value| with_config(json!({ "model_type": "mistral", "sliding_window": window }));
    for window in [Value::Null, json!(512), json!(4096)] {
        assert!(mistral(window.clone()).is_ok(), "{window}");
    }
    for window in [0, 511] {
        let message = refusal(mistral(json!(window)));
        let start = format!("key `sliding_window` is {window}, below the context of 512; a window in use is not supported");
        assert!(message.starts_with(&start), "{message}");
    }
    let absent = |context: usize| with_config(json!({ "model_type": "mistral", "max_position_embeddings": context }));
    assert!(absent(4096).is_ok());
    let message = refusal(absent(4097));
    assert!(message.starts_with("key `sliding_window` is missing, which means 4096 in a mistral, below the context of 4097"), "{message}");
    let layers = json!({ "model_type": "mistral", "sliding_window": 8, "layer_types": ["full_attention"] });
    assert!(refusal(with_config(layers)).starts_with("key `sliding_window` is 8, "), "the layers' types do not lift a Mistral's window");
    // Qwen has a window only with a key of its own, which then counts for some layers or none.
    let qwen3 = |turned_on: bool| {
        let changes = json!({ "model_type": "qwen3", "sliding_window": 8, "use_sliding_window": turned_on, "max_window_layers": 0 });
        load(&config(changes), &qwen3_tensors())
    };
    assert!(qwen3(false).is_ok());
    assert!(refusal(qwen3(true)).starts_with("key `use_sliding_window` is true"));
}

#[test]
fn a_head_has_the_size_of_the_model_type() {
    let head_dim = |model_type: &str, changes: Value| {
        let config = without(config(json!({ "model_type": model_type, "sliding_window": 512 })), &["head_dim"]);
        let mut config = config.as_object().unwrap().clone();
        config.extend(changes.as_object().unwrap().clone());
        hugging_face::check(&Value::Object(config).to_string())
    };
    // An odd number is refused with its value, so that no weights are needed.
    for (model_type, changes, found) in [
        ("mistral", json!({ "hidden_size": 33 }), "is 33, "),
        ("mistral", json!({ "hidden_size": 33, "head_dim": null }), "is 33, "),
        ("mistral", json!({ "head_dim": 7 }), "is 7, "),
        ("qwen3", json!({ "head_dim": 7 }), "is 7, "),
        ("qwen3", json!({ "head_dim": null }), "is null; "),
    ] {
        let message = head_dim(model_type, changes).unwrap_err().to_string();
        assert!(message.starts_with(&format!("key `head_dim` {found}")), "{model_type}: {message}");
    }
}

#[test]
fn absent_keys_take_the_defaults_of_the_model_type() {
    let absent = ["rms_norm_eps", "max_position_embeddings"];
    let qwen3 = without(config(json!({ "model_type": "qwen3" })), &[&absent[..], &["head_dim"]].concat());
    let qwen3 = load(&qwen3, &with_heads(qwen3_tensors(), 1, 128)).unwrap().decoder.config().clone();
    assert_eq!((qwen3.norm_epsilon, qwen3.geometry.context, qwen3.geometry.key_dim), (1e-6, 32_768, 128));

    let mistral = config(json!({ "model_type": "mistral", "num_attention_heads": 8, "head_dim": 4, "sliding_window": null }));
    let mut mistral = without(mistral, &[&absent[..], &["num_key_value_heads"]].concat());
    let loaded = load(&mistral, &with_heads(chain().tensors(), 8, 4)).unwrap().decoder.config().clone();
    assert_eq!((loaded.norm_epsilon, loaded.geometry.context, loaded.geometry.kv_heads), (1e-6, 131_072, 8));
    mistral["num_attention_heads"] = json!(4);
    let absent = load(&mistral, &chain().tensors()).unwrap_err();
    assert!(matches!(absent, LoadError::Geometry(_)), "8 KV heads are no divisor of 4 heads: {absent}");
    mistral["num_key_value_heads"] = Value::Null;
    let loaded = load(&mistral, &with_heads(chain().tensors(), 4, 4)).unwrap();
    assert_eq!(loaded.decoder.config().geometry.kv_heads, 4, "null is as many as there are heads");
}
