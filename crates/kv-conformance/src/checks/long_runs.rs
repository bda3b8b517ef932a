//! A text longer than any boundary that the other checks approach.

use kv_core::{CacheError, Geometry, Guarantee, KvCache, Rows, SeqId};

use super::TOLERANCE;
use super::attention::compare_with_view;
use super::lifecycle::snapshot;
use super::rows::rows_are_those_appended;
use crate::driver::{difference, step_with, token};
use crate::failure::ensure;
use crate::{Failure, Outcome, Subject, Text, Verdict};

/// Tokens of a prompt that a driver usually feeds in one step.
const CHUNK: usize = 512;

/// A long prompt is fed in chunks and token by token, its end is announced with `prompt_end`, and single steps follow.
/// Attention equals dense attention over `view`, every row is as it was appended, within the guarantee, and both runs
/// leave the same rows behind. [`Subject::with_long_run`] sets the length. A cache that recomputes runs the prompt once.
///
/// # Errors
/// A failure names the length at which something is wrong.
pub fn long_runs_hold(subject: &Subject) -> Outcome {
    // More layers and heads would show nothing new.
    let geometry = Geometry { layers: 2, heads: 2, kv_heads: 2, ..subject.geometry().clone() };
    let mut probe = subject.build_for(&geometry)?;
    let seq = probe.open()?;
    let tokens = match probe.begin(seq, 0..subject.long_run()) {
        Err(CacheError::Full { free, .. }) => free,
        _ => subject.long_run(),
    };
    if tokens < 2 {
        return Ok(Verdict::Skipped(format!("only {tokens} tokens fit")));
    }
    let text = Text::new(&geometry, 8, tokens);
    let prompt = (tokens * 3 / 4).max(1);
    if probe.recomputes() {
        // Each single step would run all tokens before it again.
        Run::new(subject, &text)?.feed(prompt, prompt, (prompt + 2).min(tokens))?;
        return Ok(Verdict::Passed);
    }
    let (mut chunked, mut single) = (Run::new(subject, &text)?, Run::new(subject, &text)?);
    chunked.feed(prompt, CHUNK, tokens)?;
    single.feed(prompt, 1, tokens)?;
    let mend = "which rows are kept and how they are encoded must depend on the tokens, not on how they are split into steps";
    let (rows, expected) = (snapshot(chunked.cache.as_ref(), chunked.seq, &text)?, snapshot(single.cache.as_ref(), single.seq, &text)?);
    ensure!(rows == expected, mend, "{tokens} tokens with the prompt in steps of {CHUNK} leave other rows behind than single steps");
    if matches!(chunked.cache.guarantee(), Guarantee::Exact | Guarantee::Evicts(None)) {
        let width = geometry.heads * geometry.value_dim;
        for (layer, (outputs, others)) in chunked.outputs.iter().zip(&single.outputs).enumerate() {
            for (position, (out, other)) in outputs.chunks_exact(width).zip(others.chunks_exact(width)).enumerate() {
                let error = difference(out, other);
                let mend = "within a step, each query must see what it would see if the tokens had come one by one";
                ensure!(
                    error <= TOLERANCE,
                    mend,
                    "in layer {layer}, the query at position {position} in a step of {CHUNK} differs by {error} from the same query in a single step"
                );
            }
        }
    }
    Ok(Verdict::Passed)
}

/// A cache, and what attention over it gave.
struct Run<'a> {
    text: &'a Text,
    cache: Box<dyn KvCache>,
    seq: SeqId,
    /// Of each layer, `[tokens, heads, value_dim]`.
    outputs: Vec<Vec<f32>>,
}

impl<'a> Run<'a> {
    fn new(subject: &Subject, text: &'a Text) -> Result<Run<'a>, Failure> {
        let mut cache = subject.build_for(&text.geometry)?;
        let seq = cache.open()?;
        Ok(Run { text, cache, seq, outputs: vec![vec![]; text.geometry.layers] })
    }

    /// Feeds the prompt in steps of `chunk` tokens and the rest of `tokens` in single steps.
    fn feed(&mut self, prompt: usize, chunk: usize, tokens: usize) -> Result<(), Failure> {
        for start in (0..prompt).step_by(chunk) {
            self.step(start, (start + chunk).min(prompt))?;
        }
        self.check_rows(chunk)?;
        self.cache.prompt_end(self.seq)?;
        let seen = self.cache.seen(self.seq)?;
        let mend = "`prompt_end` may compress what is held, but must not change the next position";
        ensure!(seen == prompt, mend, "after `prompt_end` of {prompt} tokens the sequence has seen {seen}");
        self.check_rows(chunk).map_err(|failure| failure.when("after `prompt_end`"))?;
        for start in prompt..tokens {
            self.step(start, start + 1)?;
        }
        self.check_rows(chunk)
    }

    fn check_rows(&self, chunk: usize) -> Result<(), Failure> {
        rows_are_those_appended(self.cache.as_ref(), self.seq, self.text, chunk).map(|_| ())
    }

    /// One step. The newest query of a chunk, and of single steps around every 64 tokens, is compared with `view`:
    /// comparing every one would take longer than all other checks.
    fn step(&mut self, start: usize, end: usize) -> Result<(), Failure> {
        let Run { text, cache, seq, .. } = self;
        let is_compared = end - start > 1 || matches!(end % 64, 0 | 1);
        let mut worst = None;
        let outputs = step_with(cache.as_mut(), *seq, text, start..end, |cache, layer, out| {
            if is_compared && worst.is_none() {
                let newest = Rows::new([1, text.geometry.heads, text.geometry.value_dim], token(out, end - start - 1).to_vec());
                worst = compare_with_view(cache, *seq, text, layer, end - 1, &newest);
            }
        })?;
        let mend =
            "`view` must show what the newest query sees, and `attend` must read it; check the block, group or window that ends here";
        let (layer, error) = worst.unwrap_or_default();
        ensure!(
            worst.is_none(),
            mend,
            "in layer {layer}, attend of the query at position {} in a step of {} tokens differs by {error} from dense attention over view",
            end - 1,
            end - start
        );
        self.outputs.iter_mut().zip(&outputs).for_each(|(all, out)| all.extend(out.values()));
        Ok(())
    }
}
