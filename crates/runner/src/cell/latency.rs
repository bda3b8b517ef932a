//! The latency pass: the model drives the cache, every step is timed.

use std::time::{Duration, Instant};

use kv_core::{Guarantee, KvCache, Usage};
use kv_model::{Decoder, Sequence, StepInput, argmax};
use kv_report::Sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{CellError, Setting};
use crate::config::Workload;
use crate::plan::Cell;
use crate::timed::Timed;

pub(super) const PREFILL: &str = "prefill";
pub(super) const DECODE: &str = "decode";

/// What the pass measured.
pub(super) struct Latency {
    pub(super) samples: Vec<Sample>,
    pub(super) ttft_ms: f64,
    pub(super) usage: Usage,
    pub(super) guarantee: Guarantee,
}

/// Runs a cell's workload on a fresh cache. Its first decode step is a warm-up: it is slower than the others, because
/// code and memory that the prompt did not use are cold.
pub(super) fn measure(setting: &Setting<'_>, cell: &Cell) -> Result<Latency, CellError> {
    let run = Run::new(setting, cell)?;
    match cell.workload {
        Workload::Decode => run.decode(&prompts(setting, cell, cell.seq_len), setting.plan.decode_steps),
        Workload::Generate => run.decode(&prompts(setting, cell, 1), cell.seq_len - 1),
    }
}

/// Seeded random tokens: the same for every strategy, different for every sequence of a batch.
fn prompts(setting: &Setting<'_>, cell: &Cell, length: usize) -> Vec<Vec<u32>> {
    let vocabulary = setting.decoder.config().vocabulary as u32;
    let mut random = ChaCha8Rng::seed_from_u64(setting.seed);
    (0..cell.batch).map(|_| (0..length).map(|_| random.random_range(0..vocabulary)).collect()).collect()
}

/// A cache with its sequences and the steps timed so far.
struct Run<'a> {
    decoder: &'a Decoder,
    cell: &'a Cell,
    prefill_chunk: usize,
    cache: Timed,
    sequences: Vec<Sequence>,
    samples: Vec<Sample>,
}

impl<'a> Run<'a> {
    fn new(setting: &Setting<'a>, cell: &'a Cell) -> Result<Run<'a>, CellError> {
        let decoder = setting.decoder;
        let mut cache = Timed::new(cell.strategy.build(&cell.config, &decoder.config().geometry)?);
        let sequences = (0..cell.batch).map(|_| Sequence::open(&mut cache)).collect::<Result<_, _>>()?;
        Ok(Run { decoder, cell, prefill_chunk: setting.plan.prefill_chunk, cache, sequences, samples: vec![] })
    }

    /// Feeds the prompts, then takes `steps` greedy steps.
    fn decode(mut self, prompts: &[Vec<u32>], steps: usize) -> Result<Latency, CellError> {
        let start = Instant::now();
        let logits = self.decoder.prefill(&mut self.cache, &mut self.sequences, prompts, self.prefill_chunk)?;
        let mut next: Vec<u32> = logits.iter().map(|logits| argmax(logits)).collect();
        let prefill = start.elapsed();
        self.record(PREFILL, 0, prefill);
        for step in 0..steps {
            let start = Instant::now();
            let mut inputs: Vec<StepInput<'_>> = self
                .sequences
                .iter_mut()
                .zip(&next)
                .map(|(sequence, token)| StepInput { sequence, fresh: std::slice::from_ref(token) })
                .collect();
            let logits = self.decoder.step(&mut self.cache, &mut inputs)?;
            next = logits.iter().map(|logits| argmax(logits)).collect();
            self.record(DECODE, step, start.elapsed());
        }
        let ttft_ms = milliseconds(prefill);
        Ok(Latency { samples: self.samples, ttft_ms, usage: self.cache.usage(), guarantee: self.cache.guarantee() })
    }

    fn record(&mut self, phase: &str, step: usize, elapsed: Duration) {
        let spent = self.cache.take_spent();
        self.samples.push(Sample {
            label: self.cell.label.clone(),
            workload: self.cell.workload.name().into(),
            seq_len: self.cell.seq_len,
            batch: self.cell.batch,
            phase: phase.into(),
            step,
            warm_up: phase == DECODE && step == 0,
            position: self.sequences.first().map_or(0, |sequence| sequence.tokens().len()),
            step_ms: milliseconds(elapsed),
            cache_ms: milliseconds(spent.cache),
            seam_ms: milliseconds(spent.seam),
        });
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
