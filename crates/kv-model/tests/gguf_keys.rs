//! Keys and tensors of a GGUF file that change the result are honoured or refused.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;

use kv_model::{LoadError, LoadOptions, Model, gguf};
use workspace_tests::chain::Chain;
use workspace_tests::gguf::{Entry, Gguf};

fn chain() -> Chain {
    Chain::new(24).then(&[1, 2, 3])
}

fn llama() -> Gguf {
    Gguf::of(&chain(), "llama")
}

fn load(file: &Gguf) -> Result<Model, LoadError> {
    gguf::load(&mut Cursor::new(file.bytes()), LoadOptions::default())
}

fn refusal(file: &Gguf) -> String {
    load(file).unwrap_err().to_string()
}

fn frequencies(file: &Gguf) -> Vec<f64> {
    let model = load(file).unwrap();
    model.decoder.config().geometry.rope.inverse_frequencies().to_vec()
}

#[test]
fn a_key_that_asks_for_another_network_is_refused_by_its_name() {
    let cases = [
        ("llama.attention.causal", Entry::Flag(false)),
        ("llama.attention.clamp_kqv", Entry::Number(8.0)),
        ("llama.attention.max_alibi_bias", Entry::Number(8.0)),
        ("llama.attention.scale", Entry::Number(0.5)),
        ("llama.attention.temperature_scale", Entry::Number(0.1)),
        ("llama.attention.sliding_window", Entry::Count(8)),
        ("llama.attn_logit_softcapping", Entry::Number(50.0)),
        ("llama.final_logit_softcapping", Entry::Number(30.0)),
        ("llama.logit_scale", Entry::Number(0.125)),
        ("llama.residual_scale", Entry::Number(0.22)),
        ("llama.embedding_scale", Entry::Number(12.0)),
        ("llama.use_parallel_residual", Entry::Flag(true)),
        ("llama.hidden_activation", Entry::Text("gelu".into())),
        ("llama.expert_count", Entry::Count(8)),
        ("llama.nextn_predict_layers", Entry::Count(1)),
        ("llama.rope.dimension_sections", Entry::Counts(vec![16, 24, 24, 0])),
        ("llama.rope.scaling.attn_factor", Entry::Number(1.19)),
        ("llama.rope.scaling.yarn_attn_factor", Entry::Number(1.19)),
        ("llama.rope.scaling.yarn_ext_factor", Entry::Number(1.0)),
        ("llama.rope.scaling.type", Entry::Text("yarn".into())),
        ("llama.rope.scaling.factor", Entry::Number(-2.0)),
        ("llama.vocab_size", Entry::Count(25)),
        ("llama.attention.layer_norm_rms_epsilon", Entry::Number(-1.0)),
        ("llama.attention.layer_norm_rms_epsilon", Entry::Number(1e30)),
        ("tokenizer.ggml.tokens", Entry::Texts(vec!["a".into()])),
    ];
    for (key, value) in cases {
        let message = refusal(&llama().with(key, value));
        assert!(message.starts_with(&format!("key `{key}` ")), "{key}: {message}");
    }
}

#[test]
fn a_key_that_asks_for_nothing_is_accepted() {
    let cases = [
        ("llama.attention.causal", Entry::Flag(true)),
        ("llama.attention.clamp_kqv", Entry::Number(0.0)),
        ("llama.attention.scale", Entry::Number(1.0 / 32f32.sqrt())),
        ("llama.logit_scale", Entry::Number(1.0)),
        ("llama.expert_count", Entry::Count(0)),
        ("llama.rope.dimension_sections", Entry::Counts(vec![0; 4])),
        ("llama.rope.scaling.attn_factor", Entry::Number(1.0)),
        ("llama.hidden_activation", Entry::Text("silu".into())),
        ("llama.vocab_size", Entry::Count(24)),
        ("split.count", Entry::Count(1)),
    ];
    for (key, value) in cases {
        if let Err(error) = load(&llama().with(key, value)) {
            panic!("{key}: {error}");
        }
    }
}

#[test]
fn a_rope_factor_without_a_type_is_linear() {
    let plain = frequencies(&llama());
    let scaled: Vec<f64> = plain.iter().map(|frequency| frequency / 4.0).collect();
    let factor = |key: &str| llama().with(key, Entry::Number(4.0));
    assert_eq!(frequencies(&factor("llama.rope.scaling.factor")), scaled);
    assert_eq!(frequencies(&factor("llama.rope.scale_linear")), scaled, "the older name");
    assert_eq!(frequencies(&factor("llama.rope.scaling.factor").with("llama.rope.scale_linear", Entry::Number(2.0))), scaled);
    assert_eq!(frequencies(&factor("llama.rope.scaling.factor").with("llama.rope.scaling.type", Entry::Text("none".into()))), plain);
    assert_eq!(frequencies(&llama().with("llama.rope.scaling.type", Entry::Text("linear".into()))), plain, "no factor");
}

#[test]
fn a_part_of_a_split_file_is_refused_as_that() {
    let mut part = llama().with("split.count", Entry::Count(3)).with("general.architecture", Entry::Text("gptneox".into()));
    part.tensor_type = 14;
    part.tensors.clear();
    let message = refusal(&part);
    assert!(message.starts_with("key `split.count` is 3: ") && message.contains("--merge"), "{message}");
}

#[test]
fn a_tensor_type_is_called_by_its_name() {
    for (id, name) in [(10, "Q2_K"), (15, "Q8_K"), (23, "IQ4_XS"), (30, "BF16"), (39, "MXFP4"), (42, "Q2_0"), (99, "unknown")] {
        let mut file = llama();
        file.tensor_type = id;
        match load(&file) {
            // Of the types in this list only this one is known; its bytes are the first half of each tensor's.
            Ok(_) => assert_eq!(name, "BF16"),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(&format!("has ggml type {id} ({name}")), "{message}");
                assert!(message.contains("supported: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL, BF16"), "{message}");
            }
        }
    }
}

