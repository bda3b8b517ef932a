//! Recall: the model is asked for facts that the exactly computed prompt states, each in a sequence that has seen nothing but it.

use std::collections::BTreeMap;

use kv_model::{Fresh, Sequence, StepInput};
use kv_quality::{Accuracy, Paired, RecallAnswer, RecallAnswers, RecallTask, Side};
use kv_report::{FEWEST_RIGHT, LOOKUP, NEEDLE, Part, Protocol, QualityPoint, Recall, Visit};
use kv_script::Attention;

use super::{Reader, in_words};
use crate::recording::Recording;
use crate::worker::attention_of_prompt;
use crate::worker::protocol::RecallSpec;

/// Ranges of depth that are told apart.
const PARTS: usize = 8;

/// Asks all questions about all prompts.
pub(super) fn ask(reader: &Reader<'_>, visit: &mut Visit) -> Result<(), String> {
    let all = reader.task.recall.iter().map(|prompt| prompt.questions.len()).sum();
    let mut answers: BTreeMap<RecallTask, RecallAnswers> = BTreeMap::new();
    let mut done = 0;
    for prompt in &reader.task.recall {
        let of_task = answers.entry(prompt.task).or_default();
        ask_about(reader, prompt, |answer| {
            of_task.add(answer);
            done += 1;
            reader.channel.progress(done, all);
        })?;
    }
    for (task, answers) in &answers {
        let recall = match task {
            RecallTask::Needle => NEEDLE,
            RecallTask::Lookup => LOOKUP,
        };
        add(visit, recall, answers, reader.task.seq_len);
    }
    Ok(())
}

/// Asks the questions about a prompt, one after the other.
fn ask_about(reader: &Reader<'_>, prompt: &RecallSpec, mut hear: impl FnMut(RecallAnswer)) -> Result<(), String> {
    let tokens = &prompt.tokens;
    let geometry = &reader.decoder.config().geometry;
    let recording = Recording::of_worker(&prompt.recording, geometry).map_err(|problem| problem.line())?;
    let longest = prompt.questions.iter().map(|question| question.tokens.len()).max().unwrap_or(0);
    let mut pair = reader.pair(tokens.len() + longest)?;
    let attention = attention_of_prompt(pair.on(Side::Candidate));
    let filled = |pair: &mut Paired, side: Side, attention: Attention| -> Result<Sequence, String> {
        pair.open_next_on(side);
        let mut sequence = Sequence::open(pair).map_err(in_words)?;
        reader.replay(pair, &mut sequence, tokens, &recording, attention)?;
        Ok(sequence)
    };
    let mut reference = filled(&mut pair, Side::Reference, Attention::Skipped)?;
    let mut untouched = Some(filled(&mut pair, Side::Candidate, attention)?);
    for question in &prompt.questions {
        // What a question adds may evict or round something, so a fork is asked. A cache that cannot fork, or has no room for it, is
        // filled anew. The exact one is as it was once the question is cut off.
        let fork = untouched.as_ref().and_then(|sequence| sequence.fork(&mut pair).ok());
        let mut candidate = match fork.or_else(|| untouched.take()) {
            Some(sequence) => sequence,
            None => filled(&mut pair, Side::Candidate, attention)?,
        };
        let fresh = Fresh::Tokens(question.fed());
        let mut inputs = [StepInput { sequence: &mut reference, fresh }, StepInput { sequence: &mut candidate, fresh }];
        let logits = reader.decoder.step_each(&mut pair, &mut inputs).map_err(in_words)?;
        let is_right = |side: usize| question.is_answered(&logits[side], reader.decoder.config().vocabulary);
        hear(RecallAnswer { depth: question.depth, reference: is_right(0), candidate: is_right(1) });
        candidate.close(&mut pair).map_err(in_words)?;
        reference.truncate(&mut pair, tokens.len()).map_err(in_words)?;
    }
    Ok(())
}

/// Writes down what was answered, in all and by depth, beside the exact cache's.
fn add(visit: &mut Visit, recall: Recall, answers: &RecallAnswers, seq_len: usize) {
    let sides = [(recall.accuracy, Side::Candidate), (recall.dense, Side::Reference)];
    for (id, side) in sides {
        let accuracy = answers.of(side);
        visit.values.extend(accuracy.share().map(|share| (id.to_owned(), share)));
        visit.intervals.extend(accuracy.interval().map(|interval| (id.to_owned(), interval)));
        for part in 0..PARTS {
            let (from, to) = (part * seq_len / PARTS, (part + 1) * seq_len / PARTS);
            let accuracy = answers.within(side, from..to);
            visit.quality.extend(accuracy.share().map(|share| point(id, Part::Depth { from, to }, share, accuracy)));
        }
    }
    let Accuracy { correct, trials } = answers.of(Side::Reference);
    visit.values.insert(recall.questions.into(), trials as f64);
    if correct < FEWEST_RIGHT {
        visit.notes.push(format!(
            "the {} task says nothing about this cache: even with an exact one, fewer than {FEWEST_RIGHT} answers are right",
            recall.name
        ));
    }
}

fn point(metric: &str, part: Part, value: f64, accuracy: Accuracy) -> QualityPoint {
    let (interval, count) = (accuracy.interval(), accuracy.trials);
    QualityPoint { protocol: Protocol::Recall, part, metric: metric.to_owned(), value, interval, count }
}
