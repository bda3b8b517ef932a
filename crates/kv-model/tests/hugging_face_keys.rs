//! Keys of `config.json`, and tensors, that change the result are honoured or refused.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;

use kv_core::{KvCache, Registry};
use kv_model::{Fresh, LoadError, LoadOptions, Model, ModelError, ReadSeek, Sequence, StepInput, argmax, hugging_face};
use serde_json::{Value, json};
use workspace_tests::chain::{Chain, Tensors, safetensors_file};

const VOCABULARY: usize = 24;

fn chain() -> Chain {
    Chain::new(VOCABULARY).then(&[1, 2, 3])
}

fn load(config: &Value, tensors: &Tensors) -> Result<Model, LoadError> {
    let file: Box<dyn ReadSeek> = Box::new(Cursor::new(safetensors_file(tensors)));
    let config = config.to_string();
    let directory = hugging_face::Directory { config: &config, shards: vec![("model.safetensors".into(), file)], ..Default::default() };
    hugging_face::load(directory, LoadOptions::default())
}

/// The chain's config with other values for some keys; null removes one.
fn config(changes: Value) -> Value {
    let mut config = chain().config();
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => config.as_object_mut().unwrap().remove(key),
            value => config.as_object_mut().unwrap().insert(key.clone(), value.clone()),
        };
    }
    config
}

fn with_config(changes: Value) -> Result<Model, LoadError> {
    load(&config(changes), &chain().tensors())
}

fn refusal(result: Result<Model, LoadError>) -> String {
    result.unwrap_err().to_string()
}

fn frequencies(changes: Value) -> Vec<f64> {
    with_config(changes).unwrap().decoder.config().geometry.rope.inverse_frequencies().to_vec()
}

fn cache(model: &Model) -> Box<dyn KvCache> {
    let registry = Registry::new().with::<kv_contiguous::Contiguous>();
    registry.get("contiguous").unwrap().build(&Default::default(), &model.decoder.config().geometry).unwrap()
}

/// The token that follows `token`.
fn next(model: &Model, token: u32) -> u32 {
    let mut cache = cache(model);
    let mut sequence = Sequence::open(cache.as_mut()).unwrap();
    let logits = model.decoder.step(cache.as_mut(), &mut [StepInput { sequence: &mut sequence, fresh: Fresh::Tokens(&[token]) }]).unwrap();
    argmax(&logits[0])
}

#[test]
fn a_key_that_asks_for_another_network_is_refused_by_its_name() {
    let cases = [
        ("hidden_act", json!("gelu")),
        ("hidden_act", json!("relu")),
        ("hidden_act", json!(["silu"])),
        ("is_causal", json!(false)),
        ("use_sliding_window", json!(true)),
        ("sliding_window", json!(511)),
        ("layer_types", json!(["sliding_attention"])),
        ("attention_chunk_size", json!(128)),
        ("no_rope_layers", json!([0])),
        ("partial_rotary_factor", json!(0.5)),
        ("attention_multiplier", json!(0.1)),
        ("logits_scaling", json!(8.0)),
        ("residual_multiplier", json!(0.22)),
        ("embedding_multiplier", json!(12.0)),
        ("final_logit_softcapping", json!(30.0)),
        ("clip_qkv", json!(8.0)),
        ("llama_4_scaling", json!({ "beta": 0.1 })),
        ("use_qk_norm", json!(true)),
        ("num_local_experts", json!(8)),
        ("rms_norm_eps", json!(-1.0)),
        ("rms_norm_eps", json!(1e308)),
        ("rms_norm_eps", json!("tiny")),
        ("rope_theta", json!(-1.0)),
        ("hidden_size", json!("large")),
        ("hidden_size", json!(1e300)),
        ("tie_word_embeddings", json!("yes")),
    ];
    for (key, value) in cases {
        let message = refusal(with_config(json!({ key: value })));
        assert!(message.starts_with(&format!("key `{key}` ")), "{key} = {value}: {message}");
    }
}

#[test]
fn a_key_that_asks_for_nothing_is_accepted() {
    let cases = [
        ("hidden_act", json!("swish")),
        ("hidden_act", Value::Null),
        ("is_causal", json!(true)),
        ("use_sliding_window", json!(false)),
        ("sliding_window", json!(512)),
        ("layer_types", json!(["full_attention"])),
        ("partial_rotary_factor", json!(1.0)),
        ("logits_scaling", json!(1)),
        ("pretraining_tp", json!(2)),
        ("attention_dropout", json!(0.1)),
        ("rope_scaling", json!({ "rope_type": "default" })),
    ];
    for (key, value) in cases {
        if let Err(error) = with_config(json!({ key: value })) {
            panic!("{key} = {value}: {error}");
        }
    }
    let mut nulls = config(json!({}));
    for key in ["rope_scaling", "head_dim", "quantization_config", "sliding_window", "eos_token_id"] {
        nulls[key] = Value::Null;
    }
    nulls["head_dim"] = json!(32);
    assert!(load(&nulls, &chain().tensors()).is_ok(), "null is absent");
}

