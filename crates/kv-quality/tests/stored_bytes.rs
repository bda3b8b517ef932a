//! The negative control: what a model says depends on the bytes that a cache has stored. A measure that did not read them
//! would find no difference where one value of one stored row was changed.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;
use std::ops::Range;

use kv_contiguous::Contiguous;
use kv_core::{CacheError, Geometry, KvCache, Rows, Strategy};
use kv_model::{Fresh, HELD_OUT_TEXT, LoadOptions, Model, SMALL_GGUF, Sequence, StepInput, gguf};
use kv_paged::Paged;
use kv_quality::{Divergence, Paired, Side};
use kv_quantized::Quantized;
use kv_script::{Attention, RowSource, step};

const PROMPT: usize = 96;
const STEPS: usize = 8;

/// The keys and values of a prompt, `[PROMPT, kv_heads, dim]` for each layer.
#[derive(Debug, Clone)]
struct Prompt {
    geometry: Geometry,
    keys: Vec<Rows>,
    values: Vec<Rows>,
}

impl Prompt {
    /// As the model computes it with an exact cache.
    fn of(model: &Model, tokens: &[u32]) -> Prompt {
        let geometry = model.decoder.config().geometry.clone();
        let mut cache = Contiguous::new(Default::default(), &geometry).unwrap();
        let mut sequence = Sequence::open(&mut cache).unwrap();
        let mut inputs = [StepInput { sequence: &mut sequence, fresh: Fresh::Tokens(tokens) }];
        model.decoder.step(&mut cache, &mut inputs).unwrap();
        let layer = |layer: usize| {
            let views: Vec<_> = (0..geometry.kv_heads).map(|kv_head| cache.view(sequence.id(), layer, kv_head).unwrap()).collect();
            let rows = |dim: usize, of: fn(&kv_core::View) -> &Vec<f32>| {
                let row = |token: usize| views.iter().flat_map(move |view| of(view)[token * dim..][..dim].to_vec());
                Rows::new([tokens.len(), geometry.kv_heads, dim], (0..tokens.len()).flat_map(row).collect())
            };
            (rows(geometry.key_dim, |view| &view.keys), rows(geometry.value_dim, |view| &view.values))
        };
        let (keys, values) = (0..geometry.layers).map(layer).unzip();
        Prompt { geometry, keys, values }
    }

    /// With one value of one token in one layer doubled, and 1 larger.
    fn changed(&self, token: usize, layer: usize) -> Prompt {
        let mut prompt = self.clone();
        let rows = &prompt.values[layer];
        let [_, heads, dim] = rows.dims();
        let mut values = rows.values().to_vec();
        let value = &mut values[token * heads * dim + 3];
        *value = 2.0 * *value + 1.0;
        prompt.values[layer] = Rows::new(rows.dims(), values);
        prompt
    }
}

fn of_positions(rows: &Rows, positions: Range<usize>) -> Rows {
    let [_, heads, dim] = rows.dims();
    let width = heads * dim;
    Rows::new([positions.len(), heads, dim], rows.values()[positions.start * width..positions.end * width].to_vec())
}

impl RowSource for Prompt {
    type Error = CacheError;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn keys(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(of_positions(&self.keys[layer], positions))
    }

    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(of_positions(&self.values[layer], positions))
    }

    fn queries(&mut self, _: usize, _: Range<usize>) -> Result<Rows, CacheError> {
        panic!("the prompt is not attended to")
    }
}

/// The largest divergence between two caches of one config that were given two prompts.
fn largest<C: Strategy>(model: &Model, tokens: &[u32], config: &str, prompts: [&Prompt; 2]) -> f64 {
    let geometry = &model.decoder.config().geometry;
    let build = || Box::new(C::new(toml::from_str(config).unwrap(), geometry).unwrap());
    let mut pair = Paired::new(geometry, build(), build());
    let [mut reference, mut candidate] = [(Side::Reference, prompts[0]), (Side::Candidate, prompts[1])].map(|(side, prompt)| {
        pair.open_next_on(side);
        let mut sequence = Sequence::open(&mut pair).unwrap();
        step(&mut pair, &mut prompt.clone(), &[(sequence.id(), 0..PROMPT)], Attention::Skipped).unwrap();
        sequence.extend(Fresh::Tokens(&tokens[..PROMPT]));
        sequence
    });
    let divergence = |at: usize| {
        let fresh = Fresh::Tokens(&tokens[at..at + 1]);
        let mut inputs = [StepInput { sequence: &mut reference, fresh }, StepInput { sequence: &mut candidate, fresh }];
        let logits = model.decoder.step(&mut pair, &mut inputs).unwrap();
        Divergence::between(&logits[0], &logits[1], tokens[at + 1]).unwrap().kl
    };
    (PROMPT..PROMPT + STEPS).map(divergence).fold(0.0, f64::max)
}

#[test]
fn a_changed_stored_value_changes_what_the_model_says_and_nothing_else_does() {
    let model = gguf::load(&mut Cursor::new(SMALL_GGUF), LoadOptions::default()).unwrap();
    let tokens = model.tokenizer.encode(&HELD_OUT_TEXT[..2000]).unwrap();
    let prompt = Prompt::of(&model, &tokens[..PROMPT]);
    let controls = |of: &dyn Fn([&Prompt; 2]) -> f64, what: &str| {
        assert_eq!(of([&prompt, &prompt]), 0.0, "{what}: the same bytes");
        for (token, layer) in [(0, 0), (40, 2), (PROMPT - 1, prompt.geometry.layers - 1)] {
            let changed = of([&prompt, &prompt.changed(token, layer)]);
            assert!(changed > 0.0, "{what}: token {token} of layer {layer} was changed, and the divergence is {changed}");
        }
    };
    controls(&|prompts| largest::<Contiguous>(&model, &tokens, "", prompts), "contiguous f32");
    controls(&|prompts| largest::<Paged>(&model, &tokens, "block_size = 16\nformat = 'f16'", prompts), "paged f16");
    for format in ["q8_0", "q4_0", "kivi2"] {
        let config = format!("format = '{format}'");
        controls(&|prompts| largest::<Quantized>(&model, &tokens, &config, prompts), format);
    }
}
