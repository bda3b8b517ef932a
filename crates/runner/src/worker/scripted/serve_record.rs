//! What serving requests came to.

use kv_core::Usage;

use super::outcome::Outcome;
use super::stage::Took;

/// The variant of every number.
pub(super) const SERVED: &str = "served";

/// Points of a chart along the steps, at most.
const MOST_POINTS: usize = 128;

/// What serving came to.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// After each step: the sequences in it, and the heap, where it is counted.
    pub(super) steps: Vec<(usize, Option<f64>)>,
    /// The share of the taken memory that no token filled, by step.
    pub(super) waste: Vec<f64>,
    /// Bytes that belonged to no sequence, by step.
    pub(super) free: Vec<f64>,
    pub(super) compared: Vec<(usize, Took)>,
    /// The cache's time.
    pub(super) ms: f64,
    pub(super) served: usize,
    pub(super) written: usize,
    pub(super) refused: usize,
    pub(super) preempted: usize,
}

impl Record {
    /// `taken` is what the tables and reservations of all sequences take. The rest of a pool is nobody's.
    pub(super) fn note_memory(&mut self, usage: &Usage, taken: usize) {
        let filled = usage.payload_bytes + usage.metadata_bytes;
        if taken > 0 {
            self.waste.push((1.0 - filled as f64 / taken as f64).max(0.0));
            self.free.push(usage.reserved_bytes().saturating_sub(taken) as f64);
        }
    }

    /// Numbers along the steps.
    pub(super) fn put_steps(&self, outcome: &mut Outcome) {
        let steps = self.steps.len();
        let stride = steps.div_ceil(MOST_POINTS).max(1);
        let is_shown = |step: &usize| step.is_multiple_of(stride) || *step == steps;
        for step in (1..=steps).filter(is_shown) {
            match self.steps[step - 1] {
                (_, Some(bytes)) => outcome.put(SERVED, "heap_bytes", step, bytes),
                (running, None) => outcome.put(SERVED, "running", step, running as f64),
            }
        }
    }

    /// Numbers of the whole.
    pub(super) fn put_whole(self, requests: usize, outcome: &mut Outcome) {
        let steps = self.steps.len();
        let running = || self.steps.iter().map(|(running, _)| *running as f64);
        let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let counted = [
            ("requests", requests as f64),
            ("served", self.served as f64),
            ("refused", self.refused as f64),
            ("preempted", self.preempted as f64),
            ("steps", steps as f64),
            ("running_most", running().fold(0.0, f64::max)),
        ];
        let meant = [
            ("running_mean", mean(&running().collect::<Vec<_>>())),
            ("waste", mean(&self.waste)),
            ("free_pool_bytes", mean(&self.free)),
            ("served_tokens_per_s", Some(self.written as f64 * 1e3 / self.ms).filter(|speed| speed.is_finite())),
        ];
        for (metric, value) in counted.into_iter().map(|(metric, value)| (metric, Some(value))).chain(meant) {
            value.into_iter().for_each(|value| outcome.put(SERVED, metric, 0, value));
        }
        outcome.compare_by(self.compared);
    }
}
