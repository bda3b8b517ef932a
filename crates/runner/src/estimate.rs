//! How long things take, roughly: for a dry run, the progress and the patience with a worker.

use kv_core::Geometry;
use kv_model::ModelConfig;

use crate::config::{Level, Workload};
use crate::worker::protocol::{ScriptSpec, Text};
use crate::workloads::Load;

/// Per second and thread: multiply-adds of many tokens with weights, multiply-adds of attention, weights decoded for a single
/// token, and weights loaded or drawn.
const MATRIX_RATE: f64 = 20e9;
const ATTENTION_RATE: f64 = 6e9;
const DECODING_RATE: f64 = 5e9;
const LOADING_RATE: f64 = 3e8;
/// Values of a recording read, converted and stored per second.
const REPLAY_RATE: f64 = 2e8;

/// Estimates for one model on this machine.
///
/// A token costs one multiply-add per weight, and a cached token `heads · (key_dim + value_dim)` of them per layer. Several
/// tokens at once run at the speed of arithmetic, single tokens at the speed of decoding the weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Estimate {
    weights: f64,
    /// Multiply-adds of a query and a key, over all layers and heads.
    pair: f64,
    /// Values that a token adds to the cache.
    row_values: f64,
    threads: f64,
}

/// Whether a cache computes everything again at every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Recomputes,
    Caches,
}

/// How a prompt comes into a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filling {
    /// The model computes it.
    Model,
    /// It is replayed, with attention.
    ReplayAttended,
    /// It is replayed without.
    Replay,
}

impl Estimate {
    /// Of caches alone, no weights are loaded and none are multiplied.
    pub(crate) fn new(model: &ModelConfig, level: Level, threads: usize) -> Estimate {
        let Geometry { layers, heads, key_dim, value_dim, .. } = model.geometry;
        Estimate {
            weights: if level == Level::Model { model.weights() as f64 } else { 0.0 },
            pair: layers as f64 * heads as f64 * (key_dim + value_dim) as f64,
            row_values: model.geometry.values_per_token() as f64,
            threads: threads as f64,
        }
    }

    /// The same work with so many threads.
    pub(crate) fn at(self, threads: usize) -> Estimate {
        Estimate { threads: threads as f64, ..self }
    }

    /// Seconds to start a process and to end it.
    const PROCESS: f64 = 0.05;

    /// Seconds to start a process that loads or draws the weights.
    pub(crate) fn load(&self) -> f64 {
        Estimate::PROCESS + self.weights / (LOADING_RATE * self.threads)
    }

    /// Seconds in which the model computes a prompt.
    pub(crate) fn prefill(&self, tokens: usize) -> f64 {
        tokens as f64 * self.weights / (MATRIX_RATE * self.threads) + self.attention(tokens)
    }

    /// Seconds of the attention of a whole prompt.
    fn attention(&self, tokens: usize) -> f64 {
        let tokens = tokens as f64;
        tokens * tokens / 2.0 * self.pair / (ATTENTION_RATE * self.threads)
    }

    /// Seconds in which known rows come into a cache.
    pub(crate) fn replay(&self, tokens: usize) -> f64 {
        tokens as f64 * self.row_values / REPLAY_RATE
    }

    /// Seconds in which a prompt comes into the caches of a batch.
    fn fill(&self, tokens: usize, batch: usize, filling: Filling) -> f64 {
        let replay = self.replay(tokens);
        batch as f64
            * match filling {
                Filling::Model => self.prefill(tokens),
                Filling::ReplayAttended => replay + self.attention(tokens),
                Filling::Replay => replay,
            }
    }

    /// Seconds of a decode step of a batch with so many tokens in each sequence.
    pub(crate) fn step(&self, depth: usize, batch: usize, reuse: Reuse) -> f64 {
        let weights = self.weights / (DECODING_RATE * self.threads);
        match reuse {
            Reuse::Recomputes => batch as f64 * self.prefill(depth).max(weights),
            // Weights are read once for the whole batch.
            Reuse::Caches => weights + batch as f64 * depth as f64 * self.pair / (ATTENTION_RATE * self.threads),
        }
    }

    /// Seconds of a cell's latency pass.
    pub(crate) fn latency(&self, script: &ScriptSpec, reuse: Reuse, filling: Filling) -> f64 {
        let ScriptSpec { seq_len, batch, decode_steps, .. } = *script;
        if let Some(scripted) = &script.scripted {
            let weights = if scripted.needs_model() { self.weights } else { 0.0 };
            let own = scripted.multiply_adds() / (MATRIX_RATE * self.threads);
            return Estimate { weights, ..*self }.scripted(&scripted.load(), batch, reuse) + own;
        }
        match (script.workload, reuse) {
            (Workload::Decode, Reuse::Recomputes) => {
                self.fill(seq_len, batch, Filling::Model) + decode_steps as f64 * self.step(seq_len, batch, reuse)
            }
            (Workload::Decode, Reuse::Caches) => {
                self.fill(seq_len, batch, filling) + decode_steps as f64 * self.step(seq_len, batch, reuse)
            }
            // The mean of a quadratic from 0 to its end is a third of it.
            (_, Reuse::Recomputes) => seq_len as f64 * self.step(seq_len, batch, reuse) / 2.5,
            (_, Reuse::Caches) => seq_len as f64 * self.step(seq_len / 2, batch, reuse),
        }
    }

    /// Seconds of a script of its own, run once.
    fn scripted(&self, load: &Load, batch: usize, reuse: Reuse) -> f64 {
        let Load { prompt_tokens, steps, depth, .. } = *load;
        let prompts = prompt_tokens as f64 * (self.prefill(depth) / depth.max(1) as f64);
        prompts + steps as f64 * self.step(depth, batch, reuse)
    }

    /// Seconds of a cell's memory pass: rows are made and stored.
    pub(crate) fn memory(&self, script: &ScriptSpec, text: Text) -> f64 {
        let ScriptSpec { seq_len, batch, decode_steps, .. } = *script;
        if let Some(scripted) = &script.scripted {
            let Load { depth, sequences, .. } = scripted.load();
            return Estimate::PROCESS + 2.0 * self.fill(depth, sequences, Filling::Replay);
        }
        let fill = self.fill(seq_len, batch, Filling::Replay);
        let steps = (decode_steps * batch * seq_len) as f64 * self.pair / (ATTENTION_RATE * self.threads);
        // A few times to time it and once to count it; a single row takes longer than one of many.
        let followed = if text == Text::Followed { 6.0 * fill } else { 0.0 };
        Estimate::PROCESS + fill + steps + followed
    }
}
