//! Reads an encoder's rows.

use std::time::Instant;

use kv_core::reference::attend_views;
use kv_core::{Fresh, Geometry, Rows, SeqId, View};
use kv_kernels::{HeadShape, Mask, Matrix, Part, Product, Run, WeightFormat, awake, multiply};
use kv_script::{Attention, Fed, RowSource, chunks, cross_step, step};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::outcome::Outcome;
use super::refusal::Refusal;
use super::stage::{Host, Stage, Took};
use crate::drivers::CellRows;
use crate::recording::ReplayError;
use crate::worker::milliseconds;
use crate::worker::protocol::ScriptSpec;
use crate::workloads::{RECOMPUTED_STEPS, Summarise};

/// The encoder's keys and values are kept.
const KEPT: &str = "encoder kept";
/// They are computed again at every step.
const RECOMPUTED: &str = "recomputed";

/// A summary under way.
struct Summary<'a, H: Host> {
    summarise: &'a Summarise,
    geometry: Geometry,
    stage: Stage<'a, H::Driver>,
    encoder: CellRows,
    decoder: CellRows,
    chunk: usize,
}

pub(super) fn run<H: Host>(
    host: &H,
    summarise: &Summarise,
    script: &ScriptSpec,
    progress: &dyn Fn(usize, usize),
) -> Result<Outcome, Refusal> {
    let geometry = host.geometry().clone();
    let rows = |seed: u64| CellRows::generated(geometry.clone(), seed);
    let mut summary = Summary::<H> {
        summarise,
        stage: host.stage()?,
        encoder: rows(script.seed.wrapping_add(1)),
        decoder: rows(script.seed),
        chunk: script.prefill_chunk,
        geometry,
    };
    let mut outcome = Outcome { notes: vec![summary.note(script.seed)], ..Outcome::default() };
    let encoder = summary.encode(&mut outcome)?;
    let steps = summary.decode(encoder, &mut outcome)?;
    progress(1, 2);
    if summary.stage.is_timed() {
        let recomputed = summary.recompute(script.seed, &mut outcome)?;
        let median = |took: &mut dyn Iterator<Item = f64>| kv_metrics::quantile(&took.collect::<Vec<_>>(), 0.5);
        // The first step of each way pays for what came before it.
        let kept = median(&mut steps.iter().skip(1).map(|(_, took)| took.ms));
        if let Some((kept, recomputed)) = kept.zip(median(&mut recomputed.into_iter().skip(1))) {
            outcome.put(KEPT, "step_ratio", 0, kept / recomputed);
        }
        outcome.compare_by(steps);
    }
    progress(2, 2);
    Ok(outcome)
}

