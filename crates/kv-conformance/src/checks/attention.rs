//! Checks of attention.

use kv_core::{Geometry, Guarantee, KvCache, Rows, View, reference};

use super::TOLERANCE;
use super::rows::rows_are_those_appended;
use crate::driver::{difference, step_with, token};
use crate::failure::ensure;
use crate::{Failure, Outcome, Subject, Text, Verdict, fill, step};

/// Step sizes that reach every length up to 70, and after that the lengths around powers of two.
pub(super) fn approach() -> impl Iterator<Item = usize> {
    let singles = std::iter::repeat_n(1, 70);
    let around = |jump: usize| std::iter::once(jump).chain(std::iter::repeat_n(1, 5));
    // Reaches 125 … 130, 253 … 258 and 509 … 514.
    singles.chain(around(55)).chain(around(123)).chain(around(251))
}

pub(super) const APPROACHED: usize = 70 + 60 + 128 + 256;

/// `attend` of a one-token step equals dense attention over `view`, at every length. With a single KV head, and
/// with as many KV heads as query heads, only short lengths are checked.
///
/// # Errors
/// A failure names the length and the layer where they differ.
pub fn attend_equals_view(subject: &Subject) -> Outcome {
    let geometry = subject.geometry();
    equals_view(subject, geometry, &mut approach())?;
    for (heads, kv_heads) in [(5, 1), (3, 3)] {
        let other = Geometry { layers: 1, heads, kv_heads, ..geometry.clone() };
        equals_view(subject, &other, &mut std::iter::repeat_n(1, 40))?;
    }
    Ok(Verdict::Passed)
}

fn equals_view(subject: &Subject, geometry: &Geometry, steps: &mut dyn Iterator<Item = usize>) -> Result<(), Failure> {
    let text = Text::new(geometry, 1, APPROACHED);
    let mut cache = subject.build_for(geometry)?;
    let limit = limit_of(subject)?;
    let seq = cache.open()?;
    let mut position = 0;
    for tokens in steps {
        if position + tokens > limit {
            break;
        }
        let mut worst = None;
        step_with(cache.as_mut(), seq, &text, position..position + tokens, |cache, layer, out| {
            if tokens == 1 && worst.is_none() {
                worst = compare_with_view(cache, seq, &text, layer, position, out);
            }
        })?;
        if let Some((layer, error)) = worst {
            let Geometry { heads, kv_heads, .. } = geometry;
            let what = format!(
                "with {heads} query heads, {kv_heads} KV heads and {position} earlier tokens, `attend` in layer {layer} differs from dense attention over `view` by {error}"
            );
            let mend = "`view` must return the rows that the newest query sees, and `attend` must read them; look at the block, group or window that ends here";
            return Err(Failure::new(what, mend));
        }
        position += tokens;
    }
    Ok(())
}

/// The layer and the error, if attention of one token is not dense attention over the view.
pub(super) fn compare_with_view(
    cache: &dyn KvCache,
    seq: kv_core::SeqId,
    text: &Text,
    layer: usize,
    position: usize,
    out: &Rows,
) -> Option<(usize, f32)> {
    let views: Result<Vec<View>, _> = (0..text.geometry.kv_heads).map(|kv_head| cache.view(seq, layer, kv_head)).collect();
    let query = text.queries(layer, std::iter::once(position));
    let expected = reference::attend_views(&text.geometry, position, &query, &views.ok()?, reference::causal);
    let error = difference(out.values(), expected.values());
    let equal = error <= TOLERANCE;
    (!equal).then_some((layer, error))
}

/// `Exact` equals recomputation. `Lossy` stays within its bound and does round tokens, in decode as well as in
/// prefill. `Evicts` keeps the remaining rows intact, or within its bound.
///
/// # Errors
/// A failure names the position and the error.
pub fn guarantee_holds(subject: &Subject) -> Outcome {
    match subject.build()?.guarantee() {
        Guarantee::Exact => exact(subject),
        Guarantee::Lossy(_) | Guarantee::Evicts(Some(_)) => {
            let mend = "encode a token when it leaves the tail, in single steps as well as in chunks";
            let [single, chunked] = [rows_stay_within(subject, 1)?, rows_stay_within(subject, 100)?];
            let idle = if single.rounded { "chunks" } else { "single steps" };
            ensure!(single.rounded == chunked.rounded, mend, "of {ROWS} tokens in {idle}, none was rounded, though the guarantee is lossy");
            // A tail that holds all tokens has the size of one.
            let mend = "count the bytes of f32 rows as such, and encode what leaves the tail";
            ensure!(
                single.rounded || single.is_unencoded,
                mend,
                "none of {ROWS} tokens was rounded, but they take fewer bytes than in f32"
            );
            if single.rounded {
                Ok(Verdict::Passed)
            } else {
                Ok(Verdict::Skipped(format!("none of {ROWS} tokens has left the tail, so none was rounded")))
            }
        }
        Guarantee::Evicts(None) => {
            rows_stay_within(subject, 1)?;
            rows_stay_within(subject, 100)?;
            Ok(Verdict::Passed)
        }
        other => Ok(Verdict::Skipped(format!("the suite does not know the guarantee {other:?}"))),
    }
}

