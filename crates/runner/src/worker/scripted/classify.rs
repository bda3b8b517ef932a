//! Scores labels.

use kv_quality::log_probability;
use kv_script::{Event, Name};

use super::order::Order;
use super::outcome::Outcome;
use super::refusal::Refusal;
use super::stage::{Answers, Host, Took};
use crate::drivers::Keeps;
use crate::worker::protocol::ScriptSpec;
use crate::workloads::{Classify, random_tokens, tokens_of_part};

/// The prefix is computed once, and each label is scored in a fork.
const FORKED: &str = "forked";
/// Prefix and label are computed again for each label.
const RECOMPUTED: &str = "recomputed";

/// What is scored.
struct Labels {
    chunk: usize,
    prefix: Vec<u32>,
    labels: Vec<Vec<u32>>,
}

/// What scoring came to.
#[derive(Default)]
struct Scored {
    /// What the prefix took, if it was computed apart, in milliseconds.
    prefix_ms: Option<f64>,
    /// What each label took.
    took: Vec<Took>,
    /// The labels' log-probabilities in nats. Empty without a model.
    scores: Vec<f64>,
    /// Heap bytes by label, with the place: 0 is before the first.
    bytes: Vec<(usize, f64)>,
}

pub(super) fn run<H: Host>(
    host: &H,
    classify: &Classify,
    script: &ScriptSpec,
    order: Order,
    progress: &dyn Fn(usize, usize),
) -> Result<Outcome, Refusal> {
    let labels = Labels::drawn(classify, script, host.vocabulary())?;
    let (forked, recomputed) = order.both(|| labels.fork(host), || labels.recompute(host), || progress(1, 2))?;
    progress(2, 2);
    let mut outcome = Outcome::default();
    forked.put(FORKED, &mut outcome);
    recomputed.put(RECOMPUTED, &mut outcome);
    if let Some((own, other)) = forked.median().zip(recomputed.median()).filter(|(_, other)| *other > 0.0) {
        outcome.put(FORKED, "label_ratio", 0, own / other);
    }
    if let Some((best, other)) = best(&forked.scores).zip(best(&recomputed.scores)) {
        let errors = forked.scores.iter().zip(&recomputed.scores).map(|(own, other)| (own - other).abs());
        outcome.put(FORKED, "score_error", 0, errors.fold(0.0, f64::max));
        outcome.put(FORKED, "same_best_label", 0, if best == other { 1.0 } else { 0.0 });
        // The end of the prefix scores labels of one token: there is no step to compare.
        if classify.label_tokens > 1 {
            outcome.compare_by(forked.took.into_iter().map(|took| (classify.tokens(), took)).collect());
        }
    }
    Ok(outcome)
}

impl Labels {
    fn drawn(classify: &Classify, script: &ScriptSpec, vocabulary: usize) -> Result<Labels, Refusal> {
        let Classify { prefix, labels: count, label_tokens } = *classify;
        let there_are = (0..label_tokens).fold(1usize, |product, _| product.saturating_mul(vocabulary));
        if there_are < count {
            let message =
                format!("there are {there_are} labels of {label_tokens} tokens in a vocabulary of {vocabulary}, and `labels` is {count}");
            return Err(Refusal::Failed(message));
        }
        let mut labels: Vec<Vec<u32>> = vec![];
        let mut drawn = (0..).map(|index| tokens_of_part(script.seed, index, vocabulary, label_tokens));
        while labels.len() < count {
            labels.extend(drawn.next().filter(|label| !labels.contains(label)));
        }
        Ok(Labels { chunk: script.prefill_chunk, prefix: random_tokens(script.seed, vocabulary, prefix), labels })
    }

    fn fork<H: Host>(&self, host: &H) -> Result<Scored, Refusal> {
        let mut stage = host.stage()?;
        let prefix = Name::new("prefix");
        let mut took = stage.open(&prefix)?;
        stage.driver().keep(Keeps::OfLast(1));
        took += stage.append(&prefix, &self.prefix, self.chunk)?;
        let after_prefix = stage.driver().take_logits().concat();
        took += stage.run(&Event::PromptEnd { sequence: prefix.clone() })?;
        let mut scored = Scored { prefix_ms: Some(took.ms), ..Scored::default() };
        scored.bytes.extend(stage.heap_bytes().map(|bytes| (0, bytes)));
        stage.driver().keep(Keeps::OfEach);
        for (index, label) in self.labels.iter().enumerate() {
            let name = Name::new(&format!("label {index}"));
            let mut took = stage.run(&Event::Fork { parent: prefix.clone(), sequence: name.clone() })?;
            // The end of the prefix alone scores a label of one token.
            if label.len() > 1 {
                took += stage.feed(&name, &label[..label.len() - 1])?;
            }
            let after = stage.driver().take_logits().concat();
            scored.add(took, stage.heap_bytes(), label, &[after_prefix.as_slice(), &after].concat())?;
        }
        Ok(scored)
    }

