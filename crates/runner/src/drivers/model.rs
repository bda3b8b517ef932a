//! The model computes the rows and chooses tokens greedily.

use kv_core::KvCache;
use kv_model::{Decoder, Fresh, ModelError, Sequence, StepInput, argmax};
use kv_script::{Driver, Input};

/// Feeds a cache with what a decoder computes.
#[derive(Debug)]
pub(crate) struct ModelDriver<'a> {
    decoder: &'a Decoder,
}

impl<'a> ModelDriver<'a> {
    pub(crate) fn new(decoder: &'a Decoder) -> ModelDriver<'a> {
        ModelDriver { decoder }
    }
}

impl Driver for ModelDriver<'_> {
    type Sequence = Sequence;
    type Error = ModelError;

    fn open(&mut self, cache: &mut dyn KvCache) -> Result<Sequence, ModelError> {
        Ok(Sequence::open(cache)?)
    }

    fn fork(&mut self, cache: &mut dyn KvCache, parent: &Sequence) -> Result<Sequence, ModelError> {
        Ok(parent.fork(cache)?)
    }

    fn take_back(&mut self, cache: &mut dyn KvCache, sequence: &mut Sequence, tokens: usize) -> Result<(), ModelError> {
        let len = sequence.history().len() - tokens;
        Ok(sequence.truncate(cache, len)?)
    }

    fn prompt_end(&mut self, cache: &mut dyn KvCache, sequence: &mut Sequence) -> Result<(), ModelError> {
        Ok(cache.prompt_end(sequence.id())?)
    }

    fn close(&mut self, cache: &mut dyn KvCache, sequence: &mut Sequence) -> Result<(), ModelError> {
        Ok(sequence.close(cache)?)
    }

    fn len(&self, sequence: &Sequence) -> usize {
        sequence.history().len()
    }

    fn feed(&mut self, cache: &mut dyn KvCache, inputs: &mut [(&mut Sequence, &Input)]) -> Result<Vec<Option<u32>>, ModelError> {
        let mut inputs: Vec<StepInput<'_>> =
            inputs.iter_mut().map(|(sequence, input)| StepInput { sequence, fresh: fresh(input) }).collect();
        let logits = self.decoder.step(cache, &mut inputs)?;
        Ok(logits.iter().map(|logits| Some(argmax(logits))).collect())
    }
}

/// An input as a decoder takes it.
pub(super) fn fresh(input: &Input) -> Fresh<'_> {
    match input {
        Input::Tokens(tokens) => Fresh::Tokens(tokens),
        Input::Embeddings(rows) => Fresh::Embeddings(rows),
    }
}
