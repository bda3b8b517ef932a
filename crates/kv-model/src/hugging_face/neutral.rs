//! Keys that other decoders honour and this one does not: their value must ask for nothing.

use serde_json::{Map, Value};

use crate::LoadError;
use crate::hugging_face::document::Document;

/// A key, and the values that change nothing.
pub(super) type Key = (&'static str, &'static [Neutral]);

#[derive(Debug, Clone, Copy)]
pub(super) enum Neutral {
    Flag(bool),
    Number(f64),
    Word(&'static str),
    /// A list or a map without anything in it.
    Empty,
}

pub(super) const FALSE: &[Neutral] = &[Neutral::Flag(false)];
pub(super) const NONE: &[Neutral] = &[Neutral::Number(0.0)];
pub(super) const ONE: &[Neutral] = &[Neutral::Number(1.0)];
/// Only the key's absence: what it asks for depends on other keys.
pub(super) const ABSENT: &[Neutral] = &[];
pub(super) const EMPTY: &[Neutral] = &[Neutral::Empty];

/// Of transformers' configs of Llama's relatives. Absent are keys that change no logit (dropout, `pretraining_tp`,
/// `use_cache`) and those that [`super::hyperparameters`] reads.
const KEYS: [Key; 32] = [
    ("hidden_act", &[Neutral::Word("silu"), Neutral::Word("swish")]),
    ("hidden_activation", &[Neutral::Word("silu"), Neutral::Word("swish")]),
    ("is_causal", &[Neutral::Flag(true)]),
    ("use_bidirectional_attention", FALSE),
    ("use_sliding_window", FALSE),
    ("attention_chunk_size", ABSENT),
    ("no_rope_layers", ABSENT),
    ("alibi", FALSE),
    ("partial_rotary_factor", ONE),
    ("rotary_pct", ONE),
    ("use_qk_norm", FALSE),
    ("qk_norm", FALSE),
    ("qk_layernorm", FALSE),
    ("clip_qkv", NONE),
    ("llama_4_scaling", ABSENT),
    ("attention_multiplier", ABSENT),
    ("query_pre_attn_scalar", ABSENT),
    ("attn_logit_softcapping", NONE),
    ("final_logit_softcapping", NONE),
    ("logits_scaling", ONE),
    ("logit_scale", ONE),
    ("residual_multiplier", ONE),
    ("embedding_multiplier", ONE),
    ("scale_emb", ONE),
    ("scale_depth", ABSENT),
    ("parallel_attn", FALSE),
    ("use_parallel_residual", FALSE),
    ("num_experts", NONE),
    ("num_local_experts", NONE),
    ("n_routed_experts", NONE),
    ("block_configs", ABSENT),
    ("per_layer_config", ABSENT),
];

/// Refuses the first key that asks for something.
pub(super) fn check(config: &Document) -> Result<(), LoadError> {
    check_weights(config)?;
    check_keys(config, &KEYS)?;
    if let Some(kinds) = config.value("layer_types")
        && !kinds.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "full_attention"))
    {
        return Err(config.wrong("layer_types", format!("is {kinds}; every layer of this decoder has `full_attention`")));
    }
    Ok(())
}

/// Refuses the first of these keys that asks for something.
pub(super) fn check_keys(file: &Document, keys: &[Key]) -> Result<(), LoadError> {
    for (key, neutral) in keys {
        if let Some(value) = file.value(key)
            && !neutral.iter().any(|neutral| neutral.is(value))
        {
            return Err(file.wrong(key, format!("is {value}, which this decoder cannot do; {}", expected(neutral))));
        }
    }
    Ok(())
}

fn check_weights(config: &Document) -> Result<(), LoadError> {
    for key in ["quantization_config", "compression_config"] {
        if let Some(value) = config.value(key) {
            let method = value.get("quant_method").and_then(Value::as_str).map_or(String::new(), |method| format!(" by `{method}`"));
            let reason = format!("says that the weights are quantized{method}; take the checkpoint in F32, F16 or BF16, or a GGUF file");
            return Err(config.wrong(key, reason));
        }
    }
    Ok(())
}

impl Neutral {
    fn is(self, value: &Value) -> bool {
        match self {
            Neutral::Flag(flag) => value.as_bool() == Some(flag),
            Neutral::Number(number) => value.as_f64() == Some(number),
            Neutral::Word(word) => value == word,
            Neutral::Empty => value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty),
        }
    }
}

fn expected(neutral: &[Neutral]) -> String {
    let shown: Vec<String> = (neutral.iter())
        .map(|neutral| match neutral {
            Neutral::Flag(flag) => flag.to_string(),
            Neutral::Number(number) => number.to_string(),
            Neutral::Word(word) => format!("`{word}`"),
            Neutral::Empty => "empty".into(),
        })
        .collect();
    if shown.is_empty() { "it must be absent".into() } else { format!("it must be {} or absent", shown.join(", ")) }
}
