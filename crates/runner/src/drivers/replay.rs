//! A recorded prompt, and the model for what follows.

use kv_core::KvCache;
use kv_kernels::awake;
use kv_model::Sequence;
use kv_script::{Attention, Driver, Input, step};

use super::ModelDriver;
use super::model::fresh;
use crate::recording::{Recording, ReplayError};

/// Feeds a cache with recorded rows as long as the recording has them, and then with what the model computes.
#[derive(Debug)]
pub(crate) struct ReplayDriver<'a> {
    model: ModelDriver<'a>,
    recording: Option<Recording>,
    attention: Attention,
    /// Tokens of the prompt: what follows is the model's.
    prompt: usize,
}

impl<'a> ReplayDriver<'a> {
    /// A driver that lets the model compute everything.
    pub(crate) fn without_recording(model: ModelDriver<'a>) -> ReplayDriver<'a> {
        ReplayDriver { model, recording: None, attention: Attention::Run, prompt: 0 }
    }

    /// A driver that replays the first `prompt` tokens of every sequence.
    pub(crate) fn new(model: ModelDriver<'a>, recording: Recording, attention: Attention, prompt: usize) -> ReplayDriver<'a> {
        ReplayDriver { model, recording: Some(recording), attention, prompt }
    }
}

impl Driver for ReplayDriver<'_> {
    type Sequence = Sequence;
    type Error = ReplayError;

    fn open(&mut self, cache: &mut dyn KvCache) -> Result<Sequence, ReplayError> {
        Ok(self.model.open(cache)?)
    }

    fn fork(&mut self, cache: &mut dyn KvCache, parent: &Sequence) -> Result<Sequence, ReplayError> {
        Ok(self.model.fork(cache, parent)?)
    }

    fn take_back(&mut self, cache: &mut dyn KvCache, sequence: &mut Sequence, tokens: usize) -> Result<(), ReplayError> {
        Ok(self.model.take_back(cache, sequence, tokens)?)
    }

    fn prompt_end(&mut self, cache: &mut dyn KvCache, sequence: &mut Sequence) -> Result<(), ReplayError> {
        Ok(self.model.prompt_end(cache, sequence)?)
    }

    fn close(&mut self, cache: &mut dyn KvCache, sequence: &mut Sequence) -> Result<(), ReplayError> {
        Ok(self.model.close(cache, sequence)?)
    }

    fn len(&self, sequence: &Sequence) -> usize {
        self.model.len(sequence)
    }

    fn feed(&mut self, cache: &mut dyn KvCache, inputs: &mut [(&mut Sequence, &Input)]) -> Result<Vec<Option<u32>>, ReplayError> {
        let ends_in_prompt = inputs.iter().all(|(sequence, input)| sequence.history().len() + input.len() <= self.prompt);
        let Some(recording) = self.recording.as_mut().filter(|_| ends_in_prompt) else { return Ok(self.model.feed(cache, inputs)?) };
        let steps: Vec<_> = inputs
            .iter()
            .map(|(sequence, input)| {
                let start = sequence.history().len();
                (sequence.id(), start..start + input.len())
            })
            .collect();
        for ((_, positions), (_, input)) in steps.iter().zip(inputs.iter()) {
            recording.check(positions.clone(), input)?;
        }
        // As in a step of the decoder.
        awake(|| step(cache, recording, &steps, self.attention))?;
        for (sequence, input) in inputs.iter_mut() {
            sequence.extend(fresh(input));
        }
        Ok(steps.iter().map(|(_, positions)| recording.next_token(positions.end)).collect())
    }
}
