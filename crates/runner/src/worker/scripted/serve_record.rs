//! What serving requests came to.

use kv_core::Usage;

use super::outcome::Outcome;
use super::serve_bytes::{RowBytes, Taken};
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
    /// The share of the sequences' slots that no token filled, by step.
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
    /// `taken` is what all sequences take together. The rest of a pool is nobody's.
    pub(super) fn note_memory(&mut self, usage: &Usage, rows: RowBytes, taken: Taken) {
        let (filled, slots) = (rows.with_scales(usage.payload_bytes, usage.metadata_bytes), taken.slots(rows));
        debug_assert!(filled <= slots, "{filled} bytes of rows are in slots of {slots}: {usage:?}, {taken:?}");
        if slots > 0 {
            self.waste.push(1.0 - filled as f64 / slots as f64);
            self.free.push((filled + usage.slack_bytes).saturating_sub(slots) as f64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waste_is_the_share_of_slots_that_no_row_fills_and_tables_are_no_rows() {
        let rows = RowBytes::known(64, 64);
        let mut record = Record::default();
        // 3 of 4 slots of 256 bytes in f32, with block tables of 100 bytes, and 2 free slots.
        let usage = Usage { payload_bytes: 768, metadata_bytes: 100, slack_bytes: 768, ..Usage::default() };
        record.note_memory(&usage, rows, Taken { least: 1024, ..Taken::default() });
        assert_eq!((record.waste.as_slice(), record.free.as_slice()), ([0.25].as_slice(), [512.0].as_slice()));
        record.note_memory(&Usage::default(), rows, Taken::default());
        assert_eq!(record.waste.len(), 1, "there is nothing to waste");
    }
}