#[test]
fn another_model_type_is_named_before_any_missing_field() {
    for name in ["gpt2", "gpt_neox", "cohere", "llava"] {
        let config = json!({ "model_type": name, "n_embd": 768, "text_config": { "hidden_size": 1 }, "hidden_size": "?" });
        assert_eq!(
            refusal(load(&config, &Tensors::new())),
            format!("key `model_type` is `{name}`; supported: llama, mistral, qwen2, qwen3")
        );
    }
    assert_eq!(refusal(load(&json!({}), &Tensors::new())), "key `model_type` is missing; supported: llama, mistral, qwen2, qwen3");
}

#[test]
fn quantized_weights_are_named() {
    for method in ["gptq", "awq", "bitsandbytes", "fp8"] {
        let message = refusal(with_config(json!({ "quantization_config": { "quant_method": method, "bits": 4 } })));
        assert!(
            message.starts_with("key `quantization_config` says that the weights are quantized by `") && message.contains(method),
            "{message}"
        );
    }
    let message = refusal(with_config(json!({ "quantization_config": { "load_in_8bit": true } })));
    assert!(message.starts_with("key `quantization_config` says that the weights are quantized; "), "{message}");
}

#[test]
fn a_long_string_is_not_echoed_whole() {
    let long = "x".repeat(110_000);
    for changes in
        [json!({ "model_type": long }), json!({ "hidden_act": long }), json!({ "hidden_size": long }), json!({ "rope_scaling": long })]
    {
        let message = refusal(with_config(changes));
        assert!(message.len() < 1000, "{} bytes", message.len());
    }
}

#[test]
fn absent_keys_take_the_defaults_of_the_model_type() {
    let config = with_config(json!({
        "rms_norm_eps": null, "max_position_embeddings": null, "num_key_value_heads": null, "tie_word_embeddings": null, "hidden_act": null,
    }));
    let config = config.unwrap().decoder.config().clone();
    assert_eq!((config.norm_epsilon, config.geometry.context, config.geometry.kv_heads), (1e-6, 2048, 1));

    let mut qwen2 = chain().tensors();
    for part in ["q_proj", "k_proj", "v_proj"] {
        qwen2.insert(format!("model.layers.0.self_attn.{part}.bias"), (vec![32], vec![0.0; 32]));
    }
    let changes = json!({ "model_type": "qwen2", "rms_norm_eps": null, "max_position_embeddings": null });
    let config = load(&self::config(changes), &qwen2).unwrap().decoder.config().clone();
    assert_eq!((config.norm_epsilon, config.geometry.context), (1e-6, 32_768));
    let message = load(&self::config(json!({ "model_type": "qwen2", "num_key_value_heads": null })), &qwen2).unwrap_err();
    assert!(matches!(message, LoadError::Geometry(_)), "a Qwen2 has 32 KV heads unless it says otherwise: {message}");
}

#[test]
fn the_rotation_is_that_of_transformers() {
    let plain = frequencies(json!({ "rope_theta": 10_000.0 }));
    let other = frequencies(json!({ "rope_theta": 500_000.0 }));
    assert_ne!(plain, other);
    let both = json!({ "rope_theta": 10_000.0, "rope_parameters": { "rope_type": "default", "rope_theta": 500_000.0 } });
    assert_eq!(frequencies(both), other, "a base within goes before one at the top");
    let agreed = json!({ "rope_scaling": { "type": "default" }, "rope_parameters": { "rope_type": "default", "rope_theta": 500_000.0 } });
    assert_eq!(frequencies(agreed), other, "`rope_parameters` adds a base to `rope_scaling`");
    let halved_other: Vec<f64> = other.iter().map(|frequency| frequency / 2.0).collect();
    let added = json!({
        "rope_theta": 10_000.0, "rope_scaling": { "type": "linear", "factor": 2 }, "rope_parameters": { "rope_theta": 500_000.0 },
    });
    assert_eq!(frequencies(added), halved_other, "a base alone leaves the scaling");
    let twice = json!({
        "rope_scaling": { "type": "linear", "factor": 2 },
        "rope_parameters": { "rope_type": "linear", "factor": 2.0, "rope_theta": 500_000.0 },
    });
    assert_eq!(frequencies(twice), halved_other);

    let halved: Vec<f64> = plain.iter().map(|frequency| frequency / 2.0).collect();
    for names in [json!({ "type": "linear" }), json!({ "rope_type": "linear" }), json!({ "type": "linear", "rope_type": "linear" })] {
        let mut scaling = names.clone();
        scaling["factor"] = json!(2.0);
        assert_eq!(frequencies(json!({ "rope_scaling": scaling })), halved, "{names}");
    }

    let llama3 = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0 });
    let mut explicit = llama3.clone();
    explicit["original_max_position_embeddings"] = json!(512);
    assert_ne!(frequencies(json!({ "rope_scaling": llama3 })), plain);
    assert_eq!(
        frequencies(json!({ "rope_scaling": llama3 })),
        frequencies(json!({ "rope_scaling": explicit })),
        "the context if not given"
    );
    let from_top = frequencies(json!({ "rope_scaling": explicit, "original_max_position_embeddings": 64 }));
    explicit["original_max_position_embeddings"] = json!(64);
    assert_eq!(from_top, frequencies(json!({ "rope_scaling": explicit })), "the one at the top goes first");
}

