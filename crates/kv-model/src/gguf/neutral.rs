//! Keys that llama.cpp has for some network and this decoder does not honour: their value must ask for nothing.

use crate::LoadError;
use crate::gguf::{File, Value};

/// A key below the architecture's name, and the values that change nothing; truth values count as 0 and 1.
type Key = (&'static str, &'static [f64]);

/// Of `LLM_KV_NAMES` in llama.cpp's `llama-arch.cpp`. Absent are keys of networks whose tensors differ, which are
/// refused by their tensors, and those that [`super::model`] and [`super::rope`] read.
const KEYS: [Key; 24] = [
    ("expert_count", &[0.0]),
    ("attention.causal", &[1.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attention.output_scale", &[0.0, 1.0]),
    ("attention.value_scale", &[0.0, 1.0]),
    ("attention.temperature_length", &[0.0]),
    ("attention.temperature_scale", &[0.0]),
    ("attention.shared_kv_layers", &[0.0]),
    ("attn_logit_softcapping", &[0.0]),
    ("final_logit_softcapping", &[0.0]),
    ("logit_scale", &[0.0, 1.0]),
    ("residual_scale", &[0.0, 1.0]),
    ("embedding_scale", &[0.0, 1.0]),
    ("embedding_length_per_layer_input", &[0.0]),
    ("use_parallel_residual", &[0.0]),
    ("swin_norm", &[0.0]),
    ("n_deepstack_layers", &[0.0]),
    ("nextn_predict_layers", &[0.0]),
    ("rope.dimension_sections", &[0.0]),
    ("rope.scaling.alpha", &[0.0]),
    ("rope.scaling.attn_factor", &[1.0]),
    ("rope.scaling.yarn_attn_factor", &[1.0]),
    // Negative is llama.cpp's "not set".
    ("rope.scaling.yarn_ext_factor", &[0.0, -1.0]),
];

/// Refuses the first key that asks for something; `prefix` is the architecture's name.
pub(super) fn check(file: &File<'_>, prefix: &str) -> Result<(), LoadError> {
    for (name, neutral) in KEYS {
        let key = format!("{prefix}.{name}");
        let Some(value) = file.value(&key) else { continue };
        if !numbers(value, &key)?.is_some_and(|numbers| numbers.iter().all(|number| neutral.contains(number))) {
            let right = neutral.iter().map(f64::to_string).collect::<Vec<_>>().join(" or ");
            let reason = format!("is {}, which this decoder cannot do; it must be {right} or absent", value.shown());
            return Err(LoadError::key(key, reason));
        }
    }
    let key = format!("{prefix}.hidden_activation");
    match file.value(&key) {
        None | Some(Value::String("silu" | "swish")) => Ok(()),
        Some(other) => Err(LoadError::key(key, format!("is {}; the only activation of this decoder is `silu`", other.shown()))),
    }
}

fn numbers(value: &Value<'_>, key: &str) -> Result<Option<Vec<f64>>, LoadError> {
    Ok(match value {
        Value::Integer(number) => Some(vec![*number as f64]),
        Value::Float(number) => Some(vec![*number]),
        Value::Bool(flag) => Some(vec![f64::from(u8::from(*flag))]),
        Value::String(_) => None,
        Value::Array(array) => Some(array.integers(key)?.into_iter().map(|number| number as f64).collect()),
    })
}
