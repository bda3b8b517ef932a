//! What sequences that are served take.

use std::ops::Range;

use kv_core::{KvCache, PredictedBytes};

use super::stage::Host;
use crate::footprint::Answer;

/// What rows take, with their scales and without block tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowBytes {
    /// Bytes of some rows, of which so many are codes.
    all: usize,
    codes: usize,
}

impl RowBytes {
    /// From a long sequence that fills its slots, if the strategy says what it takes.
    pub(super) fn of<H: Host>(host: &H, cache: &dyn KvCache) -> RowBytes {
        const LONG: Range<usize> = 1 << 20..(1 << 20) + (1 << 16);
        let Some(footprint) = host.footprint() else { return RowBytes::known(0, 0) };
        // Where another token takes another page. Bytes of four rows are whole words.
        let fills = |tokens: &usize| cache.least_bytes(*tokens) < cache.least_bytes(tokens + 1);
        let long = LONG.step_by(4).find(fills).unwrap_or(LONG.start);
        let tokens = if let Answer::NoRoom { most } = footprint.answer(long) { most } else { long };
        match footprint.answer(tokens) {
            Answer::Bytes(bytes) => RowBytes::known(cache.least_bytes(tokens), bytes.payload),
            _ => RowBytes::known(0, 0),
        }
    }

    pub(super) fn known(all: usize, codes: usize) -> RowBytes {
        // Where nobody says, all metadata is taken for the rows'.
        if codes == 0 || all < codes { RowBytes { all: usize::MAX, codes: 1 } } else { RowBytes { all, codes } }
    }

    /// Bytes of the rows with these codes, in a cache with so much metadata. Where some rows are in f32, there are fewer scales.
    pub(super) fn with_scales(self, codes: usize, metadata: usize) -> usize {
        let all = codes as u128 * self.all as u128 / self.codes as u128;
        usize::try_from(all).unwrap_or(usize::MAX).min(codes.saturating_add(metadata))
    }
}

/// Bytes of sequences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// By the strategy's formula, among many others.
    pub(super) predicted: PredictedBytes,
    /// The least that the cache says.
    pub(super) least: usize,
}

impl Taken {
    /// Bytes of the slots for their rows, block tables not included.
    pub(super) fn slots(self, rows: RowBytes) -> usize {
        let PredictedBytes { payload, metadata, slack } = self.predicted;
        rows.with_scales(payload, metadata).saturating_add(slack).max(self.least)
    }
}

impl std::ops::AddAssign for Taken {
    fn add_assign(&mut self, other: Taken) {
        let add = |own: &mut usize, other: usize| *own = own.saturating_add(other);
        add(&mut self.predicted.payload, other.predicted.payload);
        add(&mut self.predicted.metadata, other.predicted.metadata);
        add(&mut self.predicted.slack, other.predicted.slack);
        add(&mut self.least, other.least);
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::RowsHost;
    use super::super::testing::{instance, task};
    use super::*;
    use crate::workloads::{RequestLengths, Scripted, ServeScript};

    #[test]
    fn scales_are_of_the_rows_as_far_as_there_are_any() {
        // 34 bytes for 32 codes.
        let rows = RowBytes::known(340, 320);
        assert_eq!(rows.with_scales(3200, 1000), 3400);
        assert_eq!(rows.with_scales(3200, 80), 3280, "some rows are in f32");
        assert_eq!(RowBytes::known(0, 320).with_scales(3200, 100), 3300, "the strategy does not say");
    }

    #[test]
    fn rows_take_what_their_format_says_in_pages_buffers_and_reservations() {
        let serve = ServeScript { lengths: RequestLengths::Traced(vec![]), memory: 1, max_tokens: 1 };
        let (registry, task) = (crate::builtin(), task(Scripted::Serve(serve)));
        for (strategy, config, all) in [
            ("paged", "", 3200),
            ("paged", "block_size = 7\nformat = 'q8_g16'", 3600),
            ("paged", "max_blocks = 5\nformat = 'q8_g16'", 3600),
            ("contiguous", "growth = { reserve = 100 }\nformat = 'f16'", 3200),
            ("quantized", "format = 'q8_g16'", 3600),
            ("sliding", "window = 100\nsinks = 4", 3200),
        ] {
            let instance = instance((strategy, config)).unwrap();
            let host = RowsHost::timed(&registry, &task, &instance);
            let rows = RowBytes::of(&host, host.cache().unwrap().as_ref());
            assert_eq!(rows.with_scales(3200, 3200), all, "{strategy} {config}");
        }
    }
}
