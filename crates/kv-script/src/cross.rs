//! A step of the decoder of an encoder–decoder model.

use std::ops::Range;

use kv_core::{Geometry, KvCache, Rows, SeqId};

use crate::RowSource;

/// A sequence and where its rows come from.
#[derive(Debug)]
pub struct Fed<'a, S> {
    /// The sequence.
    pub sequence: SeqId,
    /// Its rows.
    pub source: &'a mut S,
}

/// Runs one step of a decoder at these positions: each layer appends its own rows and attends to them, and then reads the
/// encoder's with [`KvCache::read`] (cross-attention; Vaswani et al., arXiv:1706.03762, section 3.2.3). The encoder's rows were
/// appended before, with [`Attention::Skipped`](crate::Attention::Skipped). The queries that read them are the encoder's source's
/// at the decoder's positions, counted from the encoder's end. `look` is shown what each layer has read,
/// `[tokens, heads, value_dim]`.
///
/// # Errors
/// The cache's or the sources'.
pub fn cross_step<S: RowSource>(
    cache: &mut dyn KvCache,
    decoder: Fed<'_, S>,
    positions: Range<usize>,
    encoder: Fed<'_, S>,
    mut look: impl FnMut(usize, Rows),
) -> Result<(), S::Error> {
    let Geometry { layers, heads, value_dim, .. } = *decoder.source.geometry();
    let behind = cache.seen(encoder.sequence)?;
    let run = cache.begin(decoder.sequence, positions)?;
    for layer in 0..layers {
        let (keys, values) = (decoder.source.keys(layer, run.clone())?, decoder.source.values(layer, run.clone())?);
        cache.append(decoder.sequence, layer, keys.into_tensor(), values.into_tensor())?;
        cache.attend(decoder.sequence, layer, decoder.source.queries(layer, run.clone())?.into_tensor())?;
        let queries = encoder.source.queries(layer, behind + run.start..behind + run.end)?;
        let read = cache.read(encoder.sequence, layer, queries.into_tensor())?;
        look(layer, Rows::take("outputs", read, [run.len(), heads, value_dim])?);
    }
    Ok(cache.commit(decoder.sequence)?)
}
