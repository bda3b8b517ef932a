//! The worker that lets a model read a text with a cache and with an exact one, and compares what it says.
//!
//! The text is known, so every token's probability is. Reference and candidate are rows of the same step: nothing but the caches
//! can make their logits differ. No logits are kept. The same two are also asked for facts that a prompt states.

mod floor;
mod numbers;
mod prompt_exact;
mod recall;
mod streamed;

use std::fmt::Display;

use kv_core::{KvCache, Registry};
use kv_model::{Decoder, Fresh, Sequence, StepInput};
use kv_quality::{Divergence, Divergences, Paired, Side, Statistics, unigram_perplexity};
use kv_report::{Pass, Protocol, Status, UNRANKED, Visit};
use kv_script::{Attention, chunks, step};
use rayon::prelude::*;

use super::channel::Channel;
use super::protocol::{Message, QualityTask, Streamed, Window, Work};
use super::{caught, record};
use crate::Problem;
use crate::recording::{Recording, exact_cache};

pub(super) fn run(registry: &Registry, task: &QualityTask, channel: &Channel) -> Result<(), Problem> {
    let (model, loaded) = record::load(&task.model, channel)?;
    channel.send(&Message::Model(loaded));
    let geometry = &model.decoder.config().geometry;
    let opened = task.windows.iter().map(|window| Ok(Text { window, recording: Recording::of_worker(&window.recording, geometry)? }));
    let texts = opened.collect::<Result<Vec<Text<'_>>, Problem>>()?;
    let reader = Reader { registry, task, channel, decoder: &model.decoder, texts };
    let mut visit = Visit::passed(&task.instance.id, Pass::Quality);
    let read = caught(|| rayon::scope(|_| reader.read_after_prompt(&mut visit)));
    let is_read = read.is_ok();
    if let Err(reason) = read {
        visit = Visit::failed(&task.instance.id, Pass::Quality, Status::Failed, &Work::ReadAfterPrompt.to_string(), &reason);
    }
    // What was read counts, whatever becomes of the rest.
    channel.visit(visit);
    if let Some(streamed) = task.streamed.filter(|_| is_read) {
        reader.visit("the text was not streamed", |visit| reader.stream(visit, streamed));
    }
    if !task.recall.is_empty() {
        reader.visit("the model was not asked for facts", |visit| reader.ask(visit));
    }
    Ok(())
}

/// A window and the recording of its beginning.
struct Text<'a> {
    window: &'a Window,
    recording: Recording,
}

struct Reader<'a> {
    registry: &'a Registry,
    task: &'a QualityTask,
    channel: &'a Channel,
    decoder: &'a Decoder,
    texts: Vec<Text<'a>>,
}

/// The two sequences that read a window.
struct Read {
    reference: Sequence,
    candidate: Sequence,
}

