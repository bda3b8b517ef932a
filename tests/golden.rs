//! Compares the greedy text of a real model with an independent engine. Needs the fetched model:
//!
//! ```sh
//! cargo run -p runner -- fetch smollm2-135m
//! cargo test -p workspace-tests --test golden -- --ignored
//! ```
//!
//! `golden/make_smollm2.py` generates the expected tokens with llama.cpp.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;

use kv_model::{LoadOptions, Model, Sequence, StepInput, argmax, gguf};
use serde::Deserialize;

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
    let registry = runner::builtin();
    let strategies = [
        ("contiguous", "growth = 'concat'"),
        ("contiguous", "growth = 'doubling'"),
        ("contiguous", "growth = { reserve = 256 }"),
        ("paged", "block_size = 1"),
        ("paged", "block_size = 16"),
        ("paged", "block_size = 64"),
        ("naive", ""),
    ];
    for case in golden().cases {
        for (id, config) in strategies {
            let mut cache = registry.get(id).unwrap().build(&toml::from_str(config).unwrap(), &model.decoder.config().geometry).unwrap();
            let mut sequences = [Sequence::open(cache.as_mut()).unwrap()];
            let logits = model.decoder.prefill(cache.as_mut(), &mut sequences, std::slice::from_ref(&case.prompt_tokens), 16).unwrap();
            let mut generated = vec![argmax(&logits[0])];
            let [sequence] = &mut sequences;
            while generated.len() < case.generated.len() {
                let fresh = [generated[generated.len() - 1]];
                let logits = model.decoder.step(cache.as_mut(), &mut [StepInput { sequence, fresh: &fresh }]).unwrap();
                generated.push(argmax(&logits[0]));
            }
            assert_eq!(generated, case.generated, "{id} {config} on {:?}", case.prompt);
        }
    }
}
