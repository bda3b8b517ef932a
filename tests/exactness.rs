//! An exact cache gives the same output as no cache: logits of a whole model, step by step.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod random_blocks;

use kv_core::{KvCache, Registry};
use kv_kernels::WeightFormat;
use kv_model::{Decoder, Fresh, Preset, Sequence, StepInput, argmax};
use random_blocks::decoder_in;

const STEPS: usize = 300;

fn decoder() -> Decoder {
    Preset::find("tiny").unwrap().build(None, WeightFormat::F32, 7, Default::default()).unwrap().decoder
}

fn cache(registry: &Registry, decoder: &Decoder, id: &str, config: &str) -> Box<dyn KvCache> {
    registry.get(id).unwrap().build(&toml::from_str(config).unwrap(), &decoder.config().geometry).unwrap()
}

/// The largest difference, relative to the largest logit.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    let largest = b.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

fn step(decoder: &Decoder, cache: &mut dyn KvCache, sequence: &mut Sequence, token: u32) -> Vec<f32> {
    decoder.step(cache, &mut [StepInput { sequence, fresh: Fresh::Tokens(&[token]) }]).unwrap().remove(0)
}

const EXACT: [(&str, &str); 8] = [
    ("contiguous", "growth = 'concat'"),
    ("contiguous", "growth = 'doubling'"),
    ("contiguous", "growth = { reserve = 310 }"),
    ("paged", "block_size = 1"),
    ("paged", "block_size = 16"),
    ("paged", "block_size = 37"),
    ("sliding", "window = 400"),
    ("sliding", "window = 300\nsinks = 5"),
];

/// Compares strategies with `naive` at every step of a greedy generation; `model` names it.
fn compare_with_naive(model: &str, decoder: &Decoder, strategies: &[(&str, &str)], steps: usize) {
    let registry = runner::builtin();
    let mut naive = cache(&registry, decoder, "naive", "");
    let mut reference = Sequence::open(naive.as_mut()).unwrap();
    let mut caches: Vec<_> =
        strategies.iter().map(|(id, config)| (format!("{id} {config}"), cache(&registry, decoder, id, config))).collect();
    let mut sequences: Vec<Sequence> = caches.iter_mut().map(|(_, cache)| Sequence::open(cache.as_mut()).unwrap()).collect();
    let mut token = 17;
    for position in 0..steps {
        let expected = step(decoder, naive.as_mut(), &mut reference, token);
        for ((name, cache), sequence) in caches.iter_mut().zip(&mut sequences) {
            let logits = step(decoder, cache.as_mut(), sequence, token);
            let error = relative(&logits, &expected);
            assert!(error < 1e-4, "{model}: {name} is {error} off naive at position {position}");
        }
        token = argmax(&expected);
    }
}

/// Compares prompts of as many tokens as the first chunk has, fed in chunks of these sizes.
fn compare_chunks(model: &str, decoder: &Decoder, strategies: &[(&str, &str)], chunks: [usize; 4]) {
    let registry = runner::builtin();
    let prompt: Vec<u32> = (0..chunks[0] as u32).map(|index| index * 31 % 1000).collect();
    for (id, config) in strategies {
        let logits = chunks.map(|chunk| {
            let mut cache = cache(&registry, decoder, id, config);
            let mut sequences = [Sequence::open(cache.as_mut()).unwrap()];
            decoder.prefill(cache.as_mut(), &mut sequences, std::slice::from_ref(&prompt), chunk).unwrap().remove(0)
        });
        for (chunk, other) in chunks.iter().zip(&logits).skip(1) {
            let error = relative(other, &logits[0]);
            assert!(error < 1e-4, "{model}: {id} {config}: chunks of {chunk} are {error} off one chunk");
        }
    }
}

#[test]
fn logits_equal_naives_at_every_step_of_a_long_generation() {
    compare_with_naive("f32", &decoder(), &EXACT, STEPS);
}

#[test]
fn logits_equal_naives_in_every_format_of_weights() {
    for format in WeightFormat::ALL {
        let strategies = [("contiguous", ""), ("paged", "block_size = 16"), ("sliding", "window = 64\nsinks = 5")];
        compare_with_naive(format.name(), &decoder_in(format), &strategies, 40);
    }
}

#[test]
fn one_chunk_equals_many() {
    let evicting = [("naive", ""), ("sliding", "window = 24"), ("sliding", "window = 24\nsinks = 4")];
    compare_chunks("f32", &decoder(), &[&EXACT[..], &evicting].concat(), [200, 64, 7, 1]);
}

#[test]
fn one_chunk_equals_many_in_every_format_of_weights() {
    for format in WeightFormat::ALL {
        compare_chunks(format.name(), &decoder_in(format), &[("contiguous", "")], [70, 33, 7, 1]);
    }
}

#[test]
fn a_batch_equals_its_sequences_one_by_one() {
    let registry = runner::builtin();
    let decoder = decoder();
    let prompts: Vec<Vec<u32>> =
        [(3, 40), (5, 17), (7, 1)].map(|(factor, len)| (0..len).map(|index| index * factor % 1000).collect()).into();
    for (id, config) in [("naive", ""), ("contiguous", ""), ("paged", "block_size = 8")] {
        let mut together = cache(&registry, &decoder, id, config);
        let mut sequences: Vec<Sequence> = prompts.iter().map(|_| Sequence::open(together.as_mut()).unwrap()).collect();
        let batch = decoder.prefill(together.as_mut(), &mut sequences, &prompts, 16).unwrap();
        for (prompt, logits) in prompts.iter().zip(batch) {
            let mut alone = cache(&registry, &decoder, id, config);
            let mut sequence = [Sequence::open(alone.as_mut()).unwrap()];
            let expected = decoder.prefill(alone.as_mut(), &mut sequence, std::slice::from_ref(prompt), 16).unwrap().remove(0);
            let error = relative(&logits, &expected);
            assert!(error < 1e-4, "{id}: a prompt of {} tokens is {error} off in a batch", prompt.len());
        }
    }
}

#[test]
fn a_refused_step_leaves_the_sequence_as_it_was() {
    let registry = runner::builtin();
    let decoder = decoder();
    let mut full = cache(&registry, &decoder, "contiguous", "growth = { reserve = 10 }");
    let mut unlimited = cache(&registry, &decoder, "contiguous", "");
    let mut limited = Sequence::open(full.as_mut()).unwrap();
    let mut other = Sequence::open(unlimited.as_mut()).unwrap();
    for token in 0..9 {
        step(&decoder, full.as_mut(), &mut limited, token);
        step(&decoder, unlimited.as_mut(), &mut other, token);
    }
    let refused = decoder.step(full.as_mut(), &mut [StepInput { sequence: &mut limited, fresh: Fresh::Tokens(&[1, 2, 3]) }]);
    assert_eq!(refused.unwrap_err().to_string(), "cache is full: 3 more tokens needed, 1 free");
    let unknown = decoder.step(full.as_mut(), &mut [StepInput { sequence: &mut limited, fresh: Fresh::Tokens(&[5000]) }]);
    assert_eq!(unknown.unwrap_err().to_string(), "token 5000 is not in a vocabulary of 1024");
    assert_eq!(limited.history().len(), 9);
    let logits = step(&decoder, full.as_mut(), &mut limited, 9);
    assert_eq!(logits, step(&decoder, unlimited.as_mut(), &mut other, 9));
}
