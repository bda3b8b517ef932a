//! What a plan will take: blocks, bytes and seconds.

use kv_core::Geometry;
use kv_model::ModelConfig;

use super::parts::Parts;
use super::{Certainty, Probes, Setting};
use crate::block::{Block, Sizes, TooLarge, blocks};
use crate::config::{FillChoice, HugePages, Level, Workload};
use crate::estimate::{Estimate, Filling, Reuse};
use crate::free_memory::size;
use crate::hash;
use crate::plan::{Cell, Plan, usual_rounds};
use crate::recording::{Queries, RecordingKey, Store, Times, prompt_key};
use crate::worker::protocol::{RowsSpec, ScriptSpec, Text};

/// See [`predict`].
#[derive(Debug, Clone)]
pub(crate) struct Prediction<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) probes: &'a Probes,
    pub(crate) blocks: Vec<Block>,
    pub(crate) too_large: Vec<TooLarge>,
    /// What is recorded.
    pub(crate) recording: Option<RecordingPrediction>,
    /// A hash of the tokens of the text that the model reads.
    pub(crate) text_hash: String,
    /// The windows of the text that are recorded.
    pub(crate) windows: Vec<RecordingPrediction>,
    /// The texts with facts that are recorded.
    pub(crate) recall: Vec<RecordingPrediction>,
    pub(super) estimate: Estimate,
    /// Bytes of caches by cell; 0 if the strategy does not say.
    pub(super) caches: Vec<u64>,
    /// Bytes beside the caches by cell.
    pub(super) beside: Vec<u64>,
    /// Bytes of a token in an exact cache in f32.
    pub(super) exact_token_bytes: u64,
    /// Bytes of the logits after one position.
    pub(super) logits_bytes: u64,
    pub(super) limit: u64,
    /// Bytes of the model's matrices.
    pub(super) model_bytes: u64,
    /// How the plan is shared, if it is.
    pub(super) parts: Option<Parts>,
}

/// A prompt to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct RecordingPrediction {
    pub(crate) key: RecordingKey,
    /// Bytes on disk.
    pub(crate) disk_bytes: u64,
    /// Bytes that the worker takes: the model, and an exact cache of the whole prompt.
    pub(crate) memory_bytes: u64,
}

/// Bytes that a worker takes beside weights, caches and steps: its own, a tokenizer of a large vocabulary, and stacks.
fn process_bytes(threads: usize) -> u64 {
    const OWN: u64 = 32 << 20;
    const TOKENIZER: u64 = 96 << 20;
    const STACK: u64 = 2 << 20;
    OWN + TOKENIZER + STACK * threads as u64
}

/// What so many bytes in so many buffers take beyond their size, if each ends with a huge page.
fn rounding(pages: HugePages, bytes: u64, buffers: u64) -> u64 {
    const HALF_A_PAGE: u64 = 1 << 20;
    let are_large = bytes / buffers.max(1) >= kv_metrics::LARGE_BUFFER_BYTES as u64;
    if pages == HugePages::Advise && are_large { HALF_A_PAGE.saturating_mul(buffers) } else { 0 }
}

