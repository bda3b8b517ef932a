//! Reading committed rows without a step.

use kv_core::{CacheError, Geometry, KvCache, Rows, SeqId, reference};

use super::TOLERANCE;
use super::attention::{APPROACHED, approach, limit_of};
use super::lifecycle::snapshot;
use crate::driver::{append, difference};
use crate::failure::ensure;
use crate::{Failure, Outcome, Subject, Text, Verdict, fill, step};

/// Queries of a read: one, as many as decode a row in registers, and more than those.
const QUERIES: [usize; 3] = [1, 3, 20];

/// `read` equals dense attention over `view` at every length and for any number of queries, after `fork` and `truncate`,
/// and for one sequence among others. It refuses what it cannot read, and leaves a step in progress alone.
///
/// # Errors
/// A failure names the length and the layer where they differ.
pub fn read_equals_view(subject: &Subject) -> Outcome {
    if let Some(reason) = refusal(subject)? {
        return Ok(Verdict::Skipped(reason));
    }
    let geometry = subject.geometry();
    at_every_length(subject, geometry, &mut approach())?;
    for (heads, kv_heads) in [(5, 1), (3, 3)] {
        let other = Geometry { layers: 1, heads, kv_heads, ..geometry.clone() };
        at_every_length(subject, &other, &mut std::iter::repeat_n(1, 40))?;
    }
    of_several_sequences(subject)?;
    within_a_step(subject)?;
    what_cannot_be_read_is_refused(subject)?;
    Ok(Verdict::Passed)
}

/// Why the strategy supports no reading, if it does not.
fn refusal(subject: &Subject) -> Result<Option<String>, Failure> {
    let text = Text::new(subject.geometry(), 30, 1);
    let mut cache = subject.build()?;
    let seq = cache.open()?;
    step(cache.as_mut(), seq, &text, 0..1)?;
    match cache.read(seq, 0, text.queries(0, 0..1).into_tensor()) {
        Err(CacheError::Unsupported { reason, .. }) => Ok(Some(reason)),
        outcome => outcome.map(|_| None).map_err(Failure::from),
    }
}

fn at_every_length(subject: &Subject, geometry: &Geometry, steps: &mut dyn Iterator<Item = usize>) -> Result<(), Failure> {
    let text = Text::new(geometry, 31, APPROACHED);
    let mut cache = subject.build_for(geometry)?;
    let limit = limit_of(subject)?;
    let seq = cache.open()?;
    let mut position = 0;
    for tokens in steps {
        if position + tokens > limit {
            break;
        }
        fill(cache.as_mut(), seq, &text, position..position + tokens, tokens)?;
        position += tokens;
        compare(cache.as_mut(), seq, &text, position % geometry.layers, QUERIES[position % QUERIES.len()])?;
    }
    Ok(())
}

/// Forks, and truncates a fork, where the strategy can.
fn of_several_sequences(subject: &Subject) -> Result<(), Failure> {
    const TOKENS: usize = 37;
    let texts = [32, 33].map(|seed| Text::new(subject.geometry(), seed, TOKENS));
    let mut cache = subject.build()?;
    let mut sequences = vec![];
    for text in &texts {
        let seq = cache.open()?;
        fill(cache.as_mut(), seq, text, 0..TOKENS - 4, 7)?;
        sequences.push((seq, text));
    }
    match cache.fork(sequences[0].0) {
        Err(CacheError::Unsupported { .. }) => {}
        fork => {
            let (fork, text) = (fork?, &texts[1]);
            fill(cache.as_mut(), fork, text, TOKENS - 4..TOKENS, 1)?;
            sequences.push((fork, text));
        }
    }
    let all = |cache: &mut dyn KvCache| sequences.iter().try_for_each(|(seq, text)| compare(cache, *seq, text, 0, QUERIES[1]));
    all(cache.as_mut())?;
    for len in [17, 16, 1] {
        let (last, _) = sequences[sequences.len() - 1];
        match cache.truncate(last, len) {
            Err(CacheError::Unsupported { .. }) => {}
            outcome => outcome?,
        }
        all(cache.as_mut()).map_err(|failure| failure.when(&format!("after a truncate to {len}")))?;
    }
    Ok(())
}