    fn recompute<H: Host>(&self, host: &H) -> Result<Scored, Refusal> {
        let mut stage = host.stage()?;
        let mut scored = Scored::default();
        for (index, label) in self.labels.iter().enumerate() {
            let name = Name::new(&format!("label {index}"));
            let mut took = stage.open(&name)?;
            stage.driver().keep(Keeps::OfLast(label.len()));
            took += stage.feed(&name, &[self.prefix.as_slice(), &label[..label.len() - 1]].concat())?;
            let logits = stage.driver().take_logits().concat();
            scored.add(took, stage.heap_bytes(), label, &logits)?;
        }
        Ok(scored)
    }
}

impl Scored {
    /// Adds a label. `logits` are those before each of its tokens, or none.
    fn add(&mut self, took: Took, bytes: Option<f64>, label: &[u32], logits: &[f32]) -> Result<(), Refusal> {
        self.took.push(took);
        self.bytes.extend(bytes.map(|bytes| (self.took.len(), bytes)));
        if !logits.is_empty() {
            let rows = logits.chunks_exact(logits.len() / label.len());
            let score: Result<f64, _> = rows.zip(label).map(|(logits, token)| log_probability(logits, *token)).sum();
            self.scores.push(score.map_err(|error| Refusal::Failed(error.to_string()))?);
        }
        Ok(())
    }

    fn median(&self) -> Option<f64> {
        kv_metrics::quantile(&self.took.iter().map(|took| took.ms).collect::<Vec<_>>(), 0.5)
    }

    fn put(&self, variant: &str, outcome: &mut Outcome) {
        for (label, bytes) in &self.bytes {
            outcome.put(variant, "heap_bytes", *label, *bytes);
        }
        let Some(median) = self.median().filter(|ms| *ms > 0.0) else { return };
        outcome.put(variant, "label_ms", 0, median);
        let mut cumulative = self.prefix_ms.unwrap_or(0.0);
        if self.prefix_ms.is_some() {
            outcome.put(variant, "cumulative_ms", 0, cumulative);
        }
        for (label, took) in (1..).zip(&self.took) {
            cumulative += took.ms;
            outcome.put(variant, "cumulative_ms", label, cumulative);
        }
    }
}

/// The index of the largest score, the first of equals. `None` if there are none.
fn best(scores: &[f64]) -> Option<usize> {
    (0..scores.len()).reduce(|best, index| if scores[index] > scores[best] { index } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_the_sum_of_the_log_probabilities_of_the_labels_tokens() {
        let mut scored = Scored::default();
        // A half and a half, then a quarter and three quarters.
        scored.add(Took::default(), None, &[1, 0], &[2.0, 2.0, 0.0, 3f32.ln()]).unwrap();
        assert!((scored.scores[0] - (0.5f64.ln() + 0.25f64.ln())).abs() < 1e-7, "{:?}", scored.scores);
        scored.add(Took::default(), Some(64.0), &[1, 0], &[]).unwrap();
        assert_eq!((scored.scores.len(), scored.bytes.as_slice()), (1, [(2, 64.0)].as_slice()));
        assert_eq!((best(&[-3.0, -1.0, -1.0]), best(&[])), (Some(1), None));
    }

    #[test]
    fn labels_are_distinct_and_there_must_be_enough_of_them() {
        let script = |classify: &Classify| {
            let script = crate::worker::protocol::ScriptSpec {
                workload: crate::config::Workload::Classify,
                scripted: None,
                seq_len: 0,
                batch: 1,
                decode_steps: 1,
                prefill_chunk: 8,
                seed: 3,
            };
            Labels::drawn(classify, &script, 3)
        };
        let mut labels = script(&Classify { prefix: 5, labels: 9, label_tokens: 2 }).unwrap_or_else(|_| unreachable!()).labels;
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), 9, "all that there are");
        let refused = script(&Classify { prefix: 5, labels: 10, label_tokens: 2 }).map(|_| ()).unwrap_err();
        assert_eq!(refused.reason(), "there are 9 labels of 2 tokens in a vocabulary of 3, and `labels` is 10");
    }
}
