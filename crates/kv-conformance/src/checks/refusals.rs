//! Misuse and overflow.

use kv_core::{CacheError, Geometry, KvCache, Rows, SeqId, View};

use super::lifecycle::snapshot;
use crate::driver::{append, difference};
use crate::failure::ensure;
use crate::room::Room;
use crate::{Failure, Outcome, Subject, Text, Verdict, fill, step};

/// Each misuse returns the error that its method documents, and the run continues as if it had not happened.
///
/// # Errors
/// A failure names the misuse.
pub fn refusals_leave_no_trace(subject: &Subject) -> Outcome {
    let text = Text::new(subject.geometry(), 20, 30);
    let (expected, expected_rows) = undisturbed(subject, &text)?;
    let mut cache = subject.build()?;
    let seq = cache.open()?;
    let mut outputs = vec![];
    for position in 0..30 {
        misuse_between_steps(cache.as_mut(), seq, &text, position)?;
        let run = cache.begin(seq, position..position + 1)?;
        misuse_in_a_step(cache.as_mut(), seq, &text, 0, run.clone())?;
        // An abandoned step: rows are appended but never committed. Not at every position, because if every row were
        // held twice, the attention weights would be the same as with each row once.
        if position % 3 == 1 {
            let tokens = run.len();
            append(cache.as_mut(), seq, &text, 0, run)?;
            misuse_in_a_step(cache.as_mut(), seq, &text, 1, 0..tokens)?;
        }
        outputs.extend(step(cache.as_mut(), seq, &text, position..position + 1)?);
    }
    let error = outputs.iter().zip(&expected).map(|(out, expected)| difference(out.values(), expected.values())).fold(0.0, f32::max);
    ensure!(
        error == 0.0,
        "check before changing anything; `begin` discards an unfinished step",
        "after refused calls and abandoned steps, the outputs differ by {error}"
    );

    let rows_left = snapshot(cache.as_ref(), seq, &text)?;
    ensure!(
        rows_left == expected_rows,
        "`begin` must discard an unfinished step",
        "after refused calls and abandoned steps, the cache holds different rows"
    );

    let closed = cache.open()?;
    cache.close(closed)?;
    let rows = |heads: usize, dim: usize| Rows::new([1, heads, dim], vec![0.0; heads * dim]).into_tensor();
    let Geometry { heads, kv_heads, key_dim, value_dim, .. } = text.geometry;
    let refusal = CacheError::Closed { seq: closed };
    expect("close of a closed sequence", cache.close(closed), &refusal)?;
    expect("seen of a closed sequence", cache.seen(closed), &refusal)?;
    expect("begin on a closed sequence", cache.begin(closed, 0..1), &refusal)?;
    expect("append to a closed sequence", cache.append(closed, 0, rows(kv_heads, key_dim), rows(kv_heads, value_dim)), &refusal)?;
    expect("attend over a closed sequence", cache.attend(closed, 0, rows(heads, key_dim)).map(|_| ()), &refusal)?;
    expect("commit of a closed sequence", cache.commit(closed), &refusal)?;
    expect("prompt_end of a closed sequence", cache.prompt_end(closed), &refusal)?;
    expect("truncate of a closed sequence", cache.truncate(closed, 0), &refusal)?;
    expect("view of a closed sequence", cache.view(closed, 0, 0), &refusal)?;
    match cache.fork(closed) {
        Err(CacheError::Closed { .. } | CacheError::Unsupported { .. }) => Ok(Verdict::Passed),
        other => Err(Failure::new(format!("fork of a closed sequence returned {other:?}"), "return `Closed`")),
    }
}

fn undisturbed(subject: &Subject, text: &Text) -> Result<(Vec<Rows>, Vec<View>), Failure> {
    let mut cache = subject.build()?;
    let seq = cache.open()?;
    let mut outputs = vec![];
    for position in 0..text.tokens.len() {
        outputs.extend(step(cache.as_mut(), seq, text, position..position + 1)?);
    }
    let rows = snapshot(cache.as_ref(), seq, text)?;
    Ok((outputs, rows))
}

fn misuse_between_steps(cache: &mut dyn KvCache, seq: SeqId, text: &Text, seen: usize) -> Result<(), Failure> {
    let Geometry { heads, kv_heads, key_dim, value_dim, layers, .. } = text.geometry;
    let rows = |heads: usize, dim: usize| Rows::new([1, heads, dim], vec![0.0; heads * dim]).into_tensor();
    let before = (snapshot(cache, seq, text)?, cache.usage());
    expect("attend before begin", cache.attend(seq, 0, rows(heads, key_dim)).map(|_| ()), &CacheError::Empty { seq, layer: 0 })?;
    expect("append before begin", cache.append(seq, 0, rows(kv_heads, key_dim), rows(kv_heads, value_dim)), &CacheError::NoStep { seq })?;
    expect("commit before begin", cache.commit(seq), &CacheError::NoStep { seq })?;
    expect("begin past the end", cache.begin(seq, seen + 1..seen + 2), &CacheError::Misplaced { seq, seen, start: seen + 1 })?;
    if seen > 0 {
        expect("begin before the end", cache.begin(seq, seen - 1..seen), &CacheError::Misplaced { seq, seen, start: seen - 1 })?;
    }
    let beyond = CacheError::TruncateBeyondEnd { seq, seen, len: seen + 1 };
    if !matches!(cache.truncate(seq, seen + 1), Err(CacheError::Unsupported { .. })) {
        expect("truncate beyond the end", cache.truncate(seq, seen + 1), &beyond)?;
    }
    let after = (snapshot(cache, seq, text)?, cache.usage());
    ensure!(
        before == after,
        "check before changing anything",
        "refused calls after {seen} tokens ({layers} layers) changed the rows or the usage"
    );
    Ok(())
}

