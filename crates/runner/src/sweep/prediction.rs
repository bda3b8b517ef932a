//! What a plan will take: blocks, bytes and seconds.

use kv_model::ModelConfig;

use super::{Certainty, Probes, Setting};
use crate::block::{Block, Sizes, TooLarge, blocks};
use crate::config::{FillChoice, Workload};
use crate::estimate::{Estimate, Filling, Reuse};
use crate::free_memory::size;
use crate::plan::{Cell, Plan};
use crate::recording::{Queries, RecordingKey, Store, prompt_key};

/// See [`predict`].
#[derive(Debug)]
pub(crate) struct Prediction {
    pub(crate) blocks: Vec<Block>,
    pub(crate) too_large: Vec<TooLarge>,
    /// What is recorded, and the bytes that it takes on disk.
    pub(crate) recording: Option<(RecordingKey, u64)>,
    estimate: Estimate,
    /// Bytes of caches by cell; 0 if the strategy does not say.
    caches: Vec<u64>,
    /// Bytes beside the caches by cell.
    beside: Vec<u64>,
    limit: u64,
}

/// Bytes that a worker takes beside weights, caches and steps.
const PROCESS: u64 = 64 << 20;

/// Predicts what a plan takes with a model of so many bytes.
pub(crate) fn predict(plan: &Plan, probes: &Probes, setting: &Setting<'_>, model_hash: &str, model_bytes: u64) -> Prediction {
    let config = setting.model_config;
    let caches: Vec<u64> = plan.cells.iter().map(|cell| probes.bytes(plan, cell).map_or(0, |(bytes, _)| bytes)).collect();
    let beside: Vec<u64> = (plan.cells.iter())
        .map(|cell| model_bytes.saturating_add(PROCESS).saturating_add(step_bytes(plan, cell, config, probes.recomputes(&cell.label))))
        .collect();
    let sizes = Sizes { caches: &|cell| caches[cell], beside: &|cell| beside[cell], limit: setting.memory_limit };
    let can_be_baseline = |cell: usize| {
        let label = &plan.cells[cell].label;
        probes.broken(label).is_none() && !probes.recomputes(label)
    };
    let (mut blocks, mut too_large) = blocks(plan, can_be_baseline, &sizes);
    // What cannot be built is in no block.
    let is_whole = |cell: &usize| probes.broken(&plan.cells[*cell].label).is_none();
    blocks.iter_mut().for_each(|block| block.cells.retain(is_whole));
    blocks.retain(|block| !block.cells.is_empty());
    too_large.retain(|too_large| is_whole(&too_large.cell));
    let mut prediction = Prediction {
        blocks,
        too_large,
        recording: None,
        estimate: Estimate::new(config, setting.threads),
        caches,
        beside,
        limit: setting.memory_limit,
    };
    prediction.recording = prediction.key(plan, probes, setting, model_hash).map(|key| {
        let bytes = Store::bytes(&key, &config.geometry);
        (key, bytes)
    });
    prediction
}

/// What a step of a cell takes beside its cache: activations, logits, and the rows that are on their way to the cache.
fn step_bytes(plan: &Plan, cell: &Cell, config: &ModelConfig, recomputes: bool) -> u64 {
    let tokens = if recomputes { plan.positions(cell) } else { plan.prefill_chunk.min(cell.seq_len) };
    let row = config.geometry.values_per_token().saturating_mul(size_of::<f32>());
    // The rows of a step stay until it is committed, in all layers.
    let rows = tokens.saturating_mul(row);
    let logits = config.vocabulary.saturating_mul(size_of::<f32>());
    let sequence = config.step_bytes(tokens).saturating_add(rows).saturating_add(logits);
    (cell.batch as u64).saturating_mul(sequence as u64)
}

impl Prediction {
    /// Seconds to load the model.
    pub(crate) fn load_seconds(&self) -> f64 {
        self.estimate.load()
    }

    /// Seconds of a cell's latency pass.
    pub(crate) fn latency_seconds(&self, plan: &Plan, probes: &Probes, cell: usize) -> f64 {
        let label = &plan.cells[cell].label;
        let reuse = if probes.recomputes(label) { Reuse::Recomputes } else { Reuse::Caches };
        self.estimate.latency(&plan.script(&plan.cells[cell]), reuse, self.filling(plan))
    }

    /// Seconds of a cell's memory pass.
    pub(crate) fn memory_seconds(&self, plan: &Plan, cell: usize) -> f64 {
        self.estimate.memory(&plan.script(&plan.cells[cell]))
    }

