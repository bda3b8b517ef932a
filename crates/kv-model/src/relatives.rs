//! Relatives of the supported models that this decoder cannot run.

/// Why a model of this type is refused: `name` is transformers' `model_type` or llama.cpp's `general.architecture`.
pub(crate) fn refusal(name: &str, supported: &str) -> String {
    match lacking(name) {
        Some(parts) => format!("is `{name}`, for which this decoder lacks {parts}; supported: {supported}"),
        None => format!("is `{name}`; supported: {supported}"),
    }
}

/// What the decoder lacks, as the two programs' sources of the models have it.
fn lacking(name: &str) -> Option<&'static str> {
    Some(match name {
        "ministral" => "layers with a sliding window",
        "mistral3" | "ministral3" => "queries scaled by their position, and YaRN",
        "mistral4" | "deepseek2" | "deepseek_v2" | "deepseek_v3" => "latent attention and a router over experts",
        "mixtral" | "gpt_oss" | "gpt-oss" | "llama4" => "a router over experts",
        "phimoe" => "a router over experts, and LayerNorm",
        _ if name.ends_with("moe") => "a router over experts",
        "gemma" => "GELU, a scaled embedding, and norms that multiply by 1 + weight",
        "gemma2" => "GELU, a scaled embedding, norms after attention and feed-forward, soft-capped logits, and a sliding window",
        _ if name.starts_with("gemma") => "GELU, a scaled embedding, norms after attention and feed-forward, and a sliding window",
        "phi" | "phi2" => "LayerNorm, GELU, and attention parallel to the feed-forward network",
        "phi3" => "projections stored as one tensor, and LongRoPE",
        _ => return None,
    })
}