/// Predicts what a plan takes with a model of so many bytes.
pub(crate) fn predict<'a>(plan: &'a Plan, probes: &'a Probes, setting: &Setting<'_>, model_hash: &str, model_bytes: u64) -> Prediction<'a> {
    let config = setting.model_config;
    let buffers = |cell: &Cell| (2 * config.geometry.layers as u64).saturating_mul(cell.batch as u64);
    let in_pages = |cell: &Cell, bytes: u64| bytes.saturating_add(rounding(setting.huge_pages, bytes, buffers(cell)));
    let caches: Vec<u64> =
        plan.cells.iter().map(|cell| probes.bytes_in_the_end(plan, cell).map_or(0, |bytes| in_pages(cell, bytes))).collect();
    // Where rows were recorded or are generated, the model is not there.
    let loaded_bytes = |cell: &Cell| if level_of(plan, cell) == Level::Model { model_bytes } else { 0 };
    let beside: Vec<u64> = (plan.cells.iter())
        .map(|cell| {
            loaded_bytes(cell).saturating_add(process_bytes(setting.planned_threads)).saturating_add(step_bytes(plan, cell, config, probes))
        })
        .collect();
    let sizes = Sizes { caches: &|cell| caches[cell], beside: &|cell| beside[cell], limit: setting.memory_limit };
    let is_whole = |cell: usize| probes.refusal(plan, &plan.cells[cell]).is_none();
    let reuse = |cell: usize| if probes.recomputes(&plan.cells[cell].label) { Reuse::Recomputes } else { Reuse::Caches };
    let (mut blocks, mut too_large) = blocks(plan, reuse, is_whole, &sizes);
    // What cannot be built, or has no room, is in no block.
    blocks.iter_mut().for_each(|block| block.cells.retain(|cell| is_whole(*cell)));
    blocks.retain(|block| !block.cells.is_empty());
    too_large.retain(|too_large| is_whole(too_large.cell));
    let mut prediction = Prediction {
        plan,
        probes,
        blocks,
        too_large,
        recording: None,
        text_hash: hash::short(
            &setting.windows.iter().chain([&setting.text]).flatten().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>(),
        ),
        windows: vec![],
        recall: vec![],
        estimate: Estimate::new(config, plan.level, setting.threads),
        caches,
        beside,
        exact_token_bytes: (config.geometry.values_per_token() * size_of::<f32>()) as u64,
        logits_bytes: (config.vocabulary * size_of::<f32>()) as u64,
        limit: setting.memory_limit,
        model_bytes,
        parts: None,
    };
    prediction.predict_recordings(setting, model_hash);
    prediction
}

/// What a step of a cell takes beside its cache: activations, logits, and the rows that are on their way to the cache.
fn step_bytes(plan: &Plan, cell: &Cell, config: &ModelConfig, probes: &Probes) -> u64 {
    /// As they are computed, as they are handed over, and as whoever wants them has them.
    const COPIES_OF_LOGITS: usize = 3;
    let scripted = plan.script(cell).scripted;
    let (chunk, logits) = scripted.as_ref().map_or((plan.prefill_chunk, 0), |script| script.step_tokens(plan.prefill_chunk));
    let chunk = chunk.min(cell.seq_len);
    let (tokens, sequences) = match (probes.recomputes(&cell.label), &scripted) {
        (true, _) => (probes.positions(plan, cell), cell.batch),
        // A script feeds one prompt at a time, and decodes together.
        (false, Some(_)) => (chunk.max(cell.batch), 1),
        (false, None) => (chunk, cell.batch),
    };
    let logits = logits.saturating_mul(COPIES_OF_LOGITS * config.vocabulary * size_of::<f32>()) as u64;
    let of_steps = (sequences as u64).saturating_mul(chunk_bytes(config, level_of(plan, cell), tokens));
    of_steps.saturating_add(logits).saturating_add(scripted.map_or(0, |script| script.bytes_beside()))
}

/// What a cell runs: scripts that feed rows run no model.
fn level_of(plan: &Plan, cell: &Cell) -> Level {
    if plan.script(cell).scripted.is_some_and(|script| !script.needs_model()) { Level::Attention } else { plan.level }
}

/// What a step of one sequence takes.
fn chunk_bytes(config: &ModelConfig, level: Level, tokens: usize) -> u64 {
    let Geometry { heads, key_dim, value_dim, .. } = config.geometry;
    let row = config.geometry.values_per_token().saturating_mul(size_of::<f32>());
    // The rows of a step stay until it is committed, in all layers.
    let rows = tokens.saturating_mul(row);
    let beside = match level {
        Level::Model => config.step_bytes(tokens).saturating_add(config.vocabulary.saturating_mul(size_of::<f32>())),
        // Queries and outputs of the layer in hand.
        Level::Attention => tokens.saturating_mul(heads * (key_dim + value_dim) * size_of::<f32>()),
    };
    rows.saturating_add(beside) as u64
}

