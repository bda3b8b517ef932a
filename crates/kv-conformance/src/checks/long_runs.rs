//! A text longer than any boundary that the other checks approach.

use kv_core::{CacheError, Geometry, Guarantee, KvCache, SeqId};

use super::TOLERANCE;
use super::attention::compare_with_view;
use super::rows::rows_are_those_appended;
use crate::driver::{difference, step_with};
use crate::failure::ensure;
use crate::{Failure, Outcome, Subject, Text, Verdict};

/// Tokens of a prompt that a driver usually feeds in one step.
const CHUNK: usize = 512;

/// A long prompt, fed in chunks and token by token, its end announced with `prompt_end`, and single steps after it:
/// attention equals dense attention over `view`, every row is as it was appended, within the guarantee, and both ways
/// leave the same behind. [`Subject::with_long_run`] says how long; a cache that recomputes runs the prompt once.
///
/// # Errors
/// A failure names the length at which something is wrong.
pub fn long_runs_hold(subject: &Subject) -> Outcome {
    let geometry = Geometry { layers: 1, heads: 2, kv_heads: 1, ..subject.geometry().clone() };
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
        // Single steps would run everything before them again, and again, and hold nothing that could be wrong.
        run(subject, &text, prompt, prompt, (prompt + 2).min(tokens))?;
        return Ok(Verdict::Passed);
    }
    let chunked = run(subject, &text, prompt, CHUNK, tokens)?;
    let single = run(subject, &text, prompt, 1, tokens)?;
    let mend = "what is kept, and how it is encoded, must depend on the tokens and not on the steps they came in";
    let views = (chunked.cache.view(chunked.seq, 0, 0)?, single.cache.view(single.seq, 0, 0)?);
    ensure!(views.0 == views.1, mend, "{tokens} tokens with a prompt in steps of {CHUNK} leave other rows behind than single steps");
    if matches!(chunked.cache.guarantee(), Guarantee::Exact | Guarantee::Evicts(None)) {
        let width = geometry.heads * geometry.value_dim;
        for (position, (out, other)) in chunked.outputs.chunks_exact(width).zip(single.outputs.chunks_exact(width)).enumerate() {
            let error = difference(out, other);
            let mend = "within a step, each query sees what it would see if the tokens had come one by one";
            ensure!(
                error <= TOLERANCE,
                mend,
                "the query at position {position} in steps of {CHUNK} is {error} off the same in single steps"
            );
        }
    }
    Ok(Verdict::Passed)
}

/// A cache after a run.
struct Run {
    cache: Box<dyn KvCache>,
    seq: SeqId,
    /// `[tokens, heads, value_dim]`
    outputs: Vec<f32>,
}

/// Feeds the prompt in steps of `chunk` tokens and the rest of `tokens` in single steps.
fn run(subject: &Subject, text: &Text, prompt: usize, chunk: usize, tokens: usize) -> Result<Run, Failure> {
    let mut cache = subject.build_for(&text.geometry)?;
    let seq = cache.open()?;
    let mut run = Run { cache, seq, outputs: vec![] };
    for start in (0..prompt).step_by(chunk) {
        run.step(text, start, (start + chunk).min(prompt))?;
    }
    rows_are_those_appended(run.cache.as_ref(), seq, text, chunk)?;
    run.cache.prompt_end(seq)?;
    let seen = run.cache.seen(seq)?;
    let mend = "`prompt_end` may compress what is held; the next position stays what it was";
    ensure!(seen == prompt, mend, "after `prompt_end` of {prompt} tokens the sequence has seen {seen}");
    rows_are_those_appended(run.cache.as_ref(), seq, text, chunk).map_err(|failure| failure.when("after `prompt_end`"))?;
    for start in prompt..tokens {
        run.step(text, start, start + 1)?;
    }
    rows_are_those_appended(run.cache.as_ref(), seq, text, chunk)?;
    Ok(run)
}

impl Run {
    fn step(&mut self, text: &Text, start: usize, end: usize) -> Result<(), Failure> {
        // Everywhere it would take longer than all other checks.
        let is_compared = end - start == 1 && matches!(end % 64, 0 | 1);
        let mut worst = None;
        let outputs = step_with(self.cache.as_mut(), self.seq, text, start..end, |cache, layer, out| {
            if is_compared {
                worst = compare_with_view(cache, self.seq, text, layer, start, out);
            }
        })?;
        let mend =
            "`view` must show what the newest query sees, and `attend` must read it: look at the block, group or window that ends here";
        let error = worst.map_or(0.0, |(_, error)| error);
        ensure!(worst.is_none(), mend, "with {start} tokens before, attend is {error} off dense attention over view");
        self.outputs.extend(outputs[0].values());
        Ok(())
    }
}