#[test]
fn another_architecture_is_refused_before_its_tensors() {
    let mut file = Gguf::of(&chain(), "stablelm");
    file.tensor_type = 14;
    assert_eq!(refusal(&file), "key `general.architecture` is `stablelm`; supported: llama, qwen2, qwen3");
}

#[test]
fn a_relative_is_refused_with_what_the_decoder_lacks() {
    for (architecture, lacks) in [
        ("qwen3moe", "a router over experts"),
        ("qwen2moe", "a router over experts"),
        ("mistral3", "YaRN"),
        ("mistral4", "latent attention"),
        ("gemma", "GELU"),
        ("gemma3", "sliding window"),
        ("phi2", "LayerNorm"),
        ("phi3", "LongRoPE"),
    ] {
        let message = refusal(&Gguf::of(&chain(), architecture));
        let start = format!("key `general.architecture` is `{architecture}`, for which this decoder lacks ");
        assert!(message.starts_with(&start) && message.contains(lacks), "{message}");
        assert!(message.ends_with("; supported: llama, qwen2, qwen3"), "{message}");
    }
}

#[test]
fn a_window_is_refused_if_it_is_in_use() {
    let with = |window: u32| llama().with("llama.attention.sliding_window", Entry::Count(window));
    let message = refusal(&with(511));
    assert!(message.starts_with("key `llama.attention.sliding_window` is 511, below the context of 512; a window in use"), "{message}");
    for window in [0, 512] {
        assert!(load(&with(window)).is_ok(), "{window}");
    }
}

fn qwen3() -> Gguf {
    Gguf::of(&chain(), "qwen3").with_zeros("blk.0.attn_q_norm.weight", &[32]).with_zeros("blk.0.attn_k_norm.weight", &[32])
}

#[test]
fn qwen3_has_norms_of_queries_and_keys() {
    assert!(load(&qwen3()).is_ok());
    for name in ["blk.0.attn_q_norm.weight", "blk.0.attn_k_norm.weight"] {
        let mut file = qwen3();
        file.tensors.remove(name);
        assert_eq!(refusal(&file), format!("tensor `{name}` is missing"));
    }
    assert!(refusal(&qwen3().with_zeros("blk.0.attn_k_norm.weight", &[64])).contains("has shape [64], expected [32]"));
    let message = refusal(&qwen3().with("qwen3.rope.dimension_count", Entry::Count(16)));
    assert!(message.starts_with("key `qwen3.rope.dimension_count` is 16: a partial rotation"), "{message}");
}

#[test]
fn a_tensor_that_the_architecture_does_not_have_is_refused() {
    let cases = [
        ("llama", "blk.0.attn_q_norm.weight", 32),
        ("llama", "output.bias", 24),
        ("llama", "blk.1.attn_norm.weight", 24),
        ("qwen2", "blk.0.attn_output.bias", 24),
        ("qwen2", "blk.0.ffn_up.bias", 1),
        ("qwen2", "blk.0.attn_q_norm.weight", 32),
        ("qwen2", "rope_freqs.weight", 16),
        ("qwen3", "blk.0.attn_output.bias", 24),
        ("qwen3", "output.bias", 24),
        ("qwen3", "rope_freqs.weight", 16),
        ("qwen3", "cls.output.weight", 24),
    ];
    let file = |architecture: &str| if architecture == "qwen3" { qwen3() } else { Gguf::of(&chain(), architecture) };
    for (architecture, name, len) in cases {
        let message = refusal(&file(architecture).with_zeros(name, &[len]));
        assert!(message.starts_with(&format!("tensor `{name}` is stored, and ")), "{architecture}: {message}");
    }
    for (architecture, name, len) in [
        ("llama", "blk.0.attn_output.bias", 24),
        ("qwen2", "blk.0.attn_q.bias", 32),
        ("qwen2", "output.bias", 24),
        ("qwen3", "blk.0.attn_k.bias", 32),
    ] {
        let file = file(architecture).with_zeros(name, &[len]);
        assert!(load(&file).is_ok(), "{architecture} may have {name}");
    }
}

#[test]
fn a_long_string_is_not_echoed_whole() {
    let message = refusal(&llama().with("general.architecture", Entry::Text("x".repeat(110_000))));
    assert!(message.len() < 1000, "{} bytes", message.len());
    assert!(message.ends_with("`; supported: llama, qwen2, qwen3"), "{message}");
}

/// Two tensors of 64 bytes: the second begins within the first, so that a file could promise more than it has.
#[test]
fn tensors_that_share_bytes_are_refused() {
    let mut bytes = llama().bytes();
    let entry = |bytes: &[u8], name: &str| bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap() + name.len();
    // A table entry ends with the number of dimensions, the extents, the type and the offset.
    let offset_of = |at: usize, dimensions: usize| at + 4 + 8 * dimensions + 4;
    let from = offset_of(entry(&bytes, "blk.0.ffn_gate.weight"), 2);
    let to = offset_of(entry(&bytes, "blk.0.ffn_up.weight"), 2);
    let offset: [u8; 8] = bytes[from..from + 8].try_into().unwrap();
    bytes[to..to + 8].copy_from_slice(&offset);
    let message = gguf::load(&mut Cursor::new(bytes), LoadOptions::default()).unwrap_err().to_string();
    assert_eq!(message, "tensor `blk.0.ffn_up.weight` shares bytes of the file with the tensor `blk.0.ffn_gate.weight`");
}
