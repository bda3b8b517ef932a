//! Isolation of layers, sequences, heads and threads.

use kv_core::{KvCache, Rows, SeqId};

use super::TOLERANCE;
use crate::driver::{difference, token};
use crate::failure::ensure;
use crate::{Failure, Outcome, Subject, Text, Verdict, fill, step};

/// NaNs in the rows of one layer, sequence or KV head do not reach the others.
///
/// # Errors
/// A failure says where the NaNs went.
pub fn nothing_leaks(subject: &Subject) -> Outcome {
    const POISONED_LAYER: usize = 1;
    const POISONED_HEAD: usize = 0;
    let text = Text::new(subject.geometry(), 30, 45);
    let mut clean_cache = subject.build()?;
    let clean = clean_cache.open()?;
    let mut cache = subject.build()?;
    let (poisoned, bystander) = (cache.open()?, cache.open()?);
    let group = text.geometry.heads / text.geometry.kv_heads;
    for position in 0..45 {
        let expected = step(clean_cache.as_mut(), clean, &text, position..position + 1)?;
        let outputs = poisoned_step(cache.as_mut(), poisoned, &text, position, POISONED_LAYER, POISONED_HEAD)?;
        let beside = step(cache.as_mut(), bystander, &text, position..position + 1)?;
        for layer in 0..text.geometry.layers {
            let error = difference(beside[layer].values(), expected[layer].values());
            ensure!(
                error <= TOLERANCE,
                "sequences must not share rows, scratch or tables",
                "NaNs of another sequence reach layer {layer} at position {position}: the output differs by {error}"
            );
            for head in 0..text.geometry.heads {
                if layer == POISONED_LAYER && head / group == POISONED_HEAD {
                    continue;
                }
                let error = difference(outputs[layer].row(0, head), expected[layer].row(0, head));
                let mend = "query head h reads KV head h / (heads / kv_heads), and each layer reads its own rows";
                ensure!(
                    error <= TOLERANCE,
                    mend,
                    "NaNs of layer {POISONED_LAYER}, KV head {POISONED_HEAD} reach layer {layer}, head {head} at position {position}: the output differs by {error}"
                );
            }
        }
    }
    Ok(Verdict::Passed)
}

fn poisoned_step(
    cache: &mut dyn KvCache,
    seq: SeqId,
    text: &Text,
    position: usize,
    poisoned_layer: usize,
    poisoned_head: usize,
) -> Result<Vec<Rows>, Failure> {
    let run = cache.begin(seq, position..position + 1)?;
    let mut outputs = vec![];
    for layer in 0..text.geometry.layers {
        let poison = |rows: Rows| if layer == poisoned_layer { with_nan_head(&rows, poisoned_head) } else { rows };
        let (keys, values) = (poison(text.keys(layer, run.clone())), poison(text.values(layer, run.clone())));
        cache.append(seq, layer, keys.into_tensor(), values.into_tensor())?;
        let out = cache.attend(seq, layer, text.queries(layer, run.clone()).into_tensor())?;
        let out = Rows::take("outputs", out, [run.len(), text.geometry.heads, text.geometry.value_dim])?;
        outputs.push(Rows::new([1, text.geometry.heads, text.geometry.value_dim], token(&out, run.len() - 1).to_vec()));
    }
    cache.commit(seq)?;
    Ok(outputs)
}

fn with_nan_head(rows: &Rows, poisoned: usize) -> Rows {
    let [_, heads, dim] = rows.dims();
    let poison = |(index, value): (usize, &f32)| if index / dim % heads == poisoned { f32::NAN } else { *value };
    Rows::new(rows.dims(), rows.values().iter().enumerate().map(poison).collect())
}

/// Attention does not depend on the number of threads, except for the order of summation. A NaN in a key does not
/// reach the queries before it.
///
/// # Errors
/// A failure says how much they differ.
pub fn threads_and_nans_do_not_spread(subject: &Subject) -> Outcome {
    const TOKENS: usize = 300;
    let text = Text::new(subject.geometry(), 31, TOKENS + 1);
    let mut limited = subject.build()?;
    let seq = limited.open()?;
    if let Err(kv_core::CacheError::Full { free, .. }) = limited.begin(seq, 0..TOKENS + 1) {
        return Ok(Verdict::Skipped(format!("only {free} tokens fit, too few to split over threads")));
    }
    let run = |threads: usize| -> Result<Vec<Rows>, Failure> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| {
            Failure::new(format!("the thread pool cannot be created: {error}"), "run the suite where threads can be started")
        })?;
        let mut cache = subject.build()?;
        pool.install(|| {
            let seq = cache.open()?;
            fill(cache.as_mut(), seq, &text, 0..TOKENS, 100)?;
            Ok(step(cache.as_mut(), seq, &text, TOKENS..TOKENS + 1)?)
        })
    };
    let (one, three) = (run(1)?, run(3)?);
    for (layer, (one, three)) in one.iter().zip(&three).enumerate() {
        let error = difference(one.values(), three.values());
        ensure!(
            error <= TOLERANCE,
            "merge partial results by their log-sum-exp",
            "in layer {layer}, three threads differ from one thread by {error}"
        );
    }

    // A NaN in the last key of a step.
    let mut cache = subject.build()?;
    let seq = cache.open()?;
    let tokens = 40;
    let run = cache.begin(seq, 0..tokens)?;
    let keys = text.keys(0, run.clone());
    let mut poisoned = keys.values().to_vec();
    let row = keys.dims()[1] * keys.dims()[2];
    poisoned[(tokens - 1) * row..].fill(f32::NAN);
    cache.append(seq, 0, Rows::new(keys.dims(), poisoned).into_tensor(), text.values(0, run.clone()).into_tensor())?;
    let out = cache.attend(seq, 0, text.queries(0, run).into_tensor())?;
    let out = Rows::take("outputs", out, [tokens, text.geometry.heads, text.geometry.value_dim])?;
    let earlier = &out.values()[..(tokens - 1) * text.geometry.heads * text.geometry.value_dim];
    let mend = "mask a score by replacing it, not by adding to it or multiplying it";
    ensure!(earlier.iter().all(|value| !value.is_nan()), mend, "a NaN in the key at position {} reaches queries before it", tokens - 1);
    Ok(Verdict::Passed)
}