fn exact(subject: &Subject) -> Outcome {
    let text = Text::new(subject.geometry(), 2, APPROACHED);
    let mut cache = subject.build()?;
    let limit = limit_of(subject)?;
    let seq = cache.open()?;
    let mut position = 0;
    for tokens in approach() {
        if position + tokens > limit {
            break;
        }
        let outputs = step(cache.as_mut(), seq, &text, position..position + tokens)?;
        for (layer, out) in outputs.iter().enumerate() {
            for fresh in 0..tokens {
                let all: Vec<usize> = (0..=position + fresh).collect();
                let expected = text.oracle(layer, position + fresh, &all);
                let error = difference(token(out, fresh), expected.values());
                let mend = "an exact cache attends to every earlier token; look at the mask, the index of the first and last token, and the order of layers";
                ensure!(
                    error <= TOLERANCE,
                    mend,
                    "the query at position {} in layer {layer} differs from recomputation by {error}",
                    position + fresh
                );
            }
        }
        position += tokens;
    }
    Ok(Verdict::Passed)
}

/// The largest length to check: as many tokens as fit.
pub(super) fn limit_of(subject: &Subject) -> Result<usize, Failure> {
    let mut cache = subject.build()?;
    let seq = cache.open()?;
    match cache.begin(seq, 0..APPROACHED) {
        // Without blocks, groups or windows there are no boundaries to check.
        Ok(_) if cache.recomputes() => Ok(70),
        Ok(_) => Ok(usize::MAX),
        Err(kv_core::CacheError::Full { free, .. }) => Ok(free),
        Err(error) => Err(error.into()),
    }
}

/// Tokens whose rows are compared with the appended ones.
const ROWS: usize = 600;

/// How the rows of a cache are stored.
struct Stored {
    /// Whether any differs from the appended one.
    rounded: bool,
    /// Whether they take as many bytes as in f32.
    is_unencoded: bool,
}

/// Fills a cache in steps of `chunk` tokens and compares its rows with the appended ones.
fn rows_stay_within(subject: &Subject, chunk: usize) -> Result<Stored, Failure> {
    let geometry = Geometry { layers: 1, ..subject.geometry().clone() };
    let text = Text::new(&geometry, 3, ROWS);
    let mut cache = subject.build_for(&geometry)?;
    let seq = cache.open()?;
    fill(cache.as_mut(), seq, &text, 0..ROWS, chunk)?;
    let rounded = rows_are_those_appended(cache.as_ref(), seq, &text, chunk)?;
    let usage = cache.usage();
    let in_f32 = usage.resident_tokens * geometry.values_per_token() * size_of::<f32>();
    Ok(Stored { rounded, is_unencoded: usage.payload_bytes >= in_f32 })
}

/// As long as it holds every token seen, an evicting cache in full precision equals recomputation.
///
/// # Errors
/// A failure names the position.
pub fn nothing_evicted_is_exact(subject: &Subject) -> Outcome {
    let mut cache = subject.build()?;
    if !matches!(cache.guarantee(), Guarantee::Evicts(None)) {
        return Ok(Verdict::Skipped(format!(
            "the guarantee is {}; this check is for evicting caches in full precision",
            cache.guarantee()
        )));
    }
    let text = Text::new(subject.geometry(), 4, 600);
    let seq = cache.open()?;
    let mut compared = 0;
    for position in 0..600 {
        let outputs = step(cache.as_mut(), seq, &text, position..position + 1)?;
        if cache.usage().resident_tokens < position + 1 {
            break;
        }
        let all: Vec<usize> = (0..=position).collect();
        for (layer, out) in outputs.iter().enumerate().filter(|_| position < 40 || position % 50 == 0) {
            let error = difference(out.values(), text.oracle(layer, position, &all).values());
            let mend = "while every token fits, no token may be masked, evicted or moved";
            ensure!(
                error <= TOLERANCE,
                mend,
                "nothing was evicted, but the query at position {position} in layer {layer} differs from recomputation by {error}"
            );
        }
        compared += 1;
    }
    let mend = "keep at least the newest token";
    ensure!(compared > 0, mend, "the first token was evicted at once");
    Ok(Verdict::Passed)
}