impl Prediction<'_> {
    /// Predicts what is recorded for the blocks that this run measures.
    pub(super) fn predict_recordings(&mut self, setting: &Setting<'_>, model_hash: &str) {
        let config = setting.model_config;
        let (model_bytes, chunk) = (self.model_bytes, self.plan.prefill_chunk);
        let recorded = |key: RecordingKey| {
            let tokens = key.tokens.len();
            let row = (config.geometry.values_per_token() * size_of::<f32>()) as u64;
            let step = chunk_bytes(config, Level::Model, chunk.min(tokens));
            let memory_bytes = model_bytes + process_bytes(setting.planned_threads) + row * tokens as u64 + step;
            RecordingPrediction { disk_bytes: Store::bytes(&key, &config.geometry), memory_bytes, key }
        };
        self.recording = self.key(setting, model_hash).map(recorded);
        self.windows = self.window_keys(setting, model_hash).into_iter().map(recorded).collect();
        self.recall = self.recall_keys(setting, model_hash).into_iter().map(recorded).collect();
    }

    /// Seconds to load the model.
    pub(crate) fn load_seconds(&self) -> f64 {
        self.estimate.load()
    }

    /// Whether a cell is fed with recorded rows.
    pub(crate) fn reads_recording(&self, cell: usize) -> bool {
        self.recording.is_some() && (self.plan.level == Level::Attention || self.can_be_replayed(cell))
    }

    /// Whether a recorded prompt can be replayed into a cell's cache, where a model computes what cannot.
    pub(crate) fn can_be_replayed(&self, cell: usize) -> bool {
        let cell = &self.plan.cells[cell];
        cell.workload == Workload::Decode && !self.probes.recomputes(&cell.label)
    }

    fn reuse(&self, cell: usize) -> Reuse {
        if self.probes.recomputes(&self.plan.cells[cell].label) { Reuse::Recomputes } else { Reuse::Caches }
    }

    /// What the script of a cell depends on. A step of a strategy that recomputes takes as long as a prefill, so it takes few.
    pub(crate) fn script(&self, cell: usize) -> ScriptSpec {
        const RECOMPUTED_STEPS: usize = 3;
        let script = self.plan.script(&self.plan.cells[cell]);
        let most = if self.reuse(cell) == Reuse::Recomputes { RECOMPUTED_STEPS } else { usize::MAX };
        ScriptSpec { decode_steps: script.decode_steps.min(most), ..script }
    }

    /// Launches of a block before it is known how much its times spread: one of cells that recompute.
    pub(crate) fn launches(&self, block: &Block) -> u32 {
        if block.reuse == Reuse::Recomputes { 1 } else { self.plan.launches }
    }

    /// Rounds of a launch of a block.
    pub(crate) fn rounds(&self, block: &Block) -> usize {
        /// A script is long, and its first run pays for what later ones find ready.
        const RUNS: usize = 2;
        let script = self.script(block.cells[0]);
        if script.scripted.is_some() && block.reuse == Reuse::Caches {
            return self.plan.rounds.unwrap_or(RUNS);
        }
        let steps = crate::workloads::decode_steps(&script);
        if block.reuse == Reuse::Recomputes { 1 } else { self.plan.rounds.unwrap_or_else(|| usual_rounds(steps)) }
    }

    /// Whether prompts come into caches as rows that are known: recorded, or generated.
    fn is_filled_with_rows(&self) -> bool {
        self.recording.is_some() || self.plan.level == Level::Attention
    }

    /// Seconds of a cell's latency pass in this launch.
    pub(crate) fn latency_seconds(&self, cell: usize, launch: u32) -> f64 {
        let filling = match () {
            () if !self.is_filled_with_rows() => Filling::Model,
            () if launch < self.plan.ttft_launches => Filling::ReplayAttended,
            () => Filling::Replay,
        };
        let script = self.script(cell);
        let block = self.blocks.iter().find(|block| block.cells.contains(&cell)).filter(|_| script.scripted.is_some());
        let runs = block.map_or(1, |block| self.rounds(block));
        runs as f64 * self.estimate.latency(&script, self.reuse(cell), filling)
    }

    /// Whether a cell's cache is also followed along the text: the longest of its label in the smallest batch, unless it
    /// recomputes. Where a label has cells of both workloads, it is one that decodes: the text is the same.
    pub(crate) fn text(&self, index: usize) -> Text {
        let cell = &self.plan.cells[index];
        let measured = || self.blocks.iter().flat_map(|block| &block.cells).map(|cell| &self.plan.cells[*cell]);
        let is_alike = |other: &&Cell| other.label == cell.label && other.workload == cell.workload;
        let smallest = measured().filter(is_alike).map(|cell| cell.batch).min();
        let longest = measured().filter(is_alike).map(|cell| cell.seq_len).max();
        let decodes = measured().any(|other| other.label == cell.label && other.workload == Workload::Decode);
        let is_followed = longest == Some(cell.seq_len)
            && smallest == Some(cell.batch)
            && (cell.workload == Workload::Decode || !decodes)
            && !self.probes.recomputes(&cell.label);
        if is_followed && cell.workload.has_lengths() { Text::Followed } else { Text::LeftOut }
    }

    /// Bytes that another sequence of a cell may take in its memory pass.
    pub(crate) fn room_to_fork(&self, cell: usize) -> u64 {
        self.limit.saturating_sub(self.caches[cell]).saturating_sub(self.beside[cell])
    }

    /// Seconds of a cell's memory pass.
    pub(crate) fn memory_seconds(&self, cell: usize) -> f64 {
        self.estimate.memory(&self.script(cell), self.text(cell))
    }

    /// Seconds to record the prompt.
    pub(crate) fn recording_seconds(&self) -> f64 {
        let Some(RecordingPrediction { key, .. }) = &self.recording else { return 0.0 };
        // Once to be written down, and once to be timed.
        let passes = if key.times == Times::Taken { 2.0 } else { 1.0 };
        self.estimate.load() + passes * self.estimate.prefill(key.tokens.len())
    }

    /// Seconds of a block, all its launches included.
    pub(crate) fn block_seconds(&self, block: &Block) -> f64 {
        let memory: f64 = block.cells.iter().map(|cell| self.memory_seconds(*cell) + self.quality_seconds(*cell)).sum();
        let of_launch = |launch| self.launch_seconds(block, &block.cells, launch);
        (0..self.launches(block)).map(of_launch).sum::<f64>() + memory
    }

    /// Seconds of one launch of some cells of a block: the model is loaded, the baseline may be timed again, and a real
    /// prefill checks the composed times.
    pub(crate) fn launch_seconds(&self, block: &Block, cells: &[usize], launch: u32) -> f64 {
        let of_cell = |cell: &usize| self.latency_seconds(*cell, launch);
        let check = if launch == 0 { self.check_seconds(block) } else { 0.0 };
        self.estimate.load() + block.control.iter().chain(&block.again).chain(cells).map(of_cell).sum::<f64>() + check
    }

    /// Seconds of the real prefill that checks the composed times of a block.
    fn check_seconds(&self, block: &Block) -> f64 {
        let checked = block.cells.iter().find(|cell| self.can_be_replayed(**cell));
        let is_composed = self.recording.is_some() && self.plan.level == Level::Model && self.plan.ttft_launches > 0;
        let Some(cell) = checked.filter(|_| is_composed).map(|cell| &self.plan.cells[*cell]) else { return 0.0 };
        cell.batch as f64 * self.estimate.prefill(cell.seq_len)
    }

    /// Seconds of a plan that only the time to first token costs.
    pub(crate) fn ttft_seconds(&self) -> f64 {
        if self.plan.ttft_launches == 0 || !self.is_filled_with_rows() {
            return 0.0;
        }
        let of_cell = |cell: &usize| {
            let script = self.script(*cell);
            let with = |filling| self.estimate.latency(&script, Reuse::Caches, filling);
            f64::from(self.plan.ttft_launches) * (with(Filling::ReplayAttended) - with(Filling::Replay))
        };
        let cells = self.blocks.iter().flat_map(|block| block.again.iter().chain(&block.cells));
        cells.filter(|cell| self.can_be_replayed(**cell)).map(of_cell).sum::<f64>()
            + self.blocks.iter().map(|block| self.check_seconds(block)).sum::<f64>()
    }

    /// Bytes that the worker of a block takes, and whether all of its strategies say what they take.
    pub(crate) fn block_bytes(&self, block: &Block) -> (u64, Certainty) {
        let cells = || block.again.iter().chain(&block.cells);
        let caches = cells().chain(&block.control).map(|cell| self.caches[*cell]).fold(0, u64::saturating_add);
        let beside = cells().map(|cell| self.beside[*cell]).max().unwrap_or(0);
        let is_predicted = |cell: &usize| matches!(self.probes.bytes(self.plan, &self.plan.cells[*cell]), Some((_, Certainty::Predicted)));
        let certainty = if cells().all(is_predicted) { Certainty::Predicted } else { Certainty::Least };
        (caches.saturating_add(beside), certainty)
    }

    /// Why a cell is not measured.
    pub(crate) fn refusal(&self, too_large: &TooLarge) -> String {
        let TooLarge { bytes, baseline_bytes, .. } = too_large;
        let beside_it = if *baseline_bytes > 0 { format!(", the baseline's {} included", size(*baseline_bytes)) } else { String::new() };
        // Sums end at the largest number there is.
        let at_least = if *bytes == u64::MAX { "at least " } else { "" };
        let (needed, free) = (format!("{at_least}{}", size(*bytes)), size(self.limit));
        // Rounded, the two may look alike.
        let exactly = if needed == free { format!(", {} bytes too many", bytes - self.limit) } else { String::new() };
        format!("it needs {needed} of memory{beside_it}, and {free} are free for a worker (`memory_limit`){exactly}")
    }

    /// What is to be recorded: the prompts of the cells that are measured, if any of them can be replayed; and for caches alone
    /// also what follows, which no model computes.
    fn key(&self, setting: &Setting<'_>, model_hash: &str) -> Option<RecordingKey> {
        let cells = || self.own_blocks().flat_map(|block| &block.cells).copied();
        let mut lengths: Vec<usize> = match setting.rows {
            RowsSpec::Generated { .. } => return None,
            RowsSpec::Model(_) if self.plan.fill == FillChoice::Prefill => return None,
            RowsSpec::Model(_) => cells().filter(|cell| self.can_be_replayed(*cell)).map(|cell| self.plan.cells[cell].seq_len).collect(),
            RowsSpec::Recorded { .. } => {
                let cells = cells().filter(|cell| self.plan.cells[*cell].workload.has_lengths());
                cells.flat_map(|cell| [self.plan.cells[cell].seq_len, self.plan.positions(&self.plan.cells[cell])]).collect()
            }
        };
        lengths.sort_unstable();
        lengths.dedup();
        let longest = *lengths.last()?;
        let recorded = match setting.rows {
            RowsSpec::Model(_) if self.plan.ttft_launches > 0 => (Queries::Recorded, Times::Taken),
            // Attention is compared on them, unless there is a text.
            RowsSpec::Model(_) if self.plan.quality.is_some() && setting.windows.is_empty() => (Queries::Recorded, Times::LeftOut),
            RowsSpec::Recorded { .. } => (Queries::Recorded, Times::LeftOut),
            _ => (Queries::LeftOut, Times::LeftOut),
        };
        let tokens = crate::workloads::random_tokens(self.plan.seed, setting.model_config.vocabulary, longest);
        Some(prompt_key(model_hash, tokens, self.plan.prefill_chunk, lengths, setting.threads, recorded))
    }
}
