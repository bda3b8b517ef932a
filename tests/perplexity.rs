//! The perplexity of exact strategies is that of transformers, with the same weights in f32 and no token put before the text.
//!
//! `quality/perplexity.py` computes the expected numbers. The test with SmolLM2 needs the fetched model and text:
//!
//! ```sh
//! cargo run -p runner -- fetch smollm2-135m
//! cargo test -p workspace-tests --test perplexity -- --ignored
//! ```
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::Cursor;

use kv_core::KvCache;
use kv_model::{Fresh, HELD_OUT_TEXT, LoadOptions, Model, ModelError, SMALL_GGUF, Sequence, StepInput, gguf};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    windows: Vec<Window>,
    perplexity: f64,
}

#[derive(Deserialize)]
struct Window {
    ids: Vec<u32>,
    mean_nll: f64,
}

/// The negative log-likelihood of each token but the first given those before it, with one strategy.
fn nlls(model: &Model, strategy: &str, config: &str, ids: &[u32]) -> Result<Vec<f64>, ModelError> {
    const CHUNK: usize = 128;
    let geometry = &model.decoder.config().geometry;
    let mut cache: Box<dyn KvCache> = runner::builtin().get(strategy).unwrap().build(&toml::from_str(config).unwrap(), geometry).unwrap();
    let mut sequence = Sequence::open(cache.as_mut()).unwrap();
    let vocabulary = model.decoder.config().vocabulary;
    let mut nlls = vec![];
    let fed = ids.len() - 1;
    for start in (0..fed).step_by(CHUNK) {
        let end = (start + CHUNK).min(fed);
        let mut inputs = [StepInput { sequence: &mut sequence, fresh: Fresh::Tokens(&ids[start..end]) }];
        let logits = model.decoder.step_each(cache.as_mut(), &mut inputs)?;
        for (logits, next) in logits[0].chunks_exact(vocabulary).zip(&ids[start + 1..=end]) {
            let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
            nlls.push(total.ln() + largest - f64::from(logits[*next as usize]));
        }
    }
    Ok(nlls)
}

fn perplexity(nlls: &[f64]) -> f64 {
    (nlls.iter().sum::<f64>() / nlls.len() as f64).exp()
}

fn assert_equal(model: &Model, reference: &Reference, strategies: &[(&str, &str)]) {
    let [Window { ids, mean_nll: expected }] = reference.windows.as_slice() else { panic!("one window") };
    assert_eq!(ids.len(), 2048);
    assert!((expected.exp() / reference.perplexity - 1.0).abs() < 1e-9);
    for (strategy, config) in strategies {
        let perplexity = perplexity(&nlls(model, strategy, config, ids).unwrap());
        // Four significant digits.
        assert!((perplexity / reference.perplexity - 1.0).abs() < 5e-5, "{strategy} {config}: {perplexity}, {}", reference.perplexity);
    }
}

#[test]
fn the_small_models_perplexity_is_that_of_transformers() {
    let model = gguf::load(&mut Cursor::new(SMALL_GGUF), LoadOptions::default()).unwrap();
    let reference: Reference = serde_json::from_str(include_str!("quality/perplexity-small.json")).unwrap();
    let exact = [("contiguous", ""), ("paged", "block_size = 16"), ("sliding", "window = 2048"), ("naive", "")];
    assert_equal(&model, &reference, &exact);
    let tokens = model.tokenizer.encode(HELD_OUT_TEXT).unwrap();
    assert_eq!(tokens[..2048], reference.windows[0].ids, "the tokens are those of its tokenizer elsewhere");
    assert!(HELD_OUT_TEXT.len() >= 64 << 10 && SMALL_GGUF.len() <= 4 << 20);
    // A window that forgets is another model.
    let forgetful = perplexity(&nlls(&model, "sliding", "window = 16\nsinks = 0", &reference.windows[0].ids).unwrap());
    assert!(forgetful > 1.1 * reference.perplexity, "{forgetful}");
}

/// What a window reads beyond the context costs what it costs within: the same tokens again, in a sequence that begins later.
#[test]
fn a_window_with_sinks_reads_on_beyond_the_context() {
    const WINDOW: &str = "window = 508\nsinks = 4";
    let model = gguf::load(&mut Cursor::new(SMALL_GGUF), LoadOptions::default()).unwrap();
    let context = model.decoder.config().geometry.context;
    let tokens = model.tokenizer.encode(HELD_OUT_TEXT).unwrap();
    let beyond = nlls(&model, "sliding", WINDOW, &tokens[..2 * context]).unwrap();
    let within = nlls(&model, "sliding", WINDOW, &tokens[context - 1024..2 * context - 1024]).unwrap();
    let (beyond, within) = (perplexity(&beyond[context..2 * context - 1025]), perplexity(&within[1024..]));
    assert!((beyond / within - 1.0).abs() < 0.02, "a perplexity of {beyond} beyond the context, and {within} within");

    for (strategy, config) in [("contiguous", ""), ("paged", ""), ("quantized", "format = 'q8_0'"), ("sliding", "window = 4093\nsinks = 4")]
    {
        let refused = nlls(&model, strategy, config, &tokens[..context + 200]).unwrap_err();
        assert_eq!(refused, ModelError::Reach { needed: context + 128, reach: context, context }, "{strategy} {config}");
    }
}

#[test]
#[ignore = "needs the fetched model"]
fn smollm2s_perplexity_is_that_of_transformers() {
    let path = runner::fetched("smollm2-135m").expect("run `cargo run -p runner -- fetch smollm2-135m` first");
    let model = gguf::load(&mut File::open(path).unwrap(), LoadOptions::default()).unwrap();
    let reference: Reference = serde_json::from_str(include_str!("quality/perplexity.json")).unwrap();
    assert_equal(&model, &reference, &[("contiguous", ""), ("paged", "block_size = 16")]);
}
