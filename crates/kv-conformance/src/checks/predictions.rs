//! Predicted memory.

use kv_core::{CacheError, KvCache, PredictedBytes};
use kv_metrics::heap_margin;

use crate::failure::ensure;
use crate::{Failure, Outcome, Subject, Text, Verdict, fill};

/// Lengths around the boundaries of blocks and windows.
const LENGTHS: [usize; 13] = [0, 1, 15, 16, 17, 31, 33, 63, 64, 65, 200, 513, 600];

/// What the strategy [predicts](kv_core::Strategy::predicted_bytes) for one sequence and for three is what `usage` reports,
/// however the tokens came: singly, in chunks, at once, or one after all others. Lengths for which there is no room are left
/// out.
///
/// - All bytes agree to within the larger of 0.1 % and 4 KiB: the margin of the ledger that a report prints.
/// - Payload and metadata, which no spare room can hide, agree to within 1 % and 512 bytes.
///
/// # Errors
/// A failure gives both numbers.
pub fn predicted_bytes_hold(subject: &Subject) -> Outcome {
    if subject.predicted_bytes(0, 1)?.is_none() {
        return Ok(Verdict::Skipped("the strategy predicts no bytes".into()));
    }
    let text = Text::new(subject.geometry(), 42, LENGTHS.into_iter().max().unwrap_or_default());
    for sequences in [1, 3] {
        for tokens in LENGTHS {
            let when = format!("with {tokens} tokens in each of {sequences} sequences");
            length_holds(subject, &text, tokens, sequences).map_err(|failure| failure.when(&when))?;
        }
    }
    Ok(Verdict::Passed)
}

fn length_holds(subject: &Subject, text: &Text, tokens: usize, sequences: usize) -> Result<(), Failure> {
    let predicted = subject.predicted_bytes(tokens, sequences)?;
    let mend = "`predicted_bytes` answers for every length if it answers for one";
    ensure!(predicted.is_some(), mend, "nothing is predicted, but it is for an empty sequence");
    let predicted = predicted.unwrap_or_default();
    for steps in Steps::ALL {
        let mut cache = subject.build()?;
        match steps.feed(cache.as_mut(), text, tokens, sequences) {
            Err(CacheError::Full { .. }) => return Ok(()),
            fed => fed?,
        }
        let reported = PredictedBytes::from(cache.usage());
        agree(predicted, reported).map_err(|failure| failure.when(steps.name()))?;
    }
    Ok(())
}

fn agree(predicted: PredictedBytes, reported: PredictedBytes) -> Result<(), Failure> {
    let held = |bytes: PredictedBytes| bytes.payload.saturating_add(bytes.metadata);
    let all = heap_margin(reported.total() as u64) as usize;
    let parts = [
        ("in all", predicted.total(), reported.total(), all),
        ("of payload and metadata", held(predicted), held(reported), held(reported) / 100 + 512),
    ];
    for (part, predicted, reported, margin) in parts {
        let mend = "count with the functions that `usage` counts with, and tables by their capacity; let a buffer grow to a size \
                    that its length decides, whatever the steps were";
        ensure!(predicted.abs_diff(reported) <= margin, mend, "{predicted} bytes {part} are predicted, but `usage` reports {reported}");
    }
    Ok(())
}

/// The steps in which tokens come.
#[derive(Debug, Clone, Copy)]
enum Steps {
    Single,
    Chunks,
    Whole,
    /// What makes a cache that doubles what it has reserve the most.
    WholeThenSingle,
}

impl Steps {
    const ALL: [Steps; 4] = [Steps::Single, Steps::Chunks, Steps::Whole, Steps::WholeThenSingle];

    fn name(self) -> &'static str {
        match self {
            Steps::Single => "token by token",
            Steps::Chunks => "in chunks",
            Steps::Whole => "in one step",
            Steps::WholeThenSingle => "in one step and a token more",
        }
    }

    /// Opens so many sequences and feeds each.
    fn feed(self, cache: &mut dyn KvCache, text: &Text, tokens: usize, sequences: usize) -> Result<(), CacheError> {
        /// Not a divisor of any boundary.
        const CHUNK: usize = 37;
        let before_last = tokens.saturating_sub(1);
        let (first, chunk) = match self {
            // Each single step would run all tokens before it again.
            Steps::Single if cache.recomputes() => (0, CHUNK),
            Steps::Single => (0, 1),
            Steps::Chunks => (0, CHUNK),
            Steps::Whole => (tokens, 1),
            Steps::WholeThenSingle => (before_last, 1),
        };
        for _ in 0..sequences {
            let seq = cache.open()?;
            fill(cache, seq, text, 0..first, first.max(1))?;
            fill(cache, seq, text, first..tokens, chunk)?;
        }
        Ok(())
    }
}