/// After eviction, attention equals dense attention over the kept suffix, at any start position. Keys keep their
/// absolute positions, and scores depend only on differences.
///
/// # Errors
/// A failure gives the base position.
pub fn positions_are_relative(subject: &Subject) -> Outcome {
    let geometry = Geometry { layers: 1, ..subject.geometry().clone() };
    let mut cache = subject.build_for(&geometry)?;
    let tolerance = match cache.guarantee() {
        Guarantee::Evicts(None) => 1e-4,
        other => {
            return Ok(Verdict::Skipped(format!(
                "the guarantee is {other}; this check is for evicting caches in full precision, where shifting all positions changes nothing"
            )));
        }
    };
    const TOKENS: usize = 700;
    let text = Text::new(&geometry, 5, TOKENS);
    let seq = cache.open()?;
    fill(cache.as_mut(), seq, &text, 0..TOKENS - 1, 50)?;
    let mut held = vec![];
    let outputs = step_with(cache.as_mut(), seq, &text, TOKENS - 1..TOKENS, |cache, layer, _| {
        held = cache.view(seq, layer, 0).map(|view| view.positions).unwrap_or_default();
    })?;
    if held.len() == TOKENS {
        return Ok(Verdict::Skipped(format!("no token was evicted within {TOKENS} tokens")));
    }
    let first = held.first().copied().unwrap_or(TOKENS);
    let sinks = held.iter().enumerate().take_while(|(index, position)| index == *position).count();
    let suffix = held[sinks..].first().copied().unwrap_or(TOKENS);
    if held[sinks..] != (suffix..TOKENS).collect::<Vec<_>>() {
        return Ok(Verdict::Skipped(format!("the held positions are not a suffix of the text: {} positions from {first}", held.len())));
    }
    // Sinks are attended as if they were just before the suffix.
    let kept: Vec<u64> = held.iter().map(|position| text.tokens[*position]).collect();
    for base in [0, 1, 37, 1000] {
        let mut tokens = vec![u64::MAX; base];
        tokens.extend(&kept);
        let shifted = Text { geometry: geometry.clone(), tokens };
        let positions: Vec<usize> = (base..base + kept.len()).collect();
        let expected = shifted.oracle(0, base + kept.len() - 1, &positions);
        let error = difference(outputs[0].values(), expected.values());
        let mend =
            "rows keep their original positions; rotate a moved token by the difference; the next position is `seen`, not `resident`";
        ensure!(
            error <= tolerance,
            mend,
            "attention after eviction differs by {error} from dense attention over the {} held tokens, moved to position {base}",
            kept.len()
        );
    }
    Ok(Verdict::Passed)
}

/// One chunk, single tokens and uneven chunks leave the same rows in the cache. They also give the same attention
/// if nothing is rounded.
///
/// # Errors
/// A failure names the first difference.
pub fn chunks_do_not_matter(subject: &Subject) -> Outcome {
    let limit = limit_of(subject)?;
    let tokens = limit.min(150);
    let text = Text::new(subject.geometry(), 6, tokens);
    let exact = matches!(subject.build()?.guarantee(), Guarantee::Exact | Guarantee::Evicts(None));
    let mut runs = vec![];
    for sizes in [vec![tokens], vec![1], vec![7, 64, 1, 30, 2]] {
        let mut cache = subject.build()?;
        let seq = cache.open()?;
        let mut outputs = vec![vec![]; text.geometry.layers];
        let mut position = 0;
        for size in sizes.iter().cycle() {
            let end = (position + size).min(tokens);
            for (layer, out) in step(cache.as_mut(), seq, &text, position..end)?.into_iter().enumerate() {
                outputs[layer].extend_from_slice(out.values());
            }
            position = end;
            if position == tokens {
                break;
            }
        }
        let mut views = vec![];
        for layer in 0..text.geometry.layers {
            for kv_head in 0..text.geometry.kv_heads {
                views.push(cache.view(seq, layer, kv_head)?);
            }
        }
        runs.push((sizes, outputs, views));
    }
    let (_, outputs, views) = &runs[0];
    for (sizes, other_outputs, other_views) in &runs[1..] {
        let mend = "which rows are kept, and how they are encoded, must depend on the tokens and not on the steps";
        ensure!(views == other_views, mend, "{tokens} tokens in steps of {sizes:?} leave different rows than in one step");
        for (layer, (out, other)) in outputs.iter().zip(other_outputs).enumerate().filter(|_| exact) {
            let error = difference(out, other);
            let mend = "within a step, each query must see what it would see if the tokens came one by one; mask the future, and apply the window to each query";
            ensure!(
                error <= TOLERANCE,
                mend,
                "in layer {layer}, the output of {tokens} tokens in steps of {sizes:?} differs from that of one step by {error}"
            );
        }
    }
    Ok(Verdict::Passed)
}