impl<H: Host> Summary<'_, H> {
    fn note(&self, seed: u64) -> String {
        let Geometry { layers, heads, key_dim, .. } = self.geometry;
        format!(
            "the shape of {}: {layers} layers, {heads} heads of {key_dim}; no model ran, and rows were generated with seed {seed}",
            self.summarise.shape
        )
    }

    /// Appends the encoder's rows.
    fn encode(&mut self, outcome: &mut Outcome) -> Result<SeqId, Refusal> {
        let input = self.summarise.input();
        let chunk = if self.stage.cache().recomputes() { input } else { self.chunk };
        let (encoder, mut took) = self.stage.call(|cache| cache.open())?;
        for positions in chunks(0..input, chunk) {
            let source = &mut self.encoder;
            took += self.stage.call(|cache| step(cache, source, &[(encoder, positions)], Attention::Skipped))?.1.of_cache();
        }
        took += self.stage.call(|cache| cache.prompt_end(encoder))?.1;
        if self.stage.is_timed() {
            outcome.put(KEPT, "encoder_ms", 0, took.ms);
        }
        if let Some(bytes) = self.stage.heap_bytes() {
            outcome.put(KEPT, "heap_bytes", 0, bytes);
            outcome.put(KEPT, "encoder_heap_bytes", 0, bytes);
        }
        Ok(encoder)
    }

    /// Takes all steps of the decoder.
    fn decode(&mut self, encoder: SeqId, outcome: &mut Outcome) -> Result<Vec<(usize, Took)>, Refusal> {
        let of_encoder = self.stage.heap_bytes();
        let (own, _) = self.stage.call(|cache| cache.open())?;
        let (mut steps, mut last) = (vec![], vec![]);
        for position in 0..self.summarise.steps {
            last.clear();
            let own = Fed { sequence: own, source: &mut self.decoder };
            let read = Fed { sequence: encoder, source: &mut self.encoder };
            let look = |_, rows| last.push(rows);
            let ((), took) = self.stage.call(|cache| awake(|| cross_step(cache, own, position..position + 1, read, look)))?;
            let took = took.of_cache();
            match self.stage.heap_bytes() {
                Some(bytes) => outcome.put(KEPT, "heap_bytes", position + 1, bytes),
                None => outcome.put(KEPT, "step_ms", position + 1, took.ms),
            }
            steps.push((position + 1, took));
        }
        if let Some((of_encoder, all)) = of_encoder.zip(self.stage.heap_bytes()) {
            outcome.put(KEPT, "decoder_heap_bytes", 0, all - of_encoder);
            // Here, where no times are taken.
            outcome.put(KEPT, "read_error", 0, self.error(&last)?);
        }
        Ok(steps)
    }

    /// The relative L2 error of what the layers have read at the last step, against dense attention over the encoder's rows as they
    /// were.
    fn error(&mut self, read: &[Rows]) -> Result<f64, Refusal> {
        let input = self.summarise.input();
        let position = input + self.summarise.steps - 1;
        let (mut squares, mut of_dense) = (0.0, 0.0);
        for (layer, read) in read.iter().enumerate() {
            let source = &mut self.encoder;
            let keys = source.keys(layer, 0..input).map_err(in_words)?;
            let fresh = Fresh { keys, values: source.values(layer, 0..input).map_err(in_words)? };
            let queries = source.queries(layer, position..position + 1).map_err(in_words)?;
            let view = |head: usize| {
                let mut view = View::default();
                view.extend(0, &fresh, head);
                view
            };
            let views: Vec<View> = (0..self.geometry.kv_heads).into_par_iter().map(view).collect();
            let dense = attend_views(&self.geometry, 0, &queries, &views, |_, _| true);
            for (dense, read) in dense.values().iter().zip(read.values()) {
                squares += f64::from(dense - read).powi(2);
                of_dense += f64::from(*dense).powi(2);
            }
        }
        Ok((squares / of_dense).sqrt())
    }

    /// The times of steps from the first to the last, if the encoder's keys and values are computed again: the decoder's own rows are
    /// kept all the same.
    fn recompute(&mut self, seed: u64, outcome: &mut Outcome) -> Result<Vec<f64>, Refusal> {
        let steps = self.summarise.steps;
        let projection = Projection::new(self.summarise, &self.geometry, seed);
        let (own, _) = self.stage.call(|cache| cache.open())?;
        let mut feed = |stage: &mut Stage<'_, H::Driver>, positions, attention| {
            let source = &mut self.decoder;
            stage.call(|cache| awake(|| step(cache, source, &[(own, positions)], attention)))
        };
        let (mut times, mut fed) = (vec![], 0);
        for index in 0..RECOMPUTED_STEPS {
            let position = index * (steps - 1) / (RECOMPUTED_STEPS - 1);
            if fed < position {
                feed(&mut self.stage, fed..position, Attention::Skipped)?;
            }
            fed = position + 1;
            let ((), took) = feed(&mut self.stage, position..position + 1, Attention::Run)?;
            let queries: Result<Vec<Rows>, ReplayError> =
                (0..self.geometry.layers).map(|layer| self.encoder.queries(layer, position..position + 1)).collect();
            let queries = queries.map_err(in_words)?;
            let began = Instant::now();
            awake(|| projection.attend(&queries));
            let ms = took.of_cache().ms + milliseconds(began.elapsed());
            outcome.put(RECOMPUTED, "step_ms", position + 1, ms);
            times.push(ms);
        }
        Ok(times)
    }
}

fn in_words(error: ReplayError) -> Refusal {
    Refusal::Failed(error.to_string())
}

/// What computes the encoder's keys and values.
struct Projection<'a> {
    geometry: &'a Geometry,
    /// Values of a hidden state.
    hidden: usize,
    /// The encoder's hidden states, `[input, hidden]`.
    states: Vec<f32>,
    /// For each layer the matrices of keys and of values, `[heads · dim, hidden]`.
    matrices: Vec<[Vec<f32>; 2]>,
}

