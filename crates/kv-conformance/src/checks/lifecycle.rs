//! Opening, closing, truncating and forking sequences.

use kv_core::{CacheError, KvCache, SeqId, View};

use super::TOLERANCE;
use crate::driver::{difference, token};
use crate::failure::ensure;
use crate::{Failure, Outcome, Subject, Text, Verdict, step};

/// A new sequence is empty, a closed one is gone, ids are never reused, and a second run equals the first.
///
/// # Errors
/// A failure names what was left over.
pub fn starts_empty_and_forgets(subject: &Subject) -> Outcome {
    let text = Text::new(subject.geometry(), 10, 40);
    let mut cache = subject.build()?;
    let idle = cache.usage();
    ensure!(
        idle.seen_tokens == 0 && idle.resident_tokens == 0 && idle.payload_bytes == 0,
        "report no tokens and no payload before the first append",
        "a new cache reports {idle:?}"
    );
    let first = cache.open()?;
    ensure!(cache.seen(first)? == 0, "a sequence starts at position 0", "a new sequence reports {} seen tokens", cache.seen(first)?);
    ensure!(
        cache.view(first, 0, 0)?.positions.is_empty(),
        "a sequence starts without rows",
        "a new sequence holds {:?}",
        cache.view(first, 0, 0)?.positions
    );
    let before = run(cache.as_mut(), first, &text, 0, 40)?;
    let other = cache.open()?;
    ensure!(first != other, "count ids upwards", "two open sequences are both {first}");
    for closed in [other, first] {
        cache.close(closed)?;
        let answer = cache.seen(closed);
        ensure!(
            answer == Err(CacheError::Closed { seq: closed }),
            "return `Closed` for a closed sequence",
            "`seen` of a closed sequence returned {answer:?}"
        );
    }
    let left = cache.usage();
    let forgotten = left.seen_tokens == 0 && left.resident_tokens == 0 && left.payload_bytes == 0;
    ensure!(forgotten, "free or reuse the rows of a closed sequence", "after every sequence was closed, the cache still reports {left:?}");
    for _ in 0..2 {
        let second = cache.open()?;
        ensure!(second != first && second != other, "count ids upwards", "`open` returned {second} again, the id of a closed sequence");
        let held = cache.view(second, 0, 0)?.positions;
        let mend = "the state of a sequence must not survive `close`";
        ensure!(held.is_empty(), mend, "a sequence opened after another was closed already holds positions {held:?}");
        let again = run(cache.as_mut(), second, &text, 0, 40)?;
        ensure!(before == again, mend, "a second run of the same tokens differs from the first");
    }
    Ok(Verdict::Passed)
}

/// Truncating a sequence and appending other tokens equals a run that never had the truncated tokens. A strategy
/// that cannot do this returns `Unsupported`.
///
/// # Errors
/// A failure names the lengths.
pub fn truncate_then_append_is_fresh(subject: &Subject) -> Outcome {
    let mut refused = vec![];
    let mut done = 0;
    for (len, cut) in [(40, 40), (40, 39), (40, 33), (40, 32), (40, 31), (40, 17), (40, 16), (40, 1), (40, 0), (9, 8), (17, 16), (90, 5)] {
        let long = Text::new(subject.geometry(), 11, len);
        let mut other = long.clone();
        let replaced = Text::new(subject.geometry(), 12, cut + 30);
        other.tokens.truncate(cut);
        other.tokens.extend(&replaced.tokens[cut..]);

        let mut cache = subject.build()?;
        let seq = cache.open()?;
        run(cache.as_mut(), seq, &long, 0, len)?;
        let untouched = snapshot(cache.as_ref(), seq, &long)?;
        match cache.truncate(seq, cut) {
            Err(CacheError::Unsupported { reason, .. }) => {
                let after = snapshot(cache.as_ref(), seq, &long)?;
                ensure!(
                    untouched == after && cache.seen(seq)? == len,
                    "check before changing anything",
                    "a refused truncate from {len} to {cut} tokens changed the sequence"
                );
                refused.push(format!("{len} to {cut}: {reason}"));
                continue;
            }
            outcome => outcome?,
        }
        done += 1;
        let mend = "truncate every layer, every row count and every position; truncated tokens must not come back";
        ensure!(cache.seen(seq)? == cut, mend, "after a truncate to {cut} tokens, the sequence reports {} seen tokens", cache.seen(seq)?);
        let continued = run(cache.as_mut(), seq, &other, cut, cut + 30)?;
        let mut fresh_cache = subject.build()?;
        let fresh = fresh_cache.open()?;
        run(fresh_cache.as_mut(), fresh, &other, 0, cut)?;
        let expected = run(fresh_cache.as_mut(), fresh, &other, cut, cut + 30)?;
        let error = worst(&continued, &expected);
        ensure!(
            error <= TOLERANCE,
            mend,
            "a sequence truncated from {len} to {cut} tokens and continued differs from a fresh run by {error}"
        );
    }
    match done {
        0 => Ok(Verdict::Skipped(format!("the strategy refuses every truncate: {}", refused.first().cloned().unwrap_or_default()))),
        _ => Ok(Verdict::Passed),
    }
}

