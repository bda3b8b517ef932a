//! Drives a cache as a model would.

use std::ops::Range;

use kv_core::{CacheError, Geometry, KvCache, Rows, SeqId};
use kv_script::{Attention, RowSource};

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
    let mut outputs = vec![];
    kv_script::step_watched(cache, &mut TextRows(text), &[(seq, fresh.clone())], Attention::Run, |cache, layer, out| {
        let out = last_tokens(&out, fresh.len());
        look(cache, layer, &out);
        outputs.push(out);
    })?;
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
    kv_script::chunks(positions, chunk)
        .try_for_each(|chunk| kv_script::step(cache, &mut TextRows(text), &[(seq, chunk)], Attention::Skipped))
}

/// A text as the source of a step's rows.
struct TextRows<'a>(&'a Text);

impl RowSource for TextRows<'_> {
    type Error = CacheError;

    fn geometry(&self) -> &Geometry {
        &self.0.geometry
    }

    fn keys(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(self.0.keys(layer, positions))
    }

    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(self.0.values(layer, positions))
    }

    fn queries(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(self.0.queries(layer, positions))
    }
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