impl<'a> Projection<'a> {
    fn new(summarise: &Summarise, geometry: &'a Geometry, seed: u64) -> Projection<'a> {
        let (hidden, input) = (summarise.hidden(), summarise.input());
        let drawn = |stream: usize, rows: usize, limit: f32| -> Vec<f32> {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(stream as u64);
            (0..rows * hidden).map(|_| random.random_range(-limit..limit)).collect()
        };
        // Of variance 1, and 1 / hidden.
        let (of_state, of_weight) = (3f32.sqrt(), (3.0 / hidden as f32).sqrt());
        let layer = |layer: usize| {
            let matrix = |index: usize, dim: usize| drawn(2 * layer + index, geometry.kv_heads * dim, of_weight);
            [matrix(1, geometry.key_dim), matrix(2, geometry.value_dim)]
        };
        let matrices = (0..geometry.layers).into_par_iter().map(layer).collect();
        Projection { geometry, hidden, states: drawn(0, input, of_state), matrices }
    }

    /// Computes keys and values of every layer and attends to them, with `[1, heads, key_dim]` queries for each.
    fn attend(&self, queries: &[Rows]) {
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = *self.geometry;
        let input = self.states.len() / self.hidden;
        let (mut keys, mut values) = (vec![0.0; input * kv_heads * key_dim], vec![0.0; input * kv_heads * value_dim]);
        for ([of_keys, of_values], queries) in self.matrices.iter().zip(queries) {
            let product = |weights: &[f32], out: &mut [f32]| {
                let matrix = Matrix::new(WeightFormat::F32, [weights.len() / self.hidden, self.hidden], bytemuck::cast_slice(weights));
                multiply(&self.states, &mut [Product { matrix, out }]);
            };
            product(of_keys, &mut keys);
            product(of_values, &mut values);
            let runs = vec![Run::Rows { keys: &keys, values: &values, first_position: 0 }];
            let part = Part { queries: queries.values(), mask: Mask::Causal, runs };
            kv_kernels::attend(HeadShape { heads, kv_heads, key_dim, value_dim }, input, &[part]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Measured, run};
    use super::*;
    use crate::workloads::{EncoderDecoder, Scripted};

    fn summarised(strategy: (&str, &str), measured: Measured) -> Result<Outcome, Refusal> {
        let summarise = Summarise { shape: EncoderDecoder::T5Small, input: Some(96), steps: 4 };
        run(Scripted::Summarise(summarise), strategy, measured)
    }

    #[test]
    fn what_an_exact_cache_reads_of_the_encoder_equals_dense_attention() {
        for (strategy, least, most) in [
            (("contiguous", ""), 0.0, 1e-5),
            (("paged", "block_size = 16"), 0.0, 1e-5),
            (("sliding", "window = 96"), 0.0, 1e-5),
            (("contiguous", "format = 'f16'"), 1e-6, 1e-2),
            (("quantized", "format = 'q8_0'"), 1e-4, 0.1),
            (("sliding", "window = 32"), 0.1, 100.0),
        ] {
            let error = summarised(strategy, Measured::Bytes).unwrap().at(KEPT, "read_error", 0).unwrap();
            assert!((least..most).contains(&error), "{strategy:?}: {error}");
        }
    }

    #[test]
    fn every_step_is_timed_and_set_beside_some_that_compute_everything_again() {
        let outcome = summarised(("paged", ""), Measured::Times).unwrap();
        let times = |variant| (1..=4).filter_map(|step| outcome.at(variant, "step_ms", step)).filter(|ms| *ms > 0.0).count();
        assert_eq!((times(KEPT), times(RECOMPUTED), outcome.steps.len()), (4, RECOMPUTED_STEPS, 4));
        assert!(outcome.at(KEPT, "step_ratio", 0).is_some() && outcome.at(KEPT, "encoder_ms", 0).is_some());
        assert_eq!(outcome.notes, ["the shape of t5-small: 6 layers, 8 heads of 64; no model ran, and rows were generated with seed 5"]);
    }

    #[test]
    fn a_cache_that_keeps_nothing_has_nothing_to_read() {
        let refused = summarised(("naive", ""), Measured::Times).map(|_| ()).unwrap_err();
        assert_eq!(refused.status(), kv_report::Status::Unsupported);
        assert!(refused.reason().contains("`naive` does not support read: it keeps no rows between steps"), "{}", refused.reason());
    }
}