/// A fork and its parent continue independently, even from inside a partly filled block. Rows they share are
/// counted once, and closing one frees only the rows that it alone holds.
///
/// # Errors
/// A failure says which of the two is wrong and by how much.
pub fn forks_are_isolated(subject: &Subject) -> Outcome {
    for len in [1, 15, 16, 17, 33, 70] {
        let parent_text = Text::new(subject.geometry(), 13, len + 20);
        let mut fork_text = parent_text.clone();
        let replaced = Text::new(subject.geometry(), 14, len + 20);
        fork_text.tokens.truncate(len);
        fork_text.tokens.extend(&replaced.tokens[len..]);

        let mut cache = subject.build()?;
        let parent = cache.open()?;
        run(cache.as_mut(), parent, &parent_text, 0, len)?;
        let alone = cache.usage();
        let fork = match cache.fork(parent) {
            Err(CacheError::Unsupported { reason, .. }) => return Ok(Verdict::Skipped(reason)),
            outcome => outcome?,
        };
        ensure!(
            cache.seen(fork)? == len,
            "a fork starts with the `seen` of its parent",
            "a fork of a sequence of {len} tokens reports {} seen tokens",
            cache.seen(fork)?
        );
        let both = cache.usage();
        let bound = 2 * alone.payload_bytes - both.shared_bytes;
        ensure!(
            both.payload_bytes <= bound,
            "count shared rows once",
            "{len} tokens take {} bytes, but together with a fork {}, of which {} are reported as shared",
            alone.payload_bytes,
            both.payload_bytes,
            both.shared_bytes
        );

        let mut of_parent = vec![];
        let mut of_fork = vec![];
        for position in len..len + 10 {
            of_fork.extend(step(cache.as_mut(), fork, &fork_text, position..position + 1)?);
            of_parent.extend(step(cache.as_mut(), parent, &parent_text, position..position + 1)?);
        }
        cache.close(fork)?;
        for position in len + 10..len + 20 {
            of_parent.extend(step(cache.as_mut(), parent, &parent_text, position..position + 1)?);
        }
        let mend = "copy a shared page before either sequence writes to it, and free it when neither uses it";
        let error = worst(&of_parent, &alone_after(subject, &parent_text, len, 20)?);
        ensure!(error <= TOLERANCE, mend, "a parent forked at {len} tokens differs from the same sequence without a fork by {error}");
        let error = worst(&of_fork, &alone_after(subject, &fork_text, len, 10)?);
        ensure!(error <= TOLERANCE, mend, "a fork at {len} tokens differs from the same sequence on its own by {error}");
    }
    Ok(Verdict::Passed)
}

fn alone_after(subject: &Subject, text: &Text, len: usize, steps: usize) -> Result<Vec<kv_core::Rows>, Failure> {
    let mut cache = subject.build()?;
    let seq = cache.open()?;
    run(cache.as_mut(), seq, text, 0, len)?;
    run(cache.as_mut(), seq, text, len, len + steps)
}

/// Runs single steps over these positions and returns the outputs of all layers, step by step.
fn run(cache: &mut dyn KvCache, seq: SeqId, text: &Text, from: usize, to: usize) -> Result<Vec<kv_core::Rows>, Failure> {
    let mut outputs = vec![];
    for position in from..to {
        outputs.extend(step(cache, seq, text, position..position + 1)?);
    }
    Ok(outputs)
}

/// Everything that a sequence holds.
pub(super) fn snapshot(cache: &dyn KvCache, seq: SeqId, text: &Text) -> Result<Vec<View>, Failure> {
    let heads = (0..text.geometry.layers).flat_map(|layer| (0..text.geometry.kv_heads).map(move |head| (layer, head)));
    heads.map(|(layer, head)| Ok(cache.view(seq, layer, head)?)).collect()
}

fn worst(outputs: &[kv_core::Rows], expected: &[kv_core::Rows]) -> f32 {
    assert_eq!(outputs.len(), expected.len(), "both runs have the same number of steps");
    outputs.iter().zip(expected).map(|(out, expected)| difference(token(out, 0), token(expected, 0))).fold(0.0, f32::max)
}
