//! Drives a cache as a model would.

use std::ops::Range;

use kv_core::{CacheError, KvCache, Rows, SeqId};

use crate::Text;

/// Runs one step of a sequence and returns each layer's attention for the fresh positions, `[fresh, heads, value_dim]`.
///
/// # Errors
/// Any error that the cache returns.
pub fn step(cache: &mut dyn KvCache, seq: SeqId, text: &Text, fresh: Range<usize>) -> Result<Vec<Rows>, CacheError> {
    step_with(cache, seq, text, fresh, |_, _, _| {})
}

/// Like [`step`], but calls `look` after each layer's `attend`.
pub(crate) fn step_with(
    cache: &mut dyn KvCache,
    seq: SeqId,
    text: &Text,
    fresh: Range<usize>,
    mut look: impl FnMut(&dyn KvCache, usize, &Rows),
) -> Result<Vec<Rows>, CacheError> {
    let run = cache.begin(seq, fresh.clone())?;
    let mut outputs = vec![];
    for layer in 0..text.geometry.layers {
        append(cache, seq, text, layer, run.clone())?;
        let out = cache.attend(seq, layer, text.queries(layer, run.clone()).into_tensor())?;
        let out = Rows::take("outputs", out, [run.len(), text.geometry.heads, text.geometry.value_dim])?;
        let out = last_tokens(&out, fresh.len());
        look(cache, layer, &out);
        outputs.push(out);
    }
    cache.commit(seq)?;
    Ok(outputs)
}

/// Appends one layer's rows for the positions `run`.
pub(crate) fn append(cache: &mut dyn KvCache, seq: SeqId, text: &Text, layer: usize, run: Range<usize>) -> Result<(), CacheError> {
    cache.append(seq, layer, text.keys(layer, run.clone()).into_tensor(), text.values(layer, run).into_tensor())
}

/// Feeds positions in steps of `chunk` tokens without attending.
///
/// # Errors
/// Any error that the cache returns.
pub fn fill(cache: &mut dyn KvCache, seq: SeqId, text: &Text, positions: Range<usize>, chunk: usize) -> Result<(), CacheError> {
    for start in positions.clone().step_by(chunk) {
        let run = cache.begin(seq, start..(start + chunk).min(positions.end))?;
        for layer in 0..text.geometry.layers {
            append(cache, seq, text, layer, run.clone())?;
        }
        cache.commit(seq)?;
    }
    Ok(())
}

/// The rows of one token.
pub(crate) fn token(rows: &Rows, token: usize) -> &[f32] {
    let [_, heads, dim] = rows.dims();
    &rows.values()[token * heads * dim..(token + 1) * heads * dim]
}

/// The largest difference between two rows. Infinite if a value is NaN in only one of them.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "rows of one shape");
    a.iter().zip(b).map(|(a, b)| if a.is_nan() == b.is_nan() { (a - b).abs() } else { f32::INFINITY }).fold(0.0, f32::max)
}

fn last_tokens(rows: &Rows, count: usize) -> Rows {
    let [tokens, heads, dim] = rows.dims();
    Rows::new([count, heads, dim], rows.values()[(tokens - count) * heads * dim..].to_vec())
}
