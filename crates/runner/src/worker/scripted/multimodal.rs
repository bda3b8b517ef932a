//! Asks about an image.

use std::path::Path;
use std::sync::Arc;

use kv_script::{Driver, Event, Input, Name};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::order::Order;
use super::outcome::{Outcome, first_difference};
use super::refusal::{MayBeCaches, Refusal};
use super::stage::{Answers, Host, Stage, Took};
use crate::worker::protocol::ScriptSpec;
use crate::workloads::{Multimodal, MultimodalScript, tokens_of_part};

/// The image is computed once, and each question is asked in a fork.
const FORKED: &str = "forked";
/// Image and question are computed again for each question.
const RECOMPUTED: &str = "recomputed";

/// What is asked.
struct Interview<'a> {
    settings: &'a Multimodal,
    chunk: usize,
    /// Rows of the model's hidden size; without a model, of none.
    image: Vec<Arc<[f32]>>,
    questions: Vec<Vec<u32>>,
}

/// What the questions came to.
#[derive(Default)]
struct Answered {
    answers: Vec<Vec<u32>>,
    /// Time to first token of each question.
    first_tokens: Vec<f64>,
    /// Time since the start at the end of each question.
    cumulative: Vec<f64>,
    /// Heap bytes by question, with the place: 0 is before the first.
    bytes: Vec<(usize, f64)>,
    steps: Vec<(usize, Took)>,
}

/// `image` is where the file lies, if there is one.
pub(super) fn run<H: Host>(
    host: &H,
    multimodal: &MultimodalScript,
    script: &ScriptSpec,
    image: Option<&Path>,
    order: Order,
    progress: &dyn Fn(usize, usize),
) -> Result<Outcome, Refusal> {
    let interview = Interview::new(host, multimodal, script, image)?;
    let (forked, recomputed) = order.both(|| interview.fork(host), || interview.recompute(host), || progress(1, 2))?;
    progress(2, 2);
    let mut outcome = Outcome::default();
    forked.put(FORKED, &mut outcome);
    recomputed.put(RECOMPUTED, &mut outcome);
    for (question, (own, other)) in (1..).zip(forked.first_tokens.iter().zip(&recomputed.first_tokens)) {
        if *other > 0.0 {
            outcome.put(FORKED, "ttft_ratio", question, own / other);
        }
    }
    outcome.differs_after(first_difference(&forked.answers, &recomputed.answers));
    outcome.compare_by(forked.steps);
    Ok(outcome)
}

impl<'a> Interview<'a> {
    fn new<H: Host>(
        host: &H,
        multimodal: &'a MultimodalScript,
        script: &ScriptSpec,
        image: Option<&Path>,
    ) -> Result<Interview<'a>, Refusal> {
        let MultimodalScript { settings, image: file } = multimodal;
        let values = match file.as_ref().zip(image) {
            Some((file, path)) => file.rows(path)?,
            None => drawn(host, settings.patches, script.seed)?,
        };
        let width = values.len() / settings.patches;
        let patch = |patch: usize| Arc::from(&values[patch * width..(patch + 1) * width]);
        let question = |index: usize| tokens_of_part(script.seed, index, host.vocabulary(), settings.question_tokens);
        Ok(Interview {
            settings,
            chunk: script.prefill_chunk,
            image: (0..settings.patches).map(patch).collect(),
            questions: (0..settings.questions).map(question).collect(),
        })
    }

    fn fork<H: Host>(&self, host: &H) -> Result<Answered, Refusal> {
        let mut stage = host.stage()?;
        let image = Name::new("image");
        let mut took = stage.open(&image)?;
        let chunk = if stage.cache().recomputes() { self.image.len() } else { self.chunk };
        for rows in self.image.chunks(chunk) {
            took += stage.give(&image, Input::Embeddings(rows.to_vec()))?;
        }
        let mut answered = Answered::default();
        answered.bytes.extend(stage.heap_bytes().map(|bytes| (0, bytes)));
        for question in &self.questions {
            let name = answered.next();
            took += stage.run(&Event::Fork { parent: image.clone(), sequence: name.clone() })?;
            took += stage.append(&name, question, self.chunk)?;
            // The first question waits for the image.
            self.answer(&mut stage, &name, std::mem::take(&mut took), &mut answered)?;
        }
        Ok(answered)
    }

    fn recompute<H: Host>(&self, host: &H) -> Result<Answered, Refusal> {
        let mut stage = host.stage()?;
        let mut answered = Answered::default();
        for question in &self.questions {
            let name = answered.next();
            let words = question.iter().map(|token| host.embedding(*token)).collect::<Result<Vec<_>, _>>()?;
            let mut took = stage.open(&name)?;
            took += stage.give(&name, Input::Embeddings([self.image.as_slice(), &words].concat()))?;
            self.answer(&mut stage, &name, took, &mut answered)?;
        }
        Ok(answered)
    }

    /// Decodes the answer to a question whose prompt took so long.
    fn answer<D: Driver<Error: MayBeCaches> + Answers>(
        &self,
        stage: &mut Stage<'_, D>,
        name: &Name,
        mut prompt: Took,
        answered: &mut Answered,
    ) -> Result<(), Refusal> {
        prompt += stage.run(&Event::PromptEnd { sequence: name.clone() })?;
        let mut elapsed = prompt.ms;
        let mut answer = vec![stage.next_token(name)];
        for step in 1..self.settings.answer_tokens {
            let took = stage.run(&Event::Step { sequences: vec![name.clone()] })?;
            elapsed += took.ms;
            answered.steps.push((self.settings.prompt() + step, took));
            answer.push(stage.next_token(name));
        }
        answered.answers.push(answer);
        answered.first_tokens.push(prompt.ms);
        let before = answered.cumulative.last().copied().unwrap_or(0.0);
        answered.cumulative.push(before + elapsed);
        answered.bytes.extend(stage.heap_bytes().map(|bytes| (answered.answers.len(), bytes)));
        Ok(())
    }
}

impl Answered {
    /// The name of the next question's sequence. All stay open.
    fn next(&self) -> Name {
        Name::new(&format!("question {}", self.answers.len()))
    }

    fn put(&self, variant: &str, outcome: &mut Outcome) {
        for (question, bytes) in &self.bytes {
            outcome.put(variant, "heap_bytes", *question, *bytes);
        }
        for (metric, times) in [("ttft_ms", &self.first_tokens), ("cumulative_ms", &self.cumulative)] {
            for (question, ms) in (1..).zip(times).filter(|(_, ms)| **ms > 0.0) {
                outcome.put(variant, metric, question, *ms);
            }
        }
    }
}

/// Normal numbers, as large as those of the model's token embeddings are on the average. None if nobody knows these.
fn drawn<H: Host>(host: &H, patches: usize, seed: u64) -> Result<Vec<f32>, Refusal> {
    const SAMPLE: usize = 256;
    let vocabulary = host.vocabulary();
    let tokens = (0..vocabulary).step_by(vocabulary.div_ceil(SAMPLE)).map(|token| host.embedding(token as u32));
    let sample = tokens.collect::<Result<Vec<_>, _>>()?;
    let hidden = sample.first().map_or(0, |row| row.len());
    let squares: f64 = sample.iter().flat_map(|row| row.iter()).map(|value| f64::from(*value).powi(2)).sum();
    let deviation = (squares / (sample.len() * hidden).max(1) as f64).sqrt() as f32;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    Ok((0..patches * hidden).map(|_| deviation * Distribution::<f32>::sample(&StandardNormal, &mut random)).collect())
}
