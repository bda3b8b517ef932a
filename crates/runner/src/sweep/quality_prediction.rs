//! What judging quality takes, and which cells are judged.

use kv_report::RECALLS;

use super::prediction::RecordingPrediction;
use super::{Prediction, Setting};
use crate::config::Level;
use crate::estimate::Reuse;
use crate::recall_texts::RecallSource;
use crate::recording::{Queries, RecordingKey, Times, prompt_key};

impl Prediction<'_> {
    /// Whether a cell's attention is compared with dense attention. One sequence says what there is to say, and a cache that
    /// recomputes is what the others are compared with.
    pub(crate) fn judges_attention(&self, index: usize) -> bool {
        let cell = &self.plan.cells[index];
        self.plan.quality.as_ref().is_some_and(|quality| quality.judges(cell)) && !self.probes.recomputes(&cell.label)
    }

    /// Whether the model reads the text with a cell's cache.
    pub(crate) fn reads_text(&self, index: usize) -> bool {
        let has_text = self.plan.quality.as_ref().is_some_and(|quality| quality.text.is_some());
        has_text && self.plan.level == Level::Model && self.judges_attention(index)
    }

    /// Whether the text is also streamed: at the longest length of a label.
    pub(crate) fn streams(&self, index: usize) -> bool {
        let cell = &self.plan.cells[index];
        let is_alike = |other: &&usize| self.plan.cells[**other].label == cell.label && self.reads_text(**other);
        let measured = self.blocks.iter().flat_map(|block| &block.cells).filter(is_alike);
        let longest = measured.map(|cell| self.plan.cells[*cell].seq_len).max();
        let is_asked = self.plan.quality.as_ref().is_some_and(|quality| quality.streamed > 0);
        is_asked && self.reads_text(index) && longest == Some(cell.seq_len)
    }

    /// Windows of the text that fit into the memory of a worker at once: each has an exact cache in f32 and the cell's.
    pub(crate) fn windows_together(&self, index: usize) -> usize {
        let Some(quality) = &self.plan.quality else { return 1 };
        let longest = (self.plan.cells[index].seq_len + quality.steps).max(if self.streams(index) { quality.streamed } else { 0 });
        let exact = (longest as u64).saturating_mul(self.exact_token_bytes);
        let scale = longest as u64 / self.plan.cells[index].seq_len.max(1) as u64 + 1;
        let of_window = exact.saturating_add(self.caches[index].saturating_mul(scale)).max(1);
        // Logits of both sides, and the same once more while they are made.
        let logits = 4 * (quality.windows * quality.chunk.max(1)) as u64 * self.logits_bytes;
        let room = self.limit.saturating_sub(self.beside[index]).saturating_sub(logits);
        usize::try_from(room / of_window).unwrap_or(usize::MAX).clamp(1, quality.windows)
    }

    /// Seconds to record a window, or a text with facts.
    pub(crate) fn text_recording_seconds(&self, text: &RecordingPrediction) -> f64 {
        self.estimate.load() + self.estimate.prefill(text.key.tokens.len())
    }

    /// Seconds to compare a cell's attention.
    pub(crate) fn attention_seconds(&self, index: usize) -> f64 {
        // The rows of each sequence come into the cache and into the reference, and planted ones into one cache or two.
        let fills = 2.0 * self.windows.len().max(1) as f64 + 2.0;
        if self.judges_attention(index) { fills * self.estimate.replay(self.plan.cells[index].seq_len) + 2.0 } else { 0.0 }
    }

    /// Seconds to read the text with a cell's cache.
    pub(crate) fn text_seconds(&self, index: usize) -> f64 {
        let Some(quality) = self.plan.quality.as_ref().filter(|_| self.reads_text(index)) else { return 0.0 };
        let seq_len = self.plan.cells[index].seq_len;
        let sequences = 2 * quality.windows;
        let after_prompt =
            sequences as f64 * self.estimate.replay(seq_len) + quality.steps as f64 * self.estimate.step(seq_len, sequences, Reuse::Caches);
        let streamed = if self.streams(index) { sequences as f64 * self.estimate.prefill(quality.streamed) } else { 0.0 };
        self.estimate.load() + after_prompt + 1.5 * streamed + self.recall_seconds(seq_len, quality.questions)
    }

    /// Seconds to ask for facts in prompts of a length: of each text the prompt comes into both caches, and each question and its
    /// answer are a step of both.
    fn recall_seconds(&self, seq_len: usize, questions: usize) -> f64 {
        const TOKENS: usize = 16;
        let tasks = RECALLS.len() * questions;
        let asked = self.estimate.step(seq_len, 2 * TOKENS, Reuse::Caches) + self.estimate.prefill(2 * TOKENS);
        self.recall.len() as f64 * 2.0 * self.estimate.replay(seq_len) + tasks as f64 * asked
    }

    /// Seconds of all that judges a cell.
    pub(crate) fn quality_seconds(&self, index: usize) -> f64 {
        self.attention_seconds(index) + self.text_seconds(index)
    }

    /// The beginnings of the text's windows, up to the longest length of a cell that is judged.
    pub(super) fn window_keys(&self, setting: &Setting<'_>, model_hash: &str) -> Vec<RecordingKey> {
        let lengths = self.lengths_of_texts();
        setting.windows.iter().filter_map(|window| self.text_key(setting, model_hash, window, lengths.clone())).collect()
    }

    /// The texts with facts, up to the longest prompt of a cell that is judged.
    pub(super) fn recall_keys(&self, setting: &Setting<'_>, model_hash: &str) -> Vec<RecordingKey> {
        let lengths = self.lengths_of_texts();
        let key = |source: &RecallSource| {
            // A length without room for a question has no prompt, and each source has a recording all the same.
            let prompts = lengths.iter().map(|length| source.prompt(*length).tokens.max(1)).collect();
            self.text_key(setting, model_hash, source.text.tokens(), prompts)
        };
        setting.recall.iter().filter_map(key).collect()
    }

    /// The lengths of the cells for which a text is read.
    fn lengths_of_texts(&self) -> Vec<usize> {
        let judged = self.own_blocks().flat_map(|block| &block.cells).filter(|cell| self.reads_text(**cell));
        judged.map(|cell| self.plan.cells[*cell].seq_len).collect()
    }

    /// What is recorded of a text of which these beginnings are replayed.
    fn text_key(&self, setting: &Setting<'_>, model_hash: &str, text: &[u32], mut lengths: Vec<usize>) -> Option<RecordingKey> {
        lengths.sort_unstable();
        lengths.dedup();
        let tokens = text[..lengths.last().copied()?.min(text.len())].to_vec();
        let recorded = (Queries::Recorded, Times::LeftOut);
        Some(prompt_key(model_hash, tokens, self.plan.prefill_chunk, lengths, setting.threads, recorded))
    }
}