fn misuse_in_a_step(cache: &mut dyn KvCache, seq: SeqId, text: &Text, due: usize, run: std::ops::Range<usize>) -> Result<(), Failure> {
    let Geometry { layers, heads, kv_heads, key_dim, value_dim, .. } = text.geometry;
    let rows = |tokens: usize, heads: usize, dim: usize| Rows::new([tokens, heads, dim], vec![0.0; tokens * heads * dim]).into_tensor();
    let tokens = run.len();
    expect(
        "attend before append",
        cache.attend(seq, due, rows(tokens, heads, key_dim)).map(|_| ()),
        &CacheError::Empty { seq, layer: due },
    )?;
    let too_early = CacheError::LayerOrder { seq, expected: due, layer: layers };
    expect("commit before the last layer", cache.commit(seq), &too_early)?;
    let skipping = CacheError::LayerOrder { seq, expected: due, layer: due + 1 };
    expect(
        "append out of order",
        cache.append(seq, due + 1, rows(tokens, kv_heads, key_dim), rows(tokens, kv_heads, value_dim)),
        &skipping,
    )?;
    if due == 0 {
        let shape = CacheError::Shape { what: "keys", actual: [tokens, kv_heads + 1, key_dim], expected: [tokens, kv_heads, key_dim] };
        expect(
            "keys of another shape",
            cache.append(seq, due, rows(tokens, kv_heads + 1, key_dim), rows(tokens, kv_heads, value_dim)),
            &shape,
        )?;
    }
    Ok(())
}

fn expect<T: std::fmt::Debug>(what: &str, outcome: Result<T, CacheError>, expected: &CacheError) -> Result<(), Failure> {
    match outcome {
        Err(error) if error == *expected => Ok(()),
        other => {
            Err(Failure::new(format!("{what} returned {other:?}, expected {expected:?}"), "`kv_core::Sequences` does this bookkeeping"))
        }
    }
}

/// At the limit, `begin` returns `Full` with true numbers and nothing changes. After memory is freed, the same
/// request succeeds.
///
/// # Errors
/// A failure gives the numbers.
pub fn full_loses_nothing(subject: &Subject) -> Outcome {
    const MOST: usize = 4096;
    const STEP: usize = 61;
    let geometry = Geometry { layers: 1, ..subject.geometry().clone() };
    let text = Text::new(&geometry, 21, MOST + STEP);
    let mut cache = subject.build_for(&geometry)?;
    if cache.recomputes() {
        return Ok(Verdict::Skipped("nothing is held between steps, so nothing can be full".into()));
    }
    let seq = cache.open()?;
    let mut position = 0;
    let said = Room::free(subject.entry(), subject.config(), &geometry, 0..MOST + STEP);
    let claims = "what an empty cache says is free must be what fits, in steps of any size";
    let (needed, free, before) = loop {
        if position >= MOST {
            ensure!(said.is_none(), claims, "an empty cache says that {} tokens fit, and {position} did", said.unwrap_or_default());
            return Ok(Verdict::Skipped(format!("there is no limit within {MOST} tokens")));
        }
        let before = cache.usage();
        match cache.begin(seq, position..position + STEP) {
            Ok(_) => fill(cache.as_mut(), seq, &text, position..position + STEP, STEP)?,
            Err(CacheError::Full { needed, free }) => break (needed, free, before),
            Err(error) => return Err(error.into()),
        }
        position += STEP;
    };
    ensure!(
        said == Some(position + free),
        claims,
        "an empty cache reports room for {said:?} tokens; after {position} it reports room for {free} more"
    );
    let numbers = "`needed` is the tokens that the step adds, `free` the tokens that still fit";
    ensure!(
        needed == STEP && free < STEP,
        numbers,
        "a step of {STEP} tokens does not fit, but the error says {needed} needed, {free} free"
    );
    for more in free + 1..free + 40 {
        let refused = cache.begin(seq, position..position + more);
        let expected = Err(CacheError::Full { needed: more, free });
        ensure!(refused == expected, numbers, "a step of {more} tokens with room for {free} returned {refused:?}");
    }
    let after = cache.usage();
    ensure!(before == after, "check capacity before anything changes", "refused steps changed the usage from {before:?} to {after:?}");

    let mut undisturbed = subject.build_for(&geometry)?;
    let other = undisturbed.open()?;
    fill(undisturbed.as_mut(), other, &text, 0..position, STEP)?;
    let (rows, expected) = (snapshot(cache.as_ref(), seq, &text)?, snapshot(undisturbed.as_ref(), other, &text)?);
    ensure!(rows == expected, "check capacity before anything changes", "refused steps changed the rows in the cache");
    if free > 0 {
        let last = position..position + free;
        let (out, expected) = (step(cache.as_mut(), seq, &text, last.clone())?, step(undisturbed.as_mut(), other, &text, last)?);
        ensure!(out == expected, "check capacity before anything changes", "attention differs after refused steps");
    }
    let end = position + free;
    let refused = cache.begin(seq, end..end + 1);
    let expected = Err(CacheError::Full { needed: 1, free: 0 });
    ensure!(refused == expected, numbers, "after all {end} tokens that fit, one more returns {refused:?}; expected {expected:?}");
    cache.close(seq)?;
    let next = cache.open()?;
    fill(cache.as_mut(), next, &text, 0..position + free, STEP).map_err(|error| {
        let what = format!("after the sequence was closed, the same {} tokens no longer fit: {error}", position + free);
        Failure::new(what, "return the memory of a closed sequence to the pool")
    })?;
    Ok(Verdict::Passed)
}