#[test]
fn a_rotation_that_cannot_be_done_is_refused() {
    let cases = [
        (json!({ "type": "linear", "rope_type": "llama3", "factor": 2.0 }), "rope_type"),
        (json!({ "factor": 2.0 }), "rope_type"),
        (json!({ "rope_type": "yarn", "factor": 2.0 }), "rope_type"),
        (json!({ "rope_type": "default", "rope_theta": 0.0 }), "rope_theta"),
        (json!({ "rope_type": "linear" }), "factor"),
        (json!({ "rope_type": "linear", "factor": 0.0 }), "factor"),
        (json!({ "rope_type": "linear", "factor": 2.0, "attention_factor": 1.2 }), "attention_factor"),
        (json!({ "rope_type": "default", "partial_rotary_factor": 0.5 }), "partial_rotary_factor"),
        (json!({ "rope_type": "default", "mrope_section": [16, 24, 24] }), "mrope_section"),
        (json!({ "rope_type": "default", "llama_4_scaling_beta": 0.1 }), "llama_4_scaling_beta"),
        (json!({ "full_attention": { "rope_type": "default" } }), "full_attention"),
        (json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0 }), "high_freq_factor"),
    ];
    for (scaling, key) in cases {
        let message = refusal(with_config(json!({ "rope_scaling": scaling })));
        assert!(message.starts_with(&format!("key `rope_scaling.{key}` ")), "{scaling}: {message}");
    }
}

#[test]
fn two_descriptions_of_the_rotation_must_agree() {
    for (old, new) in [
        (json!({ "type": "linear", "factor": 2.0 }), json!({ "rope_type": "linear", "factor": 4.0 })),
        (json!({ "type": "linear", "factor": 2.0 }), json!({ "rope_type": "default" })),
        (json!({ "type": "default" }), json!({ "rope_type": "linear", "factor": 2.0 })),
        (json!({ "type": "default", "rope_theta": 1000.0 }), json!({ "rope_type": "default", "rope_theta": 2000.0 })),
    ] {
        let message = refusal(with_config(json!({ "rope_scaling": old, "rope_parameters": new })));
        assert!(message.starts_with("key `rope_scaling") && message.contains("`rope_parameters"), "{old} and {new}: {message}");
    }
}

#[test]
fn the_original_context_is_positive_wherever_it_stands() {
    let llama3 = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0 });
    let mut nested = llama3.clone();
    nested["original_max_position_embeddings"] = json!(0);
    let message = refusal(with_config(json!({ "rope_scaling": nested })));
    assert_eq!(message, "key `rope_scaling.original_max_position_embeddings` is 0.0, not positive");
    for original in [0, -512] {
        let message = refusal(with_config(json!({ "rope_scaling": llama3, "original_max_position_embeddings": original })));
        assert_eq!(message, format!("key `original_max_position_embeddings` is {original}.0, not positive"));
    }
}

#[test]
fn a_missing_head_is_refused_unless_it_is_tied() {
    let mut tensors = chain().tensors();
    tensors.remove("lm_head.weight");
    let message = refusal(load(&config(json!({})), &tensors));
    assert!(message.starts_with("tensor `lm_head.weight` is in none of the safetensors files"), "{message}");
    assert!(message.ends_with("`tie_word_embeddings` is not true"), "{message}");
    let tied = load(&config(json!({ "tie_word_embeddings": true })), &tensors).unwrap();
    assert_eq!(next(&tied, 1), 1, "the embedding is the identity");
}

