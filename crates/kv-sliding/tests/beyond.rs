//! Far beyond the context, a window with sinks attends as if its rows were at the beginning.

use kv_conformance::{Text, step};
use kv_core::{Geometry, KvCache, Rope, Rows, SeqId, Strategy};
use kv_sliding::Sliding;

const WINDOW: usize = 40;
const SINKS: usize = 4;

/// Queries and keys are rotated to `f32`, by angles that are computed in `f64`: what that changes does not grow with the
/// position.
const TOLERANCE: f32 = 1e-5;

/// A sequence whose tokens behind the sinks are forgotten, but for those of the window and the steps.
struct Sequence {
    cache: Sliding,
    seq: SeqId,
    text: Text,
}

impl Sequence {
    /// `kept` tokens, of which the sinks are the first and the others the last of `len`. What lies between is fed as zeros.
    fn new(geometry: &Geometry, kept: &[u64], len: usize) -> Sequence {
        let mut tokens = kept[..SINKS].to_vec();
        tokens.resize(len - (kept.len() - SINKS), 0);
        tokens.extend(&kept[SINKS..]);
        let config = toml::from_str(&format!("window = {WINDOW}\nsinks = {SINKS}")).expect("a config");
        let mut cache = Sliding::new(config, geometry).expect("a cache");
        let seq = cache.open().expect("a sequence");
        let mut sequence = Sequence { cache, seq, text: Text { geometry: geometry.clone(), tokens } };
        sequence.step(0..SINKS);
        let (mut start, end) = (SINKS, len - (kept.len() - SINKS));
        while start < end {
            let tokens = (end - start).min(1 << 15);
            sequence.forget(start..start + tokens);
            start += tokens;
        }
        sequence
    }

    fn step(&mut self, positions: std::ops::Range<usize>) -> Vec<Rows> {
        step(&mut self.cache, self.seq, &self.text, positions).expect("a window has room for any step")
    }

    fn forget(&mut self, positions: std::ops::Range<usize>) {
        let Geometry { kv_heads, key_dim, value_dim, .. } = self.text.geometry;
        let tokens = positions.len();
        let zeros = |dim: usize| Rows::new([tokens, kv_heads, dim], vec![0.0; tokens * kv_heads * dim]).into_tensor();
        self.cache.begin(self.seq, positions).expect("the next positions");
        self.cache.append(self.seq, 0, zeros(key_dim), zeros(value_dim)).expect("the first layer");
        self.cache.commit(self.seq).expect("all layers");
    }

    /// The outputs of the last tokens: a chunk that fills the window, then single steps and chunks of three.
    fn outputs(&mut self, tokens: usize) -> Vec<f32> {
        let first = self.text.tokens.len() - tokens;
        let mut outputs = vec![];
        self.step(first..first + WINDOW);
        let mut position = first + WINDOW;
        for size in [1, 1, 3, 1, 3, 1] {
            outputs.extend(self.step(position..position + size).iter().flat_map(|rows| rows.values().to_vec()));
            position += size;
        }
        assert_eq!(position, self.text.tokens.len());
        outputs
    }
}

#[test]
fn attention_far_beyond_the_context_is_that_of_the_same_rows_at_the_beginning() {
    const LAST: usize = WINDOW + 10;
    let plain = Rope::new(10_000.0, 32);
    let slowed = Rope::from_inverse_frequencies(plain.inverse_frequencies().iter().map(|frequency| frequency / 8.0).collect());
    let partial = Rope::new(500_000.0, 16);
    for (rope, context) in [(&plain, 4096), (&slowed, 4096), (&partial, 4096), (&plain, 131_072)] {
        let geometry = Geometry { layers: 1, heads: 2, kv_heads: 1, key_dim: 32, value_dim: 4, rope: rope.clone(), context };
        let kept: Vec<u64> = (1..=(SINKS + LAST) as u64).collect();
        // Here the sinks move by no more than ten positions.
        let expected = Sequence::new(&geometry, &kept, kept.len()).outputs(LAST);
        for times in [1, 4, 100] {
            let mut far = Sequence::new(&geometry, &kept, times * context);
            assert_eq!(far.cache.reach(context), None);
            let outputs = far.outputs(LAST);
            let error = outputs.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error < TOLERANCE, "{times} times a context of {context}: {error}");
            assert_eq!(far.cache.usage().resident_tokens, WINDOW + SINKS);
        }
    }
}

#[test]
fn there_is_no_limit_while_window_and_sinks_fit_into_the_context() {
    for (window, sinks, context, reach) in
        [(60, 4, 64, None), (64, 0, 64, None), (61, 4, 64, Some(64)), (usize::MAX, 4, 64, Some(64)), (1, 0, 1, None), (2, 0, 1, Some(1))]
    {
        let config = kv_sliding::Config { window, sinks, ..Default::default() };
        let cache = Sliding::new(config, &kv_conformance::toy_geometry()).expect("a cache");
        assert_eq!(cache.reach(context), reach, "a window of {window} and {sinks} sinks in a context of {context}");
    }
}
