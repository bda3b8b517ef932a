//! The model computes the rows and chooses tokens greedily.

use kv_core::KvCache;
use kv_model::{Decoder, Fresh, ModelError, Sequence, StepInput, argmax};
use kv_script::{Driver, Input};

/// Feeds a cache with what a decoder computes.
#[derive(Debug)]
pub(crate) struct ModelDriver<'a> {
    decoder: &'a Decoder,
    /// Which logits are kept for whoever asks.
    pub(crate) keeps: Keeps,
    /// Those of the last step's inputs, in their order.
    logits: Vec<Vec<f32>>,
}

/// Which logits of a step are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// None.
    None,
    /// Those after every fresh position.
    OfEach,
    /// Those after so many of the last fresh positions.
    OfLast(usize),
}

impl<'a> ModelDriver<'a> {
    pub(crate) fn new(decoder: &'a Decoder) -> ModelDriver<'a> {
        ModelDriver { decoder, keeps: Keeps::None, logits: vec![] }
    }

    /// The logits of the last step that are kept: for each input `[positions, vocabulary]`. Empty if none are.
    pub(crate) fn take_logits(&mut self) -> Vec<Vec<f32>> {
        std::mem::take(&mut self.logits)
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
        self.logits = match self.keeps {
            Keeps::None => {
                let logits = self.decoder.step(cache, &mut inputs)?;
                return Ok(logits.iter().map(|logits| Some(argmax(logits))).collect());
            }
            Keeps::OfEach => self.decoder.step_each(cache, &mut inputs)?,
            Keeps::OfLast(positions) => self.decoder.step_last(cache, &mut inputs, positions)?,
        };
        let vocabulary = self.decoder.config().vocabulary;
        Ok(self.logits.iter().map(|logits| Some(argmax(&logits[logits.len() - vocabulary..]))).collect())
    }
}

/// An input as a decoder takes it.
pub(super) fn fresh(input: &Input) -> Fresh<'_> {
    match input {
        Input::Tokens(tokens) => Fresh::Tokens(tokens),
        Input::Embeddings(rows) => Fresh::Embeddings(rows),
    }
}
