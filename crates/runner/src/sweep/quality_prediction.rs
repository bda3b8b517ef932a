//! What judging quality takes, and which cells are judged.

use super::{Prediction, Setting};
use crate::config::Level;
use crate::estimate::Reuse;
use crate::plan::is_judged;
use crate::recording::{Queries, RecordingKey, Times, prompt_key};

impl Prediction<'_> {
    /// Whether a cell's attention is compared with dense attention. One sequence says what there is to say, and a cache that
    /// recomputes is what the others are compared with.
    pub(crate) fn judges_attention(&self, index: usize) -> bool {
        let cell = &self.plan.cells[index];
        self.plan.quality.is_some() && is_judged(cell) && !self.probes.recomputes(&cell.label)
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

    /// Seconds to record a window.
    pub(crate) fn window_seconds(&self) -> f64 {
        self.windows.first().map_or(0.0, |window| self.estimate.load() + self.estimate.prefill(window.key.tokens.len()))
    }

    /// Seconds to compare a cell's attention.
    pub(crate) fn attention_seconds(&self, index: usize) -> f64 {
        // The rows come into the cache, into the reference, and planted into two caches.
        if self.judges_attention(index) { 4.0 * self.estimate.replay(self.plan.cells[index].seq_len) + 2.0 } else { 0.0 }
    }

    /// Seconds to read the text with a cell's cache.
    pub(crate) fn text_seconds(&self, index: usize) -> f64 {
        let Some(quality) = self.plan.quality.as_ref().filter(|_| self.reads_text(index)) else { return 0.0 };
        let seq_len = self.plan.cells[index].seq_len;
        let sequences = 2 * quality.windows;
        let after_prompt =
            sequences as f64 * self.estimate.replay(seq_len) + quality.steps as f64 * self.estimate.step(seq_len, sequences, Reuse::Caches);
        let streamed = if self.streams(index) { sequences as f64 * self.estimate.prefill(quality.streamed) } else { 0.0 };
        self.estimate.load() + after_prompt + 1.5 * streamed
    }

    /// Seconds of all that judges a cell.
    pub(crate) fn quality_seconds(&self, index: usize) -> f64 {
        self.attention_seconds(index) + self.text_seconds(index)
    }

    /// The beginnings of the text's windows, up to the longest length of a cell that is judged.
    pub(super) fn window_keys(&self, setting: &Setting<'_>, model_hash: &str) -> Vec<RecordingKey> {
        let judged = self.own_blocks().flat_map(|block| &block.cells).filter(|cell| self.reads_text(**cell));
        let mut lengths: Vec<usize> = judged.map(|cell| self.plan.cells[*cell].seq_len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let Some(longest) = lengths.last().copied() else { return vec![] };
        let key = |window: &Vec<u32>| {
            let tokens = window[..longest.min(window.len())].to_vec();
            prompt_key(model_hash, tokens, self.plan.prefill_chunk, lengths.clone(), setting.threads, (Queries::Recorded, Times::LeftOut))
        };
        setting.windows.iter().map(key).collect()
    }
}
