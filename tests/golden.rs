//! Compares the greedy text of a real model with an independent engine. Needs the fetched model:
//!
//! ```sh
//! cargo run -p runner -- fetch smollm2-135m
//! cargo test -p workspace-tests --test golden -- --ignored
//! ```
//!
//! `golden/make_smollm2.py` generates the expected tokens with llama.cpp.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod known_text;

use std::fs::File;

use kv_model::{LoadOptions, Model, gguf};
use serde::Deserialize;

use known_text::KnownText;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    prompt_tokens: Vec<u32>,
    generated: Vec<u32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/smollm2.json")).unwrap()
}

fn model() -> Model {
    let path = runner::fetched("smollm2-135m").expect("run `cargo run -p runner -- fetch smollm2-135m` first");
    gguf::load(&mut File::open(path).unwrap(), LoadOptions::default()).unwrap()
}

#[test]
#[ignore = "needs the fetched model smollm2-135m"]
fn needs_smollm2_prompts_are_tokenised_as_llama_cpp_does() {
    let model = model();
    for case in golden().cases {
        assert_eq!(model.tokenizer.encode(&case.prompt).unwrap(), case.prompt_tokens, "{}", case.prompt);
    }
}

#[test]
#[ignore = "needs the fetched model smollm2-135m"]
fn needs_smollm2_every_exact_strategy_writes_what_llama_cpp_writes() {
    let model = model();
    let strategies = [
        ("contiguous", "growth = 'concat'"),
        ("contiguous", "growth = 'doubling'"),
        ("contiguous", "growth = { reserve = 256 }"),
        ("paged", "block_size = 1"),
        ("paged", "block_size = 16"),
        ("paged", "block_size = 64"),
        ("naive", ""),
    ];
    for Case { prompt, prompt_tokens, generated } in golden().cases {
        for strategy in strategies {
            KnownText { prompt: &prompt_tokens, generated: &generated, logits: &[] }.check(&model.decoder, strategy, 16, &prompt);
        }
    }
}