    /// Seconds to record the prompt.
    pub(crate) fn recording_seconds(&self) -> f64 {
        self.recording.as_ref().map_or(0.0, |(key, _)| self.estimate.load() + self.estimate.prefill(key.tokens.len()))
    }

    /// Seconds of a block, all its launches included.
    pub(crate) fn block_seconds(&self, plan: &Plan, probes: &Probes, block: &Block) -> f64 {
        let latency: f64 = block.again.iter().chain(&block.cells).map(|cell| self.latency_seconds(plan, probes, *cell)).sum();
        let memory: f64 = block.cells.iter().map(|cell| self.memory_seconds(plan, *cell)).sum();
        f64::from(plan.launches) * (self.estimate.load() + latency) + self.check_seconds(plan, block) + memory
    }

    /// Seconds of the real prefill that checks the composed times of a block.
    fn check_seconds(&self, plan: &Plan, block: &Block) -> f64 {
        let cell = &plan.cells[block.cells[0]];
        let is_composed = self.recording.is_some() && plan.ttft_launches > 0 && cell.workload == Workload::Decode;
        if is_composed { f64::from(plan.ttft_launches) * cell.batch as f64 * self.estimate.prefill(cell.seq_len) } else { 0.0 }
    }

    /// Seconds of a plan that only the time to first token costs.
    pub(crate) fn ttft_seconds(&self, plan: &Plan, probes: &Probes) -> f64 {
        if plan.ttft_launches == 0 || self.recording.is_none() {
            return 0.0;
        }
        let of_cell = |cell: &usize| {
            let script = plan.script(&plan.cells[*cell]);
            let with = |filling| self.estimate.latency(&script, Reuse::Caches, filling);
            f64::from(plan.ttft_launches) * (with(Filling::ReplayAttended) - with(Filling::Replay))
        };
        let is_replayed = |cell: &&usize| !probes.recomputes(&plan.cells[**cell].label);
        let cells = self.blocks.iter().flat_map(|block| block.again.iter().chain(&block.cells));
        cells.filter(is_replayed).map(of_cell).sum::<f64>() + self.blocks.iter().map(|block| self.check_seconds(plan, block)).sum::<f64>()
    }

    /// Bytes that the worker of a block takes, and whether all of its strategies say what they take.
    pub(crate) fn block_bytes(&self, plan: &Plan, probes: &Probes, block: &Block) -> (u64, Certainty) {
        let cells = || block.again.iter().chain(&block.cells);
        let caches = cells().map(|cell| self.caches[*cell]).fold(0, u64::saturating_add);
        let beside = cells().map(|cell| self.beside[*cell]).max().unwrap_or(0);
        let is_predicted = |cell: &usize| matches!(probes.bytes(plan, &plan.cells[*cell]), Some((_, Certainty::Predicted)));
        let certainty = if cells().all(is_predicted) { Certainty::Predicted } else { Certainty::Least };
        (caches.saturating_add(beside), certainty)
    }

    /// Why a cell is not measured.
    pub(crate) fn refusal(&self, too_large: &TooLarge) -> String {
        let TooLarge { cell, bytes } = too_large;
        let baseline = too_large.bytes.saturating_sub(self.caches[*cell]).saturating_sub(self.beside[*cell]);
        let beside_it = if baseline > 0 { format!(", the baseline's {} included", size(baseline)) } else { String::new() };
        format!("it needs {} of memory{beside_it}, and {} are free for a worker (`memory_limit`)", size(*bytes), size(self.limit))
    }

    fn filling(&self, plan: &Plan) -> Filling {
        match (&self.recording, plan.ttft_launches) {
            (None, _) => Filling::Model,
            (Some(_), 0) => Filling::Replay,
            (Some(_), _) => Filling::ReplayAttended,
        }
    }

    /// What is to be recorded: the prompts of the cells that are measured, if any of them can be replayed.
    fn key(&self, plan: &Plan, probes: &Probes, setting: &Setting<'_>, model_hash: &str) -> Option<RecordingKey> {
        if plan.fill == FillChoice::Prefill {
            return None;
        }
        let cells = self.blocks.iter().flat_map(|block| &block.cells).map(|cell| &plan.cells[*cell]);
        let mut lengths: Vec<usize> =
            cells.filter(|cell| cell.workload == Workload::Decode && !probes.recomputes(&cell.label)).map(|cell| cell.seq_len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let longest = *lengths.last()?;
        let queries = if plan.ttft_launches > 0 { Queries::Recorded } else { Queries::LeftOut };
        let tokens = crate::workload::random_tokens(plan.seed, setting.model_config.vocabulary, longest);
        Some(prompt_key(model_hash, tokens, plan.prefill_chunk, lengths, setting.threads, queries))
    }
}