#[test]
fn a_stored_head_is_used_where_it_differs_from_the_embedding_it_is_tied_to() {
    let tied = config(json!({ "tie_word_embeddings": true }));
    assert_eq!(next(&load(&tied, &chain().tensors()).unwrap(), 1), 2);
    let mut same = chain().tensors();
    same.insert("lm_head.weight".into(), same["model.embed_tokens.weight"].clone());
    assert_eq!(next(&load(&tied, &same).unwrap(), 1), 1);
    same.remove("model.embed_tokens.weight");
    assert_eq!(next(&load(&tied, &same).unwrap(), 1), 1, "either of the two may be the one that is stored");
}

#[test]
fn biases_are_those_that_the_config_asks_for() {
    let bias = |part: &str, len: usize| (format!("model.layers.0.{part}.bias"), (vec![len], vec![0.0; len]));
    for (part, len, key) in
        [("self_attn.q_proj", 32, "attention_bias"), ("self_attn.o_proj", VOCABULARY, "attention_bias"), ("mlp.up_proj", 1, "mlp_bias")]
    {
        let mut tensors = chain().tensors();
        tensors.extend([bias(part, len)]);
        let message = refusal(load(&config(json!({ key: false })), &tensors));
        assert!(message.starts_with(&format!("tensor `model.layers.0.{part}.bias` is stored")) && message.contains(key), "{message}");
    }
    let message = refusal(with_config(json!({ "attention_bias": true })));
    assert!(message.starts_with("tensor `model.layers.0.self_attn.q_proj.bias` is in none"), "{message}");

    let mut tensors = chain().tensors();
    tensors.extend([bias("self_attn.q_proj", 32), bias("self_attn.k_proj", 32), bias("self_attn.v_proj", 32)]);
    // Qwen2 has these three whatever the keys say, and no other.
    assert!(load(&config(json!({ "model_type": "qwen2", "attention_bias": false })), &tensors).is_ok());
    let message = refusal(load(&config(json!({ "model_type": "qwen2" })), &chain().tensors()));
    assert!(message.starts_with("tensor `model.layers.0.self_attn.q_proj.bias` is in none"), "{message}");
    tensors.extend([bias("self_attn.o_proj", VOCABULARY)]);
    assert!(refusal(load(&config(json!({ "model_type": "qwen2" })), &tensors)).contains("self_attn.o_proj.bias` is stored"));
    tensors.extend([bias("mlp.gate_proj", 1), bias("mlp.up_proj", 1), bias("mlp.down_proj", VOCABULARY)]);
    assert!(load(&config(json!({ "attention_bias": true, "mlp_bias": true })), &tensors).is_ok());
}

#[test]
fn a_tensor_of_another_network_is_refused_and_one_beside_it_is_not() {
    let with = |name: &str| {
        let mut tensors = chain().tensors();
        tensors.insert(name.to_owned(), (vec![32], vec![0.0; 32]));
        load(&config(json!({})), &tensors)
    };
    for name in ["model.layers.0.self_attn.q_norm.weight", "lm_head.bias", "model.norm.bias"] {
        assert!(refusal(with(name)).starts_with(&format!("tensor `{name}` is stored")), "{name}");
    }
    for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.1.input_layernorm.weight", "score.weight"] {
        assert!(with(name).is_ok(), "{name}");
    }
}

#[test]
fn logits_that_are_not_finite_stop_the_run_and_leave_the_sequence() {
    let mut tensors = chain().tensors();
    tensors.get_mut("lm_head.weight").unwrap().1[5 * VOCABULARY + 2] = f32::NAN;
    tensors.get_mut("model.embed_tokens.weight").unwrap().1[7 * VOCABULARY] = f32::INFINITY;
    let model = load(&config(json!({})), &tensors).unwrap();
    let mut cache = cache(&model);
    let mut sequence = Sequence::open(cache.as_mut()).unwrap();
    let mut step = |fresh: &[u32]| {
        let result = model.decoder.step(cache.as_mut(), &mut [StepInput { sequence: &mut sequence, fresh: Fresh::Tokens(fresh) }]);
        (result, sequence.history().to_vec())
    };
    let (result, tokens) = step(&[1, 2]);
    assert_eq!(result.unwrap_err(), ModelError::NotFinite { tokens: 2, count: 1, vocabulary: VOCABULARY });
    assert_eq!(tokens, []);
    let (result, _) = step(&[7]);
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with("after token 1 of the sequence, 24 of 24 logits are NaN or infinite"), "{message}");
}
