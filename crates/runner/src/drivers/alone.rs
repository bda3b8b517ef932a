//! Rows for a cache without a model.

use kv_core::KvCache;
use kv_kernels::awake;
use kv_script::{Attention, Driver, FedRows, Input, RowsDriver};

use super::CellRows;
use crate::recording::ReplayError;

/// Feeds a cache rows that are known: first a prompt, which queries need not meet, and then whatever follows, which they do.
#[derive(Debug)]
pub(crate) struct AloneDriver {
    rows: RowsDriver<CellRows>,
    /// Whether queries meet the cache while the prompt is fed.
    of_prompt: Attention,
    /// Tokens of the prompt.
    prompt: usize,
}

impl AloneDriver {
    pub(crate) fn new(source: CellRows, of_prompt: Attention, prompt: usize) -> AloneDriver {
        AloneDriver { rows: RowsDriver { source, attention: of_prompt }, of_prompt, prompt }
    }
}

impl Driver for AloneDriver {
    type Sequence = FedRows;
    type Error = ReplayError;

    fn open(&mut self, cache: &mut dyn KvCache) -> Result<FedRows, ReplayError> {
        self.rows.open(cache)
    }

    fn fork(&mut self, cache: &mut dyn KvCache, parent: &FedRows) -> Result<FedRows, ReplayError> {
        self.rows.fork(cache, parent)
    }

    fn take_back(&mut self, cache: &mut dyn KvCache, sequence: &mut FedRows, tokens: usize) -> Result<(), ReplayError> {
        self.rows.take_back(cache, sequence, tokens)
    }

    fn prompt_end(&mut self, cache: &mut dyn KvCache, sequence: &mut FedRows) -> Result<(), ReplayError> {
        self.rows.prompt_end(cache, sequence)
    }

    fn close(&mut self, cache: &mut dyn KvCache, sequence: &mut FedRows) -> Result<(), ReplayError> {
        self.rows.close(cache, sequence)
    }

    fn len(&self, sequence: &FedRows) -> usize {
        self.rows.len(sequence)
    }

    fn feed(&mut self, cache: &mut dyn KvCache, inputs: &mut [(&mut FedRows, &Input)]) -> Result<Vec<Option<u32>>, ReplayError> {
        let ends_in_prompt = inputs.iter().all(|(sequence, input)| self.rows.len(sequence) + input.len() <= self.prompt);
        self.rows.attention = if ends_in_prompt { self.of_prompt } else { Attention::Run };
        // As in a step of the decoder.
        awake(|| self.rows.feed(cache, inputs))
    }
}