impl Reader<'_> {
    fn read_after_prompt(&self, visit: &mut Visit) -> Result<(), String> {
        self.enter(Work::ReadAfterPrompt);
        let summary = prompt_exact::read(self)?.summary().map_err(in_words)?;
        numbers::add(visit, Protocol::PromptExact, &summary);
        self.say_if_absurd(visit, &summary.overall);
        match self.task.floor.map_or_else(|| floor::of(self), Ok) {
            Ok(floor) => _ = visit.values.insert("kld_floor".into(), floor),
            Err(reason) => visit.notes.push(format!("kld_floor was not measured: {reason}")),
        }
        Ok(())
    }

    /// A visit of its own, with a note where it fails.
    fn visit(&self, failure: &str, work: impl FnOnce(&mut Visit) -> Result<(), String> + Send) {
        let mut visit = Visit::passed(&self.task.instance.id, Pass::Quality);
        if let Err(reason) = caught(|| rayon::scope(|_| work(&mut visit))) {
            visit.notes.push(format!("{failure}: {reason}"));
        }
        self.channel.visit(visit);
    }

    fn ask(&self, visit: &mut Visit) -> Result<(), String> {
        self.enter(Work::AskForFacts);
        recall::ask(self, visit)
    }

    fn stream(&self, visit: &mut Visit, streamed: Streamed) -> Result<(), String> {
        self.enter(Work::Stream);
        let summary = streamed::read(self, streamed)?.summary().map_err(in_words)?;
        numbers::add(visit, Protocol::Streamed, &summary);
        visit.values.insert("streamed_chunk_tokens".into(), streamed.chunk as f64);
        Ok(())
    }

    fn enter(&self, work: Work) {
        self.channel.phase(Some(&self.task.instance.id), work);
    }

    /// An exact cache beside the candidate, with room for so many tokens in each sequence of the exact one.
    fn pair(&self, tokens: usize) -> Result<Paired, String> {
        let geometry = &self.decoder.config().geometry;
        let exact = exact_cache(geometry, tokens).map_err(|problem| problem.line())?;
        Ok(Paired::new(geometry, exact, self.task.instance.build(self.registry, geometry)?))
    }

    /// Gives a sequence an exactly computed prompt.
    fn replay(
        &self,
        cache: &mut dyn KvCache,
        sequence: &mut Sequence,
        prompt: &[u32],
        recording: &Recording,
        attention: Attention,
    ) -> Result<(), String> {
        let mut recording = recording.clone();
        // In the steps in which it was recorded.
        for positions in chunks(0..prompt.len(), self.task.prefill_chunk.max(1)) {
            step(cache, &mut recording, &[(sequence.id(), positions.clone())], attention).map_err(in_words)?;
            self.channel.progress(positions.end, prompt.len());
            sequence.extend(Fresh::Tokens(&prompt[positions]));
        }
        cache.prompt_end(sequence.id()).map_err(in_words)
    }

    fn open(&self, pair: &mut Paired) -> Result<Read, String> {
        let mut on = |side: Side| {
            pair.open_next_on(side);
            Sequence::open(pair).map_err(in_words)
        };
        Ok(Read { reference: on(Side::Reference)?, candidate: on(Side::Candidate)? })
    }

    /// Lets all readers read the same positions of their windows, and compares what follows each.
    fn judge(
        &self,
        pair: &mut Paired,
        readers: &mut [Read],
        first_window: usize,
        positions: std::ops::Range<usize>,
        divergences: &mut Divergences,
        depth_of: impl Fn(usize) -> usize,
    ) -> Result<(), String> {
        let windows = &self.texts[first_window..first_window + readers.len()];
        let mut inputs = vec![];
        for (Read { reference, candidate }, text) in readers.iter_mut().zip(windows) {
            let fresh = Fresh::Tokens(&text.window.tokens[positions.clone()]);
            inputs.extend([StepInput { sequence: reference, fresh }, StepInput { sequence: candidate, fresh }]);
        }
        let logits = self.decoder.step_each(pair, &mut inputs).map_err(in_words)?;
        let vocabulary = self.decoder.config().vocabulary;
        for (window, (text, logits)) in windows.iter().zip(logits.chunks_exact(2)).enumerate() {
            let rows = |side: usize| logits[side].par_chunks_exact(vocabulary);
            let next = &text.window.tokens[positions.start + 1..positions.end + 1];
            let compared: Vec<_> = (rows(0).zip(rows(1)).zip(next))
                .map(|((reference, candidate), next)| Divergence::between(reference, candidate, *next))
                .collect();
            for (position, divergence) in positions.clone().zip(compared) {
                divergences.add(first_window + window, depth_of(position), divergence.map_err(in_words)?).map_err(in_words)?;
            }
        }
        Ok(())
    }

    /// Of a model that does not know its text, no divergence ranks anything: one that predicts it worse than who knows nothing but
    /// how often each token comes in it.
    fn say_if_absurd(&self, visit: &mut Visit, statistics: &Statistics) {
        let perplexity = statistics.reference_perplexity.value;
        let of_counts = unigram_perplexity(self.texts.iter().flat_map(|text| &text.window.tokens).copied());
        if perplexity > of_counts {
            visit.notes.push(format!(
                "{UNRANKED}: the model does not know this text, its perplexity is {perplexity:.0}, and that of the tokens' frequencies alone {of_counts:.0}"
            ));
        }
    }
}

fn in_words(error: impl Display) -> String {
    error.to_string()
}