/// Reads between the calls of a step see nothing of it, and the step ends as if there had been none.
fn within_a_step(subject: &Subject) -> Result<(), Failure> {
    const TOKENS: usize = 33;
    let text = Text::new(subject.geometry(), 34, TOKENS + 2);
    let layers = text.geometry.layers;
    let (mut cache, mut undisturbed) = (subject.build()?, subject.build()?);
    let (seq, other) = (cache.open()?, undisturbed.open()?);
    fill(cache.as_mut(), seq, &text, 0..TOKENS, 5)?;
    fill(undisturbed.as_mut(), other, &text, 0..TOKENS, 5)?;
    let queries = |layer: usize| text.queries(layer, 0..3).into_tensor();
    let before = (0..layers).map(|layer| cache.read(seq, layer, queries(layer)).map(values)).collect::<Result<Vec<_>, _>>()?;
    let fresh = TOKENS..TOKENS + 2;
    let expected = step(undisturbed.as_mut(), other, &text, fresh.clone())?;

    let run = cache.begin(seq, fresh.clone())?;
    for (layer, expected) in expected.iter().enumerate() {
        append(cache.as_mut(), seq, &text, layer, run.clone())?;
        let rows = snapshot(cache.as_ref(), seq, &text)?;
        for (layer, before) in before.iter().enumerate() {
            let error = difference(&values(cache.read(seq, layer, queries(layer))?), before);
            let mend = "`read` sees committed rows alone";
            ensure!(error == 0.0, mend, "in a step of 2 tokens after {TOKENS}, `read` of layer {layer} differs from that before the step");
        }
        ensure!(
            rows == snapshot(cache.as_ref(), seq, &text)?,
            "`read` changes nothing",
            "`read` within a step changed what the cache holds"
        );
        let out = values(cache.attend(seq, layer, text.queries(layer, run.clone()).into_tensor())?);
        let wanted = expected.values();
        let error = difference(&out[out.len() - wanted.len()..], wanted);
        ensure!(error == 0.0, "`read` changes nothing", "in layer {layer}, `read` within a step changed its attention by {error}");
    }
    cache.commit(seq)?;
    let same = snapshot(cache.as_ref(), seq, &text)? == snapshot(undisturbed.as_ref(), other, &text)?;
    ensure!(same, "`read` changes nothing", "after a step with reads in it, the cache holds other rows than after one without");
    Ok(())
}

fn what_cannot_be_read_is_refused(subject: &Subject) -> Result<(), Failure> {
    let text = Text::new(subject.geometry(), 35, 2);
    let Geometry { layers, heads, key_dim, .. } = text.geometry;
    let mut cache = subject.build()?;
    let seq = cache.open()?;
    let rows = |tokens: usize, heads: usize, dim: usize| Rows::new([tokens, heads, dim], vec![0.0; tokens * heads * dim]).into_tensor();
    let mend = "`kv_core::Sequences::read_queries` does this bookkeeping";
    let expect = |cache: &mut dyn KvCache, what: &str, layer: usize, rows, expected: &dyn Fn(&CacheError) -> bool| {
        let answer = cache.read(seq, layer, rows).map(|rows| rows.dims());
        ensure!(answer.as_ref().is_err_and(expected), mend, "`read` {what} returned {answer:?}");
        Ok(())
    };
    let is_empty = |layer: usize| move |error: &CacheError| *error == CacheError::Empty { seq, layer };
    expect(cache.as_mut(), "of a new sequence", 0, rows(1, heads, key_dim), &is_empty(0))?;
    let run = cache.begin(seq, 0..2)?;
    append(cache.as_mut(), seq, &text, 0, run)?;
    expect(cache.as_mut(), "before the first commit", 0, rows(1, heads, key_dim), &is_empty(0))?;
    step(cache.as_mut(), seq, &text, 0..2)?;
    expect(cache.as_mut(), "of a layer behind the last", layers, rows(1, heads, key_dim), &is_empty(layers))?;
    let is_shape = |error: &CacheError| matches!(error, CacheError::Shape { .. });
    expect(cache.as_mut(), "with a head too many", 0, rows(1, heads + 1, key_dim), &is_shape)?;
    expect(cache.as_mut(), "with queries that are too short", 0, rows(1, heads, key_dim - 1), &is_shape)?;
    cache.close(seq)?;
    expect(cache.as_mut(), "of a closed sequence", 0, rows(1, heads, key_dim), &|error| *error == CacheError::Closed { seq })
}

/// Compares a read by `count` queries with dense attention over `view`, of which each sees every row.
fn compare(cache: &mut dyn KvCache, seq: SeqId, text: &Text, layer: usize, count: usize) -> Result<(), Failure> {
    let Geometry { heads, kv_heads, .. } = text.geometry;
    let queries = text.queries(layer, 0..count);
    let read = values(cache.read(seq, layer, queries.clone().into_tensor())?);
    let views = (0..kv_heads).map(|kv_head| cache.view(seq, layer, kv_head)).collect::<Result<Vec<_>, _>>()?;
    let expected = reference::attend_views(&text.geometry, 0, &queries, &views, |_, _| true);
    let mend =
        "`read` sees every row that `view` shows between steps, without a causal mask; look at the block, group or window that ends here";
    ensure!(read.len() == expected.values().len(), mend, "`read` by {count} queries returned {} values", read.len());
    let error = difference(&read, expected.values());
    ensure!(
        error <= TOLERANCE,
        mend,
        "with {heads} query heads, {kv_heads} KV heads and {} tokens, `read` by {count} queries in layer {layer} differs from dense attention over `view` by {error}",
        cache.seen(seq)?
    );
    Ok(())
}

fn values(rows: kv_core::Tensor<3>) -> Vec<f32> {
    let dims = rows.dims();
    Rows::take("the rows read", rows, dims).expect("its own shape").values().to_vec()
}
